"""``machinery dynamodb create-tables``, and what `machinery doctor` says about tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from machinery.abc import Config, Finding, TaskState
from machinery.errors import BackendUnavailable, ConfigError, Unsupported
from machinery_backend_dynamodb import DynamodbBackend, _tables
from machinery_backend_dynamodb._command import create_tables
from machinery_backend_dynamodb._tables import Table
from tests.plugins.backend_dynamodb.conftest import Raw


@pytest.fixture
def names() -> dict[str, str]:
    own = uuid4().hex
    return {"task_states_table": f"states-{own}", "group_metas_table": f"groups-{own}"}


@pytest.fixture
def create(dynamodb_url: str, names: dict[str, str]) -> Callable[..., int]:
    """Calls the command for two names of the test's own."""

    def call(*arguments: str) -> int:
        return create_tables(
            [
                dynamodb_url,
                *("--task-states-table", names["task_states_table"]),
                *("--group-metas-table", names["group_metas_table"]),
                *arguments,
            ]
        )

    return call


@pytest.fixture
def examine(dynamodb_url: str, names: dict[str, str]) -> Callable[[], list[Finding]]:
    def call() -> list[Finding]:
        backend = DynamodbBackend.from_url(dynamodb_url, Config(sections={"dynamodb": names}))
        try:
            return backend.examine()
        finally:
            backend.close()

    return call


def said(findings: list[Finding], level: str) -> str:
    return "\n".join(finding.text for finding in findings if finding.level == level)


def test_tables_are_made_as_they_must_be_and_told_of(
    create: Callable[..., int],
    examine: Callable[[], list[Finding]],
    dynamodb_url: str,
    names: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert create() == 0

    states, groups = names.values()
    assert capsys.readouterr().out.splitlines() == [
        f"creating {states} (key TaskUUID, a string)",
        f"{states} expires by TTL from now on",
        f"creating {groups} (key GroupUUID, a string)",
        f"{groups} expires by TTL from now on",
    ]
    assert {finding.level for finding in examine()} == {"ok"}
    backend = DynamodbBackend.from_url(dynamodb_url, Config(sections={"dynamodb": names}))
    backend.submit([TaskState("u1", "add")])
    assert backend.load(["u1"])[0] is not None
    backend.close()


def test_tables_that_are_there_are_left_as_they_are(
    create: Callable[..., int], names: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    create()
    capsys.readouterr()

    assert create() == 0

    states, groups = names.values()
    assert capsys.readouterr().out.splitlines() == [
        f"{states} is there already",
        f"{states} expires by TTL already",
        f"{groups} is there already",
        f"{groups} expires by TTL already",
    ]


def test_a_table_that_comes_to_be_meanwhile_is_taken_as_if_made(
    create: Callable[..., int], names: dict[str, str], monkeypatch: pytest.MonkeyPatch, raw: Raw
) -> None:
    # Given tables that were made after we looked: by somebody else, or by ourselves and the answer was lost
    create()
    look_too_early(monkeypatch)

    assert create() == 0

    for table in names.values():
        expiry = raw.client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        assert (expiry["TimeToLiveStatus"], expiry["AttributeName"]) == ("ENABLED", "TTL")


def test_a_table_with_another_key_that_comes_to_be_meanwhile_is_an_error(
    create: Callable[..., int], names: dict[str, str], monkeypatch: pytest.MonkeyPatch, raw: Raw
) -> None:
    make_other_table(raw, names["task_states_table"], ("Id", "HASH", "S"))
    look_too_early(monkeypatch)

    with pytest.raises(ConfigError, match=r"the key Id \(S\), and ours has TaskUUID"):
        create()


def test_a_table_that_meanwhile_expires_by_another_attribute_is_an_error(
    create: Callable[..., int], names: dict[str, str], monkeypatch: pytest.MonkeyPatch, raw: Raw
) -> None:
    make_other_table(raw, names["task_states_table"], ("TaskUUID", "HASH", "S"))
    raw.client.update_time_to_live(
        TableName=names["task_states_table"],
        TimeToLiveSpecification={"Enabled": True, "AttributeName": "GoneAt"},
    )
    look_too_early(monkeypatch)

    with pytest.raises(Unsupported):
        create()


def look_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first look at each table, and at its expiry, find nothing."""
    describe, expiry_of = _tables.describe, _tables.expiry_of
    seen: set[tuple[str, str]] = set()

    def is_first(what: str, table: Table) -> bool:
        is_new = (what, table.name) not in seen
        seen.add((what, table.name))
        return is_new

    monkeypatch.setattr(
        _tables, "describe", lambda client, table: None if is_first("table", table) else describe(client, table)
    )
    monkeypatch.setattr(
        _tables,
        "expiry_of",
        lambda client, table: ("DISABLED", "") if is_first("expiry", table) else expiry_of(client, table),
    )


def test_tables_may_be_paid_for_by_capacity(
    create: Callable[..., int], examine: Callable[[], list[Finding]], names: dict[str, str], raw: Raw
) -> None:
    assert create("--billing", "provisioned", "--read-capacity", "7", "--write-capacity", "9") == 0

    for table in names.values():
        found = raw.client.describe_table(TableName=table)["Table"]["ProvisionedThroughput"]
        assert (found["ReadCapacityUnits"], found["WriteCapacityUnits"]) == (7, 9)
    assert "7 reads and 9 writes" in said(examine(), "ok")


def test_names_and_place_come_from_the_environment(
    dynamodb_url: str, names: dict[str, str], raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_STATES_TABLE", names["task_states_table"])
    monkeypatch.setenv("GROUP_METAS_TABLE", names["group_metas_table"])
    monkeypatch.setenv("DYNAMODB_ENDPOINT_URL", dynamodb_url.replace("dynamodb://", "http://"))

    assert create_tables(["--region", "us-east-1"]) == 0

    for table in names.values():
        assert raw.client.describe_table(TableName=table)["Table"]["TableStatus"] == "ACTIVE"


def make_other_table(raw: Raw, name: str, *parts: tuple[str, str, str]) -> None:
    raw.client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": part, "KeyType": role} for part, role, _ in parts],
        AttributeDefinitions=[{"AttributeName": part, "AttributeType": kind} for part, _, kind in parts],
        BillingMode="PAY_PER_REQUEST",
    )


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        ([("Id", "HASH", "S")], "Id (S)"),
        ([("TaskUUID", "HASH", "N")], "TaskUUID (N)"),
        ([("TaskUUID", "HASH", "S"), ("At", "RANGE", "N")], "TaskUUID (S) and At (N)"),
    ],
)
def test_another_table_of_that_name_is_an_error(
    create: Callable[..., int],
    examine: Callable[[], list[Finding]],
    names: dict[str, str],
    raw: Raw,
    parts: list[tuple[str, str, str]],
    key: str,
) -> None:
    make_other_table(raw, names["task_states_table"], *parts)

    with pytest.raises(ConfigError) as caught:
        create()

    assert f"the key {key}, and ours has TaskUUID (S)" in str(caught.value)
    assert "--task-states-table" in str(caught.value)
    assert f"the key {key}" in said(examine(), "error")


def test_a_table_that_expires_by_another_attribute_is_an_error(
    create: Callable[..., int], examine: Callable[[], list[Finding]], names: dict[str, str], raw: Raw
) -> None:
    make_other_table(raw, names["task_states_table"], ("TaskUUID", "HASH", "S"))
    raw.client.update_time_to_live(
        TableName=names["task_states_table"],
        TimeToLiveSpecification={"Enabled": True, "AttributeName": "GoneAt"},
    )

    with pytest.raises(ConfigError, match="by the attribute GoneAt"):
        create()

    assert "ENABLED by GoneAt" in said(examine(), "warning")


def test_missing_tables_and_tables_that_never_expire_are_found(
    examine: Callable[[], list[Finding]], names: dict[str, str], raw: Raw
) -> None:
    make_other_table(raw, names["group_metas_table"], ("GroupUUID", "HASH", "S"))

    found = examine()

    assert names["task_states_table"] in said(found, "error")
    assert "create-tables" in said(found, "error")
    assert "never deleted" in said(found, "warning")


def test_a_table_that_does_not_get_ready_is_unavailable(
    create: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = _tables.describe

    def still_creating(*arguments: Any) -> dict[str, Any] | None:
        found = describe(*arguments)
        return found and {**found, "TableStatus": "CREATING"}

    monkeypatch.setattr(_tables, "describe", still_creating)

    with pytest.raises(BackendUnavailable, match="still CREATING after 0"):
        create("--timeout", "0")


def test_a_table_that_is_not_ready_is_found(
    create: Callable[..., int], examine: Callable[[], list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    create()
    describe = _tables.describe

    def being_deleted(*arguments: Any) -> dict[str, Any] | None:
        found = describe(*arguments)
        return found and {**found, "TableStatus": "DELETING"}

    monkeypatch.setattr("machinery_backend_dynamodb._examination.describe", being_deleted)

    assert "is DELETING" in said(examine(), "error")


def test_what_may_not_be_asked_is_a_warning(
    create: Callable[..., int], examine: Callable[[], list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    create()

    def refuse(*_: Any) -> tuple[str, str]:
        raise ConfigError("this identity has not the rights")

    monkeypatch.setattr("machinery_backend_dynamodb._examination.expiry_of", refuse)

    assert "cannot be told: this identity" in said(examine(), "warning")


@pytest.mark.parametrize("arguments", [["--billing", "free"], ["--read-capacity", "0"], ["--speed", "9"]], ids=str)
def test_wrong_use_ends_with_the_usual_status(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        create_tables(arguments)

    assert caught.value.code == 2
    assert "machinery dynamodb create-tables" in capsys.readouterr().err


def test_the_class_offers_the_command() -> None:
    assert DynamodbBackend.commands == {"create-tables": create_tables}
