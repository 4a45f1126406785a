"""The application's own boto3 clients."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config as ClientConfig

from machinery.abc import Config, GroupMeta, Signature, State, TaskState
from machinery.errors import Closed, ConfigError
from machinery_backend_dynamodb import DynamodbBackend


@pytest.fixture(params=[{}, {"retries": {"mode": "standard"}}, {"max_pool_connections": 1}], ids=str)
def client(request: pytest.FixtureRequest, dynamodb_url: str) -> Iterator[Any]:
    session = boto3.session.Session()
    endpoint = f"http://{urlsplit(dynamodb_url).netloc}"
    with closing(
        session.client("dynamodb", "us-east-1", endpoint_url=endpoint, config=ClientConfig(**request.param))
    ) as made:
        yield made


def test_any_client_will_do_and_stays_the_applications(client: Any, dynamodb_tables: dict[str, str]) -> None:
    backend = DynamodbBackend(client, None, **dynamodb_tables)
    states = [TaskState(f"u{number}", "add") for number in range(40)]
    backend.submit(states)
    stored = backend.save([TaskState(state.task_uuid, "", State.SUCCESS, ()) for state in states])
    assert backend.load([state.task_uuid for state in states]) == stored
    backend.create_group(GroupMeta("g", ("u1",), created_at=stored[0].created_at), Signature("sum"))
    assert backend.finish_members([("g", "u1")]) == [1]
    assert backend.claim_chord("g", "u1")
    assert backend.load_group("g").callback == Signature("sum")
    assert backend.examine()

    backend.close()

    assert client.list_tables()
    with pytest.raises(Closed):
        backend.load(["u1"])


@pytest.mark.parametrize("wrong", [None, "dynamodb", object()], ids=["none", "text", "object"])
def test_what_is_no_client_is_a_config_error(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"boto3\.client\('dynamodb'\)"):
        DynamodbBackend(wrong)


def test_a_client_of_another_service_is_a_config_error() -> None:
    with closing(boto3.session.Session().client("sqs", "eu-west-1")) as client, pytest.raises(ConfigError):
        DynamodbBackend(client)


def test_wrong_options_are_a_config_error(client: Any) -> None:
    with pytest.raises(ConfigError, match="did you mean 'task_states_table'"):
        DynamodbBackend(client, task_state_table="x")


def test_options_win_over_the_section(client: Any) -> None:
    config = Config(sections={"dynamodb": {"task_states_table": "ours", "max_connections": 3}})

    backend = DynamodbBackend(client, config, task_states_table="theirs")

    assert (backend._client.options.task_states_table, backend._client.options.max_connections) == ("theirs", 3)


def test_many_threads_share_a_backend(client: Any, dynamodb_tables: dict[str, str]) -> None:
    backend = DynamodbBackend(client, None, **dynamodb_tables, max_connections=3)
    answers: list[bool] = []

    def work(thread: int) -> None:
        for number in range(5):
            states = [TaskState(f"u{thread}-{number}-{each}", "add") for each in range(3)]
            stored = backend.save(states)
            answers.append(backend.load([state.task_uuid for state in states]) == stored)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [True] * 40
    backend.close()


def test_one_who_closes_ends_what_others_wait_for(client: Any, dynamodb_tables: dict[str, str]) -> None:
    backend = DynamodbBackend(client, None, **dynamodb_tables, max_connections=2)
    backend.load(["u1"])
    errors: list[BaseException | None] = []

    def work() -> None:
        try:
            for _ in range(1000):
                backend.save([TaskState(f"u{number}", "add") for number in range(50)])
        except Closed as error:
            errors.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    while backend._client._pool is None:
        worker.join(0.01)
    backend.close()
    worker.join(20)

    assert len(errors) == 1
