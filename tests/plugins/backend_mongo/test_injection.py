"""The application's own pymongo client, however it is set up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo.read_preferences import ReadPreference

from machinery.abc import Config, GroupMeta, Signature, State, TaskResult, TaskState
from machinery.errors import Closed, ConfigError
from machinery_backend_mongo import MongoBackend
from machinery_backend_mongo._client import SAFE

STATE = TaskState("u1", "add", State.PENDING, created_at=datetime(2024, 3, 1, 12, 30, 45, tzinfo=UTC))


def connected(url: str = "", **options: Any) -> pymongo.MongoClient[Any]:
    return pymongo.MongoClient(url or None, **options)


@pytest.fixture(
    params=[
        {},
        {"tz_aware": False},
        {"tz_aware": True},
        {"document_class": RawBSONDocument},
        {"timeoutMS": 5000},
        {"w": 1},
        {"readPreference": "secondaryPreferred"},
        {"uuidRepresentation": "standard", "retryWrites": False},
    ],
    ids=str,
)
def client(request: pytest.FixtureRequest, mongo_database: str) -> Iterator[pymongo.MongoClient[Any]]:
    with connected(mongo_database, **request.param) as made:
        yield made


def check(backend: MongoBackend) -> None:
    backend.submit([STATE])
    assert backend.load(["u1", "u2"]) == [STATE, None]
    assert backend.wait(["u1"], 0.1) == [STATE]
    (saved,) = backend.save([TaskState("u1", "", State.SUCCESS, (TaskResult("int64", 5),))])
    assert backend.wait(["u1"], 1) == [saved]
    both = backend.save([TaskState(uuid, "", State.SUCCESS, ()) for uuid in ("u2", "u3")])
    assert backend.load(["u2", "u3"]) == both
    backend.create_group(GroupMeta("g", ("u1",)), Signature("sum"))
    assert backend.load_group("g").callback == Signature("sum")
    assert backend.finish_members([("g", "u1")]) == [1]
    assert backend.claim_chord("g", "u1")
    backend.close_group("g")
    backend.forget(["u1"])
    assert backend.examine()


def test_any_client_will_do_and_stays_the_applications(client: pymongo.MongoClient[Any]) -> None:
    backend = MongoBackend(client)
    check(backend)

    backend.close()

    assert client.admin.command("ping")
    assert client.get_default_database().tasks.find_one({"_id": "u2"})
    with pytest.raises(Closed):
        backend.load(["u1"])


def test_its_write_concern_holds_and_reads_go_to_the_primary(mongo_database: str) -> None:
    with (
        connected(mongo_database, readPreference="secondary") as plain,
        connected(mongo_database, w=1, journal=False) as quick,
    ):
        for client, concern in ((plain, SAFE), (quick, quick.write_concern)):
            backend = MongoBackend(client)
            with backend._client.calls() as store:
                assert all(collection.write_concern == concern for collection in store)
                assert store.tasks.read_preference == ReadPreference.PRIMARY
            backend.close()


def test_a_client_that_wants_no_answers_is_refused(mongo_database: str) -> None:
    with connected(mongo_database, w=0) as client:
        backend = MongoBackend(client)
        with pytest.raises(ConfigError, match="w=0"):
            backend.load(["u1"])


def test_the_options_choose_the_database(mongo_url: str, mongo_database: str) -> None:
    name = mongo_database.rpartition("/")[2]
    with connected(mongo_url) as client:
        MongoBackend(client, Config(sections={"mongodb": {"database": "another"}}), database=name).submit([STATE])

        assert client[name].tasks.find_one({"_id": "u1"})
        assert MongoBackend(client)._client._database == "machinery"
    with connected(mongo_database) as client:
        assert MongoBackend(client)._client._database == name
        assert MongoBackend(client, ignore_url_database=True)._client._database == "machinery"


def test_wrong_options_are_a_config_error() -> None:
    with connected(connect=False) as client:
        with pytest.raises(ConfigError, match="did you mean 'database'"):
            MongoBackend(client, databse="x")
        with pytest.raises(ConfigError, match=r"not Database"):
            MongoBackend(client["x"])  # type: ignore[arg-type]  # that is the mistake


def test_a_client_that_the_application_closed_is_closed(mongo_database: str) -> None:
    client = connected(mongo_database)
    backend = MongoBackend(client)
    backend.submit([STATE])
    client.close()

    with pytest.raises(Closed):
        backend.load(["u1"])
