"""Numbers, texts, times, base64 and broken bodies: Python does as Go did when it wrote the tables in ``golden``."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from struct import unpack
from typing import Any

import pytest

from machinery._go_json import quote, to_bytes
from machinery._values import decode_value
from machinery.errors import ArgumentError, DecodeError
from machinery.wire import decode_signature, decode_time, encode_signature, encode_time, encode_value

GOLDEN = Path(__file__).parent / "golden"


def table(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (GOLDEN / name).read_text(encoding="utf-8").splitlines()]


FLOATS = [line.split("\t") for line in (GOLDEN / "floats.tsv").read_text(encoding="utf-8").splitlines()]

OFFSETS_OUT_OF_RANGE = {"2024-03-01T12:30:45+24:00", "2024-03-01T12:30:45+05:60"}
"""Go takes these, though it cannot write the first itself and no one else writes either."""


@pytest.mark.parametrize("width", ["32", "64"])
def test_floats_are_written_as_go_writes_them(width: str) -> None:
    rows = [(bits, text) for row_width, bits, text in FLOATS if row_width == width]

    written = {bits: encode_value(f"float{width}", float_of(bits)) for bits, _ in rows}

    assert len(rows) > 1000
    assert written == dict(rows)


def float_of(bits: str) -> float:
    number: float = unpack(">f" if len(bits) == 8 else ">d", bytes.fromhex(bits))[0]
    return number


@pytest.mark.parametrize("row", table("strings.jsonl"), ids=lambda row: repr(b64decode(row["bytes"])))
def test_strings_are_written_as_go_writes_them(row: dict[str, Any]) -> None:
    text = b64decode(row["bytes"]).decode(errors="surrogateescape")

    # Go writes U+FFFD as an escape where it stands for bytes that are no text, Python as itself: the same string.
    assert to_bytes(quote(text)).decode().replace("\ufffd", "\\ufffd") == row["json"].replace("\ufffd", "\\ufffd")


@pytest.mark.parametrize("row", table("times.jsonl"), ids=lambda row: row["text"])
def test_times_are_taken_and_written_as_by_go(row: dict[str, Any]) -> None:
    if row["accepted"] and row["text"] not in OFFSETS_OUT_OF_RANGE:
        assert encode_time(decode_time(row["text"])) == row["again"]
    else:
        with pytest.raises(DecodeError):
            decode_time(row["text"])


def test_base64_says_what_it_says_to_go() -> None:
    rows = table("base64.jsonl")

    said = {row["text"]: what_base64_says(row["text"]) for row in rows}

    assert said == {row["text"]: row["error"] if "error" in row else b64decode(row["bytes"]) for row in rows}


def what_base64_says(text: str) -> object:
    try:
        return decode_value("[]uint8", text)
    except ArgumentError as error:
        return str(error)


@pytest.mark.parametrize("row", table("integers.jsonl"), ids=lambda row: row["literal"])
@pytest.mark.parametrize("sign", ["signed", "unsigned"])
def test_number_literals_are_integers_where_they_are_to_go(row: dict[str, Any], sign: str) -> None:
    body = f'{{"Args":[{{"Type":"{"int64" if sign == "signed" else "uint64"}","Value":{row["literal"]}}}]}}'
    (arg,) = decode_signature(body.encode()).args

    if sign in row:
        assert decode_value(arg.type, arg.value) == row[sign]
    else:
        with pytest.raises(ArgumentError) as caught:
            decode_value(arg.type, arg.value)
        assert str(caught.value) == row[f"{sign}Error"]


@pytest.mark.parametrize("row", table("bodies.jsonl"), ids=lambda row: repr(b64decode(row["body"])))
def test_bodies_are_taken_and_refused_as_by_go(row: dict[str, Any]) -> None:
    body = b64decode(row["body"])

    if row["accepted"] and body != b"null":
        assert encode_signature(decode_signature(body)).decode() == row["again"].replace('"Args":[]', '"Args":null')
    else:
        with pytest.raises(DecodeError):
            decode_signature(body)
