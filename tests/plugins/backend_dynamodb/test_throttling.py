"""A DynamoDB that is asked for too much: asked again, for a while, with growing pauses. DynamoDB Local never throttles."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from machinery.abc import Config, GroupMeta, State, TaskState
from machinery.errors import BackendUnavailable, ConfigError, Unsupported
from machinery_backend_dynamodb import DynamodbBackend, _client
from machinery_backend_dynamodb._client import LONGEST_PAUSE, Pauses

STATE = TaskState("u1", "add", State.STARTED)
ITEM = {"TaskUUID": {"S": "u1"}, "State": {"S": "STARTED"}}
OTHER = {"TaskUUID": {"S": "u2"}, "State": {"S": "STARTED"}}
TALLY = {
    "GroupUUID": {"S": "g/machinery/tally"},
    "Finished": {"N": "4"},
    "Generation": {"S": "a"},
    "Renewed": {"N": str(int(time.time()))},
}


@pytest.fixture
def client() -> Iterator[Any]:
    made = boto3.session.Session().client(
        "dynamodb",
        region_name="eu-west-1",
        aws_access_key_id="an id",
        aws_secret_access_key="hunter2",  # noqa: S106 - a secret that must not be seen
    )
    yield made
    made.close()


@pytest.fixture
def stub(client: Any) -> Iterator[Stubber]:
    """What DynamoDB is to answer, in order."""
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def backend(client: Any) -> Iterator[DynamodbBackend]:
    made = DynamodbBackend(client, Config(), read_timeout=30)
    yield made
    made.close()


@pytest.mark.parametrize(
    "code",
    [
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
        "InternalServerError",
        "TransactionConflictException",
        "TransactionInProgressException",
    ],
)
def test_what_passes_is_sat_out(stub: Stubber, backend: DynamodbBackend, code: str) -> None:
    for _ in range(3):
        stub.add_client_error("update_item", code, "later")
    stub.add_response("update_item", {"Attributes": ITEM})

    assert backend.save([STATE]) == [TaskState("u1", "", State.STARTED)]


def test_an_error_of_the_server_is_sat_out_whatever_it_is_called(stub: Stubber, backend: DynamodbBackend) -> None:
    stub.add_client_error("update_item", "SomethingNew", "later", http_status_code=503)
    stub.add_response("update_item", {"Attributes": ITEM})

    assert backend.save([STATE])


def test_a_throttling_that_goes_on_is_unavailable_in_time(client: Any) -> None:
    backend = DynamodbBackend(client, read_timeout=0.5)
    with Stubber(client) as stub:
        for _ in range(50):
            stub.add_client_error("update_item", "ThrottlingException", "Rate exceeded")
        began = time.monotonic()

        with pytest.raises(BackendUnavailable, match="more capacity") as caught:
            backend.save([STATE])

        assert time.monotonic() - began < 10
        assert "hunter2" not in str(caught.value)


def test_what_no_waiting_mends_is_not_waited_for(stub: Stubber, backend: DynamodbBackend) -> None:
    for code, expected in (("AccessDeniedException", ConfigError), ("ValidationException", Unsupported)):
        stub.add_client_error("update_item", code, "no")
        with pytest.raises(expected, match="no"):
            backend.save([STATE])


def test_keys_that_were_not_read_are_read_again(stub: Stubber, backend: DynamodbBackend) -> None:
    rest = {"task_states": {"Keys": [{"TaskUUID": {"S": "u2"}}], "ConsistentRead": True}}
    stub.add_response("batch_get_item", {"Responses": {"task_states": [ITEM]}, "UnprocessedKeys": rest})
    stub.add_response("batch_get_item", {"Responses": {"task_states": []}, "UnprocessedKeys": rest})
    stub.add_response(
        "batch_get_item", {"Responses": {"task_states": [OTHER]}, "UnprocessedKeys": {}}, {"RequestItems": rest}
    )

    found = backend.load(["u2", "u1"])

    assert [state and state.task_uuid for state in found] == ["u2", "u1"]


def test_items_that_were_not_written_are_written_again(stub: Stubber, backend: DynamodbBackend) -> None:
    rest = {"task_states": [{"DeleteRequest": {"Key": {"TaskUUID": {"S": "u2"}}}}]}
    stub.add_response("batch_write_item", {"UnprocessedItems": rest})
    stub.add_response("batch_write_item", {}, {"RequestItems": rest})

    backend.forget(["u1", "u2"])


def test_statements_that_were_throttled_are_carried_out_again(stub: Stubber, backend: DynamodbBackend) -> None:
    throttled, gone = {"Error": {"Code": "ThrottlingError"}}, {"Error": {"Code": "ConditionalCheckFailed"}}
    stub.add_response("batch_execute_statement", {"Responses": [{}, throttled, gone, throttled]})
    stub.add_response("batch_execute_statement", {"Responses": [{}, {}]})
    stub.add_response("batch_write_item", {})

    backend.create_group(GroupMeta("g", ("u1", "u2", "u3", "u4")))


def test_records_that_no_statement_may_write_are_updated_one_by_one(client: Any) -> None:
    backend = DynamodbBackend(client, read_timeout=30, max_connections=1)
    refused = {"Error": {"Code": "AccessDenied", "Message": "PartiQLUpdate"}}
    with Stubber(client) as stub:
        stub.add_response("batch_execute_statement", {"Responses": [{"Error": {"Code": "ThrottlingError"}}, refused]})
        stub.add_response("batch_execute_statement", {"Responses": [{"Item": ITEM}]})
        stub.add_response("update_item", {"Attributes": OTHER})

        stored = backend.save([STATE, TaskState("u2", "add", State.STARTED)])

        assert [state.task_uuid for state in stored] == ["u1", "u2"]
        stub.assert_no_pending_responses()


@pytest.mark.parametrize(("code", "expected"), [("AccessDenied", ConfigError), ("ValidationError", Unsupported)])
def test_statements_that_are_refused_are_an_error(
    stub: Stubber, backend: DynamodbBackend, code: str, expected: type[Exception]
) -> None:
    stub.add_response("batch_execute_statement", {"Responses": [{"Error": {"Code": code, "Message": "no"}}]})

    with pytest.raises(expected, match=code):
        backend.create_group(GroupMeta("g", ("u1",)))


def test_a_statement_for_a_record_that_is_full_is_no_error(stub: Stubber, backend: DynamodbBackend) -> None:
    full = {"Code": "ValidationError", "Message": "Item size to update has exceeded the maximum allowed size"}
    stub.add_response("batch_execute_statement", {"Responses": [{"Error": full}, {}]})
    stub.add_response("batch_write_item", {})

    backend.create_group(GroupMeta("g", ("u1", "u2")))


@pytest.mark.parametrize("operation", ["batch_get_item", "batch_write_item", "batch_execute_statement"])
def test_what_is_never_carried_out_is_unavailable(client: Any, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_client, "FIRST_PAUSE", 0.2)
    backend = DynamodbBackend(client, read_timeout=0.3)
    key = {"TaskUUID": {"S": "u1"}}
    answers = {
        "batch_get_item": {"Responses": {}, "UnprocessedKeys": {"task_states": {"Keys": [key]}}},
        "batch_write_item": {"UnprocessedItems": {"task_states": [{"DeleteRequest": {"Key": key}}]}},
        "batch_execute_statement": {"Responses": [{"Error": {"Code": "ThrottlingError"}}]},
    }
    calls: dict[str, Callable[[], Any]] = {
        "batch_get_item": lambda: backend.load(["u1"]),
        "batch_write_item": lambda: backend.forget(["u1"]),
        "batch_execute_statement": lambda: backend.create_group(GroupMeta("g", ("u1",))),
    }
    with Stubber(client) as stub:
        for _ in range(9):
            stub.add_response(operation, answers[operation])
        with pytest.raises(BackendUnavailable, match="more capacity"):
            calls[operation]()


def test_a_transaction_in_conflict_is_made_again(stub: Stubber, backend: DynamodbBackend) -> None:
    stub.add_response("batch_get_item", {"Responses": {"group_metas": [TALLY], "task_states": []}})
    reasons = {"CancellationReasons": [{"Code": "TransactionConflict"}, {"Code": "None"}]}
    stub.add_client_error("transact_write_items", "TransactionCanceledException", modeled_fields=reasons)
    stub.add_response("transact_write_items", {})

    assert backend.finish_members([("g", "u1")]) == [5]


def test_a_transaction_that_others_spoil_is_made_anew_upon_what_they_left(
    stub: Stubber, backend: DynamodbBackend
) -> None:
    later = {**TALLY, "Finished": {"N": "6"}}
    stub.add_response("batch_get_item", {"Responses": {"group_metas": [TALLY], "task_states": []}})
    reasons = {
        "CancellationReasons": [
            {"Code": "ConditionalCheckFailed"},
            {"Code": "ConditionalCheckFailed"},
            {"Code": "None"},
        ]
    }
    stub.add_client_error("transact_write_items", "TransactionCanceledException", modeled_fields=reasons)
    stub.add_response("batch_get_item", {"Responses": {"group_metas": [later]}})
    stub.add_response("transact_write_items", {}, {"TransactItems": ANY})

    assert backend.finish_members([("g", "u1"), ("g", "u2")]) == [6, 7]


def test_a_counter_that_others_move_all_the_time_is_unavailable(client: Any) -> None:
    backend = DynamodbBackend(client, read_timeout=0.3)
    reasons = {"CancellationReasons": [{"Code": "ConditionalCheckFailed"}, {"Code": "None"}]}
    with Stubber(client) as stub:
        for _ in range(30):
            stub.add_response("batch_get_item", {"Responses": {"group_metas": [TALLY], "task_states": []}})
            stub.add_client_error("transact_write_items", "TransactionCanceledException", modeled_fields=reasons)

        with pytest.raises(BackendUnavailable, match="all the time"):
            backend.finish_members([("g", "u1")])


def test_pauses_grow_to_a_limit_and_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count()
    taken: list[float] = []
    monkeypatch.setattr(_client, "monotonic", lambda: 0.01 * next(now) + sum(taken))
    monkeypatch.setattr(_client, "sleep", taken.append)
    pauses = Pauses(20)

    while pauses.take():
        pass

    assert sum(taken) <= 20
    assert taken[0] <= 0.025
    assert LONGEST_PAUSE / 2 <= taken[-1] <= LONGEST_PAUSE
    assert all(later > earlier * 0.99 for earlier, later in itertools.pairwise(taken[:4]))
