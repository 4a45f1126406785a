"""The scenarios of the matrix that read otherwise where the broker is RabbitMQ, whatever keeps the results."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from machinery import Arg
from machinery.wire import decode_signature
from tests.interop.amqp_sides import AmqpSides
from tests.interop.matrix import EachReadsTheOther, Sides, task


class EachReadsTheOtherOnRabbit(EachReadsTheOther):
    """Go has no list of what waits for its time."""

    def test_python_reads_the_delayed_copy_that_go_wrote(self, fresh_sides: Sides) -> None:
        """Python does not list it. Go would put each into a queue named by its milliseconds; here it has one for all."""
        assert isinstance(fresh_sides, AmqpSides)
        delayed_queue = f"interop_delayed_{uuid4()}"
        sent = fresh_sides.python.server.send_task(
            task("retry_later", "later", 3_600_000, retry_count=2, headers=fresh_sides.headers)
        )

        with fresh_sides.go_with("-amqp-delayed-queue", delayed_queue).worker() as worker:
            worker.wait_for("done", sent.uuid)

        (_, _, body) = fresh_sides.raw.basic_get(delayed_queue, auto_ack=True)
        fresh_sides.raw.queue_delete(delayed_queue)
        copy = decode_signature(body)
        assert copy.eta is not None
        assert copy.eta > datetime.now(UTC) + timedelta(minutes=59)
        assert copy.args == (Arg("string", "later"), Arg("int64", 3_600_000))
        assert (copy.uuid, copy.headers, copy.retry_count) == (sent.uuid, fresh_sides.headers, 2)
