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
"""Seconds to wait for an answer that may take for ever; then the connection is given up."""


class Receiver:
    """A connection of its own to the server of one queue. `ask` has one caller at a time, `interrupt` any."""

    def __init__(self, client: Client, queue: str) -> None:
        self._client = client
        self._queue = queue
        self._answer_timeout = client.options.read_timeout.total_seconds() or _LONG
        self._opened: tuple[Connections, Connection, int] | None = None
        """With the number that Redis gave the connection."""
        self._idle = threading.Event()
        """Set while nothing waits for an answer."""
        self._idle.set()

    def ask(self, blocking: Command | None, claim: Evaluation, wait: float) -> Any:
        """The answer of ``claim``, after a ``blocking`` command of up to ``wait`` seconds written together with it.

        Redis runs the script as soon as the blocking command is over: waiting and claiming are one round trip. Raises
        `Unavailable` and what else an error reply means.
        """
        for _ in range(_TRIES):
            try:
                replies = self._exchange(blocking, claim, wait)
            except DRIVER_ERRORS as error:
                self.close()
                self._client.refresh()
                raise self._client.translated(error) from error
            except BaseException as error:
                was_cut = self._opened is None
                self.close()
                if was_cut and isinstance(error, Exception):  # `close` took the connection apart while it was in use
                    raise self._client.translated(redis.ConnectionError("the connection was given up")) from error
                raise
            failed = next((reply for reply in replies if isinstance(reply, Exception)), None)
            if failed is None:
                return replies[-1]
            if not (self._client.is_cluster and is_redirection(failed)):
                raise self._client.translated(failed)
            self.close()
            self._client.refresh()
        raise self._client.translated(redis.ConnectionError(f"the cluster keeps moving the queue {self._queue!r}"))

    def _exchange(self, blocking: Command | None, claim: Evaluation, wait: float) -> list[Any]:
        connection = self._connection()
        commands = [claim] if blocking is None else [blocking, claim]
        self._idle.clear()
        try:
            write(connection, pack(commands))
            if blocking is not None and not connection.can_read(wait + self._answer_timeout):
                raise redis.TimeoutError("no answer in time")
            replies = [read_reply(connection) for _ in commands]
        finally:
            self._idle.set()
        if isinstance(replies[-1], NoScriptError):
            replies[-1] = exchange_on(connection, pack_one(claim.by_source()), 1)[0]
        return replies

    def _connection(self) -> Connection:
        if self._opened is None:
            connections = self._client.connections_for(self._queue)
            connection = connections.open()
            number = exchange_on(connection, pack([("CLIENT", "ID")]), 1)[0]
            self._opened = (connections, connection, number if isinstance(number, int) else 0)
        return self._opened[1]

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
        opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].drop_own(opened[1])
