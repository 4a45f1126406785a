"""Redis as it is run in earnest: a cluster, a master with Sentinels, TLS."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.services.chain import Unobtainable
from tests.services.processes import ServerProcess, free_port
from tests.services.redis import RedisServer, answers, server_program

SLOTS = 16384
BUS = 10_000
"""From a node's port to that on which the nodes talk to each other."""
LAST_PORT = 65_535


def eventually(holds: Callable[[], object], timeout: float = 20) -> None:
    """Return when ``holds`` does. An error of Redis counts as not yet."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if holds():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, f"{holds} does not hold after {timeout} s"
        time.sleep(0.02)


def client_of(server: RedisServer) -> Any:
    """A client of ``server`` that does not try again."""
    return redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0), socket_timeout=5, decode_responses=True)


class Cluster(NamedTuple):
    """A cluster's nodes, each with a third of the slots, and the URL that names them all."""

    nodes: list[RedisServer]
    url: str


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Three masters without replicas."""
    with ExitStack() as stack:
        nodes: list[RedisServer] = []
        for number in range(3):
            nodes.append(_start_node(folder / f"node{number}"))
            stack.callback(nodes[-1].kill)
        clients = [stack.enter_context(client_of(node)) for node in nodes]
        share = SLOTS // len(nodes) + 1
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER ADDSLOTS", *range(number * share, min((number + 1) * share, SLOTS)))
            client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        eventually(lambda: all(_is_complete(client, len(nodes)) for client in clients))
        yield Cluster(nodes, "redis://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes))


def _start_node(folder: Path) -> RedisServer:
    arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "15000"]
    for attempt in range(20):
        server = RedisServer(folder / str(attempt), arguments=arguments)
        if server.port + BUS > LAST_PORT:  # the nodes talk to each other on that port
            continue
        try:
            server.start()
        except RuntimeError as error:
            if "Address already in use" not in str(error):
                raise
        else:
            return server
    raise Unobtainable("no two free ports were found that are far enough apart for a cluster's node")


def _is_complete(client: Any, size: int) -> bool:
    info = client.cluster("INFO")
    return info["cluster_state"] == "ok" and int(info["cluster_size"]) == size


class Guarded(NamedTuple):
    """A master and its replica, watched by three Sentinels under ``name``."""

    master: RedisServer
    replica: RedisServer
    name: str
    url: str
    """That of the Sentinels."""


@contextmanager
def sentinels(folder: Path) -> Iterator[Guarded]:
    """They fail over about three seconds after the master died, and not when it is slow for a moment."""
    name = "machinery"
    with ExitStack() as stack:
        master, replica = stack.enter_context(replicated(folder))
        ports = [free_port() for _ in range(3)]
        for port in ports:
            own = folder / f"sentinel{port}"
            own.mkdir()
            (own / "sentinel.conf").write_text(
                f"port {port}\nbind 127.0.0.1\ndir {own}\n"
                f"sentinel monitor {name} 127.0.0.1 {master.port} 2\n"
                f"sentinel down-after-milliseconds {name} 2000\n"
                f"sentinel failover-timeout {name} 3000\n"
            )
            process = ServerProcess(
                [server_program(), str(own / "sentinel.conf"), "--sentinel"],
                own,
                partial(answers, f"redis://127.0.0.1:{port}"),
            )
            process.start()
            stack.callback(process.kill)
        for port in ports:
            eventually(partial(_knows_all, port, name))
        yield Guarded(master, replica, name, "redis://" + ",".join(f"127.0.0.1:{port}" for port in ports))


@contextmanager
def replicated(folder: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A master, and a replica that has caught up with it."""
    at_once = ["--repl-diskless-sync-delay", "0"]
    with (
        RedisServer(folder / "master", arguments=at_once) as master,
        RedisServer(folder / "replica", arguments=[*at_once, "--replicaof", "127.0.0.1", str(master.port)]) as replica,
        client_of(replica) as client,
    ):
        eventually(lambda: client.info("replication")["master_link_status"] == "up")
        yield master, replica


def _knows_all(port: int, name: str) -> bool:
    with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as watcher:
        state = watcher.sentinel_masters()[name]
    return int(state["num-other-sentinels"]) == 2 and int(state["num-slaves"]) == 1


class Certified(NamedTuple):
    """A server that speaks TLS, and the authority that vouches for it."""

    server: RedisServer
    url: str
    authority: Path
    certificate: Path
    key: Path


@contextmanager
def tls(folder: Path, *, demand_certificate: bool = False) -> Iterator[Certified]:
    """A server on TLS whose certificate is for localhost. Raises `Unobtainable`."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, key, certificate = make_certificates(folder)
    port = free_port()
    arguments = [
        *["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)],
        *["--tls-ca-cert-file", str(authority), "--tls-auth-clients", "yes" if demand_certificate else "no"],
    ]
    server = RedisServer(folder / "server", arguments=arguments)
    try:
        server.start()
    except RuntimeError as error:
        server.kill()
        if "tls" in str(error):
            raise Unobtainable("the local Redis was built without TLS") from error
        raise
    with ExitStack() as stack:
        stack.callback(server.kill)
        yield Certified(server, f"rediss://localhost:{port}", authority, certificate, key)


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """A new authority, and a key with its certificate for localhost. Raises `Unobtainable`."""
    if shutil.which("openssl") is None:
        raise Unobtainable("there is no openssl on PATH")
    authority, key, certificate = folder / "ca.pem", folder / "key.pem", folder / "cert.pem"
    extensions = folder / "extensions"
    extensions.write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\n"
    )
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for arguments in (
        [
            "req",
            "-x509",
            *new_key,
            "-keyout",
            folder / "ca.key",
            "-out",
            authority,
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",  # Python from 3.13 on asks for what RFC 5280 asks for
            "-days",
            "2",
            "-subj",
            "/CN=test authority",
        ],
        ["req", *new_key, "-keyout", key, "-out", folder / "request", "-subj", "/CN=localhost"],
        [
            *[
                "x509",
                "-req",
                "-in",
                folder / "request",
                "-CA",
                authority,
                "-CAkey",
                folder / "ca.key",
                "-CAcreateserial",
            ],
            *["-out", certificate, "-days", "2", "-extfile", extensions],
        ],
    ):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
    return authority, key, certificate
