"""What is sent is what Go sends; what is refused is named by its position."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import grpc
import pytest

from machinery.abc import Config, Message
from machinery.errors import BrokerUnavailable, Closed, ConfigError, MessageTooLarge, PublishError, Unsupported
from machinery_broker_gcp import PubsubBroker
from machinery_broker_gcp._errors import Refused, ResourceMissing, translate
from machinery_broker_gcp._publishing import BYTES_AT_ONCE, LARGEST_MESSAGE
from tests.plugins.broker_gcp.conftest import PROJECT, Ended, MakeQueue
from tests.services.processes import free_port
from tests.services.pubsub import PubsubServer, Stubs

HOUR = timedelta(hours=1)


def subscription(name: str) -> str:
    return f"projects/{PROJECT}/subscriptions/{name}"


def test_a_message_is_as_go_writes_it(broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs) -> None:
    queue = make_queue()
    broker.publish([Message(b"{}", queue, priority=3, dedup_id="task_1", headers={"tenant": "acme"})])
    (received,) = raw.pull(subscription(queue), 10)
    assert received.message.data == b"{}"
    assert dict(received.message.attributes) == {}
    assert received.message.ordering_key == ""


def test_an_ordering_key_travels_with_its_message(broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs) -> None:
    queue = make_queue()
    broker.publish([Message(b"{}", queue, ordering_key="customer 7")])
    (received,) = raw.pull(subscription(queue), 10)
    assert received.message.ordering_key == "customer 7"


def test_an_eta_sends_to_the_queues_topic_of_delays(broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs) -> None:
    queue = make_queue()
    eta = datetime.now(UTC) + HOUR
    broker.publish([Message(b"later", queue, eta=eta, ordering_key="key"), Message(b"past", queue, eta=eta - 2 * HOUR)])
    (now,) = raw.pull(subscription(queue), 10)
    assert now.message.data == b"past"
    (later,) = raw.pull(subscription(f"{queue}-delay"), 10)
    assert later.message.data == b"later"
    assert datetime.fromisoformat(later.message.attributes["machinery_eta"]) == eta
    assert later.message.attributes["machinery_ordering_key"] == "key"
    assert later.message.ordering_key == ""


def test_a_topic_that_is_missing_names_the_command_and_the_others_are_sent(
    broker: PubsubBroker, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    with pytest.raises(PublishError) as caught:
        broker.publish([Message(b"a", queue), Message(b"b", "nobody-made-me"), Message(b"c", queue)])
    assert set(caught.value.failures) == {1}
    reason = caught.value.failures[1]
    assert isinstance(reason, ConfigError)
    assert "machinery gcp create-resources gcppubsub://" in str(reason)
    assert "--queue nobody-made-me" in str(reason)
    assert broker.purge(queue) == 2


def test_what_pubsub_cannot_take_is_refused_by_position(broker: PubsubBroker, make_queue: MakeQueue) -> None:
    queue = make_queue()
    with pytest.raises(PublishError) as caught:
        broker.publish(
            [
                Message(b"", queue),
                Message(b"good", queue),
                Message(b"x", queue, ordering_key="k" * 1025),
                Message(b"x", "with space"),
                Message(b"x" * (LARGEST_MESSAGE + 1), queue),
            ]
        )
    assert {at: type(reason) for at, reason in caught.value.failures.items()} == {
        0: Unsupported,
        2: Unsupported,
        3: ConfigError,
        4: MessageTooLarge,
    }
    assert broker.purge(queue) == 1


def test_messages_go_in_calls_of_the_size_that_pubsub_takes(broker: PubsubBroker, make_queue: MakeQueue) -> None:
    queue = make_queue()
    largest = Message(b"x" * LARGEST_MESSAGE, queue)
    half = Message(b"y" * (BYTES_AT_ONCE // 2), queue)
    broker.publish([half, half, largest, *[Message(b"z", queue)] * 2500])
    assert broker.purge(queue) == 2503


def test_each_call_has_messages_of_one_ordering_key(broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs) -> None:
    queue = make_queue()
    broker.publish(
        [Message(f"{number}".encode(), queue, ordering_key=["", "a", "b"][number % 3]) for number in range(9)]
    )
    bodies: dict[str, list[bytes]] = {"": [], "a": [], "b": []}
    for received in raw.pull(subscription(queue), 10):
        bodies[received.message.ordering_key].append(received.message.data)
    assert bodies == {"": [b"0", b"3", b"6"], "a": [b"1", b"4", b"7"], "b": [b"2", b"5", b"8"]}


@pytest.mark.timeout(60)
def test_while_pubsub_is_away_nothing_was_accepted_and_that_is_said(config: Config) -> None:
    url = f"gcppubsub://{PROJECT}/workers?connect_timeout=0.3&emulator_host=127.0.0.1:{free_port()}"
    broker = PubsubBroker.from_url(url, config)
    with pytest.raises(BrokerUnavailable, match="cannot reach Pub/Sub at 127"):
        broker.publish([Message(b"a", "queue"), Message(b"b", "other")])
    with pytest.raises(BrokerUnavailable):
        broker.purge("queue")
    with pytest.raises(BrokerUnavailable):
        broker.consumer("queue", "me").receive(1, 5)
    broker.close()
    with pytest.raises(Closed):
        broker.publish([Message(b"a", "queue")])


def test_a_short_absence_is_sat_out(pubsub_server: PubsubServer, config: Config) -> None:
    url = f"gcppubsub://{PROJECT}/sub-{config.default_queue}?connect_timeout=60&emulator_host={pubsub_server.host}"
    queue = config.default_queue
    assert PubsubBroker.commands["create-resources"]([url, "--default-queue", queue]) == 0
    broker = PubsubBroker.from_url(url, config)
    broker.publish([Message(b"before", queue)])
    pubsub_server.kill()
    pubsub_server.start()
    broker.publish([Message(b"after", queue)])
    assert broker.purge(queue) >= 2
    broker.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, BrokerUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, BrokerUnavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, BrokerUnavailable),
        (grpc.StatusCode.INTERNAL, BrokerUnavailable),
        (grpc.StatusCode.CANCELLED, BrokerUnavailable),
        (grpc.StatusCode.NOT_FOUND, ResourceMissing),
        (grpc.StatusCode.PERMISSION_DENIED, ConfigError),
        (grpc.StatusCode.UNAUTHENTICATED, ConfigError),
        (grpc.StatusCode.INVALID_ARGUMENT, Refused),
        (grpc.StatusCode.FAILED_PRECONDITION, Refused),
        (grpc.StatusCode.UNIMPLEMENTED, Refused),
    ],
    ids=lambda value: getattr(value, "name", getattr(value, "__name__", "")),
)
def test_every_end_of_a_call_has_its_error(code: grpc.StatusCode, kind: type[Exception]) -> None:
    assert isinstance(translate(Ended(code, "words"), "here", "gcppubsub://p/s", "projects/p/topics/t"), kind)


def test_refused_credentials_are_no_outage() -> None:
    ended = Ended(grpc.StatusCode.UNAVAILABLE, "Getting metadata from plugin failed with error: ('invalid_grant: …')")
    error = translate(ended, "here", "gcppubsub://p/s")
    assert isinstance(error, ConfigError)
    assert "gcloud auth" in str(error)
