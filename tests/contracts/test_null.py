"""``null://`` keeps the contract of a backend that stores nothing."""

from __future__ import annotations

import pytest

from machinery.null import NullBackend
from machinery.testing import StorelessBackendContract


class TestNullBackend(StorelessBackendContract):
    @pytest.fixture
    def backend(self) -> NullBackend:
        return NullBackend()
