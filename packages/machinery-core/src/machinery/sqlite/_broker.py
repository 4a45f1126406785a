"""The broker of ``sqlite://``: queues in a file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from machinery.abc import Broker, BrokerCapabilities, DeadLetter, Finding, Message
from machinery.errors import BrokerUnavailable, MessageTooLarge
from machinery.sqlite import _messages as sql
from machinery.sqlite._backend import SqliteBackend
from machinery.sqlite._consumer import SqliteConsumer
from machinery.sqlite._database import Database
from machinery.sqlite._keeping import LoanWatch
from machinery.sqlite._options import SqliteOptions

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from machinery._config import Config
    from machinery.abc import Backend, SubmitAndPublish, TaskState

LARGEST_MESSAGE = 256 * 1024 * 1024
"""SQLite itself ends at 1 GB; long before that a file is the wrong place."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SqliteBroker(Broker):
    """Queues in a file, for all processes of one machine. A worker that dies loses its loans when its lease is over."""

    def __init__(self, options: SqliteOptions) -> None:
        self._database = Database(options, BrokerUnavailable)
        self._watch = LoanWatch()
        self._consumers: list[SqliteConsumer] = []
        self._capabilities = BrokerCapabilities(
            priorities=True, counts_deliveries=True, leases=options.lease, max_message_size=LARGEST_MESSAGE
        )

    @classmethod
    def from_url(cls, url: str, config: Config) -> Any:
        """A broker on the file that ``url`` names (`SqliteOptions`)."""
        return cls(SqliteOptions.from_url(url, config))

    @property
    def capabilities(self) -> BrokerCapabilities:
        """Any delay, priorities, leases, deliveries counted."""
        return self._capabilities

    def publish(self, messages: Sequence[Message]) -> None:
        """All in one transaction."""
        self._publish((), messages)

    def combined_with(self, backend: Backend) -> SubmitAndPublish | None:
        """One transaction for records and messages, where both are in the same file."""
        if not isinstance(backend, SqliteBackend) or backend.path != self._database.path:
            return None

        def submit_and_publish(states: Sequence[TaskState], messages: Sequence[Message]) -> None:
            self._publish(states, messages, backend)

        return submit_and_publish

    def consumer(self, queue: str, name: str) -> SqliteConsumer:
        """A new consumer of ``queue``."""
        self._database.check_open()
        made = SqliteConsumer(self._database, queue, name, self._watch)
        self._consumers = [consumer for consumer in self._consumers if not consumer.is_closed]
        self._consumers.append(made)
        return made

    def pending(self, queue: str, limit: int) -> list[Message]:
        """What waits, in the order of delivery."""
        with self._database.write() as connection:
            sql.promote(connection)
            rows = connection.execute(
                "SELECT body, priority FROM machinery_messages WHERE status = 0 AND queue = ? "
                "ORDER BY priority DESC, position, id LIMIT ?",
                (queue, limit),
            ).fetchall()
        return [Message(body, queue, None, priority) for body, priority in rows]

    def delayed(self, limit: int) -> list[Message]:
        """What waits for its time, earliest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT body, queue, position, priority FROM machinery_messages WHERE status = 1 AND position > ? "
                "ORDER BY position, id LIMIT ?",
                (sql.now_us(), limit),
            ).fetchall()
        return [Message(body, queue, _to_datetime(due), priority) for body, queue, due, priority in rows]

    def purge(self, queue: str) -> int:
        """Delete what waits, and what was handed back for later: what is delayed though it was delivered before."""
        with self._database.write() as connection:
            while sql.promote(connection):
                pass
            waiting = connection.execute("DELETE FROM machinery_messages WHERE status = 0 AND queue = ?", (queue,))
            postponed = connection.execute(
                "DELETE FROM machinery_messages WHERE status = 1 AND delivered > 0 AND queue = ?", (queue,)
            )
            return waiting.rowcount + postponed.rowcount

    def dead(self, queue: str, limit: int) -> list[DeadLetter]:
        """The dead letters, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT id, body, reason, died_at FROM machinery_dead_letters WHERE queue = ? ORDER BY id LIMIT ?",
                (queue, limit),
            ).fetchall()
        return [DeadLetter(str(name), body, queue, reason, _to_datetime(died)) for name, body, reason, died in rows]

    def requeue_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Dead letters back to their queue, in one transaction."""
        with self._database.write() as connection:
            revived = [Message(body, queue, None, priority) for body, priority in _exhume(connection, queue, ids)]
            sql.insert(connection, revived)
        self._database.neighbours.published.give()
        return len(revived)

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:
        """Delete dead letters."""
        with self._database.write() as connection:
            return len(list(_exhume(connection, queue, ids)))

    def examine(self) -> list[Finding]:
        """How safe the file is."""
        with self._database.read() as connection:
            journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
        path = self._database.options.path
        if journal != "wal":
            return [
                Finding(
                    "warning",
                    f"{path}: SQLite cannot use a write-ahead log here (journal_mode is {journal}); is the file on a network "
                    "drive? Put it on a local disk: locks of network drives are not to be trusted",
                )
            ]
        if self._database.options.synchronous == "normal":
            return [
                Finding(
                    "ok",
                    f"{path}: safe when processes die; a power cut may take back the last commits (add ?synchronous=full to be "
                    "safe there too, at one disk flush for each batch)",
                )
            ]
        return [Finding("ok", f"{path}: safe when processes die and when the power fails")]

    def close(self) -> None:
        """Close the consumers too: what they held is ready again."""
        for consumer in self._consumers:
            consumer.close()
        self._consumers = []
        self._database.close()

    def _publish(
        self, states: Sequence[TaskState], messages: Sequence[Message], backend: SqliteBackend | None = None
    ) -> None:
        too_large = {at: message for at, message in enumerate(messages) if len(message.body) > LARGEST_MESSAGE}
        accepted = [message for at, message in enumerate(messages) if at not in too_large]
        with self._database.write() as connection:
            if backend is not None:
                backend.submit_in(connection, states)
            sql.insert(connection, accepted)
        if accepted:
            self._database.neighbours.published.give()
        if too_large:
            text = f"{len(too_large)} messages are larger than {LARGEST_MESSAGE} bytes, the most that sqlite:// takes"
            raise MessageTooLarge(text, dict.fromkeys(too_large, MessageTooLarge(text)))


def _exhume(connection: sqlite3.Connection, queue: str, ids: Sequence[str] | None) -> Iterator[tuple[bytes, int]]:
    if ids is None:
        ids = [
            name for (name,) in connection.execute("SELECT id FROM machinery_dead_letters WHERE queue = ?", (queue,))
        ]
    for name in ids:
        yield from connection.execute(
            "DELETE FROM machinery_dead_letters WHERE queue = ? AND id = ? RETURNING body, priority", (queue, name)
        ).fetchall()


def _to_datetime(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
