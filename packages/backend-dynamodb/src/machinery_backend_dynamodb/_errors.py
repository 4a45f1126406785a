"""botocore's exceptions and DynamoDB's error answers, translated in one table.

============================================================  =========================================================
what botocore raises, or the code of DynamoDB's answer        becomes
============================================================  =========================================================
no connection, connection lost, no answer in time, the        `BackendUnavailable`: trying again later is right
instance's metadata service silent; throttled, a conflict of
transactions, an error of DynamoDB's own (status 5xx), once
the time for trying again is over
ConditionalCheckFailedException                               `ConditionFailed`, for whoever set the condition
TransactionCanceledException, by a condition                  `TransactionCanceled`, likewise
ValidationException about an item's size                      `ItemTooLarge`, for whoever knows the item's name
no table (`TableMissing`), no credentials, credentials that  `ConfigError`: waiting will not help
no header can hold, credentials or rights refused, no
region, TLS refused, another key schema, what is no DynamoDB
a table that is there already, where one is to be made        `TableInUse`, for whoever makes it
anything else                                                 `Unsupported`, with DynamoDB's own words
============================================================  =========================================================

The texts keep botocore's, so what is raised is raised ``from None``. None of them holds a credential: where botocore's text, or
DynamoDB's, may quote a header, it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from botocore import exceptions as driver
from botocore.parsers import ResponseParserError

from machinery.errors import BackendUnavailable, ConfigError, MachineryError, Unsupported

DRIVER_ERRORS = (driver.BotoCoreError, driver.ClientError, ResponseParserError, OSError)
"""All that a call of botocore may raise."""

UNREACHABLE = (
    driver.ConnectionError,
    driver.HTTPClientError,
    driver.IncompleteReadError,
    driver.MetadataRetrievalError,
    OSError,
)
"""Those after which it is not known whether the call was carried out."""

PASSING_CODES = frozenset(
    {
        "InternalFailure",
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "ReplicatedWriteConflictException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingError",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
"""What passes by itself: of answers, of the reasons of a cancelled transaction, and of statements in a batch."""

CONDITION_FAILED = "ConditionalCheckFailed"
"""The reason in a transaction or a batch of statements; alone it is ``ConditionalCheckFailedException``."""

_TOO_LARGE = re.compile(r"item size.*exceeded|exceeded the maximum allowed size", re.IGNORECASE)
_OTHER_SCHEMA = re.compile(
    r"does not match the schema|keys was not given a value|missing the key|type mismatch for key", re.IGNORECASE
)
_CREDENTIALS = (
    driver.NoCredentialsError,
    driver.PartialCredentialsError,
    driver.CredentialRetrievalError,
    driver.NoAuthTokenError,
    driver.TokenRetrievalError,
    driver.SSOError,
)
_REFUSED_CODES = {
    "AccessDenied": "this identity has not the rights that are needed",
    "AccessDeniedException": "this identity has not the rights that are needed",
    "ExpiredTokenException": "the credentials have expired",
    "IncompleteSignature": "the credentials are malformed",
    "IncompleteSignatureException": "the credentials are malformed",
    "InvalidSignatureException": "the secret key is wrong, or this machine's clock",
    "MissingAuthenticationToken": "it wants credentials",
    "MissingAuthenticationTokenException": "it wants credentials",
    "NotAuthorized": "this identity has not the rights that are needed",
    "OptInRequired": "this account has not opted in",
    "RequestExpired": "this machine's clock is wrong",
    "SignatureDoesNotMatch": "the secret key is wrong, or this machine's clock",
    "UnrecognizedClientException": "it does not know the access key",
}
_QUOTING_CODES = frozenset(
    {
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
    }
)
"""Answers that quote the request's headers, those with the access key and the session token among them."""
_WHERE_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role. DynamoDB Local takes any, but "
    "some it wants"
)


class ConditionFailed(Exception):
    """The condition of a write did not hold. ``item`` is what was there, where that was asked for."""

    def __init__(self, item: dict[str, Any] | None) -> None:
        super().__init__("the condition did not hold")
        self.item = item


class TransactionCanceled(Exception):
    """A condition in a transaction did not hold. ``codes``: what is the matter with each of its actions, in order."""

    def __init__(self, codes: Sequence[str]) -> None:
        super().__init__("a condition did not hold")
        self.codes = tuple(codes)


class ItemTooLarge(Exception):
    """The item would be larger than DynamoDB takes."""


class TableMissing(ConfigError):
    """There is no table of that name."""


class TableInUse(Unsupported):
    """There is a table of that name already, be it still in the making."""


def code_of(error: BaseException) -> str:
    """The code of DynamoDB's error answer; empty: it was none."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, driver.ClientError) else ""


def reasons_of(error: BaseException) -> list[str]:
    """What is the matter with each action of a cancelled transaction: codes, ``None`` as text where nothing is."""
    if not isinstance(error, driver.ClientError):
        return []
    return [str(reason.get("Code") or "None") for reason in error.response.get("CancellationReasons") or ()]


def is_passing(error: BaseException) -> bool:
    """Whether asking again soon is right: DynamoDB is there, and has too much to do."""
    if not isinstance(error, driver.ClientError):
        return False
    reasons = set(reasons_of(error)) - {"None"}
    if reasons:
        return reasons <= PASSING_CODES
    return code_of(error) in PASSING_CODES or _status_of(error) >= 500  # noqa: PLR2004 - the server's own errors


def is_closed_meanwhile(error: BaseException) -> bool:
    """Whether the connection was closed before an answer came, as those are that were unused for long."""
    return isinstance(error, driver.ConnectionClosedError)


def is_of_size(text: str) -> bool:
    """Whether DynamoDB's words say that an item would be larger than it takes."""
    return _TOO_LARGE.search(text) is not None


def of_statement(code: str, text: str) -> Exception:
    """The error of one statement in a batch, as it would be if it had been alone."""
    error: Exception = driver.ClientError({"Error": {"Code": code, "Message": text}}, "BatchExecuteStatement")
    return error


def expected(error: BaseException) -> Exception | None:
    """What is no failure but an answer to a condition or a size, for whoever asked; else ``None``."""
    code = code_of(error)
    if code == "ConditionalCheckFailedException" and isinstance(error, driver.ClientError):
        return ConditionFailed(error.response.get("Item"))
    if code == "TransactionCanceledException" and CONDITION_FAILED in (reasons := reasons_of(error)):
        return TransactionCanceled(reasons)
    if code == "ValidationException" and is_of_size(str(error)):
        return ItemTooLarge(str(error))
    return None


def translate(  # noqa: PLR0911 - one line of the table each
    error: BaseException, address: str, tables: Sequence[str]
) -> MachineryError:
    """What to raise instead of ``error``. ``address`` is where DynamoDB is, ``tables`` what was asked for, with their keys."""
    if isinstance(error, MachineryError):
        return error
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, driver.ClientError):
        return _translate_answer(error, text, address, tables)
    if isinstance(error, _CREDENTIALS):
        return ConfigError(f"there are no credentials for DynamoDB at {address} ({text}); {_WHERE_CREDENTIALS}")
    if isinstance(error, driver.SSLError) and "CERTIFICATE_VERIFY_FAILED" in text:
        return ConfigError(f"DynamoDB at {address}: TLS failed ({text}); name the authority in AWS_CA_BUNDLE")
    if _is_of_header(error):
        return ConfigError(
            f"the credentials for DynamoDB at {address} hold what no HTTP header can, such as a line's end; look at "
            "AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN, or at the profile or program they come from"
        )
    if isinstance(error, UNREACHABLE):
        return BackendUnavailable(
            f"cannot reach DynamoDB at {address}: {text}; look whether it runs, and at the endpoint, region and network"
        )
    if isinstance(error, ResponseParserError):
        return ConfigError(f"what answers at {address} is no DynamoDB ({text})")
    if isinstance(error, driver.ParamValidationError):
        return Unsupported(f"DynamoDB at {address} cannot be asked for this: {text}")
    return ConfigError(f"boto3 cannot be used for DynamoDB at {address}: {text}")


def _translate_answer(  # noqa: PLR0911 - likewise
    error: Any, text: str, address: str, tables: Sequence[str]
) -> MachineryError:
    code = code_of(error)
    if is_passing(error):
        return BackendUnavailable(
            f"DynamoDB at {address} has too much to do and did not get round to it in time: {text}; "
            "give the tables more capacity, or on-demand capacity, if this goes on"
        )
    if code in {"ResourceNotFound", "ResourceNotFoundException"}:
        wanted = " or ".join(tables) or "what was asked for"
        return TableMissing(
            f"DynamoDB at {address} has no table {wanted}; make it with `machinery dynamodb create-tables`, or name another in "
            f"dynamodb.task_states_table and dynamodb.group_metas_table ({text})"
        )
    if hint := _REFUSED_CODES.get(code):
        said = code if code in _QUOTING_CODES else text
        return ConfigError(f"DynamoDB at {address} refuses us: {hint} ({said})")
    if code == "ValidationException" and _OTHER_SCHEMA.search(text):
        return ConfigError(
            f"DynamoDB at {address} has another key than ours in {' or '.join(tables)}; make tables with "
            f"`machinery dynamodb create-tables` under other names ({text})"
        )
    if code in {"UnknownOperationException", "404", "403", "301", "302"}:
        return ConfigError(f"what answers at {address} is no DynamoDB, or none that can do this ({text})")
    if code == "ResourceInUseException":
        return TableInUse(f"DynamoDB at {address} has that table already: {text}")
    return Unsupported(f"DynamoDB at {address} refuses: {text}")


def _is_of_header(error: BaseException) -> bool:
    """Whether a header cannot be sent, as one with a line's end: only those with credentials hold what is not our own."""
    # http.client raises the plain one. Other kinds of it, such as urllib3's about addresses, have other causes.
    return isinstance(error, driver.HTTPClientError) and type(error.kwargs.get("error")) is ValueError


def _status_of(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
