"""The one RabbitMQ that all peers use in a run on RabbitMQ: a node started for this run alone, on the loopback interface."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from benchmarks.processes import Processes, ProgramFailed, Running, free_port

FOLDERS = ("/usr/lib/rabbitmq/bin",)
"""Where packages put the programs. What Debian has in ``/usr/sbin`` changes user and folder first."""

START_TIMEOUT = 90.0
CONTROL_TIMEOUT = 60.0
ENDING = 10.0
"""Seconds in which a node may end well."""

_FIRST_BYTES = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"
"""How the answer begins: with ``connection.start``."""


class NoRabbitmq(Exception):
    """There is no RabbitMQ to measure on; the text says why."""


class RabbitmqService:
    """A node that is the benchmark's alone. Each measurement gets an empty virtual host."""

    def __init__(self, processes: Processes, folder: Path, epmd: Running, port: int, port_of_names: int) -> None:
        self._processes = processes
        self._folder = folder
        self._epmd = epmd
        self._port = port
        self._environment = _environment(folder, port, port_of_names)
        self._numbers = count()
        self._host = ""
        self._node = processes.start(_command(self._environment, find_program("rabbitmq-server")))

    @property
    def url(self) -> str:
        """Where the queues are now."""
        return f"amqp://guest:guest@127.0.0.1:{self._port}/{self._host}"

    def empty(self) -> None:
        """Leave everything behind: from now on `url` is an empty virtual host, and the last one is deleted with its queues."""
        last, self._host = self._host, f"bench-{next(self._numbers)}"
        permissions = {"user": "guest", "vhost": self._host, "configure": ".*", "read": ".*", "write": ".*"}
        wanted = self._folder / "definitions.json"
        wanted.write_text(json.dumps({"vhosts": [{"name": self._host}], "permissions": [permissions]}), "utf-8")
        self._control("import_definitions", str(wanted))
        if last:
            self._control("delete_vhost", last)

    def cpu_seconds(self) -> float:
        """The CPU time that the node has used so far."""
        told = Path(f"/proc/{self._node.process.pid}/stat").read_text("ascii")
        user, system = told.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def version(self) -> str:
        """The node's version."""
        return self._control("version").split()[-1]

    def wait_until_it_answers(self) -> None:
        """Raises `ProgramFailed`."""
        until = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if self._node.has_ended or time.monotonic() > until:
                raise ProgramFailed(f"the RabbitMQ node did not start: {self._node.last_words()}")
            time.sleep(0.05)

    def close(self) -> None:
        """End the node and what it was found by."""
        self._node.end(ENDING)
        self._epmd.end()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1) as probe:
                probe.settimeout(2)
                probe.sendall(_FIRST_BYTES)
                return probe.recv(1) == _METHOD_FRAME
        except OSError:
            return False

    def _control(self, *words: str) -> str:
        command = _command(self._environment, find_program("rabbitmqctl"), *words)
        return self._processes.output_of(command, timeout=CONTROL_TIMEOUT)


def open_rabbitmq(processes: Processes, folder: Path) -> RabbitmqService:
    """The RabbitMQ of this run; all that it writes is in the folder. Raises `NoRabbitmq` and `ProgramFailed`."""
    for name in ("rabbitmq-server", "rabbitmqctl"):
        find_program(name)
    epmd = shutil.which("epmd")
    if epmd is None:
        raise NoRabbitmq("there is no epmd on PATH, by which a node is found; it comes with Erlang")
    folder.mkdir()
    # A node that finds none starts one, and leaves it behind.
    port_of_names = free_port()
    names = processes.start([epmd, "-port", str(port_of_names), "-address", "127.0.0.1"])
    service = RabbitmqService(processes, folder, names, free_port(), port_of_names)
    service.wait_until_it_answers()
    return service


def find_program(name: str) -> str:
    """The path of ``rabbitmq-server`` or ``rabbitmqctl``. Raises `NoRabbitmq`."""
    for folder in FOLDERS:
        if (Path(folder) / name).is_file():
            return str(Path(folder) / name)
    found = shutil.which(name)
    if found is None or found.startswith("/usr/sbin/"):
        raise NoRabbitmq(f"there is no {name}; install rabbitmq-server")
    return found


def _environment(folder: Path, port: int, port_of_names: int) -> Mapping[str, str]:
    """What the node and its control program are told. Makes the files that are named there."""
    settings = {
        "listeners.tcp.local": f"127.0.0.1:{port}",
        "disk_free_limit.absolute": "50MB",
        "vm_memory_high_watermark.absolute": "1GB",
        "log.console": "true",
        "log.console.level": "warning",
        "log.file": "false",
    }
    (folder / "rabbitmq.conf").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
    (folder / "rabbitmq-env.conf").write_text("")
    (folder / "enabled_plugins").write_text("[].")
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "RUNNING_UNDER_SYSTEMD": "true",  # no shell between it and us: its id is that of the node, and signals reach it
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "ERL_EPMD_PORT": str(port_of_names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
        ),
    }


def _command(environment: Mapping[str, str], program: str, *words: str) -> list[str]:
    """Through env(1): what the surroundings say of another RabbitMQ must not reach this one."""
    return ["env", "-i", *(f"{key}={value}" for key, value in environment.items()), program, *words]
