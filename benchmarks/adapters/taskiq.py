"""Taskiq on Redis streams, which are acknowledged."""

from __future__ import annotations

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks import work

IS_ASYNC = True

broker = RedisStreamBroker(url=work.URL).with_result_backend(RedisAsyncResultBackend(work.URL, result_ex_time=3600))
add = broker.task(task_name="add")(work.add_async if work.IS_ASYNC else work.add)


async def start() -> None:
    """Connect."""
    await broker.startup()


async def send(number: int) -> None:
    """Send one task."""
    await add.kiq(number, 1)


async def call(number: int) -> int:
    """Send one task and wait for its result."""
    sent = await add.kiq(number, 1)
    result: int = (await sent.wait_result(check_interval=0.001, timeout=work.PATIENCE)).return_value
    return result
