"""The Go side, driven: the program in ``go/``, built once and run as a worker, a sender and a reader of states.

Every call is bounded, and a wait ends when the program reports, never after a guessed pause.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from threading import Condition, Thread
from time import monotonic
from typing import Any
from uuid import uuid4

SOURCE = Path(__file__).parent / "go"
OLDEST_GO = (1, 24)
BUILD_TIMEOUT = 600.0
CALL_TIMEOUT = 90.0
EVENT_TIMEOUT = 60.0

Wire = dict[str, Any]
"""A signature or a workflow as the program reads it from a line of JSON."""


class GoMissing(Exception):
    """No Go here can build the program; the text says why."""


def build_program(folder: Path, *, old: bool = False) -> Path:
    """Build the program into the folder, on v2.0.16 or the ``old`` v2.0.13. Go's own cache makes every time but the first quick.

    Raises `GoMissing` where there is no ``go`` or one too old. A program that does not compile is an error.
    """
    go = shutil.which("go")
    if go is None:
        raise GoMissing("there is no go on the PATH")
    version = subprocess.run([go, "version"], capture_output=True, text=True, timeout=CALL_TIMEOUT, check=True).stdout
    numbers = re.search(r"go(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST_GO:
        raise GoMissing(f"Go {OLDEST_GO[0]}.{OLDEST_GO[1]} or newer is needed, this is {version.strip()}")
    program = folder / "gomachinery"
    built = subprocess.run(
        [
            go,
            "build",
            "-trimpath",
            *(["-tags", "old", "-modfile", "go.old.mod"] if old else []),
            "-o",
            str(program),
            ".",
        ],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT,
        check=False,
    )
    if built.returncode:
        raise RuntimeError(f"the Go program does not build:\n{built.stderr}")
    return program


def wire(name: str, *args: tuple[str, object], **fields: object) -> Wire:
    """A signature in wire form under a fresh id; args are (type, value), fields have Go's names."""
    return {"UUID": f"task_{uuid4()}", "Name": name, "Args": [{"Type": t, "Value": v} for t, v in args]} | fields


@dataclass(frozen=True, slots=True)
class GoResult:
    """What Go's `AsyncResult` answered: each value as Go converted it, with the name of its Go type."""

    state: str
    error: str
    types: tuple[str, ...]
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class GoGroup:
    """A group as Go reads it: its members' records under the keys of the wire, and whether all have ended."""

    states: Sequence[Wire]
    is_completed: bool
    error: str


@dataclass(frozen=True, slots=True)
class GoMachinery:
    """The program with the services it is to use. ``client`` is ``redigo`` or ``goredis``; ``flags`` are one service's own."""

    program: Path
    client: str
    broker: str
    backend: str
    db: int
    queue: str = "machinery_tasks"
    flags: tuple[str, ...] = ()

    def on_queue(self, queue: str) -> GoMachinery:
        """The same with another default queue."""
        return replace(self, queue=queue)

    def by_way_of(self, port: int) -> GoMachinery:
        """The same that finds its services at a port of this machine, where somebody passes on what is said."""
        return replace(self, broker=f"127.0.0.1:{port}", backend=f"127.0.0.1:{port}")

    def send(self, *sendings: Wire, raw: bool = False) -> list[Wire]:
        """Send through Go's server and answer the ids given; ``raw`` keeps argument values that Go could not convert."""
        lines = "".join(json.dumps(sending) + "\n" for sending in sendings)
        return self._call("-raw=true" if raw else "-raw=false", "send", lines=lines)

    def result(self, uuid: str, timeout: float = EVENT_TIMEOUT) -> GoResult:
        """Wait for the result as a Go program would."""
        (answer,) = self._call("result", uuid, f"{timeout}s")
        results = answer["results"]
        return GoResult(
            answer["state"],
            answer["error"],
            tuple(result["type"] for result in results),
            tuple(result["value"] for result in results),
        )

    def state(self, uuid: str) -> Wire:
        """The record as Go reads it, under the keys of the wire; empty when Go finds none."""
        (answer,) = self._call("state", uuid)
        state: Wire = answer.get("state", {})
        return state

    def pending(self) -> list[Wire]:
        """The signatures that wait in the queue, as Go reads them."""
        (answer,) = self._call("pending")
        return list(answer["signatures"])

    def delayed(self) -> list[Wire]:
        """The signatures that wait for their time, as Go reads them."""
        (answer,) = self._call("delayed")
        return list(answer["signatures"])

    def group(self, uuid: str, count: int) -> GoGroup:
        """The group of so many members, as Go reads it."""
        (answer,) = self._call("group", uuid, str(count))
        return GoGroup(answer["states"] or (), answer["completed"], answer["error"])

    def trigger(self, *uuids: str) -> list[bool]:
        """For each group, whether Go got the right to send its callback."""
        answers = self._call("trigger", lines="".join(f"{uuid}\n" for uuid in uuids))
        assert [answer["error"] for answer in answers] == [""] * len(uuids)
        return [answer["triggered"] for answer in answers]

    @contextmanager
    def worker(self, concurrency: int = 4) -> Iterator[GoWorker]:
        """A worker process that consumes when the block starts and has ended when it is left."""
        command = self._command("-concurrency", str(concurrency), "worker")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        worker = GoWorker(process)
        try:
            worker.wait_for("ready")
            yield worker
        finally:
            worker.stop()

    def _command(self, *words: str) -> list[str]:
        return [
            str(self.program),
            *("-client", self.client, "-broker", self.broker, "-backend", self.backend),
            *("-db", str(self.db), "-queue", self.queue),
            *self.flags,
            *words,
        ]

    def _call(self, *words: str, lines: str = "") -> list[Wire]:
        ended = subprocess.run(
            self._command(*words), input=lines, capture_output=True, text=True, timeout=CALL_TIMEOUT, check=False
        )
        if ended.returncode:
            raise RuntimeError(f"gomachinery {' '.join(words)} failed: {ended.stderr}")
        return [json.loads(line) for line in ended.stdout.splitlines()]


@dataclass(frozen=True, slots=True)
class Event:
    """One line that a worker reported: it is ``ready``, a ``run`` begins, all that a run entails is ``done``, an ``error``."""

    kind: str
    uuid: str
    at: datetime
    signature: Mapping[str, Any]


class GoWorker:
    """A running worker: what it reported so far, and waiting for more."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._events: list[Event] = []
        self._changed = Condition()
        self._ended = False
        self._reader = Thread(target=self._read, name="gomachinery-reader", daemon=True)
        self._reader.start()

    def wait_for(self, kind: str, uuid: str = "", count: int = 1) -> list[Event]:
        """The events of this kind (about this task), once there are ``count``; an `AssertionError` when they do not come."""
        until = monotonic() + EVENT_TIMEOUT
        with self._changed:
            while len(found := self._matching(kind, uuid)) < count:
                left = until - monotonic()
                if self._ended or not self._changed.wait(max(0.0, left)):
                    raise AssertionError(f"{len(found)} of {count} {kind!r} came from the Go worker {uuid}")
            return found

    def runs(self, uuid: str, count: int = 1) -> list[Event]:
        """The runs of this task, once there are ``count``; one more may be on its way until the worker has ended."""
        return self.wait_for("run", uuid, count)

    def count_runs(self, uuid: str) -> int:
        """How often this task ran, of a worker that has ended."""
        assert self._ended
        with self._changed:
            return len(self._matching("run", uuid))

    def run_counts(self) -> Counter[str]:
        """How often each task ran, of a worker that has ended."""
        assert self._ended
        return Counter(event.uuid for event in self._events if event.kind == "run")

    def answer(self, *lines: str) -> None:
        """Let one task that holds end with each of these texts."""
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{line}\n" for line in lines))
        self._process.stdin.flush()

    def kill(self) -> None:
        """End the worker as the kernel would: whatever it was at stays as it is."""
        self._process.kill()
        self._process.wait(timeout=CALL_TIMEOUT)

    def suspend(self) -> None:
        """Hold up the whole process, until `resume` or `stop`."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)  # until then it may go on

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the worker well; one that does not end is killed."""
        self._process.terminate()
        self.resume()
        try:
            self._process.wait(timeout=CALL_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=CALL_TIMEOUT)
        self._reader.join(timeout=CALL_TIMEOUT)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _matching(self, kind: str, uuid: str) -> list[Event]:
        return [event for event in self._events if event.kind == kind and uuid in ("", event.uuid)]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            at = datetime.fromisoformat(said["at"])
            event = Event(said["event"], said.get("uuid", ""), at, said.get("signature", {}))
            with self._changed:
                self._events.append(event)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
