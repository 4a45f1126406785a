"""What the tests of core share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from machinery import _entry_points
from tests.core.site_packages import SitePackages


@pytest.fixture
def site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SitePackages]:
    """An installation of core alone, into which a test may install distributions."""
    path = tmp_path / "site-packages"
    path.mkdir()
    monkeypatch.syspath_prepend(str(path))
    made = SitePackages(path, monkeypatch)
    monkeypatch.setattr(_entry_points, "entry_points", made.entry_points)
    made.forget()
    yield made
    made.forget()
