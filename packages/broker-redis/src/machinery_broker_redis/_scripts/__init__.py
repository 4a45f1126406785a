"""The Lua scripts: whatever has to happen in Redis at once.

Each ``.lua`` file opens with what it promises and what its KEYS and ARGV are. All keys of a script lie in one cluster slot, but
those of ``arrive``, which clusters do without.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text, and the digest by which a server that has seen it knows it."""

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script in ``<name>.lua``, read when first used."""
    source = files(__name__).joinpath(f"{name}.lua").read_text("utf-8")
    return Script(name, source, sha1(source.encode(), usedforsecurity=False).hexdigest())
