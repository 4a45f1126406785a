"""When MongoDB is away: one family of errors, in time, and everything goes on afterwards."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest
from bson.errors import InvalidBSON, InvalidDocument
from pymongo import errors as driver
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from machinery.abc import Config, GroupMeta, Signature, State, TaskResult, TaskState
from machinery.errors import (
    BackendUnavailable,
    Closed,
    ConfigError,
    DecodeError,
    EncodeError,
    MachineryError,
    Unsupported,
)
from machinery.testing._expectations import eventually, in_background
from machinery_backend_mongo import MongoBackend
from machinery_backend_mongo._errors import translate
from tests.services.mongo import MongoServer
from tests.services.processes import free_port
from tests.services.proxy import CuttingProxy

STATE = TaskState("u1", "add", State.PENDING, created_at=datetime(2024, 3, 1, 12, 30, 45, tzinfo=UTC))
DONE = TaskState("u1", "add", State.SUCCESS, ())


def calls(backend: MongoBackend) -> list[Callable[[], Any]]:
    """Everything that asks MongoDB."""
    return [
        lambda: backend.submit([STATE]),
        lambda: backend.save([STATE]),
        lambda: backend.save([STATE] * 2),
        lambda: backend.load(["u1"]),
        lambda: backend.wait(["u1"], 1),
        lambda: backend.forget(["u1"]),
        lambda: backend.create_group(GroupMeta("g", ("u1",))),
        lambda: backend.load_group("g"),
        lambda: backend.finish_members([("g", "u1")]),
        lambda: backend.finish_members([("g", "u1"), ("h", "u1")]),
        lambda: backend.claim_chord("g", "u1"),
        lambda: backend.open_groups(datetime.now(UTC), 1),
        lambda: backend.close_group("g"),
        backend.examine,
    ]


SOON = 14.0
"""Seconds that a call may take on a busy machine that must not take the 15 of our own patience, nor the 30 of the driver's."""


def quick(url: str, seconds: float = 0.5) -> MongoBackend:
    options = {"answer_timeout": seconds, "connect_timeout": seconds}
    return MongoBackend.from_url(url, Config(sections={"mongodb": options}))


def patient(url: str) -> MongoBackend:
    """A backend that leaves a busy server the time it takes, for what must succeed."""
    return MongoBackend.from_url(url, Config())


def check_all_unavailable(backend: MongoBackend) -> None:
    for call in calls(backend):
        began = time.monotonic()
        with pytest.raises(BackendUnavailable) as caught:
            call()
        assert time.monotonic() - began < SOON
        assert "127.0.0.1" in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__suppress_context__


def test_nobody_listens(mongo_url: str) -> None:
    with closing(quick(f"mongodb://me:hunter2@127.0.0.1:{free_port()}/results", 0.2)) as backend:
        check_all_unavailable(backend)


def test_nobody_answers_in_time(mongo_url: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        closing(quick(f"mongodb://127.0.0.1:{silent.getsockname()[1]}/results", 0.2)) as backend,
    ):
        check_all_unavailable(backend)


def test_a_server_that_stops_answering_fails_every_call_in_time(mongo_server: MongoServer) -> None:
    with closing(patient(mongo_server.url)) as others, closing(quick(mongo_server.url)) as backend:
        others.submit([STATE])
        others.create_group(GroupMeta("g", ("u1",)), Signature("sum"))
        eventually(lambda: _answer(backend) is not None)
        mongo_server.pause()
        try:
            check_all_unavailable(backend)
        finally:
            mongo_server.resume()
        eventually(lambda: _answer(backend) is not None)


def _answer(backend: MongoBackend) -> list[TaskState | None] | None:
    with suppress(BackendUnavailable):
        return backend.load(["u1"])
    return None


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_a_restarted_server_is_found_again_with_all_it_had_acknowledged(mongo_server: MongoServer, kill: bool) -> None:
    with closing(patient(mongo_server.url)) as backend, closing(quick(mongo_server.url)) as impatient:
        backend.submit([STATE])
        (done,) = backend.save([DONE])
        backend.create_group(GroupMeta("g", ("u1", "u2")), Signature("sum"))
        assert backend.finish_members([("g", "u1")]) == [1]
        assert backend.claim_chord("g", "u1")
        assert eventually(lambda: _answer(impatient)) == [done]

        if kill:
            mongo_server.kill()
        else:
            mongo_server.stop()
        check_all_unavailable(impatient)
        mongo_server.start()

        assert eventually(lambda: _answer(impatient)) == [done]
        assert eventually(lambda: _answer(backend)) == [done]
        assert backend.finish_members([("g", "u1")]) == [1]
        assert backend.finish_members([("g", "u2")]) == [2]
        assert not backend.claim_chord("g", "u2")
        assert backend.claim_chord("g", "u1")


def test_a_call_waits_for_a_server_that_comes_back_in_time(mongo_server: MongoServer, later: Any) -> None:
    with closing(quick(mongo_server.url, 40)) as backend:
        backend.submit([STATE])
        mongo_server.kill()
        later(0.5, mongo_server.start)

        assert eventually(lambda: _answer(backend)) == [STATE]


def test_a_call_that_waits_notices_that_the_server_died(mongo_server: MongoServer) -> None:
    with closing(patient(mongo_server.url)) as others:
        others.submit([STATE])
    with closing(quick(mongo_server.url)) as backend:
        eventually(lambda: _answer(backend) is not None)

        def wait() -> str:
            with pytest.raises(BackendUnavailable):
                backend.wait(["u1"], 30)
            return "noticed"

        with in_background(wait) as waited:
            mongo_server.kill()
            assert waited() == "noticed"


class LosingReplies(CommandListener):
    """Loses the reply to the next ``command``, once it was asked to."""

    def __init__(self, proxy: CuttingProxy) -> None:
        self.command = ""
        self._proxy = proxy

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == self.command:
            self.command = ""
            self._proxy.lose_next_reply()

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


@pytest.mark.parametrize(("batch", "command"), [(1, "findAndModify"), (50, "update")])
def test_a_write_whose_answer_is_lost_is_safe_to_make_again(
    mongo_url: str, mongo_database: str, batch: int, command: str
) -> None:
    port = int(mongo_url.rpartition(":")[2])
    name = mongo_database.rpartition("/")[2]
    results = (TaskResult("[]uint8", b"\x00\xff"), TaskResult("uint64", 2**64 - 1))
    states = [TaskState(f"u{number}", "add", State.SUCCESS, results) for number in range(batch)]
    with CuttingProxy("127.0.0.1", port) as proxy:
        losing = LosingReplies(proxy)
        client: pymongo.MongoClient[Any]
        with (
            # Polled, and that once a minute, the server says nothing else meanwhile.
            pymongo.MongoClient(
                f"mongodb://127.0.0.1:{proxy.port}/{name}?serverMonitoringMode=poll&heartbeatFrequencyMS=60000",
                event_listeners=[losing],
            ) as client,
            closing(MongoBackend(client, answer_timeout=20)) as backend,
        ):
            backend.submit([TaskState(state.task_uuid, "add") for state in states])
            losing.command = command
            with pytest.raises(BackendUnavailable):
                backend.save(states)
            assert losing.command == ""

            stored = eventually(lambda: _saved(backend, states))

            assert [state.was_final for state in stored] == [True] * batch
            assert stored == states
            found = backend.load([state.task_uuid for state in states])
            assert [state is not None and state.is_success for state in found] == [True] * batch


def _saved(backend: MongoBackend, states: list[TaskState]) -> list[TaskState]:
    with suppress(BackendUnavailable):
        return backend.save(states)
    return []


def test_closing_while_others_call_is_said_to_them(mongo_database: str) -> None:
    backend = patient(mongo_database)
    backend.submit([STATE])

    def wait() -> str:
        with pytest.raises(Closed):
            backend.wait(["u1"], 30)
        return "closed"

    with in_background(wait) as waited:
        backend.close()
        assert waited() == "closed"


def test_a_user_that_may_not_is_a_config_error_that_names_no_password(mongo_url: str) -> None:
    host = mongo_url.removeprefix("mongodb://")
    with closing(patient(f"mongodb://me:hunter2@{host}/results")) as backend:
        with pytest.raises(ConfigError, match="the user name or password is wrong") as caught:
            backend.load(["u1"])
        assert "hunter2" not in str(caught.value)


def test_what_does_not_speak_tls_is_a_config_error_or_unavailable(mongo_url: str) -> None:
    with closing(quick(f"{mongo_url}/?tls=true", 2)) as backend, pytest.raises(MachineryError) as caught:
        backend.load(["u1"])
    assert isinstance(caught.value, ConfigError | BackendUnavailable)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [("NXDOMAIN", ConfigError), ("NoAnswer", ConfigError), ("LifetimeTimeout", BackendUnavailable)],
)
def test_a_name_with_no_servers_behind_it_is_said_at_the_first_call(
    monkeypatch: pytest.MonkeyPatch, raised: str, expected: type[MachineryError]
) -> None:
    resolver = pytest.importorskip("dns.resolver", reason="pymongo came without dnspython")

    def resolve(*_: object, **__: object) -> None:
        raise {
            "NXDOMAIN": resolver.NXDOMAIN(),
            "NoAnswer": resolver.NoAnswer(response=_Response()),
            "LifetimeTimeout": resolver.LifetimeTimeout(timeout=5.0, errors=[]),
        }[raised]

    monkeypatch.setattr(resolver, "resolve", resolve)
    with closing(MongoBackend.from_url("mongodb+srv://me:hunter2@cluster.example.com/results", Config())) as backend:
        with pytest.raises(expected) as caught:
            backend.load(["u1"])
        assert "cluster.example.com" in str(caught.value)
        assert "hunter2" not in str(caught.value)


class _Response:
    question: tuple[object, ...] = ()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (driver.AutoReconnect("connection closed"), BackendUnavailable),
        (driver.NetworkTimeout("timed out"), BackendUnavailable),
        (driver.ServerSelectionTimeoutError("No servers found yet, Timeout: 15s, Topology: x"), BackendUnavailable),
        (driver.WaitQueueTimeoutError("Timed out while checking out a connection"), BackendUnavailable),
        (driver.NotPrimaryError("not primary", {"code": 10107}), BackendUnavailable),
        (driver.ConnectionFailure("no"), BackendUnavailable),
        (driver.ExecutionTimeout("operation exceeded time limit", 50, {}), BackendUnavailable),
        (driver.WTimeoutError("waiting for replication timed out", 64, {}), BackendUnavailable),
        (driver.OperationFailure("interrupted at shutdown", 11600), BackendUnavailable),
        (driver.OperationFailure("no space left", 14031), BackendUnavailable),
        (OSError("no route"), BackendUnavailable),
        (ssl.SSLError(136, "[X509] no certificate or crl found"), ConfigError),
        (FileNotFoundError(2, "The tlsCAFile file is not readable"), ConfigError),
        (PermissionError(13, "The tlsCAFile file is not readable"), ConfigError),
        (driver.BulkWriteError({"writeErrors": [{"code": 11600, "errmsg": "down"}]}), BackendUnavailable),
        (
            driver.BulkWriteError(
                {
                    "writeErrors": [{"code": 11000, "errmsg": "dup"}],
                    "writeConcernErrors": [{"code": 64, "errmsg": "slow"}],
                }
            ),
            BackendUnavailable,
        ),
        (driver.ConfigurationError("The resolution lifetime expired after 5 s"), BackendUnavailable),
        (driver.ConfigurationError("The DNS query name does not exist"), ConfigError),
        (driver.OperationFailure("Authentication failed.", 18), ConfigError),
        (driver.OperationFailure("not authorized on results", 13), ConfigError),
        (driver.OperationFailure("bad auth : Authentication failed.", 8000), ConfigError),
        (driver.OperationFailure("Not enough data-bearing nodes", 100), ConfigError),
        (driver.InvalidName("database names cannot contain"), ConfigError),
        (driver.ServerSelectionTimeoutError("SSL handshake failed: CERTIFICATE_VERIFY_FAILED"), ConfigError),
        (driver.InvalidOperation("Cannot use MongoClient after close"), Closed),
        (driver.InvalidOperation("another"), Unsupported),
        (driver.OperationFailure("Unrecognized pipeline stage name", 40324), Unsupported),
        (driver.BulkWriteError({}), Unsupported),
        (driver.PyMongoError("new"), Unsupported),
        (InvalidBSON("bad"), DecodeError),
        (InvalidDocument("cannot encode"), EncodeError),
        (driver.DocumentTooLarge("too large"), EncodeError),
    ],
    ids=lambda each: getattr(each, "__name__", repr(each)),
)
def test_the_table_of_errors(error: Exception, expected: type[MachineryError]) -> None:
    found = translate(error, "mongodb://me:***@h")

    assert type(found) is expected
    assert "mongodb://me:***@h" in str(found)
    assert "Topology" not in str(found)


def test_what_is_translated_already_stays() -> None:
    error = DecodeError("mine")

    assert translate(error, "x") is error


def test_pymongo_has_no_exception_that_the_table_does_not_know() -> None:
    kinds = [kind for kind in vars(driver).values() if isinstance(kind, type) and issubclass(kind, Exception)]

    assert pymongo.errors.PyMongoError in kinds
    for kind in kinds:
        if kind.__module__ == driver.__name__ and not issubclass(kind, driver.PyMongoError):
            assert issubclass(kind, InvalidDocument)
