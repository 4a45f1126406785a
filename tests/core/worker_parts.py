"""A worker taken apart: its pieces without its threads, around the observed services."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from machinery import Config, Server, Signature
from machinery._worker._announcer import Announcer
from machinery._worker._executor import Executor
from machinery._worker._fetcher import Fetcher
from machinery._worker._hooks import Hooks
from machinery._worker._joiner import Joiner
from machinery._worker._keeper import Keeper
from machinery._worker._patience import Patience
from machinery._worker._quarantine import Quarantine
from machinery._worker._reviver import Reviver
from machinery._worker._run import Run
from machinery._worker._settler import Settler
from machinery.abc import Delivery
from tests.core.observed import ObservedConsumer

QUEUE = "machinery_tasks"


class Parts:
    """The pieces as `Worker` ties them together; a test turns each by hand."""

    def __init__(self, server: Server, slots: int = 1) -> None:
        self.server = server
        self.ended: list[Run] = []
        self.started = threading.Event()
        self.hooks = Hooks(server.logger)
        self.patience = Patience(self.hooks)
        self.joiner = Joiner(server.backend, self.hooks, self.patience, lambda: server.config.mixed_fleet)
        self.settler = Settler(server.sender, server.backend, self.hooks, self.patience, self.joiner)
        self.reviver = Reviver(
            sender=server.sender,
            backend=server.backend,
            lock=server.lock,
            joiner=self.joiner,
            hooks=self.hooks,
        )
        self.executor = Executor(slots, self.hooks, self._finished, self.started)
        self.announcer = Announcer(self.executor, self.settler, server.backend, self.hooks, self.started)
        self.fetcher = Fetcher(
            server.broker,
            server.backend,
            QUEUE,
            "test",
            registry=server.registry,
            executor=self.executor,
            settler=self.settler,
            hooks=self.hooks,
            patience=self.patience,
            may_consume=lambda: True,
            config=self.config,
            quarantine=Quarantine(),
        )
        self.keeper = Keeper([self.fetcher], self.executor, self.hooks)

    def _finished(self, run: Run) -> None:
        self.ended.append(run)
        self.settler.finished(run)

    def config(self) -> Config:
        return self.server.config

    @property
    def consumer(self) -> ObservedConsumer:
        assert isinstance(self.fetcher.consumer, ObservedConsumer)
        return self.fetcher.consumer

    def receive(self, limit: int = 10_000) -> list[Run]:
        """Fetch what waits and sort it out, without starting it."""
        return self.fetcher._sorter.sort_out(self.consumer.receive(limit, 0), time.monotonic())

    def send_and_receive(self, signatures: Sequence[Signature]) -> list[Run]:
        """Runs of these signatures, on loan from the broker."""
        self.server.send_tasks(signatures)
        return self.receive()

    def run(self, signatures: Sequence[Signature]) -> list[Run]:
        """These, on loan and run; not settled."""
        runs = self.send_and_receive(signatures)
        for run in runs:
            self.executor.run_here(run)
        return runs

    def stop(self) -> None:
        self.executor.stop()


def delivery_of(body: bytes, **more: Any) -> Delivery:
    """A delivery that the broker knows nothing of."""
    return Delivery(body, QUEUE, **more)
