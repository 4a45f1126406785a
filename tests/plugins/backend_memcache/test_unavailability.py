"""When Memcached is away: one error, in time, which names it, and everything goes on afterwards."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pymemcache import exceptions as driver

from machinery.abc import Config, GroupMeta, State, TaskState
from machinery.errors import BackendUnavailable, Closed, ConfigError, MachineryError, Unsupported
from machinery.testing._expectations import eventually, in_background
from machinery_backend_memcache import MemcacheBackend
from machinery_backend_memcache._errors import DRIVER_ERRORS, translate, unable
from tests.services.chain import Unobtainable, missing
from tests.services.memcached import MemcachedServer
from tests.services.processes import free_port
from tests.services.proxy import CuttingProxy

STATE = TaskState("u1", "add", State.PENDING, created_at=datetime.now(UTC))
GROUP = GroupMeta("group_1", ("u1", "u2"))


def calls(backend: MemcacheBackend) -> list[Callable[[], Any]]:
    """Everything that asks Memcached."""
    return [
        lambda: backend.submit([STATE]),
        lambda: backend.save([STATE]),
        lambda: backend.load(["u1"]),
        lambda: backend.wait(["u1"], 1),
        lambda: backend.forget(["u1"]),
        lambda: backend.create_group(GROUP),
        lambda: backend.load_group("group_1"),
        lambda: backend.finish_members([("group_1", "u1")]),
        lambda: backend.claim_chord("group_1", "u1"),
        lambda: backend.close_group("group_1"),
        backend.examine,
    ]


SOON = 20.0
"""Seconds that a call may take on a busy machine that must not take the 30 that connecting, or answering, may."""


@contextmanager
def backend_on(port: int, **config: Any) -> Iterator[MemcacheBackend]:
    made = MemcacheBackend.from_url(f"memcache://127.0.0.1:{port}", Config(**{"connect_timeout": 30, **config}))
    yield made
    made.close()


def test_nobody_listens() -> None:
    port = free_port()
    with backend_on(port) as backend:
        for call in calls(backend):
            began = time.monotonic()
            with pytest.raises(BackendUnavailable, match=f"127.0.0.1:{port}.*is it running"):
                call()
            assert time.monotonic() - began < SOON


def test_nobody_of_that_name() -> None:
    backend = MemcacheBackend.from_url("memcache://nowhere.invalid", Config())
    with pytest.raises(BackendUnavailable, match=r"nowhere\.invalid"):
        backend.load(["u1"])
    backend.close()


def test_nobody_answers_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sections = {"memcache": {"answer_timeout": 0.3}}
        with backend_on(silent.getsockname()[1], sections=sections) as backend:
            for call in calls(backend):
                began = time.monotonic()
                with pytest.raises(BackendUnavailable, match="does not answer"):
                    call()
                assert time.monotonic() - began < SOON


def test_a_server_that_falls_silent_in_the_middle_is_given_up(memcached_server: MemcachedServer) -> None:
    sections = {"memcache": {"answer_timeout": 0.3}}
    with (
        CuttingProxy("127.0.0.1", memcached_server.port) as proxy,
        backend_on(memcached_server.port) as others,
        backend_on(proxy.port, sections=sections) as backend,
    ):
        others.submit([STATE])
        assert eventually(lambda: _answer(backend)) == [STATE]
        proxy.black_hole()
        with pytest.raises(BackendUnavailable):
            backend.load(["another"])
        proxy.restore()
        # What comes late is not taken for the answer to something else.
        assert eventually(lambda: _answer(backend)) == [STATE]


def _answer(backend: MemcacheBackend) -> list[TaskState | None] | None:
    with suppress(BackendUnavailable):
        return backend.load(["u1"])
    return None


def test_a_killed_server_that_is_back_is_used_again_without_an_error(memcached_server: MemcachedServer) -> None:
    """The connections that died while they lay idle are noticed before they are used."""
    with backend_on(memcached_server.port) as backend:
        threads = [threading.Thread(target=backend.submit, args=[[STATE]]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        memcached_server.kill()
        for call in calls(backend):
            with pytest.raises(BackendUnavailable):
                call()
        memcached_server.start()

        for _ in range(16):
            backend.submit([STATE])
        assert backend.load(["u1"]) == [STATE]
        memcached_server.restart(kill=True)
        assert backend.load(["u1"]) == [None]


def test_who_waits_when_the_server_dies_is_told_soon(memcached_server: MemcachedServer) -> None:
    with backend_on(memcached_server.port) as backend:
        backend.submit([STATE])
        told: list[BaseException] = []

        def wait() -> None:
            try:
                backend.wait(["u1"], 30)
            except BackendUnavailable as error:
                told.append(error)

        with in_background(wait) as ended:
            memcached_server.kill()
            ended()
        assert len(told) == 1


def test_whoever_waits_when_the_backend_is_closed_is_told_soon(make_backend: Any, uuid: str) -> None:
    backend = make_backend()
    backend.submit([TaskState(uuid, "add")])

    def wait() -> None:
        with pytest.raises(Closed):
            backend.wait([uuid], 30)

    with in_background(wait) as ended:
        backend.close()
        ended()


def test_many_threads_have_connections_of_their_own(backend: MemcacheBackend, new_id: Callable[[], str]) -> None:
    answers: list[bool] = []

    def work() -> None:
        for number in range(50):
            state = TaskState(f"{new_id()}-{number}", "add", State.PENDING, created_at=STATE.created_at)
            backend.submit([state])
            answers.append(backend.load([state.task_uuid]) == [state])

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [True] * 600


def test_a_name_is_looked_up_as_go_does_and_ipv4_comes_first(memcached_server: MemcachedServer) -> None:
    backend = MemcacheBackend.from_url(f"memcache://localhost:{memcached_server.port}", Config())
    backend.submit([STATE])
    backend.close()


def test_a_unix_socket_will_do(tmp_path: Path, memcached_server: MemcachedServer) -> None:
    path = tmp_path / "s"
    try:
        server = MemcachedServer(tmp_path / "beside")
    except Unobtainable as reason:
        missing("memcached", str(reason))
    with socket.socket(socket.AF_UNIX) as listening, server:
        listening.bind(str(path))
        listening.listen()
        relay = threading.Thread(target=_relay_once, args=[listening, server.port])
        relay.start()
        backend = MemcacheBackend.from_url(f"memcache://{path}", Config())
        backend.submit([STATE])
        assert backend.load(["u1"]) == [STATE]
        backend.close()
        relay.join(5)


def _relay_once(listening: socket.socket, port: int) -> None:
    """Carry one connection's bytes on to a server, until the near side ends."""
    near, _ = listening.accept()
    with near, socket.create_connection(("127.0.0.1", port), 5) as far:
        while asked := near.recv(65_536):
            far.sendall(asked)
            near.sendall(far.recv(65_536))


# -- what is no Memcached, or a full one -------------------------------------------------------------------------------------


@contextmanager
def somebody_who_says(words: bytes) -> Iterator[int]:
    """A server that answers whatever it is asked with ``words``; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)

        def answer() -> None:
            near, _ = listening.accept()
            with near:
                near.settimeout(30)
                while near.recv(65_536):
                    near.sendall(words)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(10)


@pytest.mark.parametrize(
    ("words", "expected", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", ConfigError, "does not speak"),
        (b"-ERR unknown command 'version'\r\n", ConfigError, "does not speak"),
        (b"ERROR Too many open connections\r\n", BackendUnavailable, "too many connections"),
        (b"CLIENT_ERROR unauthenticated\r\n", ConfigError, "wants a user name"),
        (b"SERVER_ERROR something\r\n", BackendUnavailable, "cannot do it now"),
    ],
)
def test_who_answers_otherwise_is_recognised(words: bytes, expected: type[MachineryError], text: str) -> None:
    with somebody_who_says(words) as port, backend_on(port) as backend:
        with pytest.raises(expected, match=text) as caught:
            backend.load(["u1"])
        assert f"127.0.0.1:{port}" in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "expected", "text"),
    [
        (b"VALUE u1 0\r\n", ConfigError, "does not speak"),
        (b"VALUE u1 x 3 1\r\nabc\r\n", ConfigError, "does not speak"),
        (b"WHAT u1 0 3 1\r\nabc\r\nEND\r\n", ConfigError, "does not speak"),
        (b"x" * 5000, ConfigError, "does not speak"),
        (b"VALUE u1 0 3 1\r\nabcdef\r\nEND\r\n", BackendUnavailable, "closed the connection"),
        (b"VALUE u1 0 300 1\r\nabc", BackendUnavailable, "closed the connection"),
        (b"VALUE u1 0", BackendUnavailable, "closed the connection"),
        (b"", BackendUnavailable, "closed the connection"),
        (b"SERVER_ERROR out of memory writing get response\r\n", BackendUnavailable, "no memory left"),
        (b"ERROR\r\n", Unsupported, "refuses"),
        (b"CLIENT_ERROR bad command line format\r\n", Unsupported, "bad command line"),
    ],
)
def test_an_answer_that_is_none_is_not_believed(answer: bytes, expected: type[MachineryError], text: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)

        def speak() -> None:
            near, _ = listening.accept()
            with near:
                near.settimeout(30)
                near.recv(65_536)
                near.sendall(b"VERSION 1.6.18\r\n")
                near.recv(65_536)
                near.sendall(answer)

        thread = threading.Thread(target=speak)
        thread.start()
        with backend_on(listening.getsockname()[1]) as backend, pytest.raises(expected, match=text):
            backend.load(["u1"])
        thread.join(10)


def test_a_server_with_too_many_connections_is_unavailable(tmp_path: Path) -> None:
    try:
        server = MemcachedServer(tmp_path / "narrow", arguments=("-c", "16"))
    except Unobtainable as reason:
        missing("memcached", str(reason))
    with server, backend_on(server.port, connect_timeout=5) as backend:
        held = [socket.create_connection(("127.0.0.1", server.port), 5) for _ in range(20)]
        with pytest.raises(BackendUnavailable):
            backend.load(["u1"])
        for connection in held:
            connection.close()
        assert eventually(lambda: _can_load(backend))


def _can_load(backend: MemcacheBackend) -> bool:
    try:
        return backend.load(["u1"]) == [None]
    except BackendUnavailable:
        return False


def test_a_server_that_may_throw_out_nothing_refuses_when_it_is_full(tmp_path: Path) -> None:
    try:
        server = MemcachedServer(tmp_path / "full", arguments=("-M", "-m", "4"))
    except Unobtainable as reason:
        missing("memcached", str(reason))
    with server, backend_on(server.port) as backend:
        many = [TaskState(f"u{number}", "add", State.FAILURE, error="x" * 100_000) for number in range(200)]
        with pytest.raises(BackendUnavailable, match="no memory left"):
            backend.save(many)
        assert backend.load(["u0"]) != [None]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(111, "Connection refused"), BackendUnavailable),
        (TimeoutError("timed out"), BackendUnavailable),
        (socket.gaierror(-2, "Name or service not known"), BackendUnavailable),
        (driver.MemcacheUnexpectedCloseError(), BackendUnavailable),
        (driver.MemcacheServerError(b"out of memory storing object"), BackendUnavailable),
        (driver.MemcacheServerError("busy"), BackendUnavailable),
        (driver.MemcacheUnknownCommandError(b"version"), BackendUnavailable),
        (RuntimeError("Too many objects, 2 >= 2"), BackendUnavailable),
        (driver.MemcacheUnknownCommandError("ERROR"), Unsupported),
        (driver.MemcacheClientError(b"bad data chunk"), Unsupported),
        (driver.MemcacheIllegalInputError("Key is too long"), Unsupported),
        (driver.MemcacheClientError("CLIENT_ERROR unauthenticated"), ConfigError),
        (driver.MemcacheUnknownError(b"-ERR"), ConfigError),
        (ssl.SSLCertVerificationError("certificate verify failed"), ConfigError),
    ],
)
def test_the_table_of_errors(error: Exception, expected: type[MachineryError]) -> None:
    found = translate(error, "memcache://h:1")

    assert type(found) is expected
    assert "memcache://h:1" in str(found)


def test_what_the_server_cannot_do_is_transient() -> None:
    for answer in (b"SERVER_ERROR out of memory storing object", "SERVER_ERROR what else"):
        assert type(unable(answer, "memcache://h:1")) is BackendUnavailable


def test_pymemcache_has_no_exception_that_the_table_does_not_know() -> None:
    kinds = [kind for kind in vars(driver).values() if isinstance(kind, type) and issubclass(kind, Exception)]

    assert driver.MemcacheError in kinds
    assert all(issubclass(kind, DRIVER_ERRORS) for kind in kinds)
