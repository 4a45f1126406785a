"""What ``memory://`` promises beyond the contracts: whose store it is, and that a clock turned by hand is obeyed."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from machinery import Config, Server, Signature, State, TaskState
from machinery.abc import GroupMeta, Message
from machinery.errors import Closed, ConfigError, GroupNotFound
from machinery.memory import (
    MemoryBackend,
    MemoryBroker,
    MemoryLock,
    MemoryLocks,
    MemoryQueues,
    MemoryRecords,
    _records,
)
from machinery.memory._queue import Item
from machinery.testing import ManualClock
from machinery.testing._expectations import eventually, in_background

MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def message(label: str, eta: datetime | None = None) -> Message:
    return Message(label.encode(), "queue", eta)


# -- whose store it is ------------------------------------------------------------------------------------------------------


def test_without_a_name_every_object_has_its_own_store() -> None:
    one, other = MemoryBroker.from_url("memory://", Config()), MemoryBroker.from_url("memory://", Config())
    one.publish([message("mine")])
    assert other.pending("queue", 10) == []


def test_the_same_name_is_the_same_store() -> None:
    url = f"memory://{uuid4()}"
    sender, worker = Server.from_url(url), Server.from_url(url)

    @worker.task
    def add(a: int, b: int) -> int:
        return a + b

    result = sender.send_task(Signature("add", [2, 3]))
    with worker.new_worker("test", 1):
        assert result.get(timeout=10) == 5
    assert MemoryLock.from_url(url, Config()).try_acquire("key", datetime.now(UTC) + MINUTE) is not None
    assert MemoryLock.from_url(url, Config()).try_acquire("key", datetime.now(UTC) + MINUTE) is None
    sender.close()
    worker.close()


def test_a_name_outlives_its_objects() -> None:
    url = f"memory://{uuid4()}"
    with Server.from_url(url) as sender:
        sender.send_task(Signature("add", [2, 3]))
    with Server.from_url(url) as another:
        assert [signature.name for signature in another.pending_tasks()] == ["add"]


@pytest.mark.parametrize("url", ["memory://name/path", "memory://?lease=3", "memory:///x"])
def test_nothing_but_a_name_may_stand_in_the_url(url: str) -> None:
    for kind in (MemoryBroker, MemoryBackend, MemoryLock):
        with pytest.raises(ConfigError, match="only a name"):
            kind.from_url(url, Config())


def test_expiry_comes_from_the_configuration(clock: ManualClock) -> None:
    made = MemoryBackend.from_url("memory://", Config(results_expire_in=timedelta(seconds=5)))
    assert made._results_live == 5.0
    assert MemoryBackend(results_expire_in=timedelta(0))._results_live == 3600.0


# -- a clock turned by hand -------------------------------------------------------------------------------------------------


def test_a_delayed_message_comes_when_the_clock_says_so(clock: ManualClock) -> None:
    broker = MemoryBroker(MemoryQueues(clock))
    broker.publish([message("later", clock.now() + MINUTE)])
    consumer = broker.consumer("queue", "c")
    assert consumer.receive(1, 0) == []
    assert [found.eta for found in broker.delayed(10)] == [clock.now() + MINUTE]
    clock.advance(59)
    assert consumer.receive(1, 0) == []
    clock.advance(1)
    (delivery,) = consumer.receive(1, 0)
    assert delivery.body == b"later"


def test_turning_the_clock_wakes_who_waits(clock: ManualClock) -> None:
    broker = MemoryBroker(MemoryQueues(clock))
    broker.publish([message("later", clock.now() + timedelta(hours=1))])
    consumer = broker.consumer("queue", "c")
    with in_background(lambda: consumer.receive(1, 7200)) as received:
        clock.advance(timedelta(hours=1))
        assert [delivery.body for delivery in received()] == [b"later"]
    with in_background(lambda: consumer.receive(1, 60)) as received:
        eventually(lambda: clock._waiting)
        clock.advance(60)
        assert received() == []


def test_a_message_is_due_at_once_when_it_is_due_when_published(clock: ManualClock) -> None:
    broker = MemoryBroker(MemoryQueues(clock))
    broker.publish([message("now", clock.now())])
    assert len(broker.pending("queue", 10)) == 1


def test_due_messages_wake_as_many_consumers_as_there_are(clock: ManualClock) -> None:
    broker = MemoryBroker(MemoryQueues(clock))
    broker.publish([message(label, clock.now() + MINUTE) for label in "abc"])
    consumers = [broker.consumer("queue", f"c{number}") for number in range(3)]
    received: list[bytes] = []

    def receive(number: int) -> None:
        received.extend(delivery.body for delivery in consumers[number].receive(1, 3600))

    threads = [threading.Thread(target=receive, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    clock.advance(MINUTE)
    for thread in threads:
        thread.join(10)
    assert sorted(received) == [b"a", b"b", b"c"]


def test_records_expire_by_the_clock(clock: ManualClock) -> None:
    records = MemoryRecords(clock)
    backend = MemoryBackend(records, results_expire_in=MINUTE)
    backend.save([TaskState("task_1", "", State.SUCCESS, ())])
    clock.advance(59)
    assert backend.load(["task_1"]) != [None]
    clock.advance(1)
    assert backend.load(["task_1"]) == [None]


def test_expired_records_and_groups_do_not_pile_up(clock: ManualClock) -> None:
    records = MemoryRecords(clock)
    backend = MemoryBackend(records, results_expire_in=MINUTE, group_expire_in=MINUTE)
    backend.submit([TaskState(f"task_{number}") for number in range(100)])
    for number in range(20):
        backend.create_group(GroupMeta(f"group_{number}", (f"member_{number}",)), Signature("callback"))
    clock.advance(MINUTE)
    for number in range(40):
        backend.submit([TaskState(f"new_{number}")])
    assert len(records._records) == 40
    assert not records._groups
    assert not records._group_of


def test_what_an_open_group_needs_is_kept_and_goes_with_it(clock: ManualClock) -> None:
    records = MemoryRecords(clock)
    backend = MemoryBackend(records, results_expire_in=MINUTE, group_expire_in=timedelta(hours=1))
    backend.create_group(GroupMeta("group", ("member",)), Signature("callback"))
    backend.save([TaskState("member", "", State.SUCCESS, ())])
    clock.advance(30 * MINUTE)
    for number in range(_records.SWEEP + 1):
        backend.submit([TaskState(f"other_{number}")])
    assert backend.load(["member"]) != [None]
    backend.finish_members([("group", "member")])
    clock.advance(59 * MINUTE)
    assert backend.load(["member"]) != [None]
    clock.advance(MINUTE)
    with pytest.raises(GroupNotFound):
        backend.load_group("group")
    assert backend.load(["member"]) == [None]


def test_waiting_ends_by_the_clock(clock: ManualClock) -> None:
    backend = MemoryBackend(MemoryRecords(clock))
    with in_background(lambda: backend.wait(["task_1"], 60)) as waited:
        eventually(lambda: clock._waiting)
        clock.advance(60)
        assert waited() == [None]


def test_a_lock_ends_by_the_clock(clock: ManualClock) -> None:
    lock = MemoryLock(MemoryLocks(clock))
    assert lock.try_acquire("key", clock.now() + MINUTE) is not None
    clock.advance(59)
    assert lock.try_acquire("key", clock.now() + MINUTE) is None
    clock.advance(1)
    assert lock.try_acquire("key", clock.now() + MINUTE) is not None
    assert len(lock._locks.held) == 1


# -- closing while others wait ----------------------------------------------------------------------------------------------


def test_closing_ends_a_wait_for_results() -> None:
    backend = MemoryBackend()

    def wait() -> str:
        with pytest.raises(Closed):
            backend.wait(["task_1"], 60)
        return "closed"

    with in_background(wait) as waited:
        eventually(lambda: backend._store._waiters)
        backend.close()
        assert waited() == "closed"


def test_closing_ends_a_receive() -> None:
    consumer = MemoryBroker().consumer("queue", "c")

    def receive() -> str:
        with pytest.raises(Closed):
            consumer.receive(1, 60)
        return "closed"

    with in_background(receive) as received:
        consumer.close()
        assert received() == "closed"


def test_a_wake_up_that_meets_a_stopped_consumer_goes_to_another() -> None:
    broker = MemoryBroker()
    stopping, staying = broker.consumer("queue", "stopping"), broker.consumer("queue", "staying")
    queue = stopping._queue
    with in_background(lambda: stopping.receive(1, 60)) as stopped:
        eventually(lambda: len(queue.arrived._waiters) == 1)  # type: ignore[attr-defined]  # the first in line
        with in_background(lambda: staying.receive(1, 60)) as received:
            eventually(lambda: len(queue.arrived._waiters) == 2)  # type: ignore[attr-defined]
            with queue.lock:
                stopping._stopped = True
                queue._append(Item(message("only")))
                queue.arrived.notify()
            assert stopped() == []
            assert [delivery.body for delivery in received()] == [b"only"]
