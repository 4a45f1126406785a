"""The topics and subscriptions that a queue needs: looked for, and made by ``machinery gcp create-resources``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.protobuf import duration_pb2
from google.pubsub_v1 import types

from machinery.errors import ConfigError
from machinery_broker_gcp._client import (
    CREATE_SUBSCRIPTION,
    CREATE_TOPIC,
    GET_SUBSCRIPTION,
    GET_TOPIC,
    Client,
    Subscription,
    Topic,
)
from machinery_broker_gcp._errors import AlreadyThere, Denied
from machinery_broker_gcp._names import dead_of, delay_of

GetTopic = types.GetTopicRequest.pb()
GetSubscription = types.GetSubscriptionRequest.pb()

_GONE = "_deleted-topic_"
MOST_ATTEMPTS = 100
"""Deliveries after which Pub/Sub itself gives a message up, where we make the policy: as many as can be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What new subscriptions are to be like."""

    ack_deadline: timedelta
    retention: timedelta
    exactly_once: bool
    ordering: bool


def check_resources(client: Client, queue: str) -> None:
    """Raise `ConfigError` unless all that workers of ``queue`` need is there. Asked once for each broker and queue.

    The right to ask is another one than that to work: where it is missing, nothing is said here.
    """
    if queue in client.checked:
        return
    names = client.names
    _check_subscription(client, names.subscription_of(queue), queue)
    for beside in [delay_of(queue), *([dead_of(queue)] if client.service.options.dead_letters else [])]:
        find_topic(client, beside)
        _check_subscription(client, beside, beside)  # a topic without one drops what it is sent
    client.checked.add(queue)


def _check_subscription(client: Client, name: str, topic: str) -> None:
    """Raise `ConfigError` where it is missing, or is another topic's; nothing when we may not look."""
    found = find_subscription(client, name)
    if found is not None and (what := of_another(client, found, name, topic)):
        raise ConfigError(what)


def of_another(client: Client, found: Any, name: str, topic: str) -> str:
    """What is wrong with the subscription that was ``found`` for ``topic``; empty: it is one of that topic."""
    if found.topic == client.names.topic(topic):
        return ""
    other = "a topic that was deleted" if found.topic == _GONE else repr(found.topic.rpartition("/")[2])
    return f"the subscription {name!r} is one of {other}, not of {topic!r}: what is sent there is never received"


def find_topic(client: Client, name: str) -> Any:
    """The topic of that short name; ``None`` when we may not look. Raises `ResourceMissing`, `BrokerUnavailable`."""
    return _asked(client, GET_TOPIC, GetTopic(topic=client.names.topic(name)))


def find_subscription(client: Client, name: str) -> Any:
    """The subscription of that short name; ``None`` when we may not look. Raises `ResourceMissing`, `BrokerUnavailable`."""
    return _asked(client, GET_SUBSCRIPTION, GetSubscription(subscription=client.names.subscription(name)))


def _asked(client: Client, method: Any, request: Any) -> Any:
    try:
        return client.call(method, request)
    except Denied:
        return None


def create(client: Client, queue: str, wanted: Wanted) -> Iterator[str]:
    """Make what ``queue`` needs, each unless it is there. Yields what was done, a line each.

    Raises as calls do, and `ConfigError` for a subscription that is there and is another topic's.
    """
    names = client.names
    dead, delay = dead_of(queue), delay_of(queue)
    for name in (queue, delay, dead):
        yield _make(client, CREATE_TOPIC, Topic(name=names.topic(name)), f"topic {name}")
    plain = {
        "ack_deadline_seconds": max(10, int(wanted.ack_deadline.total_seconds())),
        "message_retention_duration": _duration(wanted.retention),
        "expiration_policy": types.ExpirationPolicy.pb()(),
    }
    policy = types.DeadLetterPolicy.pb()(dead_letter_topic=names.topic(dead), max_delivery_attempts=MOST_ATTEMPTS)
    main = Subscription(
        **plain,
        name=names.subscription(names.subscription_of(queue)),
        topic=names.topic(queue),
        enable_exactly_once_delivery=wanted.exactly_once,
        enable_message_ordering=wanted.ordering,
        dead_letter_policy=policy,
    )
    yield _make(client, CREATE_SUBSCRIPTION, main, f"subscription {names.subscription_of(queue)} of {queue}")
    _check_subscription(client, names.subscription_of(queue), queue)
    for name in (delay, dead):
        made = Subscription(**plain, name=names.subscription(name), topic=names.topic(name))
        yield _make(client, CREATE_SUBSCRIPTION, made, f"subscription {name} of {name}")
        _check_subscription(client, name, name)


def _make(client: Client, method: Any, request: Any, what: str) -> str:
    try:
        client.call(method, request)
    except AlreadyThere:
        return f"{what}: is there"
    return f"{what}: made"


def _duration(span: timedelta) -> Any:
    return duration_pb2.Duration(seconds=int(span.total_seconds()))
