"""How Pub/Sub is configured: the ``gcp_pub_sub`` section, and the URL.

Go sets in code what there is to set (protocol §9); the names of the keys are ours. Any key may also stand in a URL's query
(``?ack_deadline=30``), where it wins over the section. Credentials stand in neither: they are found where Google's own tools
look.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from machinery.abc import Config, Section, ServiceUrl, parse_section, parse_url
from machinery.errors import ConfigError
from machinery_broker_gcp._names import Names, check_name, check_queue

SCHEME = "gcppubsub"
GOOGLE = "pubsub.googleapis.com:443"
EMULATOR_HOST = "PUBSUB_EMULATOR_HOST"
"""The variable that all of Google's clients obey."""
LONGEST_DEADLINE = timedelta(seconds=600)
"""By Pub/Sub's limits. The shortest there is 10 s; emulators take less."""

_FORM = f"{SCHEME}://project/subscription"
_ADDRESS = re.compile(r"(\[[^\]\s]+\]|[^\s:/?#@\[\]]+)(:\d{1,5})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class PubsubOptions:
    """The ``gcp_pub_sub`` section. Spans are seconds in files and URLs."""

    subscriptions: Mapping[str, str] = field(default_factory=dict)
    """Queue → the subscription that workers of it read. Left out: named as the queue; the default queue's is the URL's."""
    ack_deadline: timedelta = timedelta(seconds=60)
    """How long a message stays with a worker that has died. Living ones renew it in time. 10 to 600 s."""
    max_extension: timedelta | None = None
    """How long a message is kept from others while its task runs (Go: ``MaxExtension``); left out: for as long as it runs."""
    ordering_keys: bool = False
    """The queues' subscriptions have message ordering enabled. ``create-resources --ordering`` makes such ones."""
    dead_letters: bool = True
    """What was given up is kept in the topic ``<queue>-dead``; if not, it is logged and dropped."""
    emulator_host: str = ""
    """``host:port`` of an emulator, reached without TLS and credentials; empty: ``PUBSUB_EMULATOR_HOST``, if that is set."""
    endpoint: str = ""
    """Where to reach Pub/Sub instead of the global address: ``europe-west1-pubsub.googleapis.com:443``."""
    connect_timeout: timedelta | None = None
    """How long to go on trying while Pub/Sub cannot be reached; left out: `Config.connect_timeout`."""
    answer_timeout: timedelta | None = None
    """How long Pub/Sub may leave a call without an answer; left out: twice as long as to connect, 10 s at least."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        for queue, subscription in self.subscriptions.items():
            if not isinstance(subscription, str):
                raise ValueError(f"subscriptions: {queue} is {subscription!r}; it must name a subscription")  # noqa: TRY004 - reported
            try:
                check_queue(queue)
                check_name(subscription, "the subscription")
            except ConfigError as error:
                raise ValueError(f"subscriptions: {error}") from None
        if not timedelta(seconds=1) <= self.ack_deadline <= LONGEST_DEADLINE or self.ack_deadline.microseconds:
            raise ValueError(f"ack_deadline must be 10 to 600 whole seconds, not {self.ack_deadline.total_seconds():g}")
        for name in ("max_extension", "connect_timeout", "answer_timeout"):
            span = getattr(self, name)
            if span is not None and span <= timedelta(0):
                raise ValueError(f"{name} must be longer than 0 seconds")
        for name in ("emulator_host", "endpoint"):
            address = getattr(self, name)
            if address and not _ADDRESS.fullmatch(address):
                raise ValueError(f"{name} must be host:port, not {address!r}")


PUBSUB_SECTION = Section(
    name="gcp_pub_sub",
    environment={
        "GCP_PUB_SUB_SUBSCRIPTIONS": "subscriptions",
        "GCP_PUB_SUB_ACK_DEADLINE": "ack_deadline",
        "GCP_PUB_SUB_MAX_EXTENSION": "max_extension",
        "GCP_PUB_SUB_ORDERING_KEYS": "ordering_keys",
        "GCP_PUB_SUB_DEAD_LETTERS": "dead_letters",
        "GCP_PUB_SUB_ENDPOINT": "endpoint",
        "GCP_PUB_SUB_CONNECT_TIMEOUT": "connect_timeout",
        "GCP_PUB_SUB_ANSWER_TIMEOUT": "answer_timeout",
        EMULATOR_HOST: "emulator_host",
    },
    options=PubsubOptions,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Which Pub/Sub a URL means, and how to reach it."""

    names: Names
    options: PubsubOptions
    connect_timeout: float
    """Seconds."""
    answer_timeout: float
    """Seconds."""

    @property
    def address(self) -> str:
        """Where it is, for logs and errors."""
        return self.options.emulator_host or self.options.endpoint or GOOGLE

    @property
    def url(self) -> str:
        """What a URL of it is, for errors and commands."""
        return f"{SCHEME}://{self.names.project}/{self.names.default_subscription}"


def to_service(url: str, config: Config) -> Service:
    """The service that ``url`` and the section of ``config`` describe. Raises `ConfigError`."""
    parsed = parse_url(url)
    options = parse_section(PUBSUB_SECTION, config, PubsubOptions, parsed)
    project, subscription = _parts(parsed)
    return _service(project, subscription, config, options)


def service_of(project: str, subscription: str, config: Config, options: Mapping[str, Any]) -> Service:
    """The service that an application's own words describe. Raises `ConfigError`."""
    section = {**config.sections.get(PUBSUB_SECTION.name, {}), **options}
    changed = config.with_(sections={**config.sections, PUBSUB_SECTION.name: section})
    return _service(project, subscription, config, parse_section(PUBSUB_SECTION, changed, PubsubOptions))


def _service(project: str, subscription: str, config: Config, options: PubsubOptions) -> Service:
    if not project or "/" in project:
        raise ConfigError(f"{project!r} is no project's id; a URL of Pub/Sub is {_FORM}")
    if not options.emulator_host and (host := os.environ.get(EMULATOR_HOST, "").strip()):
        try:
            options = replace(options, emulator_host=host)
        except ValueError as error:
            raise ConfigError(f"{EMULATOR_HOST}: {error}") from None
    connect = (config.connect_timeout if options.connect_timeout is None else options.connect_timeout).total_seconds()
    answer = max(10.0, 2 * connect) if options.answer_timeout is None else options.answer_timeout.total_seconds()
    return Service(
        names=Names(
            project,
            check_queue(config.default_queue),
            check_name(subscription, "the subscription"),
            options.subscriptions,
        ),
        options=options,
        connect_timeout=connect,
        answer_timeout=answer,
    )


def _parts(parsed: ServiceUrl) -> tuple[str, str]:
    if parsed.user is not None:
        raise ConfigError(
            f"the URL {parsed.redacted} has a user name, and Google's credentials are no part of it; set "
            "GOOGLE_APPLICATION_CREDENTIALS, or any other place that Google's tools look in"
        )
    path = parsed.path.strip("/")
    if len(parsed.hosts) != 1 or not path or "/" in path:
        raise ConfigError(f"the URL {parsed.redacted} does not name a project and a subscription; it would be {_FORM}")
    ((project, port),) = parsed.hosts
    if port is not None:
        raise ConfigError(
            f"the URL {parsed.redacted} names a project with a port; an emulator's address goes to {EMULATOR_HOST}, or into the "
            f"URL's query: {_FORM}?emulator_host=localhost:8085"
        )
    return project, path
