"""What `machinery doctor` finds in a Pub/Sub project: what is missing, and what loses, repeats or buries tasks in silence."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from machinery.abc import Finding
from machinery_broker_gcp._client import Client
from machinery_broker_gcp._delays import RENEWED_AFTER
from machinery_broker_gcp._errors import ResourceMissing
from machinery_broker_gcp._names import dead_of, delay_of
from machinery_broker_gcp._resources import find_subscription, find_topic, of_another

_FEW_ATTEMPTS = 20


def examine(client: Client) -> list[Finding]:
    """What is found. Raises `BrokerUnavailable`, and `ConfigError` for missing or wrong credentials."""
    queues = dict.fromkeys([client.names.default_queue, *client.names.subscriptions])
    return [finding for queue in queues for finding in _of_queue(client, queue)]


def _of_queue(client: Client, queue: str) -> Iterator[Finding]:
    options = client.service.options
    subscription = client.names.subscription_of(queue)
    wanted = [(queue, subscription), (delay_of(queue), delay_of(queue))]
    if options.dead_letters:
        wanted.append((dead_of(queue), dead_of(queue)))
    for topic, name in wanted:
        try:
            find_topic(client, topic)
            found = find_subscription(client, name)
        except ResourceMissing as error:
            yield Finding("error", str(error))
            continue
        if found is None:
            yield Finding(
                "warning",
                f"we may not look at the subscription {name!r} (pubsub.subscriptions.get): nothing is known of it",
            )
            continue
        yield from _of_any(client, topic, name, found)
        if name == subscription:
            yield from _of_main(client, queue, name, found)
        elif topic == delay_of(queue):
            yield from _of_delay(name, found)


def _of_any(client: Client, topic: str, name: str, found: Any) -> Iterator[Finding]:
    if what := of_another(client, found, name, topic):
        yield Finding("error", what)
        return
    yield Finding("ok", f"the topic {topic!r} has the subscription {name!r}")
    if found.push_config.push_endpoint or found.bigquery_config.table or found.cloud_storage_config.bucket:
        yield Finding(
            "error", f"the subscription {name!r} delivers elsewhere by itself; workers need one that is pulled"
        )
    if found.filter:
        yield Finding(
            "error", f"the subscription {name!r} has a filter ({found.filter}): what does not match it is lost"
        )
    if found.HasField("expiration_policy") and found.expiration_policy.HasField("ttl"):
        days = found.expiration_policy.ttl.seconds / 86400
        yield Finding(
            "warning",
            f"the subscription {name!r} is deleted with all that waits in it when nobody has read it for {days:g} days; have it "
            "never expire: `gcloud pubsub subscriptions update … --expiration-period=never`",
        )


def _of_main(client: Client, queue: str, name: str, found: Any) -> Iterator[Finding]:
    options = client.service.options
    policy = found.dead_letter_policy
    if not policy.dead_letter_topic:
        yield Finding(
            "warning",
            f"the subscription {name!r} has no dead-letter policy: Pub/Sub then does not say how often something was delivered, "
            "and a task that kills its worker at once may come again for ever",
        )
    else:
        if policy.max_delivery_attempts < _FEW_ATTEMPTS:
            yield Finding(
                "warning",
                f"the subscription {name!r} gives up after {policy.max_delivery_attempts} deliveries, and what workers hand back "
                "when they stop counts as one; set max_delivery_attempts to 100 (crashes are counted by the workers)",
            )
        if options.dead_letters and policy.dead_letter_topic != client.names.topic(dead_of(queue)):
            yield Finding(
                "warning",
                f"what the subscription {name!r} gives up goes to {policy.dead_letter_topic!r}, which `machinery dead` does not "
                f"read; it reads {dead_of(queue)!r}",
            )
    if found.HasField("retry_policy"):
        wait = found.retry_policy.minimum_backoff.seconds
        yield Finding(
            "warning",
            f"the subscription {name!r} has a retry policy: what workers hand back waits for {wait} s or more",
        )
    if options.ordering_keys and not found.enable_message_ordering:
        yield Finding(
            "error",
            f"gcp_pub_sub.ordering_keys is on, and the subscription {name!r} has no message ordering: order is lost",
        )
    if found.enable_exactly_once_delivery:
        yield Finding(
            "ok", f"the subscription {name!r} delivers exactly once: acknowledgements that come too late are told"
        )
    yield from _retention(name, found, timedelta(days=1), "a worker that is away for longer finds older tasks gone")


def _of_delay(name: str, found: Any) -> Iterator[Finding]:
    if found.dead_letter_policy.dead_letter_topic:
        yield Finding(
            "error",
            f"the subscription {name!r} has a dead-letter policy: what waits comes back every ten minutes, and is given up then; "
            "take it off: `gcloud pubsub subscriptions update … --clear-dead-letter-policy`",
        )
    if found.HasField("retry_policy"):
        yield Finding("warning", f"the subscription {name!r} has a retry policy: what waits comes late by it")
    yield from _retention(name, found, 2 * RENEWED_AFTER, "what waits longer is lost when no worker renews it in time")


def _retention(name: str, found: Any, least: timedelta, why: str) -> Iterator[Finding]:
    kept = timedelta(seconds=found.message_retention_duration.seconds)
    if timedelta(0) < kept < least:
        yield Finding(
            "warning", f"the subscription {name!r} keeps messages for {kept} only: {why}; the default is 7 days"
        )
