"""What all tests share: the services."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.distribution import pytest_xdist_make_scheduler
from tests.services.fixtures import (
    amqp_url,
    aws_credentials,
    dynamodb_server,
    dynamodb_tables,
    dynamodb_url,
    memcached_server,
    memcached_url,
    mongo_database,
    mongo_server,
    mongo_url,
    moto_url,
    pubsub_host,
    pubsub_server,
    rabbit_server,
    redis_database,
    redis_server,
    redis_url,
    sqs_queues,
    sqs_server,
    sqs_url,
)
from tests.services.shared import pytest_configure, pytest_unconfigure

__all__ = [
    "amqp_url",
    "aws_credentials",
    "dynamodb_server",
    "dynamodb_tables",
    "dynamodb_url",
    "memcached_server",
    "memcached_url",
    "mongo_database",
    "mongo_server",
    "mongo_url",
    "moto_url",
    "pubsub_host",
    "pubsub_server",
    "pytest_configure",
    "pytest_unconfigure",
    "pytest_xdist_make_scheduler",
    "rabbit_server",
    "redis_database",
    "redis_server",
    "redis_url",
    "sqs_queues",
    "sqs_server",
    "sqs_url",
]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Reports travel between processes as UTF-8, and what a test has logged need not be that."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
