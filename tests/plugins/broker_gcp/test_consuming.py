"""What a consumer holds, lets go and hears of, beyond the contract."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any, ClassVar

import grpc
import pytest
from google.pubsub_v1 import types

from machinery import Server
from machinery.abc import Config, Consumer, Delivery, Message
from machinery.errors import BrokerUnavailable, ConfigError, PublishError, Unsupported
from machinery.testing._expectations import eventually, in_background
from machinery.testing._kept_consumer import KeptConsumer
from machinery_broker_gcp import PubsubBroker
from tests.plugins.broker_gcp.conftest import LEASE, PROJECT, Ended, MakeQueue, config_with
from tests.services.pubsub import Stubs

MakeBroker = Callable[..., PubsubBroker]


def subscription(name: str) -> str:
    return f"projects/{PROJECT}/subscriptions/{name}"


def publish(broker: PubsubBroker, queue: str, *bodies: str) -> None:
    broker.publish([Message(body.encode(), queue) for body in bodies])


def receive(consumer: Consumer, count: int) -> list[Delivery]:
    received: list[Delivery] = []

    def look() -> bool:
        received.extend(consumer.receive(count - len(received), 0.5))
        return len(received) == count

    eventually(look)
    return received


@contextmanager
def kept(broker: PubsubBroker, queue: str) -> Iterator[KeptConsumer]:
    with KeptConsumer(broker.consumer(queue, "me@here:1:0")) as consumer:
        yield consumer


class TestCapacity:
    def test_no_more_is_taken_than_the_consumer_was_resized_to(
        self, broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs
    ) -> None:
        queue = make_queue()
        publish(broker, queue, *"abcde")
        with kept(broker, queue) as consumer:
            consumer.resize(2)
            held = receive(consumer, 2)
            assert consumer.receive(5, 0.2) == []
            assert len(raw.pull(subscription(queue), 10, at_once=True)) == 3
            consumer.ack(held)

    def test_what_is_settled_makes_room_for_as_much(self, broker: PubsubBroker, make_queue: MakeQueue) -> None:
        queue = make_queue()
        publish(broker, queue, *"abcdef")
        with kept(broker, queue) as consumer:
            consumer.resize(2)
            for _ in range(3):
                assert consumer.ack(receive(consumer, 2)) == []

    def test_a_smaller_size_gives_what_was_not_looked_at_to_others(
        self, broker: PubsubBroker, make_broker: MakeBroker, make_queue: MakeQueue
    ) -> None:
        # Given a consumer that holds more than it has given out
        queue = make_queue()
        publish(broker, queue, *"abcdef")
        with kept(broker, queue) as consumer, kept(make_broker(), queue) as other:
            consumer.resize(6)
            held = receive(consumer, 1)
            eventually(lambda: len(inner(consumer)._inbox) == 5)

            # When it is to hold as much as it has given out
            consumer.resize(1)

            # Then another gets all that is left, and it itself gets the next only when it has settled that
            others = receive(other, 5)
            assert consumer.receive(1, 0.2) == []
            assert consumer.ack(held) == []
            publish(broker, queue, "g")
            other.stop()
            assert receive(consumer, 1)[0].body == b"g"
            other.ack(others)

    def test_sizes_that_go_up_and_down_open_few_streams_and_lose_nothing(
        self, broker: PubsubBroker, make_queue: MakeQueue
    ) -> None:
        queue = make_queue()
        bodies = [f"{number}" for number in range(300)]
        publish(broker, queue, *bodies)
        received: list[bytes] = []
        with kept(broker, queue) as consumer:
            for size in [1, 3, 8, 20, 5, 50, 2, 90, 10, 120] * 3:
                consumer.resize(size)
                deliveries = consumer.receive(10, 0.5)
                received += [delivery.body for delivery in deliveries]
                assert consumer.ack(deliveries) == []
                assert len(inner(consumer)._streams) <= 6
            while len(received) < 300:
                deliveries = consumer.receive(100, 5)
                received += [delivery.body for delivery in deliveries]
                assert consumer.ack(deliveries) == []
        assert sorted(received) == sorted(body.encode() for body in bodies)

    def test_all_that_was_held_is_accounted_for(self, broker: PubsubBroker, make_queue: MakeQueue) -> None:
        queue = make_queue()
        publish(broker, queue, *map(str, range(60)))
        with kept(broker, queue) as consumer:
            consumer.resize(20)
            acked = 0
            while acked < 60:
                deliveries = consumer.receive(20, 5)
                if len(deliveries) > 3:  # of the last three none would ever be done
                    consumer.nack(deliveries[:1])
                    consumer.postpone(deliveries[1:2], timedelta(0))
                    deliveries[2].handle.until = 0.0  # as if it had not been renewed in time
                    assert consumer.ack(deliveries[2:3]) == deliveries[2:3]
                    inner(consumer)._client.modify(inner(consumer)._subscription, [deliveries[2].handle.ack_id], 0)
                    deliveries = deliveries[3:]
                acked += len(deliveries) - len(consumer.ack(deliveries))
            assert inner(consumer)._unsettled == len(inner(consumer)._inbox) == 0
            assert inner(consumer)._loans == {}


def inner(consumer: KeptConsumer) -> Any:
    return consumer._inner


def test_what_has_lain_for_a_while_is_renewed_before_it_is_given_out(
    broker: PubsubBroker, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    publish(broker, queue, *"ab")
    consumer = broker.consumer(queue, "me")
    consumer.resize(2)
    (first,) = receive(consumer, 1)
    eventually(lambda: len(consumer._inbox) == 1)
    consumer._inbox[0].handle.since -= LEASE / 3
    consumer._inbox[0].handle.until -= LEASE / 3
    before = consumer._inbox[0].handle.until
    (second,) = receive(consumer, 1)
    assert second.handle.until > before
    assert consumer.ack([first, second]) == []


def test_a_cut_wakes_who_waits_and_what_is_on_loan_stays(broker: PubsubBroker, make_queue: MakeQueue) -> None:
    queue = make_queue()
    publish(broker, queue, "a")
    with kept(broker, queue) as consumer:
        (held,) = receive(consumer, 1)

        def wait() -> None:
            with pytest.raises(BrokerUnavailable, match="were cut"):
                consumer.receive(1, 30)

        with in_background(wait) as waiting:
            eventually(lambda: inner(consumer)._is_receiving)
            consumer.reset()
            waiting()
        assert consumer.ack([held]) == []
        publish(broker, queue, "b")
        (delivery,) = receive(consumer, 1)
        assert delivery.body == b"b"
        assert consumer.ack([delivery]) == []


def test_a_stream_that_ends_after_it_was_well_is_opened_again_without_a_word(
    broker: PubsubBroker, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    publish(broker, queue, "a")
    with kept(broker, queue) as consumer:
        assert consumer.ack(receive(consumer, 1)) == []
        (stream,) = inner(consumer)._streams
        stream._call.cancel()
        assert stream.wait(10)
        publish(broker, queue, "b")
        (delivery,) = receive(consumer, 1)
        assert delivery.body == b"b"
        assert consumer.ack([delivery]) == []


def test_a_stream_that_ends_before_a_message_came_is_an_error_and_not_opened_again_at_once(
    broker: PubsubBroker, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = broker.consumer(make_queue(), "me")

    def stream(*_: Any) -> Iterator[Any]:
        yield types.StreamingPullResponse.pb()()  # Pub/Sub may say first what the subscription is like
        raise Ended(grpc.StatusCode.UNAVAILABLE, "not now")

    monkeypatch.setattr(broker._client, "stream", stream)
    with pytest.raises(BrokerUnavailable, match="not now"):
        consumer.receive(1, 15)


def test_a_delivery_after_the_first_is_known_where_pubsub_counts(
    broker: PubsubBroker, make_queue: MakeQueue, config: Config
) -> None:
    queue = make_queue()
    publish(broker, queue, "a")
    with kept(broker, queue) as consumer:
        (first,) = receive(consumer, 1)
        assert first.redelivered is None
        consumer.nack([first])
        (second,) = receive(consumer, 1)
        assert second.redelivered is True
        assert second.message_id == first.message_id
        consumer.ack([second])


def test_without_dead_letters_nothing_is_rejected(make_queue: MakeQueue, url: str) -> None:
    queue = make_queue()
    with_none = PubsubBroker.from_url(url, config_with(dead_letters=False))
    publish(with_none, queue, "a")
    with kept(with_none, queue) as consumer:
        held = receive(consumer, 1)
        with pytest.raises(Unsupported, match="dead_letters"):
            consumer.reject(held, "contract")
        consumer.ack(held)
    with pytest.raises(Unsupported, match="dead_letters"):
        with_none.dead(queue, 1)
    with_none.close()


def test_what_pubsub_itself_gave_up_is_a_dead_letter_too(
    broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs
) -> None:
    # Given a policy that somebody made stricter than ours
    queue = make_queue()
    policy_topic = f"projects/{PROJECT}/topics/{queue}-dead"
    raw.delete_subscription(subscription(queue))
    raw.create_subscription(
        subscription(queue),
        f"projects/{PROJECT}/topics/{queue}",
        dead_letter_policy={"dead_letter_topic": policy_topic, "max_delivery_attempts": 5},
    )
    publish(broker, queue, "a")

    # When a message was delivered as often
    with kept(broker, queue) as consumer:
        for _ in range(5):
            consumer.nack(receive(consumer, 1))
        assert consumer.receive(1, 0.2) == []

    # Then it is listed with the others, and can be sent again
    (letter,) = eventually(lambda: broker.dead(queue, 10))
    assert letter.body == b"a"
    assert letter.reason == "Pub/Sub gave it up after 5 deliveries (max_delivery_attempts)"
    assert broker.requeue_dead(queue, [letter.id]) == 1
    (again,) = raw.pull(subscription(queue), 10)
    assert dict(again.message.attributes) == {}


def test_a_reason_of_any_length_is_kept_as_far_as_it_fits(broker: PubsubBroker, make_queue: MakeQueue) -> None:
    queue = make_queue()
    publish(broker, queue, "a")
    with kept(broker, queue) as consumer:
        assert consumer.reject(receive(consumer, 1), "✓" * 1000) == []
    (letter,) = broker.dead(queue, 1)
    assert letter.reason == "✓" * 340 + "…"


def test_what_dies_again_at_once_is_not_sent_again_for_ever(
    broker: PubsubBroker, make_broker: MakeBroker, make_queue: MakeQueue
) -> None:
    # Given a worker that rejects whatever comes
    queue = make_queue()
    publish(broker, queue, *map(str, range(200)))
    stopped = threading.Event()
    rejected: list[Delivery] = []

    def reject() -> None:
        while not stopped.is_set():
            deliveries = consumer.receive(200, 0.2)
            consumer.reject(deliveries, "again")
            rejected.extend(deliveries)

    with kept(broker, queue) as consumer, in_background(reject) as ended:
        consumer.resize(200)
        eventually(lambda: len(rejected) >= 200)

        # When all dead letters are sent again, then that ends although they die again
        counts: list[int] = []
        requeuing = threading.Thread(target=lambda: counts.append(make_broker().requeue_dead(queue)), daemon=True)
        requeuing.start()
        requeuing.join(30)
        has_ended = not requeuing.is_alive()
        stopped.set()
        ended()
        requeuing.join(10)
    assert has_ended
    assert counts[0] > 0


class TestExactlyOnce:
    def test_an_acknowledgement_that_pubsub_refuses_is_told(
        self, broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs
    ) -> None:
        queue = make_queue("", "--exactly-once")
        publish(broker, queue, *"abc")
        with kept(broker, queue) as consumer:
            held = receive(consumer, 3)
            consumer.stop()
            # Somebody settles one of them behind our back.
            raw.acknowledge(subscription(queue), [held[1].handle.ack_id])
            assert consumer.extend(held) == [held[1]]
            assert consumer.ack(held) == [held[1]]
        assert raw.pull(subscription(queue), 10, at_once=True) == []

    def test_what_was_lost_before_it_was_given_out_is_not(
        self, broker: PubsubBroker, make_queue: MakeQueue, raw: Stubs
    ) -> None:
        queue = make_queue("", "--exactly-once")
        publish(broker, queue, *"ab")
        with kept(broker, queue) as consumer:
            consumer.resize(2)
            (first,) = receive(consumer, 1)
            eventually(lambda: inner(consumer)._inbox)
            raw.acknowledge(subscription(queue), [inner(consumer)._inbox[0].handle.ack_id])
            assert consumer.receive(1, 0.2) == []
            assert consumer.ack([first]) == []


class TestWithoutRights:
    """Google explains an error in the form in which it tells of single acknowledgements."""

    DENIED: ClassVar[dict[str, str]] = {
        "permission": "pubsub.subscriptions.consume",
        "service": "pubsub.googleapis.com",
    }

    def refuse(self, broker: PubsubBroker, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        """From now on Pub/Sub refuses these methods."""
        find = broker._client._stub

        def refused(*_: Any, **__: Any) -> Any:
            raise Ended(grpc.StatusCode.PERMISSION_DENIED, "User not authorized to perform this action.", self.DENIED)

        monkeypatch.setattr(
            broker._client, "_stub", lambda method: refused if method.path.endswith(names) else find(method)
        )

    def test_what_is_refused_as_a_whole_is_not_taken_for_done(
        self, broker: PubsubBroker, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queue = make_queue()
        publish(broker, queue, "a")
        with kept(broker, queue) as consumer:
            held = receive(consumer, 1)
            with monkeypatch.context() as meanwhile:
                self.refuse(broker, meanwhile, "/Acknowledge", "/ModifyAckDeadline")
                with pytest.raises(ConfigError, match="not the right"):
                    consumer.ack(held)
                with pytest.raises(ConfigError, match="not the right"):
                    inner(consumer).extend(held)
            assert consumer.ack(held) == []

    def test_workers_do_without_the_right_to_look(
        self, broker: PubsubBroker, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queue = make_queue()
        publish(broker, queue, "a")
        self.refuse(broker, monkeypatch, "/GetTopic", "/GetSubscription")
        with kept(broker, queue) as consumer:
            assert consumer.ack(receive(consumer, 1)) == []

    def test_a_sender_is_told_which_messages_were_refused(
        self, broker: PubsubBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.refuse(broker, monkeypatch, "/Publish")
        with pytest.raises(PublishError, match="not the right") as caught:
            publish(broker, "queue", "a", "b")
        assert set(caught.value.failures) == {0, 1}


class TestLongestHold:
    @pytest.fixture
    def config(self) -> Config:
        return config_with(ack_deadline=2, max_extension=1.5)

    def test_what_is_held_for_too_long_is_let_go(self, broker: PubsubBroker, url: str, make_queue: MakeQueue) -> None:
        queue = make_queue()
        publish(broker, queue, "a")
        with (
            closing(PubsubBroker.from_url(url, config_with())) as patient,
            kept(broker, queue) as consumer,
            kept(patient, queue) as other,
        ):
            (held,) = receive(consumer, 1)
            consumer.stop()
            (again,) = receive(other, 1)
            assert again.message_id == held.message_id
            assert consumer.extend([held]) == [held]
            assert other.ack([again]) == []


def test_what_nobody_can_read_is_a_dead_letter_and_the_rest_runs(
    make_queue: MakeQueue, url: str, config: Config, raw: Stubs
) -> None:
    queue = make_queue(config.default_queue)
    with Server.from_config(config.with_(broker=url, result_backend="memory://own")) as server:
        broker = server.broker

        @server.task
        def good() -> str:
            return "good"

        raw.publish(f"projects/{PROJECT}/topics/{queue}", b"\xff no json", b"[]")
        result = good.send()
        with server.new_worker("w", 2):
            assert result.get(timeout=30) == "good"
            letters = eventually(lambda: len(found := broker.dead(queue, 10)) == 2 and found)
        assert isinstance(letters, list)
        assert {letter.body for letter in letters} == {b"\xff no json", b"[]"}
        assert all("undecodable" in letter.reason for letter in letters)
        assert broker.purge(queue) == 0


def test_a_task_that_outlives_many_leases_runs_once(make_queue: MakeQueue, url: str, config: Config) -> None:
    make_queue(config.default_queue)
    lease = 4  # two thirds are left when it is renewed: so long a busy machine does not stand still
    short = config.with_(sections={"gcp_pub_sub": {"ack_deadline": lease}})
    runs: list[int] = []
    with Server.from_config(short.with_(broker=url, result_backend="memory://own")) as server:

        @server.task
        def long(leases: int) -> None:
            import time  # noqa: PLC0415 - what a task does

            runs.append(leases)
            time.sleep(leases * lease)

        with server.new_worker("one", 1), server.new_worker("other", 1):
            long.send(3).get(timeout=60)
    assert runs == [3]
