"""The collections: Go Machinery's two (protocol §6.1), two of ours beside them, and what lives and has ended in them.

===================  =====================================================================================================
``tasks``            Go's records of tasks. Of ours there: ``crashes``, ``writer``, and ``kept_until``, for members of open groups
``group_metas``      Go's groups. Of ours there: ``callback``, ``claimant`` and ``delete_at``
``machinery_groups``   one small document for each group that we made: how far it has come
``machinery_members``  finished members of large groups, one tiny document each
===================  =====================================================================================================

Every document has a ``delete_at``, after which MongoDB deletes it within a minute or so. Until then it is there and not seen: all
that reads says `ALIVE`. Instants are the server's (``$$NOW``), so that the clocks of workers do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymongo.collection import Collection
    from pymongo.database import Database

Document = dict[str, Any]
Pipeline = list[dict[str, Any]]

DELETE_AT = "delete_at"
KEPT_UNTIL = "kept_until"

AT_ONCE = 1000
"""How many documents one command is about, at most."""

IS_ALIVE: Document = {"$expr": {"$gt": ["$delete_at", "$$NOW"]}}
"""What of ours has not ended."""
ALIVE: Document = {"$or": [{DELETE_AT: None}, IS_ALIVE]}
"""What has not ended, or never will: Go's groups, and its records before their last state."""


@dataclass(frozen=True, slots=True)
class Collections:
    """The collections of one database."""

    tasks: Collection[Document]
    metas: Collection[Document]
    groups: Collection[Document]
    members: Collection[Document]

    @classmethod
    def of(cls, database: Database[Document]) -> Collections:
        """Those of ``database``."""
        return cls(
            database["tasks"], database["group_metas"], database["machinery_groups"], database["machinery_members"]
        )

    def __iter__(self) -> Iterator[Collection[Document]]:
        return iter((self.tasks, self.metas, self.groups, self.members))


def in_future(milliseconds: int) -> Document:
    """The expression for the instant that many milliseconds from now, by the server's clock."""
    return {"$add": ["$$NOW", milliseconds]}


def in_turn(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """``ids`` in portions for one command each."""
    return (ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE))
