"""botocore's exceptions and SQS's error answers, translated in one table.

============================================================  =========================================================
what botocore raises, or the code of SQS's answer             becomes
============================================================  =========================================================
no connection, connection lost, no answer in time, the        `BrokerUnavailable`: trying again later is right
instance's metadata service silent; throttled, too many
messages on loan, an error of SQS's own (status 5xx), once
the time for trying again is over
no such queue                                                 `QueueMissing`, a `ConfigError`
no credentials, credentials or rights refused, no region,     `ConfigError`: waiting will not help
TLS refused, what is no SQS
a batch, or a message, that is too large                      `BatchTooLarge`, for whoever made it
a loan that is over or settled, in a batch's answer           no error: that delivery is no longer ours
anything else                                                 `Unsupported`, with SQS's own words
============================================================  =========================================================

The texts keep botocore's, so what is raised is raised ``from None``. None of them holds a credential: where botocore's text, or
SQS's, may quote a header, it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from botocore import exceptions as driver
from botocore.parsers import ResponseParserError

from machinery.errors import BrokerUnavailable, ConfigError, MachineryError, Unsupported

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
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "KMS.ThrottlingException",
        "KmsThrottled",
        "OverLimit",
        "RequestLimitExceeded",
        "RequestThrottled",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""What passes by itself, of answers and of single entries in a batch's answer."""

_PREFIX = "AWS.SimpleQueueService."
"""Which the older protocol puts before some codes, and the newer one too for those who know the older."""
_MISSING_CODES = frozenset({"NonExistentQueue", "QueueDoesNotExist"})
_OVER_CODES = frozenset({"ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue", "InvalidIdFormat"})
_SIZE = re.compile(r"must be shorter than|longer than|too (?:long|large)|exceeds? the (?:maximum|limit)", re.IGNORECASE)
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
    "AuthFailure": "it does not accept the credentials",
    "ExpiredToken": "the credentials have expired",
    "ExpiredTokenException": "the credentials have expired",
    "IncompleteSignature": "the credentials are malformed",
    "IncompleteSignatureException": "the credentials are malformed",
    "InvalidAccessKeyId": "it does not know the access key",
    "InvalidClientTokenId": "it does not know the access key",
    "InvalidSecurity": "it does not accept the credentials",
    "InvalidSignatureException": "the secret key is wrong, or this machine's clock, or the region",
    "KMS.AccessDeniedException": "this identity may not use the key that the queue is encrypted with",
    "KmsAccessDenied": "this identity may not use the key that the queue is encrypted with",
    "MissingAuthenticationToken": "it wants credentials",
    "MissingAuthenticationTokenException": "it wants credentials",
    "OptInRequired": "this account has not opted in",
    "RequestExpired": "this machine's clock is wrong",
    "SignatureDoesNotMatch": "the secret key is wrong, or this machine's clock, or the region",
    "UnrecognizedClientException": "it does not know the access key",
}
_QUOTING_CODES = frozenset(
    {"IncompleteSignature", "IncompleteSignatureException", "InvalidSignatureException", "SignatureDoesNotMatch"}
)
"""Answers that quote the request's headers, those with the access key and the session token among them."""


class QueueMissing(ConfigError):
    """There is no queue of that name."""


class BatchTooLarge(Exception):
    """SQS takes fewer bytes in one request, or in one message."""


def code_of(error: BaseException) -> str:
    """The code of SQS's error answer; empty: it was none."""
    if not isinstance(error, driver.ClientError):
        return ""
    return _plain(error.response.get("Error", {}).get("Code"))


def is_passing(error: BaseException) -> bool:
    """Whether asking again soon is right: SQS is there, and has too much to do."""
    if not isinstance(error, driver.ClientError):
        return False
    return code_of(error) in PASSING_CODES or _status_of(error) >= 500  # noqa: PLR2004 - the server's own errors


def is_closed_meanwhile(error: BaseException) -> bool:
    """Whether the connection was closed before an answer came, as those are that were unused for long."""
    return isinstance(error, driver.ConnectionClosedError)


def is_entry_passing(failed: Mapping[str, Any]) -> bool:
    """Whether one entry of a batch, which failed, is to be tried again: it is not the sender's fault."""
    return not failed.get("SenderFault") or _plain(failed.get("Code")) in PASSING_CODES


def is_loan_over(failed: Mapping[str, Any]) -> bool:
    """Whether one entry of a batch failed because the delivery is no longer ours."""
    return _plain(failed.get("Code")) in _OVER_CODES


def is_of_size(text: str) -> bool:
    """Whether SQS's words say that a message is too large."""
    return _SIZE.search(text) is not None


def text_of(failed: Mapping[str, Any]) -> str:
    """What SQS says of one entry of a batch that failed."""
    return f"{_plain(failed.get('Code'))}: {failed.get('Message', '')}".rstrip(": ")


def expected(error: BaseException) -> Exception | None:
    """What is no failure but an answer about a size, for whoever made the batch; else ``None``."""
    code = code_of(error)
    if code in {"BatchRequestTooLong", "MessageTooLong"} or (
        code == "InvalidParameterValue" and is_of_size(str(error))
    ):
        return BatchTooLarge(str(error))
    return None


def translate(  # noqa: PLR0911 - one line of the table each
    error: BaseException, address: str, queue: str = ""
) -> MachineryError:
    """What to raise instead of ``error``. ``address`` is where SQS is, ``queue`` what was asked for."""
    if isinstance(error, MachineryError):
        return error
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, driver.ClientError):
        return _translate_answer(error, text, address, queue)
    if isinstance(error, _CREDENTIALS):
        return ConfigError(
            f"there are no credentials for SQS at {address} ({text}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE, or give the machine a role. ministack and LocalStack take any, but some they want"
        )
    if isinstance(error, driver.SSLError) and "CERTIFICATE_VERIFY_FAILED" in text:
        return ConfigError(f"SQS at {address}: TLS failed ({text}); name the authority in AWS_CA_BUNDLE")
    if isinstance(error, driver.HTTPClientError) and type(error.kwargs.get("error")) is ValueError:
        # http.client raises the plain one. Other kinds of it, such as urllib3's about addresses, have other causes.
        return ConfigError(
            f"the credentials for SQS at {address} hold what no HTTP header can, such as a line's end; look at "
            "AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN, or at the profile or program they come from"
        )
    if isinstance(error, UNREACHABLE):
        return BrokerUnavailable(
            f"cannot reach SQS at {address}: {text}; look whether it runs, and at the endpoint, region and network"
        )
    if isinstance(error, ResponseParserError):
        return ConfigError(f"what answers at {address} is no SQS ({text})")
    if isinstance(error, driver.ParamValidationError):
        return Unsupported(f"SQS at {address} cannot be asked for this: {text}")
    return ConfigError(f"boto3 cannot be used for SQS at {address}: {text}")


def _translate_answer(error: Any, text: str, address: str, queue: str) -> MachineryError:
    code = code_of(error)
    if is_passing(error):
        return BrokerUnavailable(f"SQS at {address} has too much to do and did not get round to it in time: {text}")
    if code in _MISSING_CODES:
        return QueueMissing(
            f"SQS at {address} has no queue {queue!r}; make it with `machinery sqs create-queues URL {queue or 'QUEUE'}`, "
            f"or look at the account and region in the URL ({text})"
        )
    if hint := _REFUSED_CODES.get(code):
        return ConfigError(f"SQS at {address} refuses us: {hint} ({code if code in _QUOTING_CODES else text})")
    if code == "InvalidAddress":
        return ConfigError(f"SQS at {address} does not know the address of the queue {queue!r} ({text})")
    if code in {"UnknownOperationException", "404", "403", "301", "302"}:
        return ConfigError(f"what answers at {address} is no SQS, or none that can do this ({text})")
    about = f" for the queue {queue!r}" if queue else ""
    return Unsupported(f"SQS at {address} refuses{about}: {text}")


def _plain(code: object) -> str:
    return str(code or "").removeprefix(_PREFIX)


def _status_of(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
