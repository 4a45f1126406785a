"""URLs, the section and the environment: what they mean, and what is refused with a reason."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from machinery.abc import Config
from machinery.errors import ConfigError
from machinery_broker_amqp import AmqpBroker, AmqpOptions
from machinery_broker_amqp._options import AMQP_SECTION, to_service


def service(url: str, separator: str = "", **options: Any) -> Any:
    return to_service(url, Config(multiple_broker_separator=separator, sections={"amqp": options}))


def nodes(url: str, separator: str = "") -> list[tuple[str, int, str, str, str]]:
    return [
        (node.host, node.port, node.virtual_host, node.credentials.username, node.credentials.password)
        for node in service(url, separator).nodes
    ]


@pytest.mark.parametrize(
    ("url", "host", "port", "virtual_host", "user", "password"),
    [
        ("amqp://h:1234", "h", 1234, "/", "guest", "guest"),
        ("amqp://h", "h", 5672, "/", "guest", "guest"),
        ("amqp://", "localhost", 5672, "/", "guest", "guest"),
        ("amqp://h/", "h", 5672, "/", "guest", "guest"),
        ("amqp://h/%2F", "h", 5672, "/", "guest", "guest"),
        ("amqp://h/tasks", "h", 5672, "tasks", "guest", "guest"),
        ("amqp://h/a%2Fb", "h", 5672, "a/b", "guest", "guest"),
        ("amqp://me:secret@h:1/v", "h", 1, "v", "me", "secret"),
        ("amqp://me:@h", "h", 5672, "/", "me", ""),
        ("amqp://me:p%40ss%2Fword@h", "h", 5672, "/", "me", "p@ss/word"),
        ("amqp://[::1]:7000/v", "::1", 7000, "v", "guest", "guest"),
        ("AMQP://h", "h", 5672, "/", "guest", "guest"),
    ],
)
def test_a_url_names_host_virtual_host_and_user(
    url: str, host: str, port: int, virtual_host: str, user: str, password: str
) -> None:
    assert nodes(url) == [(host, port, virtual_host, user, password)]


def test_several_hosts_are_tried_in_the_order_written() -> None:
    assert nodes("amqp://me:secret@a:1,b,c:3/v") == [
        ("a", 1, "v", "me", "secret"),
        ("b", 5672, "v", "me", "secret"),
        ("c", 3, "v", "me", "secret"),
    ]


def test_several_urls_stand_in_one_where_a_separator_is_set() -> None:
    assert nodes("amqp://a:1/v;amqp://you:word@b:2;amqp://c", ";") == [
        ("a", 1, "v", "guest", "guest"),
        ("b", 2, "/", "you", "word"),
        ("c", 5672, "/", "guest", "guest"),
    ]


def test_a_separator_that_does_not_occur_changes_nothing() -> None:
    assert nodes("amqp://a:1/v", ";") == [("a", 1, "v", "guest", "guest")]


def test_amqps_is_tls_and_verified() -> None:
    (node,) = service("amqps://h").nodes

    assert node.port == 5671
    assert node.ssl_options.context.check_hostname
    assert node.ssl_options.server_hostname == "h"


def test_verification_can_be_switched_off_for_a_test() -> None:
    (node,) = service("amqps://h?tls_verify=false").nodes

    assert not node.ssl_options.context.check_hostname


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("amqp://h:port", {}, "host:port"),
        ("amqp://h:70000", {}, "host:port"),
        ("amqp://h?speed=9", {}, "no key 'speed'"),
        ("amqp://h?hartbeat=9", {}, "did you mean 'heartbeat'?"),
        ("amqp://h?heartbeat=often", {}, "is 'often'"),
        ("amqp://h", {"exchnge": "e"}, "did you mean 'exchange'?"),
        ("amqp://h", {"exchange": ""}, "exchange must not be empty"),
        ("amqp://h", {"exchange_type": "headrs"}, "exchange_type is 'headrs'"),
        ("amqp://h", {"prefetch_count": -1}, "prefetch_count is -1"),
        ("amqp://h", {"prefetch_count": 65_536}, "prefetch_count is 65536"),
        ("amqp://h", {"prefetch_count": "few"}, "'few'"),
        ("amqp://h", {"queue_declare_args": "x-max-priority"}, "queue_declare_args"),
        ("amqp://h", {"queue_declare_args": {"x-max-priority": [1]}}, "x-max-priority is [1]"),
        ("amqp://h", {"queue_binding_args": {"format": None}}, "format is None"),
        ("amqps://h", {"tls_ca_file": "/nowhere/ca.pem"}, "amqp.tls_ca_file is '/nowhere/ca.pem'"),
        ("amqps://h", {"tls_cert_file": "/nowhere/c.pem"}, "amqp.tls_cert_file is '/nowhere/c.pem'"),
        ("amqps://h", {"tls_key_file": "/nowhere/k.pem"}, "amqp.tls_key_file is '/nowhere/k.pem'"),
    ],
)
def test_what_is_wrong_is_a_config_error_that_says_what(url: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AmqpBroker.from_url(url, Config(sections={"amqp": options}))

    assert said in str(caught.value)


def test_every_url_of_several_must_be_one_of_ours() -> None:
    with pytest.raises(ConfigError, match=r"redis://:\*\*\*@h .*must begin with amqp://"):
        service("amqp://h;redis://:hunter2@h", ";")


@pytest.mark.parametrize("url", ["amqp://me:hunter2@h:port", "amqp://me:hunter2@h?speed=9", "amqp://me:hunter2@h#x@y"])
def test_no_error_shows_a_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        service(url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("separator", ["", ";"])
def test_nothing_that_is_shown_shows_a_password(separator: str) -> None:
    url = separator.join(["amqp://me:hunter2@a", "amqp://me:hunter3@b"]) if separator else "amqp://me:hunter2@a"
    found = service(url, separator)

    assert "hunter" not in repr(found)
    assert "hunter" not in found.address
    assert "hunter" not in repr(AmqpBroker.from_url(url, Config(multiple_broker_separator=separator)))


def test_the_query_wins_over_the_section() -> None:
    found = service("amqp://h?heartbeat=30&prefetch_count=1", heartbeat=20, prefetch_count=2, client_name="me")

    assert found.options.heartbeat == timedelta(seconds=30)
    assert found.options.prefetch_count == 1
    assert found.options.client_name == "me"


def test_every_variable_of_go_is_known() -> None:
    names = {
        "AMQP_EXCHANGE", "AMQP_EXCHANGE_TYPE", "AMQP_BINDING_KEY", "AMQP_PREFETCH_COUNT", "AMQP_QUEUE_DECLARE_ARGS",
        "AMQP_QUEUE_BINDING_ARGS", "AMQP_AUTO_DELETE", "AMQP_DELAYED_QUEUE",
    }  # fmt: skip

    assert names <= set(AMQP_SECTION.environment)
    assert set(AMQP_SECTION.environment.values()) == AMQP_SECTION.known_keys()


def test_the_environment_becomes_the_section() -> None:
    config = Config.from_env(
        {
            "AMQP_EXCHANGE": "tasks",
            "AMQP_EXCHANGE_TYPE": "topic",
            "AMQP_BINDING_KEY": "default",
            "AMQP_PREFETCH_COUNT": "7",
            "AMQP_QUEUE_DECLARE_ARGS": "x-max-priority:10,x-queue-mode:lazy,x-single-active-consumer:true",
            "AMQP_QUEUE_BINDING_ARGS": "image-type:png,x-match:any",
            "AMQP_HEARTBEAT": "30",
        }
    )

    options = to_service("amqp://h", config).options

    assert (options.exchange, options.exchange_type, options.binding_key) == ("tasks", "topic", "default")
    assert (options.prefetch_count, options.heartbeat) == (7, timedelta(seconds=30))
    assert options.queue_declare_args == {
        "x-max-priority": 10,
        "x-queue-mode": "lazy",
        "x-single-active-consumer": True,
    }
    assert options.queue_binding_args == {"image-type": "png", "x-match": "any"}


def test_a_wrong_value_in_the_environment_names_its_variable() -> None:
    with pytest.raises(ConfigError, match=r"(?s)AMQP_PREFETCH_COUNT.*'few'|'few'.*AMQP_PREFETCH_COUNT"):
        to_service("amqp://h", Config.from_env({"AMQP_PREFETCH_COUNT": "few"}))


def test_a_file_becomes_the_section(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="needs the yaml extra", exc_type=ImportError)
    path = tmp_path / "config.yml"
    path.write_text(
        "amqp:\n"
        "  binding_key: default\n"
        "  prefetch_count: 1\n"
        "  queue_declare_args:\n"
        "    x-max-priority: 10\n"
        "  queue_binding_args:\n"
        "    image-type: png\n"
    )

    options = to_service("amqp://h", Config.from_yaml(str(path))).options

    assert (options.binding_key, options.prefetch_count) == ("default", 1)
    assert options.queue_declare_args == {"x-max-priority": 10}
    assert options.queue_binding_args == {"image-type": "png"}


def test_without_a_section_the_names_are_gos() -> None:
    options = service("amqp://h").options

    assert options == AmqpOptions()
    assert (options.exchange, options.exchange_type, options.binding_key) == (
        "machinery_exchange",
        "direct",
        "machinery_task",
    )


def test_rabbitmq_may_take_twice_as_long_to_answer_as_to_connect() -> None:
    assert service("amqp://h?connect_timeout=20").answer_timeout == 40
    assert service("amqp://h?connect_timeout=2").answer_timeout == 10
    assert service("amqp://h?connect_timeout=20&answer_timeout=3").answer_timeout == 3


@pytest.mark.parametrize("queue", ["", "amq.tasks", "q" * 232, "ü" * 116])
def test_a_queue_that_cannot_be_is_refused_before_anything_connects(queue: str) -> None:
    broker = AmqpBroker.from_url("amqp://127.0.0.1:1/", Config())

    with pytest.raises(ConfigError):
        broker.consumer(queue, "me")
    broker.close()
