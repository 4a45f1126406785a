"""All topics and subscriptions, by their full names, and the limits that the service documents."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import grpc
from google.pubsub_v1 import types

from tests.services.pubsub_server.journal import Journal
from tests.services.pubsub_server.subscription import Subscription

TopicConfig = types.Topic.pb()
SubscriptionConfig = types.Subscription.pb()
PubsubMessage = types.PubsubMessage.pb()

MOST_MESSAGES = 1000
MOST_BYTES = 10_000_000
MOST_ACK_BYTES = 524_288
MOST_ATTRIBUTES = 100
LONGEST_ATTRIBUTE = 1024
LONGEST_LEASE = 600
SHORTEST_DEADLINE = 10
ATTEMPTS = range(5, 101)
PREFIX = "CloudPubSubDeadLetterSource"
"""Of the attributes that say where a dead letter comes from."""


class Refusal(Exception):
    """The service says no. ``invalid``: the acknowledgement ids that are the reason."""

    def __init__(self, code: grpc.StatusCode, text: str, invalid: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.code = code
        self.invalid = invalid


def not_found(name: str) -> Refusal:
    """There is no such topic or subscription."""
    return Refusal(grpc.StatusCode.NOT_FOUND, f"Resource not found (resource={name}).")


def refuse_unless(condition: object, text: str) -> None:
    """Raise a `Refusal` of the request."""
    if not condition:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)


class Project:
    """The state of the server. ``clock`` gives monotonic seconds."""

    def __init__(self, journal: Journal | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.topics: dict[str, Any] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self._journal = journal
        self.now = clock
        self._numbers = count(1)
        if journal is not None:
            self._remember(journal)
            journal.open()

    # -- topics and subscriptions -------------------------------------------------------------------------------------------

    def create_topic(self, config: Any) -> Any:
        if config.name in self.topics:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"Resource already exists (resource={config.name}).")
        self.topics[config.name] = config
        self._note("topic", config.SerializeToString())
        return config

    def topic(self, name: str) -> Any:
        return _found(self.topics, name)

    def delete_topic(self, name: str) -> None:
        """Its subscriptions stay, and get nothing more."""
        del self.topics[self.topic(name).name]
        self._note("topic deleted", name)
        for subscription in self.subscriptions.values():
            if subscription.config.topic == name:
                subscription.config.topic = "_deleted-topic_"

    def create_subscription(self, config: Any) -> Any:
        if config.name in self.subscriptions:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"Resource already exists (resource={config.name}).")
        self.topic(config.topic)
        config.ack_deadline_seconds = config.ack_deadline_seconds or SHORTEST_DEADLINE
        self._check(config)
        self._add_subscription(config)
        self._note("subscription", config.SerializeToString())
        return config

    def subscription(self, name: str) -> Subscription:
        found: Subscription = _found(self.subscriptions, name)
        return found

    def update_subscription(self, config: Any, paths: Sequence[str]) -> Any:
        """Take over what ``paths`` name: whole fields only."""
        subscription = self.subscription(config.name)
        changed = SubscriptionConfig()
        changed.CopyFrom(subscription.config)
        for path in paths:
            changed.ClearField(path)
            picked = SubscriptionConfig()
            picked.CopyFrom(config)
            for each in {field.name for field, _ in picked.ListFields()} - {path}:
                picked.ClearField(each)
            changed.MergeFrom(picked)
        self._check(changed)
        subscription.config = changed
        self._note("subscription updated", changed.SerializeToString())
        return changed

    def delete_subscription(self, name: str) -> Subscription:
        subscription = self.subscription(name)
        del self.subscriptions[name]
        self._note("subscription deleted", name)
        return subscription

    # -- messages -----------------------------------------------------------------------------------------------------------

    def publish(self, topic: str, messages: Sequence[Any]) -> list[str]:
        """The ids of the messages, which all subscriptions of the topic have now."""
        self.topic(topic)
        _check_messages(messages)
        now = time.time_ns()
        ids = []
        for given in messages:
            number = next(self._numbers)
            message = PubsubMessage(data=given.data, attributes=given.attributes, ordering_key=given.ordering_key)
            message.message_id = str(number)
            message.publish_time.FromNanoseconds(now)
            self._note("message", topic, number, message.SerializeToString())
            self._add_message(topic, number, message)
            ids.append(message.message_id)
        return ids

    def acknowledge(self, name: str, ack_ids: Sequence[str]) -> None:
        subscription = self.subscription(name)
        _check_ack_ids(ack_ids)
        self._complain(subscription, subscription.acknowledge(ack_ids, self.now()))

    def modify(self, name: str, ack_ids: Sequence[str], seconds: int) -> None:
        subscription = self.subscription(name)
        _check_ack_ids(ack_ids)
        refuse_unless(0 <= seconds <= LONGEST_LEASE, f"an ack deadline of {seconds} s: 0 to {LONGEST_LEASE} can be had")
        self._complain(subscription, subscription.modify(ack_ids, seconds, self.now()))

    # -- the parts ----------------------------------------------------------------------------------------------------------

    def _complain(self, subscription: Subscription, invalid: Sequence[str]) -> None:
        if invalid and subscription.config.enable_exactly_once_delivery:
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION, "Some acknowledgement ids in the request were invalid.", invalid
            )

    def _check(self, config: Any) -> None:
        refuse_unless(not config.filter, "this server has no filters")
        refuse_unless(
            SHORTEST_DEADLINE <= config.ack_deadline_seconds <= LONGEST_LEASE,
            f"an ack deadline of {config.ack_deadline_seconds} s: {SHORTEST_DEADLINE} to {LONGEST_LEASE} can be had",
        )
        if config.HasField("dead_letter_policy"):
            policy = config.dead_letter_policy
            policy.max_delivery_attempts = policy.max_delivery_attempts or ATTEMPTS.start
            refuse_unless(policy.max_delivery_attempts in ATTEMPTS, "max_delivery_attempts must be 5 to 100")
            self.topic(policy.dead_letter_topic)

    def _add_subscription(self, config: Any) -> None:
        name = config.name

        def bury(message: Any, returns: int) -> None:
            self._bury(self.subscriptions[name].config, message, returns)

        def settled(numbers: Sequence[int]) -> None:
            if numbers:
                self._note("settled", name, *numbers)

        self.subscriptions[name] = Subscription(config, bury, settled)

    def _add_message(self, topic: str, number: int, message: Any) -> None:
        for subscription in self.subscriptions.values():
            if subscription.config.topic == topic:
                subscription.add(number, message)

    def _bury(self, config: Any, message: Any, returns: int) -> None:
        """Publish it where dead letters go, if that is still there."""
        _, project, _, subscription = config.name.split("/")
        letter = PubsubMessage(data=message.data, attributes=message.attributes, ordering_key=message.ordering_key)
        letter.attributes[f"{PREFIX}DeliveryCount"] = str(returns)
        letter.attributes[f"{PREFIX}Subscription"] = subscription
        letter.attributes[f"{PREFIX}SubscriptionProject"] = project
        letter.attributes[f"{PREFIX}TopicPublishTime"] = message.publish_time.ToJsonString()
        self.publish(config.dead_letter_policy.dead_letter_topic, [letter])

    def _note(self, *entry: str | int | bytes) -> None:
        if self._journal is not None:
            self._journal.note(*entry)

    def _remember(self, journal: Journal) -> None:
        settled: dict[str, set[int]] = {}
        last = 0
        for kind, *rest in journal.read():
            match kind, rest:
                case "topic", [str(config)]:
                    topic = TopicConfig.FromString(base64.b64decode(config))
                    self.topics[topic.name] = topic
                case "topic deleted", [str(name)]:
                    self.delete_topic(name)
                case "subscription", [str(config)]:
                    self._add_subscription(SubscriptionConfig.FromString(base64.b64decode(config)))
                case "subscription updated", [str(config)]:
                    changed = SubscriptionConfig.FromString(base64.b64decode(config))
                    self.subscriptions[changed.name].config = changed
                case "subscription deleted", [str(name)]:
                    del self.subscriptions[name]
                    settled.pop(name, None)
                case "message", [str(name), int(last), str(message)]:
                    self._add_message(name, last, PubsubMessage.FromString(base64.b64decode(message)))
                case "settled", [str(name), *numbers]:
                    settled.setdefault(name, set()).update(number for number in numbers if isinstance(number, int))
                case _:
                    raise ValueError(f"a journal of another kind: {kind}")
        for name, gone in settled.items():
            self.subscriptions[name].drop(gone)
        self._numbers = count(last + 1)


def _found(resources: dict[str, Any], name: str) -> Any:
    if name not in resources:
        raise not_found(name)
    return resources[name]


def _check_messages(messages: Sequence[Any]) -> None:
    refuse_unless(messages, "a Publish request without a message")
    refuse_unless(len(messages) <= MOST_MESSAGES, f"more than {MOST_MESSAGES} messages in one request")
    refuse_unless(sum(each.ByteSize() for each in messages) <= MOST_BYTES, f"more than {MOST_BYTES} bytes")
    refuse_unless(
        len({each.ordering_key for each in messages}) == 1, "messages of several ordering keys in one request"
    )
    for each in messages:
        refuse_unless(each.data or each.attributes, "a message without data and attributes")
        refuse_unless(len(each.attributes) <= MOST_ATTRIBUTES, f"more than {MOST_ATTRIBUTES} attributes")
        refuse_unless(
            all(key and len(value.encode()) <= LONGEST_ATTRIBUTE for key, value in each.attributes.items()),
            f"the value of an attribute has more than {LONGEST_ATTRIBUTE} bytes, or no name",
        )


def _check_ack_ids(ack_ids: Sequence[str]) -> None:
    refuse_unless(ack_ids, "a request without acknowledgement ids")
    refuse_unless(sum(map(len, ack_ids)) <= MOST_ACK_BYTES, f"more than {MOST_ACK_BYTES} bytes of acknowledgement ids")
