"""The worker: its threads, how they start, and how they stop without losing anything."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Self

from machinery._states import State, TaskState
from machinery._worker._announcer import Announcer
from machinery._worker._executor import Executor
from machinery._worker._fetcher import Fetcher
from machinery._worker._hooks import ErrorHandler, Hooks, PreConsumeHandler, TaskHandler
from machinery._worker._joiner import Joiner
from machinery._worker._keeper import Keeper
from machinery._worker._patience import Patience
from machinery._worker._quarantine import Quarantine
from machinery._worker._reviver import Reviver
from machinery._worker._settler import Settler
from machinery.errors import ConfigError, MachineryError

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from machinery._server import Server
    from machinery._worker._run import Run

FAREWELL = 1.0
"""Seconds that outcomes have to be settled which came in while what still ran was handed back."""
CLOSING = 5.0
"""Seconds that each thread has to end; what a service holds up longer is left behind."""

ECHO = 0.2
"""Seconds after the first signal in which a second one is the same, sent to the process and to its group."""


class Worker:
    """Runs the tasks of some queues. Made by `Server.new_worker`.

    `launch` blocks and handles signals; `start`, `quit` and `join` do it in pieces; as a context manager it starts and quits.
    """

    def __init__(self, server: Server, tag: str, concurrency: int = 0, queues: Sequence[str] | None = None) -> None:
        if concurrency < 0:
            raise ConfigError(f"the concurrency of a worker is 0 (unlimited) or more, not {concurrency}")
        config = server.config
        self.tag = tag
        self.concurrency = concurrency
        self.queues = tuple(queues or (config.default_queue,))
        if len(set(self.queues)) != len(self.queues):
            raise ConfigError(f"a queue is named twice: {', '.join(self.queues)}")
        self.name = f"{tag or 'worker'}@{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._server = server
        self._no_signals = config.no_unix_signals
        self._hooks = Hooks(server.logger)
        self._patience = Patience(self._hooks)
        joiner = Joiner(server.backend, self._hooks, self._patience, lambda: server.config.mixed_fleet)
        self._settler = Settler(server.sender, server.backend, self._hooks, self._patience, joiner)
        self._reviver = Reviver(
            sender=server.sender,
            backend=server.backend,
            lock=server.lock,
            joiner=joiner,
            hooks=self._hooks,
        )
        started = threading.Event()
        slots = concurrency or config.unlimited_concurrency
        self._executor = Executor(slots, self._hooks, self._settler.finished, started)
        self._announcer = Announcer(self._executor, self._settler, server.backend, self._hooks, started)
        self._fetchers: list[Fetcher] = []
        self._keeper: Keeper | None = None
        self._threads: list[threading.Thread] = []
        self._fetching: list[threading.Thread] = []
        self._state = threading.RLock()
        """A signal handler may call `quit` while `start` holds it, in the same thread."""
        self._started = False
        self._schedules = False
        self._up = threading.Event()
        """Set when `start` is through: only then can it be undone."""
        self._quitting = threading.Event()
        self._at_once = threading.Event()
        self._ended = threading.Event()

    def __repr__(self) -> str:
        return f"<Worker {self.name} of {', '.join(self.queues)}>"

    # -- handlers -----------------------------------------------------------------------------------------------------------

    def set_error_handler(self, handler: ErrorHandler | None) -> None:
        """``handler(exception, signature or None)``: a task's final failure, or the worker's own trouble (no signature)."""
        self._hooks.error = handler

    def set_pre_task_handler(self, handler: TaskHandler | None) -> None:
        """``handler(signature)`` before each run, in its thread. What it raises is the run's failure."""
        self._hooks.pre_task = handler

    def set_post_task_handler(self, handler: TaskHandler | None) -> None:
        """``handler(signature)`` after the outcome was stored and what follows was sent; success, failure and retry alike."""
        self._hooks.post_task = handler

    def set_pre_consume_handler(self, handler: PreConsumeHandler | None) -> None:
        """``handler(worker) -> bool`` before each fetch; false: not now, ask again in a moment."""
        self._hooks.pre_consume = handler

    # -- life ---------------------------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Run until told to quit: by `quit`, or by SIGINT or SIGTERM unless `Config.no_unix_signals`.

        The first signal drains (see `quit`), a second one leaves at once. Returns when everything has stopped.
        """
        with self._signals():
            self.start()
            # A wait without a timeout cannot be interrupted by a signal handler's own work on every platform.
            while not self._ended.wait(1.0):
                pass
        self.join()

    def start(self) -> None:
        """Start the threads and return. A service that is away is waited for. Raises `ConfigError` when started twice."""
        with self._state:
            if self._started:
                raise ConfigError(f"{self!r} was started before; make a new worker")
            self._started = True
            if self._quitting.is_set():
                return
        try:
            self._start_threads()
        finally:
            self._up.set()

    def _start_threads(self) -> None:
        server = self._server
        names = server.registry.names()
        count = "1 task" if len(names) == 1 else f"{len(names)} tasks"
        self._hooks.logger.info("%r starts with %s: %s", self, count, ", ".join(names))
        quarantine = Quarantine()
        self._fetchers = [
            Fetcher(
                server.broker,
                server.backend,
                queue,
                self.name,
                registry=server.registry,
                executor=self._executor,
                settler=self._settler,
                hooks=self._hooks,
                patience=self._patience,
                may_consume=lambda: self._hooks.may_consume(self),
                config=lambda: server.config,
                quarantine=quarantine,
            )
            for queue in self.queues
        ]
        self._keeper = Keeper(self._fetchers, self._executor, self._hooks)
        for name, body in (
            ("settler", self._settler),
            ("announcer", self._announcer),
            ("keeper", self._keeper),
            ("reviver", self._reviver),
        ):
            self._threads.append(threading.Thread(target=body.run, name=f"machinery-{name}", daemon=True))
        for fetcher in self._fetchers:
            self._fetching.append(
                threading.Thread(target=fetcher.run, name=f"machinery-fetcher-{fetcher.queue}", daemon=True)
            )
        for thread in (*self._threads, *self._fetching):
            thread.start()
        self._server.scheduler.hold()
        self._schedules = True

    def quit(self) -> None:
        """Stop fetching, hand back what has not started, let running tasks finish for `Config.drain_timeout`, hand back the rest.

        Returns at once; `join` waits for the end. A second call leaves without waiting for running tasks.
        """
        with self._state:
            if self._quitting.is_set():
                self._at_once.set()
                self._patience.give_up()
                return
            self._quitting.set()
            if not self._started:
                self._ended.set()
                return
        threading.Thread(target=self._wind_down, name="machinery-drain", daemon=True).start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end, up to ``timeout`` seconds. Whether it has come."""
        return self._ended.wait(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.quit()
        self.join()

    # -- the end ------------------------------------------------------------------------------------------------------------

    def _wind_down(self) -> None:
        logger = self._hooks.logger
        self._up.wait()
        if self._schedules:
            self._server.scheduler.release()
        try:
            for fetcher in self._fetchers:
                fetcher.stop()
            self._hand_back(self._executor.take_back())
            self._await(self._is_idle, self._server.config.drain_timeout.total_seconds())
            self._patience.give_up()  # a service that is away has had that long to come back
            self._hand_back(self._executor.take_back())
            left = self._abandon()
            if left:
                logger.warning("%d tasks still run after the drain timeout; they are handed back", len(left))
                self._take_back_started(left)
                self._hand_back(left)
            self._await(self._is_idle, FAREWELL)  # what ended meanwhile is still settled
        except Exception:
            logger.exception("stopping went wrong; what is left comes back by its lease")
        try:
            self._close()
        except Exception:
            logger.exception("stopping went wrong; what is left comes back by its lease")
        finally:
            logger.info("%r has stopped", self)
            self._ended.set()

    def _await(self, is_done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not is_done() and time.monotonic() < deadline and not self._at_once.is_set():
            time.sleep(0.005)

    def _is_idle(self) -> bool:
        if self._executor.busy or any(thread.is_alive() for thread in self._fetching):
            return False  # what runs is waited for even when its message is no longer ours
        return not any(fetcher.held for fetcher in self._fetchers)

    def _hand_back(self, runs: Sequence[Run]) -> None:
        for fetcher in self._fetchers:
            fetcher.hand_back([run for run in runs if run.fetcher is fetcher])

    def _abandon(self) -> list[Run]:
        """Take what still runs from its threads: whatever comes of it is nobody's. What has ended belongs to the settler."""
        with self._settler.taking:
            left = [run for fetcher in self._fetchers for run in list(fetcher.held) if run.outcome is None]
            for run in left:
                run.abandoned = True
        return left

    def _take_back_started(self, runs: Sequence[Run]) -> None:
        """A record that says STARTED says RECEIVED again, so that the next delivery does not count this one as a crash."""
        records = [
            TaskState(run.signature.uuid, run.signature.name, State.RECEIVED, crashes=run.crashes) for run in runs
        ]
        try:
            with self._settler.writing:
                self._server.backend.save(records)
        except MachineryError as error:
            self._hooks.report_trouble(error, "cannot note that tasks were handed back")

    def _close(self) -> None:
        self._patience.give_up()
        self._settler.stop()
        for body in (self._keeper, self._reviver, self._announcer, self._executor):
            if body is not None:
                body.stop()
        deadline = time.monotonic() + (1.0 if self._at_once.is_set() else CLOSING)
        closing = [threading.Thread(target=_close, args=(fetcher,), daemon=True) for fetcher in self._fetchers]
        for thread in (*self._threads, *self._fetching):
            thread.join(max(0.0, deadline - time.monotonic()))
        for thread in closing:
            thread.start()
        for thread in closing:  # a service that does not answer must not keep the process
            thread.join(max(0.5, deadline - time.monotonic()))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if self._no_signals or threading.current_thread() is not threading.main_thread():
            yield
            return

        first = 0.0

        def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal handler
            nonlocal first
            if self._quitting.is_set() and time.monotonic() - first < ECHO:
                return
            first = first or time.monotonic()
            self._hooks.logger.info(
                "%s: %s", signal.Signals(number).name, "leaving at once" if self._quitting.is_set() else "draining"
            )
            self.quit()

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _close(fetcher: Fetcher) -> None:
    with contextlib.suppress(MachineryError):
        fetcher.debts.pay()
        fetcher.consumer.close()
