"""Both sides with messages in Redis and results in another store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from machinery import Config, Server
from tests.interop.application import Application
from tests.interop.gomachinery import GoMachinery
from tests.interop.matrix import Sides
from tests.interop.redis_sides import DATABASE


@dataclass(frozen=True, slots=True)
class Store:
    """A place for results that both sides find."""

    url: str
    """Python's URL, and Go's address unless there is another."""
    section: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Python's section of the configuration."""
    go_flags: tuple[str, ...] = ()
    go_address: str = ""


@contextmanager
def both_sides(go_program: Path, redis_url: str, store: Store, **config: Any) -> Iterator[Sides]:
    """Both sides on a queue that no one else knows; ``config`` is Python's."""
    broker = urlsplit(redis_url)
    queue = f"interop_{uuid4()}"
    made = Config(
        broker=f"redis://{broker.netloc}/{DATABASE}",
        result_backend=store.url,
        lock="memory://",
        default_queue=queue,
        sections=store.section,
        **config,
    )
    go = GoMachinery(
        go_program, "goredis", broker.netloc, store.go_address or store.url, DATABASE, queue, store.go_flags
    )
    with Server.from_config(made) as server:
        yield Sides(go, Application(server))
