"""Backends on two tables of the shared DynamoDB, and a plain client to look behind the scenes and to play Go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from machinery.abc import Config
from machinery_backend_dynamodb import DynamodbBackend
from tests.contracts.made import Made


def raw_client(url: str) -> Any:
    """A plain client of the DynamoDB at ``url``."""
    import boto3  # noqa: PLC0415 - present where the URL is

    return boto3.session.Session().client(
        "dynamodb", region_name="us-east-1", endpoint_url=f"http://{urlsplit(url).netloc}"
    )


@pytest.fixture
def dynamodb_tables(dynamodb_url: str) -> dict[str, str]:
    """Two empty tables of the test's own."""
    from tests.services.dynamodb import create_tables  # noqa: PLC0415 - present where the URL is

    return create_tables(dynamodb_url)


@pytest.fixture
def config(dynamodb_tables: dict[str, str]) -> Config:
    """Of one who leaves a busy machine its time."""
    return Config(connect_timeout=30, sections={"dynamodb": dynamodb_tables})


@pytest.fixture
def make_backend(dynamodb_url: str, config: Config) -> Iterator[Callable[..., DynamodbBackend]]:
    def make(**changes: Any) -> DynamodbBackend:
        return DynamodbBackend.from_url(dynamodb_url, config.with_(**changes))

    with Made(make) as made:
        yield made


@pytest.fixture
def backend(make_backend: Callable[..., DynamodbBackend]) -> DynamodbBackend:
    return make_backend()


class Raw:
    """The two tables as they are."""

    def __init__(self, client: Any, tables: dict[str, str]) -> None:
        self.client = client
        self.records = tables["task_states_table"]
        self.groups = tables["group_metas_table"]

    def record(self, uuid: str = "u1") -> dict[str, Any] | None:
        """The item of a task."""
        return self._item(self.records, {"TaskUUID": {"S": uuid}})

    def group(self, key: str = "group_1") -> dict[str, Any] | None:
        """An item of the groups' table."""
        return self._item(self.groups, {"GroupUUID": {"S": key}})

    def put_record(self, uuid: str = "u1", **attributes: dict[str, Any]) -> None:
        """Write the item of a task as it is given."""
        self.client.put_item(TableName=self.records, Item={"TaskUUID": {"S": uuid}, **attributes})

    def put_group(self, key: str = "group_1", **attributes: dict[str, Any]) -> None:
        """Write an item of the groups' table as it is given."""
        self.client.put_item(TableName=self.groups, Item={"GroupUUID": {"S": key}, **attributes})

    def set_group(self, name: str, value: dict[str, Any], key: str = "group_1") -> None:
        """Change one attribute of a group, as Go does, unless it is not there."""
        self.client.update_item(
            TableName=self.groups,
            Key={"GroupUUID": {"S": key}},
            UpdateExpression="SET #name = :value",
            ConditionExpression="attribute_exists(GroupUUID)",
            ExpressionAttributeNames={"#name": name},
            ExpressionAttributeValues={":value": value},
        )

    def group_keys(self) -> list[str]:
        """Of all items of the groups' table."""
        return sorted(item["GroupUUID"]["S"] for item in self.client.scan(TableName=self.groups)["Items"])

    def _item(self, table: str, key: dict[str, Any]) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.client.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
        return found


@pytest.fixture
def raw(dynamodb_url: str, dynamodb_tables: dict[str, str]) -> Iterator[Raw]:
    with closing(raw_client(dynamodb_url)) as client:
        yield Raw(client, dynamodb_tables)
