"""Both sides on one Pub/Sub, on a topic that nobody else uses, and what lies there between them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from machinery import Config, Server
from machinery_broker_gcp import PubsubBroker
from tests.interop.application import Application
from tests.interop.gomachinery import GoMachinery, Wire
from tests.interop.matrix import Sides
from tests.services.pubsub import VARIABLE, Stubs

DATABASE = 1
"""Of Redis, for results."""
PROJECT = "machinery-interop"


@dataclass(frozen=True, slots=True)
class PubsubSides(Sides):
    """Both sides, and subscriptions of our own, which get a copy of whatever either side publishes."""

    stubs: Stubs = field(kw_only=True)
    queue: str = field(kw_only=True)
    seen: dict[str, list[Any]] = field(default_factory=dict, kw_only=True)

    def published(self, topic: str) -> list[Any]:
        """Every message that was published to the topic, since `watch`."""
        seen = self.seen[topic]
        while received := self.stubs.pull(_watching(topic), 1000, at_once=True):
            seen += [each.message for each in received]
            self.stubs.acknowledge(_watching(topic), [each.ack_id for each in received])
        return seen

    def watch(self, topic: str) -> None:
        """From now on, see what is published there."""
        self.seen[topic] = []
        self.stubs.create_subscription(_watching(topic), f"projects/{PROJECT}/topics/{topic}")

    def written(self) -> list[Wire]:
        """What was sent to the queue, by either side, in wire form."""
        return [json.loads(message.data) for message in self.published(self.queue)]

    def delayed_by_python(self) -> list[Wire]:
        """What Python has put aside until its time: Go never sees that."""
        return [json.loads(message.data) for message in self.published(f"{self.queue}-delay")]

    @contextmanager
    def keeper(self) -> Iterator[None]:
        """A Python worker that knows no task: it sends on what waits for its time, and gives back what it gets itself."""
        with Server.from_config(self.python.server.config) as server, server.new_worker("keeper", 1):
            yield


@contextmanager
def both_sides(go_program: Path, host: str, redis_url: str, **config: Any) -> Iterator[PubsubSides]:
    """Both sides on a queue of their own, with results in Redis; ``config`` is Python's."""
    assert os.environ[VARIABLE] == host, "Go's client finds the service by it alone"
    own = uuid4().hex
    queue, url = f"interop-{own}", f"gcppubsub://{PROJECT}/interop-sub-{own}"
    results = urlsplit(redis_url).netloc
    made = Config(
        broker=url,
        result_backend=f"redis://{results}/{DATABASE}",
        lock="memory://",
        default_queue=queue,
        sections={"gcp_pub_sub": {"ack_deadline": 10}},
        **config,
    )
    with redirect_stdout(StringIO()):
        create = PubsubBroker.commands["create-resources"]
        assert create([url, "--default-queue", queue]) == 0
    go = GoMachinery(go_program, "goredis", url, results, DATABASE, queue)
    with Server.from_config(made) as server, closing(Stubs(host)) as stubs:
        sides = PubsubSides(go, Application(server), stubs=stubs, queue=queue)
        for topic in (queue, f"{queue}-delay"):
            sides.watch(topic)
        yield sides


def _watching(topic: str) -> str:
    return f"projects/{PROJECT}/subscriptions/watch-{topic}"
