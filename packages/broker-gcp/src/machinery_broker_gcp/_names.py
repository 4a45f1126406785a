"""What stands for what in a Pub/Sub project: the topics and subscriptions of a queue, and the attributes of our messages.

Queue *q* is the topic *q*, as in Go (protocol §5.2). What waits for its time lies in *q*-delay, what was given up in *q*-dead:
each a topic with one subscription of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from machinery.errors import ConfigError

ETA = "machinery_eta"
"""When to deliver it, in RFC 3339; on what waits in *q*-delay."""
ORDERING_KEY = "machinery_ordering_key"
"""The ordering key it is to have when its time has come: what waits must not hold up what comes after it."""
REASON = "machinery_reason"
"""Why it was given up; on what lies in *q*-dead."""
DIED_AT = "machinery_died_at"
"""When, in RFC 3339."""
OURS = frozenset({ETA, ORDERING_KEY, REASON, DIED_AT})

BURIED_BY_SERVICE = "CloudPubSubDeadLetterSource"
"""How the attributes begin that Pub/Sub adds to what it moves to a dead-letter topic itself."""
DELIVERY_COUNT = "CloudPubSubDeadLetterSourceDeliveryCount"

LONGEST_ATTRIBUTE = 1024
"""Bytes of an attribute's value, by Pub/Sub's limits."""

_DELAY = "-delay"
_DEAD = "-dead"
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9._~+%-]{2,254}", re.ASCII)
_LONGEST_QUEUE = 255 - len(_DELAY)


def check_name(name: str, what: str) -> str:
    """``name``, if Pub/Sub takes it for a topic or a subscription. Raises `ConfigError`."""
    if not _NAME.fullmatch(name) or name.startswith("goog"):
        raise ConfigError(
            f"{what} {name!r} is no name that Pub/Sub takes: 3 to 255 letters, digits and -_.~+%, a letter first, and not goog…"
        )
    return name


def check_queue(queue: str) -> str:
    """``queue``, if a topic, and the two beside it, can be named after it. Raises `ConfigError`."""
    check_name(queue, "the queue")
    if len(queue) > _LONGEST_QUEUE:
        raise ConfigError(
            f"the queue {queue!r} is longer than {_LONGEST_QUEUE} characters, with {_DELAY} after it too long"
        )
    return queue


def delay_of(queue: str) -> str:
    """Topic and subscription of what waits for its time."""
    return queue + _DELAY


def dead_of(queue: str) -> str:
    """Topic and subscription of what was given up."""
    return queue + _DEAD


@dataclass(frozen=True, slots=True)
class Names:
    """The full names of one application's topics and subscriptions."""

    project: str
    default_queue: str
    default_subscription: str
    """The URL's, which serves the default queue."""
    subscriptions: Mapping[str, str]
    """Queue → subscription, where it is not named as the queue."""

    def topic(self, name: str) -> str:
        """The topic of that short name."""
        return f"projects/{self.project}/topics/{name}"

    def subscription(self, name: str) -> str:
        """The subscription of that short name."""
        return f"projects/{self.project}/subscriptions/{name}"

    def subscription_of(self, queue: str) -> str:
        """The short name of the subscription that serves ``queue``. Raises `ConfigError`."""
        check_queue(queue)
        default = self.default_subscription if queue == self.default_queue else queue
        return self.subscriptions.get(queue, default)


def without_ours(attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes that the sender gave: without ours, and without what Pub/Sub adds to dead letters."""
    return {
        key: value for key, value in attributes.items() if key not in OURS and not key.startswith(BURIED_BY_SERVICE)
    }
