"""URLs, regions and the ``sqs`` section, under Go's names."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from machinery import Server
from machinery.abc import Config
from machinery.errors import ConfigError
from machinery_broker_sqs import SqsBroker
from machinery_broker_sqs._options import SqsOptions, to_options, to_service

AWS = "https://sqs.eu-west-1.amazonaws.com/123456789012"


@pytest.fixture(autouse=True)
def _no_region(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")


@pytest.mark.parametrize(
    ("url", "region", "account", "endpoint"),
    [
        (AWS, "eu-west-1", "123456789012", "https://sqs.eu-west-1.amazonaws.com"),
        (AWS + "/", "eu-west-1", "123456789012", "https://sqs.eu-west-1.amazonaws.com"),
        ("sqs://eu-west-1/123456789012", "eu-west-1", "123456789012", ""),
        ("sqs://eu-west-1", "eu-west-1", "", ""),
        ("sqs://localhost:4566/000000000000?region=eu-north-1", "eu-north-1", "000000000000", "http://localhost:4566"),
        ("http://localhost:4566/0?region=eu-north-1", "eu-north-1", "0", "http://localhost:4566"),
        (
            "https://vpce-1.sqs.eu-west-2.vpce.amazonaws.com/1",
            "eu-west-2",
            "1",
            "https://vpce-1.sqs.eu-west-2.vpce.amazonaws.com",
        ),
        (
            "https://vpce-0a1-ab3defgh-eu-west-2a.sqs.eu-west-2.vpce.amazonaws.com/1",
            "eu-west-2",
            "1",
            "https://vpce-0a1-ab3defgh-eu-west-2a.sqs.eu-west-2.vpce.amazonaws.com",
        ),
    ],
    ids=["aws", "slash", "region", "no-account", "emulator", "http", "vpc", "vpc-of-a-zone"],
)
def test_a_url_says_where_the_queues_are(url: str, region: str, account: str, endpoint: str) -> None:
    options = to_service(url, Config()).options
    assert (options.region, options.account, options.endpoint_url) == (region, account, endpoint)


@pytest.mark.parametrize(
    "url", [AWS, "sqs://eu-west-1/1", "http://localhost:4566/1?region=eu-west-1"], ids=["https", "sqs", "http"]
)
def test_a_server_of_such_a_url_has_this_broker_and_connects_nowhere(url: str) -> None:
    with Server.from_url(url) as server:
        assert isinstance(server.broker, SqsBroker)


def test_the_region_is_the_arguments_else_the_urls_else_gos_variable_else_botos(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def region(url: str, **options: Any) -> str:
        return to_service(url, Config(sections={"sqs": options})).options.region

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert region("sqs://") == "eu-central-1"
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert region("sqs://") == "eu-north-1"
    assert region("http://sqs-double-1:4566/0") == "eu-north-1"  # a host's name, which looks like a region's
    assert region(AWS) == "eu-west-1"
    assert region(AWS, region="us-east-1") == "us-east-1"
    assert region(AWS + "?region=us-west-1", region="us-east-1") == "us-west-1"


def test_no_region_at_all_is_a_config_error_that_says_where_one_goes() -> None:
    with pytest.raises(ConfigError, match="AWS_REGION or AWS_DEFAULT_REGION"):
        SqsBroker.from_url("sqs://localhost:4566/0", Config())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqs://key:secret@localhost:4566/0", "AWS_ACCESS_KEY_ID"),
        ("sqs://a:1,b:2/0", "none of SQS's"),
        ("sqs://localhost/0", "neither a region nor a host"),
        ("sqs://eu-west-1/1?recievers=2", "receivers"),
        ("sqs://eu-west-1/1?receivers=0", "receivers must be at least 1"),
        ("sqs://eu-west-1/1?receive_visibility_timeout=0", "at least 1"),
        ("sqs://eu-west-1/1?receive_visibility_timeout=1.5", "whole seconds"),
        ("sqs://eu-west-1/1?receive_visibility_timeout=43201", "12 hours"),
        ("sqs://eu-west-1/a b", "account"),
    ],
    ids=["credentials", "hosts", "no-port", "unknown", "receivers", "zero", "fraction", "too-long", "account"],
)
def test_a_wrong_url_is_a_config_error_that_says_what_is_wrong(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        SqsBroker.from_url(url, Config())
    assert "secret" not in str(caught.value)


def test_the_section_has_gos_names_in_files_and_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config.yml"
    file.write_text(
        "sqs:\n  receive_wait_time_seconds: 7\n  receive_visibility_timeout: 90\n  visibility_hearth_beat: true\n"
    )
    options = to_options(Config.from_yaml(file), {})
    assert options.receive_wait_time_seconds == timedelta(seconds=7)
    assert options.receive_visibility_timeout == timedelta(seconds=90)
    assert options.visibility_hearth_beat is True

    monkeypatch.setenv("SQS_WAIT_TIME_SECONDS", "3")
    monkeypatch.setenv("SQS_VISIBILITY_TIMEOUT", "45")
    monkeypatch.setenv("SQS_VISIBILITY_HEARTBEAT", "true")
    options = to_options(Config.from_env(), {})
    assert options.receive_wait_time_seconds == timedelta(seconds=3)
    assert options.receive_visibility_timeout == timedelta(seconds=45)
    assert options.visibility_heartbeat is True


def test_a_wait_of_more_than_twenty_seconds_is_twenty_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "machinery"):
        options = to_options(Config(sections={"sqs": {"receive_wait_time_seconds": 60}}), {})
    assert options.poll == 20
    assert "20 s at most" in caplog.text


@pytest.mark.parametrize("name", ["visibility_heartbeat", "visibility_hearth_beat"])
def test_a_heartbeat_that_is_off_is_answered_with_a_warning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "machinery"):
        to_options(Config(sections={"sqs": {name: False}}), {})
    assert "always renewed" in caplog.text


def test_what_is_left_out_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    assert to_options(Config(), {}) == SqsOptions()
    assert not caplog.records


def test_the_capabilities_are_those_of_the_default_queue() -> None:
    standard = SqsBroker.from_url(AWS, Config())
    ordered = SqsBroker.from_url(AWS, Config(default_queue="mine.fifo"))
    assert standard.capabilities.max_delay == timedelta(minutes=15)
    assert not standard.capabilities.ordering_keys
    assert ordered.capabilities.max_delay == timedelta(0)
    assert ordered.capabilities.ordering_keys
    assert standard.has_delays("any")
    assert not standard.has_delays("any.fifo")
