"""Workflows: plain data made of signatures (protocol §8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from machinery._signatures import Signature, new_task_uuid, new_uuid
from machinery.errors import WorkflowError


@dataclass(frozen=True, slots=True)
class Chain:
    """Tasks that run one after the other, each getting the results of the one before after its own arguments.

    The next task takes the place of a signature's own ``on_success``, as in Go; the last one keeps its own.
    """

    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "signatures", _flat("a chain", (self.signatures,)))
        _refuse_twins("tasks of a chain", self.signatures)

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


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks that run side by side."""

    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "signatures", _flat("a group", (self.signatures,)))
        _refuse_twins("members of a group", self.signatures)

    def joined(self, callback: Signature | None = None) -> tuple[Signature, ...]:
        """The members with their ids, in a group with an id of its own, each with the whole callback (protocol §8.3, §8.4)."""
        group_uuid = new_uuid("group")
        count = len(self.signatures)
        return tuple([
            signature.with_(
                uuid=signature.uuid or new_task_uuid(),
                group_uuid=group_uuid,
                group_task_count=count,
                chord_callback=callback,
            )
            for signature in self.signatures
        ])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chord:
    """A group and a task that gets the results of all members, in group order after its own arguments, once all succeeded."""

    group: Group
    callback: Signature

    def __post_init__(self) -> None:
        members: Any = self.group
        if not isinstance(members, Group):
            object.__setattr__(self, "group", Group(_flat("the group of a chord", (members,))))
        callback: object = self.callback
        if not isinstance(callback, Signature):
            raise WorkflowError(f"a chord needs a callback, which is a signature, {_instead(callback)}")
        _refuse_membership("the callback of a chord", callback)
        _refuse_twins("tasks of a chord, its callback among them,", (*self.group.signatures, callback))

    def joined(self) -> tuple[Signature, ...]:
        """The members of `Group.joined`, each with the whole callback, which has its id now."""
        callback = self.callback
        headers = callback.headers if callback.headers is not None else {}
        return self.group.joined(callback.with_(uuid=callback.uuid or new_uuid("chord"), headers=headers))


def chain(*signatures: Signature | Iterable[Signature]) -> Chain:
    """A chain of these signatures; takes one list, too. Raises `WorkflowError` for an empty one and for anything else."""
    return Chain(_flat("a chain", signatures))


def group(*signatures: Signature | Iterable[Signature]) -> Group:
    """A group of these signatures; takes one list, too. Raises `WorkflowError` for an empty one and for anything else."""
    return Group(_flat("a group", signatures))


def chord(group: Group | Iterable[Signature], callback: Signature) -> Chord:
    """A chord of a group, or of the list of its signatures. Raises `WorkflowError` for an empty group and without a callback."""
    return Chord(group, callback)  # type: ignore[arg-type]  # the class makes a group of a list


def _flat(what: str, signatures: tuple[Signature | Iterable[Signature], ...]) -> tuple[Signature, ...]:
    flat: list[Signature] = []
    for item in signatures:
        flat.extend([item] if isinstance(item, Signature) or not isinstance(item, Iterable) else item)
    for item in flat:
        if not isinstance(item, Signature):
            raise WorkflowError(f"{what} is made of signatures, {_instead(item)}")
        _refuse_membership(f"{item.name} in {what}", item)
    if not flat:
        raise WorkflowError(f"{what} needs at least one signature")
    return tuple(flat)


def _instead(given: object) -> str:
    if not isinstance(given, Chain | Group | Chord):
        return f"not of {type(given).__name__}; write task.signature(…)"
    return (
        f"not of a {type(given).__name__}: Go Machinery's messages cannot say a workflow inside another one. Let a task of the "
        "outer one send the inner one, or use on_success, which every signature has"
    )


def _refuse_twins(what: str, signatures: Sequence[Signature]) -> None:
    """Raise `WorkflowError` where two have the same id: they would share one record."""
    named = [signature.uuid for signature in signatures if signature.uuid]
    if len(set(named)) < len(named):
        twice = next(uuid for uuid in named if named.count(uuid) > 1)
        raise WorkflowError(f"two {what} have the id {twice!r}; leave ids out, each gets its own")


def _refuse_membership(what: str, signature: Signature) -> None:
    """Raise `WorkflowError` where ``signature``, or what it sets off, is a member of a group already."""
    if signature.group_uuid or signature.group_task_count or signature.chord_callback is not None:
        raise WorkflowError(
            f"{what} belongs to a group already (group_uuid, group_task_count or chord_callback is set), and Go Machinery's "
            "messages cannot say a group inside a workflow; use the signature as it was before it was put into a group"
        )
    for following in (*signature.on_success, *signature.on_error):
        _refuse_membership(f"{following.name}, which follows {what},", following)
