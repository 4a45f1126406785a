"""The Memcached servers: commands go to the server that has their key, as many in a round trip as there can be."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

from machinery.errors import Closed
from machinery_backend_memcache import _exchange
from machinery_backend_memcache._errors import DRIVER_ERRORS, translate, unable
from machinery_backend_memcache._exchange import TOO_LARGE
from machinery_backend_memcache._keys import server_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pymemcache.client.base import PooledClient

    from machinery_backend_memcache._exchange import Item

    T = TypeVar("T")

Command = tuple[int, bytes]
"""The position of a server, and a command for it, made by `_exchange`."""
Place = tuple[int, bytes]
"""The position of a server, and a key on it."""

MOST_COMMANDS = 1000
"""In one round trip. Their answers, which are short, fit into what the system keeps for us while we still send."""
MOST_WRITTEN = 4 * 1024 * 1024
"""Bytes of commands in one round trip, unless one has more: each round trip has its own time."""
MOST_ASKED = 32 * 1024
"""Bytes of keys that are asked for in one round trip: the server takes them all before we read what it answers."""


class Servers:
    """One or several servers, which know nothing of each other. Safe from any thread.

    Connects when it is first used. Every error is translated; `Closed` after `close`.
    """

    def __init__(self, pools: Sequence[PooledClient], addresses: Sequence[str], *, owned: bool) -> None:
        self._pools = tuple(pools)
        self.addresses = tuple(addresses)
        """What to call each server in errors."""
        self._owned = owned
        self._closed = False
        self._busy = 0
        """How many round trips are under way."""
        self._guard = threading.Lock()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._pools)

    def place(self, key: bytes) -> Place:
        """Where ``key`` lies."""
        return server_of(key, len(self._pools)), key

    def ask(self, commands: Sequence[Command]) -> list[bytes]:
        """The answers, a line each, in the order of ``commands``, from each server in one round trip.

        Those that say that something was too large stand among them. Raises the `Unavailable` family, naming the server.
        """
        self.check_open()
        answers = [b""] * len(commands)
        for server, positions in self._by_server([server for server, _ in commands]):
            for some in _rounds(positions, commands):
                said = self._over(server, _exchange.ask, [commands[at][1] for at in some])
                for at, answer in zip(some, said, strict=True):
                    answers[at] = answer
                    if answer.startswith(b"SERVER_ERROR") and not answer.startswith(TOO_LARGE):
                        raise unable(answer, self.addresses[server])
        return answers

    def fetch(self, places: Sequence[Place]) -> dict[bytes, Item]:
        """The items that are there, from each server in one round trip. Raises as `ask`."""
        self.check_open()
        found: dict[bytes, Item] = {}
        for server, positions in self._by_server([server for server, _ in places]):
            for keys in _portions([places[at][1] for at in positions]):
                found.update(self._over(server, _exchange.fetch, keys))
        return found

    def statistics(self, server: int) -> tuple[dict[bytes, Any], dict[bytes, Any]]:
        """What the server tells of itself, and of its settings. Raises as `ask`."""
        self.check_open()
        return self._over(server, lambda client: (client.stats(), client.stats("settings")))

    def check_open(self) -> None:
        """Raise `Closed` after `close`."""
        if self._closed:
            raise Closed(f"the connection to memcached at {', '.join(self.addresses)} was closed")

    def close(self) -> None:
        """Let go of every connection, of those in use when they are not; the pools of an application are left to it."""
        with self._guard:
            self._closed = True
            self._let_go_when_idle()

    def _let_go_when_idle(self) -> None:
        if self._closed and self._owned and not self._busy:
            for pool in self._pools:
                pool.close()

    def _by_server(self, servers: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """Each server with the positions of what is for it."""
        if len(self._pools) == 1:
            if servers:
                yield 0, list(range(len(servers)))
            return
        positions: dict[int, list[int]] = {}
        for at, server in enumerate(servers):
            positions.setdefault(server, []).append(at)
        yield from positions.items()

    def _over(self, server: int, exchange: Callable[..., T], *arguments: Any) -> T:
        with self._guard:
            self.check_open()
            self._busy += 1
        try:
            with self._pools[server].client_pool.get_and_release(destroy_on_fail=True) as client:
                return exchange(client, *arguments)
        except DRIVER_ERRORS as error:
            raise translate(error, self.addresses[server]) from None
        finally:
            with self._guard:
                self._busy -= 1
                self._let_go_when_idle()


def _rounds(positions: Sequence[int], commands: Sequence[Command]) -> Iterator[list[int]]:
    some: list[int] = []
    size = 0
    for at in positions:
        size += len(commands[at][1])
        if some and (size > MOST_WRITTEN or len(some) == MOST_COMMANDS):
            yield some
            some, size = [], len(commands[at][1])
        some.append(at)
    if some:
        yield some


def _portions(keys: Sequence[bytes]) -> Iterator[list[bytes]]:
    portion: list[bytes] = []
    size = 0
    for key in keys:
        size += len(key) + 1
        if size > MOST_ASKED:
            yield portion
            portion, size = [], len(key) + 1
        portion.append(key)
    if portion:
        yield portion
