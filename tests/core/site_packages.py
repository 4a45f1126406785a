"""An installation made for one test: distributions with entry points that exist nowhere else."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoints, distributions
from pathlib import Path

import pytest

from machinery import _entry_points

PLUG_IN = """
from dataclasses import dataclass
from datetime import timedelta
from machinery.abc import Section, parse_section
from machinery.memory import MemoryBackend, MemoryBroker, MemoryLock

@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    size: int = 3
    patience: timedelta = timedelta(seconds=1)
    password: str = ""

    def __post_init__(self):
        if self.size > 100:
            raise ValueError("size and patience do not go together")

class Broker(MemoryBroker):
    section = Section("shelf", environment={"SHELF_SIZE": "size", "SHELF_PASSWORD": "password"}, options=Options)

    @classmethod
    def from_url(cls, url, config):
        broker = super().from_url("memory://", config)
        broker.options = parse_section(cls.section, config, Options)
        broker.url = url
        return broker

class Backend(MemoryBackend):
    section = Broker.section

    @classmethod
    def from_url(cls, url, config):
        return super().from_url("memory://", config)

class Lock(MemoryLock):
    pass

NotAClass = 3

class NotABroker:
    pass
"""


@dataclass
class SitePackages:
    """A folder to install into; what is installed there, and core's own, is all that is found."""

    path: Path
    monkeypatch: pytest.MonkeyPatch

    def install(
        self,
        distribution: str,
        offered: Mapping[str, Mapping[str, str]],
        *,
        source: str = PLUG_IN,
        path: Path | None = None,
    ) -> None:
        """A distribution with a module of its name (dashes as underscores).

        ``offered``: for ``brokers``, ``backends`` and ``locks`` the entry points, scheme → name in the module.
        """
        path = path or self.path
        module = re.sub(r"[-.]", "_", distribution).lower()
        path.mkdir(exist_ok=True)
        path.joinpath(f"{module}.py").write_text(source, "utf-8")
        info = path / f"{module}-1.2.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n", "utf-8")
        info.joinpath("entry_points.txt").write_text(
            "\n".join(
                f"[machinery.{group}]\n" + "".join(f"{scheme} = {module}:{name}\n" for scheme, name in classes.items())
                for group, classes in offered.items()
            ),
            "utf-8",
        )
        self.monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()
        self.forget()

    def entry_points(self, group: str) -> EntryPoints:
        """Like `importlib.metadata.entry_points`, of this folder and the ones inside it; doubles are kept."""
        places = [str(self.path), *(str(path) for path in self.path.iterdir() if path.suffix == ".editable")]
        return EntryPoints(
            point for found in distributions(path=places) for point in found.entry_points.select(group=group)
        )

    @staticmethod
    def forget() -> None:
        """What is installed is looked up once per process; look again."""
        _entry_points.offers.cache_clear()
        _entry_points.load_offer.cache_clear()
