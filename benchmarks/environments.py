"""A place for each peer to run in, made when it is first needed: a virtual environment, or the built Go program."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import Peer
from benchmarks.processes import ROOT, Processes

WORKSHOP = ROOT / ".workshop" / "bench"
"""Environments, programs and reports; deleting it is always safe."""

INSTALL_TIMEOUT = 600.0
GO_SOURCE = ROOT / "benchmarks" / "go"
GO_PROGRAM = WORKSHOP / "gobench"
OLDEST_GO = (1, 24)

VERSIONS = (
    "import json, sys; from importlib.metadata import version; print(json.dumps({n: version(n) for n in sys.argv[1:]}))"
)


class NoEnvironment(Exception):
    """This peer cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a peer's programs are."""

    peer: Peer
    folder: Path
    """Holds its programs (``bin``)."""
    versions: Mapping[str, str]

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "python")

    def client(self, word: str, arguments: Mapping[str, Any]) -> list[str]:
        """The command that does what ``word`` names, on the sending side."""
        if self.peer.is_go:
            return [str(GO_PROGRAM), self.peer.name, word, json.dumps(arguments)]
        return [
            self.python,
            "-m",
            "benchmarks.client",
            self.peer.adapter or self.peer.name,
            word,
            json.dumps(arguments),
        ]

    def worker(self, command: tuple[str, ...], url: str, number: int) -> list[str]:
        """The command that starts worker ``number``."""
        if self.peer.is_go:
            return [str(GO_PROGRAM), self.peer.name, "worker", "{}"]
        return [str(self.folder / command[0]), *(_filled_in(word, url, number) for word in command[1:])]


def _filled_in(word: str, url: str, number: int) -> str:
    return word.replace("{url}", url).replace("{number}", str(number))


def make_environment(peer: Peer, processes: Processes) -> Environment:
    """The environment of this peer, made anew when its requirements changed. Raises `NoEnvironment` and `ProgramFailed`."""
    if peer.is_go:
        return Environment(peer, WORKSHOP, _build_go(peer, processes))
    folder = _virtual_environment(peer, processes) if peer.requirements else Path(sys.executable).parent
    told = processes.output_of([str(folder / "python"), "-c", VERSIONS, *peer.distributions], timeout=60)
    return Environment(peer, folder, json.loads(told.splitlines()[-1]))


def _virtual_environment(peer: Peer, processes: Processes) -> Path:
    folder = WORKSHOP / "environments" / peer.name
    stamp = folder / "requirements"  # written last: without it the environment was cut short
    wanted = "\n".join((sys.version, *peer.requirements))
    if not stamp.exists() or stamp.read_text("utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _say(f"making the environment of {peer.name}: {', '.join(peer.requirements)}")
        processes.output_of(
            [str(ROOT / "scripts" / "venv"), str(folder), *peer.requirements],
            {"PYTHON": os.path.realpath(sys.executable)},
            timeout=INSTALL_TIMEOUT,
        )
        stamp.write_text(wanted, "utf-8")
    return folder / "bin"


def _build_go(peer: Peer, processes: Processes) -> dict[str, str]:
    go = shutil.which("go")
    if go is None:
        raise NoEnvironment("there is no go on PATH")
    version = processes.output_of([go, "version"], timeout=60).strip()
    numbers = re.search(r"go(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST_GO:
        raise NoEnvironment(f"Go {OLDEST_GO[0]}.{OLDEST_GO[1]} or newer is needed, this is {version}")
    WORKSHOP.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    processes.output_of([go, "build", "-C", str(GO_SOURCE), "-o", str(GO_PROGRAM), "."], timeout=INSTALL_TIMEOUT)
    _say(f"built the Go program in {time.monotonic() - start:.0f} s")
    pinned = dict(re.findall(r"^\t?(?:require )?(\S+) (v\S+)", _go_mod(), re.MULTILINE))
    return {module: pinned[module] for module in peer.told} | {"go": numbers.group()[2:] if numbers else version}


def _go_mod() -> str:
    return (GO_SOURCE / "go.mod").read_text("utf-8")


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
