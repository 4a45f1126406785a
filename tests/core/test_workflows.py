"""Chains, groups and chords: what may be put together, and how it is sent."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from machinery import Chain, Chord, Config, Group, Server, Signature, State, TaskState, chain, chord, group
from machinery.abc import GroupMeta, Message
from machinery.errors import (
    BrokerUnavailable,
    EncodeError,
    GroupTooLarge,
    MessageTooLarge,
    PriorityNotSupported,
    PublishError,
    ResultsNotStored,
    WorkflowError,
)
from machinery.memory import MemoryBackend, MemoryBroker
from machinery.wire import decode_signature
from tests.core.observed import Journal, ObservedBackend, ObservedBroker

A, B, C = Signature("a"), Signature("b"), Signature("c")


# -- what may be put together -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [chain, group])
def test_signatures_come_one_by_one_or_as_a_list_or_both(make: Callable[..., Chain | Group]) -> None:
    for given in ([A, B, C], [[A, B, C]], [(A, B), C], [A, iter([B]), [C]]):
        assert make(*given).signatures == (A, B, C)


def test_a_chord_takes_a_group_or_its_signatures() -> None:
    assert chord(group(A, B), C) == chord([A, B], C) == chord(iter([A, B]), C) == Chord(Group((A, B)), C)


def test_an_empty_workflow_is_refused() -> None:
    for make in (chain, group, lambda: chain([]), lambda: group([]), lambda: chord([], C), lambda: Group(())):
        with pytest.raises(WorkflowError, match="needs at least one signature"):
            make()


def test_a_chord_without_a_callback_is_refused() -> None:
    with pytest.raises(WorkflowError, match="a chord needs a callback"):
        chord([A], None)  # type: ignore[arg-type]


@pytest.mark.parametrize("stranger", ["a", 7, None, lambda: 1], ids=["text", "number", "nothing", "function"])
@pytest.mark.parametrize("make", [chain, group, lambda *given: chord([*given], C)], ids=["chain", "group", "chord"])
def test_what_is_no_signature_is_refused(make: Callable[..., object], stranger: object) -> None:
    with pytest.raises(WorkflowError, match=r"is made of signatures, not of \w+; write task\.signature"):
        make(A, stranger)


def test_a_task_instead_of_its_signature_is_refused(server: Server) -> None:
    @server.task
    def add() -> None:
        pass

    with pytest.raises(WorkflowError, match=r"not of Task; write task\.signature"):
        group(add)  # type: ignore[arg-type]


INNER = {"a chain": Chain((A,)), "a group": Group((A,)), "a chord": Chord(Group((A,)), B)}


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize(
    "outer",
    [lambda inner: chain(A, inner), lambda inner: group([inner]), lambda inner: chord([A], inner)],
    ids=["in a chain", "in a group", "as a callback"],
)
def test_a_workflow_inside_another_is_refused_as_go_cannot_say_it(outer: Callable[[Any], object], inner: str) -> None:
    with pytest.raises(WorkflowError, match=r"Go Machinery's messages cannot say a workflow inside another one"):
        outer(INNER[inner])


def test_a_chain_or_a_chord_is_no_group_of_a_chord() -> None:
    for inner in (INNER["a chain"], INNER["a chord"]):
        with pytest.raises(WorkflowError, match="cannot say a workflow inside another one"):
            chord(inner, C)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "member",
    [
        Signature("a", group_uuid="group_x", group_task_count=2),
        Signature("a", group_task_count=2),
        Signature("a", chord_callback=B),
        Signature("a", on_success=[Signature("b", on_error=[Signature("c", group_uuid="group_x")])]),
    ],
    ids=["a member", "a count", "a callback", "further on"],
)
def test_a_signature_that_belongs_to_a_group_already_is_refused(member: Signature) -> None:
    for make in (
        lambda: chain(A, member),
        lambda: group(member),
        lambda: chord([member], C),
        lambda: chord([A], member),
    ):
        with pytest.raises(WorkflowError, match="belongs to a group already"):
            make()


def test_two_tasks_with_one_id_are_refused() -> None:
    """They would have one record between them."""
    twin = Signature("a", uuid="task_twin")
    for make in (lambda: chain(twin, B, twin), lambda: group(twin, twin), lambda: chord([twin, B], twin)):
        with pytest.raises(WorkflowError, match="have the id 'task_twin'"):
            make()


# -- what they are made of ----------------------------------------------------------------------------------------------


def test_the_links_of_a_chain_hold_each_other() -> None:
    linked = chain(A, Signature("b", uuid="task_mine", on_success=[A]), Signature("c", on_success=[A])).linked()
    first, second, third = linked
    assert [each.name for each in linked] == ["a", "b", "c"]
    assert (first.on_success, second.on_success) == ((second,), (third,))
    assert third.on_success == (A,)
    assert second.uuid == "task_mine"
    assert {each.uuid[:5] for each in linked} == {"task_"}
    assert not A.uuid


def test_the_members_of_a_group_know_their_group() -> None:
    made = group(A, Signature("b", uuid="task_mine"))
    first, second = made.joined()
    assert (first.group_uuid, first.group_task_count, first.chord_callback) == (second.group_uuid, 2, None)
    assert first.group_uuid.startswith("group_")
    assert second.uuid == "task_mine"
    assert made.joined()[0].group_uuid != first.group_uuid


def test_the_members_of_a_chord_hold_the_whole_callback() -> None:
    first, second = chord([A, B], Signature("c", [1], on_error=[A])).joined()
    assert first.chord_callback is second.chord_callback
    assert first.chord_callback is not None
    assert first.chord_callback.uuid.startswith("chord_")
    assert first.chord_callback.on_error == (A,)
    assert first.chord_callback.headers == {}  # as Go has it


# -- sending ------------------------------------------------------------------------------------------------------------


class Looking(MemoryBroker):
    """Looks at the backend when it is to publish."""

    def __init__(self, backend: MemoryBackend) -> None:
        super().__init__()
        self.backend = backend
        self.seen: list[tuple[str, Any]] = []

    def publish(self, messages: Sequence[Message]) -> None:
        for message in messages:
            signature = decode_signature(message.body)
            (state,) = self.backend.load([signature.uuid])
            self.seen.append((self.backend.load_group(signature.group_uuid).meta.group_uuid, state and state.state))
        super().publish(messages)


def test_the_group_and_all_records_are_there_before_the_first_message() -> None:
    backend = MemoryBackend()
    broker = Looking(backend)
    result = Server(Config(), broker, backend).send_chord(chord([A, B, A], C))
    assert broker.seen == [(result.members.group_uuid, State.PENDING)] * 3
    stored = backend.load_group(result.members.group_uuid)
    assert stored.meta.task_uuids == tuple(member.uuid for member in result.members)
    assert stored.callback is not None
    assert stored.callback.uuid == result.uuid


def test_a_group_is_one_batch(server: Server, journal: Journal) -> None:
    server.send_group(group(A, B, C))
    assert journal.entries == ["submit a", "submit b", "submit c", "publish a", "publish b", "publish c"]


class Counting(MemoryBroker):
    """Knows how many publish at the same time, and holds them until there are as many as a test wants."""

    def __init__(self, together: int) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.most = 0
        self._now = 0
        self._guard = threading.Lock()
        self._together = threading.Barrier(together, timeout=10)

    def publish(self, messages: Sequence[Message]) -> None:
        with self._guard:
            self._now += 1
            self.most = max(self.most, self._now)
        self._together.wait()
        with self._guard:
            self._now -= 1
            self.batches.append([decode_signature(message.body).uuid for message in messages])
        super().publish(messages)


@pytest.mark.parametrize(
    ("members", "concurrency", "batches"), [(10, 4, [1, 3, 3, 3]), (8, 4, [2] * 4), (3, 50, [1] * 3), (7, 1, [7])]
)
def test_batches_side_by_side_are_as_many_as_told_and_hold_every_member(
    members: int, concurrency: int, batches: list[int]
) -> None:
    broker = Counting(len(batches))
    server = Server(Config(), broker, MemoryBackend())
    result = server.send_group(group([A] * members), concurrency)
    assert broker.most == len(batches) <= concurrency
    assert sorted(map(len, broker.batches)) == batches
    assert sorted(uuid for batch in broker.batches for uuid in batch) == sorted(member.uuid for member in result)


@pytest.mark.parametrize("concurrency", [-1, 1.5, "2", None])
def test_a_concurrency_that_is_none_is_refused(server: Server, journal: Journal, concurrency: Any) -> None:
    for send in (
        lambda: server.send_group(group(A), concurrency),
        lambda: server.send_chord(chord([A], B), concurrency),
    ):
        with pytest.raises(WorkflowError, match=r"send_concurrency is .*; it must be a whole number"):
            send()
    assert journal.entries == []


def test_each_call_takes_its_own_workflow(server: Server, journal: Journal) -> None:
    calls: list[tuple[Callable[[Any], object], object]] = [
        (server.send_chain, group(A)),
        (server.send_group, [A, B]),
        (server.send_chord, chain(A)),
    ]
    for send, given in calls:
        with pytest.raises(WorkflowError, match=r"takes a \w+, not .*; make one with \w+\(…\)"):
            send(given)
    assert journal.entries == []


def test_a_name_that_this_server_does_not_know_is_warned_of_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.register_task("a", lambda: None)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            server.send_group(group(A, B, B))
            server.send_chord(chord([A, B], C))
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 2
    assert "no task 'b'" in warned[0]
    assert "no task 'c'" in warned[1]


def test_the_same_object_can_be_sent_twice(server: Server) -> None:
    made = chord([A, B], C)
    first, second = server.send_chord(made), server.send_chord(made)
    ids = [result.uuid for each in (first, second) for result in (each, *each.members)]
    assert len(set(ids)) == 6
    assert first.members.group_uuid != second.members.group_uuid


def test_what_is_sent_again_under_its_own_ids_starts_afresh(server: Server, backend: ObservedBackend) -> None:
    made = chord([Signature("a", uuid="task_a")], Signature("c", uuid="task_c"))
    server.send_chord(made)
    backend.save([TaskState("task_a", "a", State.SUCCESS, ()), TaskState("task_c", "c", State.SUCCESS, ())])
    again = server.send_chord(made)
    assert again.members[0].state is State.PENDING
    assert again.touch() is None


def test_each_member_passes_the_pre_task_handler(server: Server) -> None:
    server.set_pre_task_handler(lambda signature: signature.with_(headers={"tenant": signature.name}))
    server.send_group(group(A, B))
    assert [task.headers for task in server.pending_tasks()] == [{"tenant": "a"}, {"tenant": "b"}]


async def _send_all(server: Server) -> list[Any]:
    return [await server.asend_group(group(A), 2), await server.asend_chord(chord([A], B))]


def test_both_are_sent_without_blocking_the_event_loop(server: Server) -> None:
    import asyncio  # noqa: PLC0415 - here alone

    sent = asyncio.run(_send_all(server))
    assert [len(sent[0]), len(sent[1].members)] == [1, 1]
    assert len(server.pending_tasks()) == 2


# -- what goes wrong ----------------------------------------------------------------------------------------------------


def open_groups(server: Server) -> list[str]:
    return server.backend.open_groups(datetime.now(UTC) + timedelta(minutes=1), 10)


def nothing_was_stored(server: Server, journal: Journal) -> bool:
    return journal.entries == [] and open_groups(server) == []


def test_what_cannot_travel_is_refused_before_anything_is_stored(journal: Journal, backend: ObservedBackend) -> None:
    server = Server(Config(), ObservedBroker(journal, priorities=False), backend)
    urgent = Signature("a", priority=5)
    for made in (chord([A, urgent], C), chord([A], urgent)):
        with pytest.raises(PriorityNotSupported):
            server.send_chord(made)
    assert nothing_was_stored(server, journal)


def test_what_harms_gos_workers_is_refused_anywhere_in_a_chord(
    broker: ObservedBroker, backend: ObservedBackend, journal: Journal
) -> None:
    server = Server(Config(mixed_fleet=True), broker, backend)
    harmful = Signature("a", [{"key": 1}])
    for made in (chord([A, harmful], C), chord([A], harmful), chord([A], Signature("c", on_error=[harmful]))):
        with pytest.raises(EncodeError, match="Go workers cannot read that"):
            server.send_chord(made)
    assert nothing_was_stored(server, journal)


def test_a_chord_that_was_refused_in_part_is_closed_and_names_what_was_refused(
    server: Server, journal: Journal
) -> None:
    journal.fail("publish", PublishError("one is too large", {1: MessageTooLarge("9 MB")}))
    with pytest.raises(PublishError) as caught:
        server.send_chord(chord([A, B], C))
    assert set(caught.value.failures) == {1}
    assert open_groups(server) == []


def test_positions_are_those_in_the_group_whichever_batch_was_refused(server: Server, journal: Journal) -> None:
    journal.be_away("publish", PublishError("the second is too large", {1: MessageTooLarge("9 MB")}))
    with pytest.raises(
        PublishError, match=r"3 of 6 messages were refused; the first: the second is too large"
    ) as caught:
        server.send_chord(chord([A] * 6, C), 3)
    assert sorted(caught.value.failures) == [1, 3, 5]
    assert open_groups(server) == []


@pytest.mark.parametrize("concurrency", [0, 2])
def test_a_chord_that_may_have_been_sent_stays_open(server: Server, journal: Journal, concurrency: int) -> None:
    journal.fail("publish", BrokerUnavailable("away"))
    with pytest.raises(BrokerUnavailable):
        server.send_chord(chord([A, B], C), concurrency)
    assert len(open_groups(server)) == 1


class Small(ObservedBackend):
    """Takes groups of two."""

    def create_group(self, group: GroupMeta, callback: Signature | None = None) -> None:
        if len(group.task_uuids) > 2:
            raise GroupTooLarge("three are too many")
        super().create_group(group, callback)


def test_a_group_that_is_too_large_is_not_published(broker: ObservedBroker, journal: Journal) -> None:
    server = Server(Config(), broker, Small(journal))
    with pytest.raises(GroupTooLarge):
        server.send_group(group(A, B, C))
    assert journal.of("publish") == []
    assert len(server.send_group(group(A, B))) == 2


@pytest.fixture
def forgetful() -> Iterator[Server]:
    """A server without a result backend."""
    with Server.from_url("memory://", result_backend="null://") as server:
        yield server


def test_without_a_result_backend_a_chord_is_refused_and_a_group_is_sent(forgetful: Server) -> None:
    with pytest.raises(ResultsNotStored, match="has no result backend"):
        forgetful.send_chord(chord([A, B], Signature("c", uuid="task_c")))
    assert forgetful.pending_tasks() == []
    result = forgetful.send_group(group(A, B))
    assert [task.uuid for task in forgetful.pending_tasks()] == [member.uuid for member in result]
    with pytest.raises(ResultsNotStored):
        result.get(timeout=5)
