"""The application whose servers fire periodic tasks: every firing and every run is noted in a ledger outside the system.

``python -m machinery worker tests.faults.ticking:server`` and ``python -m tests.faults.ticking`` are two programs to Go's lock.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from machinery import Server, Signature
from tests.faults.ledger import note
from tests.faults.noting_tasks import add_tasks

LEDGER = Path(os.environ["LEDGER"])
EVERY = "@every 1s"


class Firings(logging.Handler):
    """Notes what the scheduler says of itself: it alone knows which tick a firing was of."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "%s is sent at its tick of %s" and isinstance(record.args, tuple):
            name, tick = record.args
            note(LEDGER, f"fired/{name}/{tick}")


server = Server.from_url(os.environ["SERVICE_URL"], drain_timeout=10)
server.logger.addHandler(Firings())
server.logger.setLevel(logging.INFO)
add_tasks(server, LEDGER)
server.register_periodic_task(EVERY, "report", Signature("report"))
server.register_periodic_chord(EVERY, "chord", Signature("total"), Signature("part", [1]), Signature("part", [2]))

if __name__ == "__main__":
    server.new_worker("script", 2).launch()
