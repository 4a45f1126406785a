"""URLs and the section: what they mean, and what is refused with a reason."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from machinery.abc import Config
from machinery.errors import ConfigError
from machinery_backend_dynamodb import DynamodbBackend, DynamodbOptions
from machinery_backend_dynamodb._options import DYNAMODB_SECTION, Service, to_service


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of AWS but what a test sets."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def service(url: str, **options: Any) -> Service:
    return to_service(url, Config(sections={"dynamodb": options}))


@pytest.mark.parametrize(
    ("url", "region", "endpoint"),
    [
        ("https://dynamodb.eu-west-1.amazonaws.com", "eu-west-1", ""),
        ("https://dynamodb.eu-west-1.amazonaws.com/", "eu-west-1", ""),
        ("https://dynamodb.cn-north-1.amazonaws.com.cn", "cn-north-1", ""),
        ("https://dynamodb.us-gov-west-1.amazonaws.com", "us-gov-west-1", ""),
        (
            "https://dynamodb-fips.us-east-1.amazonaws.com",
            "us-east-1",
            "https://dynamodb-fips.us-east-1.amazonaws.com",
        ),
        (
            "https://vpce-1a-2b.dynamodb.us-east-1.vpce.amazonaws.com",
            "us-east-1",
            "https://vpce-1a-2b.dynamodb.us-east-1.vpce.amazonaws.com",
        ),
        ("http://dynamodb.internal:8000", "home-1", "http://dynamodb.internal:8000"),
        ("dynamodb://eu-west-1", "eu-west-1", ""),
        ("DYNAMODB://EU-WEST-1", "eu-west-1", ""),
        ("dynamodb://", "home-1", ""),
        ("dynamodb://localhost:8000", "home-1", "http://localhost:8000"),
        ("dynamodb://127.0.0.1:8000/", "home-1", "http://127.0.0.1:8000"),
        ("dynamodb://[::1]:8000", "home-1", "http://[::1]:8000"),
        ("dynamodb://?region=eu-west-1", "eu-west-1", ""),
        (
            "https://vpce-0a1b-abcd-eu-west-2a.dynamodb.eu-west-2.vpce.amazonaws.com",
            "eu-west-2",
            "https://vpce-0a1b-abcd-eu-west-2a.dynamodb.eu-west-2.vpce.amazonaws.com",
        ),
        ("dynamodb://localhost:8000?region=local", "local", "http://localhost:8000"),
    ],
)
def test_a_url_names_a_region_or_an_endpoint(
    url: str, region: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "home-1")

    found = service(url)

    assert (found.options.region, found.options.endpoint_url) == (region, endpoint)
    assert found.address == (endpoint or region)


def test_the_region_is_found_where_aws_tools_find_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default]\nregion = eu-north-1\n")
    assert service("dynamodb://").options.region == "eu-north-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    assert service("dynamodb://").options.region == "eu-west-3"
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    assert service("dynamodb://").options.region == "eu-west-2"
    assert service("dynamodb://", region="eu-west-1").options.region == "eu-west-1"
    assert service("dynamodb://us-east-1", region="eu-west-1").options.region == "us-east-1"


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("dynamodb://", {}, "AWS_DEFAULT_REGION"),
        ("dynamodb://localhost:8000", {}, "DynamoDB Local takes any"),
        ("dynamodb://localhost", {}, "neither a region nor a host with its port"),
        ("dynamodb://me:hunter2@eu-west-1", {}, "no part of it; set AWS_ACCESS_KEY_ID"),
        ("dynamodb://eu-west-1/table", {}, "none of DynamoDB's"),
        ("dynamodb://eu-west-1,eu-west-2", {}, "none of DynamoDB's"),
        ("https://dynamodb.eu-west-1.amazonaws.com/table", {}, "none of DynamoDB's"),
        ("dynamodb://eu-west-1?speed=9", {}, "no key 'speed'"),
        ("dynamodb://eu-west-1?task_state_table=x", {}, "did you mean 'task_states_table'?"),
        ("dynamodb://eu-west-1", {"task_states_table": "a b"}, "3 to 255 letters"),
        ("dynamodb://eu-west-1", {"group_metas_table": ""}, "3 to 255 letters"),
        ("dynamodb://eu-west-1", {"task_states_table": "one", "group_metas_table": "one"}, "must differ"),
        ("dynamodb://eu-west-1", {"region": "Frankfurt am Main"}, "such as eu-west-1"),
        ("dynamodb://eu-west-1", {"endpoint_url": "localhost:8000"}, "http://host:port"),
        ("dynamodb://eu-west-1", {"endpoint_url": "http://me:hunter2@h:1"}, "http://host:port"),
        ("dynamodb://eu-west-1", {"read_timeout": 0}, "longer than 0 seconds"),
        ("dynamodb://eu-west-1", {"max_connections": 0}, "at least 1"),
        ("dynamodb://eu-west-1", {"max_connections": "many"}, "is 'many'"),
    ],
)
def test_what_is_wrong_is_a_config_error_that_says_what(url: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DynamodbBackend.from_url(url, Config(sections={"dynamodb": options}))

    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_region_in_the_environment_that_is_none_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "my region")
    with pytest.raises(ConfigError, match="my region"):
        service("dynamodb://")


def test_a_profile_that_is_not_there_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigError, match="nobody"):
        service("dynamodb://")


def test_the_query_wins_over_the_section() -> None:
    found = service("dynamodb://eu-west-1?read_timeout=3&task_states_table=theirs", read_timeout=9, max_connections=4)

    assert found.read_timeout == timedelta(seconds=3)
    assert (found.options.task_states_table, found.options.max_connections) == ("theirs", 4)


def test_timeouts_are_those_of_the_section_or_the_servers() -> None:
    config = Config(connect_timeout=2)
    assert to_service("dynamodb://eu-west-1", config).connect_timeout == timedelta(seconds=2)
    assert to_service("dynamodb://eu-west-1", config).read_timeout == timedelta(seconds=2)
    found = service("dynamodb://eu-west-1", connect_timeout=1, read_timeout=7)
    assert (found.connect_timeout, found.read_timeout) == (timedelta(seconds=1), timedelta(seconds=7))


def test_the_environment_becomes_the_section() -> None:
    assert {"TASK_STATES_TABLE", "GROUP_METAS_TABLE"} <= set(DYNAMODB_SECTION.environment)
    assert set(DYNAMODB_SECTION.environment.values()) == DYNAMODB_SECTION.known_keys()
    config = Config.from_env(
        {
            "TASK_STATES_TABLE": "my_states",
            "GROUP_METAS_TABLE": "my_groups",
            "DYNAMODB_REGION": "eu-west-1",
            "DYNAMODB_ENDPOINT_URL": "http://localhost:8000/",
            "DYNAMODB_READ_TIMEOUT": "7",
        }
    )

    assert to_service("dynamodb://", config).options == DynamodbOptions(
        task_states_table="my_states",
        group_metas_table="my_groups",
        region="eu-west-1",
        endpoint_url="http://localhost:8000",
        read_timeout=timedelta(seconds=7),
    )


def test_aws_own_address_is_left_to_boto3_which_may_be_told_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:4566")
    backend = DynamodbBackend.from_url("https://dynamodb.eu-west-1.amazonaws.com", Config())

    assert backend._client.driver().meta.endpoint_url == "http://localhost:4566"
    backend.close()
