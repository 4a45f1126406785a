"""The Pub/Sub of the tests does what the documentation of Google's says."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

import grpc
import pytest

pytest.importorskip("google.pubsub_v1", reason="needs google-cloud-pubsub", exc_type=ImportError)

from google.protobuf import duration_pb2
from google.pubsub_v1 import types

from tests.services.chain import is_required, obtained
from tests.services.pubsub import PubsubServer, Stubs, from_container
from tests.services.pubsub_server.journal import Journal
from tests.services.pubsub_server.project import Project, PubsubMessage, Refusal, SubscriptionConfig, TopicConfig
from tests.services.pubsub_server.subscription import Taker

TOPIC = "projects/p/topics/t"
DEAD_TOPIC = "projects/p/topics/dead"
NAME = "projects/p/subscriptions/s"


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Scene:
    """A topic and its subscription, at a time that the test says."""

    def __init__(self, journal: Journal | None = None, **config: Any) -> None:
        self.clock = Clock()
        self.project = Project(journal, self.clock)
        if TOPIC not in self.project.topics:
            self.project.create_topic(TopicConfig(name=TOPIC))
            self.project.create_topic(TopicConfig(name=DEAD_TOPIC))
            self.project.create_subscription(SubscriptionConfig(name=NAME, topic=TOPIC, **config))
        self.subscription = self.project.subscription(NAME)

    def publish(self, *bodies: bytes, key: str = "") -> None:
        self.project.publish(TOPIC, [PubsubMessage(data=body, ordering_key=key) for body in bodies])

    def pull(self, limit: int = 100, lease: float = 10) -> dict[bytes, str]:
        """The bodies of what there is, with their acknowledgement ids."""
        return self.given(Taker(lease, limit))

    def given(self, taker: Taker) -> dict[bytes, str]:
        self.subscription.pass_time(self.clock())
        self.subscription.lend([taker], self.clock())
        given = {received.message.data: received.ack_id for received in taker.outbox}
        taker.outbox.clear()
        return given

    def hand_back(self, *ack_ids: str) -> None:
        self.project.modify(NAME, ack_ids, 0)


def test_what_is_acknowledged_is_gone_and_the_rest_comes_back_in_its_old_place() -> None:
    scene = Scene()
    scene.publish(b"1", b"2", b"3")
    first = scene.pull(2)
    assert list(first) == [b"1", b"2"]
    scene.project.acknowledge(NAME, [first[b"2"]])
    scene.hand_back(first[b"1"])
    assert list(scene.pull()) == [b"1", b"3"]


def test_a_lease_runs_out_unless_it_is_renewed() -> None:
    scene = Scene()
    scene.publish(b"renewed", b"left")
    first = scene.pull()
    scene.clock.time += 9
    scene.project.modify(NAME, [first[b"renewed"]], 30)
    scene.clock.time += 1
    assert list(scene.pull()) == [b"left"]
    scene.clock.time += 29
    assert b"renewed" in scene.pull()


def test_a_lease_may_be_made_shorter() -> None:
    scene = Scene()
    scene.publish(b"1")
    first = scene.pull(lease=600)
    scene.project.modify(NAME, [first[b"1"]], 5)
    assert scene.subscription.changes_at() == scene.clock() + 5
    scene.clock.time += 5
    assert list(scene.pull()) == [b"1"]


def test_an_old_acknowledgement_id_settles_nothing() -> None:
    scene = Scene()
    scene.publish(b"1")
    first = scene.pull()
    scene.clock.time += 10
    scene.project.acknowledge(NAME, [first[b"1"]])  # not exactly once: nobody is told
    second = scene.pull()
    scene.project.acknowledge(NAME, [first[b"1"]])
    scene.hand_back(first[b"1"])
    assert not scene.pull()
    assert second[b"1"] != first[b"1"]


def test_with_exactly_once_delivery_an_old_id_is_an_error_and_the_others_are_settled() -> None:
    scene = Scene(enable_exactly_once_delivery=True)
    scene.publish(b"1", b"2")
    first = scene.pull(1)
    scene.clock.time += 10
    second = scene.pull()
    with pytest.raises(Refusal) as refusal:
        scene.project.acknowledge(NAME, [first[b"1"], second[b"2"]])
    assert refusal.value.invalid == [first[b"1"]]
    assert len(scene.subscription) == 1


def test_nobody_holds_more_than_it_wants() -> None:
    scene = Scene()
    scene.publish(*(str(number).encode() for number in range(5)))
    taker = Taker(10, 2)
    first = scene.given(taker)
    assert list(first) == [b"0", b"1"]
    assert not scene.given(taker)
    scene.project.acknowledge(NAME, [first[b"0"]])
    scene.hand_back(first[b"1"])
    assert list(scene.given(taker)) == [b"1", b"2"]
    scene.clock.time += 10
    assert len(scene.given(taker)) == 2


def test_two_streams_share_what_there_is() -> None:
    scene = Scene()
    scene.publish(*(str(number).encode() for number in range(10)))
    takers = [Taker(10, 100), Taker(10, 3)]
    scene.subscription.lend(takers, scene.clock())
    assert [taker.held for taker in takers] == [7, 3]


def test_idle_streams_take_turns() -> None:
    scene = Scene()
    takers = [Taker(10, 100), Taker(10, 100)]
    for turn in (0, 1, 0, 1):
        scene.publish(b"1")
        scene.subscription.lend(takers, scene.clock())
        assert [len(taker.outbox) for taker in takers] == [1 - turn, turn]
        scene.project.acknowledge(NAME, [takers[turn].outbox.pop().ack_id])


def test_messages_of_a_key_go_to_one_taker_in_order() -> None:
    scene = Scene(enable_message_ordering=True)
    scene.publish(b"1", b"2", b"3", key="k")
    scene.publish(b"free")
    one, other = Taker(10, 2), Taker(10, 100)
    first = scene.given(one)
    assert list(first) == [b"1", b"2"]
    assert list(scene.given(other)) == [b"free"]
    scene.project.acknowledge(NAME, [first[b"1"]])
    assert list(scene.given(other)) == []
    scene.project.acknowledge(NAME, [first[b"2"]])
    assert list(scene.given(other)) == [b"3"]


def test_what_comes_back_of_a_key_brings_what_came_later_with_it() -> None:
    scene = Scene(enable_message_ordering=True)
    scene.publish(b"1", b"2", b"3", key="k")
    first = scene.pull()
    scene.hand_back(first[b"1"])
    assert list(scene.pull()) == [b"1", b"2", b"3"]


def test_nothing_of_a_key_passes_what_backs_off() -> None:
    scene = Scene(
        enable_message_ordering=True,
        retry_policy=types.RetryPolicy.pb()(minimum_backoff=duration_pb2.Duration(seconds=10)),
    )
    scene.publish(b"1", b"2", key="k")
    scene.hand_back(scene.pull(1)[b"1"])
    assert not scene.pull()
    scene.clock.time += 10
    assert list(scene.pull()) == [b"1", b"2"]


def test_a_retry_policy_makes_each_return_take_longer() -> None:
    policy = types.RetryPolicy.pb()(
        minimum_backoff=duration_pb2.Duration(seconds=4), maximum_backoff=duration_pb2.Duration(seconds=6)
    )
    scene = Scene(retry_policy=policy)
    scene.publish(b"1")
    for wait in (4, 6, 6):
        scene.hand_back(scene.pull()[b"1"])
        scene.clock.time += wait - 1
        assert not scene.pull()
        scene.clock.time += 1


def test_what_uses_up_its_attempts_becomes_a_dead_letter() -> None:
    policy = types.DeadLetterPolicy.pb()(dead_letter_topic=DEAD_TOPIC, max_delivery_attempts=5)
    scene = Scene(dead_letter_policy=policy)
    dead = SubscriptionConfig(name="projects/p/subscriptions/dead", topic=DEAD_TOPIC)
    scene.project.create_subscription(dead)
    scene.publish(b"poison")
    taker = Taker(10, 100)
    attempts = []
    for _ in range(5):
        scene.subscription.lend([taker], scene.clock())
        received = taker.outbox.pop()
        attempts.append(received.delivery_attempt)
        scene.hand_back(received.ack_id)
    assert attempts == [1, 2, 3, 4, 5]
    assert not scene.pull()
    assert len(scene.subscription) == 0
    scene.project.subscription(dead.name).lend([taker], scene.clock())
    assert taker.outbox[0].message.data == b"poison"
    assert taker.outbox[0].message.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"


def test_seeking_settles_what_is_older_whoever_has_it() -> None:
    scene = Scene(enable_message_ordering=True)
    scene.publish(b"1", b"2", key="k")
    scene.publish(b"3")
    scene.pull(1)
    scene.pull(1)
    scene.subscription.forget(2e10)
    scene.clock.time += 10
    assert not scene.pull()
    assert len(scene.subscription) == 0


def test_a_journal_keeps_what_was_promised(tmp_path: Path) -> None:
    scene = Scene(Journal(tmp_path / "journal"), enable_message_ordering=True)
    scene.publish(b"1", b"2", b"3")
    scene.project.acknowledge(NAME, [scene.pull(1)[b"1"]])
    scene.pull(1)
    with (tmp_path / "journal").open("ab") as file:
        file.write(b'["message", "cut sh')
    later = Scene(Journal(tmp_path / "journal"))
    assert list(later.pull()) == [b"2", b"3"]
    assert later.subscription.config.enable_message_ordering
    later.publish(b"4")
    assert list(later.pull()) == [b"4"]


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([], id="none"),
        pytest.param([PubsubMessage()], id="an empty one"),
        pytest.param([PubsubMessage(data=b"1")] * 1001, id="too many"),
        pytest.param([PubsubMessage(data=b"1" * 10_000_001)], id="too large"),
        pytest.param([PubsubMessage(data=b"1", attributes={"reason": "r" * 1025})], id="too long an attribute"),
        pytest.param([PubsubMessage(data=b"1", ordering_key=key) for key in "ab"], id="two ordering keys"),
    ],
)
def test_what_the_service_would_refuse_is_refused(messages: list[Any]) -> None:
    with pytest.raises(Refusal):
        Scene().project.publish(TOPIC, messages)


def test_a_subscription_is_changed_in_what_is_named() -> None:
    scene = Scene(enable_message_ordering=True)
    scene.project.update_subscription(
        SubscriptionConfig(name=NAME, ack_deadline_seconds=60, enable_message_ordering=False), ["ack_deadline_seconds"]
    )
    config = scene.project.subscription(NAME).config
    assert config.ack_deadline_seconds == 60
    assert config.enable_message_ordering


# -- over gRPC, on any server -----------------------------------------------------------------------------------------------


class Place:
    """A topic and its subscription that nobody else uses."""

    def __init__(self, host: str, **config: Any) -> None:
        own = uuid4().hex
        self.topic = f"projects/test/topics/t{own}"
        self.name = f"projects/test/subscriptions/s{own}"
        self.stubs = Stubs(host)
        self.stubs.create_topic(self.topic)
        self.stubs.create_subscription(self.name, self.topic, **config)

    def publish(self, *bodies: bytes) -> None:
        self.stubs.publish(self.topic, *bodies)

    def pull(self, limit: int = 100) -> list[Any]:
        return self.stubs.pull(self.name, limit)


@pytest.fixture
def place(pubsub_host: str) -> Iterator[Place]:
    place = Place(pubsub_host)
    with contextlib.closing(place.stubs):
        yield place


class Stream:
    """A StreamingPull, whose messages arrive in ``received`` as lists; at its end its error."""

    def __init__(self, place: Place, limit: int) -> None:
        self._requests: SimpleQueue[Any] = SimpleQueue()
        first = types.StreamingPullRequest.pb()(
            subscription=place.name, stream_ack_deadline_seconds=10, max_outstanding_messages=limit
        )
        self._requests.put(first)
        self.call = place.stubs.streaming_pull(iter(self._requests.get, None))
        self.received: SimpleQueue[Any] = SimpleQueue()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            for response in self.call:
                self.received.put(list(response.received_messages))
        except grpc.RpcError as error:
            self.received.put(error)
        else:
            self.received.put(None)

    def half_close(self) -> None:
        self._requests.put(None)


def test_messages_go_through(place: Place) -> None:
    place.publish(b"1", b"2")
    received = place.pull()
    assert sorted(each.message.data for each in received) == [b"1", b"2"]
    place.stubs.acknowledge(place.name, [each.ack_id for each in received])


def test_a_pull_waits_for_what_comes(place: Place) -> None:
    received: SimpleQueue[list[Any]] = SimpleQueue()
    thread = threading.Thread(target=lambda: received.put(place.pull()))
    thread.start()
    place.publish(b"1")
    assert [each.message.data for each in received.get()] == [b"1"]
    thread.join()


def test_a_stream_gets_what_comes_within_its_limit_and_ends_when_its_client_has_no_more_to_say(place: Place) -> None:
    stream = Stream(place, limit=1)
    place.publish(b"1", b"2")
    first = stream.received.get(timeout=20)
    assert len(first) == 1
    assert stream.received.empty()
    place.stubs.acknowledge(place.name, [first[0].ack_id])
    second = stream.received.get(timeout=20)
    assert {first[0].message.data, second[0].message.data} == {b"1", b"2"}
    stream.half_close()
    stream.thread.join(20)
    assert not stream.thread.is_alive()


def test_what_is_handed_back_comes_again_on_the_stream(place: Place) -> None:
    stream = Stream(place, limit=10)
    place.publish(b"1")
    first = stream.received.get(timeout=20)
    place.stubs.modify(place.name, [first[0].ack_id], 0)
    assert stream.received.get(timeout=20)[0].message.data == b"1"
    stream.call.cancel()
    stream.thread.join(20)


def test_what_is_not_there_is_named(place: Place) -> None:
    with pytest.raises(grpc.RpcError) as error:
        place.stubs.publish("projects/test/topics/absent", b"1")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as error:
        place.stubs.create_topic(place.topic)
    assert error.value.code() is grpc.StatusCode.ALREADY_EXISTS


def test_a_stream_of_a_subscription_that_is_deleted_ends(place: Place) -> None:
    stream = Stream(place, limit=10)
    place.publish(b"1")
    stream.received.get(timeout=20)
    place.stubs.delete_subscription(place.name)
    assert stream.received.get(timeout=20).code() is grpc.StatusCode.NOT_FOUND


# -- our own ----------------------------------------------------------------------------------------------------------------


def test_a_lease_that_runs_out_comes_again_by_itself(pubsub_server: PubsubServer) -> None:
    place = Place(pubsub_server.host)
    with contextlib.closing(place.stubs):
        place.publish(b"1")
        first = place.pull()
        place.stubs.modify(place.name, [first[0].ack_id], 1)
        stream = Stream(place, limit=10)
        assert stream.received.get(timeout=20)[0].message.data == b"1"
        stream.call.cancel()
        stream.thread.join(20)


def test_an_exactly_once_error_names_the_ids(pubsub_server: PubsubServer) -> None:
    place = Place(pubsub_server.host, enable_exactly_once_delivery=True)
    with contextlib.closing(place.stubs):
        place.publish(b"1")
        ack_id = place.pull()[0].ack_id
        place.stubs.acknowledge(place.name, [ack_id])
        with pytest.raises(grpc.RpcError) as error:
            place.stubs.acknowledge(place.name, [ack_id])
        assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        details = dict(error.value.trailing_metadata())["grpc-status-details-bin"]
        assert ack_id.encode() in details
        assert b"PERMANENT_FAILURE_INVALID_ACK_ID" in details


def test_a_durable_server_keeps_what_it_accepted_through_a_kill(pubsub_server: PubsubServer) -> None:
    place = Place(pubsub_server.host)
    with contextlib.closing(place.stubs):
        place.publish(b"1", b"2")
        place.stubs.acknowledge(place.name, [place.pull(1)[0].ack_id])
    pubsub_server.restart(kill=True)
    with contextlib.closing(Stubs(pubsub_server.host)) as stubs:
        assert [each.message.data for each in stubs.pull(place.name, 10)] == [b"2"]


@pytest.mark.testcontainers
@pytest.mark.skipif(
    not is_required("emulators"), reason="needs Google's emulator: MACHINERY_REQUIRE=emulators asks for it"
)
def test_a_container_gives_a_pubsub() -> None:
    """This has not been run: where it was written there was no way to Google's registry."""
    with obtained("emulators", {"testcontainers": from_container}) as host:
        place = Place(host)
        with contextlib.closing(place.stubs):
            place.publish(b"1")
            assert [each.message.data for each in place.pull()] == [b"1"]
