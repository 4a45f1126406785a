"""What `machinery doctor` finds about a Redis: settings that lose tasks without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machinery.abc import Finding
from machinery_broker_redis._connections import pack
from machinery_broker_redis._errors import DRIVER_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machinery_broker_redis._client import Client
    from machinery_broker_redis._connections import Connections

OLDEST = (6, 2)
"""``BLMOVE`` and ``LPOP`` with a count."""


def examine(client: Client) -> list[Finding]:
    """The findings of every server that has keys. Raises `Unavailable` and `ConfigError`."""
    try:
        return [finding for connections in client.all_connections() for finding in _examine_server(connections)]
    except DRIVER_ERRORS as error:
        raise client.translated(error) from None


def _examine_server(connections: Connections) -> Iterator[Finding]:
    info_reply, settings_reply = connections.exchange(pack([("INFO",), ("CONFIG", "GET", "*")]), 2)
    if isinstance(info_reply, Exception):
        raise info_reply
    info = dict(line.split(":", 1) for line in info_reply.decode(errors="replace").splitlines() if ":" in line)
    settings = _to_settings(settings_reply)
    yield from _version(info)
    yield from _memory(info, settings)
    yield from _persistence(info, settings)
    yield from _replication(info, settings)
    yield from _timeouts(settings)


def _to_settings(reply: object) -> dict[str, str]:
    """Those that ``CONFIG GET`` told; nothing where it is forbidden, as hosted services do."""
    if isinstance(reply, dict):
        return {key.decode(): value.decode(errors="replace") for key, value in reply.items()}
    if isinstance(reply, list):
        texts = [part.decode(errors="replace") for part in reply]
        return dict(zip(texts[::2], texts[1::2], strict=True))
    return {}


def _version(info: dict[str, str]) -> Iterator[Finding]:
    text = info.get("redis_version", "")
    digits = [int(part) for part in text.split(".")[:2] if part.isdigit()]
    if tuple(digits) < OLDEST:
        yield Finding("error", f"Redis {text or 'of unknown version'} is too old; it must be 6.2 or newer")
    else:
        yield Finding("ok", f"Redis {text}, {info.get('redis_mode', 'standalone')}")


def _memory(info: dict[str, str], settings: dict[str, str]) -> Iterator[Finding]:
    policy = info.get("maxmemory_policy") or settings.get("maxmemory-policy", "")
    limit = int(info.get("maxmemory") or 0)
    if policy and policy != "noeviction":
        level = "error" if policy.startswith("allkeys") else "warning"
        yield Finding(
            level,
            f"maxmemory-policy is {policy}: when memory runs out, Redis silently deletes "
            f"{'queues and results' if level == 'error' else 'results'}; set it to noeviction",
        )
    if limit and int(info.get("used_memory") or 0) > 0.9 * limit:
        yield Finding(
            "warning",
            f"Redis uses over 90 % of its maxmemory of {limit} bytes; when it is full it refuses senders and workers alike, so "
            "that workers cannot drain it: raise maxmemory",
        )


def _persistence(info: dict[str, str], settings: dict[str, str]) -> Iterator[Finding]:
    if info.get("aof_enabled") == "1":
        fsync = settings.get("appendfsync", "everysec")
        if fsync == "always":
            yield Finding("ok", "the append-only file is on and written through")
        else:
            loss = "about a second" if fsync == "everysec" else "half a minute"
            yield Finding(
                "ok", f"the append-only file is on; with appendfsync {fsync} a crash of the machine may lose {loss}"
            )
    elif settings.get("save", "") or not settings:
        yield Finding(
            "warning",
            "only snapshots are kept: after a crash all tasks since the last one are lost; set appendonly to yes",
        )
    else:
        yield Finding("error", "nothing is kept on disk: a restart loses every task; set appendonly to yes")
    if info.get("aof_last_write_status", "ok") != "ok" or info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield Finding("error", "Redis cannot write to its disk; see its log")


def _replication(info: dict[str, str], settings: dict[str, str]) -> Iterator[Finding]:
    if info.get("role") not in {"master", None}:
        yield Finding(
            "error", "this is a replica, which takes no tasks; give the master's address, or redis.master_name"
        )
    elif int(info.get("connected_slaves") or 0) and settings.get("min-replicas-to-write", "0") == "0":
        yield Finding(
            "warning",
            "a failover may lose tasks that no replica had yet; min-replicas-to-write 1 bounds how many",
        )


def _timeouts(settings: dict[str, str]) -> Iterator[Finding]:
    seconds = int(settings.get("timeout") or 0)
    if 0 < seconds < 60:  # noqa: PLR2004 - a minute
        yield Finding(
            "warning", f"timeout is {seconds}: Redis closes idle connections so soon that many calls reconnect"
        )
