"""What `machinery doctor` says about a Memcached."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from machinery.abc import Config, Finding, State, TaskState
from machinery_backend_memcache import MemcacheBackend, _examination
from tests.services.chain import Unobtainable, missing
from tests.services.memcached import MemcachedServer


def examine(url: str) -> list[Finding]:
    backend = MemcacheBackend.from_url(url, Config())
    try:
        return backend.examine()
    finally:
        backend.close()


def said(findings: list[Finding], level: str) -> str:
    return "\n".join(finding.text for finding in findings if finding.level == level)


def server_with(folder: Path, *arguments: str) -> MemcachedServer:
    try:
        return MemcachedServer(folder, arguments=arguments)
    except Unobtainable as reason:
        missing("memcached", str(reason))


def test_a_server_as_it_is_delivered_is_fine(
    memcached_server: MemcachedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_examination, "CLOCK_MARGIN", 30)  # between its look at the clock and ours may lie a while

    found = examine(memcached_server.url)

    assert {finding.level for finding in found} == {"ok"}
    assert "forgets every result when it restarts" in said(found, "ok")
    assert f"127.0.0.1:{memcached_server.port}" in said(found, "ok")


@pytest.mark.parametrize(
    ("arguments", "level", "text"),
    [
        (("-m", "16"), "warning", "only 16 MiB"),
        (("-I", "512k"), "error", "takes items of 524288 bytes"),
        (("-I", "8m"), "ok", "set memcache.item_size_max to 8388608"),
        (("-C",), "error", "started with -C"),
    ],
)
def test_dangerous_settings_are_named(tmp_path: Path, arguments: tuple[str, ...], level: str, text: str) -> None:
    with server_with(tmp_path / "server", *arguments) as server:
        assert text in said(examine(server.url), level)


def test_what_was_thrown_out_is_counted(tmp_path: Path) -> None:
    with server_with(tmp_path / "server", "-m", "8") as server:
        backend = MemcacheBackend.from_url(server.url, Config())
        for number in range(200):
            backend.save([TaskState(f"u{number}", "add", State.FAILURE, error="x" * 100_000)])
        backend.close()

        found = said(examine(server.url), "warning")

    assert "has thrown out" in found
    assert "raise its memory" in found


def test_a_clock_that_is_off_is_named(memcached_server: MemcachedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    monkeypatch.setattr("machinery_backend_memcache._examination.time.time", lambda: now() + 60)

    assert re.search(
        r"is [6-9]\d s behind ours.*expire that much later", said(examine(memcached_server.url), "warning")
    )


@pytest.mark.parametrize(
    ("facts", "settings", "level", "text"),
    [
        ({b"version": b"1.4.5"}, {}, "error", "too old"),
        ({b"version": b"what"}, {}, "error", "too old"),
        ({b"version": b"1.6.18", b"limit_maxbytes": 100 * 2**20, b"bytes": 95 * 2**20}, {}, "warning", "over 90 %"),
        (
            {b"version": b"1.6.18", b"limit_maxbytes": 100 * 2**20, b"bytes": 95 * 2**20},
            {b"evictions": b"off"},
            "warning",
            "it refuses results",
        ),
        ({b"version": b"1.6.18", b"max_connections": 100, b"curr_connections": 95}, {}, "warning", "95 of 100"),
    ],
)
def test_what_a_server_tells_is_judged(
    facts: dict[bytes, object], settings: dict[bytes, object], level: str, text: str
) -> None:
    now = {b"time": int(time.time())}
    found = list(_examination._examine_server({**now, **facts}, settings, "memcache://h:1", 2**20))

    assert text in said(found, level)
