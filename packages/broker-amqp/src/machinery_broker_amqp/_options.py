"""How RabbitMQ is configured: the ``amqp`` section under Go's names, and the URL.

Go's names, meanings and variables: protocol §9. Any key of the section may also stand in a URL's query (``?heartbeat=30``), where
it wins over the section.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pika

from machinery.abc import Config, Section, ServiceUrl, parse_section, parse_url, redact_url
from machinery.errors import ConfigError

DEFAULT_PORT = 5672
DEFAULT_TLS_PORT = 5671
MOST_PREFETCHED = 65_535
"""What the protocol can say; more would wrap."""

UNLIMITED_DELIVERIES = 2**31 - 1
"""As many as a quorum queue can be told: it drops what was given back more often."""

_EXCHANGE_TYPES = ("direct", "topic", "fanout", "headers")
_WHOLE_NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)
_FLAGS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class AmqpOptions:
    """The ``amqp`` section. Spans are seconds in files and URLs."""

    exchange: str = "machinery_exchange"
    """Through which messages go; the same for all who share the queues, Go workers too."""
    exchange_type: str = "direct"
    """``direct``, ``topic``, ``fanout`` or ``headers``, or a plug-in's type (``x-…``)."""
    binding_key: str = "machinery_task"
    """The routing key of the default queue (`Config.default_queue`). Other queues are bound with their own names."""
    prefetch_count: int | None = None
    """How many messages a worker's process may hold for each queue, exactly; 0: no limit. Left out: as many as it has slots, and
    more while tasks are short."""
    queue_declare_args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the queues (``x-max-priority: 10``, ``x-queue-type: quorum``); the same for all who share them."""
    queue_binding_args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the queues' bindings, for an exchange of type ``headers``."""
    auto_delete: bool = False
    """Accepted for Go's sake and unused: it is for Go's delay queues."""
    delayed_queue: str = ""
    """Accepted for Go's sake and unused: it is Go's one queue for delayed tasks. Ours wait on a ladder of queues."""

    heartbeat: timedelta = timedelta(seconds=60)
    """How long a connection may be silent, both ways, before it counts as lost; 0: for ever."""
    connect_timeout: timedelta | None = None
    """How long to try to connect; left out: `Config.connect_timeout`."""
    answer_timeout: timedelta | None = None
    """How long RabbitMQ may leave us without an answer or a confirm; left out: twice as long as to connect, 10 s at least."""
    client_name: str = "machinery"
    """How the names of our connections begin in RabbitMQ's lists."""

    tls_verify: bool = True
    """Whether ``amqps://`` checks the server's certificate and name. Off is for tests only."""
    tls_ca_file: str = ""
    """Authorities to trust, in PEM; empty: the system's."""
    tls_cert_file: str = ""
    """Our certificate, in PEM, where the server asks for one."""
    tls_key_file: str = ""
    """Its key, in PEM; empty: in the certificate's file."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if not self.exchange:
            raise ValueError("exchange must not be empty: queues cannot be bound to RabbitMQ's unnamed exchange")
        if self.exchange_type not in _EXCHANGE_TYPES and not self.exchange_type.startswith("x-"):
            raise ValueError(f"exchange_type is {self.exchange_type!r}; it must be one of {', '.join(_EXCHANGE_TYPES)}")
        if self.prefetch_count is not None and not 0 <= self.prefetch_count <= MOST_PREFETCHED:
            raise ValueError(
                f"prefetch_count is {self.prefetch_count}; it must be from 0 (no limit) to {MOST_PREFETCHED}"
            )
        for name in ("queue_declare_args", "queue_binding_args"):
            for key, value in getattr(self, name).items():
                if not isinstance(value, str | int | float):
                    raise ValueError(f"{name}: {key} is {value!r}; it must be text, a number or a flag")  # noqa: TRY004 - reported
        # Out of an environment's or a URL's text; what RabbitMQ wants there is numbers.
        typed = {key: _to_typed(value) for key, value in self.queue_declare_args.items()}
        object.__setattr__(self, "queue_declare_args", typed)

    @property
    def is_direct(self) -> bool:
        """Whether routing keys are queues' names, but for the default queue's."""
        return self.exchange_type == "direct"

    @property
    def is_quorum(self) -> bool:
        """Whether the queues are quorum queues."""
        return self.queue_declare_args.get("x-queue-type") == "quorum"

    @property
    def dead_queue_args(self) -> dict[str, Any]:
        """Arguments of the queues of dead letters: as safe as the queues of tasks, and to be looked into without harm."""
        if self.is_quorum:
            return {"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED_DELIVERIES}
        return {}


AMQP_SECTION = Section(
    name="amqp",
    environment={
        "AMQP_EXCHANGE": "exchange",
        "AMQP_EXCHANGE_TYPE": "exchange_type",
        "AMQP_BINDING_KEY": "binding_key",
        "AMQP_PREFETCH_COUNT": "prefetch_count",
        "AMQP_QUEUE_DECLARE_ARGS": "queue_declare_args",
        "AMQP_QUEUE_BINDING_ARGS": "queue_binding_args",
        "AMQP_AUTO_DELETE": "auto_delete",
        "AMQP_DELAYED_QUEUE": "delayed_queue",
        "AMQP_HEARTBEAT": "heartbeat",
        "AMQP_CONNECT_TIMEOUT": "connect_timeout",
        "AMQP_ANSWER_TIMEOUT": "answer_timeout",
        "AMQP_CLIENT_NAME": "client_name",
        "AMQP_TLS_VERIFY": "tls_verify",
        "AMQP_TLS_CA_FILE": "tls_ca_file",
        "AMQP_TLS_CERT_FILE": "tls_cert_file",
        "AMQP_TLS_KEY_FILE": "tls_key_file",
    },
    options=AmqpOptions,
)


def _to_typed(value: Any) -> Any:
    if isinstance(value, str):
        if _WHOLE_NUMBER.fullmatch(value):
            return int(value)
        return _FLAGS.get(value, value)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Which RabbitMQ a URL means, and how to reach it."""

    nodes: tuple[pika.ConnectionParameters, ...]
    """To be tried in this order at every connect."""
    options: AmqpOptions
    connect_timeout: float
    """Seconds."""
    answer_timeout: float
    """Seconds."""
    address: str
    """The URL without secrets."""


def to_service(url: str, config: Config) -> Service:
    """The service that ``url`` and the section of ``config`` describe. Raises `ConfigError`."""
    separator = config.multiple_broker_separator
    urls = [part for part in url.split(separator) if part.strip()] if separator else [url]
    parsed = [parse_url(part) for part in urls] or [parse_url(url)]
    options = parse_section(AMQP_SECTION, config, AmqpOptions, parsed[0])
    connect, answer = _timeouts(options, config)
    nodes = [node for each in parsed for node in _to_nodes(each, options, connect)]
    return Service(
        nodes=tuple(nodes), options=options, connect_timeout=connect, answer_timeout=answer, address=redact_url(url)
    )


def service_of(
    nodes: pika.ConnectionParameters | tuple[pika.ConnectionParameters, ...], config: Config, options: Mapping[str, Any]
) -> Service:
    """The service that the application's own parameters describe. Raises `ConfigError`."""
    given = nodes if isinstance(nodes, tuple) else (nodes,)
    for node in given:
        if not isinstance(node, pika.connection.Parameters):
            raise ConfigError(
                f"a RabbitMQ is given as pika.ConnectionParameters, not {type(node).__name__}; a connection of pika's cannot be "
                "shared between threads"
            )
    section = {**config.sections.get(AMQP_SECTION.name, {}), **options}
    chosen = parse_section(
        AMQP_SECTION, config.with_(sections={**config.sections, AMQP_SECTION.name: section}), AmqpOptions
    )
    connect, answer = _timeouts(chosen, config)
    address = ", ".join(f"amqp://{node.host}:{node.port}/{node.virtual_host.strip('/')}" for node in given)
    return Service(nodes=given, options=chosen, connect_timeout=connect, answer_timeout=answer, address=address)


def _timeouts(options: AmqpOptions, config: Config) -> tuple[float, float]:
    connect = (config.connect_timeout if options.connect_timeout is None else options.connect_timeout).total_seconds()
    answer = max(10.0, 2 * connect) if options.answer_timeout is None else options.answer_timeout.total_seconds()
    return connect, answer


def _to_nodes(parsed: ServiceUrl, options: AmqpOptions, connect_timeout: float) -> list[pika.ConnectionParameters]:
    if parsed.scheme not in {"amqp", "amqps"}:
        raise ConfigError(f"the URL {parsed.redacted} must begin with amqp:// or amqps://, like the first")
    tls = parsed.scheme == "amqps"
    return [
        pika.ConnectionParameters(
            host=host,
            port=port or (DEFAULT_TLS_PORT if tls else DEFAULT_PORT),
            virtual_host=parsed.path[1:] or "/",
            credentials=pika.PlainCredentials(
                "guest" if parsed.user is None else parsed.user, "guest" if parsed.password is None else parsed.password
            ),
            heartbeat=round(options.heartbeat.total_seconds()),
            socket_timeout=connect_timeout,
            stack_timeout=connect_timeout,
            connection_attempts=1,
            ssl_options=_tls(options, host) if tls else None,
            client_properties={"connection_name": options.client_name},
        )
        for host, port in parsed.hosts or (("localhost", None),)
    ]


def _tls(options: AmqpOptions, host: str) -> pika.SSLOptions:
    for name in ("tls_ca_file", "tls_cert_file", "tls_key_file"):
        path = getattr(options, name)
        if path and not Path(path).is_file():
            raise ConfigError(f"amqp.{name} is {path!r}; there is no such file")
    context = ssl.create_default_context(cafile=options.tls_ca_file or None)
    if not options.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.tls_cert_file:
        context.load_cert_chain(options.tls_cert_file, options.tls_key_file or None)
    return pika.SSLOptions(context, host)
