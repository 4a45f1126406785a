"""When DynamoDB is away: one kind of error, in time, and everything goes on afterwards."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore import exceptions as driver

from machinery.abc import Config, GroupMeta, Signature, State, TaskResult, TaskState
from machinery.errors import BackendUnavailable, Closed, ConfigError, MachineryError, Unsupported
from machinery.testing._expectations import eventually
from machinery_backend_dynamodb import DynamodbBackend
from machinery_backend_dynamodb._command import create_tables
from machinery_backend_dynamodb._errors import translate
from tests.services.dynamodb import DynamodbServer
from tests.services.processes import free_port
from tests.services.proxy import CuttingProxy

STATES = [TaskState(f"u{number}", "add", State.PENDING, created_at=datetime.now(UTC)) for number in range(30)]
IDS = [state.task_uuid for state in STATES]


def calls(backend: DynamodbBackend) -> list[Callable[[], Any]]:
    """Everything that asks DynamoDB."""
    return [
        lambda: backend.submit(STATES[:1]),
        lambda: backend.submit(STATES),
        lambda: backend.save(STATES[:1]),
        lambda: backend.save(STATES),
        lambda: backend.load(IDS),
        lambda: backend.wait(IDS, 1),
        lambda: backend.forget(IDS),
        lambda: backend.create_group(GroupMeta("g", tuple(IDS), created_at=datetime.now(UTC)), Signature("sum")),
        lambda: backend.load_group("g"),
        lambda: backend.finish_members([("g", uuid) for uuid in IDS]),
        lambda: backend.claim_chord("g", "u1"),
        lambda: backend.close_group("g"),
        lambda: backend.open_groups(datetime.now(UTC), 9),
        backend.examine,
    ]


SOON = 20.0
"""Seconds that a call may take on a busy machine that must not take the minute of the driver's own patience."""


@contextmanager
def opened(url: str, config: Config | None = None) -> Iterator[DynamodbBackend]:
    backend = DynamodbBackend.from_url(url, config or Config())
    yield backend
    backend.close()


def test_nobody_listens(aws_credentials: None) -> None:
    with opened(f"dynamodb://127.0.0.1:{free_port()}") as backend:
        for call in calls(backend):
            began = time.monotonic()
            with pytest.raises(BackendUnavailable, match=r"cannot reach DynamoDB at http://127\.0\.0\.1") as caught:
                call()
            assert time.monotonic() - began < SOON
            assert "local" not in str(caught.value).replace("localhost", "")  # the dummy credentials


def test_nobody_answers_in_time(aws_credentials: None) -> None:
    config = Config(connect_timeout=0.3, sections={"dynamodb": {"read_timeout": 0.4}})
    with (
        socket.create_server(("127.0.0.1", 0), backlog=100) as silent,
        opened(f"dynamodb://127.0.0.1:{silent.getsockname()[1]}", config) as backend,
    ):
        for call in calls(backend):
            began = time.monotonic()
            with pytest.raises(BackendUnavailable):
                call()
            assert time.monotonic() - began < SOON


def test_a_dynamodb_that_falls_silent_fails_calls_in_time_and_is_used_again(dynamodb_url: str, config: Config) -> None:
    where = urlsplit(dynamodb_url)
    with (
        CuttingProxy(where.hostname or "", where.port or 0) as proxy,
        opened(dynamodb_url, config) as others,
        opened(f"dynamodb://127.0.0.1:{proxy.port}", config.with_(connect_timeout=0.5)) as backend,
    ):
        others.submit(STATES)
        eventually(lambda: _answer(lambda: backend.load(IDS)))
        proxy.black_hole()
        for call in calls(backend):
            began = time.monotonic()
            with pytest.raises(BackendUnavailable):
                call()
            assert time.monotonic() - began < SOON
        proxy.restore()
        # What was swallowed may be carried out now, deleting among it: so only that there are answers again.
        assert len(eventually(lambda: _answer(lambda: backend.load(IDS)))) == len(IDS)


def test_a_connection_that_is_cut_is_made_anew(dynamodb_url: str, config: Config) -> None:
    where = urlsplit(dynamodb_url)
    with (
        CuttingProxy(where.hostname or "", where.port or 0) as proxy,
        opened(f"dynamodb://127.0.0.1:{proxy.port}", config) as backend,
    ):
        backend.submit(STATES)
        for _ in range(3):
            proxy.cut()
            assert all(eventually(lambda: _answer(lambda: backend.load(IDS))))


@pytest.mark.parametrize("count", [1, 2], ids=["alone", "with another"])
def test_an_answer_that_is_lost_is_asked_for_again(dynamodb_url: str, config: Config, count: int) -> None:
    where = urlsplit(dynamodb_url)
    with (
        CuttingProxy(where.hostname or "", where.port or 0) as proxy,
        opened(f"dynamodb://127.0.0.1:{proxy.port}", config) as backend,
    ):
        backend.submit(STATES)
        proxy.lose_next_reply()

        saved = [TaskState(uuid, "add", State.SUCCESS, (TaskResult("int64", 5),)) for uuid in IDS[:count]]
        stored = backend.save(saved)

        assert [state.results for state in stored] == [(TaskResult("int64", 5),)] * count
        # It was the first write that won, and it is ours: nobody else goes on with what follows.
        assert not any(state.was_final for state in stored)
        assert all(state.was_final for state in backend.save(saved))


def test_a_server_that_is_killed_and_comes_back_has_all_records_and_counts_on(dynamodb_server: DynamodbServer) -> None:
    assert create_tables([dynamodb_server.url]) == 0
    with opened(dynamodb_server.url, Config(connect_timeout=30)) as backend:
        backend.submit(STATES)
        stored = backend.save([TaskState(uuid, "", State.SUCCESS, ()) for uuid in IDS[:15]])
        backend.create_group(GroupMeta("g", tuple(IDS), created_at=datetime.now(UTC)), Signature("sum"))
        assert backend.finish_members([("g", "u1")]) == [1]

        dynamodb_server.kill()
        for call in calls(backend):
            with pytest.raises(BackendUnavailable):
                call()
        dynamodb_server.start()

        found = eventually(lambda: _answer(lambda: backend.load(IDS)))
        assert [state and state.state for state in found[:15]] == [state.state for state in stored]
        assert all(found)
        assert backend.load_group("g").meta.task_uuids == tuple(IDS)
        # DynamoDB Local may lose a transaction that it acknowledged right before it was killed; then u1 counts now.
        assert backend.finish_members([("g", "u1"), ("g", "u2")]) == [1, 2]


def _answer(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except BackendUnavailable:
        return None


def test_a_missing_table_is_a_config_error_that_says_how_to_make_it(dynamodb_url: str) -> None:
    config = Config(sections={"dynamodb": {"task_states_table": "nowhere_1", "group_metas_table": "nowhere_2"}})
    with opened(dynamodb_url, config) as backend:
        for call in calls(backend)[:-1]:
            with pytest.raises(ConfigError, match="create-tables") as caught:
                call()
            assert "nowhere_" in str(caught.value)
        with pytest.raises(ConfigError, match=r"'nowhere_1' \(key TaskUUID, a string\)"):
            backend.save(STATES[:1])


def test_a_table_with_another_key_is_a_config_error(dynamodb_url: str, dynamodb_tables: dict[str, str]) -> None:
    states, groups = dynamodb_tables["task_states_table"], dynamodb_tables["group_metas_table"]
    swapped = Config(sections={"dynamodb": {"task_states_table": groups, "group_metas_table": states}})
    with opened(dynamodb_url, swapped) as backend, pytest.raises(ConfigError, match="another key than ours"):
        backend.save(STATES[:1])


def test_no_credentials_are_a_config_error_that_says_where_to_put_them(
    dynamodb_url: str, config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with opened(dynamodb_url, config) as backend, pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID"):
        backend.load(IDS)


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
def test_credentials_that_no_header_can_hold_are_a_config_error_that_keeps_them_secret(
    dynamodb_url: str, config: Config, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "hunter2\n")

    with opened(dynamodb_url, config) as backend, pytest.raises(ConfigError, match=name) as caught:
        backend.load(IDS)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "code",
    [
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
    ],
)
def test_answers_that_may_quote_a_header_are_not_repeated(code: str) -> None:
    found = translate(answered(code, "x-amz-security-token:hunter2"), "eu-west-1", [])

    assert isinstance(found, ConfigError)
    assert code in str(found)
    assert "hunter2" not in str(found)


def test_a_closed_backend_says_so_while_calls_are_under_way(dynamodb_url: str, config: Config) -> None:
    backend = DynamodbBackend.from_url(dynamodb_url, config)
    backend.submit(STATES)
    backend.close()
    for call in calls(backend):
        with pytest.raises(Closed):
            call()
    with pytest.raises(Closed):
        backend.open_groups(datetime.now(UTC), 1)


def answered(code: str, text: str = "so it is", status: int = 400, **more: Any) -> driver.ClientError:
    return driver.ClientError(
        {"Error": {"Code": code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}, "PutItem"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (driver.EndpointConnectionError(endpoint_url="http://h", error="refused"), BackendUnavailable),
        (driver.ConnectTimeoutError(endpoint_url="http://h", error="slow"), BackendUnavailable),
        (driver.ReadTimeoutError(endpoint_url="http://h", error="slow"), BackendUnavailable),
        (driver.ConnectionClosedError(endpoint_url="http://h", error="gone"), BackendUnavailable),
        (driver.HTTPClientError(error="broken"), BackendUnavailable),
        (driver.HTTPClientError(error=UnicodeError("label too long")), BackendUnavailable),
        (driver.HTTPClientError(error=ValueError("Invalid header value b'x'")), ConfigError),
        (driver.MetadataRetrievalError(error_msg="silent"), BackendUnavailable),
        (driver.SSLError(endpoint_url="https://h", error="EOF occurred"), BackendUnavailable),
        (OSError("no route"), BackendUnavailable),
        (answered("ProvisionedThroughputExceededException"), BackendUnavailable),
        (answered("ThrottlingException"), BackendUnavailable),
        (answered("RequestLimitExceeded"), BackendUnavailable),
        (answered("InternalServerError", status=500), BackendUnavailable),
        (answered("503", status=503), BackendUnavailable),
        (answered("TransactionConflictException"), BackendUnavailable),
        (
            answered(
                "TransactionCanceledException", CancellationReasons=[{"Code": "TransactionConflict"}, {"Code": "None"}]
            ),
            BackendUnavailable,
        ),
        (driver.SSLError(endpoint_url="https://h", error="CERTIFICATE_VERIFY_FAILED"), ConfigError),
        (driver.NoCredentialsError(), ConfigError),
        (driver.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), ConfigError),
        (driver.NoRegionError(), ConfigError),
        (driver.ProfileNotFound(profile="nobody"), ConfigError),
        (answered("ResourceNotFoundException"), ConfigError),
        (answered("AccessDeniedException"), ConfigError),
        (answered("UnrecognizedClientException"), ConfigError),
        (answered("ExpiredTokenException"), ConfigError),
        (answered("ValidationException", "The provided key element does not match the schema"), ConfigError),
        (answered("UnknownOperationException"), ConfigError),
        (answered("ValidationException", "an expression is wrong"), Unsupported),
        (answered("TransactionCanceledException", CancellationReasons=[{"Code": "ValidationError"}]), Unsupported),
        (driver.ParamValidationError(report="wrong"), Unsupported),
        (Closed("it was"), Closed),
    ],
)
def test_the_table_of_errors(error: Exception, expected: type[MachineryError]) -> None:
    found = translate(error, "eu-west-1", ["'task_states' (key TaskUUID, a string)"])

    assert type(found) is expected or (expected is ConfigError and isinstance(found, ConfigError))
    assert isinstance(error, Closed) or "eu-west-1" in str(found)
