"""Every golden file from Python values, byte for byte, and through decoding and encoding again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from machinery._signatures import Signature, raw_signature
from machinery._states import GroupMeta, State, TaskResult, TaskState
from machinery._times import ZERO_TIME, Instant
from machinery._values import Arg
from machinery.wire import (
    decode_group,
    decode_signature,
    decode_state,
    encode_group,
    encode_signature,
    encode_state,
)

GOLDEN = Path(__file__).parent / "golden"

FIRST = "task_6e1b1f0a-3c55-4a53-9a3c-0d2f3f6f1a01"
SECOND = "task_6e1b1f0a-3c55-4a53-9a3c-0d2f3f6f1a02"
THIRD = "task_6e1b1f0a-3c55-4a53-9a3c-0d2f3f6f1a03"
GROUP = "group_9d2c5b7e-84f1-4c0e-8b11-5a6d7e8f9001"
CHORD = "chord_1f2e3d4c-5b6a-4798-8877-665544332211"
QUEUE = "machinery_tasks"
CREATED = datetime(2024, 3, 1, 12, 30, 40, 120_000, UTC)
AGAIN = datetime(2024, 3, 1, 12, 30, 47, 500_000, UTC)

THIRD_LINK = Signature("multiply", [4], uuid=THIRD)
SECOND_LINK = Signature("add", [5], uuid=SECOND, on_success=[THIRD_LINK])
EVERYTHING = [
    True,
    Arg("int", -7),
    Arg("int8", -128),
    Arg("uint8", 255),
    Arg("uint64", 2**64 - 1),
    Arg("float32", 0.1),
    1.0,
    1e21,
    1e-7,
    'a<b>&\u2028"\\\n\té😀',
    Arg("[]byte", b"hi", "payload"),
    [1, 2],
    Arg("[]string", []),
    Arg("[]string", None),
    [True, False],
    [1.5, 2],
]

SIGNATURES = {
    "g01-signature-zero": raw_signature(
        "", (), "", "", None, "", 0, None, 0, False, 0, 0, (), (), None, "", "", False, False
    ),
    "g02-signature-redis": Signature("add", [1, 2], uuid=FIRST, routing_key=QUEUE, headers={}),
    "g03-signature-amqp": Signature("add", [1, 2], uuid=FIRST, routing_key="machinery_task", headers={}),
    "g04-signature-sqs": Signature("add", [1, 2], uuid=FIRST, headers={}),
    "g05-signature-delayed": Signature(
        "add",
        [1, 2],
        uuid=FIRST,
        routing_key=QUEUE,
        headers={},
        eta=Instant.of(datetime(2024, 3, 1, 12, 30, 45, 123_456, UTC), 789),
    ),
    "g06-signature-types": Signature(
        "everything",
        EVERYTHING,
        uuid=FIRST,
        routing_key=QUEUE,
        headers={"x-tenant": "acme", "a": "b"},
        priority=9,
    ),
    "g07-signature-chain": Signature(
        "add", [1, 1], uuid=FIRST, routing_key=QUEUE, headers={}, on_success=[SECOND_LINK]
    ),
    "g08-signature-chain-second": Signature(
        "add", [5, 2], uuid=SECOND, routing_key=QUEUE, headers={}, on_success=[THIRD_LINK]
    ),
    "g09-signature-chord-member": Signature(
        "add",
        [1, 1],
        uuid=FIRST,
        routing_key=QUEUE,
        headers={},
        group_uuid=GROUP,
        group_task_count=2,
        chord_callback=Signature("multiply", uuid=CHORD, headers={}),
    ),
    "g10-signature-chord-callback": Signature("multiply", [2, 4], uuid=CHORD, routing_key=QUEUE, headers={}),
    "g11-signature-error-callback": Signature("on_error", ["boom", "orig"], uuid=SECOND, routing_key=QUEUE, headers={}),
    "g12-signature-second-retry": Signature(
        "fail", ["boom"], uuid=FIRST, routing_key=QUEUE, headers={}, eta=AGAIN, retry_count=1, retry_timeout=2
    ),
    "g13-signature-retry-later": Signature("later", uuid=FIRST, routing_key=QUEUE, headers={}, eta=AGAIN),
    "g21-signature-sqs-first-retry": Signature(
        "boom",
        ["retry"],
        uuid="rt",
        headers={},
        eta=Instant.of(datetime(2026, 11, 24, 20, 1, 30, 160_475, UTC), 388),
        retry_count=1,
        retry_timeout=1,
        sqs_receipt_handle="f9e051be-6b34-4fb2-b8be-05f2f43fd1bb",
    ),
    "g21-signature-sqs-second-retry": Signature(
        "boom",
        ["retry"],
        uuid="rt",
        headers={},
        eta=Instant.of(datetime(2026, 11, 24, 20, 1, 31, 308_674, UTC), 390),
        retry_timeout=2,
        sqs_receipt_handle="e60ed0c1-b3cc-432c-80ca-90f28ed9974b",
    ),
    "g22-signature-pubsub-eta": Signature(
        "add",
        uuid="e1",
        routing_key="p1",
        headers={},
        eta=Instant.of(datetime(2026, 11, 24, 20, 5, 38, 163_766, UTC), 468),
    ),
    "g22-signature-pubsub-headers": Signature(
        "add", [1], uuid="a1", routing_key="p1", headers={"tenant": "acme"}, priority=3
    ),
}

STATES = {
    "g15-state-pending": TaskState(FIRST, "add", created_at=CREATED),
    "g15-state-started": TaskState(FIRST, "add", State.STARTED, created_at=CREATED),
    "g15-state-success": TaskState(FIRST, "add", State.SUCCESS, (TaskResult("int64", 3),), created_at=CREATED),
    "g15-state-several-results": TaskState(
        FIRST,
        "multi",
        State.SUCCESS,
        (
            TaskResult("string", "foo"),
            TaskResult("[]uint8", b"hi"),
            TaskResult("[]string", None),
            TaskResult("float64", 2.0),
        ),
        created_at=CREATED,
    ),
    "g15-state-no-results": TaskState(FIRST, "noret", State.SUCCESS, (), created_at=CREATED),
    "g15-state-failure": TaskState(FIRST, "fail", State.FAILURE, error="boom", created_at=CREATED),
    "g16-state-success-without-origin": TaskState(
        FIRST, state=State.SUCCESS, results=(TaskResult("int64", 3),), created_at=ZERO_TIME
    ),
}

GROUPS = {
    "g17-group-new": GroupMeta(GROUP, (FIRST, SECOND), created_at=CREATED),
    "g17-group-triggered": GroupMeta(GROUP, (FIRST, SECOND), chord_triggered=True, created_at=CREATED),
    "g17-group-locked": GroupMeta(GROUP, (FIRST, SECOND), chord_triggered=True, lock=True, created_at=CREATED),
}

PERIODIC = "g14-signature-periodic"
"""The one file with empty arrays where Python, like Go everywhere else, writes ``null``."""


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_is_encoded_as_go_does_it(name: str) -> None:
    assert encode_signature(SIGNATURES[name]) == golden(name)


@pytest.mark.parametrize("name", SIGNATURES)
def test_gos_signature_survives_decoding_and_encoding_byte_for_byte(name: str) -> None:
    assert encode_signature(decode_signature(golden(name))) == golden(name)


@pytest.mark.parametrize("name", STATES)
def test_a_state_is_encoded_as_go_does_it(name: str) -> None:
    assert encode_state(STATES[name]) == golden(name)


@pytest.mark.parametrize("name", STATES)
def test_gos_state_survives_decoding_and_encoding_byte_for_byte(name: str) -> None:
    assert encode_state(decode_state(golden(name))) == golden(name)


@pytest.mark.parametrize("name", GROUPS)
def test_group_metadata_is_encoded_as_go_does_it(name: str) -> None:
    assert encode_group(GROUPS[name]) == golden(name)
    assert decode_group(golden(name)) == GROUPS[name]


def test_empty_arrays_of_a_periodic_task_mean_the_same_as_the_nulls_that_python_writes() -> None:
    decoded = decode_signature(golden(PERIODIC))

    assert decoded == Signature("noargs", uuid=FIRST, routing_key=QUEUE, headers={})
    assert encode_signature(decoded) == golden(PERIODIC).replace(b"[]", b"null")


def test_every_golden_file_is_tested() -> None:
    assert {file.stem for file in GOLDEN.glob("g*.json")} == {*SIGNATURES, *STATES, *GROUPS, PERIODIC}
