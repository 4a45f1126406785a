"""pika's exceptions and RabbitMQ's reasons, translated in one table.

=========================================================  ===========================================================
what pika raises, or RabbitMQ closes with                  becomes
=========================================================  ===========================================================
no connection, connection lost, 320 (forced), 404 (what    the `Unavailable` error of the one who asked: trying again
was there is gone), 405 (locked), 501 to 506, 541, 406 for a  later is right; what is missing is declared anew
delivery that was not acknowledged in time
403 at login, 530 (virtual host), TLS refused, another     `ConfigError`: waiting will not help
protocol, 403 (no permission), 406 (what exists differs),
402, 503, 540
=========================================================  ===========================================================

The texts keep RabbitMQ's, so what is raised is raised ``from None``.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

from pika import exceptions as driver
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from machinery.errors import ConfigError, MachineryError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

DRIVER_ERRORS = (driver.AMQPError, AMQPConnectorException, OSError, TimeoutError)
"""All that pika may raise, its own and the system's."""

NOT_FOUND = 404
LOCKED = 405
REFUSED = 403
DIFFERENT = 406

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<what>[^']*)' for (?P<kind>queue|exchange) '(?P<name>[^']*)'.*?"
    r"received (?P<ours>.*?) but current is (?P<theirs>.*)",
    re.DOTALL,
)
_VALUE = re.compile(r"(?:the value )?'(?P<value>.*?)'(?: of type '(?P<type>\w+)')?")
_TOO_LARGE = re.compile(r"message size (\d+) is larger than (?:configured )?max size (\d+)")
_NOT_ACKNOWLEDGED = re.compile(r"delivery acknowledgement on channel \d+ timed out\. Timeout value used: (\d+) ms")


class Lost(Exception):
    """The connection or channel was given up by us; the text says why."""


def largest_message(error: BaseException) -> int | None:
    """Bytes that a message may have, where ``error`` says that one had more."""
    found = _TOO_LARGE.search(_reason(error)[1])
    return int(found[2]) if found else None


def code_of(error: BaseException) -> int:
    """RabbitMQ's reply code; 0: it said nothing."""
    return _reason(error)[0]


def translate(error: BaseException, unavailable: type[Unavailable], address: str) -> MachineryError:
    """What to raise instead of ``error``. ``address`` is the service's redacted URL."""
    if isinstance(error, MachineryError):
        return error
    for cause in _unwrapped(error):
        found = _verdict_on_connecting(cause, address)
        if found is not None:
            return found
    code, text = _reason(error)
    if code == DIFFERENT:
        return _different(text, unavailable, address)
    if isinstance(error, driver.ChannelClosedByBroker) and code in {REFUSED, 530, 540, 503}:
        return ConfigError(f"RabbitMQ at {address} refuses it: {text} (code {code})")
    if isinstance(error, TimeoutError):
        return unavailable(f"RabbitMQ at {address} does not answer{f': {text}' if text else ''}")
    return unavailable(f"cannot reach RabbitMQ at {address}: {text}")


def _different(text: str, unavailable: type[Unavailable], address: str) -> MachineryError:
    if found := _NOT_ACKNOWLEDGED.search(text):
        return unavailable(
            f"RabbitMQ at {address} took back what a worker held, since a task was not done within {int(found[1]) / 1000:g} s "
            "(consumer_timeout); it will run again, elsewhere perhaps while it still runs here. Set consumer_timeout in "
            "rabbitmq.conf above the longest task, in milliseconds"
        )
    if found := _INEQUIVALENT.search(text):
        ours, theirs = (_value_in(found[side]) for side in ("ours", "theirs"))
        what, kind, name = found["what"], found["kind"], found["name"]
        return ConfigError(
            f"RabbitMQ at {address} has a {kind} {name!r} whose {what} is {theirs}, where we declare {ours}; "
            f"{_remedy(what, kind, name, found['theirs'])}, or delete the {kind} when it is empty ({text})"
        )
    return ConfigError(f"RabbitMQ at {address} refuses it: {text} (code {DIFFERENT})")


def _remedy(what: str, kind: str, name: str, theirs: str) -> str:
    if kind == "exchange":
        return "set amqp.exchange_type to what it is, or amqp.exchange to another name"
    if what in {"x-message-ttl", "x-expires"}:
        setting = "group_expire_in" if name.startswith("machinery.") else "results_expire_in"
        return f"set {setting} to the same for all who share the results"
    value = _VALUE.search(theirs)
    if what.startswith("x-"):
        return (
            f"set {what}: {value['value']} in amqp.queue_declare_args"
            if value
            else f"leave {what} out of amqp.queue_declare_args"
        )
    return "another program made it for a purpose of its own: use another name for the queue"


def _value_in(said: str) -> str:
    found = _VALUE.search(said)
    return repr(found["value"]) if found else "not set"


def _verdict_on_connecting(error: BaseException, address: str) -> MachineryError | None:
    code, text = _reason(error)
    if isinstance(error, driver.AuthenticationError | driver.ProbableAuthenticationError) or (
        isinstance(error, driver.ConnectionClosedByBroker) and code == REFUSED
    ):
        return ConfigError(f"RabbitMQ at {address} refuses us: the user name or password is wrong ({text})")
    if isinstance(error, driver.ProbableAccessDeniedError) or (
        isinstance(error, driver.ConnectionClosedByBroker) and code == 530  # noqa: PLR2004 - not allowed
    ):
        return ConfigError(
            f"RabbitMQ at {address} refuses us: there is no such virtual host (the URL's path), or none for this user ({text})"
        )
    if isinstance(error, driver.IncompatibleProtocolError):
        return ConfigError(f"what answers at {address} does not speak AMQP 0-9-1 ({text or type(error).__name__})")
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ConfigError(
            f"RabbitMQ at {address}: TLS failed ({text}); name the authority in amqp.tls_ca_file, or, for a test only, switch "
            "verification off with amqp.tls_verify"
        )
    return None


def _unwrapped(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what it wraps: pika packs what happened at connecting into several layers."""
    pending, seen = [error], set()
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        for inner in (getattr(each, "exception", None), each.__cause__, *(getattr(each, "exceptions", None) or ())):
            pending += [inner] if isinstance(inner, BaseException) else []


def _reason(error: BaseException) -> tuple[int, str]:
    """Code and text of what happened, the innermost that says something."""
    text, code = "", 0
    for each in _unwrapped(error):
        if isinstance(each, driver.ConnectionClosed | driver.ChannelClosed):
            return each.reply_code, each.reply_text
        own = str(each)
        if own and not getattr(each, "exception", None) and not getattr(each, "exceptions", None):
            text = own
    return code, text or type(error).__name__
