"""The worker as a whole: what runs, how it ends, and how a worker stops without losing anything."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from machinery import (
    Config,
    Exponential,
    Reject,
    ResultTimeout,
    RetryTaskLater,
    Server,
    Signature,
    SoftTimeLimitExceeded,
    State,
    TaskContext,
    TaskFailed,
    TaskResult,
    TaskState,
    Worker,
    chain,
)
from machinery.abc import Delivery, Message
from machinery.errors import BackendUnavailable, BrokerUnavailable, ConfigError, Unsupported
from machinery.memory import MemoryBroker
from machinery.wire import encode_signature
from tests.core.observed import Journal, ObservedBackend, ObservedBroker
from tests.interop.eventually import eventually

QUEUE = "machinery_tasks"


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def broker(journal: Journal) -> ObservedBroker:
    return ObservedBroker(journal)


@pytest.fixture
def backend(journal: Journal) -> ObservedBackend:
    return ObservedBackend(journal)


@pytest.fixture
def server(broker: ObservedBroker, backend: ObservedBackend) -> Iterator[Server]:
    made = Server(Config(drain_timeout=5), broker, backend)
    yield made
    broker.close()
    backend.close()


class Gate:
    """A task that waits inside until it is let go."""

    def __init__(self, server: Server, name: str = "gated") -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        self.runs = 0

        @server.task(name=name)
        def gated() -> str:
            self.runs += 1
            self.entered.release()
            assert self.opened.wait(30)
            return "through"

        self.task = gated

    def wait_until_entered(self) -> None:
        assert self.entered.acquire(timeout=10)


@pytest.fixture
def gate(server: Server) -> Iterator[Gate]:
    made = Gate(server)
    yield made
    made.opened.set()


def quit_and_join(worker: Worker, timeout: float = 15) -> None:
    worker.quit()
    assert worker.join(timeout)


# -- running ----------------------------------------------------------------------------------------------------------------


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


def test_a_result_is_saved_before_successors_are_sent_and_the_message_is_acknowledged_last(
    server: Server, journal: Journal
) -> None:
    @server.task
    def first() -> int:
        return 1

    @server.task
    def second(number: int) -> int:
        return number + 1

    result = server.send_chain(chain(first.signature(), second.signature()))
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


def test_a_short_task_writes_exactly_one_record(server: Server, journal: Journal) -> None:
    @server.task
    def add(a: int, b: int) -> int:
        return a + b

    results = server.send_tasks([add.signature(number, 1) for number in range(50)])
    with server.new_worker("test", 1):
        assert [result.get(timeout=10) for result in results] == list(range(1, 51))

    # RECEIVED is for tasks that wait long: on a busy machine a few of the fifty may have.
    finals = [entry for entry in journal.of("save") if "SUCCESS" in entry]
    assert len(finals) == 50
    assert not [entry for entry in journal.of("save") if "STARTED" in entry]


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
    with server.new_worker("test", 4):
        # Given a settler that is held up while many tasks end
        held = threading.Event()
        journal.pause("save", lambda: (saves.append(1), held.wait(10)))
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
    inside = 0
    most = 0

    @server.task
    def busy() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.003)
        with lock:
            inside -= 1

    results = server.send_tasks([busy.signature() for _ in range(60)])
    with server.new_worker("test", 3):
        for result in results:
            result.get(timeout=10)

    assert most == 3


def test_concurrency_zero_grows_up_to_the_named_limit(broker: ObservedBroker, backend: ObservedBackend) -> None:
    server = Server(Config(unlimited_concurrency=30), broker, backend)
    barrier = threading.Barrier(30)

    @server.task
    def together() -> None:
        barrier.wait(10)

    results = server.send_tasks([together.signature() for _ in range(30)])
    with server.new_worker("test") as worker:
        for result in results:
            result.get(timeout=15)
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

    with server.new_worker("test", 1):
        begin = time.time()
        assert when.options(countdown=0.35).send().get(timeout=10) - begin >= 0.349
    assert journal.of("postpone")


# -- failing ----------------------------------------------------------------------------------------------------------------


def test_an_exception_is_a_failure_with_its_text(server: Server) -> None:
    @server.task
    def bad() -> None:
        raise ValueError("no good")

    @server.task
    def silent() -> None:
        raise KeyError

    with server.new_worker("test", 1):
        with pytest.raises(TaskFailed, match="no good") as caught:
            bad.send().get(timeout=10)
        assert caught.value.error == "no good"
        with pytest.raises(TaskFailed, match="KeyError"):
            silent.send().get(timeout=10)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_task_that_raises_what_ends_programs_has_failed_and_the_worker_lives(
    server: Server, kind: type[BaseException]
) -> None:
    @server.task
    def leave() -> None:
        raise kind("bye")

    @server.task
    async def leave_softly() -> None:
        raise kind("bye")

    with server.new_worker("test", 1):
        for task in (leave, leave_softly):
            for _ in range(3):
                with pytest.raises(TaskFailed, match="bye"):
                    task.send().get(timeout=10)


def test_an_exception_whose_text_cannot_be_had_is_named_by_its_class(server: Server) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @server.task
    def bad() -> None:
        raise Broken

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match="Broken"):
        bad.send().get(timeout=10)


def test_fibonacci_pauses_grow_by_gos_row_and_use_up_the_retry_count(server: Server, broker: ObservedBroker) -> None:
    @server.task(retry_count=2)
    def bad() -> None:
        raise ValueError("again")

    with server.new_worker("test", 1):
        result = bad.send()
        (copy,) = eventually(lambda: broker.delayed(10))
        assert result.state is State.RETRY

    (copy,) = server.delayed_tasks()
    assert copy.uuid == result.uuid
    assert copy.retry_count == 1
    assert copy.retry_timeout == 1
    assert copy.headers == {"machinery_attempt": "2", "machinery_failures": "1"}
    assert copy.eta is not None
    assert copy.eta - datetime.now(UTC) < timedelta(seconds=1)


def test_a_task_that_fails_too_often_has_failed(server: Server) -> None:
    runs: list[int] = []

    @server.task(retry_count=3, retry=Exponential(base=0.001, cap=0.002))
    def bad(context: TaskContext) -> None:
        runs.append(context.attempt)
        raise ValueError(f"run {context.attempt}")

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match="run 4"):
        bad.send().get(timeout=10)
    assert runs == [1, 2, 3, 4]


def test_only_the_exceptions_named_are_retried(server: Server) -> None:
    runs: list[str] = []

    @server.task(retry_count=5, retry=Exponential(base=0.001), retry_for=OSError, no_retry_for=(FileNotFoundError,))
    def bad(kind: str) -> None:
        runs.append(kind)
        raise {"value": ValueError, "gone": FileNotFoundError, "io": OSError}[kind](kind)

    with server.new_worker("test", 1):
        for kind in ("value", "gone", "io"):
            with pytest.raises(TaskFailed):
                bad.send(kind).get(timeout=10)

    assert runs.count("value") == 1
    assert runs.count("gone") == 1
    assert runs.count("io") == 6


@pytest.mark.parametrize("wrapped", [False, True])
def test_retry_task_later_does_not_use_up_the_retry_count(server: Server, *, wrapped: bool) -> None:
    @server.task
    def later(context: TaskContext) -> int:
        if context.attempt < 4:
            reason = RetryTaskLater("not yet", 0.001)
            if wrapped:
                raise ValueError("wrapped") from reason
            raise reason
        return context.attempt

    with server.new_worker("test", 1):
        assert later.send().get(timeout=10) == 4


def test_a_retry_task_later_beyond_all_calendars_is_a_failure(server: Server) -> None:
    @server.task
    def later() -> None:
        raise RetryTaskLater("in a while", timedelta.max)

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match="in a while"):
        later.send().get(timeout=10)


def test_a_retry_rule_that_fails_leaves_the_tasks_own_failure(server: Server) -> None:
    class Broken:
        def delay(self, failures: int, last_delay: int) -> timedelta:
            raise ZeroDivisionError("the rule")

    @server.task(retry_count=1, retry=Broken())
    def bad() -> None:
        raise ValueError("the task")

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match=r"the task \(no retry: the rule\)"):
        bad.send().get(timeout=10)


def test_a_rejected_task_fails_at_once_and_is_kept_as_a_dead_letter(server: Server) -> None:
    @server.task(retry_count=5)
    def bad() -> None:
        raise Reject("poisonous")

    with server.new_worker("test", 1):
        with pytest.raises(TaskFailed, match="poisonous"):
            bad.send().get(timeout=10)
        (letter,) = eventually(server.dead_tasks)
    assert letter.reason == "poisonous"


def test_on_error_gets_the_text_first(server: Server) -> None:
    noted: list[tuple[str, int]] = []

    @server.task
    def bad() -> None:
        raise ValueError("no good")

    @server.task
    def note(error: str, number: int) -> None:
        noted.append((error, number))

    with server.new_worker("test", 1):
        bad.options(on_error=Signature("note", [7])).send()
        eventually(lambda: noted)
    assert noted == [("no good", 7)]


def test_results_travel_to_on_success_behind_its_own_arguments(server: Server) -> None:
    @server.task
    def pair() -> tuple[int, str]:
        return 1, "one"

    @server.task
    def collect(own: str, number: int, text: str) -> str:
        return f"{own} {number} {text}"

    with server.new_worker("test", 1):
        follower = Signature("collect", ["own"], uuid="task_follower")
        pair.options(on_success=follower).send()
        assert server.result("task_follower").get(timeout=10) == "own 1 one"


def test_an_immutable_task_keeps_its_results_to_itself(server: Server) -> None:
    @server.task(immutable=True)
    def one() -> int:
        return 1

    @server.task
    def alone() -> str:
        return "alone"

    with server.new_worker("test", 1):
        one.options(on_success=Signature("alone", uuid="task_alone")).send()
        assert server.result("task_alone").get(timeout=10) == "alone"


def test_what_a_task_returns_and_the_wire_cannot_say_is_a_failure_without_retry(server: Server) -> None:
    runs: list[int] = []

    @server.task(retry_count=3)
    def odd() -> object:
        runs.append(1)
        return object()

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match="object"):
        odd.send().get(timeout=10)
    assert len(runs) == 1


def test_a_soft_time_limit_interrupts_a_function(server: Server) -> None:
    @server.task(soft_time_limit=0.05)
    def slow() -> None:
        while True:
            pass

    @server.task(soft_time_limit=0.05)
    def tidy() -> str:
        try:
            while True:
                pass
        except SoftTimeLimitExceeded:
            return "tidied up"

    with server.new_worker("test", 1):
        with pytest.raises(TaskFailed, match=r"soft time limit of 0\.05 s"):
            slow.send().get(timeout=10)
        assert tidy.send().get(timeout=10) == "tidied up"


def test_a_soft_time_limit_interrupts_a_coroutine(server: Server) -> None:
    cleaned: list[bool] = []

    @server.task(soft_time_limit=0.05)
    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(True)

    with server.new_worker("test", 1), pytest.raises(TaskFailed, match=r"soft time limit of 0\.05 s"):
        slow.send().get(timeout=10)
    assert cleaned


def test_a_task_past_its_expiry_is_not_started(server: Server) -> None:
    runs: list[int] = []
    noted: list[str] = []

    @server.task
    def stale() -> None:
        runs.append(1)

    @server.task
    def note(error: str) -> None:
        noted.append(error)

    result = stale.options(expires=datetime.now(UTC) - timedelta(seconds=1), on_error=Signature("note")).send()
    with server.new_worker("test", 1):
        with pytest.raises(TaskFailed, match="expired"):
            result.get(timeout=10)
        eventually(lambda: noted)
    assert not runs
    assert server.pending_tasks() == []


def test_a_task_within_its_expiry_runs(server: Server) -> None:
    @server.task
    def fresh() -> str:
        return "fresh"

    with server.new_worker("test", 1):
        assert fresh.options(expires=60).send().get(timeout=10) == "fresh"


# -- handlers ---------------------------------------------------------------------------------------------------------------


def test_handlers_are_called_before_and_after_every_run(server: Server) -> None:
    calls: list[str] = []

    @server.task
    def good() -> None:
        calls.append("run")

    worker = server.new_worker("test", 1)
    worker.set_pre_task_handler(lambda signature: calls.append(f"before {signature.name}"))
    worker.set_post_task_handler(lambda signature: calls.append(f"after {signature.name}"))
    with worker:
        good.send().get(timeout=10)
        eventually(lambda: len(calls) == 3)
    assert calls == ["before good", "run", "after good"]


def test_the_error_handler_gets_the_exception_and_the_signature(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[tuple[BaseException, str]] = []

    @server.task
    def bad() -> None:
        raise ValueError("no good")

    worker = server.new_worker("test", 1)
    worker.set_error_handler(lambda error, signature: failures.append((error, signature.name if signature else "")))
    with worker:
        with pytest.raises(TaskFailed):
            bad.send().get(timeout=10)
        ((error, name),) = eventually(lambda: failures)

    assert isinstance(error, ValueError)
    assert name == "bad"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_the_error_handler_hears_of_failures_without_an_exception(server: Server) -> None:
    failures: list[BaseException] = []

    @server.task
    def stale() -> None:
        pass

    stale.options(expires=datetime.now(UTC)).send()
    worker = server.new_worker("test", 1)
    worker.set_error_handler(lambda error, _: failures.append(error))
    with worker:
        eventually(lambda: failures)
    assert isinstance(failures[0], TaskFailed)
    assert "expired" in str(failures[0])


def test_without_an_error_handler_a_failure_is_logged_with_id_and_traceback(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    @server.task
    def bad() -> None:
        raise ValueError("no good")

    with server.new_worker("test", 1):
        result = bad.send()
        with pytest.raises(TaskFailed):
            result.get(timeout=10)
        (record,) = eventually(lambda: [each for each in caplog.records if each.levelno == logging.ERROR])
    assert result.uuid in record.getMessage()
    assert record.exc_info is not None


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_handlers_that_raise_hurt_nobody(server: Server, kind: type[BaseException]) -> None:
    @server.task
    def good() -> int:
        return 1

    @server.task
    def bad() -> None:
        raise ValueError("no good")

    def fail(*args: object) -> bool:
        raise kind("handler")

    worker = server.new_worker("test", 1)
    worker.set_error_handler(fail)
    worker.set_post_task_handler(fail)
    worker.set_pre_consume_handler(fail)
    with worker:
        for _ in range(3):
            assert good.send().get(timeout=10) == 1
            with pytest.raises(TaskFailed, match="no good"):
                bad.send().get(timeout=10)


def test_a_pre_task_handler_that_raises_fails_the_run(server: Server) -> None:
    @server.task
    def good() -> int:
        return 1

    def refuse(signature: Signature) -> None:
        raise PermissionError(f"no {signature.name} today")

    worker = server.new_worker("test", 1)
    worker.set_pre_task_handler(refuse)
    with worker, pytest.raises(TaskFailed, match="no good today"):
        good.send().get(timeout=10)


def test_a_pre_consume_handler_holds_fetching_back(server: Server) -> None:
    may_consume = threading.Event()
    asked: list[Worker] = []

    @server.task
    def good() -> int:
        return 1

    def ask(worker: Worker) -> bool:
        asked.append(worker)
        return may_consume.is_set()

    worker = server.new_worker("test", 1)
    worker.set_pre_consume_handler(ask)
    with worker:
        result = good.send()
        eventually(lambda: len(asked) >= 2)
        assert result.state is State.PENDING
        may_consume.set()
        assert result.get(timeout=10) == 1
    assert asked[0] is worker


def test_a_pre_publish_handler_that_raises_in_the_worker_loses_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machinery._worker._fetcher.LATER", timedelta(milliseconds=50))
    is_broken = threading.Event()
    is_broken.set()
    runs: list[str] = []

    @server.task
    def first() -> None:
        runs.append("first")

    @server.task
    def second() -> None:
        runs.append("second")

    def handle(signature: Signature) -> None:
        if signature.name == "second" and is_broken.is_set():
            raise SystemExit("a defect")

    server.set_pre_task_handler(handle)
    first.options(on_success=Signature("second")).send()
    with server.new_worker("test", 1):
        eventually(lambda: runs)
        assert first.send().get(timeout=10) is None
        is_broken.clear()
        eventually(lambda: "second" in runs)
    assert runs.count("first") == 2  # a redelivery of what has ended is not run again


# -- redelivery and crashes -------------------------------------------------------------------------------------------------


def test_a_redelivered_task_that_never_started_runs(server: Server, broker: ObservedBroker) -> None:
    @server.task
    def good() -> int:
        return 1

    result = good.send()
    assert broker.let_a_worker_die(QUEUE) == 1
    with server.new_worker("test", 1):
        assert result.get(timeout=10) == 1
    assert result.task_state().crashes == 0


def test_a_redelivered_task_that_has_ended_is_not_run_again_but_what_is_missing_is_sent(
    server: Server, broker: ObservedBroker, backend: ObservedBackend
) -> None:
    runs: list[str] = []

    @server.task
    def first() -> int:
        runs.append("first")
        return 1

    @server.task
    def second(number: int) -> int:
        runs.append("second")
        return number + 1

    # Given a worker that saved the result and died before it sent what follows
    result = server.send_chain(chain(first.signature(), second.signature()))
    head = result.members[0]
    backend.save([TaskState(head.uuid, "first", State.SUCCESS, (TaskResult("int64", 41),))])
    broker.let_a_worker_die(QUEUE)

    with server.new_worker("test", 1):
        assert result.get(timeout=10) == 42

    assert runs == ["second"]
    assert server.pending_tasks() == []


def test_what_followed_already_is_not_sent_a_second_time(
    server: Server, broker: ObservedBroker, backend: ObservedBackend, journal: Journal
) -> None:
    @server.task
    def first() -> None:
        pass

    @server.task
    def second() -> None:
        pass

    # Given a worker that saved the result, sent what follows, which ran, and died before it acknowledged
    sent = first.options(on_success=Signature("second", uuid="task_second")).send()
    backend.save(
        [TaskState(sent.uuid, "first", State.SUCCESS, ()), TaskState("task_second", "second", State.SUCCESS, ())]
    )
    broker.let_a_worker_die(QUEUE)
    with server.new_worker("test", 1):
        eventually(lambda: journal.of("ack"))

    assert journal.of("ack") == ["ack first"]
    assert journal.of("publish") == ["publish first"]


def test_a_failed_task_delivered_again_sends_its_on_error(
    server: Server, broker: ObservedBroker, backend: ObservedBackend
) -> None:
    noted: list[str] = []

    @server.task
    def bad() -> None:
        raise AssertionError("it is not to run again")

    @server.task
    def note(error: str) -> None:
        noted.append(error)

    result = bad.options(on_error=Signature("note")).send()
    backend.save([TaskState(result.uuid, "bad", State.FAILURE, None, "it was bad")])
    broker.let_a_worker_die(QUEUE)
    with server.new_worker("test", 1):
        eventually(lambda: noted)
    assert noted == ["it was bad"]


def _crash(server: Server, broker: ObservedBroker, uuid: str, name: str, crashes: int) -> None:
    """What a worker leaves that died while it ran the task."""
    server.backend.save([TaskState(uuid, name, State.STARTED, crashes=crashes)])
    broker.let_a_worker_die(QUEUE)


def test_a_crash_counts_and_the_attempt_with_it(server: Server, broker: ObservedBroker) -> None:
    @server.task
    def risky(context: TaskContext) -> int:
        return context.attempt

    result = risky.send()
    _crash(server, broker, result.uuid, "risky", 0)
    with server.new_worker("test", 1):
        assert result.get(timeout=10) == 2
    assert result.task_state().crashes == 1


def test_too_many_crashes_are_a_dead_letter_with_a_failure_and_on_error(server: Server, broker: ObservedBroker) -> None:
    noted: list[str] = []

    @server.task
    def poison() -> None:
        raise AssertionError("it is not to run again")

    @server.task
    def note(error: str) -> None:
        noted.append(error)

    result = poison.options(on_error=Signature("note")).send()
    _crash(server, broker, result.uuid, "poison", server.config.max_crashes)
    with server.new_worker("test", 1):
        with pytest.raises(TaskFailed, match="crashed its worker 4 times"):
            result.get(timeout=10)
        (letter,) = eventually(server.dead_tasks)
        eventually(lambda: noted)

    assert letter.reason == "crashed its worker 4 times"
    assert noted == ["crashed its worker 4 times"]


def test_a_task_that_crashed_says_that_it_has_started_before_it_runs(
    server: Server, broker: ObservedBroker, journal: Journal
) -> None:
    seen: list[str] = []

    @server.task
    def risky() -> None:
        seen.extend(journal.of("save"))

    result = risky.send()
    broker.let_a_worker_die(QUEUE)
    with server.new_worker("test", 1):
        result.get(timeout=10)
    assert seen == ["save STARTED risky"]


def test_the_neighbours_of_a_poisonous_task_are_not_blamed(server: Server, broker: ObservedBroker, gate: Gate) -> None:
    @server.task
    def neighbour() -> None:
        pass

    # Given a worker of one slot that got a task and its neighbours once more, and runs the task
    gate_result = gate.task.send()
    results = [neighbour.send() for _ in range(5)]
    assert broker.let_a_worker_die(QUEUE) == 6
    worker = server.new_worker("test", 1)
    worker._executor.mean_duration = 1e-9  # it takes tasks for short ones, and fetches all six
    with worker:
        gate.wait_until_entered()

        # Then only that one would count, should the worker die now
        assert gate_result.state is State.STARTED
        assert State.STARTED not in {result.state for result in results}
        gate.opened.set()
        for result in results:
            result.get(timeout=10)


def test_a_redelivery_of_what_still_runs_is_adopted(
    server: Server, broker: ObservedBroker, gate: Gate, journal: Journal
) -> None:
    with server.new_worker("test", 2) as worker:
        # Given a running task
        result = gate.task.send()
        gate.wait_until_entered()

        # When its message is delivered once more
        again = redeliver(worker, broker)

        # Then it runs once, and both are acknowledged
        gate.opened.set()
        assert result.get(timeout=10) == "through"
        eventually(lambda: len(journal.of("ack")) == 2)
    assert gate.runs == 1
    assert again.redelivered


def redeliver(worker: Worker, broker: ObservedBroker) -> Delivery:
    """Deliver what the worker runs once more, and wait until it has seen that."""
    (run,) = worker._fetchers[0].held
    again = Delivery(run.delivery.body, QUEUE, redelivered=True)
    broker.consumers[0].injected.append(again)
    eventually(lambda: run.adopted == [again])
    return again


def test_a_redelivery_that_comes_while_its_acknowledgement_is_tried_again_is_not_forgotten(
    server: Server, broker: ObservedBroker, gate: Gate, journal: Journal
) -> None:
    with server.new_worker("test", 2) as worker:
        # Given a task that has ended, and a broker that does not take the acknowledgement
        journal.be_away("ack", BrokerUnavailable("away"))
        result = gate.task.send()
        gate.wait_until_entered()
        gate.opened.set()
        assert result.get(timeout=10) == "through"
        eventually(lambda: journal.of("ack?"))

        # When the connection comes back with the message on it once more
        redeliver(worker, broker)
        journal.come_back()

        # Then both are acknowledged
        eventually(lambda: len(journal.of("ack")) == 2)
    assert gate.runs == 1


def test_the_copy_of_a_retry_is_not_taken_for_a_redelivery(journal: Journal) -> None:
    # Given a broker that cannot tell whether it delivered a message before
    broker = ObservedBroker(journal)
    server = Server(Config(), broker, ObservedBackend(journal))
    runs: list[int] = []

    @server.task
    def later(context: TaskContext) -> int:
        runs.append(context.attempt)
        if context.attempt == 1:
            raise RetryTaskLater("at once", 0)
        return context.attempt

    with server.new_worker("test", 1) as worker:
        # When the copy arrives before the first message is acknowledged
        journal.be_away("ack", BrokerUnavailable("away"))
        result = later.send()
        eventually(lambda: journal.of("ack?"))
        (message,) = eventually(lambda: server.broker.pending(QUEUE, 1)) if not worker._fetchers[0].held else [None]
        journal.come_back()

        # Then it runs
        assert result.get(timeout=10) == 2
    assert runs == [1, 2]
    assert message is None


def test_a_task_whose_lease_ran_out_before_it_started_is_not_started(journal: Journal) -> None:
    broker = ObservedBroker(journal, leases=timedelta(seconds=0.6))
    server = Server(Config(), broker, ObservedBackend(journal))
    gate = Gate(server)
    runs: list[str] = []

    @server.task
    def behind() -> None:
        runs.append("behind")

    worker = server.new_worker("test", 1)
    worker._executor.mean_duration = 1e-9  # it takes tasks for short ones, and fetches both
    gate.task.send()
    result = behind.send()
    journal.be_away("extend", BrokerUnavailable("away"))
    with worker:
        # Given a task that waits behind another, while no lease is renewed
        gate.wait_until_entered()
        fetcher = worker._fetchers[0]
        eventually(lambda: time.monotonic() > fetcher._lease_ends)
        journal.pause("receive", lambda: threading.Event().wait(0.05))

        # When it could start
        gate.opened.set()

        # Then it is given back instead, and runs when leases are renewed again
        eventually(lambda: "nack behind" in journal.entries)
        assert not runs
        journal.come_back()
        result.get(timeout=10)
    broker.close()


def test_a_task_that_is_no_longer_ours_and_still_runs_is_saved_all_the_same(journal: Journal) -> None:
    broker = ObservedBroker(journal, leases=timedelta(seconds=0.3))
    server = Server(Config(), broker, ObservedBackend(journal))
    gate = Gate(server)
    with server.new_worker("test", 2) as worker:
        # Given a running task whose lease has passed to nobody knows whom
        result = gate.task.send()
        gate.wait_until_entered()
        (run,) = worker._fetchers[0].held
        broker.consumers[0].not_ours.append(run.delivery)
        eventually(lambda: not worker._fetchers[0].held)

        # When it is delivered here again
        again = Delivery(run.delivery.body, QUEUE, redelivered=True)
        broker.consumers[0].injected.append(again)
        eventually(lambda: run.adopted == [again])

        # Then it does not run a second time beside itself
        gate.opened.set()
        assert result.get(timeout=10) == "through"
        eventually(lambda: len(journal.of("ack")) == 2)
    assert gate.runs == 1
    broker.close()


# -- services that are away -------------------------------------------------------------------------------------------------


def test_a_backend_that_is_away_is_waited_for(server: Server, journal: Journal) -> None:
    @server.task
    def good() -> int:
        return 1

    troubles: list[BaseException] = []
    worker = server.new_worker("test", 1)
    worker.set_error_handler(lambda error, _: troubles.append(error))
    with worker:
        journal.be_away("save", BackendUnavailable("away"))
        result = good.send()
        eventually(lambda: len(troubles) >= 3)
        assert not journal.of("ack")

        journal.come_back()
        assert result.get(timeout=10) == 1
        eventually(lambda: journal.of("ack"))
    assert isinstance(troubles[0], BackendUnavailable)


def test_a_broker_that_is_away_is_waited_for(server: Server, journal: Journal) -> None:
    runs: list[str] = []

    @server.task
    def first() -> None:
        runs.append("first")

    @server.task
    def second() -> None:
        runs.append("second")

    with server.new_worker("test", 1):
        sent = server.send_chain(chain(first.signature(), second.signature()))
        for operation in ("publish", "ack", "receive"):
            journal.fail(operation, BrokerUnavailable("away"), BrokerUnavailable("away"))
        sent.get(timeout=10)
        eventually(lambda: len(journal.of("ack")) == 2)
    assert runs == ["first", "second"]


def test_fetching_stops_at_twice_the_slots_while_nothing_can_be_settled(server: Server, journal: Journal) -> None:
    @server.task
    def good() -> None:
        pass

    with server.new_worker("test", 4) as worker:
        good.send().get(timeout=10)
        eventually(lambda: len(journal.of("ack")) == 1)
        journal.be_away("save", BackendUnavailable("away"))
        good.send()
        eventually(lambda: worker._patience.struggling)
        good.send()  # ends the fetch that was under way before
        eventually(lambda: len(worker._fetchers[0].held) == 2)
        results = server.send_tasks([good.signature() for _ in range(50)])
        eventually(lambda: len(worker._fetchers[0].held) >= 5)
        most = max(len(worker._fetchers[0].held) for _ in range(2000))
        journal.come_back()
        for result in results:
            result.get(timeout=10)
    assert most <= 8


def test_a_defect_of_a_plug_in_does_not_end_fetching(
    server: Server, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    @server.task
    def good() -> int:
        return 1

    journal.fail("receive", ZeroDivisionError("a defect"))
    with server.new_worker("test", 1):
        assert good.send().get(timeout=10) == 1
    assert "fetching from machinery_tasks failed" in caplog.text


def test_a_server_that_is_closed_under_its_worker_ends_fetching(server: Server, broker: ObservedBroker) -> None:
    with server.new_worker("test", 1) as worker:
        broker.close()
        eventually(lambda: not worker._fetching[0].is_alive())


# -- what was fetched in hope -----------------------------------------------------------------------------------------------


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


# -- stopping ---------------------------------------------------------------------------------------------------------------


def test_quitting_lets_running_tasks_finish_and_hands_back_what_has_not_started(
    server: Server, broker: ObservedBroker, gate: Gate, journal: Journal
) -> None:
    @server.task
    def behind() -> None:
        pass

    worker = server.new_worker("test", 1)
    worker._executor.mean_duration = 1e-9  # it takes tasks for short ones, and fetches all
    running = gate.task.send()
    waiting = [behind.send() for _ in range(3)]
    worker.start()
    gate.wait_until_entered()

    # When
    worker.quit()
    eventually(lambda: len(journal.of("nack")) == 3)
    assert not worker.join(0)
    gate.opened.set()
    assert worker.join(10)

    # Then
    assert running.get(timeout=1) == "through"
    assert len(server.pending_tasks()) == 3
    assert all(not result.task_state().is_completed for result in waiting)
    assert journal.of("ack") == ["ack gated"]


def test_what_still_runs_after_the_drain_timeout_is_handed_back_and_no_crash(
    broker: ObservedBroker, backend: ObservedBackend
) -> None:
    server = Server(Config(drain_timeout=0.05), broker, backend)
    gate = Gate(server)
    worker = server.new_worker("test", 1)
    worker.start()
    result = gate.task.send()
    gate.wait_until_entered()
    eventually(lambda: result.state is State.STARTED)

    # When
    quit_and_join(worker)

    # Then
    assert result.state is State.RECEIVED
    assert len(server.pending_tasks()) == 1
    gate.opened.set()
    with server.new_worker("next", 1):
        assert result.get(timeout=10) == "through"
    assert result.task_state().crashes == 0
    assert gate.runs == 2


def test_coroutines_that_still_run_after_the_drain_timeout_are_cancelled_and_handed_back(
    broker: ObservedBroker, backend: ObservedBackend
) -> None:
    server = Server(Config(drain_timeout=0.05), broker, backend)
    entered = threading.Semaphore(0)
    cancelled: list[bool] = []

    @server.task
    async def endless() -> None:
        entered.release()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    worker = server.new_worker("test", 1)
    worker.start()
    result = endless.send()
    assert entered.acquire(timeout=10)
    quit_and_join(worker)

    assert cancelled == [True]
    assert result.state is State.RECEIVED
    assert len(server.pending_tasks()) == 1


def test_quitting_twice_leaves_at_once(server: Server, gate: Gate) -> None:
    worker = server.new_worker("test", 1)
    worker.start()
    result = gate.task.send()
    gate.wait_until_entered()

    worker.quit()
    assert not worker.join(0.05)
    worker.quit()
    assert worker.join(5)
    assert not result.task_state().is_completed
    assert len(server.pending_tasks()) == 1


def test_quitting_while_a_service_is_away_ends_after_the_drain_timeout(
    broker: ObservedBroker, backend: ObservedBackend, journal: Journal
) -> None:
    server = Server(Config(drain_timeout=0.1), broker, backend)

    @server.task
    def good() -> int:
        return 1

    worker = server.new_worker("test", 1)
    journal.be_away("save", BackendUnavailable("away"))
    result = good.send()
    worker.start()
    eventually(lambda: journal.of("save?"))
    quit_and_join(worker)

    # Then the message is there for the next worker
    journal.come_back()
    with server.new_worker("next", 1):
        assert result.get(timeout=10) == 1


def test_what_ends_while_it_is_handed_back_is_either_settled_or_run_again(
    broker: ObservedBroker, backend: ObservedBackend
) -> None:
    server = Server(Config(drain_timeout=0), broker, backend)
    started = threading.Semaphore(0)

    @server.task
    def brief() -> None:
        started.release()
        threading.Event().wait(0.001)

    results = server.send_tasks([brief.signature() for _ in range(300)])
    while server.pending_tasks(limit=1):
        worker = server.new_worker("test", 4)
        worker.start()
        assert started.acquire(timeout=10)
        quit_and_join(worker)
    with server.new_worker("last", 4):
        for result in results:
            result.get(timeout=10)
    assert server.pending_tasks() == []


def test_a_worker_that_quits_under_load_loses_nothing_and_runs_nothing_twice(server: Server) -> None:
    runs: list[int] = []

    @server.task
    def count(number: int) -> None:
        runs.append(number)

    results = server.send_tasks([count.signature(number) for number in range(3000)])
    while server.pending_tasks(limit=1):
        worker = server.new_worker("test", 4)
        worker.start()
        before = len(runs)
        eventually(lambda before=before: len(runs) > before or not server.pending_tasks(limit=1))
        quit_and_join(worker)
    for result in results:
        result.get(timeout=10)
    assert sorted(runs) == list(range(3000))


def test_a_worker_starts_once(server: Server) -> None:
    worker = server.new_worker("test", 1)
    with worker, pytest.raises(ConfigError, match="started before"):
        worker.start()


def test_a_worker_told_to_quit_before_it_starts_does_not_start(server: Server) -> None:
    worker = server.new_worker("test", 1)
    worker.quit()
    worker.launch()
    assert worker.join(0)
    assert not worker._fetching


def test_a_worker_whose_start_fails_can_be_quit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(queue: str, name: str) -> None:
        raise Unsupported(f"no consumer of {queue} for {name}")

    monkeypatch.setattr(server.broker, "consumer", refuse)
    worker = server.new_worker("test", 1)
    with pytest.raises(Unsupported):
        worker.start()
    quit_and_join(worker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains(server: Server, gate: Gate, number: signal.Signals) -> None:
    result = gate.task.send()
    worker = server.new_worker("test", 1)

    def conduct() -> None:
        gate.wait_until_entered()
        os.kill(os.getpid(), number)
        eventually(worker._quitting.is_set)
        gate.opened.set()

    conductor = threading.Thread(target=conduct)
    conductor.start()
    before = signal.getsignal(number)
    worker.launch()
    conductor.join()

    assert result.get(timeout=1) == "through"
    assert signal.getsignal(number) is before


def test_the_second_signal_leaves_at_once(server: Server, gate: Gate) -> None:
    result = gate.task.send()
    worker = server.new_worker("test", 1)

    def conduct() -> None:
        gate.wait_until_entered()
        os.kill(os.getpid(), signal.SIGTERM)
        eventually(worker._quitting.is_set)
        os.kill(os.getpid(), signal.SIGTERM)

    conductor = threading.Thread(target=conduct)
    conductor.start()
    worker.launch()
    conductor.join()

    assert not result.task_state().is_completed


def test_signals_are_left_alone_where_the_configuration_says_so(
    broker: ObservedBroker, backend: ObservedBackend
) -> None:
    server = Server(Config(no_unix_signals=True), broker, backend)
    worker = server.new_worker("test", 1)
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []
    worker.set_pre_consume_handler(lambda me: bool(seen.append(signal.getsignal(signal.SIGTERM)) or me.quit()))
    worker.launch()
    assert seen[0] is before


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
