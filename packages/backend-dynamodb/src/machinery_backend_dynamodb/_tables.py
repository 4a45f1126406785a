"""The two tables: what they must look like, and how they come to be."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from machinery.errors import BackendUnavailable, ConfigError, Unsupported
from machinery_backend_dynamodb import _keys as names
from machinery_backend_dynamodb._errors import TableInUse, TableMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machinery_backend_dynamodb._client import Client
    from machinery_backend_dynamodb._options import DynamodbOptions

PAUSE = 0.2
"""Seconds between two looks whether a table is ready; AWS takes some ten seconds."""

EXPIRING = frozenset({"ENABLED", "ENABLING"})
"""What DynamoDB says of a table's time to live that is switched on."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table as it must be: Go's (protocol §6.3)."""

    name: str
    key: str
    """The attribute, a string, that is the whole key."""
    option: str
    """The option that names it."""


def tables_of(options: DynamodbOptions) -> tuple[Table, Table]:
    """That of the records and that of the groups."""
    return (
        Table(options.task_states_table, names.TASK_UUID, "task_states_table"),
        Table(options.group_metas_table, names.GROUP_UUID, "group_metas_table"),
    )


def describe(client: Client, table: Table) -> dict[str, Any] | None:
    """What DynamoDB says of a table; ``None``: it is not there. Raises as `Client.call`."""
    try:
        found: dict[str, Any] = client.call("describe_table", TableName=table.name)["Table"]
    except TableMissing:
        return None
    return found


def has_key(found: dict[str, Any], table: Table) -> bool:
    """Whether a table has the key that it must have."""
    kinds = {one["AttributeName"]: one["AttributeType"] for one in found.get("AttributeDefinitions", ())}
    return [(one["AttributeName"], one["KeyType"]) for one in found.get("KeySchema", ())] == [
        (table.key, "HASH")
    ] and kinds.get(table.key) == "S"


def key_text(found: dict[str, Any]) -> str:
    """The key of a table, for people."""
    kinds = {one["AttributeName"]: one["AttributeType"] for one in found.get("AttributeDefinitions", ())}
    parts = [f"{one['AttributeName']} ({kinds.get(one['AttributeName'], '?')})" for one in found.get("KeySchema", ())]
    return " and ".join(parts)


def expiry_of(client: Client, table: Table) -> tuple[str, str]:
    """Whether DynamoDB deletes what is over (``ENABLED``, ``ENABLING``, ``DISABLED``, …), and by which attribute."""
    found = client.call("describe_time_to_live", TableName=table.name).get("TimeToLiveDescription", {})
    return str(found.get("TimeToLiveStatus", "DISABLED")), str(found.get("AttributeName", ""))


def create(client: Client, table: Table, capacity: tuple[int, int] | None, patience: float) -> Iterator[str]:
    """Make a table unless it is there, wait until it is ready, and let DynamoDB delete what is over. Says what it does.

    Safe to call again, and by several at once.

    ``capacity``: units for reads and writes; ``None``: on demand. ``patience``: seconds. Raises `ConfigError` where another
    table has that name, `BackendUnavailable` where it does not get ready in time.
    """
    found = describe(client, table)
    if found is None:
        yield f"creating {table.name} (key {table.key}, a string)"
        with suppress(TableInUse):  # somebody was quicker, or we were, and the answer was lost
            client.call("create_table", **_definition(table, capacity))
        _require_key(client, table, _wait_until_active(client, table, patience))
    else:
        _require_key(client, table, found)
        yield f"{table.name} is there already"
        _wait_until_active(client, table, patience)
    status, attribute = expiry_of(client, table)
    if status in EXPIRING:
        if attribute != names.TTL:
            raise ConfigError(
                f"the table {table.name!r} lets DynamoDB delete by the attribute {attribute}, and ours is {names.TTL}; switch "
                "that off first, or give another name"
            )
        yield f"{table.name} expires by {names.TTL} already"
        return
    _let_expire(client, table)
    yield f"{table.name} expires by {names.TTL} from now on"


def _require_key(client: Client, table: Table, found: dict[str, Any]) -> None:
    if not has_key(found, table):
        raise ConfigError(
            f"DynamoDB at {client.address} has a table {table.name!r} with the key {key_text(found)}, and ours has {table.key} "
            f"(S); give another name with --{table.option.replace('_', '-')}, and set dynamodb.{table.option} to it"
        )


def _let_expire(client: Client, table: Table) -> None:
    try:
        client.call(
            "update_time_to_live",
            TableName=table.name,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": names.TTL},
        )
    except Unsupported:
        status, attribute = expiry_of(client, table)
        if status not in EXPIRING or attribute != names.TTL:
            raise  # else somebody was quicker, or we were, and the answer was lost


def _definition(table: Table, capacity: tuple[int, int] | None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "TableName": table.name,
        "AttributeDefinitions": [{"AttributeName": table.key, "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": table.key, "KeyType": "HASH"}],
    }
    if capacity is None:
        return made | {"BillingMode": "PAY_PER_REQUEST"}
    reads, writes = capacity
    return made | {
        "BillingMode": "PROVISIONED",
        "ProvisionedThroughput": {"ReadCapacityUnits": reads, "WriteCapacityUnits": writes},
    }


def _wait_until_active(client: Client, table: Table, patience: float) -> dict[str, Any]:
    deadline = monotonic() + patience
    while True:
        found = describe(client, table) or {}
        status = found.get("TableStatus", "CREATING")
        if status in {"ACTIVE", "UPDATING"}:
            return found
        if monotonic() > deadline:
            raise BackendUnavailable(
                f"the table {table.name!r} of DynamoDB at {client.address} is still {status} after {patience:g} seconds; "
                "call this again later"
            )
        sleep(PAUSE)
