"""Runs tasks inside `send`, for ``eager://``: the worker's own pieces, without its threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from machinery._worker._executor import Executor
from machinery._worker._hooks import Hooks
from machinery._worker._joiner import Joiner
from machinery._worker._patience import Patience
from machinery._worker._run import Run
from machinery._worker._settler import Settler
from machinery.abc import Consumer, Delivery
from machinery.errors import TaskNotRegistered
from machinery.wire import decode_signature

if TYPE_CHECKING:
    from machinery._server import Server
    from machinery.abc import Message


class InlineRunner:
    """Takes a published message and runs it, here and now. ETAs are not waited for (protocol §5.3)."""

    keeps_dead_letters = False

    def __init__(self, server: Server) -> None:
        self._server = server
        self._hooks = Hooks(server.logger)
        patience = Patience(self._hooks)
        joiner = Joiner(server.backend, self._hooks, patience, lambda: server.config.mixed_fleet)
        self._settler = Settler(server.sender, server.backend, self._hooks, patience, joiner)
        self._executor = Executor(1, self._hooks, self._settler.finished, threading.Event())
        self.consumer: Consumer = _NoConsumer()
        self.room = threading.Event()

    def __call__(self, message: Message) -> None:
        """Run the task of ``message``. Its failure is its result. Raises `TaskNotRegistered`."""
        signature = decode_signature(message.body)
        task = self._server.registry.find(signature.name)
        if task is None:
            if signature.ignore_when_task_not_registered:
                return
            raise TaskNotRegistered(
                f"this server has no task {signature.name!r}; it has {', '.join(self._server.registry.names())}"
            )
        run = Run(Delivery(message.body, message.queue), self, signature, task, time.monotonic())
        if task.is_async:
            # A thread of its own: the caller may be inside a running event loop.
            thread = threading.Thread(target=lambda: asyncio.run(self._executor.run_coroutine(run)))
            thread.start()
            thread.join()
        else:
            self._executor.run_here(run)
        self._settler.settle([run])
        if isinstance(run.exception, KeyboardInterrupt):
            raise run.exception  # it was meant for the program: a worker's threads never see one

    @property
    def default_queue(self) -> str:
        """Where successors without a queue go."""
        return self._server.config.default_queue

    def owns(self, run: Run) -> bool:  # noqa: ARG002 - nobody else can have it
        """Always."""
        return True

    def begin(self, run: Run) -> bool:  # noqa: ARG002 - it was never delivered before
        """Always."""
        return True

    def forget(self, run: Run) -> None:
        """Nothing is held."""

    def hand_back(self, runs: Sequence[Run]) -> None:
        """Nobody to give it to."""

    def postpone_quietly(self, run: Run) -> None:
        """Nobody to give it to."""


class _NoConsumer(Consumer):
    """A message that runs inside `send` was never on loan."""

    def receive(self, limit: int, timeout: float) -> list[Delivery]:  # noqa: ARG002 - nothing is on loan
        return []

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:  # noqa: ARG002 - nothing is on loan
        return []

    def nack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:  # noqa: ARG002 - nothing is on loan
        return []

    def postpone(self, deliveries: Sequence[Delivery], delay: timedelta) -> list[Delivery]:  # noqa: ARG002 - nothing is on loan
        return []

    def reject(self, deliveries: Sequence[Delivery], reason: str) -> list[Delivery]:  # noqa: ARG002 - nothing is on loan
        return []

    def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:  # noqa: ARG002 - nothing is on loan
        return []
