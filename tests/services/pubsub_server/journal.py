"""What a server has promised, written down before it answers: it survives the server, though not the machine."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path


class Journal:
    """A file of lines. Each is a JSON list of strings and numbers; messages are in base64."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1

    def read(self) -> Iterator[list[str | int]]:
        """What earlier lives have noted. A line cut short was never promised to anybody."""
        if self._path.exists():
            for line in self._path.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    yield json.loads(line)

    def open(self) -> None:
        """From now on, note."""
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, *entry: str | int | bytes) -> None:
        """Write one line, in one call."""
        if self._file >= 0:
            fields = [base64.b64encode(each).decode() if isinstance(each, bytes) else each for each in entry]
            os.write(self._file, json.dumps(fields).encode() + b"\n")
