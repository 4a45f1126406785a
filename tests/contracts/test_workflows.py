"""The workflows run on what core ships."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from machinery import Server
from machinery.testing import WorkflowContract


class TestOnMemory(WorkflowContract):
    @pytest.fixture
    def server(self) -> Iterator[Server]:
        with Server.from_url("memory://") as server:
            yield server


class TestOnSqlite(WorkflowContract):
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[Server]:
        with Server.from_url(f"sqlite:///{tmp_path / 'workflows.db'}") as server:
            yield server
