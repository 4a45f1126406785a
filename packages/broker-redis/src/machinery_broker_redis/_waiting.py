"""Waiting for final records: subscribed to what `save` publishes, and looking now and then for what Go wrote."""

from __future__ import annotations

import os
from collections import deque
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import redis

from machinery.errors import DecodeError, Unavailable
from machinery.wire import decode_state
from machinery_broker_redis._connections import pack, write
from machinery_broker_redis._errors import DRIVER_ERRORS, LOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.connection import Connection

    from machinery.abc import TaskState
    from machinery_broker_redis._client import Client
    from machinery_broker_redis._connections import Command, Connections
    from machinery_broker_redis._records import Records

AT_A_TIME = 256
"""How many records are waited for at once; all have to come, so the others are looked at later."""

SHORTEST_PAUSE = 0.05
"""Seconds until the first look for a record that nobody announces; each further pause is twice as long."""

ALLOWANCE = 1.0
"""Seconds that an answer may come later than the caller's time is over; a Redis that is silent for longer is unavailable."""

_KEPT = 10

_PUSHES = 3
"""The version of Redis's protocol that tells what is published from what was asked for."""
_ANNOUNCEMENTS = frozenset((b"subscribe", b"unsubscribe", b"message"))
_PONG = b"PONG"


class Waiting:
    """Waits for records of one database. Safe from any thread: each waits on a connection of its own."""

    def __init__(self, client: Client, records: Records) -> None:
        self._client = client
        self._records = records
        self._listeners: deque[_Listener] = deque()
        self._process = os.getpid()

    def wait(self, ids: Sequence[str], timeout: float, interval: float) -> list[TaskState | None]:
        """The records of ``ids`` when all are final, or when the time is over."""
        deadline = monotonic() + timeout
        states: dict[str, TaskState | None] = dict.fromkeys(ids)
        unfinished = list(states)
        if timeout <= 0 or len(ids) > AT_A_TIME:  # else the look that comes with the subscription is the first
            unfinished = self._look(unfinished, states, deadline)
        if unfinished and timeout > 0:
            listener = self._lend()
            try:
                while True:
                    self._wait_for(unfinished[:AT_A_TIME], states, listener, deadline, interval)
                    unfinished = self._look(unfinished, states, deadline)
                    if not unfinished or monotonic() >= deadline:
                        break
            except BaseException:
                listener.close()
                raise
            self._take_back(listener)
        return [states[uuid] for uuid in ids]

    def _wait_for(
        self,
        ids: list[str],
        states: dict[str, TaskState | None],
        listener: _Listener,
        deadline: float,
        interval: float,
    ) -> None:
        """Until ``ids`` are final or the time is over; what is known of them goes into ``states``."""
        channels = {self._records.channel_of(uuid).encode(): uuid for uuid in ids}
        try:
            found = listener.subscribe(channels, () if self._client.is_cluster else ids, _left_until(deadline))
            if found is not None:
                states.update(zip(ids, self._records.decoded(found), strict=True))
                unfinished = {uuid for uuid in ids if not _is_final(states[uuid])}
            else:
                unfinished = set(self._look(ids, states, deadline))
            pause = min(SHORTEST_PAUSE, interval)
            while unfinished and (left := deadline - monotonic()) > 0:
                channel, record = listener.next(min(left, pause))
                if channel is None:
                    unfinished = set(self._look(list(unfinished), states, deadline))
                    pause = min(pause * 2, interval)
                elif (uuid := channels.get(channel)) in unfinished and uuid is not None:
                    states[uuid] = _decode(record) or states[uuid]
                    unfinished.discard(uuid)
        except DRIVER_ERRORS as error:
            raise self._client.translated(error) from None

    def _look(self, ids: list[str], states: dict[str, TaskState | None], deadline: float) -> list[str]:
        """Those of ``ids`` that are not final, after another look."""
        unknown = [uuid for uuid in ids if not _is_final(states[uuid])]
        if unknown:
            states.update(zip(unknown, self._records.load(unknown, _left_until(deadline)), strict=True))
        return [uuid for uuid in unknown if not _is_final(states[uuid])]

    def _lend(self) -> _Listener:
        if self._process != os.getpid():  # the sockets are the parent's
            self._listeners = deque()
            self._process = os.getpid()
        try:
            return self._listeners.pop()
        except IndexError:
            return _Listener(self._client)

    def _take_back(self, listener: _Listener) -> None:
        if len(self._listeners) < _KEPT:
            self._listeners.append(listener)
        else:
            listener.close()

    def close(self) -> None:
        """Let go of the connections."""
        while self._listeners:
            self._listeners.pop().close()


class _Listener:
    """A connection that is subscribed to channels. It keeps its subscriptions until it gets others, which saves a round trip."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._opened: tuple[Connections, Connection] | None = None
        self._is_deaf = False
        """The user may not subscribe: there is only looking."""
        self._is_plain = False
        """Nothing may be asked for in the transaction of a subscription: looking takes a round trip of its own."""

    def subscribe(self, channels: Iterable[bytes], keys: Sequence[str], within: float) -> Sequence[bytes | None] | None:
        """From now on to ``channels`` only; when this returns, what is published on them is heard. ``within``: seconds.

        Returns what is stored under ``keys`` after that; ``None`` where it must be asked for elsewhere.
        """
        if self._is_deaf:
            return None
        was_kept = self._opened is not None
        try:
            return self._subscribe(channels, keys, within)
        except LOST as error:
            # Redis may have closed it while it was kept, or because of large records: it keeps little for who is subscribed.
            was_closed = was_kept or (bool(keys) and self._opened is not None)
            if not was_closed or isinstance(error, redis.TimeoutError):
                raise
            self.close()
            return self._subscribe(channels, (), within)

    def _subscribe(
        self, channels: Iterable[bytes], keys: Sequence[str], within: float
    ) -> Sequence[bytes | None] | None:
        connections, connection = self._connection()
        within = min(within, connections.longest_answer)
        if self._is_plain:
            keys = ()
        commands: list[Command] = [("SUBSCRIBE", channel) for channel in channels]
        commands.append(("MGET", *keys) if keys else ("PING",))
        if keys and int(connection.get_protocol()) != _PUSHES:
            # Who is subscribed may ask for nothing, unless it was asked for in the same transaction.
            commands = [("MULTI",), *commands, ("EXEC",)]
        write(connection, pack([("UNSUBSCRIBE",), *commands]))
        while True:
            if not connection.can_read(within):
                raise redis.TimeoutError(f"no answer within {within:.3g} s")
            reply = _read(connection)
            if isinstance(reply, Exception):
                return self._refused(reply, channels, keys, within)
            if not keys and (reply == _PONG or (isinstance(reply, list) and reply[:1] == [b"pong"])):
                return None
            if not isinstance(reply, list) or not reply:
                continue  # an answer that says nothing, or an announcement that the driver has taken
            if isinstance(reply[0], list):  # that of EXEC: a reply for each command in it
                return None if isinstance(reply[-1], Exception) else reply[-1]
            if len(reply) == len(keys) and reply[0] not in _ANNOUNCEMENTS:
                return reply

    def _refused(
        self, reason: Exception, channels: Iterable[bytes], keys: Sequence[str], within: float
    ) -> Sequence[bytes | None] | None:
        self.close()
        if isinstance(self._client.translated(reason), Unavailable):
            raise reason
        if keys:
            self._is_plain = True
            return self._subscribe(channels, (), within)
        self._is_deaf = True
        return None

    def next(self, timeout: float) -> tuple[bytes | None, bytes]:
        """Channel and contents of the next message within ``timeout`` seconds; ``None`` when there was none."""
        if self._is_deaf:
            sleep(timeout)
            return None, b""
        _, connection = self._connection()
        end = monotonic() + timeout
        while connection.can_read(max(0.0, end - monotonic())):
            reply = _read(connection)
            if isinstance(reply, Exception):
                raise reply
            if isinstance(reply, list) and reply[0] == b"message":
                return reply[1], reply[2]
        return None, b""

    def _connection(self) -> tuple[Connections, Connection]:
        if self._opened is None:
            connections = self._client.connections()
            self._opened = (connections, connections.open())
        return self._opened

    def close(self) -> None:
        """Let go of the connection."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].drop_own(opened[1])


def _left_until(deadline: float) -> float:
    """Seconds in which an answer has to come."""
    return max(0.0, deadline - monotonic()) + ALLOWANCE


def _read(connection: Connection) -> Any:
    try:
        return connection.read_response(disable_decoding=True, push_request=True)
    except redis.ResponseError as error:
        return error


def _is_final(state: TaskState | None) -> bool:
    return state is not None and state.is_completed


def _decode(record: bytes) -> TaskState | None:
    try:
        return decode_state(record)
    except DecodeError:
        return None
