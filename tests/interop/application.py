"""The Python side: the tasks of ``go/tasks.go`` under the same names, and a worker that remembers what it ran."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import prod
from queue import SimpleQueue
from threading import Condition
from typing import Any

from machinery import RetryTaskLater, Server, Signature, TaskContext

RUN_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a task: the signature as its message carried it, and when it began."""

    signature: Signature
    at: datetime


@dataclass(slots=True)
class Application:
    """Tasks of one server, what its workers ran, and the answers for tasks that hold."""

    server: Server
    _runs: list[Run] = field(default_factory=list)
    _changed: Condition = field(default_factory=Condition)
    _answers: SimpleQueue[str] = field(default_factory=SimpleQueue)

    def __post_init__(self) -> None:
        self.server.register_tasks({**TASKS, **ECHOES, **self._counting_tasks()})

    @contextmanager
    def at(self, url: str) -> Iterator[Application]:
        """Another application of the same queue, which finds its services there."""
        with Server.from_url(url, default_queue=self.server.config.default_queue) as server:
            yield Application(server)

    @contextmanager
    def worker(self, concurrency: int = 4, queues: Iterable[str] | None = None) -> Iterator[Application]:
        """A worker that consumes within the block, from the default queue if no others are named."""
        worker = self.server.new_worker("python", concurrency, queues)
        worker.set_pre_task_handler(self._note_run)
        with worker:
            yield self

    @contextmanager
    def worker_of_one_run(self) -> Iterator[Application]:
        """A worker that takes no more from the queue once its first run begins: what comes of that is for others to run."""
        worker = self.server.new_worker("python", 1)

        def stop_fetching(signature: Signature) -> None:
            worker.quit()
            for fetcher in worker._fetchers:
                fetcher._stopping.wait(RUN_TIMEOUT)
            self._note_run(signature)

        worker.set_pre_task_handler(stop_fetching)
        worker.start()
        try:
            yield self
        finally:
            if not worker._quitting.is_set():  # told twice it would not wait for what runs
                worker.quit()
            worker.join()

    def runs(self, uuid: str, count: int = 0) -> list[Run]:
        """The runs of this task, once there are ``count``."""
        return self.runs_where(lambda signature: signature.uuid == uuid, count)

    def runs_where(self, matches: Callable[[Signature], bool], count: int = 0) -> list[Run]:
        """The runs with a signature that matches, once there are ``count``."""

        def found() -> list[Run]:
            return [run for run in self._runs if matches(run.signature)]

        with self._changed:
            enough = self._changed.wait_for(lambda: len(found()) >= count, RUN_TIMEOUT)
            assert enough, f"{len(found())} of {count} runs came in Python"
            return found()

    def answer(self, text: str) -> None:
        """Let one task that holds end with this text."""
        self._answers.put(text)

    def _note_run(self, signature: Signature) -> None:
        with self._changed:
            self._runs.append(Run(signature, datetime.now(UTC)))
            self._changed.notify_all()

    def _counting_tasks(self) -> dict[str, Callable[..., Any]]:
        def hold() -> str:
            return self._answers.get(timeout=RUN_TIMEOUT)

        def fail_times(context: TaskContext, n: int) -> int:
            run = len(self.runs(context.uuid))
            if run <= n:
                raise RuntimeError(f"run {run} of {n} to fail")
            return run

        def retry_later(context: TaskContext, message: str, milliseconds: int) -> str:
            if len(self.runs(context.uuid)) == 1:
                raise RetryTaskLater(message, timedelta(milliseconds=milliseconds))
            return message

        return {"hold": hold, "fail_times": fail_times, "retry_later": retry_later}


def add(*numbers: int) -> int:
    return sum(numbers)


def multiply(*numbers: int) -> int:
    return prod(numbers)


def concat(texts: list[str]) -> str:
    return "".join(texts)


def join(*texts: str) -> str:
    return "|".join(texts)


def two_strings() -> tuple[str, str]:
    return "foo", "bar"


def nothing() -> None:
    pass


def noargs() -> str:
    return "no arguments"


def fail(message: str) -> None:
    raise RuntimeError(message)


def panic_task(message: str) -> None:
    raise RuntimeError(message)


def headers(context: TaskContext) -> str:
    return json.dumps(dict(context.headers))


def on_error(text: str, *own: str) -> str:
    return "|".join((text, *own))


def runs_in_python() -> str:
    return "python"


TASKS: dict[str, Callable[..., Any]] = {
    task.__name__: task
    for task in (
        add, multiply, concat, join, two_strings, nothing, noargs, fail, panic_task, headers, on_error,
        runs_in_python,
    )
}  # fmt: skip


def echo_bool(value: bool) -> bool:
    return value


def echo_string(value: str) -> str:
    return value


def echo_int(value: int) -> int:
    return value


def echo_float(value: float) -> float:
    return value


def echo_bools(value: list[bool]) -> list[bool]:
    return value


def echo_strings(value: list[str]) -> list[str]:
    return value


def echo_ints(value: list[int]) -> list[int]:
    return value


def echo_floats(value: list[float]) -> list[float]:
    return value


def echo_bytes(value: bytes) -> bytes:
    return value


_INTEGERS = [f"{sign}int{width}" for sign in ("", "u") for width in ("", "8", "16", "32", "64")]
_FLOATS = ["float32", "float64"]

ECHOES: dict[str, Callable[..., Any]] = {
    "echo_bool": echo_bool,
    "echo_string": echo_string,
    **{f"echo_{name}": echo_int for name in _INTEGERS},
    **{f"echo_{name}": echo_float for name in _FLOATS},
    "echo_bools": echo_bools,
    "echo_strings": echo_strings,
    **{f"echo_{name}s": echo_ints for name in _INTEGERS if name != "uint8"},
    **{f"echo_{name}s": echo_floats for name in _FLOATS},
    "echo_uint8s": echo_bytes,
}
