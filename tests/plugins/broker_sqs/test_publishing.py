"""What is sent: bodies as Go's, batches that fit, refusals by position, and FIFO's ids."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from machinery import Server, Signature
from machinery.abc import Config, Message
from machinery.errors import BrokerUnavailable, Closed, ConfigError, DelayTooLong, MessageTooLarge, PublishError
from machinery.memory import MemoryBackend
from machinery.wire import decode_signature
from machinery_broker_sqs import SqsBroker
from machinery_broker_sqs._content import LARGEST_MESSAGE
from tests.plugins.broker_sqs.conftest import config_with

if TYPE_CHECKING:
    from tests.services.sqs import Queues


def test_a_message_is_as_go_writes_it_a_body_and_no_attributes(
    broker: SqsBroker, sqs_queues: Queues, queue: str
) -> None:
    with Server(config_with(queue), broker, MemoryBackend()) as server:
        server.send_task(Signature("add", [1], headers={"tenant": "acme"}, broker_message_group_id="ignored"))
    (message,) = sqs_queues.take(queue)
    assert decode_signature(message["Body"].encode()).routing_key == ""
    assert "MessageAttributes" not in message


@pytest.mark.parametrize("seconds", [0.2, 1.4], ids=["below-a-second", "with-a-fraction"])
def test_a_delay_is_rounded_up_and_always_said(seconds: float, broker: SqsBroker, sqs_queues: Queues) -> None:
    queue = sqs_queues.create(DelaySeconds=600)  # which holds for what says nothing of it
    begin = datetime.now(UTC)
    broker.publish([Message(b"now", queue), Message(b"later", queue, begin + timedelta(seconds=seconds))])
    came: dict[str, datetime] = {}
    while len(came) < 2:
        found = sqs_queues.take(queue, wait=20)
        assert found
        came.update({each["Body"]: datetime.now(UTC) for each in found})
    assert came["later"] - begin >= timedelta(seconds=seconds)


def test_a_batch_is_split_by_what_one_request_may_hold(broker: SqsBroker, sqs_queues: Queues, queue: str) -> None:
    bodies = [bytes([97 + number]) * 400_000 for number in range(5)]
    broker.publish([Message(body, queue) for body in bodies])
    assert sorted(each["Body"][0] for each in sqs_queues.take(queue)) == list("abcde")


def test_the_largest_message_passes_and_comes_back_whole_with_its_copies(broker: SqsBroker, queue: str) -> None:
    broker.publish([Message(b"x" * LARGEST_MESSAGE, queue)])
    with closing(broker.consumer(queue, "c")) as consumer:
        (delivery,) = consumer.receive(1, 10)
        consumer.postpone([delivery], timedelta(0))
        (delivery,) = consumer.receive(1, 10)
        assert len(delivery.body) == LARGEST_MESSAGE
        assert consumer.reject([delivery], "no") == []
    (letter,) = broker.dead(queue, 1)
    assert len(letter.body) == LARGEST_MESSAGE


def test_what_a_queue_itself_takes_no_more_is_refused_by_position(broker: SqsBroker, sqs_queues: Queues) -> None:
    queue = sqs_queues.create(MaximumMessageSize=2000)
    with pytest.raises(MessageTooLarge) as caught:
        broker.publish([Message(b"a", queue), Message(b"b" * 2001, queue), Message(b"c", queue)])
    assert set(caught.value.failures) == {1}
    assert sorted(each["Body"] for each in sqs_queues.take(queue)) == ["a", "c"]


def test_messages_to_a_queue_that_is_not_there_are_named_and_the_others_sent(
    broker: SqsBroker, sqs_queues: Queues, queue: str
) -> None:
    with pytest.raises(PublishError, match="machinery sqs create-queues") as caught:
        broker.publish([Message(b"a", "nowhere"), Message(b"b", queue)])
    assert isinstance(caught.value.failures[0], ConfigError)
    assert [each["Body"] for each in sqs_queues.take(queue)] == ["b"]
    with pytest.raises(ConfigError, match="nowhere"):
        broker.consumer("nowhere", "c").receive(1, 0)


class Scripted:
    """A driver that gives the answers it was told to, then the real ones."""

    def __init__(self, inner: Any, answers: list[Any]) -> None:
        self.inner = inner
        self.answers = answers
        self.asked: list[list[str]] = []
        self.meta = inner.meta

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def send_message_batch(self, **parameters: Any) -> Any:
        self.asked.append([entry["MessageBody"] for entry in parameters["Entries"]])
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            return self.inner.send_message_batch(**parameters)
        failing = {each["Id"] for each in answer}
        kept = [entry for entry in parameters["Entries"] if entry["Id"] not in failing]
        if kept:
            self.inner.send_message_batch(**{**parameters, "Entries": kept})
        return {"Failed": answer}


@pytest.fixture
def scripted(broker: SqsBroker) -> Callable[..., Scripted]:
    def script(*answers: Any) -> Scripted:
        driver = Scripted(broker._client.driver(), list(answers))
        broker._client._drivers = (driver, driver)
        return driver

    return script


def failed(entry: int, code: str, *, sender: bool = False) -> dict[str, Any]:
    return {"Id": str(entry), "Code": code, "SenderFault": sender, "Message": code}


def test_what_failed_for_now_is_sent_again_alone(
    broker: SqsBroker, scripted: Callable[..., Scripted], sqs_queues: Queues, queue: str
) -> None:
    driver = scripted([failed(1, "InternalError")], ClientError({"Error": {"Code": "Throttling"}}, "SendMessageBatch"))
    broker.publish([Message(body.encode(), queue) for body in "abc"])
    assert driver.asked == [["a", "b", "c"], ["b"], ["b"]]
    assert sorted(each["Body"] for each in sqs_queues.take(queue)) == ["a", "b", "c"]


def test_what_goes_on_failing_for_now_is_unavailable_and_named(
    sqs_url: str, scripted: Callable[..., Scripted], broker: SqsBroker, queue: str
) -> None:
    broker._client.patience = 0.2
    scripted(*[[failed(1, "InternalError")] for _ in range(20)])
    with pytest.raises(PublishError, match="InternalError") as caught:
        broker.publish([Message(body.encode(), queue) for body in "abc"])
    assert isinstance(caught.value.failures[1], BrokerUnavailable)
    assert set(caught.value.failures) == {1}


def test_what_failed_for_good_is_named(
    broker: SqsBroker, scripted: Callable[..., Scripted], sqs_queues: Queues, queue: str
) -> None:
    scripted([failed(0, "InvalidMessageContents", sender=True)])
    with pytest.raises(PublishError, match="InvalidMessageContents") as caught:
        broker.publish([Message(body.encode(), queue) for body in "ab"])
    assert set(caught.value.failures) == {0}
    assert [each["Body"] for each in sqs_queues.take(queue)] == ["b"]


def test_a_connection_that_was_closed_while_unused_is_made_anew(
    broker: SqsBroker, scripted: Callable[..., Scripted], sqs_queues: Queues, queue: str
) -> None:
    scripted(ConnectionClosedError(endpoint_url="http://x"))
    broker.publish([Message(b"a", queue)])
    assert [each["Body"] for each in sqs_queues.take(queue)] == ["a"]


def test_what_follows_a_batch_of_unknown_fate_is_not_sent_before_it(
    broker: SqsBroker, scripted: Callable[..., Scripted], queue: str
) -> None:
    lost = [ConnectionClosedError(endpoint_url="http://x") for _ in range(2)]
    driver = scripted(None, *lost)
    with pytest.raises(PublishError) as caught:
        broker.publish([Message(b"%d" % number, queue) for number in range(30)])
    assert set(caught.value.failures) == set(range(10, 30))
    assert {type(reason) for reason in caught.value.failures.values()} == {BrokerUnavailable}
    assert len(driver.asked) == 3

    scripted(*[ConnectionClosedError(endpoint_url="http://x") for _ in range(2)])
    with pytest.raises(BrokerUnavailable):  # nothing is known of any
        broker.publish([Message(b"a", queue)])


TOO_LONG = ClientError({"Error": {"Code": "BatchRequestTooLong"}}, "SendMessageBatch")
EXPIRED = ClientError({"Error": {"Code": "ExpiredToken"}}, "SendMessageBatch")


@pytest.mark.parametrize(
    ("answers", "refused"),
    [
        ([TOO_LONG, None, *[ConnectionClosedError(endpoint_url="http://x") for _ in range(2)]], {2, 3}),
        ([[failed(1, "InternalError")], EXPIRED], {1}),
    ],
    ids=["second-half-lost", "rights-lost-between"],
)
def test_what_was_accepted_before_the_rest_failed_is_not_named(
    answers: list[Any],
    refused: set[int],
    broker: SqsBroker,
    scripted: Callable[..., Scripted],
    sqs_queues: Queues,
    queue: str,
) -> None:
    scripted(*answers)
    with pytest.raises(PublishError) as caught:
        broker.publish([Message(b"%d" % number, queue) for number in range(4)])
    assert set(caught.value.failures) == refused
    assert {int(each["Body"]) for each in sqs_queues.take(queue)} == {0, 1, 2, 3} - refused


# -- FIFO -------------------------------------------------------------------------------------------------------------------


def test_a_group_is_kept_and_without_one_each_message_is_its_own(
    broker: SqsBroker, sqs_queues: Queues, fifo_queue: str
) -> None:
    broker.publish(
        [
            Message(b"1", fifo_queue, ordering_key="g", dedup_id="task_1"),
            Message(b"2", fifo_queue, dedup_id="task_2"),
            Message(b"3", fifo_queue, dedup_id="task_3"),
            Message(b"4", fifo_queue, ordering_key="größe ✓", dedup_id="x" * 200),
        ]
    )
    found = {each["Body"]: each["Attributes"] for each in sqs_queues.take(fifo_queue)}
    assert found["1"]["MessageGroupId"] == "g"
    assert found["1"]["MessageDeduplicationId"] == "task_1"
    assert len({each["MessageGroupId"] for each in found.values()}) == 4


def test_a_workers_double_is_dropped_and_neither_a_retry_nor_what_an_application_sends_again(
    broker: SqsBroker, sqs_queues: Queues, fifo_queue: str
) -> None:
    task = Signature("job", uuid="task_once", broker_message_group_id="g", routing_key=fifo_queue, headers={})
    with Server(config_with(fifo_queue), broker, MemoryBackend()) as server:
        server.sender.submit([task])
        server.sender.submit([task])
        server.sender.publish([task.with_(headers={"machinery_attempt": "2"})])
        server.send_task(task)
        server.send_task(task)
    ids = [each["Attributes"]["MessageDeduplicationId"] for each in sqs_queues.take(fifo_queue)]
    assert ids[:2] == ["task_once", "task_once:2"]
    assert len(set(ids)) == 4


def test_an_eta_on_a_fifo_queue_is_refused_when_it_is_sent(broker: SqsBroker, fifo_queue: str) -> None:
    later = datetime.now(UTC) + timedelta(minutes=1)
    with Server(Config(), broker, MemoryBackend()) as server, pytest.raises(DelayTooLong, match="holds nothing back"):
        server.send_task(Signature("job", eta=later, routing_key=fifo_queue))


def test_a_closed_broker_publishes_nothing(make_broker: Callable[..., SqsBroker], queue: str) -> None:
    broker = make_broker()
    broker.close()
    with pytest.raises(Closed):
        broker.publish([])
