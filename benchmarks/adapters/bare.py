"""No task queue: what a loop on redis-py does with the same records and messages, at least once. The yardstick of the machine.

One thread; nothing is leased, retried, joined or given back. It takes up to a hundred messages in one call of a script, which
keeps them until the results are stored, and stores those and forgets the messages in another.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from redis import Redis

from benchmarks import work

IS_ASYNC = False
AT_ONCE = 100
LIFETIME = 3_600_000
"""Milliseconds that a record lives."""

QUEUE, HELD, NUMBERS = "bare_tasks", "bare_held", "bare_numbers"
SEND = """
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return redis.call('RPUSH', KEYS[2], ARGV[3])
"""
TAKE = """
local bodies = redis.call('LPOP', KEYS[1], ARGV[1])
if not bodies then
    return {}
end
local first = redis.call('INCRBY', KEYS[3], #bodies) - #bodies
local held = {}
for i, body in ipairs(bodies) do
    held[2 * i - 1] = first + i
    held[2 * i] = body
end
redis.call('HSET', KEYS[2], unpack(held))
return {first, bodies}
"""

SAVE = """
for i = 2, #KEYS do
    redis.call('SET', KEYS[i], ARGV[i], 'PX', ARGV[1])
    redis.call('HDEL', KEYS[1], ARGV[#KEYS + i - 1])
end
"""

client = Redis.from_url(work.URL)
submit, take, save = map(client.register_script, (SEND, TAKE, SAVE))
encode = json.JSONEncoder(separators=(",", ":")).encode
ZEROS: dict[str, Any] = {
    "ETA": None, "GroupUUID": "", "GroupTaskCount": 0, "Headers": {}, "Priority": 0, "Immutable": False, "RetryCount": 0,
    "RetryTimeout": 0, "OnSuccess": None, "OnError": None, "ChordCallback": None, "BrokerMessageGroupId": "",
    "SQSReceiptHandle": "", "StopTaskDeletionOnError": False, "IgnoreWhenTaskNotRegistered": False,
}  # fmt: skip


def send(number: int) -> None:
    """Store the record of one task, and send it."""
    name = f"task_{uuid.uuid4()}"
    args = [{"Name": "", "Type": "int64", "Value": value} for value in (number, 1)]
    message = {"UUID": name, "Name": "add", "RoutingKey": QUEUE, "Args": args, **ZEROS}
    submit([name, QUEUE], [encode(record(name, "PENDING", None)), LIFETIME, encode(message)])


def work_on_all() -> None:
    """Run tasks until killed."""
    while True:
        taken = take([QUEUE, HELD, NUMBERS], [AT_ONCE])
        if not taken:
            client.blmove(QUEUE, QUEUE, 1, "LEFT", "LEFT")
            continue
        first, bodies = taken
        names, records = [], []
        for body in bodies:
            message = json.loads(body)
            value = work.add(*[arg["Value"] for arg in message["Args"]])
            names.append(message["UUID"])
            records.append(encode(record(names[-1], "SUCCESS", [{"Type": "int64", "Value": value}])))
        numbers = range(first + 1, first + 1 + len(bodies))
        save([HELD, *names], [LIFETIME, *records, *numbers])


def record(name: str, state: str, results: list[dict[str, Any]] | None) -> dict[str, Any]:
    """What is stored of a task."""
    return {
        "TaskUUID": name, "TaskName": "add", "State": state, "Results": results, "Error": "",
        "CreatedAt": "2024-03-01T12:30:40.123456Z", "TTL": 0,
    }  # fmt: skip


if __name__ == "__main__":
    work_on_all()
