"""Many items in one request: read, written, changed; what DynamoDB did not get round to is asked for again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from machinery.errors import BackendUnavailable
from machinery_backend_dynamodb._client import Pauses
from machinery_backend_dynamodb._errors import CONDITION_FAILED, PASSING_CODES, is_of_size, of_statement

if TYPE_CHECKING:
    from machinery_backend_dynamodb._client import Client

Item = dict[str, Any]
"""Attribute → its value as DynamoDB says it, such as ``{"S": "text"}``."""

MOST_READ = 100
"""Keys in one BatchGetItem: Amazon's limit."""
MOST_WRITTEN = 25
"""Items in one BatchWriteItem, and statements in one BatchExecuteStatement: Amazon's limit."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Items to read from one table, each once."""

    table: str
    key: str
    """The attribute that is the table's key."""
    ids: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    """Which of their attributes; empty: all. The key comes in any case."""

    def request(self) -> dict[str, Any]:
        """As BatchGetItem takes it."""
        made: dict[str, Any] = {"Keys": [{self.key: {"S": one}} for one in self.ids], "ConsistentRead": True}
        if self.attributes:
            names = {f"#{at}": name for at, name in enumerate((self.key, *self.attributes))}
            made |= {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
        return made


def read_all(client: Client, wanted: Wanted) -> dict[str, Item]:
    """Key → item of all that are there; read at that moment, not some time ago. Raises as `Client.call`."""
    ids = tuple(dict.fromkeys(wanted.ids))
    parts = [
        Wanted(wanted.table, wanted.key, ids[start : start + MOST_READ], wanted.attributes)
        for start in range(0, len(ids), MOST_READ)
    ]
    found: dict[str, Item] = {}
    for answer in client.each(lambda part: read_together(client, [part])[0], parts):
        found |= answer
    return found


def read_together(client: Client, wanted: Sequence[Wanted]) -> list[dict[str, Item]]:
    """Like `read_all`, for at most `MOST_READ` keys of several tables in one request; an answer for each."""
    found: dict[str, dict[str, Item]] = {one.table: {} for one in wanted}
    keys = {one.table: one.key for one in wanted}
    missing: Mapping[str, Any] = {one.table: one.request() for one in wanted if one.ids}
    pauses = Pauses(client.patience)
    while missing:
        answer = client.call("batch_get_item", RequestItems=missing)
        items = [(table, item) for table, some in answer.get("Responses", {}).items() for item in some]
        for table, item in items:
            found[table][item[keys[table]]["S"]] = item
        missing = answer.get("UnprocessedKeys") or {}
        # Some may be missing because an answer has an end (16 MB): then there is no hurry to wait.
        if missing and not items and not pauses.take():
            raise _throttled(client)
    return [found[one.table] for one in wanted]


def write_all(client: Client, requests: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Carry out puts and deletes, ``(table, {"PutRequest": …})``, none of which is for the same item. Raises as `Client.call`."""
    parts = [requests[start : start + MOST_WRITTEN] for start in range(0, len(requests), MOST_WRITTEN)]
    client.each(lambda part: _write(client, part), parts)


def _write(client: Client, requests: Sequence[tuple[str, dict[str, Any]]]) -> None:
    missing: dict[str, list[dict[str, Any]]] = {}
    for table, request in requests:
        missing.setdefault(table, []).append(request)
    pauses = Pauses(client.patience)
    while missing:
        answer = client.call("batch_write_item", RequestItems=missing)
        missing = answer.get("UnprocessedItems") or {}
        if missing and not pauses.take():
            raise _throttled(client)


def change_all(client: Client, statements: Sequence[dict[str, Any]]) -> None:
    """Carry out PartiQL statements for items that are there and have room for it; for others nothing happens.

    Raises as `Client.call`, but not `ItemTooLarge`.
    """
    parts = [statements[start : start + MOST_WRITTEN] for start in range(0, len(statements), MOST_WRITTEN)]
    client.each(lambda part: _change(client, part), parts)


def _change(client: Client, statements: Sequence[dict[str, Any]]) -> None:
    for answer in answers_to(client, statements):
        _require_condition(client, answer.get("Error") or {})


def answers_to(client: Client, statements: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What becomes of up to `MOST_WRITTEN` PartiQL statements; of each, also one that is refused, its own answer."""
    pauses = Pauses(client.patience)
    answers: list[dict[str, Any]] = [{}] * len(statements)
    left = list(range(len(statements)))
    while left:
        some = client.call("batch_execute_statement", Statements=[statements[at] for at in left])["Responses"]
        answers_now = dict(zip(left, some, strict=True))
        left = [at for at, answer in answers_now.items() if (answer.get("Error") or {}).get("Code") in PASSING_CODES]
        for at, answer in answers_now.items():
            answers[at] = answer
        if left and not pauses.take():
            raise _throttled(client)
    return answers


def _require_condition(client: Client, error: dict[str, Any]) -> None:
    """Raise what the error of a statement means, unless it is that its condition did not hold, or that the item is full."""
    code, said = error.get("Code"), str(error.get("Message") or "")
    if code in {None, CONDITION_FAILED} or is_of_size(said):
        return
    raise client.translated(of_statement(str(code), said))


def _throttled(client: Client) -> BackendUnavailable:
    return BackendUnavailable(
        f"DynamoDB at {client.address} did not get round to everything in time, again and again; give the tables more capacity, "
        "or on-demand capacity, if this goes on"
    )
