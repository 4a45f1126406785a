"""A run that lost a task is a failed run, and medians are taken of those that did not."""

from __future__ import annotations

import pytest

pytest.importorskip("redis", reason="needs the redis package")

from benchmarks.goals import reached_goals
from benchmarks.ledger import Verdict
from benchmarks.processes import ProgramFailed
from benchmarks.rounds import Run, _one, medians
from benchmarks.stand import Outcome, TasksLost, TooSlow


def run(outcome: Outcome | Exception) -> Run:
    """What becomes of one measurement."""

    def carry_out() -> Outcome:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return _one(0, "drain", "machinery", None, carry_out)


def test_a_run_that_lost_a_task_fails_and_its_values_do_not_count() -> None:
    lost = run(Outcome({"send_per_s": 9e9}, Verdict(sent=3, lost=1)))
    good = run(Outcome({"send_per_s": 5.0}, Verdict(sent=3)))
    assert "1 of 3 tasks were lost" in lost.failure
    assert good.failure == ""
    assert medians([lost, good]) == {"machinery": {"send_per_s": 5.0}}


def test_a_task_that_ran_twice_is_told_and_does_not_fail_the_run() -> None:
    twice = run(Outcome({"send_per_s": 5.0}, Verdict(sent=3, duplicated=2)))
    assert twice.failure == ""
    assert twice.notes == ["2 ran twice"]


@pytest.mark.parametrize("error", [TasksLost("2 of 3"), ProgramFailed("ended with 1"), ValueError("the result is 7")])
def test_what_could_not_be_carried_out_fails(error: Exception) -> None:
    assert str(error) in run(error).failure


def test_what_takes_too_long_is_neither_measured_nor_failed() -> None:
    slow = run(TooSlow("1 of 3"))
    assert slow.failure == ""
    assert slow.values == {}
    assert slow.notes == ["too slow: 1 of 3"]


def test_medians_are_taken_over_the_rounds() -> None:
    runs = [run(Outcome({"p50_ms": value})) for value in (9.0, 1.0, 2.0)]
    assert medians(runs) == {"machinery": {"p50_ms": 2.0}}


def test_goals_are_held_against_the_best_python_peer_whichever_way_it_runs_tasks() -> None:
    found = {
        "machinery": {"threads_drain_per_s": 16_000.0, "threads_cpu_us": 50.0},
        "huey": {"threads_drain_per_s": 3_000.0, "threads_cpu_us": 250.0},
        "taskiq": {"async_drain_per_s": 5_000.0, "async_cpu_us": 190.0},
        "go-redigo": {"threads_drain_per_s": 13_000.0, "threads_cpu_us": 70.0},
    }
    measured = {goal.text: (goal.measured, goal.reached) for goal in reached_goals(found, {})}
    assert measured["drain, against the best Python peer"] == ("3.20x", False)
    assert measured["CPU of the worker, against the best Python peer"] == ("0.26x", False)
    assert measured["drain, against Go's redigo worker"] == ("1.23x", True)
    assert measured["drain, in tasks a second"] == ("16,000", True)


def test_goals_in_absolute_numbers_are_shown_at_the_pace_of_the_machine_that_they_were_set_on() -> None:
    ours = {"threads_drain_per_s": 10_000.0, "p50_ms": 1.3, "idle_rss_mib": 41.0}
    twice_as_slow = {"machinery": ours, "bare": {"threads_cpu_us": 46.0}}
    goals = {goal.text: (goal.reached, goal.at_pace, goal.reached_at_pace) for goal in reached_goals(twice_as_slow, {})}
    assert goals["drain, in tasks a second"] == (False, "20,000", True)
    assert goals["round trip, p50, in ms"] == (False, "0.65", True)
    assert goals["memory of an idle worker, in MiB"] == (False, "", None)
    # and where the yardstick was not measured, nothing is said of it
    assert all(goal.reached_at_pace is None for goal in reached_goals({"machinery": ours}, {}))


def test_goals_on_rabbitmq_are_others_and_are_not_brought_to_a_pace() -> None:
    found = {
        "machinery": {"send_per_s": 2_000.0, "batch_per_s": 14_000.0, "threads_drain_per_s": 9_000.0, "p50_ms": 0.5},
        "dramatiq": {"send_per_s": 5_000.0, "threads_drain_per_s": 3_000.0},
        "go-amqp": {"send_per_s": 1_000.0, "threads_drain_per_s": 10_000.0},
        "bare": {"threads_cpu_us": 46.0},
    }
    goals = reached_goals(found, {}, "rabbitmq")
    assert {goal.text: (goal.measured, goal.reached) for goal in goals} == {
        "send one by one, against Go": ("2.00x", True),
        "send in batches, in tasks a second": ("14,000", False),
        "drain, against Dramatiq": ("3.00x", True),
        "drain, against Go": ("0.90x", False),
        "round trip, p50, in ms": ("0.5", True),
    }
    assert all(goal.at_pace == "" and goal.reached_at_pace is None for goal in goals)


def test_the_yardstick_is_no_peer() -> None:
    found = {"machinery": {"threads_drain_per_s": 4.0}, "bare": {"threads_drain_per_s": 9.0}}
    assert [goal.text for goal in reached_goals(found, {})] == ["drain, in tasks a second"]
