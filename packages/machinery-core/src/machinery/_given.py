"""What callers hand to a server, checked at once: the texts say what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from machinery._go_json import is_utf8
from machinery.errors import ConfigError, MachineryError


def queue_names(queues: Iterable[str]) -> list[str]:
    """The queues of a worker. Raises `ConfigError` for those that are none."""
    names: list[Any] = listed("the queues of a worker", queues, ConfigError)
    if not names:
        raise ConfigError("a worker needs at least one queue; leave queues out for the default one")
    for name in names:
        if not isinstance(name, str) or not name or not is_utf8(name):
            raise ConfigError(f"a queue of a worker is {name!r}; it must be a name that UTF-8 can say")
    return names


def listed(what: str, given: object, refusal: type[MachineryError]) -> list[Any]:
    """A list of what was ``given``; a string is none of its characters. Raises ``refusal``."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise refusal(f"{what} are {given!r}; they must be a list")
    return list(given)
