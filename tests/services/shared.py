"""One RabbitMQ node for all processes of a run: each takes seconds and a hundred megabytes, which need be spent only once."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.services.chain import SOURCES_VARIABLE, Unobtainable, is_asked_for

if TYPE_CHECKING:
    from tests.services.rabbitmq import RabbitServer

VARIABLE = "AMQP_URL"
WITHOUT = ("architecture", "contracts", "core", "examples/test_docs", "wire")
"""The folders of tests that need none."""
_started: list[tuple[RabbitServer, threading.Thread, tempfile.TemporaryDirectory[str]]] = []


def pytest_configure(config: pytest.Config) -> None:
    """Begin to start the node, where several processes will run tests; they find it by its URL, and wait until it answers."""
    if os.environ.get(VARIABLE) or "PYTEST_XDIST_WORKER" in os.environ or not getattr(config.option, "numprocesses", 0):
        return
    if config.args and all(any(f"tests/{name}" in given for name in WITHOUT) for given in config.args):
        return
    if os.environ.get(SOURCES_VARIABLE) and not is_asked_for("program"):
        return
    try:
        from tests.services.rabbitmq import RabbitServer  # noqa: PLC0415 - pika may not be there

        folder = tempfile.TemporaryDirectory(prefix="machinery-rabbitmq-")
        server = RabbitServer(Path(folder.name))
    except (ImportError, Unobtainable):
        return  # whoever needs it says so
    thread = threading.Thread(target=server.start, daemon=True)
    thread.start()
    _started.append((server, thread, folder))
    os.environ[VARIABLE] = server.url


def pytest_unconfigure() -> None:
    """End it."""
    while _started:
        server, thread, folder = _started.pop()
        thread.join()
        server.__exit__()
        folder.cleanup()
        os.environ.pop(VARIABLE, None)
