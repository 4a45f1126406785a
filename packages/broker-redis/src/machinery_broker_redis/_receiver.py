"""The connection on which a consumer waits: a blocking command must not hold up anything else."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import NoScriptError

from machinery.errors import MachineryError
from machinery_broker_redis._connections import exchange_on, pack, pack_one, read_reply, write
from machinery_broker_redis._errors import DRIVER_ERRORS, is_redirection

if TYPE_CHECKING:
    from redis.connection import Connection

    from machinery_broker_redis._client import Client
    from machinery_broker_redis._connections import Command, Connections, Evaluation

_TRIES = 3
"""How often a key is looked for in a cluster that moves it."""
_INTERRUPTIONS = 50
_INTERRUPTION_INTERVAL = 0.02
_LONG = 60.0
"""Seconds to wait, after a blocking command's own time, where answers may take for ever; then the connection is given up."""


class Receiver:
    """A connection of its own to the server of one queue. `ask` has one caller at a time, all else any."""

    def __init__(self, client: Client, queue: str) -> None:
        self._client = client
        self._queue = queue
        self._lock = threading.Lock()
        """Held while it is decided who lets go of the connection: never two, and nobody while it is in use."""
        self._opened: tuple[Connections, Connection, int] | None = None
        """With the number that Redis gave the connection."""
        self._is_cut = False
        """The connection in use was taken apart, and its user is to let go of it."""
        self._idle = threading.Event()
        """Set while nothing waits for an answer."""
        self._idle.set()

    def ask(self, blocking: Command | None, claim: Evaluation, wait: float) -> Any:
        """The answer of ``claim``, after a ``blocking`` command of up to ``wait`` seconds written together with it.

        Redis runs the script as soon as the blocking command is over: waiting and claiming are one round trip. Raises
        `Unavailable` and what else an error reply means.
        """
        for _ in range(_TRIES):
            replies = self._exchange(blocking, claim, wait)
            failed = next((reply for reply in replies if isinstance(reply, Exception)), None)
            if failed is None:
                return replies[-1]
            if not (self._client.is_cluster and is_redirection(failed)):
                raise self._client.translated(failed)
            self.close()
            self._client.refresh()
        raise self._client.translated(redis.ConnectionError(f"the cluster keeps moving the queue {self._queue!r}"))

    def _exchange(self, blocking: Command | None, claim: Evaluation, wait: float) -> list[Any]:
        connections, connection = self._take()
        try:
            replies = self._exchange_on(connections, connection, blocking, claim, wait)
        except BaseException as error:
            was_cut = self._let_go(lost=True)
            if isinstance(error, DRIVER_ERRORS) or (was_cut and isinstance(error, Exception)):
                self._client.refresh()
                lost = redis.ConnectionError("the connection was given up") if was_cut else error
                raise self._client.translated(lost) from None
            raise
        self._let_go(lost=False)
        return replies

    def _exchange_on(
        self,
        connections: Connections,
        connection: Connection,
        blocking: Command | None,
        claim: Evaluation,
        wait: float,
    ) -> list[Any]:
        commands = [claim] if blocking is None else [blocking, claim]
        write(connection, pack(commands))
        within = connections.read_within
        replies = []
        if blocking is not None:
            replies.append(read_reply(connection, wait + min(connections.longest_answer, _LONG)))
        replies.append(read_reply(connection, within))
        if isinstance(replies[-1], NoScriptError):
            replies[-1] = exchange_on(connection, pack_one(claim.by_source()), 1, within)[0]
        return replies

    def _take(self) -> tuple[Connections, Connection]:
        """The connection, for the caller's use until `_let_go`, and whose it is."""
        with self._lock:
            if self._opened is not None:
                self._idle.clear()
                return self._opened[:2]
        opened = self._open()
        with self._lock:
            self._opened = opened
            self._idle.clear()
        return opened[:2]

    def _open(self) -> tuple[Connections, Connection, int]:
        try:
            connections = self._client.connections_for(self._queue)
            connection = connections.open()
        except DRIVER_ERRORS as error:
            self._client.refresh()
            raise self._client.translated(error) from None
        try:
            number = exchange_on(connection, pack([("CLIENT", "ID")]), 1)[0]
        except DRIVER_ERRORS as error:
            connections.drop_own(connection)
            raise self._client.translated(error) from None
        return connections, connection, number if isinstance(number, int) else 0

    def _let_go(self, *, lost: bool) -> bool:
        """The connection is not in use any more, and of no use either where it was ``lost``. Whether it was cut."""
        with self._lock:
            was_cut, self._is_cut = self._is_cut, False
            if lost or was_cut:
                self._drop()
            self._idle.set()
        return was_cut

    def _drop(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].drop_own(opened[1])

    def interrupt(self) -> None:
        """Make a waiting `ask` return soon: at once where the user may unblock connections, else when its wait is over."""
        for _ in range(_INTERRUPTIONS):
            opened = self._opened
            if self._idle.is_set() or opened is None:
                return
            try:
                # The wait may begin just after this arrives, hence more than once.
                opened[0].exchange(pack([("CLIENT", "UNBLOCK", opened[2])]), 1)
            except (*DRIVER_ERRORS, MachineryError):
                return
            if self._idle.wait(_INTERRUPTION_INTERVAL):
                return

    def close(self) -> None:
        """Let go of the connection: an `ask` that waits fails at once, the next one makes another."""
        with self._lock:
            if self._idle.is_set():
                self._drop()
            elif self._opened is not None:
                self._is_cut = True
                self._opened[1].disconnect()
