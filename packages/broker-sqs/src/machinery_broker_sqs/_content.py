"""What a message looks like in SQS: text, and attributes beside it.

A body that is text which SQS takes stands there as it is, as Go's does. Any other is base64, and an attribute says so; Go's
workers could not read it in any case. All attributes of ours begin with ``machinery_``; those that others set are passed on.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Any

LARGEST_MESSAGE = 1_048_576
"""Bytes of a message, and of all messages of one request, with the names, types and values of their attributes: SQS's limit."""
AT_ONCE = 10
"""Messages of one request: SQS's limit."""
_MOST_ATTRIBUTES = 10
_LONGEST_ID = 128

ENCODING = "machinery_encoding"
COPY = "machinery_copy"
"""Of a message that was sent again to be delivered later: the first one may not have gone away."""
QUEUE = "machinery_queue"
REASON = "machinery_reason"
KEY = "machinery_key"
"""Of a dead letter: its ordering key."""

_BASE64 = "base64"
_NO_BYTES = " "
"""Base64 of nothing is nothing, which SQS takes for no message."""
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NO_ID = re.compile(r"[^A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]")

Attributes = Mapping[str, Any]


def encode_body(body: bytes) -> tuple[str, dict[str, Any]]:
    """The text, and the attributes that say how to read it."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = ""
    if text and not _FORBIDDEN.search(text):
        return text, {}
    return base64.b64encode(body).decode() or _NO_BYTES, {ENCODING: attribute(_BASE64)}


def decode_body(text: str, attributes: Attributes) -> bytes:
    """The bytes that `encode_body` was given."""
    if said(attributes, ENCODING) == _BASE64:
        try:
            return base64.b64decode(text)
        except binascii.Error:  # somebody else wrote it; whoever decodes it will say so
            pass
    return text.encode()


def attribute(value: str) -> dict[str, str]:
    """An attribute of a message that is text."""
    return {"DataType": "String", "StringValue": value}


def said(attributes: Attributes, name: str) -> str:
    """What an attribute says; empty: there is none."""
    return str((attributes.get(name) or {}).get("StringValue", ""))


def to_text(value: str) -> str:
    """``value`` without what SQS forbids in text."""
    return _FORBIDDEN.sub("\ufffd", value)


def size_of(text: str, attributes: Attributes) -> int:
    """The bytes that SQS counts."""
    size = len(text) if text.isascii() else len(text.encode())
    for name, value in attributes.items():
        content = value.get("StringValue", "").encode() + (value.get("BinaryValue") or b"")
        size += len(name) + len(value.get("DataType", "")) + len(content)
    return size


def with_ours(text: str, attributes: Attributes, **ours: str) -> dict[str, Any]:
    """The attributes with some of ours besides, as far as there is room: ours go first, and the longest of them is cut."""
    made = {name: attribute(value) for name, value in ours.items() if value}
    kept = {name: value for name, value in attributes.items() if name not in made}
    if len(made) + len(kept) > _MOST_ATTRIBUTES:
        theirs = [name for name in kept if not name.startswith("machinery_")]
        for name in theirs[_MOST_ATTRIBUTES - len(made) - len(kept) :]:
            del kept[name]
    over = size_of(text, {**kept, **made}) - LARGEST_MESSAGE
    if over > 0 and REASON in made:
        shortened = said(made, REASON).encode()[:-over].decode(errors="ignore")
        made[REASON] = attribute(shortened)
        if not shortened:
            del made[REASON]
    return {**kept, **made} if size_of(text, {**kept, **made}) <= LARGEST_MESSAGE else dict(kept)


def to_id(value: str) -> str:
    """A group's or a message's id for SQS; one that it would refuse is replaced by its hash."""
    if 0 < len(value) <= _LONGEST_ID and not _NO_ID.search(value):
        return value
    return hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()
