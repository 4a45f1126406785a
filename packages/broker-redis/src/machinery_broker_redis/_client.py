"""One Redis, whatever it consists of: commands go to the server that has their key, as many in a round trip as there can be."""

from __future__ import annotations

import threading
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from machinery.errors import Closed, MachineryError
from machinery_broker_redis._connections import Connections, Evaluation, pack, pack_one
from machinery_broker_redis._errors import DRIVER_ERRORS, is_redirection, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from redis.cluster import ClusterNode
    from redis.connection import ConnectionPool

    from machinery.errors import Unavailable
    from machinery_broker_redis._connections import Command
    from machinery_broker_redis._options import RedisOptions
    from machinery_broker_redis._scripts import Script

AT_ONCE = 1000
"""How many commands are written before their answers are read, and how many members one command gets."""


class Client:
    """One Redis: a single server, or a master found by Sentinels. Safe from any thread.

    Connects when it is first used. Every error is translated: `Unavailable` of the family that was asked for, `ConfigError` or
    `Unsupported`; `Closed` after `close`.
    """

    is_cluster = False

    def __init__(
        self,
        make: Callable[[], Any],
        options: RedisOptions,
        *,
        address: str,
        unavailable: type[Unavailable],
        owned: bool = True,
        identity: object = None,
    ) -> None:
        self.options = options
        self.address = address
        self.identity = identity
        """Equal for clients of the same database."""
        self._make = make
        self._owned = owned
        self._unavailable = unavailable
        self._redis: Any = None
        self._connections: Connections | None = None
        self._opening = threading.Lock()
        self._closed = False

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, *command: Any) -> Any:
        """The reply to one command, which has its key first. Raises what its error reply means."""
        return self.ask([command])[0]

    def run(self, script: Script, keys: Sequence[str | bytes], *arguments: Any) -> Any:
        """The reply of a script. Raises what its error reply means."""
        return self.ask([Evaluation(script, tuple(keys), arguments)])[0]

    def ask(self, commands: Sequence[Command | Evaluation], within: float | None = None) -> list[Any]:
        """Like `send`, but raises what the first error reply means."""
        return self._require_all(self.send(commands, within))

    def _require_all(self, replies: list[Any]) -> list[Any]:
        for reply in replies:
            if isinstance(reply, Exception):
                raise self.translated(reply)
        return replies

    def send(self, commands: Sequence[Command | Evaluation], within: float | None = None) -> list[Any]:
        """The replies to many commands in one round trip (to each server concerned). Error replies stand among them.

        Each command has its key first. Those for keys of one cluster slot are carried out in the order given. ``within``:
        seconds in which each reply has to begin, where that is less than what is configured.
        """
        self.check_open()
        replies: list[Any] = []
        for start in range(0, len(commands), AT_ONCE):
            replies += self._send_some(commands[start : start + AT_ONCE], within)
        return replies

    def send_in_turn(self, evaluations: Iterable[Evaluation]) -> list[Any]:
        """Like `send`, but Redis is at work on one call of a script while the next is made. Their replies are to be small.

        They are carried out in order, also by a server that has not seen the script.
        """
        self.check_open()
        coming = iter(evaluations)
        first = list(islice(coming, 2))
        if len(first) <= 1:
            return self.send(first)
        known: set[str] = set()

        def packed() -> Iterator[bytes]:
            for evaluation in chain(first, coming):
                is_known = evaluation.script.sha in known
                known.add(evaluation.script.sha)
                yield pack_one(evaluation.by_sha() if is_known else evaluation.by_source())

        try:
            return self.connections().exchange_in_turn(packed())
        except DRIVER_ERRORS as error:
            raise self.translated(error) from None

    def ask_in_turn(self, evaluations: Iterable[Evaluation]) -> list[Any]:
        """Like `send_in_turn`, but raises what the first error reply means."""
        return self._require_all(self.send_in_turn(evaluations))

    def send_packed(self, packed: bytes) -> Any:
        """The reply to one command that was packed already. Not for clusters."""
        try:
            return self.connections().exchange(packed, 1)[0]
        except DRIVER_ERRORS as error:
            raise self.translated(error) from None

    def _send_some(self, commands: Sequence[Command | Evaluation], within: float | None) -> list[Any]:
        return self._send_over(self.connections, commands, within)

    def _send_over(
        self, connections: Callable[[], Connections], commands: Sequence[Command | Evaluation], within: float | None
    ) -> list[Any]:
        try:
            over = connections()
            replies = over.exchange(pack(commands), len(commands), within)
            unseen = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unseen:
                packed = b"".join([pack_one(_by_source(commands[at])) for at in unseen])
                for at, reply in zip(unseen, over.exchange(packed, len(unseen), within), strict=True):
                    replies[at] = reply
        except DRIVER_ERRORS as error:
            raise self.translated(error) from None
        return replies

    def translated(self, error: BaseException) -> MachineryError:
        """What to raise instead of redis-py's ``error``."""
        return translate(error, self._unavailable, self.address)

    # -- connections ---------------------------------------------------------------------------------------------------

    def connections(self) -> Connections:
        """Those to the one server. Raises `Closed`."""
        found = self._connections
        if found is None or self._closed:
            pool = self.driver().connection_pool
            with self._opening:
                self._connections = found = self._connections or Connections(pool, self.options)
        return found

    def connections_for(self, key: str) -> Connections:  # noqa: ARG002 - one server has all keys
        """Those to the server that has ``key``. Raises `Closed`."""
        return self.connections()

    def all_connections(self) -> list[Connections]:
        """Those to every server that has keys."""
        return [self.connections()]

    def driver(self) -> Any:
        """The redis-py client. Raises `Closed`."""
        if self._redis is None or self._closed:
            with self._opening:
                self.check_open()
                if self._redis is None:
                    self._redis = self._make()
        return self._redis

    @property
    def database(self) -> int:
        """The number of the database."""
        return int(self.driver().connection_pool.connection_kwargs.get("db") or 0)

    def check_open(self) -> None:
        """Raise `Closed` after `close`."""
        if self._closed:
            raise Closed(f"the connection to Redis at {self.address} was closed")

    def refresh(self) -> None:
        """A server was lost or answered for a key that it has not: find out anew who has what."""

    def close(self) -> None:
        """Let go of every connection; a client that the application made is left to it."""
        with self._opening:
            self._closed = True
            self._close_connections()
            if self._owned and self._redis is not None:
                self._redis.close()
                self._close_sentinels()

    def _close_connections(self) -> None:
        if self._connections is not None:
            self._connections.close()

    def _close_sentinels(self) -> None:
        manager = getattr(self._redis.connection_pool, "sentinel_manager", None)
        for sentinel in manager.sentinels if manager is not None else ():
            sentinel.close()


class ClusterClient(Client):
    """A Redis cluster: each command goes to the server that has its key."""

    is_cluster = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._by_node: dict[str, tuple[ConnectionPool, Connections]] = {}

    def send_in_turn(self, evaluations: Iterable[Evaluation]) -> list[Any]:
        """As `send`: they may be for several servers."""
        return self.send(list(evaluations))

    def _send_some(self, commands: Sequence[Command | Evaluation], within: float | None) -> list[Any]:
        try:
            nodes = [self._node_of(_key_of(command)) for command in commands]
        except DRIVER_ERRORS as error:
            self.refresh()
            raise self.translated(error) from None
        replies: list[Any] = [None] * len(commands)
        for name, node in {node.name: node for node in nodes}.items():
            ours = [at for at, owner in enumerate(nodes) if owner.name == name]
            answers = self._send_to(node, [commands[at] for at in ours], within)
            for at, answer in zip(ours, answers, strict=True):
                replies[at] = self._again(commands[at]) if _is_redirected(answer) else answer
        return replies

    def _send_to(self, node: ClusterNode, commands: Sequence[Command | Evaluation], within: float | None) -> list[Any]:
        try:
            return self._send_over(lambda: self._connections_to(node), commands, within)
        except Exception:
            self.refresh()
            raise

    def _again(self, command: Command | Evaluation) -> Any:
        """The reply to a command whose key has moved or is moving: redis-py follows it."""
        try:
            return self.driver().execute_command(*_by_source(command))
        except ResponseError as error:
            return error
        except DRIVER_ERRORS as error:
            raise self.translated(error) from None

    def _node_of(self, key: str | bytes) -> ClusterNode:
        node: ClusterNode | None = self.driver().get_node_from_key(key)
        if node is None:
            raise redis.ConnectionError("no server of the cluster has the key's slot")
        return node

    def driver(self) -> Any:
        """The redis-py client, which connects when it is made."""
        try:
            return super().driver()
        except DRIVER_ERRORS as error:
            raise self.translated(error) from None

    def connections(self) -> Connections:
        """Those to any one server."""
        return self._connections_to(self.driver().get_default_node())

    def connections_for(self, key: str) -> Connections:
        """Those to the server that has ``key``."""
        return self._connections_to(self._node_of(key))

    def all_connections(self) -> list[Connections]:
        """Those to every server that has keys."""
        return [self._connections_to(node) for node in self.driver().get_primaries()]

    def _connections_to(self, node: ClusterNode) -> Connections:
        pool = self.driver().get_redis_connection(node).connection_pool
        known = self._by_node.get(node.name)
        if known is None or known[0] is not pool:
            if known is not None:
                known[1].close()
            self._by_node[node.name] = known = (pool, Connections(pool, self.options))
        return known[1]

    @property
    def database(self) -> int:
        """A cluster has one database."""
        return 0

    def refresh(self) -> None:
        """Ask the cluster anew who has what."""
        try:
            self.driver().nodes_manager.initialize()
        except (*DRIVER_ERRORS, MachineryError):
            return  # no server answers: the next call says so

    def _close_connections(self) -> None:
        for _, connections in self._by_node.values():
            connections.close()

    def _close_sentinels(self) -> None:
        """A cluster has none."""


def _by_source(command: Command | Evaluation) -> Command:
    return command.by_source() if isinstance(command, Evaluation) else command


def _key_of(command: Command | Evaluation) -> Any:
    return command.keys[0] if isinstance(command, Evaluation) else command[1]


def _is_redirected(answer: Any) -> bool:
    return isinstance(answer, Exception) and is_redirection(answer)
