"""Saving many records in few requests: a PartiQL statement for each, 25 in one BatchExecuteStatement.

A statement changes a record that is there, neither final nor over, and has all that the writer knows of: the usual case, at a
ninth of the processor time of an update for each. PartiQL has no ``if_not_exists``, so there are two statements, one for records
that an open group keeps. Everything else is refused, with what is there, and left to whoever asked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Any

from machinery.abc import State
from machinery_backend_dynamodb import _keys as names
from machinery_backend_dynamodb._batches import MOST_WRITTEN, Item, answers_to
from machinery_backend_dynamodb._items import has_writer, integer, kept_until
from machinery_backend_dynamodb._values import number, text

if TYPE_CHECKING:
    from machinery_backend_dynamodb._client import Client

REMEMBERED = 10_000
"""Records that are known to be kept by a group, so that the statement for these is tried first."""

_FINAL = (text(State.SUCCESS), text(State.FAILURE))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one record."""

    stored: bool
    item: Item | None
    """The record as it is now; ``None``: it is not there, or was not told."""


class Saving:
    """The statements for one table. Safe from any thread."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._table = client.options.task_states_table
        self._kept: OrderedDict[str, None] = OrderedDict()

    def save(self, items: Mapping[str, Item]) -> dict[str, Outcome]:
        """Write records by id, of which the usual ones get stored. Raises as `Client.call`."""
        tried = {uuid: uuid in self._kept for uuid in items}
        outcomes = self._attempt(items, tried)
        again = {
            uuid: not is_kept
            for uuid, is_kept in tried.items()
            if not outcomes[uuid].stored and _may_be_other(outcomes[uuid].item, items[uuid], is_kept=is_kept)
        }
        if again:
            outcomes |= self._attempt(items, again)
        for uuid, outcome in outcomes.items():
            self._remember(uuid, outcome)
        return outcomes

    def _attempt(self, items: Mapping[str, Item], tried: Mapping[str, bool]) -> dict[str, Outcome]:
        """``tried``: id → whether to take it for one that a group keeps."""
        ids = list(tried)
        parts = [ids[start : start + MOST_WRITTEN] for start in range(0, len(ids), MOST_WRITTEN)]

        def attempt(part: Sequence[str]) -> list[dict[str, Any]]:
            return answers_to(self._client, [self._statement(items[uuid], is_kept=tried[uuid]) for uuid in part])

        answers = [answer for some in self._client.each(attempt, parts) for answer in some]
        return {uuid: _to_outcome(answer, items[uuid]) for uuid, answer in zip(ids, answers, strict=True)}

    def _statement(self, item: Item, *, is_kept: bool) -> dict[str, Any]:
        written = [names.STATE, names.RESULTS, names.ERROR]
        if not is_kept:
            written.append(names.TTL)
        has_crashes = names.CRASHES in item
        written += [name for name in (names.CRASHES, names.WRITER) if name in item]
        changes = " ".join(
            [f'SET "{name}" = ?' for name in written] + ([] if has_crashes else [f'REMOVE "{names.CRASHES}"'])
        )
        kept = f'"{names.KEPT_UNTIL}" >= ?' if is_kept else f'"{names.KEPT_UNTIL}" IS MISSING'
        there = [f'"{name}" IS NOT MISSING' for name in (names.TASK_NAME, names.CREATED_AT) if name in item]
        conditions = [
            f'"{names.TASK_UUID}" = ?',
            f'"{names.STATE}" <> ?',
            f'"{names.STATE}" <> ?',
            f'"{names.TTL}" > ?',
            kept,
            *there,
        ]
        values = [*[item[name] for name in written], item[names.TASK_UUID], *_FINAL, number(int(time()))]
        return {
            "Statement": f'UPDATE "{self._table}" {changes} WHERE {" AND ".join(conditions)} RETURNING ALL NEW *',
            "Parameters": [*values, item[names.TTL]] if is_kept else values,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _remember(self, uuid: str, outcome: Outcome) -> None:
        item = outcome.item or {}
        if kept_until(item) and item.get(names.STATE) not in _FINAL:
            self._kept[uuid] = None
            if len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
        else:
            self._kept.pop(uuid, None)


def _to_outcome(answer: dict[str, Any], item: Item) -> Outcome:
    error = answer.get("Error")
    found: Item | None = (error or answer).get("Item") or None
    # Refused by what it wrote itself: then an answer was lost.
    is_ours = found is not None and has_writer(found, item.get(names.WRITER))
    return Outcome(stored=not error or is_ours, item=found)


def _may_be_other(found: Item | None, item: Item, *, is_kept: bool) -> bool:
    """Whether a record was refused because it is kept by a group, or is not, against what was thought."""
    if not found or found.get(names.STATE) in _FINAL:
        return False
    return (kept_until(found) >= integer(item, names.TTL)) != is_kept
