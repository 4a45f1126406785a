"""What the tests of core share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from machinery import Config, Server
from tests.core.gate import Gate
from tests.core.observed import Journal, ObservedBackend, ObservedBroker
from tests.core.site_packages import SitePackages
from tests.core.worker_parts import Parts


@pytest.fixture
def site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SitePackages]:
    """An installation of core alone, into which a test may install distributions."""
    path = tmp_path / "site-packages"
    path.mkdir()
    monkeypatch.syspath_prepend(str(path))
    made = SitePackages(path, monkeypatch)
    monkeypatch.setattr("importlib.metadata.entry_points", made.entry_points)
    made.forget()
    yield made
    made.forget()


@pytest.fixture
def long_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short tasks are not announced, also where a busy machine keeps them longer than a moment."""
    monkeypatch.setattr("machinery._worker._announcer.WAITING", 60)
    monkeypatch.setattr("machinery._worker._announcer.MOMENT", 60)


@pytest.fixture
def long_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lets go of a scheduler last surely sees the end of its thread."""
    monkeypatch.setattr("machinery._scheduler.FAREWELL", 20)


@pytest.fixture
def journal() -> Journal:
    """What is asked of `broker` and `backend`, and what is to go wrong with them."""
    return Journal()


@pytest.fixture
def broker(journal: Journal) -> Iterator[ObservedBroker]:
    """Queues in memory, under observation."""
    made = ObservedBroker(journal)
    yield made
    made.close()


@pytest.fixture
def backend(journal: Journal) -> Iterator[ObservedBackend]:
    """Records in memory, under observation."""
    made = ObservedBackend(journal)
    yield made
    made.close()


@pytest.fixture
def server(broker: ObservedBroker, backend: ObservedBackend) -> Server:
    """A server on the two."""
    return Server(Config(drain_timeout=20), broker, backend)


@pytest.fixture
def gate(server: Server) -> Iterator[Gate]:
    """A task of `server` that stays inside until it is let go."""
    made = Gate(server)
    yield made
    made.opened.set()


@pytest.fixture
def parts(server: Server) -> Iterator[Parts]:
    """A worker of `server` taken apart."""
    made = Parts(server)
    yield made
    made.stop()
