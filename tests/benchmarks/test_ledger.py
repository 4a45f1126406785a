"""The ledger notices what a queue did wrong."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest

from benchmarks.ledger import Ledger, Verdict, count_calls, judge, read_calls, read_pids


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path, capacity=10_000)


def test_every_call_is_read_back_in_its_order_with_rising_times(ledger: Ledger, tmp_path: Path) -> None:
    for number in (3, 0, 2):
        ledger.note(number)
    (process,) = read_calls(tmp_path)
    assert process.pid == os.getpid()
    assert [call.number for call in process.calls] == [3, 0, 2]
    times = [call.at for call in process.calls]
    assert times == sorted(times)
    assert process.calls[0].cpu > 0
    assert count_calls(tmp_path) == 3


def test_calls_of_many_threads_are_all_there(ledger: Ledger, tmp_path: Path) -> None:
    def note(first: int) -> None:
        for number in range(first, first + 500):
            ledger.note(number)

    threads = [Thread(target=note, args=(first,)) for first in range(0, 4000, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert judge(read_calls(tmp_path), range(4000)) == Verdict(sent=4000)


def test_warming_up_shows_the_process_and_no_call(ledger: Ledger, tmp_path: Path) -> None:
    ledger.note(-1)
    assert read_pids(tmp_path) == [os.getpid()]
    assert count_calls(tmp_path) == 0
    assert read_calls(tmp_path) == []


def test_a_task_that_was_never_called_is_lost(ledger: Ledger, tmp_path: Path) -> None:
    for number in (0, 1, 3):
        ledger.note(number)
    assert judge(read_calls(tmp_path), range(5)) == Verdict(sent=5, lost=2)


def test_a_task_that_ran_twice_does_not_make_up_for_a_lost_one(ledger: Ledger, tmp_path: Path) -> None:
    for number in (0, 1, 1):
        ledger.note(number)
    assert judge(read_calls(tmp_path), range(3)) == Verdict(sent=3, lost=1, duplicated=1)


def test_a_call_of_what_nobody_sent_is_told_apart(ledger: Ledger, tmp_path: Path) -> None:
    for number in (0, 7):
        ledger.note(number)
    assert judge(read_calls(tmp_path), range(1)) == Verdict(sent=1, unknown=1)
