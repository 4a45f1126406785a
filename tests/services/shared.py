"""One server of some services for all processes of a run: each takes seconds or a hundred megabytes, which need be spent once."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.services.chain import SOURCES_VARIABLE, Unobtainable, is_asked_for

WITHOUT = ("architecture", "contracts", "core", "examples/test_docs", "wire")
"""The folders of tests that need none."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A service that is shared: the tests find its server by the URL in ``variable``."""

    variable: str
    module: str
    make: Callable[[Any, Path], Any]
    """The server, not started yet, from the module and a folder."""


SHARED = (
    Shared("AMQP_URL", "tests.services.rabbitmq", lambda module, folder: module.RabbitServer(folder)),
    Shared("MONGODB_URL", "tests.services.mongo", lambda module, folder: module.MongoServer(folder)),
    Shared(
        "DYNAMODB_URL", "tests.services.dynamodb", lambda module, folder: module.DynamodbServer(folder, durable=False)
    ),
    Shared("SQS_URL", "tests.services.sqs", lambda module, folder: module.SqsServer(folder, durable=False)),
    Shared(
        "PUBSUB_EMULATOR_HOST",
        "tests.services.pubsub",
        lambda module, folder: module.PubsubServer(folder, durable=False),
    ),
)


@dataclass(frozen=True, slots=True)
class _Started:
    variable: str
    server: Any
    thread: threading.Thread
    folder: tempfile.TemporaryDirectory[str]

    def end(self) -> None:
        self.thread.join()
        self.server.__exit__()
        self.folder.cleanup()
        os.environ.pop(self.variable, None)


_started: list[_Started] = []


def pytest_configure(config: pytest.Config) -> None:
    """Begin to start the servers, where several processes will run tests; they find them by URL, and wait for an answer."""
    if "PYTEST_XDIST_WORKER" in os.environ or not getattr(config.option, "numprocesses", 0):
        return
    if config.args and all(any(f"tests/{name}" in given for name in WITHOUT) for given in config.args):
        return
    if os.environ.get(SOURCES_VARIABLE) and not is_asked_for("program"):
        return
    for service in SHARED:
        if not os.environ.get(service.variable):
            _start(service)


def _start(service: Shared) -> None:
    folder = tempfile.TemporaryDirectory(prefix="machinery-shared-")
    try:
        server = service.make(import_module(service.module), Path(folder.name))
    except (ImportError, Unobtainable):  # its driver or its program is not there: whoever needs it says so
        folder.cleanup()
        return
    thread = threading.Thread(target=server.start, daemon=True)
    thread.start()
    _started.append(_Started(service.variable, server, thread, folder))
    os.environ[service.variable] = server.url


def pytest_unconfigure() -> None:
    """End them."""
    while _started:
        _started.pop().end()
