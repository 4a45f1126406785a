"""Periodic tasks, chains, groups and chords: what an application registers, made into entries of the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from machinery._cron import parse_schedule
from machinery._scheduler import Entry, Missed, Scheduler
from machinery._signatures import Signature, require_text
from machinery._workflows import Chain, Chord, Group
from machinery.errors import ConfigError, WorkflowError

if TYPE_CHECKING:
    from collections.abc import Callable

MissedTicks = Literal["skip", "once"]
"""What becomes of ticks that came while no server was there: see `Missed`."""

W = TypeVar("W", Chain, Group)


def register(scheduler: Scheduler, spec: str, name: Any, send: Callable[[], object], missed: MissedTicks) -> None:
    """Add an entry. Raises `ConfigError` for a schedule or name that is wrong, and for a name that is taken."""
    if not isinstance(name, str) or not name:
        raise ConfigError(
            f"the name of a periodic task is {name!r}; it must be a text of its own, which its lock bears"
        )
    require_text("the name of a periodic task", name)
    choices = [choice.value for choice in Missed]
    if missed not in choices:
        raise ConfigError(
            f"missed is {missed!r} for the periodic task {name!r}; it must be one of {', '.join(choices)}"
        )
    if not scheduler.add(Entry(name, spec, parse_schedule(spec), send, Missed(missed))):
        raise ConfigError(
            f"a periodic task {name!r} is registered already; remove_periodic({name!r}) first, or name it otherwise"
        )


def to_task(signature: Signature) -> Signature:
    """The signature that each tick sends, under a fresh id each time. Raises `WorkflowError` for what is none."""
    if not isinstance(signature, Signature):
        raise WorkflowError(
            f"a periodic task is a signature, not a {type(signature).__name__}; write task.signature(…)"
        )
    return anonymous(signature)


def to_chain(given: Sequence[Any]) -> Chain:
    """A chain of signatures, or the one `Chain` that was given."""
    whole = _whole(given, Chain)
    return Chain(tuple(map(anonymous, whole.signatures)))


def to_group(given: Sequence[Any]) -> tuple[Group, int]:
    """A group of signatures, or the one `Group` that was given; and the send concurrency, if that was given first."""
    concurrency, rest = _concurrency(given)
    return _anonymous_group(_whole(rest, Group)), concurrency


def to_chord(given: Sequence[Any]) -> tuple[Chord, int]:
    """A callback and the signatures of its group, or the one `Chord` that was given; and the send concurrency, if given first."""
    concurrency, rest = _concurrency(given)
    if len(rest) == 1 and isinstance(rest[0], Chord):
        whole = rest[0]
    else:
        callback, *members = rest or (None,)
        group = members[0] if len(members) == 1 and isinstance(members[0], Group) else Group(tuple(members))
        whole = Chord(group, callback)  # type: ignore[arg-type]  # it says what is wrong
    return Chord(_anonymous_group(whole.group), anonymous(whole.callback)), concurrency


def anonymous(signature: Signature) -> Signature:
    """The signature without ids, as far as it goes: each tick gives it and what it sets off fresh ones."""
    return signature.with_(
        uuid="",
        on_success=tuple(map(anonymous, signature.on_success)),
        on_error=tuple(map(anonymous, signature.on_error)),
    )


def _anonymous_group(group: Group) -> Group:
    return Group(tuple(map(anonymous, group.signatures)))


def _whole(given: Sequence[Any], kind: type[W]) -> W:
    if len(given) == 1 and isinstance(given[0], kind):
        return given[0]
    return kind(tuple(given))


def _concurrency(given: Sequence[Any]) -> tuple[int, Sequence[Any]]:
    if given and isinstance(given[0], int):
        if isinstance(given[0], bool) or given[0] < 0:
            raise WorkflowError(f"send_concurrency is {given[0]!r}; it must be a whole number, 0 for one batch")
        return given[0], given[1:]
    return 0, given
