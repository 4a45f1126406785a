"""How the tests are shared out among the processes of a run: file by file, and of the grid pair by pair, as it is the largest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

GRID = re.compile(r"^(?P<file>tests/workflows/test_grid\.py)::.*\[(?P<pair>[^]]*)\]$")


class ByFileOrPair(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """``--dist loadfile``, but for the grid."""

    def _split_scope(self, nodeid: str) -> str:
        found = GRID.match(nodeid)
        return found.expand(r"\g<file>[\g<pair>]") if found else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist nothing is shared out
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """The scheduler where files are shared out; else ``None``, and pytest-xdist has its own."""
    return ByFileOrPair(config, log) if config.getoption("dist") == "loadfile" else None
