"""A consumer of a queue in a file. A loan is a row marked with a number; every settling names the number."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from machinery.abc import Consumer, Delivery
from machinery.errors import Closed, MachineryError
from machinery.sqlite import _messages as sql
from machinery.sqlite._database import Database, look_out, wait_for_change

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from machinery.sqlite._keeping import LoanWatch


class SqliteConsumer(Consumer):
    """Claims in one transaction each; waits for a change of the file when there is nothing."""

    def __init__(self, database: Database, queue: str, name: str, watch: LoanWatch) -> None:
        self._database = database
        self._queue = queue
        self._name = name
        self._watch = watch
        self._lease = database.options.lease
        self._doubtful = 0
        self._stopped = False
        self.is_closed = False

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to ``limit`` due messages, highest priority first, oldest first."""
        deadline = time.monotonic() + timeout
        signal = self._database.neighbours.published
        while True:
            self._check_open()
            if self._stopped:
                return []
            seen = look_out(self._database, signal)
            with self._database.read() as connection:
                due = sql.next_due(connection, self._queue)
            if due == 0 or self._doubtful:
                if deliveries := self._claim(limit):
                    return deliveries
                continue
            wake = deadline
            if due is not None:
                wake = min(wake, time.monotonic() + (due - sql.now_us()) / 1_000_000)
            if time.monotonic() >= deadline:
                return []
            wait_for_change(self._database, signal, seen, wake)

    def stop(self) -> None:
        """Wakes a waiting `receive`."""
        self._stopped = True
        self._database.neighbours.published.give()

    def close(self) -> None:
        """What is unsettled is ready again, one attempt older. If the file cannot be reached, when the lease is over."""
        if self.is_closed:
            return
        self.is_closed = True
        try:
            with self._database.write() as connection:
                connection.execute(sql.GIVE_BACK_ALL, (self._name,))
        except MachineryError:
            pass
        self._database.neighbours.published.give()

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Delete them."""
        return self._settle(deliveries, sql.ACK)

    def nack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Ready again, where they stood."""
        return self._settle(deliveries, sql.NACK, wake=True)

    def postpone(self, deliveries: Sequence[Delivery], delay: timedelta) -> list[Delivery]:
        """Ready again when ``delay`` is over."""
        due = sql.now_us() + round(delay.total_seconds() * 1_000_000)
        return self._settle(deliveries, sql.POSTPONE, (due,), wake=True)

    def reject(self, deliveries: Sequence[Delivery], reason: str) -> list[Delivery]:
        """To the dead letters."""
        return self._settle(deliveries, sql.BURY, (reason, sql.now_us()), then=sql.ACK)

    def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Show the others that we live."""
        return self._settle(deliveries, sql.EXTEND)

    def maintain(self) -> float | None:
        """Make ready what is due, and what dead consumers held, in all queues of the file."""
        self._check_open()
        with self._database.write() as connection:
            moved = sql.promote(connection) + self._watch.take_back(connection)
        if moved:
            self._database.neighbours.published.give()
        return self._lease.total_seconds() / 4

    def _claim(self, limit: int) -> list[Delivery]:
        # When the commit fails it may have been carried out all the same: the loan's number tells, next time.
        loan = self._doubtful
        with self._database.write() as connection:
            rows = sql.claimed(connection, self._name, loan) if loan else []
            for row, *_ in rows[limit:]:
                connection.execute(sql.NACK, (row, loan))
            if not rows:
                self._doubtful = loan = random.getrandbits(62) + 1
                sql.promote(connection)
                rows = sql.claim(connection, self._queue, self._name, loan, self._lease.total_seconds(), limit)
        self._doubtful = 0
        return [
            Delivery(body, self._queue, delivered > 1, attempt, self._lease, (row, loan))
            for row, body, attempt, delivered in rows[:limit]
        ]

    def _settle(
        self,
        deliveries: Sequence[Delivery],
        statement: str,
        values: tuple[object, ...] = (),
        *,
        then: str = "",
        wake: bool = False,
    ) -> list[Delivery]:
        self._check_open()
        if not deliveries:
            return []
        lost: list[Delivery] = []
        with self._database.write() as connection:
            for delivery in deliveries:
                row, loan = delivery.handle
                if connection.execute(statement, (*values, row, loan)).rowcount == 0:
                    lost.append(delivery)
                elif then:
                    connection.execute(then, (row, loan))
        if wake:
            self._database.neighbours.published.give()
        return lost

    def _check_open(self) -> None:
        if self.is_closed:
            raise Closed("this consumer was closed")
