"""A count of runs outside the system: one line a run, appended to a file, which survives whatever dies."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path


def note(path: Path, entry: str) -> None:
    """Append ``entry`` as one line. Lines of many processes never mix: each is one short write to the file's end."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, f"{entry}\n".encode())
    finally:
        os.close(handle)


def entries(path: Path) -> Counter[str]:
    """How often each entry was noted."""
    return Counter(path.read_text().split()) if path.exists() else Counter()
