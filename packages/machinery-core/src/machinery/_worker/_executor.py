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
from machinery._worker._run import Run, error_text
from machinery._worker._time_limits import TimeLimits
from machinery.errors import ArgumentError, SoftTimeLimitExceeded

if TYPE_CHECKING:
    from machinery._worker._hooks import Hooks

SMOOTHING = 0.05
"""Weight of the newest run in the mean duration."""
SHORT = 0.001
"""Seconds: while tasks are shorter, one more thread would rather be in the way of the others than help them."""
EAGER = 16
"""How many threads are made at once while nobody knows how long the tasks are; more once they prove to be long."""
FAREWELL = 2.0
"""Seconds that coroutines which are handed back have to clean up when the loop ends."""


class Slot:
    """One executor thread's place: what it runs now."""

    __slots__ = ("current", "parking")

    def __init__(self) -> None:
        self.current: Run | None = None
        self.parking = threading.Lock()
        self.parking.acquire()


class Executor:
    """Up to ``slots`` tasks at once. Finished runs go to ``finished``; `start` and `take_back` may be called by any thread."""

    def __init__(self, slots: int, hooks: Hooks, finished: Callable[[Run], None], started: threading.Event) -> None:
        self.slots = slots
        self.mean_duration = 0.0
        """Seconds a run takes, smoothed; 0: nothing ran yet."""
        self.last_end = 0.0
        """When a run last ended, monotonic seconds."""
        self.ready: deque[Run] = deque()
        """Runs that wait for a thread."""
        self.ready_on_loop: dict[Run, None] = {}
        """Runs of coroutine functions that wait for their turn on the loop. Who removes one has it."""
        self.places: list[Slot] = []
        self._on_loop: dict[Run, None] = {}
        self._hooks = hooks
        self._finished = finished
        self._started = started
        self._parked: deque[Slot] = deque()
        self._grow = threading.Lock()
        self._stopped = False
        self._limits = TimeLimits()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: threading.Thread | None = None
        self._loop_room: asyncio.Semaphore | None = None
        self._coroutines: set[asyncio.Task[None]] = set()
        """The event loop itself keeps only weak references to its tasks."""

    # -- taking in ----------------------------------------------------------------------------------------------------------

    def start(self, runs: Sequence[Run]) -> None:
        """Start these as soon as there is a free slot, in order. After `stop` nothing is started any more."""
        if self._stopped:
            return
        coroutines: list[Run] = []
        for run in runs:
            if run.task.is_async:
                self.ready_on_loop[run] = None
                coroutines.append(run)
            else:
                self.ready.append(run)
        if self.ready:
            self._wake()
        if coroutines:
            self._ensure_loop().call_soon_threadsafe(self._spawn, coroutines)
        if not self._started.is_set():
            self._started.set()

    def take_back(self) -> list[Run]:
        """Remove and return all runs that have not started, oldest first."""
        back: list[Run] = []
        ready = self.ready
        while ready:
            try:
                back.append(ready.pop())
            except IndexError:
                break
        back.reverse()
        return back + [run for run in list(self.ready_on_loop) if self.ready_on_loop.pop(run, self) is None]

    def relieve(self) -> None:
        """Give what waits its threads although tasks are short as a rule: those that took the last ones seem to be stuck."""
        for _ in range(len(self.ready)):
            if not self._wake():
                return

    def running(self) -> list[Run]:
        """What runs at this moment."""
        return [run for place in self.places if (run := place.current) is not None] + list(self._on_loop)

    @property
    def busy(self) -> int:
        """How many runs wait or run."""
        return (
            len(self.ready)
            + len(self.ready_on_loop)
            + len(self._on_loop)
            + sum(place.current is not None for place in self.places)
        )

    def stuck_since(self) -> float | None:
        """When the oldest of what waits was received, monotonic; ``None`` while nothing waits or a slot is free for it."""
        waiting: list[float] = []
        if not self._parked and len(self.places) >= self.slots:
            waiting += [run.received for run in list(self.ready)[:1]]
        if len(self._on_loop) >= self.slots:
            waiting += [run.received for run in list(self.ready_on_loop)[:1]]
        return min(waiting, default=None)

    def stop(self) -> None:
        """Let idle threads end, busy ones after their task; cancel the coroutines that still run."""
        self._stopped = True
        while self._unpark():
            pass
        self._limits.stop()
        with self._grow:
            loop, thread = self._loop, self._loop_thread
        if loop is not None and thread is not None and not loop.is_closed():
            loop.call_soon_threadsafe(loop.stop)
            thread.join(2 * FAREWELL)

    # -- threads ------------------------------------------------------------------------------------------------------------

    def _wake(self) -> bool:
        """One more thread to work: a sleeping one, else a new one while there is a free slot. Whether there was one."""
        if self._unpark():
            return True
        if len(self.places) >= self.slots:
            return False
        with self._grow:
            if len(self.places) >= self.slots:
                return False
            place = Slot()
            self.places.append(place)
        try:
            threading.Thread(target=self._work, args=(place,), name="machinery-executor", daemon=True).start()
        except RuntimeError as error:
            # The system has none left. What waits has the other threads, or is looked at again in a moment.
            self.places.remove(place)
            self._hooks.report_trouble(error, "no thread for one more task")
            return False
        return True

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
            if ready and (self.mean_duration >= SHORT or (not self.mean_duration and len(self.places) < EAGER)):
                self._wake()
            try:
                self.run_here(run)
            except BaseException as error:  # noqa: BLE001 - whatever it was, it must not cost this slot
                self._mend(run, error)
            place.current = None
            self._finished(run)

    def run_here(self, run: Run) -> None:
        """Call a function task, in this thread. Raises nothing: the outcome is in ``run``."""
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
        self._note(begin)

    # -- event loop ---------------------------------------------------------------------------------------------------------

    def _ensure_loop(self) -> asyncio.AbstractEventLoop:
        with self._grow:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop_room = asyncio.Semaphore(self.slots)
                self._loop_thread = threading.Thread(
                    target=self._run_loop, args=(self._loop,), name="machinery-loop", daemon=True
                )
                self._loop_thread.start()
            return self._loop

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while not self._stopped:
            try:
                loop.run_forever()
            except (
                BaseException
            ):  # a task's own background task raised SystemExit: the others have nothing to do with it
                self._hooks.logger.exception("the event loop was interrupted; it goes on")
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=FAREWELL))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def _spawn(self, runs: Sequence[Run]) -> None:
        assert self._loop is not None  # noqa: S101 - called on it
        for run in runs:
            task = self._loop.create_task(self._run_on_loop(run))
            self._coroutines.add(task)
            task.add_done_callback(self._coroutines.discard)

    async def _run_on_loop(self, run: Run) -> None:
        assert self._loop_room is not None  # noqa: S101 - made with the loop
        async with self._loop_room:
            if self.ready_on_loop.pop(run, self) is not None:
                return  # taken back
            self._on_loop[run] = None
            try:
                if await asyncio.to_thread(self._may_start, run) if run.suspect else self._may_start(run):
                    await self.run_coroutine(run)
            except BaseException as error:  # noqa: BLE001 - whatever it was, it must not cost this slot
                self._mend(run, error)
            del self._on_loop[run]
        self._finished(run)

    async def run_coroutine(self, run: Run) -> None:
        """Await a coroutine task. Raises nothing: the outcome is in ``run``."""
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
        self._note(begin)

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
            return not run.suspect or run.fetcher.begin(run)
        run.give_back()
        return False

    def _mend(self, run: Run, error: BaseException) -> None:
        """Little should come this far. A run always has an outcome all the same: it has failed only if it has started."""
        self._hooks.logger.error("running %s %s went wrong", run.signature.name, run.signature.uuid, exc_info=error)
        if run.outcome is not None:
            return
        if run.started:
            run.fail(error, error_text(error))
        else:
            run.give_back(later=True)

    def _note(self, begin: float) -> None:
        self.last_end = end = time.monotonic()
        mean = self.mean_duration
        self.mean_duration = mean + (end - begin - mean) * SMOOTHING if mean else end - begin


def context_of(run: Run) -> TaskContext:
    """What the task may ask about its run."""
    signature = run.signature
    return TaskContext(signature.uuid, signature.name, run.attempt, dict(signature.headers or {}), signature)


def _conclude(run: Run, value: object) -> None:
    """The function returned: a value that cannot be said on the wire is a failure that no retry mends."""
    try:
        run.succeed(encode_results(value, run.task.parameters.returns, run.task.name))
    except BaseException as error:  # noqa: BLE001 - an EncodeError, or whatever a value of the task's own making raises
        run.fail(error, error_text(error))


async def _limited(coroutine: Any, seconds: float) -> Any:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await coroutine
    except TimeoutError:
        if limit.expired():
            raise SoftTimeLimitExceeded(f"ran longer than its soft time limit of {seconds:g} s") from None
        raise
