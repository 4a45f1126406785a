"""The benchmark of SQS runs. How fast anything was is not looked at."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("boto3", reason="needs the boto3 package")

from benchmarks import sqs
from benchmarks.peers import BARE, OURS

pytestmark = pytest.mark.slow


def test_every_column_of_this_project_and_of_the_loop_is_measured(
    sqs_url: str, redis_database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_database)
    monkeypatch.setattr(sqs, "SINGLES", 50)
    assert sqs.main(["--rounds", "1", "--tasks", "300", OURS, BARE]) == 0

    rows = [line for line in capsys.readouterr().out.splitlines() if re.match(r"\| \w", line)]
    assert len(rows) == len(sqs.COLUMNS)
    for row in rows:
        ours, bare = (cell.strip() for cell in row.strip("|").split("|")[1:])
        assert re.fullmatch(r"[0-9.,]+", ours)
        assert re.fullmatch(r"[0-9.,]+", bare) or row.startswith("| round trip")


def test_a_peer_that_there_is_not_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        sqs.main(["pigeon"])
    assert caught.value.code == 2
    assert "there is no peer pigeon" in capsys.readouterr().err
