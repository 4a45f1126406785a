"""Records and groups in RabbitMQ, beside Go's way to read and write them, and when the node was restarted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from machinery import Server
from machinery.abc import Config, GroupMeta, Signature, State, TaskResult, TaskState
from machinery.errors import BackendUnavailable, ConfigError, GroupNotFound, StateNotFound
from machinery.testing._expectations import eventually, in_threads
from machinery.wire import decode_state, encode_state
from machinery_broker_amqp import AmqpBackend
from tests.contracts.made import Made
from tests.services.rabbitmq import RabbitServer

HOUR = 3_600_000
"""Milliseconds: what Go gives its queues, too."""
GOS = {"auto_delete": True, "arguments": {"x-message-ttl": HOUR, "x-expires": HOUR}}


@pytest.fixture
def make_backend(amqp_url: str, config: Config) -> Iterator[Callable[[], AmqpBackend]]:
    with Made(lambda: AmqpBackend.from_url(amqp_url, config)) as made:
        yield made


@pytest.fixture
def backend(make_backend: Callable[[], AmqpBackend]) -> AmqpBackend:
    return make_backend()


def done(uuid: str, value: int = 7) -> TaskState:
    return TaskState(uuid, "", State.SUCCESS, (TaskResult("int64", value),))


def new_uuid() -> str:
    return f"task_{uuid4()}"


def go_writes(raw: Any, queue: str, *states: TaskState) -> None:
    """As Go does: each state a message of the task's, or the group's, queue."""
    raw.queue_declare(queue, **GOS)
    raw.confirm_delivery()
    for state in states:
        raw.basic_publish("", queue, encode_state(state))


def test_go_reads_what_was_written(backend: AmqpBackend, raw: Any) -> None:
    uuid = new_uuid()
    backend.submit([TaskState(uuid, "add", created_at=datetime.now(UTC))])
    backend.save([done(uuid)])
    raw.queue_declare(uuid, **GOS)  # as Go does before it reads: with other arguments RabbitMQ would refuse
    _, properties, body = raw.basic_get(uuid, auto_ack=True)
    assert decode_state(body).is_success
    assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
    assert raw.basic_get(uuid)[0] is None


def test_of_what_go_has_written_the_last_word_counts(backend: AmqpBackend, raw: Any) -> None:
    uuid = new_uuid()
    sent = TaskState(uuid, "add", created_at=datetime(2024, 3, 1, tzinfo=UTC))
    go_writes(raw, uuid, sent, TaskState(uuid, "", State.STARTED), done(uuid))
    for _ in range(2):
        (found,) = backend.load([uuid])
        assert found is not None
        assert (found.state, found.task_name, found.created_at) == (State.SUCCESS, "add", sent.created_at)
    assert eventually(lambda: raw.queue_declare(uuid, passive=True).method.message_count == 3), (
        "what was read is not back"
    )


def test_a_task_that_go_sends_again_begins_again(backend: AmqpBackend, raw: Any) -> None:
    uuid = new_uuid()
    go_writes(raw, uuid, TaskState(uuid, "add"), done(uuid), TaskState(uuid, "add"))
    (found,) = backend.load([uuid])
    assert found is not None
    assert found.state is State.PENDING


def test_readers_in_several_processes_all_read_it(make_backend: Callable[[], AmqpBackend]) -> None:
    uuid = new_uuid()
    backends = [make_backend() for _ in range(3)]
    (stored,) = backends[0].save([done(uuid)])

    def read(number: int) -> list[TaskState | None]:
        return [state for _ in range(10) for state in backends[number % 3].load([uuid])]

    assert in_threads(6, read) == [[stored] * 10] * 6


def test_writers_in_several_processes_agree_about_a_first_record(make_backend: Callable[[], AmqpBackend]) -> None:
    backends = [make_backend() for _ in range(4)]
    for _ in range(5):
        uuid = new_uuid()

        def save(number: int, uuid: str = uuid) -> TaskState:
            return backends[number % 4].save([done(uuid, number)])[0]

        answers = in_threads(8, save)
        assert backends[0].load([uuid]) == [answers[0]]
        assert answers == [answers[0]] * 8


def test_a_claim_takes_a_chord_away_from_gos_workers(backend: AmqpBackend, raw: Any) -> None:
    group, members = f"group_{uuid4()}", (new_uuid(), new_uuid())
    backend.create_group(GroupMeta(group, members, created_at=datetime.now(UTC)), Signature("total", uuid=new_uuid()))
    backend.save([done(uuid) for uuid in members])
    backend.finish_members([(group, uuid) for uuid in members])
    assert raw.queue_declare(group, **GOS).method.message_count == 2  # what Go compares with the size of the group
    assert backend.claim_chord(group, members[1])
    assert eventually(lambda: raw.queue_declare(group, **GOS).method.message_count == 0)
    assert backend.claim_chord(group, members[1])
    assert not backend.claim_chord(group, members[0])


def test_a_chord_that_a_go_worker_is_ending_is_left_to_it(backend: AmqpBackend, raw: Any) -> None:
    group, member = f"group_{uuid4()}", new_uuid()
    backend.create_group(GroupMeta(group, (member,), created_at=datetime.now(UTC)), Signature("total", uuid=new_uuid()))
    backend.save([done(member)])
    backend.finish_members([(group, member)])
    raw.basic_consume(group, lambda *_: None, exclusive=True)
    assert not backend.claim_chord(group, member)
    raw.queue_delete(group)
    assert not backend.claim_chord(group, member)


def test_a_chord_that_a_go_worker_has_ended_is_left_to_it(backend: AmqpBackend, raw: Any) -> None:
    group, member, callback = f"group_{uuid4()}", new_uuid(), f"chord_{uuid4()}"
    backend.create_group(GroupMeta(group, (member,), created_at=datetime.now(UTC)), Signature("total", uuid=callback))
    backend.save([done(member)])
    backend.finish_members([(group, member)])
    raw.queue_delete(group)  # as Go does, after it has sent the callback
    go_writes(raw, callback, TaskState(callback, "total"))
    assert not backend.claim_chord(group, member)


def test_a_group_that_go_has_made_is_known_by_those_who_have_ended(backend: AmqpBackend, raw: Any) -> None:
    group, one, other = f"group_{uuid4()}", new_uuid(), new_uuid()
    go_writes(raw, group, done(one))
    backend.save([done(other, 8)])
    assert backend.finish_members([(group, other)]) == [0]
    found = backend.load_group(group)
    assert found.made_by_go
    assert found.meta.task_uuids == (one, other)
    # Go's readers may have taken the members' own records away.
    assert backend.load([one]) == [done(one)]
    assert backend.claim_chord(group, other)


def test_an_unknown_group_is_not_found(backend: AmqpBackend) -> None:
    with pytest.raises(GroupNotFound, match="RabbitMQ was restarted"):
        backend.load_group(f"group_{uuid4()}")


def test_another_lifetime_is_explained(amqp_url: str, backend: AmqpBackend, config: Config) -> None:
    uuid = new_uuid()
    backend.submit([TaskState(uuid, "add")])
    with (
        Made(lambda: AmqpBackend.from_url(amqp_url, config.with_(results_expire_in=60))) as made,
        pytest.raises(ConfigError, match=r"'3600000'.*'60000'.*results_expire_in"),
    ):
        made().submit([TaskState(uuid, "add")])


@pytest.mark.slow
def test_results_are_lost_with_a_restart_by_name_and_tasks_are_not(rabbit_server: RabbitServer, config: Config) -> None:
    with Server.from_config(config.with_(broker=rabbit_server.url)) as server:

        @server.task
        def add(*numbers: int) -> int:
            return sum(numbers)

        with server.new_worker("first", 2):
            early = add.send(1, 2)
            assert early.get(timeout=30) == 3
        waiting = add.send(3, 4)
        group = f"group_{uuid4()}"
        server.backend.create_group(GroupMeta(group, ("a",), created_at=datetime.now(UTC)))
        rabbit_server.stop()
        with pytest.raises(BackendUnavailable):
            early.task_state()
        rabbit_server.start()
        eventually(lambda: _is_reachable(server))
        with pytest.raises(StateNotFound):
            early.get(timeout=5)
        with pytest.raises(StateNotFound):
            early.get()
        with pytest.raises(GroupNotFound):
            server.backend.load_group(group)
        with server.new_worker("second", 2):
            assert waiting.get(timeout=30) == 7


def _is_reachable(server: Server) -> bool:
    try:
        server.backend.load(["nobody"])
    except BackendUnavailable:
        return False
    return True
