"""The application's own clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from machinery.abc import Config, Message
from machinery.errors import ConfigError
from machinery_broker_gcp import PubsubBroker
from tests.plugins.broker_gcp.conftest import PROJECT, MakeQueue
from tests.services.pubsub import Stubs


@pytest.fixture
def clients(pubsub_host: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Clients of google-cloud-pubsub, as an application makes them."""
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    publisher, subscriber = grpc.insecure_channel(pubsub_host), grpc.insecure_channel(pubsub_host)
    yield {
        "publisher": pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=publisher)),
        "subscriber": pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=subscriber)),
    }
    publisher.close()
    subscriber.close()


def test_the_applications_clients_will_do_and_stay_its_own(
    clients: dict[str, Any], make_queue: MakeQueue, config: Config, raw: Stubs
) -> None:
    queue = make_queue(config.default_queue)
    broker = PubsubBroker(PROJECT, f"sub-{queue}", config, **clients)
    broker.publish([Message(b"{}", queue)])
    consumer = broker.consumer(queue, "me")
    (delivery,) = consumer.receive(1, 15)
    assert delivery.body == b"{}"
    assert consumer.ack([delivery]) == []
    broker.close()

    # The clients still work.
    name = f"projects/{PROJECT}/topics/{queue}"
    assert clients["publisher"].get_topic(topic=name).name == name
    clients["publisher"].publish(name, b"mine").result(timeout=30)
    (mine,) = raw.pull(f"projects/{PROJECT}/subscriptions/sub-{queue}", 10)
    assert mine.message.data == b"mine"


def test_either_client_alone_will_do_too(
    clients: dict[str, Any], make_queue: MakeQueue, config: Config, pubsub_host: str
) -> None:
    queue = make_queue(config.default_queue)
    for name, client in clients.items():
        given = {name: client}
        broker = PubsubBroker(PROJECT, f"sub-{queue}", config, **given, emulator_host=pubsub_host)
        broker.publish([Message(b"{}", queue)])
        assert broker.purge(queue) == 1
        broker.close()


@pytest.mark.parametrize("name", ["publisher", "subscriber"])
def test_what_is_no_client_is_refused_by_name(name: str) -> None:
    wrong: dict[str, Any] = {name: object()}
    with pytest.raises(ConfigError, match=f"{name} is a object"):
        PubsubBroker(PROJECT, "workers", **wrong)


def test_a_client_that_does_not_speak_grpc_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    publisher = pubsub_v1.PublisherClient(transport="rest", credentials=AnonymousCredentials())  # type: ignore[no-untyped-call] # Google's own has no types
    with pytest.raises(ConfigError, match="whose transport is grpc"):
        PubsubBroker(PROJECT, "workers", publisher=publisher)


def test_the_clients_of_two_kinds_are_not_mistaken(clients: dict[str, Any]) -> None:
    make: Callable[..., PubsubBroker] = PubsubBroker
    with pytest.raises(ConfigError, match="subscriber is a"):
        make(PROJECT, "workers", subscriber=clients["publisher"])
