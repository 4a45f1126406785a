"""The indexes: one in each collection, Go's, that lets documents expire (protocol §6.1, §13), and one to find idle chords by."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pymongo.errors import OperationFailure

from machinery_backend_mongo._collections import DELETE_AT, Collections
from machinery_backend_mongo._errors import INDEX_CONFLICTS, NOT_ALLOWED

if TYPE_CHECKING:
    from pymongo.collection import Collection

IDLE_SINCE = "idle_since"
TOO_MANY = 100_000
"""Documents in a collection without the index: building it might keep others waiting, so that is left to a person."""

_logger = logging.getLogger("machinery")


def ensure(collections: Collections, address: str) -> None:
    """Make the indexes that are missing. What stands in the way is logged, and `doubts` finds it. Raises pymongo's errors."""
    for collection in collections:
        doubt = _doubt_about(collection)
        if doubt is None:
            continue
        if doubt == _MISSING and collection.estimated_document_count() <= TOO_MANY:
            doubt = _make(collection, DELETE_AT, expireAfterSeconds=0)
        if doubt:
            _logger.warning("MongoDB at %s: %s", address, _advice(collection, doubt))
    if IDLE_SINCE not in _indexed_fields(collections.groups):
        _make(collections.groups, IDLE_SINCE, sparse=True)


def doubts(collections: Collections) -> list[str]:
    """What is wrong with the indexes that let documents expire, and what to do about it. Raises pymongo's errors."""
    return [
        _advice(collection, doubt)
        for collection in collections
        if collection.index_information() and (doubt := _doubt_about(collection)) is not None  # not there yet: no doubt
    ]


_MISSING = "has no index that deletes what has ended"


def _doubt_about(collection: Collection[Any]) -> str | None:
    for index in collection.list_indexes():
        if list(index["key"]) == [DELETE_AT]:
            seconds = index.get("expireAfterSeconds")
            if seconds == 0 and "partialFilterExpression" not in index:
                return None
            kept = "deletes nothing" if seconds is None else f"keeps what has ended for {seconds} s more, or for ever"
            return f"has an index {index['name']!r} that {kept}"
    return _MISSING


def _make(collection: Collection[Any], field: str, **options: Any) -> str:
    """Why it was not made; empty: it was. Another may have made it meanwhile, or what is like it."""
    try:
        collection.create_index([(field, 1)], **options)
    except OperationFailure as error:
        if error.code in INDEX_CONFLICTS:
            return f"has another index of the name {field}_1"
        if error.code in NOT_ALLOWED:
            return f"{_MISSING}, and this user may not make it"
        raise
    return ""


def _indexed_fields(collection: Collection[Any]) -> set[str]:
    return {field for index in collection.list_indexes() for field in index["key"]}


def _advice(collection: Collection[Any], doubt: str) -> str:
    drop = "drop that one and " if doubt.startswith("has an") else ""
    return (
        f"the collection {collection.name} {doubt}, so that it grows for ever; {drop}run "
        f"db.{collection.name}.createIndex({{{DELETE_AT}: 1}}, {{expireAfterSeconds: 0}}) in mongosh"
    )
