"""The fault-injecting wrappers: transparent without a plan, and exact with one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from machinery import Config, State, TaskState
from machinery.abc import GroupMeta, Message
from machinery.errors import BackendUnavailable, BrokerUnavailable, ResultTooLarge, Unsupported
from machinery.memory import MemoryBackend, MemoryBroker, MemoryQueues, MemoryRecords
from machinery.sqlite import SqliteBackend, SqliteBroker, SqliteOptions
from machinery.testing import (
    BackendContract,
    BrokerContract,
    Crash,
    FaultPlan,
    FaultyBackend,
    FaultyBroker,
)
from tests.contracts.made import Made


class TestAFaultyBrokerWithoutFaults(BrokerContract):
    @pytest.fixture
    def make_broker(self) -> Iterator[Callable[[], FaultyBroker]]:
        queues = MemoryQueues()
        with Made(lambda: FaultyBroker(MemoryBroker(queues), FaultPlan())) as made:
            yield made

    @pytest.fixture
    def broker(self, make_broker: Callable[[], FaultyBroker]) -> FaultyBroker:
        return make_broker()


class TestAFaultyBackendWithoutFaults(BackendContract):
    @pytest.fixture
    def make_backend(self) -> Iterator[Callable[..., FaultyBackend]]:
        records = MemoryRecords()

        def make(**config: Any) -> FaultyBackend:
            return FaultyBackend(MemoryBackend(records, **config), FaultPlan())

        with Made(make) as made:
            yield made

    @pytest.fixture
    def backend(self, make_backend: Callable[..., FaultyBackend]) -> FaultyBackend:
        return make_backend()


@pytest.fixture
def plan() -> FaultPlan:
    return FaultPlan()


@pytest.fixture
def broker(plan: FaultPlan) -> FaultyBroker:
    return FaultyBroker(MemoryBroker(), plan)


@pytest.fixture
def backend(plan: FaultPlan) -> FaultyBackend:
    return FaultyBackend(MemoryBackend(), plan)


def message(label: str) -> Message:
    return Message(label.encode(), "queue")


def waiting(broker: FaultyBroker) -> list[bytes]:
    return [found.body for found in broker.inner.pending("queue", 10)]


def test_a_call_that_fails_is_not_carried_out(broker: FaultyBroker, plan: FaultPlan) -> None:
    plan.fail("publish")
    with pytest.raises(BrokerUnavailable):
        broker.publish([message("refused")])
    broker.publish([message("taken")])
    assert waiting(broker) == [b"taken"]


def test_a_call_whose_answer_is_lost_is_carried_out(broker: FaultyBroker, plan: FaultPlan) -> None:
    plan.lose_reply("publish")
    with pytest.raises(BrokerUnavailable, match="after it was carried out"):
        broker.publish([message("taken")])
    assert waiting(broker) == [b"taken"]


def test_faults_are_counted_from_where_they_are_planned(broker: FaultyBroker, plan: FaultPlan) -> None:
    broker.publish([message("1")])
    plan.fail("publish", nth=2, times=2)
    broker.publish([message("2")])
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            broker.publish([message("refused")])
    broker.publish([message("3")])
    assert waiting(broker) == [b"1", b"2", b"3"]
    assert plan.count("publish") == 5
    assert plan.calls == ["publish"] * 5


def test_a_fault_may_be_any_error(backend: FaultyBackend, plan: FaultPlan) -> None:
    plan.fail("save", error=ResultTooLarge("too large", ["task"]))
    with pytest.raises(ResultTooLarge):
        backend.save([TaskState("task")])


def test_an_outage_lasts_until_it_is_mended(backend: FaultyBackend, plan: FaultPlan) -> None:
    plan.fail_until_mended("load")
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            backend.load(["task"])
    plan.mend()
    assert backend.load(["task"]) == [None]


def test_after_a_crash_nothing_is_called_any_more(
    broker: FaultyBroker, backend: FaultyBackend, plan: FaultPlan
) -> None:
    broker.publish([message("a")])
    consumer = broker.consumer("queue", "c")
    deliveries = consumer.receive(1, 0)
    plan.crash_before("ack")
    with pytest.raises(Crash, match="before ack"):
        consumer.ack(deliveries)
    assert plan.crashed.is_set()
    plan.mend()
    calls: list[Callable[[], object]] = [
        lambda: backend.save([TaskState("task")]),
        lambda: broker.publish([message("b")]),
        lambda: consumer.receive(1, 0),
    ]
    for call in calls:
        with pytest.raises(Crash, match="of a dead process"):
            call()
    consumer.close()  # the service notices that the process has gone
    assert waiting(broker) == [b"a"]
    assert backend.inner.load(["task"]) == [None]


def test_a_crash_may_come_when_the_call_was_carried_out(backend: FaultyBackend, plan: FaultPlan) -> None:
    plan.crash_after("save", nth=2)
    backend.save([TaskState("task", "", State.STARTED)])
    with pytest.raises(Crash):
        backend.save([TaskState("task", "", State.SUCCESS, ())])
    (state,) = backend.inner.load(["task"])
    assert state is not None
    assert state.is_success


def test_both_in_one_round_trip_is_one_call(plan: FaultPlan, tmp_path: Any) -> None:
    options = SqliteOptions(path=str(tmp_path / "test.db"))
    broker, backend = FaultyBroker(SqliteBroker(options), plan), FaultyBackend(SqliteBackend(options), plan)
    submit_and_publish = broker.combined_with(backend)
    assert submit_and_publish is not None
    plan.fail("submit_and_publish")
    with pytest.raises(BrokerUnavailable):
        submit_and_publish([TaskState("task")], [message("a")])
    submit_and_publish([TaskState("task")], [message("a")])
    assert waiting(broker) == [b"a"]
    assert broker.combined_with(MemoryBackend()) is None
    broker.close()
    backend.close()


def test_every_call_can_go_wrong(broker: FaultyBroker, backend: FaultyBackend, plan: FaultPlan) -> None:
    consumer = broker.consumer("queue", "c")
    group = GroupMeta("group", ("task",))
    calls: dict[str, Callable[[], object]] = {
        "examine": broker.examine,
        "pending": lambda: broker.pending("queue", 1),
        "delayed": lambda: broker.delayed(1),
        "purge": lambda: broker.purge("queue"),
        "dead": lambda: broker.dead("queue", 1),
        "requeue_dead": lambda: broker.requeue_dead("queue"),
        "purge_dead": lambda: broker.purge_dead("queue"),
        "resize": lambda: consumer.resize(1),
        "reset": consumer.reset,
        "nack": lambda: consumer.nack([]),
        "reject": lambda: consumer.reject([], "why"),
        "extend": lambda: consumer.extend([]),
        "maintain": consumer.maintain,
        "submit": lambda: backend.submit([]),
        "wait": lambda: backend.wait([], 0),
        "forget": lambda: backend.forget([]),
        "create_group": lambda: backend.create_group(group),
        "load_group": lambda: backend.load_group("group"),
        "finish_members": lambda: backend.finish_members([]),
        "claim_chord": lambda: backend.claim_chord("group", "task"),
        "close_group": lambda: backend.close_group("group"),
    }
    for method, call in calls.items():
        plan.fail(method)
        with pytest.raises((BrokerUnavailable, BackendUnavailable), match=method):
            call()
        call()
    plan.fail("examine")
    with pytest.raises(BackendUnavailable):
        backend.examine()


def test_a_wrapper_is_not_built_from_a_url() -> None:
    for kind in (FaultyBroker, FaultyBackend):
        with pytest.raises(Unsupported, match="made around another"):
            kind.from_url("memory://", Config())
