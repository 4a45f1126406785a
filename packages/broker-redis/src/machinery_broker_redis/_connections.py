"""Commands on redis-py's connections: packed and written, and their answers read, in as little time as there can be.

redis-py makes, authenticates and routes the connections. Its own commands and pipelines cost more time than Redis needs for what
is asked of it here.

Replies are what Redis sent: bytes, numbers and lists, whatever the client was told about decoding.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import redis
from redis.exceptions import ReadOnlyError, ResponseError

from machinery_broker_redis._errors import DRIVER_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.connection import Connection, ConnectionPool

    from machinery_broker_redis._options import RedisOptions
    from machinery_broker_redis._scripts import Script

Command = tuple[Any, ...]
"""A command: its name, and bytes, text or whole numbers."""

_LOOK_AFTER = 0.01
"""Seconds after which an unused connection is looked at before it is used: Redis may have closed it meanwhile."""
_PATIENCE = 15.0
"""Seconds to wait for a free connection where answers may take for ever."""
_FOR_EVER = 1_000_000.0
"""Seconds: about as many as a socket can be told to wait."""
_UNDER_WAY = 8
"""Commands whose replies may be outstanding when the next is written: more would only fill Redis's memory."""
_PIECE = 64 * 1024
"""Bytes written at once: the driver's limit is for each piece, so that much data may take its time while it gets on."""


class Evaluation(NamedTuple):
    """A call of a script."""

    script: Script
    keys: tuple[str | bytes, ...]
    arguments: tuple[Any, ...] = ()

    def by_sha(self) -> Command:
        """The command for a server that has seen the script."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments)

    def by_source(self) -> Command:
        """The command for one that has not, and will have then."""
        return ("EVAL", self.script.source, len(self.keys), *self.keys, *self.arguments)


def _pack_slowly(command: Command) -> bytes:
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    return b"".join([b"*%d\r\n" % len(parts), *[b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]])


try:
    import hiredis
except ImportError:  # the extra ``hiredis`` was not asked for
    pack_one: Any = _pack_slowly
    """One command as it goes over the wire."""
else:
    pack_one = hiredis.pack_command


def pack(commands: Sequence[Command | Evaluation]) -> bytes:
    """Commands as they go over the wire."""
    return b"".join([pack_one(command.by_sha() if type(command) is Evaluation else command) for command in commands])


def write(connection: Connection, packed: bytes) -> None:
    """Write commands on ``connection``."""
    pieces = (packed,) if len(packed) <= _PIECE else _in_pieces(packed)
    connection.send_packed_command(pieces, check_health=False)


def _in_pieces(packed: bytes) -> list[memoryview]:
    whole = memoryview(packed)
    return [whole[start : start + _PIECE] for start in range(0, len(whole), _PIECE)]


def read_reply(connection: Connection, within: float | None = None) -> Any:
    """The next reply, or the error that it is. Raises what redis-py raises when the connection is lost.

    ``within``: seconds in which the reply has to begin; ``None``: the driver's limit.
    """
    if within is not None and not connection.can_read(within):
        raise redis.TimeoutError(f"no answer within {within:.3g} s")
    try:
        return connection.read_response(disable_decoding=True, disconnect_on_error=True)
    except ReadOnlyError as error:  # a replica since the last failover: the name may lead to the new master by now
        raise redis.ConnectionError(f"READONLY {error}") from error
    except ResponseError as error:
        return error


def exchange_on(connection: Connection, packed: bytes, replies: int, within: float | None = None) -> list[Any]:
    """Write commands on ``connection`` and read as many ``replies``, each as `read_reply` does."""
    write(connection, packed)
    return [read_reply(connection, within) for _ in range(replies)]


class Connections:
    """The connections to one server: lent to one caller at a time, kept when they come back.

    A pool of redis-py's makes them; they stay lent from it while they are kept here, which saves what its bookkeeping costs.
    After a fork the child makes its own.
    """

    def __init__(self, pool: ConnectionPool, options: RedisOptions) -> None:
        self._pool = pool
        self._max_idle = options.max_idle
        self._max_active = options.max_active
        self._idle_timeout = options.max_idle_timeout.total_seconds() or float("inf")
        self._wait = options.wait
        limit = pool.connection_kwargs.get("socket_timeout")
        read_timeout = limit if options.read_timeout is None else options.read_timeout.total_seconds()
        self.longest_answer = read_timeout or _FOR_EVER
        """Seconds until an answer has to begin."""
        self.read_within = None if read_timeout == limit else self.longest_answer
        """The same for `read_reply`."""
        self._patience = read_timeout or _PATIENCE
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._idle: deque[tuple[Connection, float]] = deque()
        self._slots = threading.BoundedSemaphore(self._max_active) if self._max_active else None
        self._last_loss = 0.0
        self._process = os.getpid()

    def exchange(self, packed: bytes, replies: int, within: float | None = None) -> list[Any]:
        """Write commands and read as many ``replies``; error replies stand among them. Raises what redis-py raises.

        ``within``: seconds in which each has to begin, where that is less than what is configured.
        """
        within = self.read_within if within is None else min(within, self.longest_answer)
        connection = self.lend()
        try:
            answers = exchange_on(connection, packed, replies, within)
        except BaseException:
            self.drop(connection)
            raise
        self.take_back(connection)
        return answers

    def exchange_in_turn(self, requests: Iterable[bytes]) -> list[Any]:
        """Write commands one after the other, as they are made, and read the reply of each. Raises what redis-py raises.

        Redis is at work on those written while the next are made. Up to `_UNDER_WAY` replies, which are to be small, are left
        unread meanwhile.
        """
        connection = self.lend()
        replies: list[Any] = []
        written = 0
        try:
            for packed in requests:
                write(connection, packed)
                written += 1
                if written - len(replies) > _UNDER_WAY:
                    replies.append(read_reply(connection, self.read_within))
            while len(replies) < written:
                replies.append(read_reply(connection, self.read_within))
        except BaseException:
            self.drop(connection)
            raise
        self.take_back(connection)
        return replies

    def lend(self) -> Connection:
        """A connection, connected, that nobody else uses until it is given to `take_back` or `drop`."""
        if self._process != os.getpid():
            self._start_afresh()  # the parent's sockets are left alone, and closed here when nobody refers to them
        if self._slots is not None and not self._take_slot(self._slots):
            raise redis.ConnectionError("all connections are in use (redis.max_active)")
        try:
            connection, since = self._idle.pop()
        except IndexError:
            try:
                return self.open()
            except BaseException:
                self._free_slot()
                raise
        unused = monotonic() - since
        if unused > _LOOK_AFTER or since < self._last_loss:
            try:
                _refresh(connection, too_old=unused > self._idle_timeout)
            except BaseException:
                self.drop(connection)
                raise
        return connection

    def open(self) -> Connection:
        """A connection of the caller's own, beside those that are lent. Goes to `drop_own` in the end."""
        return self._pool.get_connection()

    def take_back(self, connection: Connection) -> None:
        """The connection is free again; all its answers have been read."""
        if len(self._idle) < self._max_idle:
            self._idle.append((connection, monotonic()))
            self._free_slot()
        else:
            self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """The connection is of no use any more."""
        self.drop_own(connection)
        self._free_slot()

    def drop_own(self, connection: Connection) -> None:
        """The connection from `open` is of no use any more. Where it was lost, others may be: they are looked at."""
        self._last_loss = monotonic()
        connection.disconnect()
        self._pool.release(connection)

    def close(self) -> None:
        """Let go of what is kept here, and keep nothing from now on."""
        self._max_idle = 0
        while self._idle:
            self.drop_own(self._idle.pop()[0])

    def _take_slot(self, slots: threading.BoundedSemaphore) -> bool:
        return slots.acquire(timeout=self._patience) if self._wait else slots.acquire(blocking=False)

    def _free_slot(self) -> None:
        if self._slots is not None:
            self._slots.release()


def _refresh(connection: Connection, *, too_old: bool) -> None:
    """Reconnect what Redis has closed meanwhile, or what was unused for too long."""
    try:
        usable = not too_old and not connection.can_read()
    except DRIVER_ERRORS:
        usable = False
    if not usable:
        connection.disconnect()
    connection.connect()
