"""Workflows: plain data made of signatures (protocol §8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from machinery._signatures import Signature, new_task_uuid
from machinery.errors import WorkflowError


@dataclass(frozen=True, slots=True)
class Chain:
    """Tasks that run one after the other, each getting the results of the one before after its own arguments."""

    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "signatures", _flat((self.signatures,)))
        if not self.signatures:
            raise WorkflowError("a chain needs at least one signature")

    def linked(self) -> tuple[Signature, ...]:
        """The signatures with their ids, each holding the next as its ``on_success`` (protocol §8.2); the first is sent."""
        following: Signature | None = None
        made: list[Signature] = []
        for signature in reversed(self.signatures):
            uuid = signature.uuid or new_task_uuid()
            following = signature.with_(
                uuid=uuid, on_success=signature.on_success if following is None else (following,)
            )
            made.append(following)
        return tuple(reversed(made))


def chain(*signatures: Signature | Iterable[Signature]) -> Chain:
    """A chain of these signatures; takes one list, too. Raises `WorkflowError` for an empty one and for anything else."""
    return Chain(_flat(signatures))


def _flat(signatures: tuple[Signature | Iterable[Signature], ...]) -> tuple[Signature, ...]:
    flat: list[Signature] = []
    for item in signatures:
        flat.extend([item] if isinstance(item, Signature) or not isinstance(item, Iterable) else item)
    for item in flat:
        if not isinstance(item, Signature):
            raise WorkflowError(
                f"a workflow is made of signatures, not of {type(item).__name__}; write task.signature(…)"
            )
    return tuple(flat)
