"""Both sides on one Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from machinery import Server
from tests.interop.application import Application
from tests.interop.gomachinery import GoMachinery
from tests.interop.matrix import Sides

DATABASE = 1
"""For URLs that name none. Not the default one, so that a side that forgets to select it is found out."""


@contextmanager
def both_sides(go_program: Path, client: str, redis_url: str, **config: Any) -> Iterator[Sides]:
    """Both sides on a queue that no one else knows; ``client`` is Go's, ``config`` Python's."""
    url = urlsplit(redis_url)
    database = int(url.path.strip("/") or DATABASE)
    queue = f"interop_{uuid4()}"
    server = Server.from_url(f"redis://{url.netloc}/{database}", default_queue=queue, **config)
    try:
        yield Sides(GoMachinery(go_program, client, url.netloc, url.netloc, database, queue), Application(server))
    finally:
        server.close()
