"""What `machinery doctor` finds about the tables: what workers cannot do without, and what costs or loses records in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from machinery.abc import Finding
from machinery.errors import ConfigError, Unsupported
from machinery_backend_dynamodb import _keys as names
from machinery_backend_dynamodb._tables import EXPIRING, describe, expiry_of, has_key, key_text, tables_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machinery_backend_dynamodb._client import Client
    from machinery_backend_dynamodb._tables import Table

_MAKE = "make it with `machinery dynamodb create-tables`"


def examine(client: Client) -> list[Finding]:
    """The findings about both tables. Raises `BackendUnavailable`, and `ConfigError` for missing or wrong credentials."""
    return [finding for table in tables_of(client.options) for finding in _examine_table(client, table)]


def _examine_table(client: Client, table: Table) -> Iterator[Finding]:
    found = describe(client, table)
    if found is None:
        yield Finding(
            "error",
            f"DynamoDB at {client.address} has no table {table.name!r} (dynamodb.{table.option}; key {table.key}, a string); "
            f"{_MAKE}",
        )
        return
    yield from _key(found, table)
    yield from _status(found, table)
    yield from _expiry(client, table)
    yield from _capacity(found, table)


def _key(found: dict[str, Any], table: Table) -> Iterator[Finding]:
    if has_key(found, table):
        yield Finding("ok", f"the table {table.name!r} has the key {table.key}")
    else:
        yield Finding(
            "error",
            f"the table {table.name!r} has the key {key_text(found)}, and ours has {table.key} (S) alone: nothing can be stored; "
            f"name another in dynamodb.{table.option}",
        )


def _status(found: dict[str, Any], table: Table) -> Iterator[Finding]:
    status = found.get("TableStatus", "ACTIVE")
    if status not in {"ACTIVE", "UPDATING"}:
        yield Finding("error", f"the table {table.name!r} is {status}: it can be neither read nor written")


def _expiry(client: Client, table: Table) -> Iterator[Finding]:
    try:
        status, attribute = expiry_of(client, table)
    except (ConfigError, Unsupported) as error:  # the right to ask this is another one, and work does not need it
        yield Finding("warning", f"whether the table {table.name!r} expires cannot be told: {error}")
        return
    if status in EXPIRING and attribute == names.TTL:
        yield Finding("ok", f"the table {table.name!r} expires by {names.TTL}")
    else:
        by = f" by {attribute}" if attribute and attribute != names.TTL else ""
        yield Finding(
            "warning",
            f"time to live of the table {table.name!r} is {status}{by}: what has expired is never deleted, and storing it is "
            "paid for; `machinery dynamodb create-tables` switches it on, by " + names.TTL,
        )


def _capacity(found: dict[str, Any], table: Table) -> Iterator[Finding]:
    units = found.get("ProvisionedThroughput") or {}
    billing = (found.get("BillingModeSummary") or {}).get("BillingMode", "PROVISIONED")
    reads, writes = int(units.get("ReadCapacityUnits") or 0), int(units.get("WriteCapacityUnits") or 0)
    if billing == "PROVISIONED" and writes:
        yield Finding(
            "ok",
            f"the table {table.name!r} is provisioned for {reads} reads and {writes} writes of small items a second; a task "
            "writes about four, and workers wait while it is exceeded",
        )
