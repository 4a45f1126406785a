"""One connection to the file, used by all threads in turn, and what the connections of one process share.

SQLite lets one connection write at a time and makes the others poll. Within a process that would be waste: here threads take
turns by a lock per file. Other processes are waited for with short, growing, random pauses.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from machinery.errors import Closed, ConfigError, Unavailable
from machinery.sqlite._errors import BUSY, DEFECTS, primary_code, translate
from machinery.sqlite._schema import STATEMENTS, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machinery.sqlite._options import SqliteOptions

OLDEST_SQLITE = (3, 35, 0)
"""The first with ``RETURNING``."""

FIRST_PAUSE, LONGEST_PAUSE = 0.0002, 0.01
"""Seconds between two tries at a file that another process is writing."""


class Signal:
    """Tells the other threads of this process that something has changed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0

    @property
    def count(self) -> int:
        """How often it has been given; read it before looking, so that no change between looking and waiting is missed."""
        return self._count

    def give(self) -> None:
        """Wake all who wait."""
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def wait(self, seen: int, timeout: float) -> bool:
        """Whether it has been given since ``seen``; waits up to ``timeout`` seconds for that."""
        with self._condition:
            return self._condition.wait_for(lambda: self._count != seen, timeout)


class Neighbours:
    """What all connections of this process to one file share."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        """Held by the thread that uses the file."""
        self.published = Signal()
        """Given when there may be more to receive."""
        self.finished = Signal()
        """Given when records became final."""


@cache
def _neighbours(path: str, pid: int) -> Neighbours:  # noqa: ARG001 - a forked child must not inherit locks
    return Neighbours()


class Database:
    """The file. Opens on first use, and again after an error or a fork. Safe from any thread."""

    def __init__(self, options: SqliteOptions, unavailable: type[Unavailable]) -> None:
        self.options = options
        self.path = os.path.realpath(options.path)
        self._unavailable = unavailable
        self._timeout = options.timeout.total_seconds()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, ...] = ()
        """Which process opened which file: the name may stand for another one by now."""
        self._inherited: list[sqlite3.Connection] = []
        """A forked child must neither use nor close its parent's connections."""
        self._closed = False

    @property
    def neighbours(self) -> Neighbours:
        """What this process's connections to the file share."""
        return _neighbours(self.path, os.getpid())

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection to look with. Raises the `Unavailable` error, `Closed`, or `ConfigError` for a file of another kind."""
        turn = self.neighbours.turn
        if not turn.acquire(timeout=self._timeout):
            raise self._unavailable(
                f"the SQLite file {self.options.path} is in use by other threads for over {self._timeout} s"
            )
        try:
            yield self._open()
        except DEFECTS:
            raise
        except sqlite3.Error as error:
            self._give_up(error)
            raise translate(error, self.options.path, self._unavailable) from error
        finally:
            turn.release()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction that is committed at the end of the block, or rolled back when it raises."""
        with self.read() as connection:
            self._patiently(connection, "BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def version(self) -> int:
        """A number that is another one after every change of the file by another connection. Costs no read of the file."""
        with self.read() as connection:
            return int(connection.execute("PRAGMA data_version").fetchone()[0])

    def check_open(self) -> None:
        """Raises `Closed` after `close`."""
        if self._closed:
            raise Closed(f"the connection to the SQLite file {self.options.path} was closed")

    def close(self) -> None:
        """Close the connection; may be called twice. Wakes all who wait."""
        neighbours = self.neighbours
        with neighbours.turn:
            self._closed = True
            self._let_go()
        neighbours.published.give()
        neighbours.finished.give()

    def _open(self) -> sqlite3.Connection:
        self.check_open()
        if self._connection is not None:
            if self._file == self._identity():
                return self._connection
            self._let_go()
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise ConfigError(f"sqlite:// needs SQLite 3.35 or newer; this Python has {sqlite3.sqlite_version}")
        connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._file = connection, self._identity()
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._patiently(connection, "PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self.options.synchronous}")
        self._patiently(connection, "BEGIN IMMEDIATE")
        for statement in STATEMENTS:
            connection.execute(statement)
        found = connection.execute("SELECT max(version) FROM machinery_schema").fetchone()[0]
        if found is None:
            connection.execute("INSERT INTO machinery_schema VALUES (?)", (VERSION,))
        elif found > VERSION:
            raise ConfigError(
                f"the file {self.options.path} was written by a newer release of machinery-core (tables {found}, known here are "
                f"{VERSION}); upgrade this program, or name another file"
            )
        connection.execute("COMMIT")

    def _patiently(self, connection: sqlite3.Connection, statement: str) -> None:
        deadline = time.monotonic() + self._timeout
        pause = FIRST_PAUSE
        while True:
            try:
                connection.execute(statement)
            except sqlite3.OperationalError as error:
                if primary_code(error) not in BUSY or time.monotonic() >= deadline:
                    raise
            else:
                return
            time.sleep(pause * (0.5 + random.random()))  # noqa: S311 - to keep processes out of step
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def _give_up(self, error: sqlite3.Error) -> None:
        # A busy file is a sound one; after anything else the connection is opened anew.
        if primary_code(error) not in BUSY:
            self._let_go()

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._file[0] == os.getpid():
            connection.close()
        elif connection is not None:
            self._inherited.append(connection)

    def _identity(self) -> tuple[int, ...]:
        try:
            found = os.stat(self.path)  # noqa: PTH116 - at every use of the file, and the fastest way
        except OSError:
            return (os.getpid(),)
        return (os.getpid(), found.st_dev, found.st_ino)


def wait_for_change(database: Database, signal: Signal, seen: tuple[int, int], deadline: float) -> None:
    """Wait until a process has changed the file since ``seen`` (`look_out`), at the latest until ``deadline`` (monotonic).

    Threads of this process give a `Signal`. Other processes cannot, so their changes are looked for: one number in shared memory,
    every 2 ms at first and every 20 ms in the end.
    """
    count, version = seen
    pause = 0.002
    while (left := deadline - time.monotonic()) > 0:
        if signal.wait(count, min(pause, left)) or database.version() != version:
            return
        pause = min(pause * 1.5, 0.02)


def look_out(database: Database, signal: Signal) -> tuple[int, int]:
    """What `wait_for_change` compares with. Take it before looking."""
    return signal.count, database.version()
