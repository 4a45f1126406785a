"""RabbitMQ: a node of a test's own, and the three places the shared one may come from."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.services import processes
from tests.services.chain import Source, Unobtainable, from_environment
from tests.services.containers import container_of
from tests.services.processes import ServerProcess, free_port

IMAGE = "rabbitmq:3"
FOLDERS = ("/usr/lib/rabbitmq/bin",)
"""Where packages put the programs. What Debian has in ``/usr/sbin`` changes user and folder first."""
PATIENCE = 90.0
"""Seconds that a node may take to start on a busy machine."""
_FIRST_BYTES = b"AMQP\x00\x00\x09\x01"


def program(name: str) -> str:
    """The path of ``rabbitmq-server`` or ``rabbitmqctl``. Raises `Unobtainable`."""
    for folder in FOLDERS:
        if (Path(folder) / name).is_file():
            return str(Path(folder) / name)
    if (found := shutil.which(name)) is not None and not found.startswith("/usr/sbin/"):
        return found
    raise Unobtainable(f"there is no {name}")


def comes_up(url: str) -> bool:
    """Whether a server answers at ``url`` within the time that one takes to start."""
    where = urlsplit(url)
    return processes.comes_up(lambda: answers(where.port or 5672, where.hostname or "localhost"), PATIENCE)


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether an AMQP 0-9-1 server answers there now."""
    try:
        with socket.create_connection((host, port), 1) as probe:
            probe.settimeout(2)
            probe.sendall(_FIRST_BYTES)
            return probe.recv(1) == b"\x01"  # a method frame: connection.start
    except OSError:
        return False


class RabbitServer(ServerProcess):
    """A node of a test's own, to be stopped, killed and restarted. Its ports, its folder and what is durable stay the same.

    ``settings`` are lines of ``rabbitmq.conf``; ``advanced`` are Erlang terms for the application ``rabbit``, for what has no
    such line.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None, advanced: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self.folder = folder
        conf = {
            "listeners.tcp.local": f"127.0.0.1:{self.port}",
            "disk_free_limit.absolute": "50MB",
            "vm_memory_high_watermark.absolute": "1GB",
            "log.console": "true",
            "log.console.level": "warning",
            "log.file": "false",
            **(settings or {}),
        }
        (folder / "rabbitmq.conf").write_text("".join(f"{key} = {value}\n" for key, value in conf.items()))
        (folder / "advanced.config").write_text(f"[{{rabbit, [{advanced}]}}].")
        (folder / "rabbitmq-env.conf").write_text("")
        (folder / "enabled_plugins").write_text("[].")
        self._environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"n{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }
        # Through env(1), since a node is told everything by its environment.
        command = ["env", "-i", *[f"{key}={value}" for key, value in self._environment.items()]]
        super().__init__([*command, program("rabbitmq-server")], folder, lambda: answers(self.port), PATIENCE)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._end_port_mapper()

    def control(self, *arguments: str) -> str:
        """What ``rabbitmqctl`` says."""
        return subprocess.run(
            [program("rabbitmqctl"), *arguments],
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        ).stdout

    def close_all_connections(self) -> None:
        """Cut every client off, as an operator can."""
        self.control("close_all_connections", "a test wants it")

    def _end_port_mapper(self) -> None:
        """End the node's own epmd, which the node starts and leaves behind."""
        ours = f"ERL_EPMD_PORT={self._environment['ERL_EPMD_PORT']}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if b"epmd" in (process / "cmdline").read_bytes() and ours in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGTERM)


@contextmanager
def from_container() -> Iterator[str]:
    """A RabbitMQ in a container of its own."""
    with container_of(IMAGE, 5672, answers) as place:
        yield f"amqp://guest:guest@{place}/"


@contextmanager
def from_program() -> Iterator[str]:
    """A local node on a free port."""
    program("rabbitmq-server")
    with tempfile.TemporaryDirectory(prefix="machinery-rabbitmq-") as folder, RabbitServer(Path(folder)) as server:
        yield server.url


SOURCES: dict[str, Source] = {
    "environment": lambda: from_environment("AMQP_URL", "amqp"),
    "testcontainers": from_container,
    "program": from_program,
}
