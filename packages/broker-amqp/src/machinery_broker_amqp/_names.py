"""What things are called in RabbitMQ. Go's names are Go's; ours begin with ``machinery.``."""

from __future__ import annotations

from machinery.errors import ConfigError

LONGEST_NAME = 255
"""Bytes of UTF-8 that a name may have in the protocol."""
LONGEST_QUEUE = LONGEST_NAME - 24
"""Bytes that a queue of tasks may have: queues beside it have longer names."""

HEADER = "machinery_"
"""How the headers begin that our messages carry beside their own."""
REASON = "machinery_reason"
DIED_AT = "machinery_died_at"
DEAD_ID = "machinery_dead_id"
ETA = "machinery_eta"
QUEUE = "machinery_queue"


def dead_queue(queue: str) -> str:
    """Where the dead letters of ``queue`` lie."""
    return f"machinery.dead.{queue}"


def check_queue(queue: str) -> str:
    """``queue``, if a queue may be called that. Raises `ConfigError`."""
    size = len(queue.encode())
    if not queue or size > LONGEST_QUEUE:
        raise ConfigError(
            f"the queue {queue[:40]!r}… has a name of {size} bytes; on RabbitMQ it must have 1 to {LONGEST_QUEUE}"
        )
    if queue.startswith("amq."):
        raise ConfigError(f"the queue {queue!r} cannot be: names that begin with amq. are RabbitMQ's own")
    return queue


def record_lock(uuid: str) -> str:
    """What one process holds while it writes the first record of a task."""
    return f"machinery.lock.{uuid}"
