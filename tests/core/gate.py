"""A task that stays inside until it is let go."""

from __future__ import annotations

import threading

from machinery import Server


class Gate:
    """Registers the task ``gated`` of a server."""

    def __init__(self, server: Server) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        self.runs = 0

        @server.task
        def gated() -> str:
            self.runs += 1
            self.entered.release()
            assert self.opened.wait(30)
            return "through"

        self.task = gated

    def wait_until_entered(self) -> None:
        assert self.entered.acquire(timeout=10)
