"""What `machinery doctor` finds about Memcached: settings that lose results, or refuse them, without a word."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from machinery.abc import Finding
from machinery.errors import Unavailable
from machinery_backend_memcache._options import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from machinery_backend_memcache._servers import Servers

OLDEST = (1, 4, 8)
"""``touch``."""
SMALL_MEMORY = 64 * MIB
"""Memcached's default (``-m``)."""
CLOCK_MARGIN = 5
"""Seconds by which two clocks may differ before anybody cares."""


def examine(servers: Servers, item_size_max: int) -> list[Finding]:
    """The findings of every server. Raises `Unavailable` when none can be reached, and `ConfigError`."""
    findings: list[Finding] = []
    lost: list[Unavailable] = []
    for server, address in enumerate(servers.addresses):
        try:
            facts, settings = servers.statistics(server)
        except Unavailable as error:
            lost.append(error)
            continue
        findings += _examine_server(facts, settings, address, item_size_max)
    if lost and len(lost) == len(servers):
        raise lost[0]
    return [*findings, *[Finding("error", f"{error}; whatever has its place there fails") for error in lost]]


def _examine_server(
    facts: Mapping[bytes, Any], settings: Mapping[bytes, Any], address: str, item_size_max: int
) -> Iterator[Finding]:
    yield _version(_text(facts, b"version"), address)
    if _text(settings, b"cas_enabled") in {"no", "0", "False"}:
        yield Finding(
            "error",
            f"memcached at {address} was started with -C, so that nobody notices when two write the same record; start it "
            "without",
        )
    yield from _memory(facts, settings, address)
    yield from _item_size(_number(settings, b"item_size_max"), item_size_max, address)
    limit, used = _number(facts, b"max_connections"), _number(facts, b"curr_connections")
    if limit and used > 0.9 * limit:
        yield Finding(
            "warning", f"memcached at {address} has {used} of {limit} connections in use; raise the limit (-c)"
        )
    apart = _number(facts, b"time") - time.time()
    if abs(apart) > CLOCK_MARGIN:
        yield Finding(
            "warning",
            f"the clock of memcached at {address} is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} ours: results "
            f"expire that much {'earlier' if apart > 0 else 'later'}; set both by NTP",
        )


def _version(text: str, address: str) -> Finding:
    digits = tuple(int(part) for part in text.split(".")[:3] if part.isdigit())
    if digits < OLDEST:
        return Finding(
            "error", f"memcached {text or 'of unknown version'} at {address} is too old; it must be 1.4.8 or newer"
        )
    return Finding("ok", f"memcached {text} at {address}; it forgets every result when it restarts")


def _memory(facts: Mapping[bytes, Any], settings: Mapping[bytes, Any], address: str) -> Iterator[Finding]:
    limit, used, evictions = (_number(facts, name) for name in (b"limit_maxbytes", b"bytes", b"evictions"))
    if evictions:
        yield Finding(
            "warning",
            f"memcached at {address} has thrown out {evictions} items before their time, perhaps results that somebody waits for "
            "and groups that have not ended; raise its memory (-m)",
        )
    if limit and limit < SMALL_MEMORY:
        yield Finding(
            "warning",
            f"memcached at {address} has only {limit // MIB} MiB (-m); when they are full it throws out what was unused for "
            "longest",
        )
    if limit and used > 0.9 * limit:
        consequence = (
            "refuses results"
            if _text(settings, b"evictions") in {"off", "False"}
            else "throws out what was unused for longest"
        )
        yield Finding(
            "warning",
            f"memcached at {address} uses over 90 % of its memory; when it is full it {consequence}: raise -m",
        )


def _item_size(theirs: int, ours: int, address: str) -> Iterator[Finding]:
    if not theirs or theirs == ours:
        return
    if theirs < ours:
        yield Finding(
            "error",
            f"memcached at {address} takes items of {theirs} bytes (-I) where memcache.item_size_max says {ours}: large groups "
            "are refused only after they were begun; make the two equal",
        )
    else:
        yield Finding(
            "ok",
            f"memcached at {address} takes items of {theirs} bytes (-I) but we reckon with {ours}; set memcache.item_size_max to "
            f"{theirs} for larger results",
        )


def _text(found: Mapping[bytes, Any], name: bytes) -> str:
    value = found.get(name, b"")
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _number(found: Mapping[bytes, Any], name: bytes) -> int:
    text = _text(found, name)
    return int(text) if text.isdigit() else 0
