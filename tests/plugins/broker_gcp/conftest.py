"""Brokers on the shared Pub/Sub, each test with topics and subscriptions of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from machinery.abc import Config
from machinery_broker_gcp import PubsubBroker
from tests.contracts.made import Made
from tests.services.pubsub import Stubs

PROJECT = "machinery-tests"
MakeQueue = Callable[..., str]
LEASE = 60
"""Seconds: longer than a busy machine stands still."""


def config_with(**options: Any) -> Config:
    """A configuration with a default queue that nobody else uses, whose ``gcp_pub_sub`` section says that besides."""
    return Config(default_queue=f"queue-{uuid4().hex}", sections={"gcp_pub_sub": {"ack_deadline": LEASE, **options}})


@pytest.fixture
def config() -> Config:
    return config_with()


@pytest.fixture
def url(pubsub_host: str, config: Config) -> str:
    return f"gcppubsub://{PROJECT}/sub-{config.default_queue}?emulator_host={pubsub_host}"


@pytest.fixture
def make_queue(url: str, config: Config) -> MakeQueue:
    """Makes what a queue needs; a name of its own unless one is given."""

    def make(name: str = "", *arguments: str) -> str:
        name = name or f"contract-{uuid4().hex}"
        with redirect_stdout(StringIO()):
            create = PubsubBroker.commands["create-resources"]
            assert create([url, "--default-queue", config.default_queue, "--queue", name, *arguments]) == 0
        return name

    return make


@pytest.fixture
def make_broker(url: str, config: Config) -> Iterator[Callable[..., PubsubBroker]]:
    with Made(lambda: PubsubBroker.from_url(url, config)) as made:
        yield made


@pytest.fixture
def broker(make_broker: Callable[..., PubsubBroker]) -> PubsubBroker:
    return make_broker()


@pytest.fixture
def raw(pubsub_host: str) -> Iterator[Stubs]:
    """Bare calls, to look behind the scenes and to play Go."""
    stubs = Stubs(pubsub_host)
    yield stubs
    stubs.close()


class Ended(grpc.RpcError):  # type: ignore[misc] # gRPC has no types
    """A call that ended so."""

    def __init__(self, code: grpc.StatusCode, details: str, info: Mapping[str, str] | None = None) -> None:
        """``info``: the metadata of the ``ErrorInfo`` that goes with it."""
        self._code = code
        self._details = details
        self._info = info

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Sequence[tuple[str, bytes]]:
        if self._info is None:
            return ()
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(domain="googleapis.com", metadata=self._info))
        status = status_pb2.Status(code=self._code.value[0], message=self._details, details=[detail])
        return (("grpc-status-details-bin", status.SerializeToString()),)
