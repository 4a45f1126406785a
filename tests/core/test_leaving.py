"""A worker process that was told to stop ends, whatever its tasks have started."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from machinery import Server, Signature
from tests.interop.eventually import eventually

APPLICATION = """
import asyncio
import time
from pathlib import Path

from machinery import Server

server = Server.from_url("sqlite:///tasks.db", drain_timeout=0.2)


@server.task
async def stubborn():
    Path("begun").touch()
    await asyncio.to_thread(time.sleep, 30)
"""


@pytest.mark.slow
def test_a_thread_that_a_task_left_behind_does_not_keep_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a coroutine whose thread sleeps for longer than anybody wants to wait
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leaving.py").write_text(APPLICATION, "utf-8")
    command = [sys.executable, "-m", "machinery", "worker", "leaving:server", "-c", "1"]
    with (
        Server.from_url("sqlite:///tasks.db") as server,
        subprocess.Popen(command, stderr=subprocess.DEVNULL) as worker,
    ):
        server.send_task(Signature("stubborn"))
        eventually((tmp_path / "begun").exists)

        # When the worker is told to stop
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)

        # Then it hands the task back and ends long before the thread does
        assert worker.wait(25) == 0
        assert time.monotonic() - began < 25
        assert [signature.name for signature in server.pending_tasks()] == ["stubborn"]
