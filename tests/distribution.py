"""How the tests are shared out among the processes of a run: file by file, and of the longest files piece by piece."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

PIECES = (
    re.compile(r"^(tests/workflows/test_grid\.py)::.*(\[[^]]*\])$"),  # pair by pair
    re.compile(r"^(tests/interop/test_redis\.py)(::Test\w+)::"),  # class by class
)


class ByFileOrPiece(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """``--dist loadfile``, but for the longest files."""

    def _split_scope(self, nodeid: str) -> str:
        for pattern in PIECES:
            if (found := pattern.match(nodeid)) is not None:
                return "".join(found.groups())
        return str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist nothing is shared out
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """The scheduler where files are shared out; else ``None``, and pytest-xdist has its own."""
    return ByFileOrPiece(config, log) if config.getoption("dist") == "loadfile" else None
