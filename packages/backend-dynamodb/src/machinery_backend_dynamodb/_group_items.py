"""The items of the groups' table, one at a time: read unless their time is over, and let live."""

from __future__ import annotations

from contextlib import suppress
from time import time
from typing import TYPE_CHECKING

from machinery_backend_dynamodb import _keys as names
from machinery_backend_dynamodb._batches import Item, Wanted, read_together
from machinery_backend_dynamodb._errors import ConditionFailed
from machinery_backend_dynamodb._items import is_over
from machinery_backend_dynamodb._values import number, text

if TYPE_CHECKING:
    from machinery_backend_dynamodb._client import Client


class GroupItems:
    """The items of one table. Every method raises as `Client.call`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.table = client.options.group_metas_table

    def wanted(self, key: str, *attributes: str) -> Wanted:
        """What to read of an item."""
        return Wanted(self.table, names.GROUP_UUID, (key,), attributes)

    def read(self, key: str, *attributes: str) -> Item | None:
        """An item, or some of its attributes, unless its time is over."""
        wanted = self.wanted(key, *((*attributes, names.TTL) if attributes else ()))
        item = read_together(self._client, [wanted])[0].get(key)
        return None if item is None or is_over(item, time()) else item

    def set_ttl(self, key: str, until: int, *, closed: bool = False) -> None:
        """Let an item live until then, if it is there; ``closed``: and say of a tally that its group has ended."""
        attributes = {"#group": names.GROUP_UUID, "#ttl": names.TTL}
        values = {":until": number(until)}
        if closed:
            attributes["#closed"] = names.CLOSED
            values[":true"] = {"BOOL": True}
        with suppress(ConditionFailed):
            self._client.call(
                "update_item",
                TableName=self.table,
                Key={names.GROUP_UUID: text(key)},
                UpdateExpression="SET #ttl = :until" + (", #closed = :true" if closed else ""),
                ConditionExpression="attribute_exists(#group)",
                ExpressionAttributeNames=attributes,
                ExpressionAttributeValues=values,
            )
