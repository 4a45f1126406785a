"""How SQS is configured: the ``sqs`` section under Go's names, and the URL.

Go's names and variables: protocol §9. Any key of the section may also stand in a URL's query (``?read_timeout=3``), where it wins
over the section. Credentials stand in neither: boto3 finds them where AWS's own tools look.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from machinery.abc import Config, Section, ServiceUrl, parse_section, parse_url, redact_url
from machinery.errors import ConfigError
from machinery_broker_sqs._driver import LONGEST_POLL, configured_region

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGGER = logging.getLogger("machinery.sqs")

LONGEST_LEASE = timedelta(hours=12)
"""SQS's: no message stays with who received it for longer."""

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ACCOUNT = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_HOST_OF_REGION = re.compile(rf"(?:sqs\.)?({_REGION.pattern})(?:\.queue)?\.amazonaws\.com(?:\.cn)?")
_ENDPOINT = re.compile(r"https?://[^/?#@\s]+/?")
_FORMS = "https://sqs.eu-west-1.amazonaws.com/123456789012, sqs://eu-west-1/123456789012 or sqs://localhost:4566/000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsOptions:
    """The ``sqs`` section. Spans are seconds in files and URLs."""

    receive_wait_time_seconds: timedelta = timedelta(seconds=LONGEST_POLL)
    """How long one receive waits for a message, in whole seconds; more than SQS's 20 is 20. 0: it looks once a second."""
    receive_visibility_timeout: timedelta = timedelta(seconds=30)
    """How long a message stays with the worker that has it, unless renewed, in whole seconds; workers renew it all the time."""
    visibility_heartbeat: bool | None = None
    """Go's switch for renewing. Here every loan is renewed: ``False`` is taken, and answered with a warning."""
    visibility_hearth_beat: bool | None = None
    """The same, as Go spells it."""
    region: str = ""
    """AWS's region, such as ``eu-west-1``; empty: the URL's, else ``AWS_REGION``, else what boto3 is configured with."""
    account: str = ""
    """The account's number, or the path to the queues; the URL's wins. Without either each queue's address is asked for once."""
    endpoint_url: str = ""
    """Where to reach SQS instead of AWS's own address of the region: ministack, LocalStack, a VPC endpoint."""
    connect_timeout: timedelta | None = None
    """How long to try to connect; left out: `Config.connect_timeout`."""
    read_timeout: timedelta | None = None
    """How long to wait for an answer, and to go on asking an SQS that is throttled; left out: as long as to connect."""
    max_connections: int = 16
    """How many requests of batches are under way at once; a single message is sent at once, by the thread that wants it."""
    receivers: int = 4
    """How many receives of 10 messages one consumer makes at once while the queue is full and it has room."""

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        self._check_numbers()
        if self.region and not _NAME.fullmatch(self.region):
            raise ValueError(f"region must be a region's name, such as eu-west-1, not {self.region!r}")
        if self.account and not _ACCOUNT.fullmatch(self.account):
            raise ValueError(f"account must be an account's number, not {self.account!r}")
        if self.endpoint_url and not _ENDPOINT.fullmatch(self.endpoint_url):
            raise ValueError(
                f"endpoint_url must be http://host:port or https://host:port, not {redact_url(self.endpoint_url)!r}"
            )

    def _check_numbers(self) -> None:
        for name in ("max_connections", "receivers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name, least in (("receive_wait_time_seconds", 0), ("receive_visibility_timeout", 1)):
            span = getattr(self, name)
            if span < timedelta(seconds=least) or span % timedelta(seconds=1):
                raise ValueError(f"{name} must be whole seconds, at least {least}, not {span.total_seconds():g}")
        if self.receive_visibility_timeout > LONGEST_LEASE:
            raise ValueError("receive_visibility_timeout must be 12 hours (43200 s) or less, which is SQS's limit")
        for name in ("connect_timeout", "read_timeout"):
            span = getattr(self, name)
            if span is not None and span <= timedelta(0):
                raise ValueError(f"{name} must be longer than 0 seconds")

    @property
    def poll(self) -> int:
        """Seconds that one receive waits at most."""
        return min(LONGEST_POLL, int(self.receive_wait_time_seconds.total_seconds()))


SQS_SECTION = Section(
    name="sqs",
    environment={
        "SQS_WAIT_TIME_SECONDS": "receive_wait_time_seconds",
        "SQS_VISIBILITY_TIMEOUT": "receive_visibility_timeout",
        "SQS_VISIBILITY_HEARTBEAT": "visibility_heartbeat",
        "SQS_REGION": "region",
        "SQS_ACCOUNT": "account",
        "SQS_ENDPOINT_URL": "endpoint_url",
        "SQS_CONNECT_TIMEOUT": "connect_timeout",
        "SQS_READ_TIMEOUT": "read_timeout",
        "SQS_MAX_CONNECTIONS": "max_connections",
        "SQS_RECEIVERS": "receivers",
    },
    options=SqsOptions,
)


def to_options(config: Config, changes: Mapping[str, Any], origin: str = "") -> SqsOptions:
    """The options that the section of ``config`` and ``changes`` to it make. Raises `ConfigError`; ``origin``: of the changes."""
    section = {**config.sections.get(SQS_SECTION.name, {})}
    parse_section(SQS_SECTION, config, SqsOptions)  # so that what is wrong with the section names the section
    changed = Config(sections={SQS_SECTION.name: {**section, **changes}}, origin=origin or config.origin)
    options = parse_section(SQS_SECTION, changed, SqsOptions)
    if options.receive_wait_time_seconds > timedelta(seconds=LONGEST_POLL):
        LOGGER.warning(
            "sqs.receive_wait_time_seconds is %g, and SQS lets a receive wait for %d s at most: it waits so long",
            options.receive_wait_time_seconds.total_seconds(),
            LONGEST_POLL,
        )
    if False in {options.visibility_heartbeat, options.visibility_hearth_beat}:
        LOGGER.warning(
            "sqs.visibility_heartbeat is off, and has no effect: without renewal a task that takes longer than "
            "sqs.receive_visibility_timeout would run twice, so loans are always renewed"
        )
    return options


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Which SQS a URL means, and how to reach it."""

    options: SqsOptions = field(default_factory=SqsOptions)
    """With the region, account and endpoint that hold in the end; an empty endpoint: AWS's own of the region."""
    connect_timeout: timedelta = timedelta(seconds=5)
    read_timeout: timedelta = timedelta(seconds=5)

    @property
    def address(self) -> str:
        """Where it is, for logs and errors."""
        return self.options.endpoint_url or self.options.region


def to_service(url: str, config: Config) -> Service:
    """The service that ``url`` and the section of ``config`` describe. Raises `ConfigError`."""
    parsed = parse_url(url)
    options = to_options(config, parsed.query, f"the URL {parsed.redacted}" if parsed.query else "")
    region, endpoint = _place(parsed)
    region = options.region or region or os.environ.get("AWS_REGION", "") or configured_region()
    try:
        options = replace(
            options,
            region=region,
            account=parsed.path.strip("/") or options.account,
            endpoint_url=(endpoint or options.endpoint_url).rstrip("/"),
        )
    except ValueError as error:
        raise ConfigError(f"the URL {parsed.redacted}: section sqs: {error}") from None
    if not options.region:
        raise ConfigError(
            f"the URL {parsed.redacted} names no region; write it there ({_FORMS.partition(',')[0]}), or set sqs.region "
            "(SQS_REGION), AWS_REGION or AWS_DEFAULT_REGION. ministack and LocalStack take any"
        )
    connect, read = to_timeouts(options, config)
    return Service(options=options, connect_timeout=connect, read_timeout=read)


def to_timeouts(options: SqsOptions, config: Config) -> tuple[timedelta, timedelta]:
    """How long to try to connect, and to wait for an answer."""
    connect = config.connect_timeout if options.connect_timeout is None else options.connect_timeout
    return connect, connect if options.read_timeout is None else options.read_timeout


def _place(parsed: ServiceUrl) -> tuple[str, str]:
    """The region and the endpoint that a URL says; empty: it does not."""
    if parsed.user is not None:
        raise ConfigError(
            f"the URL {parsed.redacted} has a user name, and AWS's credentials are no part of it; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or any other place that boto3 looks in"
        )
    if len(parsed.hosts) > 1:
        raise ConfigError(f"the URL {parsed.redacted} is none of SQS's; it would be {_FORMS}")
    if not parsed.hosts:
        return "", ""
    ((host, port),) = parsed.hosts
    known = _HOST_OF_REGION.fullmatch(host.lower())
    if parsed.scheme in {"http", "https"}:
        within = known[1] if known else next(filter(_REGION.fullmatch, host.lower().split(".")[1:]), "")
        return within, f"{parsed.scheme}://{_authority(host, port)}"
    if known and port is None:
        return known[1], f"https://{host.lower()}"
    if port is not None:
        return "", f"http://{_authority(host, port)}"
    if _REGION.fullmatch(host.lower()):
        return host.lower(), ""
    raise ConfigError(
        f"the URL {parsed.redacted} names neither a region nor a host with its port; it would be {_FORMS}"
    )


def _authority(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"
