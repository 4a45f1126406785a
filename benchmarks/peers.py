"""Who is measured: this project and its peers, what each of them needs, and how its worker is started.

Each is set up as its documentation has it for speed: ten threads or a hundred coroutines, results stored, logging low.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["threads", "async"]
"""How tasks are run: ``def`` tasks in ten threads (Go: goroutines), or ``async def`` tasks, a hundred at once."""

Broker = Literal["redis", "rabbitmq"]
"""Where the queues are. Results are in Redis in any case."""

HIREDIS = "hiredis==3.5.0"
PIKA = "pika==1.4.4"
REDIS = "redis==8.1.0"

GO_MACHINERY = "github.com/RichardKnop/machinery/v2"
GO_REDIGO = "github.com/gomodule/redigo"
GO_REDIS = "github.com/redis/go-redis/v9"
GO_AMQP = "github.com/rabbitmq/amqp091-go"


@dataclass(frozen=True, slots=True)
class Peer:
    """One of those who are measured."""

    name: str
    """Its adapter: ``benchmarks/adapters/<name>.py``, or the client that the Go program uses."""
    workers: Mapping[Kind, tuple[str, ...]]
    """How its worker is started, for each kind of task that it has; the first is the one that most is measured with.
    ``{url}`` is where the queue is, ``{number}`` tells several of its workers apart."""
    requirements: tuple[str, ...] = ()
    """What its environment holds, pinned; none: the environment that the benchmark runs in, or no Python at all."""
    library: str = ""
    """The statement that imports it."""
    share: float = 1.0
    """The part of ``--tasks`` that it gets: a slow one would only take longer, what a task costs does not depend on it."""
    can: frozenset[str] = field(default_factory=frozenset)
    """What it has beyond sending, running and waiting for results: ``batch``, ``chord``, ``later``, ``sqlite``. Go has ``later``,
    too, but its worker moves one delayed task at each look, every 500 ms: 10,000 of them would take it more than an hour."""
    told: tuple[str, ...] = ()
    """The distributions (Go: modules) whose versions say what was measured; empty: those of ``requirements``."""
    adapter: str = ""
    """Its adapter, where that does not bear its name."""
    is_go: bool = False
    is_yardstick: bool = False
    """No task queue: it is filled and drained, to see how fast the machine is, and it is nobody's competitor."""

    @property
    def is_python_peer(self) -> bool:
        """Whether it is a task queue for Python, this project included."""
        return not (self.is_go or self.is_yardstick)

    @property
    def kind(self) -> Kind:
        """The kind of task that most is measured with."""
        return next(iter(self.workers))

    @property
    def distributions(self) -> tuple[str, ...]:
        """The distributions whose versions say what was measured."""
        return self.told or tuple(requirement.partition("==")[0].partition("[")[0] for requirement in self.requirements)


OURS = "machinery"
BARE = "bare"

PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            name=OURS,
            workers={
                "threads": ("machinery", "worker", "benchmarks.adapters.machinery:server", "-c", "10", "-l", "WARNING"),
                "async": ("machinery", "worker", "benchmarks.adapters.machinery:server", "-c", "100", "-l", "WARNING"),
            },
            library="import machinery",
            can=frozenset({"batch", "chord", "later", "sqlite"}),
            told=("machinery-core", "machinery-broker-redis", "redis", "hiredis"),
        ),
        Peer(
            name="celery",
            workers={
                "threads": (
                    *(
                        "celery",
                        "-A",
                        "benchmarks.adapters.celery",
                        "worker",
                        "-P",
                        "threads",
                        "-c",
                        "10",
                        "-l",
                        "ERROR",
                    ),
                    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
                ),
            },
            requirements=("celery[redis]==5.7.0", HIREDIS, REDIS),
            library="from celery import Celery",
            share=0.25,
            can=frozenset({"chord", "later"}),
        ),
        Peer(
            name="dramatiq",
            workers={"threads": ("dramatiq", "benchmarks.adapters.dramatiq", "-p", "1", "-t", "10")},
            requirements=("dramatiq[redis]==2.2.1", PIKA, HIREDIS, REDIS),
            library="import dramatiq",
            share=0.5,
            can=frozenset({"later"}),
            told=("dramatiq", "hiredis", "redis"),
        ),
        Peer(
            name="huey",
            workers={"threads": ("huey_consumer", "benchmarks.adapters.huey.huey", "-w", "10", "-k", "thread", "-q")},
            requirements=("huey==3.5.4", HIREDIS, REDIS),
            library="from huey import RedisHuey",
            share=0.5,
            can=frozenset({"chord", "later", "sqlite"}),
        ),
        Peer(
            name="taskiq",
            workers={
                "async": (
                    *("taskiq", "worker", "benchmarks.adapters.taskiq:broker", "-w", "1"),
                    *("--max-async-tasks", "100", "--log-level", "ERROR"),
                ),
                "threads": (
                    *("taskiq", "worker", "benchmarks.adapters.taskiq:broker", "-w", "1"),
                    *("--max-threadpool-threads", "10", "--log-level", "ERROR"),
                ),
            },
            requirements=("taskiq==0.13.0", "taskiq-redis==1.2.4", "uvloop==0.23.0", HIREDIS, REDIS),
            library="import taskiq",
            share=0.5,
        ),
        Peer(
            name="arq",
            workers={"async": ("arq", "benchmarks.adapters.arq.WorkerSettings")},
            requirements=("arq==0.28.0", HIREDIS),
            library="import arq",
            share=0.5,
            can=frozenset({"later"}),
        ),
        Peer(
            name="rq",
            workers={
                "threads": (
                    *("rq", "worker", "-w", "rq.worker.SimpleWorker", "-u", "{url}", "--quiet"),
                    *("--with-scheduler", "default"),
                ),
            },
            requirements=("rq==3.0.0", HIREDIS, REDIS),
            library="import rq",
            share=0.1,
            can=frozenset({"batch", "later"}),
        ),
        Peer(
            name=BARE,
            workers={"threads": ("python", "-m", "benchmarks.adapters.bare")},
            told=("redis", "hiredis"),
            is_yardstick=True,
        ),
        Peer(
            name="go-redigo",
            workers={"threads": ("{program}",)},
            can=frozenset({"chord"}),
            told=(GO_MACHINERY, GO_REDIGO),
            is_go=True,
        ),
        Peer(
            name="go-redis",
            workers={"threads": ("{program}",)},
            can=frozenset({"chord"}),
            told=(GO_MACHINERY, GO_REDIS),
            is_go=True,
        ),
    )
}
"""All of them by name, this project first."""

RABBITMQ_PEERS = {
    peer.name: peer
    for peer in (
        replace(
            PEERS[OURS],
            library="",
            can=frozenset({"batch", "chord", "later"}),
            told=("machinery-core", "machinery-broker-amqp", "pika", "machinery-broker-redis", "redis", "hiredis"),
        ),
        replace(
            PEERS["celery"],
            workers={"threads": (*PEERS["celery"].workers["threads"], "-n", "bench{number}@%h")},
            library="",
            told=("celery", "kombu", "amqp", "redis", "hiredis"),
        ),
        replace(PEERS["dramatiq"], library="", told=("dramatiq", "pika", "redis", "hiredis")),
        replace(
            PEERS[BARE],
            adapter="bare_rabbitmq",
            workers={"threads": ("python", "-m", "benchmarks.adapters.bare_rabbitmq")},
            told=("pika", "redis", "hiredis"),
        ),
        replace(PEERS["go-redigo"], name="go-amqp", told=(GO_MACHINERY, GO_AMQP, GO_REDIGO)),
    )
}
"""Those that have queues in RabbitMQ and results in Redis. What has nothing to do with RabbitMQ is not measured again."""

PEERS_ON: Mapping[Broker, Mapping[str, Peer]] = {"redis": PEERS, "rabbitmq": RABBITMQ_PEERS}
"""Who is measured on which broker."""
