"""What ``memory://name`` means: the same name, the same store, all over the process."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

from machinery.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

S = TypeVar("S")


def store_for(url: str, make: Callable[[], S]) -> S:
    """The store that ``url`` names, or a fresh one when it names none. Raises `ConfigError` for anything but a name."""
    parts = urlsplit(url)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(
            f"{url!r}: after memory:// only a name may stand, such as memory://orders, and no path or options"
        )
    name = unquote(parts.netloc)
    return _named(make, name) if name else make()


@cache
def _named(make: Callable[[], S], name: str) -> S:  # noqa: ARG001 - the name is the cache's key
    return make()
