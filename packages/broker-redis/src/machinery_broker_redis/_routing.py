"""Which queue a delayed message belongs to: what its body says, read as leniently as Go reads it."""

from __future__ import annotations

import re

from machinery.errors import DecodeError
from machinery.wire import decode_signature

_AS_GO_WRITES_IT = re.compile(rb'\{"UUID":"[^"\\]*","Name":"[^"\\]*","RoutingKey":"([^"\\]*)"')


def queue_of(body: bytes, default: str) -> str:
    """The queue that ``body`` names; ``default`` where it names none. Raises `DecodeError` where it is no message at all."""
    found = _AS_GO_WRITES_IT.match(body)
    if found is not None:
        try:
            return found[1].decode() or default
        except UnicodeDecodeError as error:
            raise DecodeError(f"RoutingKey is not UTF-8: {error}") from None
    return decode_signature(body).routing_key or default
