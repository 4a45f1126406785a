"""Google Cloud Pub/Sub: a server of our own (`tests.services.pubsub_server`), and the places the shared one may come from.

Each is known by ``host:port``, as the variable is that all clients look at.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.pubsub_v1 import types

from tests.services.chain import Source, Unobtainable
from tests.services.containers import container_of
from tests.services.processes import ServerProcess, free_port

VARIABLE = "PUBSUB_EMULATOR_HOST"
IMAGE = "gcr.io/google.com/cloudsdktool/google-cloud-cli:emulators"
PORT = 8085
SERVER = "tests.services.pubsub_server"
ROOT = Path(__file__).parents[2]
CALL = 30.0
"""Seconds that a call may take on a busy machine."""
PATIENCE = 60.0
"""Seconds that a server may take to start on a busy machine."""


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something listens there now. Ours does when it is ready, not before."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


class Stubs:
    """The bare calls, with raw messages: what the tests look at the service with."""

    def __init__(self, host: str) -> None:
        self._channel = grpc.insecure_channel(host)
        self.streaming_pull = self._channel.stream_stream(
            "/google.pubsub.v1.Subscriber/StreamingPull",
            types.StreamingPullRequest.pb().SerializeToString,
            types.StreamingPullResponse.pb().FromString,
        )

    def close(self) -> None:
        self._channel.close()

    def create_topic(self, name: str) -> None:
        self._call("Publisher/CreateTopic", types.Topic.pb()(name=name))

    def create_subscription(self, name: str, topic: str, **config: Any) -> None:
        self._call("Subscriber/CreateSubscription", types.Subscription.pb()(name=name, topic=topic, **config))

    def delete_subscription(self, name: str) -> None:
        self._call("Subscriber/DeleteSubscription", types.DeleteSubscriptionRequest.pb()(subscription=name))

    def publish(self, topic: str, *bodies: bytes) -> None:
        """Without attributes, as Go does."""
        messages = [types.PubsubMessage.pb()(data=body) for body in bodies]
        self._call("Publisher/Publish", types.PublishRequest.pb()(topic=topic, messages=messages))

    def pull(self, subscription: str, limit: int, *, at_once: bool = False) -> list[Any]:
        """What there is, or comes within some seconds; ``at_once``: only what there is."""
        request = types.PullRequest.pb()(subscription=subscription, max_messages=limit, return_immediately=at_once)
        return list(types.PullResponse.pb().FromString(self._call("Subscriber/Pull", request)).received_messages)

    def acknowledge(self, subscription: str, ack_ids: Iterable[str]) -> None:
        request = types.AcknowledgeRequest.pb()(subscription=subscription, ack_ids=ack_ids)
        self._call("Subscriber/Acknowledge", request)

    def modify(self, subscription: str, ack_ids: Iterable[str], seconds: int) -> None:
        request = types.ModifyAckDeadlineRequest.pb()(
            subscription=subscription, ack_ids=ack_ids, ack_deadline_seconds=seconds
        )
        self._call("Subscriber/ModifyAckDeadline", request)

    def _call(self, method: str, request: Any) -> bytes:
        call = self._channel.unary_unary(
            f"/google.pubsub.v1.{method}", type(request).SerializeToString, lambda response: response
        )
        answer: bytes = call(request, timeout=CALL, wait_for_ready=True)
        return answer


class PubsubServer(ServerProcess):
    """A server of a test's own, to be stopped, killed and restarted on the same port.

    ``durable``: it keeps what it has said yes to; leases and attempts end with it.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.host = self.url = f"127.0.0.1:{self.port}"
        journal = [str(folder / "journal")] if durable else []
        script = (
            f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); runpy.run_module({SERVER!r}, run_name='__main__')"
        )
        super().__init__(
            [sys.executable, "-c", script, str(self.port), *journal], folder, lambda: answers(self.port), PATIENCE
        )


@contextmanager
def from_environment() -> Iterator[str]:
    """Google's emulator, or whatever else answers there."""
    host = os.environ.get(VARIABLE, "").strip()
    if not host:
        raise Unobtainable(f"{VARIABLE} is not set")
    yield host


def from_container() -> AbstractContextManager[str]:
    """Google's emulator in a container."""
    return container_of(IMAGE, PORT, answers, command=f"gcloud beta emulators pubsub start --host-port=0.0.0.0:{PORT}")


@contextmanager
def from_program() -> Iterator[str]:
    """Our own, which keeps nothing."""
    with (
        tempfile.TemporaryDirectory(prefix="machinery-pubsub-") as folder,
        PubsubServer(Path(folder), durable=False) as server,
    ):
        yield server.host


SOURCES: dict[str, Source] = {"environment": from_environment, "program": from_program}
"""A container is for the test of containers alone: without its image each run would wait for a registry."""
