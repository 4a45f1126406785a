"""Periodic tasks, and a periodic chord: sent at each tick of a schedule by the worker, once however many workers there are.

Schedules are cron's five fields, ``@hourly`` and the like, or ``@every 1h30m``. Registering fires nothing: workers do, or a
process that calls `start_scheduler`.
"""

import itertools
from queue import Queue

from machinery import Server

server = Server.from_url("memory://")
count = itertools.count(1)
# memory:// runs tasks in this process, so it can see what they do; elsewhere they would write to something that is shared.
ticks: Queue[str] = Queue()
rounds: Queue[str] = Queue()


@server.task
def tick() -> None:
    """Run every second."""
    ticks.put(f"tick {next(count)}")


@server.task
def measure(room: str) -> int:
    """Be a member of the chord, once for each room."""
    return len(room)


@server.task
def report(*measured: int) -> None:
    """Get the results of one round."""
    rounds.put(f"both rooms: {sum(measured)}")


def main() -> None:
    """Register both, and see what the worker makes of it."""
    server.register_periodic_task("@every 1s", "tick", tick.signature())
    # The callback, then the members. A schedule by the clock on the wall would be "30 8 * * mon-fri".
    server.register_periodic_chord(
        "@every 1s", "rooms", report.partial(), measure.signature("hall"), measure.signature("loft")
    )
    print(ticks.get(timeout=5))
    print(ticks.get(timeout=5))
    print(rounds.get(timeout=5))
    server.remove_periodic("tick")


if __name__ == "__main__":
    with server, server.new_worker("periodic", concurrency=2):
        main()
