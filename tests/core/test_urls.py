"""URLs of services: taken apart, resolved to a scheme, safe to show."""

from __future__ import annotations

import pytest

from machinery._urls import redact_url, redact_value, scheme_of
from machinery.abc import ServiceUrl, parse_url
from machinery.errors import ConfigError

SECRET = "s3cr3t"  # noqa: S105 - what must not be seen


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/2", "redis://localhost:6379/2"),
        ("redis://s3cr3t@localhost:6379", "redis://***@localhost:6379"),
        ("redis://:s3cr3t@localhost:6379", "redis://:***@localhost:6379"),
        ("redis://me:s3cr3t@localhost:6379/1", "redis://me:***@localhost:6379/1"),
        ("redis://me:@localhost", "redis://me:***@localhost"),
        ("REDISS://me:s3cr3t@localhost", "REDISS://me:***@localhost"),
        ("redis://s3cr3t@h1:1,h2:2/3", "redis://***@h1:1,h2:2/3"),
        ("redis://me:s3cr3t@[::1]:6379/3", "redis://me:***@[::1]:6379/3"),
        ("redis+socket://s3cr3t@/run/redis.sock", "redis+socket://***@/run/redis.sock"),
        ("redis+socket://me:s3cr3t@/run/redis.sock:/3", "redis+socket://me:***@/run/redis.sock:/3"),
        ("redis+socket:///run/a@b.sock", "redis+socket:///run/a@b.sock"),
        ("sqlite:////var/lib/me@home/tasks.db", "sqlite:////var/lib/me@home/tasks.db"),
        ("amqp://guest:s3cr3t@localhost:5672/vhost", "amqp://guest:***@localhost:5672/vhost"),
        ("amqp://a:s3cr3t@h1;amqp://a:s3cr3t@h2", "amqp://a:***@h1;amqp://a:***@h2"),
        ("amqp://h1,amqp://a:s3cr3t@h2", "amqp://h1,amqp:***@h2"),
        ("mongodb+srv://me:s3cr3t@cluster/db?w=1&retryWrites=true", "mongodb+srv://me:***@cluster/db?w=1&retryWrites=true"),
        ("mongodb://h/db?tlsCertificateKeyFilePassword=s3cr3t&w=1", "mongodb://h/db?tlsCertificateKeyFilePassword=***&w=1"),
        ("redis://h?password=s3cr3t", "redis://h?password=***"),
        ("redis://h?pass%77ord=s3cr3t&db=1", "redis://h?pass%77ord=***&db=1"),
        ("https://sqs.eu-west-1/1?X-Amz-Security-Token=s3cr3t", "https://sqs.eu-west-1/1?X-Amz-Security-Token=***"),
        ("gcppubsub://project/subscription", "gcppubsub://project/subscription"),
        ("memcache://h1:1,h2:2", "memcache://h1:1,h2:2"),
        ("me:s3cr3t@localhost:6379", "me:***@localhost:6379"),
        ("s3cr3t@localhost:6379", "***@localhost:6379"),
        ("localhost:6379", "localhost:6379"),
        ("eager", "eager"),
        ("", ""),
        (None, ""),
        (b"redis://:s3cr3t@h", "<bytes>"),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_its_secrets(url: object, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize("scheme", ["redis://", "amqp://", "mongodb://", "redis+socket://", "unheard-of://", ""])
@pytest.mark.parametrize("secret", ["a@b", "a/b", "a?b", "a#b", "a:b", "a%40b", "a,b", "://", "a b", "@", "a?b=c"])
@pytest.mark.parametrize("rest", ["h:1", "h:1,h2:2/3?x=1", "/run/r.sock"])
def test_no_part_of_a_password_that_was_pasted_unencoded_is_shown(scheme: str, secret: str, rest: str) -> None:
    shown = redact_url(f"{scheme}me:{SECRET}{secret}{SECRET}@{rest}")
    assert SECRET not in shown
    assert shown.endswith(rest)


def test_redacting_twice_changes_nothing() -> None:
    once = redact_url("redis://me:s3cr3t@h1,h2/0?token=s3cr3t")
    assert redact_url(once) == once


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("sentinel_password", "s3cr3t", "***"),
        ("sentinel_password", "", ""),
        ("max_idle", 3, 3),
        ("routing_key", "key", "key"),
        ("broker", "redis://:s3cr3t@h", "redis://:***@h"),
        ("redis", {"password": "s3cr3t", "urls": ["redis://:s3cr3t@h"]}, {"password": "***", "urls": ["redis://:***@h"]}),
        ("secrets", {"a": 1}, "***"),
    ],
)  # fmt: skip
def test_a_setting_is_shown_without_its_secrets(name: str, value: object, shown: object) -> None:
    assert redact_value(name, value) == shown


@pytest.mark.parametrize(
    ("url", "user", "password", "hosts", "path", "query"),
    [
        ("redis://h", None, None, (("h", None),), "", {}),
        (" redis://h:1/2 ", None, None, (("h", 1),), "/2", {}),
        ("redis://pw@h", "pw", None, (("h", None),), "", {}),
        ("redis://:pw@h", "", "pw", (("h", None),), "", {}),
        ("redis://me:@h", "me", "", (("h", None),), "", {}),
        ("redis://m%40e:p%2Fw@h", "m@e", "p/w", (("h", None),), "", {}),
        ("redis://m:p@ss@h", "m", "p@ss", (("h", None),), "", {}),
        ("redis://h1:1,h2:2/3", None, None, (("h1", 1), ("h2", 2)), "/3", {}),
        ("redis://[::1]:6379,[fe80::1]", None, None, (("::1", 6379), ("fe80::1", None)), "", {}),
        ("redis+socket://pw@/run/r.sock:/3", "pw", None, (), "/run/r.sock:/3", {}),
        ("redis+socket:///run/r%20s.sock", None, None, (), "/run/r s.sock", {}),
        ("amqp://h/%2Fvhost?heartbeat=3&x=&heartbeat=4", None, None, (("h", None),), "//vhost", {"heartbeat": "4", "x": ""}),
        ("redis://h/1#fragment", None, None, (("h", None),), "/1", {}),
    ],
)  # fmt: skip
def test_a_url_is_taken_apart(
    url: str, user: str | None, password: str | None, hosts: object, path: str, query: object
) -> None:
    parsed = parse_url(url)
    assert (parsed.user, parsed.password) == (user, password)
    assert parsed.hosts == hosts
    assert (parsed.path, parsed.query) == (path, query)


def test_a_url_that_was_taken_apart_is_shown_redacted() -> None:
    parsed = parse_url("Redis://me:s3cr3t@h/1")
    assert parsed.scheme == "redis"
    assert str(parsed) == "Redis://me:***@h/1"
    assert repr(parsed) == "ServiceUrl('Redis://me:***@h/1')"
    assert isinstance(parsed, ServiceUrl)


@pytest.mark.parametrize(
    "url",
    [
        "h:1",
        "redis://h:port",
        "redis://h:99999",
        "redis://:s3cr3t/x@h",
        "redis://:6379",
        "redis://h1:1,,h2:2",
        "redis://me:s3#cr3t@h",
        "redis://me:s3?cr3t@h",
        "redis://::1",
    ],
)
def test_a_url_that_cannot_be_right_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert redact_url(url) in str(caught.value)
    assert "cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("redis://h", "redis"),
        (" RedisS://h", "rediss"),
        ("redis+socket:///r", "redis+socket"),
        ("https://sqs.eu-west-1.amazonaws.com/123", "sqs"),
        ("https://sqs.us-east-2.amazonaws.com/123", "sqs"),
        ("https://sqs-fips.us-east-1.amazonaws.com/123", "sqs"),
        ("https://vpce-1.sqs.eu-west-1.vpce.amazonaws.com/123", "sqs"),
        ("http://sqs.local:4566/0", "sqs"),
        ("https://dynamodb.eu-west-1.amazonaws.com", "dynamodb"),
        ("https://example.org/sqs", "https"),
        ("https://example.org/?at=@sqs.", "https"),
        ("amqp://a;amqp://b", "amqp"),
        ("eager", "eager"),
        ("null", "null"),
    ],
)
def test_the_scheme_decides_and_amazons_services_are_known_by_their_host(url: str, scheme: str) -> None:
    assert scheme_of(url) == scheme


@pytest.mark.parametrize("url", ["", "  ", None, 5, "localhost:6379", "me:s3cr3t@h", "redis", "://h", "redis:/h"])
def test_what_has_no_scheme_is_refused_with_an_example(url: object) -> None:
    with pytest.raises(ConfigError, match="redis://localhost:6379") as caught:
        scheme_of(url)
    assert SECRET not in str(caught.value)
