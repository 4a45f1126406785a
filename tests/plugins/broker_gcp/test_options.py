"""URLs, the section and the environment: what they mean, and what is refused with a reason."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from machinery.abc import Config
from machinery.errors import ConfigError
from machinery_broker_gcp import PubsubBroker, PubsubOptions
from machinery_broker_gcp._options import PUBSUB_SECTION, Service, to_service


@pytest.fixture(autouse=True)
def _no_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)


def service(url: str, config: Config | None = None, **options: Any) -> Service:
    return to_service(url, config or Config(sections={"gcp_pub_sub": options}))


def test_a_url_names_a_project_and_a_subscription() -> None:
    found = service("gcppubsub://shop-1234/workers")
    assert found.names.project == "shop-1234"
    assert found.names.subscription_of("machinery_tasks") == "workers"
    assert found.address == "pubsub.googleapis.com:443"
    assert found.url == "gcppubsub://shop-1234/workers"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("gcppubsub://", "gcppubsub://project/subscription"),
        ("gcppubsub://shop", "does not name a project and a subscription"),
        ("gcppubsub:///sub", "does not name a project and a subscription"),
        ("gcppubsub://shop/sub/more", "does not name a project and a subscription"),
        ("gcppubsub://shop,other/sub", "does not name a project and a subscription"),
        ("gcppubsub://localhost:8085/sub", "emulator_host=localhost:8085"),
        ("gcppubsub://key:secret@shop/sub", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("gcppubsub://shop/s", "3 to 255"),
        ("gcppubsub://shop/googly", "3 to 255"),
        ("gcppubsub://shop/sub?ack_deadlin=3", "ack_deadline"),
        ("gcppubsub://shop/sub?ack_deadline=601", "600"),
        ("gcppubsub://shop/sub?ack_deadline=1.5", "whole seconds"),
        ("gcppubsub://shop/sub?max_extension=0", "longer than 0"),
        ("gcppubsub://shop/sub?emulator_host=http://x:1", "host:port"),
    ],
)
def test_a_url_that_is_wrong_says_how_it_would_be_right(url: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        service(url)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_every_queue_has_the_subscription_that_the_map_says_or_one_of_its_own_name() -> None:
    names = service("gcppubsub://shop/workers", subscriptions={"mail": "mailers"}).names
    assert names.subscription_of("mail") == "mailers"
    assert names.subscription_of("other") == "other"
    assert names.subscription_of("machinery_tasks") == "workers"
    assert names.subscription("mailers") == "projects/shop/subscriptions/mailers"
    assert names.topic("mail") == "projects/shop/topics/mail"


def test_the_map_may_speak_of_the_default_queue_too() -> None:
    names = service("gcppubsub://shop/workers", subscriptions={"machinery_tasks": "others"}).names
    assert names.subscription_of("machinery_tasks") == "others"


@pytest.mark.parametrize(
    "subscriptions", [{"mail": "no good"}, {"with space": "mailers"}, {"mail": 3}], ids=["name", "queue", "number"]
)
def test_a_map_that_names_what_cannot_be_is_refused(subscriptions: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="subscriptions"):
        service("gcppubsub://shop/workers", subscriptions=subscriptions)


def test_the_default_queue_has_to_be_a_topics_name() -> None:
    with pytest.raises(ConfigError, match="with space"):
        service("gcppubsub://shop/workers", Config(default_queue="with space"))
    with pytest.raises(ConfigError, match="-delay after it too long"):
        service("gcppubsub://shop/workers", Config(default_queue="q" * 250))


def test_all_keys_have_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(PUBSUB_SECTION.environment.values()) == PUBSUB_SECTION.known_keys()
    config = Config.from_env(
        {
            "GCP_PUB_SUB_SUBSCRIPTIONS": "mail:mailers,slow:slows",
            "GCP_PUB_SUB_MAX_EXTENSION": "3600",
            "GCP_PUB_SUB_ORDERING_KEYS": "true",
            "GCP_PUB_SUB_ENDPOINT": "europe-west1-pubsub.googleapis.com:443",
        }
    )
    found = service("gcppubsub://shop/workers", config)
    assert found.options.max_extension == timedelta(hours=1)
    assert found.options.ordering_keys
    assert found.options.subscriptions == {"mail": "mailers", "slow": "slows"}
    assert found.address == "europe-west1-pubsub.googleapis.com:443"


def test_a_files_section_and_the_urls_query_say_the_same_and_the_query_wins(tmp_path: Path) -> None:
    file = tmp_path / "machinery.toml"
    file.write_text("[gcp_pub_sub]\nack_deadline = 20\nmax_extension = 100\n")
    found = service("gcppubsub://shop/workers?ack_deadline=30", Config.from_toml(file))
    assert found.options.ack_deadline == timedelta(seconds=30)
    assert found.options.max_extension == timedelta(seconds=100)


def test_the_emulators_variable_is_obeyed_unless_something_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "localhost:8085")
    assert service("gcppubsub://shop/workers").address == "localhost:8085"
    assert service("gcppubsub://shop/workers?emulator_host=other:1").address == "other:1"
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "http://localhost")
    with pytest.raises(ConfigError, match="PUBSUB_EMULATOR_HOST"):
        service("gcppubsub://shop/workers")


def test_timeouts_follow_the_time_to_connect() -> None:
    found = service("gcppubsub://shop/workers", Config(connect_timeout=timedelta(seconds=7)))
    assert (found.connect_timeout, found.answer_timeout) == (7, 14)
    assert service("gcppubsub://shop/workers?answer_timeout=3").answer_timeout == 3


def test_capabilities_say_what_the_options_are() -> None:
    plain = PubsubBroker("shop", "workers").capabilities
    assert plain.leases == PubsubOptions().ack_deadline
    assert plain.max_delay is None
    assert not plain.inspection
    assert not plain.ordering_keys
    assert plain.dead_letters
    changed = PubsubBroker("shop", "workers", ordering_keys=True, dead_letters=False, ack_deadline=20).capabilities
    assert changed.ordering_keys
    assert not changed.dead_letters
    assert changed.leases == timedelta(seconds=20)


def test_options_that_are_wrong_are_refused_before_anything_connects() -> None:
    with pytest.raises(ConfigError, match="ack_deadline"):
        PubsubBroker("shop", "workers", ack_deadline=1000)
    with pytest.raises(ConfigError, match="project"):
        PubsubBroker("", "workers")
