"""What `machinery doctor` says about a Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from machinery.abc import Config, Finding
from machinery_broker_redis import RedisBroker
from tests.services import redis_topologies as topologies
from tests.services.chain import Unobtainable, missing
from tests.services.redis import RedisServer


def examine(url: str) -> list[Finding]:
    broker = RedisBroker.from_url(url, Config())
    try:
        return broker.examine()
    finally:
        broker.close()


def said(findings: list[Finding], level: str) -> str:
    return "\n".join(finding.text for finding in findings if finding.level == level)


def test_a_durable_server_is_fine(redis_server: RedisServer) -> None:
    found = examine(redis_server.url)

    assert {finding.level for finding in found} == {"ok"}
    assert "append-only file is on" in said(found, "ok")


@pytest.mark.parametrize(
    ("arguments", "level", "text"),
    [
        (["--save", ""], "error", "nothing is kept on disk"),
        (["--save", "900", "1"], "warning", "only snapshots"),
        (["--maxmemory-policy", "allkeys-lru"], "error", "queues and results"),
        (["--maxmemory-policy", "volatile-ttl"], "warning", "deletes results"),
        (["--timeout", "5"], "warning", "timeout is 5"),
        (["--appendonly", "yes", "--appendfsync", "everysec"], "ok", "may lose about a second"),
        (["--appendonly", "yes", "--appendfsync", "no"], "ok", "may lose half a minute"),
        (["--maxmemory", "500kb"], "warning", "90 %"),
        (["--rename-command", "CONFIG", ""], "warning", "only snapshots"),
    ],
)
def test_dangerous_settings_are_named(
    redis_url: str, tmp_path: Path, arguments: list[str], level: str, text: str
) -> None:
    try:
        server = RedisServer(tmp_path / "server", arguments=arguments)
    except Unobtainable as reason:
        missing("redis", str(reason))
    with server:
        assert text in said(examine(server.url), level)


def test_replicas_and_masters_with_replicas_are_named(redis_url: str, tmp_path: Path) -> None:
    with topologies.replicated(tmp_path) as (master, replica):
        assert "this is a replica" in said(examine(replica.url), "error")
        assert "a failover may lose" in said(examine(master.url), "warning")
