"""Runs tasks: functions in threads, coroutines on one event loop. Threads take from one deque and sleep when it is empty."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from machinery._task import TaskContext
from machinery._values import ARGUMENT_ERROR_PREFIX, encode_results
from machinery._worker._run import Outcome, Run, error_text
from machinery._worker._time_limits import TimeLimits
from machinery.errors import ArgumentError, EncodeError, SoftTimeLimitExceeded

if TYPE_CHECKING:
    from machinery._worker._hooks import Hooks

SMOOTHING = 0.05
"""Weight of the newest run in the mean duration."""


class Slot:
    """One executor thread's place: what it runs now."""

    __slots__ = ("current", "parking", "thread")

    def __init__(self) -> None:
        self.current: Run | None = None
        self.parking = threading.Lock()
        self.parking.acquire()
        self.thread: threading.Thread | None = None


class Executor:
    """Up to ``slots`` tasks at once. Finished runs go to ``finished``; `start` and `take_back` may be called by any thread."""

    def __init__(self, slots: int, hooks: Hooks, finished: Callable[[Run], None], started: threading.Event) -> None:
        self.slots = slots
        self.mean_duration = 0.0
        """Seconds a run takes, smoothed; 0: nothing ran yet."""
        self.ready: deque[Run] = deque()
        """Runs that wait for a thread."""
        self.places: list[Slot] = []
        self.on_loop: dict[Run, None] = {}
        """Runs of coroutine functions, waiting or running."""
        self._hooks = hooks
        self._finished = finished
        self._started = started
        self._parked: deque[Slot] = deque()
        self._grow = threading.Lock()
        self._stopped = False
        self._limits = TimeLimits()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_room: asyncio.Semaphore | None = None

    # -- taking in ----------------------------------------------------------------------------------------------------------

    def start(self, runs: Sequence[Run]) -> None:
        """Start these as soon as there is a free slot, in order."""
        coroutines: list[Run] = []
        for run in runs:
            if run.task.is_async:
                self.on_loop[run] = None
                coroutines.append(run)
            else:
                self.ready.append(run)
        if self.ready:
            self._wake()
        if coroutines:
            loop = self._ensure_loop()
            loop.call_soon_threadsafe(self._spawn, coroutines)

    def take_back(self, limit: int | None = None) -> list[Run]:
        """Remove up to ``limit`` (all) runs that have not started, the newest first taken; returned oldest first."""
        back: list[Run] = []
        while limit is None or len(back) < limit:
            try:
                back.append(self.ready.pop())
            except IndexError:
                break
        back.reverse()
        for run in list(self.on_loop):
            if run.started == 0.0 and (limit is None or len(back) < limit) and self.on_loop.pop(run, self) is None:
                back.append(run)
        return back

    def running(self) -> list[Run]:
        """What runs at this moment."""
        here = [run for place in self.places if (run := place.current) is not None]
        return here + [run for run in list(self.on_loop) if run.started]

    @property
    def busy(self) -> int:
        """How many runs wait or run."""
        return len(self.ready) + len(self.on_loop) + sum(place.current is not None for place in self.places)

    @property
    def has_free_slot(self) -> bool:
        """Whether some thread sleeps, or may still be made."""
        return bool(self._parked) or len(self.places) < self.slots

    def stop(self) -> None:
        """Let idle threads end; busy ones end after their task."""
        self._stopped = True
        while self._parked:
            self._unpark()
        self._limits.stop()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    # -- threads ------------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """One more thread to work: a sleeping one, else a new one while there is a free slot."""
        if self._unpark() or len(self.places) >= self.slots:
            return
        with self._grow:
            if len(self.places) >= self.slots:
                return
            place = Slot()
            place.thread = threading.Thread(target=self._work, args=(place,), name="machinery-executor", daemon=True)
            self.places.append(place)
        place.thread.start()

    def _unpark(self) -> bool:
        try:
            place = self._parked.pop()
        except IndexError:
            return False
        place.parking.release()
        return True

    def _work(self, place: Slot) -> None:
        ready = self.ready
        while True:
            try:
                run = ready.popleft()
            except IndexError:
                if self._stopped:
                    return
                self._parked.append(place)
                # What was added between the look and the parking saw nobody to wake: look once more.
                if ready or self._stopped:
                    self._unpark()
                place.parking.acquire()
                continue
            place.current = run
            if ready and (self._parked or len(self.places) < self.slots):
                self._wake()
            self.run_here(run)
            place.current = None
            self._finished(run)

    def run_here(self, run: Run) -> None:
        if not self._may_start(run):
            return
        begin = run.started = time.monotonic()
        call = self._prepare(run)
        if call is not None:
            task = run.task
            limit = task.run_options.soft_time_limit
            try:
                if limit is None:
                    value = task.function(*call[0], **call[1])
                else:
                    with self._limits.watch(limit.total_seconds()):
                        value = task.function(*call[0], **call[1])
            except BaseException as error:  # noqa: BLE001 - whatever a task raises is its outcome
                run.raised(error)
            else:
                _conclude(run, value)
        self._note(time.monotonic() - begin)

    # -- event loop ---------------------------------------------------------------------------------------------------------

    def _ensure_loop(self) -> asyncio.AbstractEventLoop:
        with self._grow:
            if self._loop is None:
                ready = threading.Event()
                threading.Thread(target=self._run_loop, args=(ready,), name="machinery-loop", daemon=True).start()
                ready.wait()
            assert self._loop is not None  # noqa: S101 - set before the event
            return self._loop

    def _run_loop(self, ready: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self._loop_room = asyncio.Semaphore(self.slots)
        self._loop = loop
        ready.set()
        try:
            loop.run_forever()
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(loop.shutdown_asyncgens())

    def _spawn(self, runs: Sequence[Run]) -> None:
        assert self._loop is not None  # noqa: S101 - called on it
        for run in runs:
            task = self._loop.create_task(self._run_on_loop(run))
            _KEPT.add(task)
            task.add_done_callback(_KEPT.discard)

    async def _run_on_loop(self, run: Run) -> None:
        assert self._loop_room is not None  # noqa: S101 - made with the loop
        async with self._loop_room:
            if run not in self.on_loop:
                return  # taken back
            if self._may_start(run):
                await self.run_coroutine(run)
        if self.on_loop.pop(run, self) is None:
            self._finished(run)

    async def run_coroutine(self, run: Run) -> None:
        begin = run.started = time.monotonic()
        call = self._prepare(run)
        if call is not None:
            task = run.task
            limit = task.run_options.soft_time_limit
            try:
                if limit is None:
                    value = await task.function(*call[0], **call[1])
                else:
                    value = await _limited(task.function(*call[0], **call[1]), limit.total_seconds())
            except BaseException as error:  # noqa: BLE001 - whatever a task raises is its outcome
                run.raised(error)
            else:
                _conclude(run, value)
        self._note(time.monotonic() - begin)

    # -- both ---------------------------------------------------------------------------------------------------------------

    def _prepare(self, run: Run) -> tuple[list[Any], dict[str, Any]] | None:
        """The function's arguments; ``None`` when the run has ended already."""
        if not self._started.is_set():
            self._started.set()
        try:
            if self._hooks.pre_task is not None:
                self._hooks.pre_task(run.signature)
            call = run.task.parameters.to_call(run.signature.args)
        except ArgumentError as error:
            run.fail(error, ARGUMENT_ERROR_PREFIX + str(error))
            return None
        except BaseException as error:  # noqa: BLE001 - a handler's failure is the run's, by the same rules as the task's
            run.raised(error)
            return None
        if run.task.parameters.wants_context:
            call[0].insert(0, context_of(run))
        return call

    def _may_start(self, run: Run) -> bool:
        """Whether the delivery is still ours: one whose lease was not renewed in its term is not started."""
        if run.fetcher.owns(run):
            return True
        run.outcome = Outcome.RETURNED
        return False

    def _note(self, duration: float) -> None:
        mean = self.mean_duration
        self.mean_duration = duration if mean == 0.0 else mean + (duration - mean) * SMOOTHING


_KEPT: set[asyncio.Task[None]] = set()
"""The event loop keeps only weak references to its tasks."""


def context_of(run: Run) -> TaskContext:
    """What the task may ask about its run."""
    signature = run.signature
    return TaskContext(signature.uuid, signature.name, run.attempt, dict(signature.headers or {}), signature)


def _conclude(run: Run, value: object) -> None:
    """The function returned: a value that cannot be said on the wire is a failure that no retry mends."""
    try:
        run.succeed(encode_results(value, run.task.parameters.returns, run.task.name))
    except EncodeError as error:
        run.fail(error, error_text(error))


async def _limited(coroutine: Any, seconds: float) -> Any:
    try:
        async with asyncio.timeout(seconds) as limit:
            return await coroutine
    except TimeoutError:
        if limit.expired():
            raise SoftTimeLimitExceeded(f"ran longer than its soft time limit of {seconds:g} s") from None
        raise
