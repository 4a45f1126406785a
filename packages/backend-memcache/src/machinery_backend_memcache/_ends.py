"""When items end: Unix seconds, as Go gives them, since Memcached takes a small number for a span of its own."""

from __future__ import annotations

import math
import time

NEVER = 0
LATEST = 2**31 - 1
"""In 2038: later is more than Memcached's number holds."""


def end_in(seconds: float) -> int:
    """The ``exptime`` of what is to live for so long from now: whole seconds, rounded up."""
    end = math.ceil(time.time() + seconds)
    return end if end <= LATEST else NEVER
