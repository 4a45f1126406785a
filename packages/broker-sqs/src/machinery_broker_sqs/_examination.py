"""What ``machinery doctor`` has to say about an SQS: what workers cannot do without, what loses or repeats tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machinery.abc import Finding
from machinery_broker_sqs._content import LARGEST_MESSAGE
from machinery_broker_sqs._errors import QueueMissing
from machinery_broker_sqs._queues import is_fifo, target_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from machinery_broker_sqs._client import Client
    from machinery_broker_sqs._queues import Queues

FEW_RECEIVES = 10
"""A message that workers hand back at every restart is received as often."""
_DAY = 86_400


def examine(client: Client, queues: Queues, queue: str) -> list[Finding]:
    """The findings about a queue and that of its dead letters. Raises `BrokerUnavailable`, and `ConfigError` for credentials."""
    try:
        found = queues.attributes(queue)
    except QueueMissing as error:
        return [Finding("error", str(error))]
    return [*_queue(client, queue, found), *_dead_letters(queues, queue, found)]


def _queue(client: Client, queue: str, found: Mapping[str, str]) -> Iterator[Finding]:
    counts = {name: found.get(f"ApproximateNumberOfMessages{name}", "?") for name in ("", "NotVisible", "Delayed")}
    yield Finding(
        "ok",
        f"the queue {queue!r} in SQS at {client.address}: about {counts['']} messages wait, {counts['NotVisible']} are on loan, "
        f"{counts['Delayed']} wait for their time",
    )
    lease = int(client.options.receive_visibility_timeout.total_seconds())
    if (own := int(found.get("VisibilityTimeout", lease))) < lease:
        yield Finding(
            "warning",
            f"the visibility timeout of the queue {queue!r} is {own} s: workers here ask for {lease} s and renew it, and Go's, "
            "unless told otherwise, run a task again that takes longer",
        )
    kept = int(found.get("MessageRetentionPeriod", 4 * _DAY))
    if kept < _DAY:
        yield Finding(
            "warning",
            f"the queue {queue!r} keeps messages for {kept} s only: tasks that no worker takes in that time are lost; 14 days "
            "(1209600 s) are the most",
        )
    largest = int(found.get("MaximumMessageSize", LARGEST_MESSAGE))
    if largest < LARGEST_MESSAGE:
        yield Finding(
            "warning", f"the queue {queue!r} takes messages of {largest} bytes only; SQS would allow {LARGEST_MESSAGE}"
        )
    if is_fifo(queue) and int(found.get("DelaySeconds", 0)):
        yield Finding(
            "warning", f"the queue {queue!r} holds every message back for {found['DelaySeconds']} s (DelaySeconds)"
        )


def _dead_letters(queues: Queues, queue: str, found: Mapping[str, str]) -> Iterator[Finding]:
    target, most = target_of(found.get("RedrivePolicy"))
    if not target:
        yield Finding(
            "warning",
            f"the queue {queue!r} has no redrive policy that names a queue for dead letters: what a worker gives up is dropped, "
            f"with an error in its log; `machinery sqs create-queues URL {queue}` gives it one",
        )
        return
    try:
        other = queues.attributes(target)
    except QueueMissing:
        yield Finding(
            "error", f"the queue {target!r}, for the dead letters of {queue!r}, does not exist; nothing can be given up"
        )
        return
    yield Finding(
        "ok",
        f"dead letters of {queue!r} go to {target!r}, which holds about {other.get('ApproximateNumberOfMessages', '?')}",
    )
    if most < FEW_RECEIVES:
        yield Finding(
            "warning",
            f"SQS gives a message of {queue!r} up when it was received {most} times, and counts what a worker hands back when it "
            "is stopped; let it be 10 or more: crashes are counted by the workers (maxReceiveCount)",
        )
    kept, others = (int(each.get("MessageRetentionPeriod", 4 * _DAY)) for each in (found, other))
    if others < kept or (others == kept and kept < 14 * _DAY and not is_fifo(queue)):
        yield Finding(
            "warning",
            f"{target!r} keeps messages no longer than {queue!r} does, and what SQS itself moves there keeps its age: such dead "
            "letters may be gone before anybody looks; 14 days (1209600 s) are the most",
        )
