"""From messages to commands: what goes to one queue goes there at once, in order; what is early waits in Go's delayed set."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from machinery.errors import MessageTooLarge, PublishError, Unavailable
from machinery_broker_redis._client import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from machinery.abc import Message
    from machinery_broker_redis._connections import Command

LARGEST_MESSAGE = 512 * 1024 * 1024
"""Bytes: what Redis takes for one string."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Group:
    """Messages that one command publishes."""

    key: str
    is_delayed: bool
    positions: list[int] = field(default_factory=list)
    """Which messages of the call they are."""
    members: list[Any] = field(default_factory=list)
    """Their bodies; where delayed, each after its score."""

    def to_command(self) -> Command:
        """``RPUSH`` to the queue, or ``ZADD`` to the delayed messages."""
        return ("ZADD" if self.is_delayed else "RPUSH", self.key, *self.members)


def to_groups(messages: Sequence[Message], delayed_key: str) -> tuple[list[Group], dict[int, Exception]]:
    """The groups to publish, and by position why other messages cannot be.

    Priorities are left aside: core refuses them where a person asks for one, and what Go sent with one runs like the rest.
    """
    groups: list[Group] = []
    open_groups: dict[str | None, Group] = {}
    refused: dict[int, Exception] = {}
    now = datetime.now(UTC)
    for position, message in enumerate(messages):
        if len(message.body) > LARGEST_MESSAGE:
            size = len(message.body)
            refused[position] = MessageTooLarge(f"the message has {size} bytes; Redis takes {LARGEST_MESSAGE}")
            continue
        is_delayed = message.eta is not None and message.eta > now
        name = None if is_delayed else message.queue
        group = open_groups.get(name)
        if group is None or len(group.positions) == AT_ONCE:
            group = open_groups[name] = Group(delayed_key if is_delayed else message.queue, is_delayed)
            groups.append(group)
        group.positions.append(position)
        if is_delayed:
            group.members.append(to_nanoseconds(message.eta))  # type: ignore[arg-type]
        group.members.append(message.body)
    return groups, refused


def raise_refused(refused: Mapping[int, Exception], count: int) -> None:
    """Raise the `PublishError` that says which of ``count`` messages were ``refused``, where there are any."""
    if not refused:
        return
    reasons = list(refused.values())
    family = {type(reason) for reason in reasons}
    kind = family.pop() if len(family) == 1 and isinstance(reasons[0], PublishError) else PublishError
    later = "; trying again later may help" if any(isinstance(reason, Unavailable) for reason in reasons) else ""
    raise kind(
        f"{len(refused)} of {count} messages were not accepted: {reasons[0]}{later}", dict(sorted(refused.items()))
    )


def to_nanoseconds(moment: datetime) -> int:
    """Unix nanoseconds of an aware ``moment``, Go's score of delayed messages."""
    span = moment - _EPOCH
    return ((span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds) * 1000


def from_nanoseconds(score: bytes) -> datetime:
    """The instant of a score. Redis keeps it to about 256 ns: the nearest microsecond is the one that was written."""
    return _instant(float(score) / 1000)


def from_milliseconds(score: bytes) -> datetime:
    """The instant of a score on the server's clock."""
    return _instant(float(score) * 1000)


def _instant(microseconds: float) -> datetime:
    """Unix ``microseconds``; where they are no instant, the first or the last there is: anybody may have written the score."""
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if microseconds > 0 else datetime.min.replace(tzinfo=UTC)
