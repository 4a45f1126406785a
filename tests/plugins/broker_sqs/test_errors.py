"""The table of errors, and messages in SQS's form: what needs no server."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions as driver
from botocore.parsers import ResponseParserError

from machinery.errors import BrokerUnavailable, Closed, ConfigError, MachineryError, Unsupported
from machinery_broker_sqs import _content as content
from machinery_broker_sqs._errors import (
    BatchTooLarge,
    QueueMissing,
    expected,
    is_entry_passing,
    is_loan_over,
    translate,
)


def answer(code: str, text: str = "words", status: int = 400) -> driver.ClientError:
    return driver.ClientError(
        {"Error": {"Code": code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": status}}, "SendMessage"
    )


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (driver.EndpointConnectionError(endpoint_url="u", error="no"), BrokerUnavailable, "cannot reach"),
        (driver.ReadTimeoutError(endpoint_url="u", error="no"), BrokerUnavailable, "cannot reach"),
        (ConnectionResetError("gone"), BrokerUnavailable, "gone"),
        (answer("Throttling"), BrokerUnavailable, "too much to do"),
        (answer("AWS.SimpleQueueService.OverLimit"), BrokerUnavailable, "too much to do"),
        (answer("strange", status=503), BrokerUnavailable, "too much to do"),
        (answer("AWS.SimpleQueueService.NonExistentQueue"), QueueMissing, "create-queues URL jobs"),
        (answer("QueueDoesNotExist"), QueueMissing, "create-queues URL jobs"),
        (answer("AccessDenied"), ConfigError, "rights"),
        (answer("KMS.AccessDeniedException"), ConfigError, "encrypted"),
        (answer("ExpiredToken"), ConfigError, "expired"),
        (answer("InvalidAddress"), ConfigError, "address"),
        (answer("404"), ConfigError, "no SQS"),
        (answer("UnsupportedOperation"), Unsupported, "'jobs'"),
        (driver.NoCredentialsError(), ConfigError, "AWS_ACCESS_KEY_ID"),
        (driver.SSLError(endpoint_url="u", error="CERTIFICATE_VERIFY_FAILED"), ConfigError, "AWS_CA_BUNDLE"),
        (driver.HTTPClientError(error=ValueError("header")), ConfigError, "HTTP header"),
        (driver.ParamValidationError(report="bad"), Unsupported, "bad"),
        (ResponseParserError("html"), ConfigError, "no SQS"),
        (driver.NoRegionError(), ConfigError, "region"),
        (Closed("closed"), Closed, "closed"),
    ],
    ids=[
        *("unreachable", "timeout", "reset", "throttled", "over-limit", "status", "missing-query", "missing-json"),
        *("denied", "key-denied", "expired", "address", "not-found", "unsupported", "no-credentials", "tls"),
        *("header", "parameters"),
        *("parser", "no-region", "ours"),
    ],
)
def test_each_error_has_its_line_in_the_table(error: Exception, kind: type[MachineryError], words: str) -> None:
    translated = translate(error, "http://here", "jobs")
    assert type(translated) is kind
    assert words in str(translated)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("SignatureDoesNotMatch", "secret key is wrong"),
        ("InvalidSignatureException", "secret key is wrong"),
        ("IncompleteSignature", "malformed"),
        ("IncompleteSignatureException", "malformed"),
    ],
)
def test_a_refused_signature_is_a_config_error_and_not_quoted(code: str, words: str) -> None:
    translated = translate(answer(code, "X-Amz-Security-Token:SECRET"), "here")
    assert type(translated) is ConfigError
    assert "SECRET" not in str(translated)
    assert words in str(translated)


def test_what_is_too_large_is_for_whoever_made_the_batch() -> None:
    assert isinstance(expected(answer("AWS.SimpleQueueService.BatchRequestTooLong")), BatchTooLarge)
    assert isinstance(expected(answer("InvalidParameterValue", "must be shorter than 2000 bytes")), BatchTooLarge)
    assert expected(answer("InvalidParameterValue", "something else")) is None


@pytest.mark.parametrize(
    ("failed", "passing", "over"),
    [
        ({"Code": "InternalError", "SenderFault": False}, True, False),
        ({"Code": "RequestThrottled", "SenderFault": True}, True, False),
        ({"Code": "KMS.ThrottlingException", "SenderFault": True}, True, False),
        ({"Code": "ReceiptHandleIsInvalid", "SenderFault": True}, False, True),
        ({"Code": "AWS.SimpleQueueService.MessageNotInflight", "SenderFault": True}, False, True),
        ({"Code": "InvalidMessageContents", "SenderFault": True}, False, False),
    ],
    ids=["internal", "throttled", "key-throttled", "receipt", "not-in-flight", "contents"],
)
def test_an_entry_of_a_batch_fails_for_now_or_for_good(failed: dict[str, Any], passing: bool, over: bool) -> None:
    assert is_entry_passing(failed) is passing
    assert is_loan_over(failed) is over


@pytest.mark.parametrize(
    "body", [b"{}", "größe ✓ 😀".encode(), b"", b"\0", b"\xff", b"a\x0bb", "\ufffe".encode()], ids=repr
)
def test_any_body_is_text_that_sqs_takes_and_comes_back(body: bytes) -> None:
    text, attributes = content.encode_body(body)
    assert text
    assert content.to_text(text) == text
    assert content.decode_body(text, attributes) == body


def test_text_that_claims_to_be_base64_and_is_not_is_left_to_whoever_decodes_it() -> None:
    attributes = {content.ENCODING: content.attribute("base64")}
    assert content.decode_body("abc", attributes) == b"abc"


def test_there_is_room_for_ten_attributes_and_ours_go_first() -> None:
    theirs = {f"their-{number}": content.attribute("x") for number in range(10)}
    made = content.with_ours("text", theirs, **{content.QUEUE: "q", content.REASON: "why", content.KEY: ""})
    assert len(made) == 10
    assert content.said(made, content.QUEUE) == "q"
    assert content.said(made, content.REASON) == "why"
    assert content.KEY not in made


def test_a_reason_is_cut_to_what_the_message_leaves_room_for() -> None:
    text = "x" * (content.LARGEST_MESSAGE - 100)
    made = content.with_ours(text, {}, **{content.QUEUE: "q", content.REASON: "é" * 100})
    assert content.size_of(text, made) <= content.LARGEST_MESSAGE
    assert 0 < len(content.said(made, content.REASON)) < 100
    assert content.with_ours("x" * content.LARGEST_MESSAGE, {}, **{content.REASON: "why"}) == {}
