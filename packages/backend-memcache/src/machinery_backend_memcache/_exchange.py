"""Many commands in one round trip over a connection of pymemcache's, which itself sends only plain ``set`` in batches.

Memcached carries out the commands of a connection in order and answers each: one line, or for ``gets`` the items and ``END``. So
nothing but the count of commands is needed to know where the answers end. Only commands that every Memcached since 1.4.8 and
every proxy knows are used.
"""

from __future__ import annotations

import re
import select
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownCommandError,
    MemcacheUnknownError,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from io import BufferedReader

    from pymemcache.client.base import Client

STORED = b"STORED"
NOT_STORED = b"NOT_STORED"
EXISTS = b"EXISTS"
NOT_FOUND = b"NOT_FOUND"
TOO_LARGE = b"SERVER_ERROR object too large"
"""How the answer to storing more than the server takes begins."""

KEYS_IN_A_LINE = 100
_LONGEST_LINE = 2048
_BUFFER = 64 * 1024
_ITEM = re.compile(rb"VALUE ([^ ]+) (\d+) (\d+) (\d+)")


@dataclass(frozen=True, slots=True)
class Item:
    """What lies under a key."""

    value: bytes
    flags: int
    cas: bytes
    """Changes with every write; what ``cas`` compares."""


def to_store(verb: bytes, key: bytes, value: bytes, exptime: int, flags: int = 0, cas: bytes = b"") -> bytes:
    """A command that stores: ``set``, ``add``, ``replace``, ``append``, or ``cas`` with what it compares.

    ``exptime``: Unix seconds, 0 for never.
    """
    return b"%b %b %d %d %d%b\r\n%b\r\n" % (verb, key, flags, exptime, len(value), cas and b" " + cas, value)


def to_touch(key: bytes, exptime: int) -> bytes:
    """The command that gives an item another end."""
    return b"touch %b %d\r\n" % (key, exptime)


def to_count(verb: bytes, key: bytes, number: int) -> bytes:
    """The command ``incr`` or ``decr``, which answers the new number."""
    return b"%b %b %d\r\n" % (verb, key, number)


def to_delete(key: bytes) -> bytes:
    """The command that deletes an item."""
    return b"delete %b\r\n" % key


def ask(client: Client, commands: Sequence[bytes]) -> list[bytes]:
    """The answers, a line each. Those that say that the server has no room, or not for so much, stand among them.

    Raises pymemcache's errors; the connection cannot be used afterwards.
    """
    sock = _connected(client)
    with _answers_of(sock) as answers:
        sock.sendall(b"".join(commands))
        return [_line(answers) for _ in commands]


def fetch(client: Client, keys: Sequence[bytes]) -> dict[bytes, Item]:
    """Those of the items that are there. Raises as `ask`."""
    sock = _connected(client)
    found: dict[bytes, Item] = {}
    starts = range(0, len(keys), KEYS_IN_A_LINE)
    with _answers_of(sock) as answers:
        sock.sendall(b"".join([b"gets " + b" ".join(keys[at : at + KEYS_IN_A_LINE]) + b"\r\n" for at in starts]))
        for _ in starts:
            while (line := _line(answers)) != b"END":
                key, item = _item(line, answers)
                found[key] = item
    return found


def _answers_of(sock: socket.socket) -> BufferedReader:
    """To be closed after each exchange, in which all of it is read, so that nothing stays behind in its buffer."""
    return cast("BufferedReader", sock.makefile("rb", _BUFFER))


def _connected(client: Client) -> socket.socket:
    if client.sock is not None and _is_over(client.sock):
        client.close()
    if client.sock is None:
        client.version()  # pymemcache connects with the first command; this one shows that it is a Memcached
    connected: socket.socket | None = client.sock
    if connected is None:
        raise MemcacheUnexpectedCloseError
    return connected


def _is_over(sock: socket.socket) -> bool:
    """Whether the server closed the connection while it lay idle; or sent what nobody asked for."""
    if hasattr(select, "poll"):
        waiting = select.poll()
        waiting.register(sock, select.POLLIN)
        return bool(waiting.poll(0))
    return bool(select.select([sock], [], [], 0)[0])


def _line(answers: BufferedReader) -> bytes:
    line = answers.readline(_LONGEST_LINE)
    if not line.endswith(b"\r\n"):
        if len(line) < _LONGEST_LINE:
            raise MemcacheUnexpectedCloseError
        raise MemcacheUnknownError(line[:64])
    if line.startswith(b"ERROR"):
        raise MemcacheUnknownCommandError(line.strip().decode(errors="replace"))
    if line.startswith(b"CLIENT_ERROR"):
        raise MemcacheClientError(line.strip().decode(errors="replace"))
    return line[:-2]


def _item(line: bytes, answers: BufferedReader) -> tuple[bytes, Item]:
    if line.startswith(b"SERVER_ERROR"):
        raise MemcacheServerError(line.decode(errors="replace"))
    found = _ITEM.fullmatch(line)
    if found is None:
        raise MemcacheUnknownError(line[:64])
    key, flags, size, cas = found.groups()
    value = answers.read(int(size))
    if answers.read(2) != b"\r\n":
        raise MemcacheUnexpectedCloseError
    return key, Item(value, int(flags), cas)
