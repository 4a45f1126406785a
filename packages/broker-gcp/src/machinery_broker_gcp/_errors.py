"""gRPC's status codes and Google's exceptions, translated in one table.

============================================================  =========================================================
what the call ends with                                       becomes
============================================================  =========================================================
UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED; ABORTED, INTERNAL,  `BrokerUnavailable`: trying again later is right
UNKNOWN, DATA_LOSS, RESOURCE_EXHAUSTED (a quota), once the
time for trying again is over; Google's token server silent
NOT_FOUND                                                     `ResourceMissing`: names the command that makes it
PERMISSION_DENIED                                             `Denied`: this identity has not the right
UNAUTHENTICATED; no credentials, or such that are refused     `ConfigError`: waiting will not help
ALREADY_EXISTS                                                `AlreadyThere`, for whoever makes it
FAILED_PRECONDITION, INVALID_ARGUMENT, and all others         `Refused`, with Pub/Sub's own words
============================================================  =========================================================

What an exactly-once subscription says of single acknowledgements is read by `ack_failures`. The texts keep gRPC's, so what is
raised is raised ``from None``. None of them holds a credential.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import grpc
from google.auth import exceptions as auth
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status  # type: ignore[import-untyped] # it has no types

from machinery.errors import BrokerUnavailable, ConfigError, MachineryError, Unsupported

DRIVER_ERRORS = (grpc.RpcError, auth.GoogleAuthError)
"""All that a call may raise; besides, ``ValueError`` once the channel is closed."""

_AWAY = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""Of these, what is worth asking again at once."""
_BAD_CREDENTIALS = re.compile(
    r"metadata from plugin failed.*(invalid_grant|invalid_client|unauthorized_client|invalid_scope|reauth)",
    re.IGNORECASE | re.DOTALL,
)
"""How gRPC tells that Google's token server refuses us; it calls that UNAVAILABLE."""
_WHERE_CREDENTIALS = (
    "set GOOGLE_APPLICATION_CREDENTIALS, run `gcloud auth application-default login`, or give the machine a "
    "service account"
)
_PERMANENT = "PERMANENT_FAILURE_"
_OF_AN_ACK = (_PERMANENT, "TRANSIENT_FAILURE_")
"""How begins what is said of one acknowledgement. Other errors explain themselves in the same form: which right is missing."""


class ResourceMissing(ConfigError):
    """There is no topic or subscription of that name."""


class Denied(ConfigError):
    """This identity has not the right to do that."""


class Refused(Unsupported):
    """Pub/Sub takes no such call."""


class AlreadyThere(Unsupported):
    """There is a topic or subscription of that name already."""


def code_of(error: BaseException) -> grpc.StatusCode | None:
    """The status that a call ended with; ``None``: it is no error of a call."""
    code = getattr(error, "code", None)
    return code() if isinstance(error, grpc.RpcError) and callable(code) else None


def is_away(error: BaseException) -> bool:
    """Whether the service cannot be reached, or cannot do it now."""
    return code_of(error) in _AWAY or isinstance(error, auth.TransportError)


def is_passing(error: BaseException) -> bool:
    """Whether asking again at once is right."""
    return code_of(error) in _PASSING and not _BAD_CREDENTIALS.search(_details(error))


def ack_failures(error: BaseException) -> Mapping[str, str] | None:
    """What an exactly-once subscription says of each acknowledgement that failed; ``None``: it is no such error."""
    if not isinstance(error, grpc.RpcError):
        return None
    try:
        status = rpc_status.from_call(error)
    except (ValueError, AttributeError):
        return None
    for detail in status.details if status is not None else ():
        info = ErrorInfo()
        if detail.Is(ErrorInfo.DESCRIPTOR) and detail.Unpack(info):
            failures = {ack_id: said for ack_id, said in info.metadata.items() if said.startswith(_OF_AN_ACK)}
            if failures:
                return failures
    return None


def is_permanent(failure: str) -> bool:
    """Whether an acknowledgement that failed so will never be taken: the message is another's now."""
    return failure.startswith(_PERMANENT)


def translate(  # noqa: PLR0911 - one line of the table each
    error: BaseException, address: str, url: str, what: str = ""
) -> MachineryError:
    """What to raise instead. ``what``: the full name of the topic or subscription that was asked for."""
    code, text = code_of(error), _details(error)
    if isinstance(error, auth.GoogleAuthError) or _BAD_CREDENTIALS.search(text):
        if isinstance(error, auth.TransportError):
            return BrokerUnavailable(f"cannot reach Google's token server: {text}")
        return ConfigError(f"Google's credentials are missing or refused: {text}; {_WHERE_CREDENTIALS}")
    if code in _AWAY:
        return BrokerUnavailable(f"cannot reach Pub/Sub at {address}: {text} ({code.name if code else ''})")
    if code is grpc.StatusCode.NOT_FOUND:
        return ResourceMissing(missing(what or text, url))
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return Denied(
            f"Pub/Sub at {address} refuses us{_at(what)}: this identity has not the right to do that ({text})"
        )
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return ConfigError(f"Pub/Sub at {address} does not know us{_at(what)}: {text}; {_WHERE_CREDENTIALS}")
    if code is grpc.StatusCode.ALREADY_EXISTS:
        return AlreadyThere(f"Pub/Sub at {address}: {text}")
    return Refused(
        f"Pub/Sub at {address} refuses it{_at(what)}: {text} ({code.name if code else type(error).__name__})"
    )


def missing(what: str, url: str) -> str:
    """What to say of a topic or subscription that is not there."""
    kind, name = _named(what)
    queue = re.sub(r"-(delay|dead)$", "", name) or "NAME"
    return (
        f"there is no {kind} {name!r} in Pub/Sub ({what}); make what a queue needs with `machinery gcp create-resources {url}`, "
        f"and for a queue that is not the default one with `--queue {queue}` besides"
    )


def _named(what: str) -> tuple[str, str]:
    """Kind and short name of ``projects/p/topics/t``."""
    parts = what.split("/")
    return (parts[2].removesuffix("s"), parts[3]) if len(parts) == 4 else ("topic or subscription", what)  # noqa: PLR2004 - as above


def _at(what: str) -> str:
    return f" ({what})" if what else ""


def _details(error: BaseException) -> str:
    details: Any = getattr(error, "details", None)
    text = details() if isinstance(error, grpc.RpcError) and callable(details) else str(error)
    return str(text or type(error).__name__)
