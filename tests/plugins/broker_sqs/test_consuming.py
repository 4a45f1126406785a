"""Loans, hand-backs and what a worker makes of them: SQS's own ways."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from machinery import Server, Signature, State, TaskFailed
from machinery.abc import Delivery, Message
from machinery.errors import BrokerUnavailable
from machinery.memory import MemoryBackend
from machinery.wire import encode_signature
from machinery_broker_sqs import SqsBroker, _consumer
from machinery_broker_sqs._batches import carry_out
from tests.plugins.broker_sqs.conftest import config_with
from tests.services.proxy import CuttingProxy

if TYPE_CHECKING:
    from tests.services.sqs import Queues

PATIENCE = 30.0
LEASE = 4
"""Seconds, of which two thirds are left when it is renewed: so long a busy machine does not stand still."""


def eventually(probe: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not probe():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def gets_through(call: Callable[[], object]) -> bool:
    """Whether it does, where a busy SQS may be too slow for a patience that is short."""
    try:
        call()
    except BrokerUnavailable:
        return False
    return True


def test_what_arrives_after_stop_is_given_back_at_once(broker: SqsBroker, sqs_queues: Queues) -> None:
    queue = sqs_queues.create()
    broker = SqsBroker.from_url(sqs_queues.url, config_with(receive_visibility_timeout=600))
    consumer = broker.consumer(queue, "c")
    asked = threading.Event()
    receive = broker._client.receive

    def noted(*arguments: object, **parameters: object) -> None:
        asked.set()
        receive(*arguments, **parameters)  # type: ignore[arg-type]  # passed on as it came

    broker._client.receive = noted  # type: ignore[method-assign]  # to know when SQS is asked
    waiting = threading.Thread(target=consumer.receive, args=(1, 20))
    waiting.start()
    assert asked.wait(PATIENCE)
    consumer.stop()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    sqs_queues.send(queue, "late")  # to the request that still waits, most likely
    broker.close()
    eventually(lambda: sqs_queues.take(queue))  # in seconds, and not when ten minutes are over


def test_what_nobody_waits_for_any_more_is_not_asked_for(sqs_url: str, queue: str) -> None:
    broker = SqsBroker.from_url(sqs_url, config_with(receivers=1))  # and so two helpers
    consumer = broker.consumer(queue, "c")
    asked: list[object] = []
    answered = threading.Event()

    def receive(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        answered.wait(PATIENCE)

    broker._client.receive = receive  # type: ignore[method-assign]  # SQS is silent
    broker._client.patience = 0.05
    try:
        for _ in range(3):
            with pytest.raises(BrokerUnavailable, match="does not answer"):
                consumer.receive(1, 0)
    finally:
        answered.set()
    consumer.close()
    consumer._receiver._helpers.shutdown(wait=True)
    assert len(asked) <= 2
    broker.close()


@pytest.mark.parametrize(("timeout", "waits"), [(0, 0), (0.9, 0), (1, 1), (5.0, 5), (60, 20)])
def test_sqs_waits_for_all_the_seconds_that_a_receive_may_take(
    timeout: float, waits: int, broker: SqsBroker, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def take(_limit: int, wait: int, _requests: int) -> None:
        asked.append(wait)

    with closing(broker.consumer(queue, "c")) as consumer:
        monkeypatch.setattr(consumer._receiver, "take", take)
        clock = chain([100.0], repeat(100.03))  # a moment has passed when SQS is asked
        monkeypatch.setattr(_consumer, "monotonic", lambda: next(clock))
        with pytest.raises(BrokerUnavailable):
            consumer.receive(1, timeout)
    assert asked == [waits]


def test_reset_makes_a_receive_that_waits_fail_and_the_next_one_works(broker: SqsBroker, queue: str) -> None:
    with closing(broker.consumer(queue, "c")) as consumer:
        caught: list[Exception] = []

        def receive() -> None:
            try:
                consumer.receive(1, 20)
            except BrokerUnavailable as error:
                caught.append(error)

        waiting = threading.Thread(target=receive)
        waiting.start()
        eventually(lambda: consumer._receiver._round is not None)
        while waiting.is_alive():
            consumer.reset()
            waiting.join(0.05)
        assert len(caught) == 1
        broker.publish([Message(b"a", queue)])
        received = consumer.receive(1, 10) or consumer.receive(1, 10)
        assert [each.body for each in received] == [b"a"]


def test_a_receive_does_not_wait_for_a_connection_that_has_gone_silent(sqs_url: str, queue: str) -> None:
    where = urlsplit(sqs_url)
    with CuttingProxy(str(where.hostname), where.port or 0) as proxy:
        url = f"sqs://127.0.0.1:{proxy.port}{where.path}"
        with closing(SqsBroker.from_url(url, config_with(read_timeout=3))) as broker:
            consumer = broker.consumer(queue, "c")
            eventually(lambda: gets_through(lambda: consumer.receive(1, 0)))  # connected from here on
            proxy.black_hole()
            begin = time.monotonic()
            with pytest.raises(BrokerUnavailable, match="does not answer"):
                consumer.receive(1, 1)
            assert time.monotonic() - begin < 15  # and not the 20 s that another receive might wait
            proxy.restore()
            eventually(lambda: gets_through(lambda: broker.publish([Message(b"a", queue)])))
            received: list[Delivery] = []
            eventually(lambda: gets_through(lambda: received.extend(consumer.receive(1, 1))) and received)
            assert {each.body for each in received} == {b"a"}


def test_what_is_given_back_while_it_is_renewed_stays_given_back(
    broker: SqsBroker, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[int] = []
    renewing, given_back = threading.Event(), threading.Event()

    def slow(client: Any, operation: str, queue: str, address: str, entries: Sequence[Mapping[str, Any]]) -> Any:
        seconds = entries[0]["VisibilityTimeout"]
        if seconds:
            renewing.set()
            given_back.wait(0.5)  # SQS would hear of this last, if it could
        said.append(seconds)
        return carry_out(client, operation, queue, address, entries)

    broker.publish([Message(b"a", queue)])
    with closing(broker.consumer(queue, "c")) as consumer:
        (delivery,) = consumer.receive(1, 10)
        monkeypatch.setattr(_consumer, "carry_out", slow)
        keeper = threading.Thread(target=consumer.extend, args=([delivery],))
        keeper.start()
        assert renewing.wait(10)
        assert consumer.nack([delivery]) == []
        given_back.set()
        keeper.join()
        assert said[-1] == 0
        monkeypatch.undo()
        (again,) = consumer.receive(1, 10)
        consumer.ack([again])


def test_a_postponed_message_is_counted_anew_and_a_given_back_one_is_not(broker: SqsBroker, sqs_queues: Queues) -> None:
    queue = sqs_queues.with_dead_letters(max_receives=3)
    broker.publish([Message(b"a", queue)])
    with closing(broker.consumer(queue, "c")) as consumer:
        for _ in range(4):  # more often than the redrive policy would allow
            (delivery,) = consumer.receive(1, 10)
            assert delivery.redelivered is not True
            assert consumer.postpone([delivery], timedelta(0)) == []
        for _ in range(3):
            (delivery,) = consumer.receive(1, 10)
            assert consumer.nack([delivery]) == []
        assert consumer.receive(1, 0) == []
    (letter,) = broker.dead(queue, 10)  # SQS has moved it
    assert letter.body == b"a"
    assert "redrive policy" in letter.reason
    assert broker.requeue_dead(queue) == 1
    assert [each["Body"] for each in sqs_queues.take(queue)] == ["a"]


def test_an_original_whose_copy_is_sent_goes_though_its_lease_ended_before_sqs_was_back(
    broker: SqsBroker, sqs_queues: Queues, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.publish([Message(b"a", queue)])
    with closing(broker.consumer(queue, "c")) as consumer:
        received = consumer.receive(1, 10)
        assert len(received) == 1

        def fail(_: object) -> set[int]:
            raise BrokerUnavailable("gone")

        with monkeypatch.context() as away:
            away.setattr(consumer, "_delete", fail)
            with pytest.raises(BrokerUnavailable):
                consumer.postpone(received, timedelta(0))
        received[0].handle.ends = 0.0
        assert consumer.postpone(received, timedelta(0)) == []
    assert sqs_queues.counts(queue) == (1, 0, 0)


def test_attributes_of_others_survive_a_postponement(broker: SqsBroker, sqs_queues: Queues, queue: str) -> None:
    trace = {"trace": {"DataType": "String", "StringValue": "1"}}
    sqs_queues.send(queue, "a", MessageAttributes=trace)
    with closing(broker.consumer(queue, "c")) as consumer:
        received = consumer.receive(1, 10)
        assert len(received) == 1
        assert consumer.postpone(received, timedelta(0)) == []
    (found,) = sqs_queues.take(queue)
    assert found["MessageAttributes"]["trace"]["StringValue"] == "1"


def test_many_are_received_by_several_requests_at_once(broker: SqsBroker, queue: str) -> None:
    broker.publish([Message(b"%d" % number, queue) for number in range(80)])
    with closing(broker.consumer(queue, "c")) as consumer:
        sizes: list[int] = []
        while sum(sizes) < 80:
            batch = consumer.receive(40, 10)
            sizes.append(len(batch))
            assert consumer.ack(batch) == []
        assert max(sizes) > 10


# -- with a worker ----------------------------------------------------------------------------------------------------------


def test_a_task_that_takes_three_leases_runs_once(broker: SqsBroker, sqs_queues: Queues, sqs_url: str) -> None:
    queue = sqs_queues.create()
    config = config_with(queue, receive_visibility_timeout=LEASE)
    runs: list[str] = []
    with Server(config, SqsBroker.from_url(sqs_url, config), MemoryBackend()) as server:

        def slow() -> None:
            runs.append("run")
            threading.Event().wait(3 * LEASE)

        server.register_task("slow", slow)
        with server.new_worker("one", 1), server.new_worker("two", 1):
            server.send_task(Signature("slow")).get(timeout=3 * LEASE + PATIENCE)
    assert runs == ["run"]
    assert sqs_queues.counts(queue) == (0, 0, 0)


def test_an_eta_beyond_what_sqs_holds_comes_by_hops_that_nobody_counts(
    broker: SqsBroker, sqs_queues: Queues, queue: str
) -> None:
    broker._capabilities = replace(broker.capabilities, max_delay=timedelta(seconds=1))
    queue = sqs_queues.with_dead_letters(max_receives=2)
    with Server(config_with(queue), broker, MemoryBackend()) as server:
        server.register_task("when", lambda: datetime.now(UTC).isoformat())
        eta = datetime.now(UTC) + timedelta(seconds=3.5)
        with server.new_worker("w", 1):
            result = server.send_task(Signature("when", eta=eta))
            assert datetime.fromisoformat(str(result.get(timeout=PATIENCE))) >= eta
    assert broker.dead(queue, 10) == []


@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
def test_a_task_that_arrives_before_its_time_waits(fifo: bool, sqs_queues: Queues, sqs_url: str) -> None:
    queue = sqs_queues.with_dead_letters(fifo=fifo)
    config = config_with(queue)
    with Server(config, SqsBroker.from_url(sqs_url, config), MemoryBackend()) as server:
        server.register_task("when", lambda: datetime.now(UTC).isoformat())
        eta = datetime.now(UTC) + timedelta(seconds=1.5)
        early = Signature("when", uuid="task_early", eta=eta)  # as Go sends it: up to a second early
        more = {"MessageGroupId": "g", "MessageDeduplicationId": "task_early"} if fifo else {}
        sqs_queues.send(queue, encode_signature(early).decode(), **more)
        with server.new_worker("w", 1):
            assert datetime.fromisoformat(str(server.result("task_early").get(timeout=PATIENCE))) >= eta


def test_tasks_of_one_group_run_one_after_the_other_and_retries_are_not_swallowed(
    sqs_url: str, fifo_queue: str
) -> None:
    config = config_with(fifo_queue)
    lock = threading.Lock()
    order: list[int] = []
    failures = iter([True, False])
    with Server(config, SqsBroker.from_url(sqs_url, config), MemoryBackend()) as server:

        def step(number: int) -> None:
            assert lock.acquire(blocking=False), "two at once"
            try:
                order.append(number)
            finally:
                lock.release()

        def flaky() -> str:
            if next(failures):
                raise ValueError("once")
            return "fine"

        server.register_tasks({"step": step, "flaky": flaky})
        with server.new_worker("w", 4):
            results = server.send_tasks(
                Signature("step", [number], broker_message_group_id="steps") for number in range(6)
            )
            again = server.send_task(Signature("flaky", retry_count=1, broker_message_group_id="other"))
            for result in results:
                result.get(timeout=PATIENCE)
            assert again.get(timeout=PATIENCE) == "fine"
    assert order == list(range(6))


@pytest.mark.parametrize(
    "body", [b"no signature", b'{"UUID":"u","Name":"x","RetryCount":"3"}'], ids=["text", "wrong-type"]
)
def test_poison_goes_to_the_dead_letters_and_others_run(body: bytes, broker: SqsBroker, queue: str) -> None:
    with Server(config_with(queue), broker, MemoryBackend()) as server:
        server.register_task("add", lambda: 1)
        broker.publish([Message(body, queue)])
        with server.new_worker("w", 2):
            assert server.send_task(Signature("add")).get(timeout=PATIENCE) == 1
            eventually(lambda: broker.dead(queue, 1))
        (letter,) = broker.dead(queue, 10)
        assert "undecodable" in letter.reason


def test_poison_on_a_queue_without_dead_letters_is_dropped_with_all_it_said(
    broker: SqsBroker, sqs_queues: Queues, caplog: pytest.LogCaptureFixture
) -> None:
    queue = sqs_queues.create()
    with Server(config_with(queue), broker, MemoryBackend()) as server:
        broker.publish([Message(b"no signature", queue)])
        with caplog.at_level(logging.ERROR, "machinery"), server.new_worker("w", 1):
            eventually(lambda: sqs_queues.counts(queue) == (0, 0, 0))
            eventually(lambda: "given up and dropped" in caplog.text)
    assert "no signature" in caplog.text


def test_an_unknown_task_does_not_spin(broker: SqsBroker, sqs_queues: Queues, queue: str) -> None:
    with Server(config_with(queue), broker, MemoryBackend()) as server:
        with server.new_worker("w", 2):
            result = server.send_task(Signature("unknown"))
            eventually(lambda: sqs_queues.counts(queue)[2] == 1)  # it waits, and is held by nobody
        assert result.state is State.PENDING


def test_a_failed_task_whose_message_is_to_stay_becomes_a_dead_letter(broker: SqsBroker, queue: str) -> None:
    with Server(config_with(queue), broker, MemoryBackend()) as server:

        def boom() -> None:
            raise ValueError("kaputt")

        server.register_task("boom", boom)
        with server.new_worker("w", 1):
            with pytest.raises(TaskFailed, match="kaputt"):
                server.send_task(Signature("boom", stop_task_deletion_on_error=True)).get(timeout=PATIENCE)
            with pytest.raises(TaskFailed, match="kaputt"):
                server.send_task(Signature("boom")).get(timeout=PATIENCE)
            eventually(lambda: broker.dead(queue, 10))
        (letter,) = broker.dead(queue, 10)
    assert letter.reason == "kaputt"
