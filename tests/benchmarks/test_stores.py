"""The benchmark of the result backends runs. How fast anything was is not looked at."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("pymemcache", reason="needs the pymemcache package")

from benchmarks import stores

pytestmark = pytest.mark.slow


def test_every_column_of_a_store_is_measured(
    memcached_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEMCACHE_URL", memcached_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    assert stores.main(["--rounds", "1", "memcached"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| memcached")]
    cells = [cell.strip() for cell in row.strip("|").split("|")[1:]]
    assert len(cells) == len(stores.COLUMNS)
    assert all(re.fullmatch(r"[0-9.,]+", cell) for cell in cells)


def test_a_store_that_there_is_not_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        stores.main(["tape"])
    assert caught.value.code == 2
    assert "there is no store tape" in capsys.readouterr().err
