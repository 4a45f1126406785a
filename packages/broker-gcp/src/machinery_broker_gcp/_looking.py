"""Pulling what waits in a subscription: to delete it, or to look at it and give it back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from machinery_broker_gcp._client import PULL, Client, Pull

_AT_ONCE = 1000
_LOOKS = 3
"""Empty answers in a row after which a subscription counts as empty: one alone means little, messages lie on many servers."""


def pull(client: Client, subscription: str, most: int) -> Iterator[list[Any]]:
    """What there is now, up to ``most``, as it comes. It is on loan; the caller settles it or gives it back."""
    empty = 0
    while most > 0 and empty < _LOOKS:
        request = Pull(subscription=subscription, max_messages=min(most, _AT_ONCE), return_immediately=True)
        received = list(client.call(PULL, request).received_messages)
        empty = 0 if received else empty + 1
        if received:
            most -= len(received)
            yield received


def purge(client: Client, subscription: str) -> int:
    """Delete what waits there; how many there were."""
    purged = 0
    for received in pull(client, subscription, 2**31 - 1):
        client.acknowledge(subscription, [each.ack_id for each in received])
        purged += len(received)
    return purged
