"""Periodic tasks, chains, groups and chords: fired by whoever is there, once for each tick."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from machinery import Server, Signature, TaskContext, chain, chord, group
from machinery.testing._workflow._suite import Got

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = "@every 1s"
TICKS = 2
"""Enough to see that one firing has nothing to do with the next."""
CLOCKS_DIFFER = 0.01
"""Seconds, for the two ways to ask the machine for the time."""


class Periodic:
    """`Server.register_periodic_task` and the like, and `Server.remove_periodic`."""

    def test_a_periodic_task_runs_at_every_tick(self, server: Server) -> None:
        seen = Got()

        @server.task
        def report(context: TaskContext, text: str) -> None:
            seen.put((context.uuid, text))

        server.register_periodic_task(EVERY, "contract", report.signature("daily"))
        with server.new_worker("contract", 4):
            runs = seen.take(TICKS)
        assert {text for _, text in runs} == {"daily"}
        assert len({uuid for uuid, _ in runs}) == len(runs)

    def test_a_periodic_chain_runs_at_every_tick(self, server: Server) -> None:
        seen = Got()

        @server.task
        def add(a: int, b: int) -> int:
            return a + b

        @server.task
        def end(context: TaskContext, number: int) -> None:
            seen.put((context.uuid, number))

        server.register_periodic_chain(EVERY, "contract", chain(add.signature(1, 2), add.partial(10), end.partial()))
        with server.new_worker("contract", 4):
            runs = seen.take(TICKS)
        assert {number for _, number in runs} == {13}
        assert len({uuid for uuid, _ in runs}) == len(runs)

    def test_a_periodic_group_runs_at_every_tick(self, server: Server) -> None:
        seen = Got()

        @server.task
        def part(context: TaskContext, number: int) -> None:
            seen.put((context.uuid, number))

        server.register_periodic_group(EVERY, "contract", 2, group(part.signature(number) for number in range(3)))
        with server.new_worker("contract", 4):
            runs = seen.take(3 * TICKS)
        assert {number for _, number in runs} == {0, 1, 2}
        assert len({uuid for uuid, _ in runs}) == len(runs)

    def test_a_periodic_chord_runs_at_every_tick(self, server: Server) -> None:
        seen = Got()

        @server.task
        def part(number: int) -> int:
            return number

        @server.task
        def total(context: TaskContext, *numbers: int) -> None:
            seen.put((context.uuid, numbers))

        made = chord([part.signature(number) for number in range(3)], total.partial())
        server.register_periodic_chord(EVERY, "contract", made)
        with server.new_worker("contract", 4):
            runs = seen.take(TICKS)
        assert {numbers for _, numbers in runs} == {(0, 1, 2)}
        assert len({uuid for uuid, _ in runs}) == len(runs)

    def test_two_servers_fire_each_tick_once(self, server: Server) -> None:
        # Given two servers on the same services, which note when they send
        sent, ran = Got(), Got()
        with Server(server.config, server.broker, server.backend, server.lock) as other:
            for each in (server, other):
                each.register_task("report", lambda: ran.put(None))
                each.set_pre_task_handler(_noting(sent))

            # When ticks pass
            with server.new_worker("one", 2), other.new_worker("other", 2):
                began = time.time()
                for each in (server, other):
                    each.register_periodic_task(EVERY, "contract", Signature("report"))
                ran.take(2 * TICKS)

        # Then none was fired by both: there were never more firings than ticks
        for ticks, moment in enumerate(sorted(sent.take(2 * TICKS))):
            assert moment >= began + ticks - CLOCKS_DIFFER

    def test_what_is_removed_is_not_fired_any_more(self, server: Server) -> None:
        # Given two periodic tasks, of which one is removed
        sent, removed = Got(), Got()
        server.set_pre_task_handler(lambda signature: sent.put(signature.name))
        server.register_task("removed", lambda: removed.put(None))
        server.register_task("kept", lambda: None)
        server.register_periodic_task(EVERY, "removed", Signature("removed"))
        server.register_periodic_task(EVERY, "kept", Signature("kept"))
        with server.new_worker("contract", 4):
            removed.take(1)
            assert server.remove_periodic("removed")
            before = len(sent.take(0))

            # When more ticks pass, then it is not sent again, but for a firing that had begun
            later = sent.take(before + 1 + TICKS)[before:]
            assert later[1:] == ["kept"] * len(later[1:])
        assert not server.remove_periodic("removed")

    def test_a_scheduler_fires_without_a_worker_until_its_server_is_closed(self, server: Server) -> None:
        # Given a server that only fires, until it is closed
        sent, ran, kept = Got(), Got(), Got()
        with Server(server.config, server.broker, server.backend, server.lock) as other:
            other.set_pre_task_handler(_noting(sent))
            other.register_periodic_task(EVERY, "contract", Signature("report"))
            assert sent.none()
            other.start_scheduler()
            sent.take(1)
        count = len(sent.take(0))

        # When more ticks pass, then what it has sent runs, and it sends no more
        server.register_task("report", lambda: ran.put(None))
        server.register_task("kept", lambda: kept.put(None))
        server.register_periodic_task(EVERY, "kept", Signature("kept"))
        with server.new_worker("contract", 4):
            ran.take(count)
            kept.take(TICKS)
        assert len(sent.take(0)) == count


def _noting(seen: Got) -> Callable[[Signature], None]:
    return lambda _: seen.put(time.time())
