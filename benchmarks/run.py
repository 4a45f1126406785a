"""Measure this project beside its peers: ``make bench``, or ``make bench ARGS='--quick --only drain'``.

Prints tables and writes them, with JSON and plots, to ``.workshop/bench/report`` (``--broker rabbitmq``: to ``report-rabbitmq``).
Ends with status 1 when a task was lost or a measurement could not be carried out. How it is measured:
``docs/explanation/performance.md``.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from benchmarks.environments import Environment, NoEnvironment, make_environment
from benchmarks.growth import CURVES
from benchmarks.machine import describe_machine, load
from benchmarks.measures import MEASURES
from benchmarks.options import Options, parse
from benchmarks.processes import Processes, ProgramFailed
from benchmarks.rabbitmq_service import NoRabbitmq, open_rabbitmq
from benchmarks.redis_service import NoRedis, open_redis
from benchmarks.report import Report, write
from benchmarks.rounds import run_rounds
from benchmarks.stand import Stand


def main(arguments: Sequence[str]) -> int:
    """Carry out the command line. Whatever happens, nothing that was started is left running."""
    options = parse(arguments, list(MEASURES), list(CURVES))
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _leave)
    try:
        with (
            TemporaryDirectory(prefix="machinery-bench-") as folder,
            Processes(Path(folder)) as processes,
            ExitStack() as services,
        ):
            stand = Stand(processes, services.enter_context(closing(open_redis(processes))), Path(folder))
            if options.broker == "rabbitmq":
                rabbitmq = open_rabbitmq(processes, Path(folder) / "rabbitmq")
                stand.rabbitmq = services.enter_context(closing(rabbitmq))
            report = _measured(options, stand)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    except (NoRedis, NoRabbitmq, ProgramFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    write(report, options.output)
    print(report.to_markdown())
    _draw(report, options.output)
    return 1 if report.failures else 0


def _measured(options: Options, stand: Stand) -> Report:
    environments: list[Environment] = []
    missing: dict[str, str] = {}
    for peer in options.peers:
        try:
            environments.append(make_environment(peer, stand.processes))
        except NoEnvironment as reason:
            missing[peer.name] = str(reason)
    services = {"redis": stand.redis.version()}
    if stand.rabbitmq is not None:
        services["rabbitmq"] = stand.rabbitmq.version()
    machine = describe_machine() | services | {"busy with before": load()}
    runs = run_rounds(options, stand, environments)
    versions = {environment.peer.name: environment.versions for environment in environments}
    return Report(machine, versions, missing, options, runs)


def _draw(report: Report, folder: Path) -> None:
    try:
        from benchmarks.plot import draw  # noqa: PLC0415 - the environment `bench` has what it needs, others need not
    except ImportError as reason:
        print(f"bench: no plots: {reason}", file=sys.stderr)
        return
    for path in draw(report, folder):
        print(path)


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
