"""The application whose workers are killed: every run is noted in a ledger outside the system."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from machinery import Config, Exponential, Server
from tests.faults.ledger import note

LEDGER = Path(os.environ["LEDGER"])

server = (
    Server.from_url(os.environ["SERVICE_URL"], drain_timeout=10)
    if os.environ["SERVICE_URL"]
    else Server.from_config(Config.from_env().with_(drain_timeout=10))
)


@server.task
def work(number: int) -> int:
    """Short, but long enough to be killed in."""
    time.sleep(0.002)
    note(LEDGER, f"work-{number}")
    return number


@server.task
async def work_async(number: int) -> int:
    """The same on the event loop."""
    note(LEDGER, f"async-{number}")
    return number


@server.task(retry_count=1, retry=Exponential(base=0.05, jitter=0))
def work_twice(number: int) -> int:
    """Fails once, then succeeds: retries must survive kills, too."""
    seen = LEDGER.parent / f"seen-{number}"
    if not seen.exists():
        seen.touch()
        raise RuntimeError("the first time")
    note(LEDGER, f"twice-{number}")
    return number


@server.task
def follow(number: int, result: int) -> int:
    """Sent when ``work`` has succeeded."""
    note(LEDGER, f"follow-{number}")
    return result


@server.task
def die() -> None:
    """Takes its worker with it."""
    note(LEDGER, "die")
    os.kill(os.getpid(), signal.SIGKILL)
