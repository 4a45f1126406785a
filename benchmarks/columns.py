"""The columns of the table: their names, units and directions."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.options import Sizes


@dataclass(frozen=True, slots=True)
class Column:
    """One thing that was measured."""

    key: str
    title: str
    unit: str
    more_is_better: bool = False
    digits: int = 0

    def text(self, value: float | None) -> str:
        """The value as it is shown."""
        return "-" if value is None else f"{value:,.{self.digits}f}"

    def times_better(self, value: float, than: float) -> float:
        """How many times as good a value is as another: above 1 it is better, whatever the direction."""
        better, worse = (value, than) if self.more_is_better else (than, value)
        return better / worse if worse else 0.0


def columns_of(sizes: Sizes) -> tuple[Column, ...]:
    """All columns, in the order in which they are shown."""
    return (
        Column("send_per_s", "send one by one", "/s", more_is_better=True),
        Column("send_cpu_us", "CPU of the sender, one by one", "µs"),
        Column("batch_per_s", "send in batches", "/s", more_is_better=True),
        Column("threads_drain_per_s", "drain, 10 threads", "/s", more_is_better=True),
        Column("async_drain_per_s", "drain, 100 coroutines", "/s", more_is_better=True),
        Column("two_drain_per_s", "drain, two processes", "/s", more_is_better=True),
        Column("threads_cpu_us", "CPU of the worker, threads", "µs"),
        Column("async_cpu_us", "CPU of the worker, coroutines", "µs"),
        Column("redis_cpu_us", "CPU of Redis, draining", "µs"),
        Column("rabbitmq_cpu_us", "CPU of RabbitMQ, draining", "µs"),
        Column("p50_ms", "round trip, idle, p50", "ms", digits=2),
        Column("p99_ms", "round trip, idle, p99", "ms", digits=2),
        Column("load_p50_ms", "pickup at half load, p50", "ms", digits=2),
        Column("load_p99_ms", "pickup at half load, p99", "ms", digits=2),
        Column("load_per_s", "the half load", "/s", more_is_better=True),
        Column("small_chord_s", f"chord of {sizes.small_chord:,}", "s", digits=2),
        Column("large_chord_s", f"chord of {sizes.large_chord:,}", "s", digits=2),
        Column("later_s", f"{sizes.delayed:,} due at once, last start", "s", digits=2),
        Column("peak_rss_mib", "memory, at most", "MiB", digits=1),
        Column("idle_rss_mib", "memory, idle", "MiB", digits=1),
        Column("import_ms", "import", "ms"),
        Column("sqlite_send_per_s", "SQLite: send one by one", "/s", more_is_better=True),
        Column("sqlite_drain_per_s", "SQLite: drain", "/s", more_is_better=True),
    )
