"""The worker as a whole: what it runs, how much of it at once, and what it writes about it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from datetime import timedelta

import pytest

from machinery import (
    Config,
    Exponential,
    ResultTimeout,
    Server,
    Signature,
    State,
    TaskContext,
    TaskResult,
    TaskState,
    chain,
)
from machinery.abc import Message
from machinery.errors import ConfigError
from machinery.memory import MemoryBroker
from machinery.wire import encode_signature
from tests.core.gate import Gate
from tests.core.observed import Journal, ObservedBackend, ObservedBroker
from tests.interop.eventually import eventually

QUEUE = "machinery_tasks"


@pytest.mark.parametrize(("count", "said"), [(0, "0 tasks: "), (1, "1 task: t0"), (2, "2 tasks: t0, t1")])
def test_a_worker_says_what_it_can_run(server: Server, caplog: pytest.LogCaptureFixture, count: int, said: str) -> None:
    server.register_tasks({f"t{number}": print for number in range(count)})
    with server.new_worker("test", 1):
        pass
    assert f"starts with {said}" in [record.message.partition("> ")[2] for record in caplog.records]


def test_a_task_runs_and_its_result_is_stored(server: Server) -> None:
    @server.task
    def add(a: int, b: int) -> int:
        return a + b

    with server.new_worker("test", 2):
        result = add.send(2, 3)
        assert result.get(timeout=10) == 5

    state = result.task_state()
    assert state.state is State.SUCCESS
    assert state.task_name == "add"


@pytest.mark.usefixtures("long_moment")
def test_a_result_is_saved_before_successors_are_sent_and_the_message_is_acknowledged_last(
    server: Server, journal: Journal
) -> None:
    @server.task
    def first() -> int:
        return 1

    @server.task
    def second(number: int) -> int:
        return number + 1

    result = server.send_chain(chain(first.signature(), Signature("second")))
    with server.new_worker("test", 1):
        assert result.get(timeout=10) == 2

    entries = journal.of("save", "submit", "publish", "ack")
    assert entries[:2] == ["submit first", "publish first"]
    assert entries[2:] == [
        "save SUCCESS first",
        "submit second",
        "publish second",
        "ack first",
        "save SUCCESS second",
        "ack second",
    ]


@pytest.mark.usefixtures("long_moment")
def test_a_retry_is_saved_before_its_copy_is_published_and_the_message_is_acknowledged_last(
    server: Server, journal: Journal
) -> None:
    @server.task(retry_count=1, retry=Exponential(base=0.001))
    def shaky(context: TaskContext) -> int:
        if context.attempt == 1:
            raise ValueError("not yet")
        return context.attempt

    result = shaky.send()
    with server.new_worker("test", 1):
        assert result.get(timeout=10) == 2

    entries = journal.of("save", "submit", "publish", "ack")
    assert entries[2:] == ["save RETRY shaky", "publish shaky", "ack shaky", "save SUCCESS shaky", "ack shaky"]


@pytest.mark.usefixtures("long_moment")
def test_a_short_task_writes_exactly_one_record(server: Server, journal: Journal) -> None:
    @server.task
    def add(a: int, b: int) -> int:
        return a + b

    results = server.send_tasks([add.signature(number, 1) for number in range(50)])
    with server.new_worker("test", 1):
        assert [result.get(timeout=10) for result in results] == list(range(1, 51))

    assert journal.of("save") == ["save SUCCESS add"] * 50


def test_a_task_that_takes_longer_is_seen_as_started(server: Server, gate: Gate) -> None:
    with server.new_worker("test", 1):
        result = gate.task.send()
        gate.wait_until_entered()
        eventually(lambda: result.state is State.STARTED)

        gate.opened.set()
        assert result.get(timeout=10) == "through"


def test_a_task_that_waits_for_a_slot_is_seen_as_received(server: Server, gate: Gate, broker: ObservedBroker) -> None:
    @server.task
    def behind() -> None:
        pass

    with server.new_worker("test", 1) as worker:
        gate.task.send()
        gate.wait_until_entered()
        worker._executor.mean_duration = 1e-9  # tasks were short until now: there is a surplus
        worker._executor.last_end = time.monotonic() + 3600
        waiting = behind.send()

        eventually(lambda: waiting.state is State.RECEIVED)
        gate.opened.set()
        waiting.get(timeout=10)


def test_a_batch_is_saved_and_acknowledged_in_few_calls(server: Server, journal: Journal, gate: Gate) -> None:
    @server.task
    def add(a: int, b: int) -> int:
        return a + b

    saves: list[int] = []
    held = threading.Event()

    def hold() -> None:
        saves.append(1)
        held.wait(10)

    with server.new_worker("test", 4):
        # Given a settler that is held up while many tasks end
        journal.pause("save", hold)
        results = server.send_tasks([add.signature(number, 1) for number in range(40)])
        eventually(lambda: saves)
        held.set()
        for result in results:
            result.get(timeout=10)

    assert len(saves) < 40


def test_coroutines_run_many_at_once(server: Server) -> None:
    inside = 0
    all_here = asyncio.Event()

    @server.task
    async def meet() -> None:
        nonlocal inside
        inside += 1
        if inside == 20:
            all_here.set()
        await all_here.wait()

    results = server.send_tasks([meet.signature() for _ in range(20)])
    with server.new_worker("test", 20):
        for result in results:
            result.get(timeout=10)


def test_no_more_run_at_once_than_the_concurrency_says(server: Server) -> None:
    lock = threading.Lock()
    three_are_here = threading.Event()
    inside = 0
    most = 0

    @server.task
    def busy() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside == 3:
                three_are_here.set()
        assert three_are_here.wait(10)
        threading.Event().wait(0.003)
        with lock:
            inside -= 1

    results = server.send_tasks([busy.signature() for _ in range(60)])
    with server.new_worker("test", 3):
        for result in results:
            result.get(timeout=15)

    assert most == 3


def test_concurrency_zero_grows_up_to_the_named_limit(broker: ObservedBroker, backend: ObservedBackend) -> None:
    server = Server(Config(unlimited_concurrency=30), broker, backend)
    barrier = threading.Barrier(30)

    @server.task
    def together() -> None:
        barrier.wait(25)

    results = server.send_tasks([together.signature() for _ in range(30)])
    with server.new_worker("test") as worker:
        for result in results:
            result.get(timeout=30)
        assert len(worker._executor.places) == 30


def test_tasks_that_block_although_tasks_are_short_as_a_rule_do_not_keep_others_waiting(server: Server) -> None:
    barrier = threading.Barrier(4)

    @server.task
    def short() -> None:
        pass

    @server.task
    def together() -> None:
        barrier.wait(10)

    with server.new_worker("test", 4):
        # Given a worker that takes its tasks for short ones
        for result in server.send_tasks([short.signature() for _ in range(200)]):
            result.get(timeout=10)

        # When each of four tasks waits for the other three
        results = server.send_tasks([together.signature() for _ in range(4)])

        # Then they all get their thread
        for result in results:
            result.get(timeout=10)


def test_several_queues_are_consumed(server: Server) -> None:
    @server.task
    def where(name: str) -> str:
        return name

    with server.new_worker("test", 2, ["one", "two"]):
        one = where.options(queue="one").send("one")
        two = where.options(queue="two").send("two")
        other = where.options(queue="three").send("three")
        assert one.get(timeout=10) == "one"
        assert two.get(timeout=10) == "two"
        assert other.state is State.PENDING


def test_a_custom_queue_worker_leaves_the_default_queue_alone(server: Server) -> None:
    @server.task
    def noop() -> None:
        pass

    with server.new_custom_queue_worker("test", 1, "special"):
        default = noop.send()
        noop.options(queue="special").send().get(timeout=10)
        assert default.state is State.PENDING


def test_a_retry_stays_on_its_queue_where_the_body_does_not_name_it(journal: Journal) -> None:
    broker = ObservedBroker(journal, routing_key_in_body=False)
    server = Server(Config(), broker, ObservedBackend(journal))

    @server.task(queue="special", retry_count=1, retry=Exponential(base=0.001))
    def shaky(context: TaskContext) -> int:
        if context.attempt == 1:
            raise ValueError
        return 1

    with server.new_worker("test", 1, ["special"]):
        assert shaky.send().get(timeout=10) == 1


def test_a_delayed_task_does_not_run_before_its_time(server: Server) -> None:
    @server.task
    def when() -> float:
        return time.time()

    with server.new_worker("test", 1):
        begin = time.time()
        assert when.options(countdown=0.2).send().get(timeout=10) - begin >= 0.199


def test_what_comes_before_its_time_is_postponed_for_the_rest(journal: Journal) -> None:
    broker = ObservedBroker(journal, max_delay=timedelta(seconds=0.1))
    server = Server(Config(), broker, ObservedBackend(journal))

    @server.task
    def when() -> float:
        return time.time()

    def is_postponed() -> bool:
        begin = time.time()
        assert when.options(countdown=0.35).send().get(timeout=10) - begin >= 0.349
        return bool(journal.of("postpone"))  # not where a busy machine received it only when its time had come

    with server.new_worker("test", 1):
        eventually(is_postponed)


def test_surplus_that_no_slot_gets_free_for_is_handed_back_and_not_fetched_again(
    server: Server, gate: Gate, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machinery._worker._keeper.STALE", 0.2)
    monkeypatch.setattr("machinery._worker._keeper.TICK", 0.05)

    @server.task
    def short() -> None:
        pass

    @server.task
    async def soft() -> None:
        pass

    worker = server.new_worker("test", 1)
    worker._executor.mean_duration = 1e-9  # it takes tasks for short ones
    gate.task.send()
    results = server.send_tasks([short.signature() for _ in range(5)])
    with worker:
        gate.wait_until_entered()
        eventually(lambda: len(journal.of("nack")) == 5)
        received = len(journal.of("receive"))
        monkeypatch.setattr("machinery._worker._keeper.STALE", 60)  # the other one gives nothing back, however slow

        # Then another worker can have them
        with server.new_worker("another", 1):
            for result in results:
                result.get(timeout=10)
        assert len(journal.of("nack")) == 5
        assert received <= len(journal.of("receive"))
        gate.opened.set()


def test_there_is_no_surplus_while_tasks_are_long(server: Server, gate: Gate) -> None:
    @server.task
    def behind() -> None:
        pass

    with server.new_worker("test", 1) as worker:
        gate.task.send()
        gate.wait_until_entered()
        behind.send()
        assert len(server.pending_tasks()) == 1
        assert len(worker._fetchers[0].held) == 1
        gate.opened.set()


def test_a_worker_without_a_result_backend_runs_and_retries_and_follows() -> None:
    broker = MemoryBroker()
    server = Server(Config(), broker)
    runs: list[str] = []

    @server.task(retry_count=1, retry=Exponential(base=0.001))
    def shaky(context: TaskContext) -> int:
        runs.append(f"shaky {context.attempt}")
        if context.attempt == 1:
            raise ValueError
        return 1

    @server.task
    def after(number: int) -> None:
        runs.append(f"after {number}")

    with server.new_worker("test", 1):
        shaky.options(on_success=Signature("after")).send()
        eventually(lambda: len(runs) == 3)
    assert runs == ["shaky 1", "shaky 2", "after 1"]
    broker.close()


def test_without_a_result_backend_deliveries_that_are_counted_tell_of_crashes() -> None:
    broker = MemoryBroker()
    server = Server(Config(max_crashes=2), broker)

    @server.task
    def poison() -> None:
        raise AssertionError("it is not to run")

    poison.send()
    for _ in range(3):
        consumer = broker.consumer(QUEUE, "dead")
        consumer.receive(1, 0)
        consumer.close()
    with server.new_worker("test", 1):
        (letter,) = eventually(server.dead_tasks)
    assert letter.reason == "crashed its worker 3 times"
    broker.close()


def test_nothing_is_remembered_of_what_is_settled(server: Server, journal: Journal) -> None:
    @server.task(soft_time_limit=3600)
    def good() -> None:
        pass

    @server.task
    async def soft() -> None:
        pass

    with server.new_worker("test", 4) as worker:
        signatures = [task.signature() for _ in range(100) for task in (good, soft)]
        for result in server.send_tasks(signatures):
            result.get(timeout=10)
        eventually(lambda: len(journal.of("ack")) == 200)
        fetcher, executor = worker._fetchers[0], worker._executor
        eventually(lambda: not fetcher.held and not fetcher._by_uuid)
        eventually(lambda: not executor._coroutines and not executor._limits._watches)
        assert executor.busy == 0


def test_a_worker_says_who_it_is(server: Server) -> None:
    worker = server.new_worker("tag", 1, ["one", "two"])
    assert worker.name.startswith("tag@")
    assert f":{os.getpid()}:" in worker.name
    assert repr(worker) == f"<Worker {worker.name} of one, two>"
    assert server.new_worker("", 1).name.startswith("worker@")


@pytest.mark.parametrize(("concurrency", "queues"), [(-1, None), (1, ["one", "one"])])
def test_a_worker_that_cannot_be_is_refused(server: Server, concurrency: int, queues: list[str] | None) -> None:
    with pytest.raises(ConfigError):
        server.new_worker("test", concurrency, queues)


def test_two_results_that_differ_end_with_the_first_one_stored(
    server: Server, backend: ObservedBackend, gate: Gate
) -> None:
    followed: list[str] = []

    @server.task
    def after(text: str) -> None:
        followed.append(text)

    with server.new_worker("test", 1):
        # Given a task that somebody else finished while it ran here
        result = gate.task.options(on_success=Signature("after")).send()
        gate.wait_until_entered()
        backend.inner.save([TaskState(result.uuid, "gated", State.SUCCESS, (TaskResult("string", "theirs"),))])

        # When
        gate.opened.set()

        # Then what follows gets what is stored
        eventually(lambda: followed)
    assert followed == ["theirs"]
    assert result.get(timeout=1) == "theirs"


def test_a_message_published_by_hand_runs(server: Server) -> None:
    @server.task
    def good() -> int:
        return 1

    server.broker.publish([Message(encode_signature(Signature("good", uuid="task_by_hand")), QUEUE)])
    with server.new_worker("test", 1):
        assert server.result("task_by_hand").get(timeout=10) == 1


def test_a_result_that_does_not_come_in_time_goes_on(server: Server, gate: Gate) -> None:
    with server.new_worker("test", 1):
        result = gate.task.send()
        with pytest.raises(ResultTimeout):
            result.get(timeout=0.05)
        gate.opened.set()
        assert result.get(timeout=10) == "through"
