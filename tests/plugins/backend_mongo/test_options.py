"""URLs and the section: what they mean, and what is refused with a reason."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from machinery.abc import Config
from machinery.errors import ConfigError
from machinery_backend_mongo import MongoBackend, MongoOptions
from machinery_backend_mongo._options import MONGODB_SECTION, to_service


def service(url: str, **options: Any) -> Any:
    return to_service(url, Config(sections={"mongodb": options}))


@pytest.mark.parametrize(
    ("url", "options", "database"),
    [
        ("mongodb://h", {}, "machinery"),
        ("mongodb://h/", {}, "machinery"),
        ("mongodb://h/results", {}, "results"),
        ("mongodb://h/results?replicaSet=rs0", {}, "results"),
        ("mongodb://h/results", {"ignore_url_database": True}, "machinery"),
        ("mongodb://h/results?ignore_url_database=true", {}, "machinery"),
        ("mongodb://h/admin", {"database": "mine"}, "mine"),
        ("mongodb://h/admin", {"database": "mine", "ignore_url_database": True}, "mine"),
        ("mongodb://h?database=mine", {"database": "theirs"}, "mine"),
        ("mongodb://h:1,h2:2,[::1]:3/results", {}, "results"),
        ("MONGODB://h/results", {}, "results"),
        ("mongodb+srv://cluster.example.com/results", {}, "results"),
        ("mongodb+srv://cluster.example.com/results?srvMaxHosts=2&w=1", {}, "results"),
        ("mongodb://%2Ftmp%2Fmongodb-27017.sock/results", {}, "results"),
    ],
)
def test_the_database_is_the_sections_the_urls_or_gos(url: str, options: dict[str, Any], database: str) -> None:
    assert service(url, **options).database == database


def test_what_the_url_leaves_open_is_safe_and_in_time() -> None:
    found = to_service("mongodb://h/results", Config(connect_timeout=3))

    assert found.settings == {
        "appname": "machinery",
        "connecttimeoutms": 3000,
        "journal": True,
        "serverselectiontimeoutms": 15_000,
        "w": "majority",
    }
    assert found.answer_timeout == timedelta(seconds=15)


def test_what_the_url_says_stands() -> None:
    said = "w=1&journal=false&appName=mine&connectTimeoutMS=1&serverSelectionTimeoutMS=2&socketTimeoutMS=3"

    found = service(f"mongodb://h/?{said}")

    assert found.settings == {}
    assert found.answer_timeout is None
    assert said in found.url


def test_our_keys_in_the_url_are_not_shown_to_the_driver() -> None:
    found = service("mongodb://h?answer_timeout=2&replicaSet=rs0&connect_timeout=1", answer_timeout=9)

    assert found.url == "mongodb://h/?replicaSet=rs0"
    assert found.answer_timeout == timedelta(seconds=2)
    assert found.settings["connecttimeoutms"] == 1000
    assert found.settings["serverselectiontimeoutms"] == 2000


def test_no_limit_is_no_limit() -> None:
    found = service("mongodb://h", answer_timeout=0, connect_timeout=0)

    assert found.answer_timeout is None
    assert {"connecttimeoutms", "serverselectiontimeoutms"}.isdisjoint(found.settings)


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("mongodb://", {}, "names no host"),
        ("mongodb://h:port", {}, "host:port"),
        ("mongodb://h/?colour=red", {}, "colour"),
        ("mongodb://h/?w=0", {}, "w=0"),
        ("mongodb://h/?connectTimeoutMS=soon", {}, "connectTimeoutMS"),
        ("mongodb://h/?answer_timeout=soon", {}, "is 'soon'"),
        ("mongodb://h/?database=a.b", {}, "database is 'a.b'"),
        ("mongodb://h/a%20b", {}, "Bad database name"),
        ("mongodb://h/?tls=true&tlsCAFile=/nowhere/ca.pem", {}, "[Errno 2]"),
        ("mongodb://h/?tls=true&tlsCertificateKeyFile=/nowhere/key.pem", {}, "[Errno 2]"),
        ("mongodb+srv://h.example.com/?tlsCAFile=/nowhere/ca.pem", {}, "[Errno 2]"),
        ("mongodb://h/?tls=true&tlsCAFile=/", {}, "[Errno 21]"),
        ("mongodb+srv://a.example.com,b.example.com/", {}, "one name"),
        ("mongodb+srv://h.example.com:27017/", {}, "no port"),
        ("mongodb://h", {"databse": "d"}, "did you mean 'database'?"),
        ("mongodb://h", {"database": "x" * 64}, "63 bytes"),
        ("mongodb://h", {"ignore_url_database": "perhaps"}, "is 'perhaps'"),
    ],
)
def test_what_is_wrong_is_a_config_error_that_says_what(url: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MongoBackend.from_url(url, Config(sections={"mongodb": options}))

    assert said in str(caught.value)


@pytest.mark.parametrize("option", ["tlsCAFile", "tlsCRLFile", "tlsCertificateKeyFile"])
def test_a_file_for_tls_that_holds_something_else_is_a_config_error_at_the_first_call(
    tmp_path: Path, option: str
) -> None:
    path = tmp_path / "file.pem"
    path.write_text("rubbish")
    backend = MongoBackend.from_url(f"mongodb://me:hunter2@127.0.0.1:1/?tls=true&{option}={path}", Config())

    with pytest.raises(ConfigError) as caught:
        backend.load(["u1"])

    assert "hunter2" not in str(caught.value)
    backend.close()


def test_a_file_for_tls_that_went_away_is_a_config_error_at_the_first_call(tmp_path: Path) -> None:
    path = tmp_path / "file.pem"
    path.touch()
    backend = MongoBackend.from_url(f"mongodb://127.0.0.1:1/?tls=true&tlsCAFile={path}", Config())
    path.unlink()

    with pytest.raises(ConfigError):
        backend.load(["u1"])
    backend.close()


@pytest.mark.parametrize(
    "url", ["mongodb://me:hunter2@h/?colour=red", "mongodb://me:hun@ter2@h", "mongodb://me:hunter2@h/?authMechanism=no"]
)
def test_no_error_shows_a_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        service(url)

    assert "hunter2" not in str(caught.value)
    assert "ter2" not in str(caught.value)


def test_nothing_that_is_shown_shows_a_password() -> None:
    found = service("mongodb://me:hunter2@h/results")

    assert "hunter2" in found.url
    assert "hunter2" not in repr(found)
    assert found.address == "mongodb://me:***@h/results"


def test_the_environment_becomes_the_section() -> None:
    config = Config.from_env({"MONGODB_DATABASE": "mine", "MONGODB_ANSWER_TIMEOUT": "7"})

    assert to_service("mongodb://h", config).database == "mine"
    assert to_service("mongodb://h", config).answer_timeout == timedelta(seconds=7)
    assert set(MONGODB_SECTION.environment.values()) == MONGODB_SECTION.known_keys()
    assert MongoOptions().answer_timeout == timedelta(seconds=15)


def test_making_a_backend_asks_nobody() -> None:
    for url in ("mongodb://nowhere.invalid", "mongodb+srv://nowhere.invalid/results"):
        backend = MongoBackend.from_url(url, Config())
        assert backend.capabilities.largest_record is not None
        backend.close()
