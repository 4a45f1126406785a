"""Requests of up to ten entries: what failed for now is tried again, what failed for good is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from machinery.errors import BrokerUnavailable, Closed, MachineryError
from machinery_broker_sqs._client import Pauses
from machinery_broker_sqs._errors import is_entry_passing, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from machinery_broker_sqs._client import Client

UNAVAILABLE = "unavailable"
"""The key in a refusal of what failed for now, and went on failing: its value is the error."""


def carry_out(
    client: Client, operation: str, queue: str, address: str, entries: Sequence[Mapping[str, Any]]
) -> dict[int, Mapping[str, Any]]:
    """Ask for all ``entries`` (ten at most). Returns what SQS refused, by position, with its words; the others are done.

    Raises as `Client.call`, when it is not known of any.
    """
    refused: dict[int, Mapping[str, Any]] = {}
    left: Sequence[int] = range(len(entries))
    pauses: Pauses | None = None
    while True:
        try:
            answer = client.call(
                operation, queue, QueueUrl=address, Entries=[{"Id": str(at), **entries[at]} for at in left]
            )
        except MachineryError as error:  # credentials may run out between two requests
            if pauses is None or isinstance(error, Closed):
                raise
            return {**refused, **{at: {UNAVAILABLE: error} for at in left}}
        failed = {int(each["Id"]): each for each in answer.get("Failed") or ()}
        left = [at for at, each in failed.items() if is_entry_passing(each)]
        refused.update({at: each for at, each in failed.items() if at not in left})
        if not left:
            return refused
        pauses = pauses or Pauses(client.patience)
        if not pauses.take():
            words = text_of(failed[left[0]])
            busy = BrokerUnavailable(f"SQS at {client.address} did not get round to it in time: {words}")
            return {**refused, **{at: {UNAVAILABLE: busy} for at in left}}
