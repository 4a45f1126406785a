"""pymongo's exceptions and MongoDB's error codes, translated in one table.

===========================================================  =========================================================
what pymongo raises, or the code that MongoDB answers        becomes
===========================================================  =========================================================
no server, no primary, connection lost, no answer in time,   `BackendUnavailable`: trying again later is right; MongoDB is
not primary, stepping down, shutting down, interrupted,      starting, failing over, full or slow
write concern not met in time, disk full
login failed, not allowed, TLS refused, no such host,        `ConfigError`: waiting will not help
another database's name, a write concern that cannot be met,
a file for TLS that is missing or holds something else
a client that the application has closed                     `Closed`
what BSON cannot say; a document that no BSON decoder reads  `EncodeError`; `DecodeError`
anything else                                                `Unsupported`, with MongoDB's own words
===========================================================  =========================================================

What is too large for a document is told by `is_too_large`, for whoever knows which task it is about. The texts keep MongoDB's, so
what is raised is raised ``from None``.
"""

from __future__ import annotations

from ssl import SSLError
from typing import TYPE_CHECKING

from bson.errors import BSONError, InvalidBSON
from pymongo import errors as driver

from machinery.errors import (
    BackendUnavailable,
    Closed,
    ConfigError,
    DecodeError,
    EncodeError,
    MachineryError,
    Unsupported,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

DRIVER_ERRORS = (driver.PyMongoError, BSONError, OSError)
"""All that a call of pymongo may raise."""
_OF_FILES = (SSLError, FileNotFoundError, PermissionError)
"""What reading the files for TLS raises. What goes wrong on a connection pymongo raises as its own, even with these behind it."""

DUPLICATE_KEY = 11000
INDEX_CONFLICTS = frozenset({85, 86})
"""IndexOptionsConflict and IndexKeySpecsConflict: there is another index of that name or on that field."""
NOT_ALLOWED = frozenset({13, 8000})
"""Unauthorized, and what Atlas says instead."""

_TOO_LARGE = frozenset({10334, 17280, 17419, 17420})
"""BSONObjectTooLarge, KeyTooLong, and two for an update whose outcome is too large."""
_PASSING = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        24,  # LockTimeout
        50,  # MaxTimeMSExpired
        64,  # WriteConcernFailed
        89,  # NetworkTimeout
        91,  # ShutdownInProgress
        112,  # WriteConflict
        133,  # FailedToSatisfyReadPreference
        134,  # ReadConcernMajorityNotAvailableYet
        175,  # QueryPlanKilled
        189,  # PrimarySteppedDown
        202,  # NetworkInterfaceExceededTimeLimit
        262,  # ExceededTimeLimit
        317,  # ConnectionPoolExpired
        358,  # InternalTransactionNotSupported, while the set is being configured
        9001,  # SocketException
        10058,  # the old NotPrimary
        10107,  # NotWritablePrimary
        11600,  # InterruptedAtShutdown
        11601,  # Interrupted
        11602,  # InterruptedDueToReplStateChange
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
        14031,  # OutOfDiskSpace
        50915,  # BackupCursorOpenConflictWithCheckpoint
    }
)
_HINTS: Mapping[int, str] = {
    11: "there is no such user in the database that authSource names",
    13: "this user may not do what is needed; give it the role readWrite on the database",
    18: "the user name or password is wrong, or the user is in another database than authSource says",
    73: "it takes no such name for a database",
    79: "it knows no write concern of that name",
    100: "the set has too few members for the write concern w",
    8000: "the user name or password is wrong, or this user may not do what is needed",
}
"""Codes that mean `ConfigError`, and what to look at."""
_DETAILS = (", full error:", ", Topology Description:", ", Timeout:")
_TLS_SIGNS = ("CERTIFICATE_VERIFY_FAILED", "SSL handshake failed", "WRONG_VERSION_NUMBER", "TLSV1_ALERT")
_NAMES_NOT_RESOLVED = ("lifetime expired", "nameservers failed", "timed out", "SERVFAIL")


def translate(  # noqa: C901, PLR0911 - one line of the table each
    error: BaseException, address: str
) -> MachineryError:
    """What to raise instead of ``error``. ``address`` is the service's redacted URL."""
    if isinstance(error, MachineryError):
        return error
    text = _text_of(error)
    if isinstance(error, driver.BulkWriteError):
        code, text = first_of_bulk(error.details)
        return of_code(code, text, address)
    if isinstance(error, _OF_FILES):
        return ConfigError(f"a file for TLS that the settings of MongoDB at {address} name cannot be used: {text}")
    if isinstance(error, driver.ConnectionFailure | OSError):
        return _of_connection(error, text, address)
    if isinstance(error, driver.OperationFailure):
        return of_code(error.code or 0, text, address)
    if isinstance(error, InvalidBSON):
        return DecodeError(f"MongoDB at {address} holds what cannot be read: {text}")
    if isinstance(error, BSONError):
        return EncodeError(f"MongoDB at {address} cannot store it: {text}")
    if isinstance(error, driver.ConfigurationError | driver.InvalidName):
        if any(sign in text for sign in _NAMES_NOT_RESOLVED):
            return BackendUnavailable(f"cannot find out which servers {address} means: {text}")
        return ConfigError(f"the settings of MongoDB at {address} are wrong: {text}")
    if isinstance(error, driver.InvalidOperation) and "after close" in text:
        return Closed(f"the client of MongoDB at {address} was closed: {text}")
    if getattr(error, "timeout", False):
        return BackendUnavailable(f"MongoDB at {address} did not answer in time: {text}")
    return Unsupported(f"MongoDB at {address} refuses: {text}")


def _of_connection(error: BaseException, text: str, address: str) -> MachineryError:
    code = _code_in(error)
    if code in _HINTS:
        return of_code(code, text, address)
    if any(sign in text for sign in _TLS_SIGNS):
        return ConfigError(
            f"MongoDB at {address}: TLS failed ({text}); give tls=true where the server speaks it, and name the authority in "
            "tlsCAFile"
        )
    if isinstance(error, driver.WaitQueueTimeoutError):
        return BackendUnavailable(
            f"all connections to MongoDB at {address} are in use (maxPoolSize); none came free: {text}"
        )
    if isinstance(error, driver.NetworkTimeout):
        return BackendUnavailable(f"MongoDB at {address} did not answer in time: {text}")
    return BackendUnavailable(f"cannot reach MongoDB at {address}: {text}; is it running, and has the set a primary?")


def _code_in(error: BaseException) -> int:
    details = getattr(error, "details", None)
    code = details.get("code") if isinstance(details, dict) else None
    return code if isinstance(code, int) else 0


def of_code(code: int, text: str, address: str) -> MachineryError:
    """What to raise for an error that MongoDB answered with."""
    if code in _PASSING:
        return BackendUnavailable(f"MongoDB at {address} is not ready: {text} (code {code})")
    if code in _HINTS:
        return ConfigError(f"MongoDB at {address} refuses us: {_HINTS[code]} ({text}, code {code})")
    return Unsupported(f"MongoDB at {address} refuses: {text} (code {code})")


def first_of_bulk(details: Mapping[str, Any]) -> tuple[int, str]:
    """Code and text of the first error of a bulk that concerns more than one record; a failed write concern comes first."""
    refused = [each for each in details.get("writeErrors", ()) if not is_of_one_record(each.get("code"))]
    for each in (*details.get("writeConcernErrors", ()), *refused):
        return each.get("code", 0), each.get("errmsg", "")
    return 0, "the writes failed"


def is_too_large(code: object) -> bool:
    """Whether an error's code says that a document would be too large."""
    return code in _TOO_LARGE


def is_of_one_record(code: object) -> bool:
    """Whether an error's code says something about one record only: another is there, or it is too large."""
    return code == DUPLICATE_KEY or is_too_large(code)


def _text_of(error: BaseException) -> str:
    text = str(error)
    for mark in _DETAILS:
        text = text.partition(mark)[0]
    return text or type(error).__name__
