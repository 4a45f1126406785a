"""What each idea buys: this project is measured without it, as often as with all of them, in the same run.

An idea is taken out by changing this project's inside in the processes that are measured (`benchmarks.adapters.machinery`). What
then runs is slower, and as right as before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

NONE = "(nothing is left out)"
"""All ideas are there: what the others are held against."""


def leave_out(name: str) -> None:
    """From now on this process does without that idea."""
    IDEAS[name]()


def _nothing() -> None:
    pass


def _one_call_for_record_and_message() -> None:
    from machinery_broker_redis import RedisBroker

    _change(RedisBroker, "combined_with", lambda _broker, _backend: None)


def _receiving_in_batches() -> None:
    from machinery._worker._fetcher import Fetcher

    wanted = Fetcher._wanted
    _change(Fetcher, "_wanted", lambda fetcher: min(1, wanted(fetcher)))


def _surplus() -> None:
    from machinery._worker import _fetcher

    _change(_fetcher, "MAX_SURPLUS", 0)


def _settling_in_batches() -> None:
    from machinery._worker._settler import Settler

    def take(settler: Any) -> list[Any]:
        settler.settling = min(1, len(settler._ended))
        return [settler._ended.popleft()] if settler.settling else []

    _change(Settler, "_take", take)


def _few_threads_for_short_tasks() -> None:
    from machinery._worker import _executor

    _change(_executor, "SHORT", 0.0)


def _reading_the_beginning_alone() -> None:
    from machinery import _decoding

    _change(_decoding, "_ZERO_TAIL_BYTES", b"\0")


def _reading_a_callback_once() -> None:
    from machinery import _decoding

    _change(_decoding, "_CHORD", b"\0")


def _one_round_trip_to_begin_to_wait() -> None:
    from machinery_broker_redis._waiting import Waiting, _Listener

    wait, subscribe = Waiting.wait, _Listener.subscribe

    def look_and_wait(waiting: Any, ids: Any, timeout: float, interval: float) -> Any:
        waiting._records.load(ids)
        return wait(waiting, ids, timeout, interval)

    _change(Waiting, "wait", look_and_wait)
    _change(_Listener, "subscribe", lambda listener, channels, _keys, within: subscribe(listener, channels, (), within))


def _being_told_of_results() -> None:
    from machinery_broker_redis._waiting import _Listener

    opened = _Listener.__init__

    def deaf(listener: Any, client: Any) -> None:
        opened(listener, client)
        listener._is_deaf = True

    _change(_Listener, "__init__", deaf)


def _change(owner: Any, name: str, value: object) -> None:
    patch.object(owner, name, value).start()  # complains of a name that is not there any more


IDEAS: dict[str, Callable[[], None]] = {
    NONE: _nothing,
    "record and message sent in one call": _one_call_for_record_and_message,
    "receiving in batches": _receiving_in_batches,
    "receiving more than there are free slots": _surplus,
    "settling in batches": _settling_in_batches,
    "few threads for short tasks": _few_threads_for_short_tasks,
    "reading only the beginning of a message": _reading_the_beginning_alone,
    "reading a chord's callback once": _reading_a_callback_once,
    "one round trip until the waiting begins": _one_round_trip_to_begin_to_wait,
    "being told of results": _being_told_of_results,
}
"""All of them by their names in the table."""
