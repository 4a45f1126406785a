"""What cannot be registered as periodic is refused at once, with what would be right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from machinery import Server, Signature, chain, group
from machinery.errors import ConfigError, EncodeError, MachineryError, WorkflowError

MINUTELY = "* * * * *"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server.from_url("memory://") as made:
        yield made


def periodic_task(server: Server, *arguments: Any, **keywords: Any) -> None:
    server.register_periodic_task(*arguments, **keywords)


def periodic_chain(server: Server, *arguments: Any) -> None:
    server.register_periodic_chain(*arguments)


def periodic_group(server: Server, *arguments: Any) -> None:
    server.register_periodic_group(*arguments)


def periodic_chord(server: Server, *arguments: Any) -> None:
    server.register_periodic_chord(*arguments)


S = Signature("s")
BAD: list[tuple[Callable[..., None], tuple[Any, ...], type[MachineryError], str]] = [
    # names
    (periodic_task, (MINUTELY, "", S), ConfigError, "the name of a periodic task is ''; it must be a text of its own"),
    (periodic_task, (MINUTELY, 7, S), ConfigError, "the name of a periodic task is 7; it must be a text of its own"),
    (periodic_task, (MINUTELY, S, S), ConfigError, "the name of a periodic task is Signature("),
    (periodic_task, (MINUTELY, "\ud800", S), EncodeError, "the name of a periodic task is '\\ud800'; it has a lone surr"),
    # schedules
    (periodic_task, ("* * *", "n", S), ConfigError, "the schedule '* * *' has 3 fields; it must have five"),
    (periodic_task, ("", "n", S), ConfigError, "the schedule is empty"),
    (periodic_task, (60, "n", S), ConfigError, "a schedule is text, not int"),
    # signatures
    (periodic_task, (MINUTELY, "n", "s"), WorkflowError, "a periodic task is a signature, not a str; write task.signature"),
    (periodic_task, (MINUTELY, "n", None), WorkflowError, "a periodic task is a signature, not nothing; write"),
    (periodic_task, (MINUTELY, "n", chain(S)), WorkflowError, "a periodic task is a signature, not a Chain; write"),
    (periodic_chain, (MINUTELY, "n"), WorkflowError, "a chain needs at least one signature"),
    (periodic_chain, (MINUTELY, "n", S, 7), WorkflowError, "a chain is made of signatures, not of int"),
    (periodic_chain, (MINUTELY, "n", chain(S), S), WorkflowError, "a chain is made of signatures, not of a Chain"),
    (periodic_group, (MINUTELY, "n"), WorkflowError, "a group needs at least one signature"),
    (periodic_group, (MINUTELY, "n", 2), WorkflowError, "a group needs at least one signature"),
    (periodic_group, (MINUTELY, "n", chain(S)), WorkflowError, "a group is made of signatures, not of a Chain"),
    (periodic_chord, (MINUTELY, "n"), WorkflowError, "a periodic chord begins with its callback, which is a signature, not no"),
    (periodic_chord, (MINUTELY, "n", 2), WorkflowError, "a periodic chord begins with its callback, which is a signature"),
    (periodic_chord, (MINUTELY, "n", group(S)), WorkflowError, "which is a signature, not a Group; the signatures of its gro"),
    (periodic_chord, (MINUTELY, "n", None, S), WorkflowError, "a periodic chord begins with its callback, which is a sign"),
    (periodic_chord, (MINUTELY, "n", S), WorkflowError, "a group needs at least one signature"),
    # send concurrency
    (periodic_group, (MINUTELY, "n", -1, S), WorkflowError, "send_concurrency is -1; it must be a whole number, 0 for one ba"),
    (periodic_group, (MINUTELY, "n", True, S), WorkflowError, "send_concurrency is True; it must be a whole number"),
    (periodic_group, (MINUTELY, "n", 2.5, S), WorkflowError, "a group is made of signatures, not of float"),
    (periodic_chord, (MINUTELY, "n", -3, S, S), WorkflowError, "send_concurrency is -3; it must be a whole number"),
    (periodic_chord, (MINUTELY, "n", False, S, S), WorkflowError, "send_concurrency is False; it must be a whole number"),
    # what is good for one time only
    (periodic_task, (MINUTELY, "n", Signature("s", group_uuid="g")), WorkflowError, "s belongs to a group already"),
    (periodic_task, (MINUTELY, "n", Signature("s", chord_callback=S)), WorkflowError, "s belongs to a group already"),
    (periodic_task, (MINUTELY, "n", Signature("s", eta=datetime.now(UTC))), WorkflowError, "s has an eta, which is one ins"),
    (
        periodic_chain,
        (MINUTELY, "n", S, Signature("t", on_error=[Signature("u", headers={"machinery_expires": "2024-01-01T00:00:00Z"})])),
        WorkflowError,
        "u has an expiry, which is one instant, the same for every tick; make the signature without it, by task.options(",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("register", "arguments", "kind", "text"), BAD, ids=[f"{number}-{case[3][:40]}" for number, case in enumerate(BAD)]
)
def test_bad_input_is_refused_where_it_is_written(
    server: Server, register: Callable[..., None], arguments: tuple[Any, ...], kind: type[MachineryError], text: str
) -> None:
    with pytest.raises(kind) as caught:
        register(server, *arguments)
    assert text in str(caught.value)
    assert not server.remove_periodic("n")


@pytest.mark.parametrize("missed", ["never", "", None, "SKIP", ["once"]])
def test_what_happens_to_missed_ticks_is_skip_or_once(server: Server, missed: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        periodic_task(server, MINUTELY, "n", S, missed=missed)
    assert str(caught.value) == f"missed is {missed!r} for the periodic task 'n'; it must be one of skip, once"


def test_two_tasks_that_would_share_a_lock_are_refused(server: Server) -> None:
    server.register_periodic_task("10 * * * *", "report", S)
    with pytest.raises(ConfigError) as caught:
        server.register_periodic_task("0 * * * *", "report1", S)
    assert str(caught.value) == (
        "the periodic task 'report1' with '0 * * * *' would have the same lock as 'report' with '10 * * * *', as Go's key has "
        "nothing between name and schedule; name one of them otherwise"
    )
    server.register_periodic_task("0 * * * *", "report-1", S)
