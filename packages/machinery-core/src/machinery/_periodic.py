"""Periodic tasks, chains, groups and chords: what an application registers, made into entries of the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from machinery._headers import EXPIRES
from machinery._scheduler import Entry, Missed, Scheduler
from machinery._signatures import Signature, require_text
from machinery._workflows import Chain, Chord, Group, chain, group
from machinery.errors import ConfigError, WorkflowError

if TYPE_CHECKING:
    from collections.abc import Callable

MissedTicks = Literal["skip", "once"]
"""What becomes of ticks that came while no server was there: see `Missed`."""


def register(scheduler: Scheduler, spec: str, name: Any, send: Callable[[], object], missed: MissedTicks) -> None:
    """Add an entry. Raises `ConfigError` for a schedule or name that is wrong, and for a name or lock that is taken."""
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
    from machinery._cron import parse_schedule  # noqa: PLC0415 - with time zones, which those without schedules do without

    other = scheduler.add(Entry(name, spec, parse_schedule(spec), send, Missed(missed)))
    if other is None:
        return
    if other.name == name:
        raise ConfigError(
            f"a periodic task {name!r} is registered already; remove_periodic({name!r}) first, or name it otherwise"
        )
    raise ConfigError(
        f"the periodic task {name!r} with {spec!r} would have the same lock as {other.name!r} with {other.spec!r}, as Go's key "
        "has nothing between name and schedule; name one of them otherwise"
    )


def to_task(signature: Signature) -> Signature:
    """The signature that each tick sends, under a fresh id each time. Raises `WorkflowError` for what is none."""
    if not isinstance(signature, Signature):
        raise WorkflowError(f"a periodic task is a signature, not {_a(signature)}; write task.signature(…)")
    return anonymous(signature)


def to_chain(given: Sequence[Any]) -> Chain:
    """A chain of signatures, or the one `Chain` that was given."""
    whole = given[0] if _is_one(given, Chain) else chain(*given)
    return Chain(tuple(map(anonymous, whole.signatures)))


def to_group(given: Sequence[Any]) -> tuple[Group, int]:
    """A group of signatures, or the one `Group` that was given; and the send concurrency, if that was given first."""
    concurrency, rest = _concurrency(given)
    return _anonymous_group(_to_group(rest)), concurrency


def to_chord(given: Sequence[Any]) -> tuple[Chord, int]:
    """A callback and the signatures of its group, or the one `Chord` that was given; and the send concurrency, if given first."""
    concurrency, rest = _concurrency(given)
    if _is_one(rest, Chord):
        whole = rest[0]
    else:
        callback, *members = rest or (None,)
        if not isinstance(callback, Signature):
            raise WorkflowError(
                f"a periodic chord begins with its callback, which is a signature, not {_a(callback)}; the signatures of its "
                "group come after it"
            )
        whole = Chord(_to_group(members), callback)
    return Chord(_anonymous_group(whole.group), anonymous(whole.callback)), concurrency


def anonymous(signature: Signature) -> Signature:
    """The signature without ids, as far as it goes: each tick gives it and what it sets off fresh ones.

    Raises `WorkflowError` for what is good for one time only: a member of a group, an ``eta``, an expiry.
    """
    if signature.group_uuid or signature.group_task_count or signature.chord_callback is not None:
        raise WorkflowError(
            f"{signature.name} belongs to a group already (group_uuid, group_task_count or chord_callback is set), and that ends "
            "once; use the signature as it was before it was put into a group"
        )
    moment = "an eta" if signature.eta is not None else "an expiry" if EXPIRES in (signature.headers or {}) else ""
    if moment:
        raise WorkflowError(
            f"{signature.name} has {moment}, which is one instant, the same for every tick; make the signature without it, by "
            "task.options(eta=None, countdown=None, expires=None).signature(…)"
        )
    return signature.with_(
        uuid="",
        on_success=tuple(map(anonymous, signature.on_success)),
        on_error=tuple(map(anonymous, signature.on_error)),
    )


def _anonymous_group(group: Group) -> Group:
    return Group(tuple(map(anonymous, group.signatures)))


def _to_group(given: Sequence[Any]) -> Group:
    return given[0] if _is_one(given, Group) else group(*given)


def _is_one(given: Sequence[Any], kind: type[Chain | Group | Chord]) -> bool:
    return len(given) == 1 and isinstance(given[0], kind)


def _a(given: object) -> str:
    return "nothing" if given is None else f"a {type(given).__name__}"


def _concurrency(given: Sequence[Any]) -> tuple[int, Sequence[Any]]:
    if given and isinstance(given[0], int):
        if isinstance(given[0], bool) or given[0] < 0:
            raise WorkflowError(f"send_concurrency is {given[0]!r}; it must be a whole number, 0 for one batch")
        return given[0], given[1:]
    return 0, given
