"""The extensions of ours that travel in a signature's ``Headers``: keys ``machinery_*``, string values, dropped by nobody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from machinery._times import decode_time
from machinery.errors import DecodeError

ATTEMPT = "machinery_attempt"
"""Which run this is, decimal; absent: the first."""
FAILURES = "machinery_failures"
"""How many runs ended in an exception, decimal; absent: none."""
EXPIRES = "machinery_expires"
"""RFC 3339; not started after it."""


def count_of(headers: Mapping[str, Any] | None, key: str, default: int) -> int:
    """The decimal number under ``key``; ``default`` where it is absent or no number (headers are anybody's)."""
    if not headers or key not in headers:
        return default
    text = headers[key]
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10 else default  # noqa: PLR2004


def expiry_of(headers: Mapping[str, Any] | None) -> datetime | None:
    """The instant after which the task must not start; ``None`` without a readable one."""
    text = headers.get(EXPIRES) if headers else None
    if not isinstance(text, str):
        return None
    try:
        return decode_time(text)
    except DecodeError:
        return None


def as_text(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers with text and flags only: other values are written as in JSON."""
    return {
        key: value if isinstance(value, str | bool) else json.dumps(value, default=str)
        for key, value in headers.items()
    }
