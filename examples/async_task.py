"""Tasks that are coroutines, sent from an asyncio program: nothing here blocks an event loop.

An ``async def`` task runs on the worker's own loop, beside many others: a hundred that wait take the time of one.
"""

import asyncio

from machinery import Server, chord, group

server = Server.from_url("memory://")


@server.task
async def fetch(page: int) -> int:
    """Wait, as for an answer from somewhere else."""
    await asyncio.sleep(0.1)
    return page * page


@server.task
def total(*sizes: int) -> int:
    """Be an ordinary task: both kinds go into one workflow."""
    return sum(sizes)


async def main() -> None:
    """Send by `asend`, wait by `aget`."""
    one = await fetch.asend(12)
    print(f"one page: {await one.aget(timeout=5)}")

    pages = group(fetch.signature(page) for page in range(100))
    sizes = await (await server.asend_group(pages)).aget(timeout=5)
    print(f"{len(sizes)} pages, the last of them: {sizes[-1]}")

    result = await server.asend_chord(chord(pages, total.signature()))
    print(f"all of them: {await result.aget(timeout=5)}")


if __name__ == "__main__":
    with server, server.new_worker("async", concurrency=100):
        asyncio.run(main())
