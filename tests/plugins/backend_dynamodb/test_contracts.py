"""DynamoDB keeps the contract."""

from __future__ import annotations

from machinery.testing import BackendContract


class TestDynamodbBackend(BackendContract):
    pass
