"""Schedules: the same text, read by robfig's cron as Go Machinery uses it and by this project.

The rule for every text: what Go refuses is refused; what Go takes and never fires is refused; the rest ticks at the same
instants. The exceptions are this project's on purpose, and listed here.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from machinery._cron import parse_schedule
from machinery._schedules import IntervalSchedule
from machinery.errors import ConfigError

pytestmark = pytest.mark.interop

CALL_TIMEOUT = 50.0
COUNT = 4
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Question:
    """Which ticks follow an instant, by a schedule's text."""

    spec: str
    after: datetime
    count: int = COUNT


Answer = list[datetime] | None
"""The ticks; ``None``: the text was refused."""

Ask = Callable[[Iterable[Question]], list[Answer]]


def at(text: str) -> datetime:
    """An instant as RFC 3339 says it."""
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.fixture
def ask_go(go_program: Path) -> Ask:
    """Asks Go, whose local time is what ``TZ`` says at that moment."""

    def ask(questions: Iterable[Question]) -> list[Answer]:
        lines = "".join(
            json.dumps({"spec": question.spec, "after": question.after.isoformat(), "count": question.count}) + "\n"
            for question in questions
        )
        ended = subprocess.run(
            [go_program, "cron"], input=lines, capture_output=True, text=True, timeout=CALL_TIMEOUT, check=True
        )
        answers: list[dict[str, Any]] = [json.loads(line) for line in ended.stdout.splitlines()]
        return [None if "error" in answer else [at(tick) for tick in answer["ticks"]] for answer in answers]

    return ask


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/Phoenix"])
def local_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterable[str]:
    """The local time of both sides, of places that do not set their clocks."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


def ask_python(question: Question) -> Answer:
    try:
        schedule = parse_schedule(question.spec)
    except ConfigError:
        return None
    ticks: list[datetime] = []
    after = question.after
    while len(ticks) < question.count and (following := schedule.next(after)) is not None:
        ticks.append(following)
        after = following
    return ticks


def disagreements(questions: list[Question], go: list[Answer]) -> list[tuple[Question, Answer, Answer]]:
    """The questions that the two sides answer differently, with Go's answer and this project's.

    That Go finds no tick in its five years means: refused.
    """
    assert len(go) == len(questions)
    return [
        (question, theirs, ours)
        for question, theirs in zip(questions, go, strict=True)
        if (theirs or None) != (ours := ask_python(question))
    ]


# ------------------------------------------------------------------------------------------------------ what both take

SHARED = [
    "* * * * *", "? ? ? ? ?", "*/5 * * * *", "?/5 * * * *", "*/100 * * * *", "7/15 * * * *", "50/1 * * * *", "0/1 12 * * *",
    "5,10,15 8-18 * * *", ",5,,6, 8 * * *", "+5 007 * * *", "10-20/5 22/1 * * *", "30 8 * * mon-fri", "30 8 * * MON-Fri/2",
    "0 0 * jan,JUL-sep/2 *", "0 0 * jan/6 *", "0 0 13 * 5", "0 0 13 * *", "0 0 * * 5", "0 0 */2 * 5", "0 0 13 * */2",
    "0 0 */1 * 5", "0 0 13,* * 5", "0 0 1-31 * 5", "0 0 28/2 * *", "0 0 29 2 *", "0 0 31 feb sun", "0 0 30 * *", "59 23 31 12 ?",
    "  1\t2  3 4 5 \n", "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly",
    "TZ=UTC 0 12 * * *", "CRON_TZ=UTC 0 12 * * *", "TZ= 0 12 * * *", "TZ=UTC  @daily ", "TZ=Local 0 12 * * *",
    "TZ=Asia/Kathmandu 0 12 * * *", "CRON_TZ=Asia/Kolkata @daily", "TZ=Pacific/Kiritimati */7 */3 * * *",
]  # fmt: skip

REFUSED = [
    "", " ", "*", "* * * *", "0 * * * * *", " @daily", " TZ=UTC * * * * *", "TZ=UTC TZ=UTC * * * * *", "TZ=UTC ", "TZ=UTC",
    "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 0 *", "* * * 13 *", "* * * * 7", "* * * * 5-7", "60/2 * * * *",
    "x * * * *", "jan * * * *", "* * * january *", "* * * * tues", "* L * * *", "1.5 * * * *", "1_0 * * * *", "٣ * * * *",
    "-5 * * * *", "5- * * * *", "1-2-3 * * * *", "** * * * *", "5-* * * * *", "/5 * * * *", "*/0 * * * *", "*/ * * * *",
    "*/x * * * *", "*/-2 * * * *", "1/2/3 * * * *", "30-10 * * * *", "* * * * fri-sun", "99999999999999999999 * * * *",
    "@reboot", "@Daily", "@daily ", "@every", "@every ", "@every 5", "@every 5 minutes", "@every 1d", "@every  1h",
    "@every 1h-5m", "@every .h", "@every 1H", "@every 2562048h", "@every 1h ", "TZ=UTC\t0 5 * * *", "TZ=Mars/Olympus 0 5 * * *",
    "CRON_TZ=Europe @daily", "TZ=../Europe/Berlin @daily", "TZ=/etc/localtime @daily", "TZ=+02:00 @every 1h", "0 0 30 2 *",
    "0 0 31 4,jun ?", ", * * * *",
]  # fmt: skip


@pytest.mark.parametrize("after", ["2025-01-10T12:34:56Z", "2024-02-28T23:59:59.999Z", "2025-07-31T00:00:00Z"])
def test_what_is_usual_ticks_alike_in_local_time_and_in_others(ask_go: Ask, local_zone: str, after: str) -> None:
    questions = [Question(spec, at(after)) for spec in SHARED]
    answers = ask_go(questions)
    assert all(answers)
    assert disagreements(questions, answers) == []


def test_what_go_refuses_or_never_fires_is_refused(ask_go: Ask) -> None:
    questions = [Question(spec, at("2025-01-10T12:34:56Z")) for spec in REFUSED]
    answers = ask_go(questions)
    assert not any(answers)
    assert disagreements(questions, answers) == []


@pytest.mark.parametrize("spec", ["*-5 * * * *", "0 0 , * 1", "@every 0", "@every -1h"])
def test_what_go_takes_for_something_else_than_it_says_is_refused(ask_go: Ask, spec: str) -> None:
    question = Question(spec, at("2025-01-10T12:34:56Z"))
    assert [bool(answer) for answer in ask_go([question])] == [True]
    assert ask_python(question) is None


@pytest.mark.parametrize(
    "duration", ["1h30m", "1.5h", ".5m", "1m1h", "1s", "1.9s", "1ms", "1ns", "2562047h", "+90s", "59.999999999s"]
)
def test_an_interval_is_as_long_as_gos(ask_go: Ask, duration: str) -> None:
    after = at("1970-01-01T00:00:00Z")
    ((first, second),) = [answer for answer in ask_go([Question(f"@every {duration}", after, 2)]) if answer]
    assert parse_schedule(f"@every {duration}") == IntervalSchedule(second - first)


# ------------------------------------------------------------------------------------------------------------ at random

BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
NAMES = {
    3: "jan feb mar apr may jun jul aug sep oct nov dec".split(),  # noqa: SIM905 - reads as what it is
    4: "sun mon tue wed thu fri sat".split(),  # noqa: SIM905 - likewise
}
NO_CHANGES = ["UTC", "Asia/Tokyo", "Asia/Kolkata", "Asia/Kathmandu", "Africa/Lagos", "Pacific/Honolulu", "Etc/GMT+12"]
"""Zones that have not set their clocks since 2020."""

WHOLE_HOURS = {
    "Europe/Berlin": ["2025-03-30T01:00Z", "2025-10-26T01:00Z"],
    "Europe/London": ["2025-03-30T01:00Z", "2025-10-26T01:00Z"],
    "America/New_York": ["2025-03-09T07:00Z", "2025-11-02T06:00Z"],
    "Australia/Sydney": ["2025-04-05T16:00Z", "2025-10-04T16:00Z"],
}
"""Zones that set their clocks by an hour, and not at midnight: in others Go loses days and half hours, or never comes back."""


def random_value(random: Random, place: int) -> str:
    low, high = BOUNDS[place]
    value = random.randint(low, high)
    if place in NAMES and random.random() < 0.3:
        name = NAMES[place][value - low]
        return random.choice([name, name.upper(), name.title()])
    return str(value)


def random_item(random: Random, place: int) -> str:
    step = random.choice(["", "", f"/{random.randint(1, 12)}"])
    kind = random.random()
    if kind < 0.25:
        return random.choice("*?") + step
    if kind < 0.6:
        return random_value(random, place) + step
    low, high = BOUNDS[place]
    first = random.randint(low, high)
    return f"{first}-{random.randint(first, high)}{step}"


def random_field(random: Random, place: int) -> str:
    if random.random() < 0.3:
        return "*"
    return ",".join(random_item(random, place) for _ in range(random.choice([1, 1, 1, 2, 3])))


def random_spec(random: Random) -> str:
    return " ".join(random_field(random, place) for place in range(len(BOUNDS)))


def damaged(random: Random, spec: str) -> str:
    """The text with one or two characters changed, left out or put in."""
    for _ in range(random.randint(1, 2)):
        place = random.randrange(len(spec))
        spec = spec[:place] + random.choice(["", *"0159/*-,? x+@7"]) + spec[place + random.randint(0, 1) :]
    return spec


def is_refused_on_purpose(spec: str) -> bool:
    """What Go takes for something else than it says: a star with an end, and a field of nothing but commas."""
    items = [item for field in spec.split() for item in field.split(",")]
    return any(item.startswith(("*-", "?-")) for item in items) or any(not field.strip(",") for field in spec.split())


def test_hundreds_of_random_texts_tick_alike_where_clocks_are_not_changed(ask_go: Ask) -> None:
    random = Random(20250101)  # noqa: S311 - the same texts every time
    start = at("2020-01-01T00:00Z")
    questions = [
        Question(f"TZ={random.choice(NO_CHANGES)} {random_spec(random)}", start + random.randint(0, 3_000_000) * MINUTE)
        for _ in range(600)
    ]
    answers = ask_go(questions)
    assert sum(map(bool, answers)) > 500
    assert disagreements(questions, answers) == []


def test_hundreds_of_damaged_texts_are_refused_alike(ask_go: Ask) -> None:
    random = Random(20250102)  # noqa: S311 - the same texts every time
    after = at("2025-01-01T00:00Z")
    specs = [damaged(random, random_spec(random)) for _ in range(800)]
    questions = [Question(f"TZ=UTC {spec}", after) for spec in specs if not is_refused_on_purpose(spec)]
    answers = ask_go(questions)
    assert sum(map(bool, answers)) > 100
    assert sum(answer is None for answer in answers) > 100
    assert disagreements(questions, answers) == []


def test_hundreds_of_wildcards_tick_alike_across_changes_of_the_clocks(ask_go: Ask) -> None:
    random = Random(20250103)  # noqa: S311 - the same texts every time
    questions = []
    for _ in range(600):
        zone = random.choice(list(WHOLE_HOURS))
        change = at(random.choice(WHOLE_HOURS[zone]))
        minute, hour, *days = (random_field(random, place) for place in range(len(BOUNDS)))
        minute, hour = random.choice([("*", hour), (minute, "*"), ("*/7", hour), (minute, "*/2"), ("*", "*")])
        spec = " ".join([f"TZ={zone}", minute, hour, *random.choice([["*", "*", "*"], [days[0], "*", days[2]]])])
        questions.append(Question(spec, change + random.randint(-2000, 1000) * MINUTE, 8))
    answers = ask_go(questions)
    assert sum(map(bool, answers)) > 500
    assert disagreements(questions, answers) == []


# --------------------------------------------------------------------------------------------------- where they differ


@pytest.mark.parametrize(
    ("spec", "after", "go", "python"),
    [
        ("30 2 * * *", "2025-03-29T12:00Z", ["2025-03-31T00:30Z"], ["2025-03-30T01:00Z", "2025-03-31T00:30Z"]),
        (
            "30 2 * * *",
            "2025-10-25T12:00Z",
            ["2025-10-26T00:30Z", "2025-10-26T01:30Z", "2025-10-27T01:30Z"],
            ["2025-10-26T00:30Z", "2025-10-27T01:30Z"],
        ),
        (
            "@every 1h",
            "2025-01-01T00:20Z",
            ["2025-01-01T01:20Z", "2025-01-01T02:20Z"],
            ["2025-01-01T01:00Z", "2025-01-01T02:00Z"],
        ),
    ],
    ids=[
        "a gap skips the day, here it delays",
        "a fold fires twice, here once",
        "intervals begin with the server, here with 1970",
    ],
)
def test_go_ticks_otherwise(ask_go: Ask, spec: str, after: str, go: list[str], python: list[str]) -> None:
    question = Question(f"TZ=Europe/Berlin {spec}", at(after), max(len(go), len(python)))
    (theirs,) = ask_go([question])
    ours = ask_python(question)
    assert theirs is not None
    assert ours is not None
    assert theirs[: len(go)] == [at(text) for text in go]
    assert ours[: len(python)] == [at(text) for text in python]
