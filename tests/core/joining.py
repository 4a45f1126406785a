"""Groups on a worker taken apart: its tasks, how batches end, and what is to be seen of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from machinery import (
    ChordResult,
    Exponential,
    Reject,
    Server,
    Signature,
    State,
    TaskContext,
    TaskResult,
    TaskState,
    chord,
)
from machinery._worker._run import Run
from machinery.abc import StoredGroup
from machinery.memory import MemoryBackend, MemoryRecords
from machinery.testing import ManualClock
from tests.core.observed import Journal, ObservedBackend, ObservedBroker
from tests.core.worker_parts import Parts

GOOD = [Signature("good", [number]) for number in (1, 2, 3)]
TOTAL = Signature("total", ["sum"])
MOURN = Signature("mourn", ["late"])


class JoiningBackend(ObservedBackend):
    """Writes down what is asked of groups, too. Time is what ``clock`` says."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self.clock = ManualClock(datetime.now(UTC))
        self.inner = MemoryBackend(MemoryRecords(self.clock))

    def load_group(self, group_uuid: str) -> StoredGroup:
        self.journal.note("load_group")
        return super().load_group(group_uuid)

    def finish_members(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        self.journal.note("finish", [str(len(pairs))])
        return super().finish_members(pairs)

    def claim_chord(self, group_uuid: str, claimant: str) -> bool:
        self.journal.note("claim")
        return super().claim_chord(group_uuid, claimant)

    def close_group(self, group_uuid: str) -> None:
        self.journal.note("close")
        super().close_group(group_uuid)


def add_tasks(server: Server) -> None:
    """What members and what follows them are made of."""

    @server.task
    def good(number: int) -> int:
        return number

    @server.task
    def bad(error: str = "no good") -> None:
        raise ValueError(error)

    @server.task
    def rejected() -> None:
        raise Reject("never")

    @server.task(retry_count=1, retry=Exponential(base=0.001))
    def shaky(context: TaskContext) -> int:
        if context.attempt == 1:
            raise ValueError("not yet")
        return 7

    @server.task
    def total(*values: object) -> None:
        pass

    @server.task
    def mourn(error: str, *rest: str) -> None:
        pass


def end(parts: Parts, runs: Sequence[Run]) -> None:
    """Run these, and settle them as one batch."""
    for run in runs:
        parts.executor.run_here(run)
    parts.settler.settle(runs)


def end_again(parts: Parts, broker: ObservedBroker) -> list[Run]:
    """The worker has died, and what it held is delivered again to another one: settled there, as one batch."""
    parts.consumer.close()
    parts.fetcher.consumer = broker.consumer("machinery_tasks", "another")
    for held in list(parts.fetcher.held):
        parts.fetcher.forget(held)
    runs = parts.receive()
    for run in runs:
        parts.executor.run_here(run)
    ended = [*parts.settler._take(), *runs]
    parts.settler.settle(ended)
    return ended


def callbacks(server: Server, name: str) -> list[list[object]]:
    """The arguments of each message for ``name`` that waits."""
    return [[arg.value for arg in task.args] for task in server.pending_tasks() if task.name == name]


def open_groups(server: Server) -> list[str]:
    return server.backend.open_groups(datetime.now(UTC) + timedelta(days=30), 10)


def record_of(server: Server, uuid: str) -> TaskState | None:
    (found,) = server.backend.load([uuid])
    return found


def send(server: Server, broker: ObservedBroker) -> ChordResult[object]:
    result = server.send_chord(chord(GOOD, TOTAL.with_(on_error=(MOURN,))))
    broker.purge("machinery_tasks")
    return result


def succeed(sent: ChordResult[object], *positions: int) -> None:
    """These members have ended, and nobody has counted them."""
    for at in positions:
        record = TaskState(sent.members[at].uuid, "good", State.SUCCESS, (TaskResult("int64", at + 1),))
        sent._backend.save([record])


def fail(sent: ChordResult[object], position: int) -> None:
    sent._backend.save([TaskState(sent.members[position].uuid, "good", State.FAILURE, None, "no good")])


def look(parts: Parts, *, later: float = 1000.0) -> None:
    """Let some time pass in which nothing happens, then look."""
    for patient in parts.reviver._patients.values():
        patient.due -= later
    parts.reviver.look()
