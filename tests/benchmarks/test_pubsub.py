"""The benchmark of Pub/Sub runs. How fast anything was is not looked at."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("google.pubsub_v1", reason="needs google-cloud-pubsub", exc_type=ImportError)

from benchmarks import pubsub

pytestmark = pytest.mark.slow


def test_everybody_sends_and_drains(
    pubsub_host: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub_host)
    monkeypatch.setenv("REDIS_URL", redis_url)
    assert pubsub.main(["--rounds", "1", "--tasks", "50"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(pubsub.RUNNERS)
    for row in rows:
        assert all(re.fullmatch(r"[0-9.,]+x?", cell.strip()) for cell in row.strip("|").split("|")[1:]), row
