"""Workers without threads, to which something happens at a planned call, and a ledger of what was run and sent."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from enum import Enum
from typing import Any

from machinery import Config, Retry, Server, Signature, State, TaskContext, TaskState
from machinery._successors import after_failure, after_success, callback_of
from machinery.abc import Backend, Broker, Lock, Message, SubmitAndPublish
from machinery.memory import MemoryConsumer
from machinery.testing import Crash, FaultPlan, FaultyBackend, FaultyBroker, FaultyConsumer
from machinery.wire import decode_signature
from tests.core.worker_parts import Parts

GLANCE = 0.01
"""Seconds to wait for what comes later, when something does."""

Call = tuple[str, tuple[Any, ...]]
"""A task's name, and its arguments."""


class EverLater:
    """The first retry comes soon, each further one later: of two copies, the second comes when the first has had its effect."""

    def __init__(self) -> None:
        self._count = 0

    def delay(self, failures: int, last_delay: int) -> timedelta:
        self._count += 1
        return timedelta(milliseconds=15 * self._count)


class Blow(Enum):
    """What happens to a worker at a call of a service."""

    DIES_BEFORE = "dies before"
    DIES_AFTER = "dies after"
    IS_ROBBED = "is robbed before"
    """It is taken for dead: what it holds is given to others, and it goes on."""


class Fate(FaultPlan):
    """One blow, at one call, counted over all calls of a worker. 0: none."""

    def __init__(self, at: int = 0, blow: Blow = Blow.DIES_BEFORE, turn: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.at = at
        self.blow = blow
        self.rob: Callable[[], object] = lambda: None
        self.struck = False
        self._turn = turn

    def __repr__(self) -> str:
        return f"{self.blow.value} call {self.at} of: {' '.join(self.calls)}" if self.struck else "lives"

    def call(self, method: str, *args: Any) -> Any:
        """Wait for our turn; then it happens, if it is time."""
        self._turn()
        if len(self.calls) + 1 == self.at:
            self.struck = True
            if self.blow is Blow.IS_ROBBED:
                self.rob()
            elif self.blow is Blow.DIES_BEFORE:
                self.crash_before(method)
            else:
                self.crash_after(method)
        return super().call(method, *args)


class Ledger:
    """Every run and every message. What must never happen is written down as it happens."""

    def __init__(self, backend: Backend) -> None:
        self.runs: dict[Call, Counter[str]] = {}
        """How often each call was made, by the id of the task."""
        self.excuses: Counter[str] = Counter()
        """For how many runs of a task beyond the first there was a reason."""
        self.wrongs: list[str] = []
        self._backend = backend

    def note_run(self, name: str, uuid: str, args: tuple[Any, ...]) -> None:
        self.runs.setdefault((name, args), Counter())[uuid] += 1

    def note_blow(self, held: Sequence[Signature], *, goes_on: bool) -> None:
        """To somebody who held these. What had not ended may run once more, and so may what it sets off, if that waits to begin.

        Or if it was not stored yet: one who ``goes_on`` sends it, and another one does.
        """
        following = {uuid for signature in held for uuid in ids_after(signature)}
        records = self._records({signature.uuid for signature in held})
        self.excuses.update(uuid for uuid, state in records.items() if state is None or not state.is_completed)
        self.excuses.update(
            uuid
            for uuid, state in self._records(following).items()
            if (goes_on if state is None else state.state is State.PENDING)
        )

    def note_submission(self, states: Sequence[TaskState], seen: AbstractSet[str]) -> None:
        """What has begun is not submitted again, unless it began after the sender looked: ``seen`` are the ids it saw waiting."""
        found = self._records({state.task_uuid for state in states} - seen)
        self.wrongs += [
            f"{uuid} was sent again when it was {state.state}"
            for uuid, state in found.items()
            if state is not None and state.state is not State.PENDING
        ]

    def _records(self, ids: AbstractSet[str]) -> dict[str, TaskState | None]:
        ordered = list(ids)
        return dict(zip(ordered, self._backend.load(ordered), strict=True))

    def check(self, calls: AbstractSet[Call]) -> None:
        """Just these calls were made, each as one task, and none more often than there is an excuse for."""
        assert not self.wrongs, self.wrongs
        assert set(self.runs) == calls
        for call, runs in self.runs.items():
            assert len(runs) == 1, f"{call} ran as different tasks: {runs}"
            for uuid, count in runs.items():
                assert count <= 1 + self.excuses[uuid], f"{call} ran {count} times"


def ids_after(signature: Signature) -> set[str]:
    """The ids of what the end of a task, or of its chord, sets off directly."""
    callback = callback_of(signature)
    ends = [signature] if callback is None else [signature, callback]
    following = [each for end in ends for each in (*after_success(end, ()), *after_failure(end, ""))]
    return {each.uuid for each in (*following, *ends[1:])}


class WatchedBackend(FaultyBackend):
    """Has no faults; says what one worker submits."""

    def __init__(self, inner: Backend, ledger: Ledger) -> None:
        super().__init__(inner, FaultPlan())
        self.seen: set[str] = set()
        """What had not begun when it was last looked at."""
        self._ledger = ledger

    def load(self, ids: Sequence[str]) -> list[TaskState | None]:
        found = super().load(ids)
        for uuid, state in zip(ids, found, strict=True):
            if state is None or state.state is State.PENDING:
                self.seen.add(uuid)
            else:
                self.seen.discard(uuid)
        return found

    def save(self, states: Sequence[TaskState]) -> list[TaskState]:
        self.seen.difference_update([state.task_uuid for state in states])
        return super().save(states)

    def submit(self, states: Sequence[TaskState]) -> None:
        self._ledger.note_submission(states, self.seen)
        super().submit(states)


class WatchedBroker(FaultyBroker):
    """Has no faults; says what one worker publishes."""

    def __init__(self, inner: Broker, ledger: Ledger) -> None:
        super().__init__(inner, FaultPlan())
        self._ledger = ledger

    def consumer(self, queue: str, name: str) -> FaultyConsumer:
        return super().consumer(queue, f"{name}:{secrets.token_hex(4)}")

    def combined_with(self, backend: Backend) -> SubmitAndPublish | None:
        combined = super().combined_with(backend)
        if combined is None:
            return None
        assert isinstance(backend, WatchedBackend)
        seen = backend.seen

        def submit_and_publish(states: Sequence[TaskState], messages: Sequence[Message]) -> None:
            self._ledger.note_submission(states, seen)
            combined(states, messages)

        return submit_and_publish


class Scene:
    """One service, who works there, and what they do."""

    def __init__(self, services: Server) -> None:
        self.services = services
        self.ledger = Ledger(services.backend)
        self.busy: set[Mortal] = set()
        """The workers that hold messages."""
        self._retry = EverLater()
        self.sender = self.server(FaultPlan())

    def server(self, plan: FaultPlan, lock: Lock | None = None) -> Server:
        """A server whose calls follow ``plan``, with the tasks of all plays."""
        broker = FaultyBroker(WatchedBroker(self.services.broker, self.ledger), plan)
        backend = FaultyBackend(WatchedBackend(self.services.backend, self.ledger), plan)
        made = Server(Config(), broker, backend, lock or self.services.lock)
        add_tasks(made, self.ledger, self._retry)
        return made

    def is_quiet(self) -> bool:
        """Whether nothing is left to be done. What is delayed is looked for first: it may become due between the two looks."""
        return not self.busy and not self.services.delayed_tasks() and not self.services.pending_tasks()


class Mortal:
    """A worker that takes up to ``batch`` messages at a time, runs and settles them, and may look after chords."""

    def __init__(self, scene: Scene, fate: Fate, batch: int, *, looks: bool = False, lock: Lock | None = None) -> None:
        fate.rob = self._be_robbed
        self._scene = scene
        self._batch = batch
        self._looks = looks
        self._held: list[Signature] = []
        self.parts = Parts(scene.server(fate, lock))

    def work(self) -> bool:
        """Until nothing is left, or it dies. Whether it lives."""
        try:
            while self._step() or not self._scene.is_quiet():
                # What is delayed becomes due because somebody, who is not to die here, looks after the queue.
                self._consumer._inner.maintain()
        except Crash:
            self._scene.ledger.note_blow(self._held, goes_on=False)
            self.leave()
            self._scene.busy.discard(self)
            return False
        self.leave()
        return True

    def leave(self) -> None:
        """The services notice that it has gone, and give back what it held."""
        self._consumer.close()
        self.parts.stop()

    @property
    def _consumer(self) -> FaultyConsumer:
        consumer = self.parts.fetcher.consumer
        assert isinstance(consumer, FaultyConsumer)
        return consumer

    def _step(self) -> bool:
        """Take some messages, run and settle them. Whether there were any."""
        parts = self.parts
        deliveries = self._consumer.receive(self._batch, GLANCE if self._scene.services.delayed_tasks(1) else 0)
        if not deliveries:
            if self._looks:
                parts.reviver._patients.clear()  # time passes: all are due again
                parts.reviver.look()
            return False
        self._scene.busy.add(self)
        self._held = [decode_signature(delivery.body) for delivery in deliveries]
        for run in parts.fetcher._sorter.sort_out(deliveries, time.monotonic()):
            parts.executor.run_here(run)
            parts.settler.finished(run)
        parts.settler.settle(parts.settler._take())
        self._scene.busy.discard(self)
        self._held = []
        return True

    def _be_robbed(self) -> None:
        """Its lease has run out, as its keeper learns at once."""
        self._scene.ledger.note_blow(self._held, goes_on=True)
        self.parts.fetcher.lost(self.parts.fetcher.deliveries())
        watched = self._consumer._inner
        assert isinstance(watched, FaultyConsumer)
        inner = watched._inner
        assert isinstance(inner, MemoryConsumer)
        with inner._queue.lock:
            inner._queue.put_back(list(inner._loans.values()))
            inner._loans.clear()


def add_tasks(server: Server, ledger: Ledger, retry: Retry) -> None:
    """The tasks of all plays. Each notes its runs, a retry with the attempt after its arguments."""

    def noted(name: str, function: Callable[..., Any], **options: Any) -> None:
        def task(context: TaskContext, *args: Any) -> Any:
            attempt = context.attempt if options else 1
            ledger.note_run(context.name, context.uuid, (*args, attempt) if attempt > 1 else args)
            return function(context, *args)

        server.register_task(name, task, **options)

    def add(_: TaskContext, *numbers: int) -> int:
        return sum(numbers)

    def multiply(_: TaskContext, first: int, second: int) -> int:
        return first * second

    def gather(_: TaskContext, *values: Any) -> str:
        return " ".join(map(str, values))

    def break_down(_: TaskContext, what: str) -> None:
        raise ValueError(f"{what} is broken")

    def falter(context: TaskContext, number: int) -> int:
        if context.attempt == 1:
            raise ValueError("not yet")
        return number

    for function in (add, multiply, gather, break_down):
        noted(function.__name__, function)
    noted("falter", falter, retry_count=1, retry=retry)
