"""arq."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from arq.connections import ArqRedis, RedisSettings

from benchmarks import work

IS_ASYNC = True

pool = ArqRedis.from_url(work.URL)


async def add(_context: dict[object, object], number: int, one: int) -> int:
    """The task, behind arq's own first argument."""
    return await work.add_async(number, one)


class WorkerSettings:
    """What arq's command line reads."""

    functions = (add,)
    redis_settings = RedisSettings.from_dsn(work.URL)
    max_jobs = 100
    poll_delay = 0.01  # its default of 0.5 s would be all that is seen of its latency


async def send(number: int) -> None:
    """Send one task."""
    await pool.enqueue_job("add", number, 1)


async def call(number: int) -> int:
    """Send one task and wait for its result."""
    job = await pool.enqueue_job("add", number, 1)
    result: int = await job.result(timeout=work.PATIENCE, poll_delay=0.001)
    return result


async def send_later(numbers: Sequence[int], at: datetime) -> None:
    """Send them all, to be started at that time."""
    for number in numbers:
        await pool.enqueue_job("add", number, 1, _defer_until=at)
