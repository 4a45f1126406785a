"""Both sides on one SQS, with queues that nobody else uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from machinery import Server, Signature
from machinery.abc import Config
from machinery.wire import decode_signature
from tests.interop.application import Application
from tests.interop.eventually import eventually
from tests.interop.gomachinery import GoMachinery, Wire
from tests.interop.matrix import Sides
from tests.services.sqs import Queues, dead_letters_of

LEASE = 10
"""Seconds: a Go worker that is told to stop may take one more message, and keep it to itself until its lease is over."""
DATABASE = 1
"""Of Redis, for results."""


@dataclass(frozen=True, slots=True)
class SqsSides(Sides):
    """Both sides, and what lies in SQS between them."""

    queues: Queues = field(kw_only=True)
    python_queue: str = field(kw_only=True)
    """For what a Go worker does not know: once it has met such a task, it takes messages that it never runs (protocol §5.1)."""

    def sent_twice(self, sent: int) -> int:
        """Amazon's library in Go sends again where it cannot read the answer, though SQS has the message."""
        there, _, _ = self.queues.counts(self.go.queue)
        return there - sent

    def taken(self, count: int) -> list[Wire]:
        """So many messages of the queue, which are gone then, as Go reads them."""
        found: list[Wire] = []

        def are_there() -> bool:
            found.extend(json.loads(each["Body"]) for each in self.queues.take(self.go.queue))
            return len(found) >= count

        eventually(are_there)
        assert len(found) == count
        return found

    def taken_by_python(self, count: int) -> dict[str, Signature]:
        """The same as Python reads them, by their ids."""
        read = [decode_signature(json.dumps(each).encode()) for each in self.taken(count)]
        return {signature.uuid: signature for signature in read}

    @property
    def both_queues(self) -> tuple[str, str]:
        """Where a Python worker finds everything."""
        return self.go.queue, self.python_queue


@contextmanager
def both_sides(
    go_program: Path, sqs_url: str, redis_url: str, *, fifo: bool = False, **config: Any
) -> Iterator[SqsSides]:
    """Both sides, with results in Redis; ``config`` is Python's."""
    results = urlsplit(redis_url).netloc
    queues = Queues(sqs_url)
    queue, python_queue = queues.with_dead_letters(fifo=fifo, VisibilityTimeout=LEASE), queues.create()
    go = GoMachinery(go_program, "goredis", sqs_url, results, DATABASE, queue)
    made = Config(
        broker=sqs_url, result_backend=f"redis://{results}/{DATABASE}", lock="memory://", default_queue=queue, **config
    )
    try:
        with Server.from_config(made) as server:
            yield SqsSides(go, Application(server), queues=queues, python_queue=python_queue)
    finally:
        for name in (queue, dead_letters_of(queue), python_queue):
            queues.delete(name)
        queues.close()
