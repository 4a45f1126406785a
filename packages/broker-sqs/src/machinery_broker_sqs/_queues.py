"""Where queues are, and where their dead letters go. SQS makes none by itself: `machinery sqs create-queues` does."""

from __future__ import annotations

import json
from time import monotonic
from typing import TYPE_CHECKING

from machinery.errors import Unsupported

if TYPE_CHECKING:
    from machinery_broker_sqs._client import Client

FIFO = ".fifo"
_KNOWN_FOR = 60.0
"""Seconds for which it is believed where a queue's dead letters go; that there is no such place, a tenth of it."""


def is_fifo(queue: str) -> bool:
    """Whether a queue keeps its messages in order: SQS's rule about its name."""
    return queue.endswith(FIFO)


def target_of(policy: str | None) -> tuple[str, int]:
    """The name of the queue for dead letters, and after how many receives they go there; empty: there is none."""
    if not policy:
        return "", 0
    said = json.loads(policy)
    return str(said.get("deadLetterTargetArn", "")).rpartition(":")[2], int(said.get("maxReceiveCount", 0))


class Queues:
    """The queues of one SQS, by their names. Safe from any thread."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._addresses: dict[str, str] = {}
        self._targets: dict[str, tuple[str, float]] = {}

    def address(self, queue: str) -> str:
        """The queue's URL: the broker's, a slash and the name, as in Go. Raises `QueueMissing`, where it has to be asked for."""
        found = self._addresses.get(queue)
        if found is None:
            account = self._client.options.account
            if account:
                base = self._client.options.endpoint_url or self._client.driver().meta.endpoint_url.rstrip("/")
                found = f"{base}/{account}/{queue}"
            else:
                found = str(self._client.call("get_queue_url", queue, QueueName=queue)["QueueUrl"])
            self._addresses[queue] = found
        return found

    def attributes(self, queue: str, *names: str) -> dict[str, str]:
        """Some of what SQS knows of a queue; without ``names`` all. Raises `QueueMissing`."""
        answer = self._client.call(
            "get_queue_attributes", queue, QueueUrl=self.address(queue), AttributeNames=list(names or ("All",))
        )
        found: dict[str, str] = answer.get("Attributes") or {}
        return found

    def dead_letters_of(self, queue: str) -> str:
        """The queue that keeps the dead letters of ``queue``; empty: there is none."""
        known = self._targets.get(queue)
        if known is None or known[1] < monotonic():
            target, _ = target_of(self.attributes(queue, "RedrivePolicy").get("RedrivePolicy"))
            known = target, monotonic() + (_KNOWN_FOR if target else _KNOWN_FOR / 10)
            self._targets[queue] = known
        return known[0]

    def require_dead_letters_of(self, queue: str) -> str:
        """Likewise. Raises `Unsupported` where there is none."""
        target = self.dead_letters_of(queue)
        if not target:
            raise Unsupported(
                f"the queue {queue!r} has no place for dead letters; give it a RedrivePolicy that names a queue, as "
                f"`machinery sqs create-queues URL {queue}` does"
            )
        return target
