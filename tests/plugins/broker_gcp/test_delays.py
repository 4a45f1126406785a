"""What waits for its time: sent away, held, published, and never forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Any

import pytest

from machinery.abc import Config, Message
from machinery.errors import BrokerUnavailable, ConfigError, Unsupported
from machinery.testing._expectations import eventually
from machinery.testing._kept_consumer import KeptConsumer
from machinery_broker_gcp import PubsubBroker, _delays
from machinery_broker_gcp._client import ACKNOWLEDGE, PUBLISH
from machinery_broker_gcp._delays import HELD, HOPS, _hop
from tests.plugins.broker_gcp.conftest import PROJECT, MakeQueue
from tests.services.pubsub import Stubs

MakeBroker = Callable[..., PubsubBroker]


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def subscription(name: str) -> str:
    return f"projects/{PROJECT}/subscriptions/{name}"


def kept(broker: PubsubBroker, queue: str) -> KeptConsumer:
    return KeptConsumer(broker.consumer(queue, "me@here:1:0"))


def delays_of(consumer: KeptConsumer) -> Any:
    return consumer._inner._delays  # type: ignore[attr-defined] # it is a PubsubConsumer


@pytest.mark.parametrize("rest", [HELD + 0.01, 20, 44, 46, 100, 599, 700, 86400.0, 1e9])
def test_what_is_sent_away_comes_back_before_its_time(rest: float) -> None:
    assert _hop(rest) in HOPS
    assert _hop(rest) < rest


def test_a_long_delay_costs_few_hops() -> None:
    rest, hops = 3600.0, 0
    while rest > HELD:
        rest -= _hop(rest)
        hops += 1
    assert hops <= 6 + len(HOPS)


def test_what_is_due_later_is_leased_and_not_held(broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs) -> None:
    queue = make_queue()
    broker.publish([Message(b"later", queue, eta=soon(3600)), Message(b"soon", queue, eta=soon(10))])
    with kept(broker, queue) as consumer:
        eventually(lambda: len(delays_of(consumer)._held) == 1)
        assert consumer.receive(1, 0) == []
        assert raw.pull(subscription(f"{queue}-delay"), 10, at_once=True) == []


def test_what_a_keeper_holds_goes_to_others_when_it_stops(
    broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs
) -> None:
    queue = make_queue()
    broker.publish([Message(b"soon", queue, eta=soon(10))])
    with kept(broker, queue) as consumer:
        eventually(lambda: delays_of(consumer)._held)
    (received,) = eventually(lambda: raw.pull(subscription(f"{queue}-delay"), 10))
    assert received.message.data == b"soon"


def test_what_is_being_sent_on_is_acknowledged_before_all_is_closed(
    broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue()
    raw.publish(f"projects/{PROJECT}/topics/{queue}-delay", b"due at once")
    monkeypatch.setattr(_delays, "_GOODBYE", 15.0)  # a busy machine may take longer than is waited for otherwise
    begun = threading.Event()
    done: list[Any] = []
    call = broker._client.call

    def slow(method: Any, request: Any, **options: Any) -> Any:
        if method is PUBLISH:
            begun.set()
            time.sleep(0.2)
        answer = call(method, request, **options)
        done.append(method)
        return answer

    monkeypatch.setattr(broker._client, "call", slow)
    consumer = broker.consumer(queue, "me")
    consumer.maintain()
    assert begun.wait(15)
    consumer.close()
    assert done == [PUBLISH, ACKNOWLEDGE]


def test_what_lies_there_without_a_time_is_due(broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs) -> None:
    queue = make_queue()
    raw.publish(f"projects/{PROJECT}/topics/{queue}-delay", b"from somebody")
    with kept(broker, queue) as consumer:
        (delivery,) = consumer.receive(1, 15)
        assert delivery.body == b"from somebody"
        assert consumer.ack([delivery]) == []


def test_what_comes_due_has_its_ordering_key_and_no_attributes(
    broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs
) -> None:
    queue = make_queue()
    broker.publish([Message(b"soon", queue, eta=soon(0.3), ordering_key="key")])
    consumer = broker.consumer(queue, "me")
    consumer.maintain()
    found = eventually(lambda: raw.pull(subscription(queue), 10, at_once=True))
    assert found[0].message.ordering_key == "key"
    assert dict(found[0].message.attributes) == {}


def test_what_gets_old_is_published_again_before_pubsub_drops_it(
    broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a message that waits for a long time, seen and given back
    queue = make_queue()
    eta = soon(3600)
    broker.publish([Message(b"later", queue, eta=eta)])
    (first,) = raw.pull(subscription(f"{queue}-delay"), 10)
    raw.modify(subscription(f"{queue}-delay"), [first.ack_id], 0)

    # When a keeper finds it to be old
    monkeypatch.setattr(_delays, "RENEWED_AFTER", timedelta(seconds=-60))
    put = broker._publisher.put
    renewed: SimpleQueue[tuple[str, Any]] = SimpleQueue()

    def note(topic: str, contents: Any) -> None:
        monkeypatch.undo()  # once is enough
        put(topic, contents)
        renewed.put((topic, contents))

    monkeypatch.setattr(broker._publisher, "put", note)
    with kept(broker, queue):
        topic, (again,) = renewed.get(timeout=15)

        # Then a copy of it waits for the same time
        assert topic == f"{queue}-delay"
        assert again.data == b"later"
        assert datetime.fromisoformat(again.attributes["machinery_eta"]) == eta


def test_what_is_due_does_not_wait_for_what_cannot_be_published_again(
    broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue()
    broker.publish([Message(b"later", queue, eta=soon(3600)), Message(b"soon", queue, eta=soon(0.5))])
    time.sleep(0.6)  # both come at once
    monkeypatch.setattr(_delays, "RENEWED_AFTER", timedelta(seconds=-60))

    def refuse(*_: Any) -> None:
        raise Unsupported("not this one")

    monkeypatch.setattr(broker._publisher, "put", refuse)
    broker.consumer(queue, "me").maintain()
    (received,) = eventually(lambda: raw.pull(subscription(queue), 10))
    assert received.message.data == b"soon"


def test_what_was_published_is_not_published_again_with_what_was_not(
    broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two that are due and go in calls of their own, of which Pub/Sub does not take the second at first
    queue = make_queue()
    broker.publish([Message(key.encode(), queue, eta=soon(0.5), ordering_key=key) for key in ("good", "bad")])
    time.sleep(0.6)
    call = broker._client.call
    refusals = iter(range(3))

    def refuse(method: Any, request: Any, **options: Any) -> Any:
        if method is PUBLISH and request.messages[0].ordering_key == "bad" and next(refusals, None) is not None:
            raise BrokerUnavailable("not now")
        return call(method, request, **options)

    monkeypatch.setattr(broker._client, "call", refuse)

    # When a keeper has sent both on
    broker.consumer(queue, "me").maintain()
    bodies: list[bytes] = []

    def both_came() -> bool:
        received = raw.pull(subscription(queue), 10)
        raw.acknowledge(subscription(queue), [each.ack_id for each in received])
        bodies.extend(each.message.data for each in received)
        return b"bad" in bodies

    assert eventually(both_came)

    # Then each was sent once
    assert sorted(bodies) == [b"bad", b"good"]


def test_a_topic_of_delays_that_is_gone_is_told_by_the_keeper(
    broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs, config: Config
) -> None:
    queue = make_queue()
    raw.delete_subscription(subscription(f"{queue}-delay"))
    consumer = broker.consumer(queue, "me")

    def complaint() -> str:
        try:
            consumer.maintain()
        except ConfigError as error:
            return str(error)
        return ""

    assert f"{queue}-delay" in eventually(complaint)
    assert "create-resources" in eventually(complaint)


def test_thousands_that_are_due_together_are_shared_by_keepers(
    broker: PubsubBroker, make_broker: MakeBroker, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    broker.publish([Message(f"{number}".encode(), queue, eta=soon(1)) for number in range(600)])
    with kept(broker, queue) as one, kept(make_broker(), queue) as other:
        bodies: set[bytes] = set()
        for consumer in [one, other] * 50:
            received = consumer.receive(300, 1)
            consumer.ack(received)
            bodies |= {delivery.body for delivery in received}
            if len(bodies) == 600:
                break
    assert len(bodies) == 600
