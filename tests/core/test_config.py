"""Configuration from code, the environment, TOML and YAML: one value, checked, and never showing a secret."""

from __future__ import annotations

import builtins
import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from machinery._config import ENVIRONMENT, KEYS_USED_AT_START, KEYS_USED_PER_CALL
from machinery.abc import Config, Section, Span, parse_section, parse_url
from machinery.errors import ConfigError
from tests.core.site_packages import SitePackages

SPANS = ["results_expire_in", "group_expire_in", "drain_timeout", "connect_timeout"]
FLAGS = ["no_unix_signals", "mixed_fleet"]
COUNTS = ["max_crashes", "unlimited_concurrency"]
TEXTS = ["broker", "result_backend", "lock", "multiple_broker_separator", "default_queue", "program_name"]


# ------------------------------------------------------------------------------------------------------------- code


@pytest.mark.parametrize("key", SPANS)
@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (90, timedelta(seconds=90)),
        (1.5, timedelta(seconds=1.5)),
        (timedelta(minutes=2), timedelta(minutes=2)),
    ],
)
def test_a_span_is_a_timedelta_or_a_number_of_seconds(key: str, written: object, kept: timedelta) -> None:
    assert getattr(Config().with_(**{key: written}), key) == kept


@pytest.mark.parametrize("key", SPANS)
@pytest.mark.parametrize(
    "wrong",
    [-1, -0.001, math.nan, math.inf, -math.inf, 1e300, 10**400, timedelta(seconds=-1), timedelta.max, "30", True, None],
)
def test_a_span_that_is_none_is_refused(key: str, wrong: object) -> None:
    with pytest.raises(ConfigError, match=f"{key} is .*number of seconds"):
        Config().with_(**{key: wrong})


@pytest.mark.parametrize(
    ("key", "wrong", "right"),
    [
        *((key, wrong, "true or false") for key in FLAGS for wrong in (1, 0, "true", None)),
        *((key, wrong, "whole number") for key in COUNTS for wrong in (1.0, "3", True, None)),
        *((key, wrong, "text") for key in TEXTS for wrong in (1, b"redis://", None, Path("x"))),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(key: str, wrong: object, right: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key} is .*{right}"):
        Config().with_(**{key: wrong})


@pytest.mark.parametrize(
    ("key", "wrong", "right"),
    [
        ("max_crashes", 0, "at least 1"),
        ("unlimited_concurrency", -1, "at least 1"),
        ("default_queue", "", "name a queue"),
        ("connect_timeout", 0, "more than 0"),
    ],
)
def test_a_value_out_of_range_is_refused(key: str, wrong: object, right: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key} is .*{right}"):
        Config().with_(**{key: wrong})


def test_no_expiry_means_the_default_as_in_go() -> None:
    config = Config(results_expire_in=0, group_expire_in=timedelta(0))
    assert config == Config()
    assert config.results_expire_in == timedelta(hours=1)
    assert config.group_expire_in == timedelta(days=7)


@pytest.mark.parametrize(("span", "seconds"), [(0.001, 1), (1, 1), (1.001, 2), (3600, 3600)])
def test_a_store_of_whole_seconds_keeps_a_record_rather_longer_than_shorter(span: float, seconds: int) -> None:
    assert Config(results_expire_in=span).results_expire_seconds == seconds
    assert Config(group_expire_in=span).group_expire_seconds == seconds


def test_blanks_around_a_url_are_not_part_of_it() -> None:
    assert Config(broker=" redis://localhost\n").broker == "redis://localhost"


def test_a_configuration_cannot_be_changed() -> None:
    config = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.default_queue = "other"  # type: ignore[misc]


def test_nobody_else_can_change_the_sections() -> None:
    written: dict[str, dict[str, Any]] = {"amqp": {"queue_declare_args": {"x-max-priority": 5}}}
    config = Config(sections=written)
    written["amqp"]["queue_declare_args"]["x-max-priority"] = 6
    assert config.sections == {"amqp": {"queue_declare_args": {"x-max-priority": 5}}}


@pytest.mark.parametrize("sections", [[], {"redis": 5}, {5: {}}, {"redis": {5: 6}}, {"redis": "redis://:s3cr3t@h"}])
def test_sections_that_are_none_are_refused(sections: Any) -> None:
    with pytest.raises(ConfigError, match=r"sections|section") as caught:
        Config(sections=sections)
    assert "s3cr3t" not in str(caught.value)


def test_a_copy_has_other_values_for_some_keys() -> None:
    config = Config(broker="memory://", mixed_fleet=True)
    assert config.with_(default_queue="other") == Config(broker="memory://", mixed_fleet=True, default_queue="other")
    assert config.default_queue == "machinery_tasks"


def test_a_copy_with_a_key_there_is_none_of_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'brokers' \(did you mean 'broker'"):
        Config().with_(brokers="memory://")


def test_equal_settings_are_equal_wherever_they_come_from(tmp_path: Path) -> None:
    path = tmp_path / "machinery.toml"
    path.write_text("default_queue = 'q'")
    assert Config.from_toml(path) == Config(default_queue="q") == Config.from_env({"DEFAULT_QUEUE": "q"})
    assert hash(Config(default_queue="q")) == hash(Config(default_queue="q", sections={"redis": {}}))


# ---------------------------------------------------------------------------------------------------------- secrets


def test_the_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(Config()) == "Config()"
    assert repr(Config(default_queue="q", mixed_fleet=True)) == "Config(default_queue='q', mixed_fleet=True)"


def test_the_repr_shows_no_secret() -> None:
    config = Config(
        broker="amqp://me:s3cr3t@h1;amqp://me:s3cr3t@h2",
        result_backend="redis://s3cr3t@localhost",
        lock="redis://localhost?password=s3cr3t",
        sections={
            "redis": {"sentinel_password": "s3cr3t", "max_idle": 3},
            "sqs": {
                "aws_secret_access_key": "s3cr3t",
                "session_token": "s3cr3t",
                "proxies": ["http://me:s3cr3t@proxy"],
            },
        },
    )
    assert "s3cr3t" not in repr(config)
    assert "s3cr3t" not in str(config)
    assert "'max_idle': 3" in repr(config)


def test_an_error_shows_no_secret(site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", {"brokers": {"shelf": "Broker"}})
    with pytest.raises(ConfigError) as caught:
        Config(broker="redis://:s3cr3t@h", lock=["redis://:s3cr3t@h"])  # type: ignore[arg-type]
    assert "s3cr3t" not in str(caught.value)
    section = Section("shelf", options=Shelf)
    with pytest.raises(ConfigError, match=r"shelf\.password is") as caught:
        parse_section(section, Config(sections={"shelf": {"password": ["s3cr3t"]}}), Shelf)
    assert "s3cr3t" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------ environment


def test_an_empty_environment_is_the_defaults() -> None:
    assert Config.from_env({}) == Config()


def test_the_environment_of_this_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_QUEUE", "from-the-environment")
    assert Config.from_env().default_queue == "from-the-environment"


def test_the_environment_speaks_gos_names_and_our_own() -> None:
    environ = {
        "BROKER": "redis://b",
        "RESULT_BACKEND": "redis://r",
        "LOCK": "redis://l",
        "MULTIPLE_BROKEN_SEPARATOR": ";",
        "DEFAULT_QUEUE": "q",
        "RESULTS_EXPIRE_IN": "7200",
        "NO_UNIX_SIGNALS": "true",
        "MACHINERY_GROUP_EXPIRE_IN": "86400",
        "MACHINERY_MIXED_FLEET": "1",
        "MACHINERY_DRAIN_TIMEOUT": "0.5",
        "MACHINERY_CONNECT_TIMEOUT": "2",
        "MACHINERY_MAX_CRASHES": "5",
        "MACHINERY_UNLIMITED_CONCURRENCY": "50",
        "MACHINERY_PROGRAM_NAME": "reports",
        "HOME": "/elsewhere",
    }
    assert Config.from_env(environ) == Config(
        broker="redis://b",
        result_backend="redis://r",
        lock="redis://l",
        multiple_broker_separator=";",
        default_queue="q",
        results_expire_in=7200,
        no_unix_signals=True,
        group_expire_in=timedelta(days=1),
        mixed_fleet=True,
        drain_timeout=0.5,
        connect_timeout=2,
        max_crashes=5,
        unlimited_concurrency=50,
        program_name="reports",
    )


def test_every_key_has_its_variable() -> None:
    keys = {named.name for named in dataclasses.fields(Config)} - {"sections", "origin", "source"}
    assert set(ENVIRONMENT.values()) == keys


def test_an_empty_variable_is_not_there() -> None:
    assert Config.from_env({"BROKER": "", "RESULTS_EXPIRE_IN": "", "NO_UNIX_SIGNALS": ""}) == Config()


@pytest.mark.parametrize(
    ("variable", "text", "right"),
    [
        ("RESULTS_EXPIRE_IN", "an hour", "number of seconds"),
        ("RESULTS_EXPIRE_IN", "nan", "number of seconds"),
        ("RESULTS_EXPIRE_IN", "-5", "number of seconds"),
        ("NO_UNIX_SIGNALS", "maybe", "true or false"),
        ("MACHINERY_MAX_CRASHES", "3.5", "whole number"),
        ("MACHINERY_MAX_CRASHES", "0", "at least 1"),
    ],
)
def test_a_variable_that_is_wrong_is_named(variable: str, text: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"^environment variable {variable} is '?{text}'?;.*{right}"):
        Config.from_env({variable: text})


def test_a_misspelled_variable_of_ours_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    Config.from_env({"MACHINERY_MIXED_FLET": "true", "MACHINERY_XYZZY": "1"})
    assert "MACHINERY_MIXED_FLET is not one of ours (did you mean 'MACHINERY_MIXED_FLEET'?)" in caplog.text
    assert "XYZZY" not in caplog.text


def test_the_environment_fills_the_sections_of_installed_plug_ins(site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", {"brokers": {"shelf": "Broker"}, "backends": {"shelf": "Backend"}})
    assert Config.from_env({"SHELF_SIZE": "5"}).sections == {"shelf": {"size": "5"}}
    assert Config.from_env({"SHELF_SIZE": "5", "SHELF_SHELF_SIZE": "6"}).sections == {"shelf": {"size": "6"}}


def test_no_section_comes_into_being_because_the_environment_was_read(site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", {"brokers": {"shelf": "Broker"}})
    assert Config.from_env({"BROKER": "shelf://"}).sections == {}


def test_a_plug_in_that_cannot_be_imported_does_not_disturb_those_who_do_not_use_it(
    site_packages: SitePackages,
) -> None:
    site_packages.install("acme-shelf", {"brokers": {"shelf": "Broker"}}, source="raise RuntimeError")
    assert Config.from_env({"BROKER": "memory://"}) == Config(broker="memory://")


# ------------------------------------------------------------------------------------------------------------ files

TOML = """
broker = "redis://localhost:6379"
result_backend = "redis://localhost:6379/1"
results_expire_in = 7200
mixed_fleet = true
drain_timeout = 0.5

[redis]
max_idle = 5
"""
YAML = """
# as in Go
broker: 'redis://localhost:6379'
lock:
result_backend: 'redis://localhost:6379/1'
results_expire_in: 7200
mixed_fleet: true
drain_timeout: 0.5
redis:
  max_idle: 5
"""
WRITTEN = Config(
    broker="redis://localhost:6379",
    result_backend="redis://localhost:6379/1",
    results_expire_in=7200,
    mixed_fleet=True,
    drain_timeout=0.5,
    sections={"redis": {"max_idle": 5}},
)

Load = Callable[[str], Config]


@pytest.fixture(params=["toml", "yaml"])
def load(request: pytest.FixtureRequest, tmp_path: Path) -> Load:
    """Makes a configuration of YAML-like lines ``key: value`` (both languages say the same ones)."""
    if request.param == "yaml":
        pytest.importorskip("yaml", reason="PyYAML is not installed (the extra machinery-core[yaml])")

    def load(lines: str) -> Config:
        path = tmp_path / f"machinery.{request.param}"
        text = lines if request.param == "yaml" else to_toml(lines)
        path.write_text(text, "utf-8")
        return Config.from_toml(str(path)) if request.param == "toml" else Config.from_yaml(str(path))

    return load


def to_toml(lines: str) -> str:
    """The subset of YAML that the tests write, as TOML."""
    made = []
    for line in lines.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        made.append(f"{key} = {value}" if value else f"[{key}]")
    return "\n".join(made)


def test_a_toml_file_says_it_all(tmp_path: Path) -> None:
    path = tmp_path / "machinery.toml"
    path.write_text(TOML)
    assert Config.from_toml(path) == WRITTEN


def test_a_yaml_file_says_it_all(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "machinery.yaml"
    path.write_text(YAML)
    assert Config.from_yaml(path) == WRITTEN
    assert Config.from_yaml(path).source is None


def test_an_empty_file_is_the_defaults(load: Load) -> None:
    assert load("") == Config()


def test_a_file_is_read_to_its_end(load: Load) -> None:
    assert load(f"program_name: '{'x' * 100_000}'\ndefault_queue: 'last'").default_queue == "last"


def test_a_byte_order_mark_is_not_part_of_the_first_key(load: Load) -> None:
    assert load("\ufeffdefault_queue: 'q'").default_queue == "q"


def test_an_unknown_key_is_named_with_its_file_and_the_closest_one(load: Load, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"machinery.*unknown key 'defualt_queue' \(did you mean 'default_queue'"
    ) as caught:
        load("defualt_queue: 'q'")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("key", ["origin", "source", "sections"])
def test_what_is_no_setting_is_an_unknown_key(load: Load, key: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown key '{key}'"):
        load(f"{key}: 'x'")


def test_an_unknown_section_is_named_with_the_closest_one(load: Load, site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", {"brokers": {"shelf": "Broker"}})
    with pytest.raises(ConfigError, match=r"unknown section 'shelv' \(did you mean 'shelf'"):
        load("shelv:\n  size: 3")


@pytest.mark.parametrize("section", ["amqp", "sqs", "redis", "gcp_pub_sub", "mongodb", "dynamodb"])
def test_a_section_of_gos_is_kept_though_its_plug_in_is_not_installed(
    load: Load, section: str, site_packages: SitePackages
) -> None:
    assert load(f"{section}:\n  whatever: 3").sections == {section: {"whatever": 3}}


def test_a_section_of_an_installed_plug_in_is_kept(load: Load, site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", {"brokers": {"shelf": "Broker"}})
    assert load("shelf:\n  size: 3").sections == {"shelf": {"size": 3}}


def test_an_empty_section_is_there(load: Load, site_packages: SitePackages) -> None:
    site_packages.install("acme-shelf", {"brokers": {"shelf": "Broker"}})
    assert load("redis:\nshelf:").sections == {"redis": {}, "shelf": {}}


def test_a_wrong_value_is_named_with_file_and_key(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"machinery\.\w+: results_expire_in is 'soon'; it must be a span"):
        load("results_expire_in: 'soon'")


def test_a_section_that_is_none_is_named_with_its_file(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"machinery\.\w+: section redis is 5; it must be a table"):
        load("redis: 5")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for read in (Config.from_toml, Config.from_yaml):
        with pytest.raises(ConfigError, match=r"cannot read .*nowhere: No such file"):
            read(tmp_path / "nowhere")
        with pytest.raises(ConfigError, match="cannot read"):
            read(tmp_path)


@pytest.mark.parametrize(
    "contents",
    [
        b"broker: 's3cr3t\nx",
        b"broker = s3cr3t",
        b"\xff\xfe",
        b"- s3cr3t",
        b"a: [s3cr3t",
        b"a: 2001-99-99",
        b"{[a]: 1, s3cr3t: @}",
    ],
)
def test_a_file_that_is_something_else_is_named_and_not_quoted(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "machinery.conf"
    path.write_bytes(contents)
    with pytest.raises(ConfigError, match=r"machinery\.conf is not") as caught:
        Config.from_toml(path)
    assert "s3cr3t" not in str(caught.value)
    pytest.importorskip("yaml")
    with pytest.raises(ConfigError, match=r"machinery\.conf (is not|holds)") as caught:
        Config.from_yaml(path)
    assert "s3cr3t" not in str(caught.value)


def test_yaml_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "machinery.yaml"
    path.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="is not YAML"):
        Config.from_yaml(path)


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "machinery.yaml"
    path.write_text("broker: !!python/object/apply:os.getcwd []")
    with pytest.raises(ConfigError, match=r"is not YAML.*line 1"):
        Config.from_yaml(path)


def test_what_to_install_for_yaml_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without_yaml(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_yaml)
    path = tmp_path / "machinery.yaml"
    path.write_text(YAML)
    with pytest.raises(ConfigError, match=r"pip install 'machinery-core\[yaml\]'"):
        Config.from_yaml(path)


def test_yaml_is_imported_only_when_a_file_is_read() -> None:
    script = "import sys, machinery._config; print('yaml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --------------------------------------------------------------------------------------------------------- sections


TEN_SECONDS = Span(timedelta(seconds=10))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Every kind of field that a plug-in's options may have."""

    size: int = 3
    weight: float = 1.0
    patience: timedelta = timedelta(seconds=1)
    lease: Span = TEN_SECONDS
    limit: Span | None = None
    locked: bool = False
    label: str = "shelf"
    password: str = dataclasses.field(default="", repr=False)
    kind: Literal["wood", "steel"] = "wood"
    owner: str | None = None
    books: tuple[str, ...] = ()
    places: list[str] = dataclasses.field(default_factory=list)
    args: dict[str, Any] = dataclasses.field(default_factory=dict)
    anything: Any = None

    def __post_init__(self) -> None:
        if self.size > 100:
            raise ValueError("size must be at most 100")


SECTION = Section("shelf", environment={"SHELF_SIZE": "size"}, options=Shelf)


def shelf(**contents: Any) -> Shelf:
    return parse_section(SECTION, Config(sections={"shelf": contents}), Shelf)


def test_a_section_that_is_not_there_is_the_defaults() -> None:
    assert parse_section(SECTION, Config(), Shelf) == Shelf()


@pytest.mark.parametrize(
    ("key", "written", "kept"),
    [
        ("size", 5, 5),
        ("size", " 5", 5),
        ("size", None, 3),
        ("weight", 2, 2.0),
        ("weight", "2.5", 2.5),
        ("patience", 3, timedelta(seconds=3)),
        ("patience", "0.5", timedelta(seconds=0.5)),
        ("patience", timedelta(minutes=1), timedelta(minutes=1)),
        ("lease", 3, timedelta(seconds=3)),
        ("limit", "3", timedelta(seconds=3)),
        ("locked", True, True),
        ("locked", "Yes", True),
        ("locked", "0", False),
        ("label", "5", "5"),
        ("kind", "steel", "steel"),
        ("owner", "me", "me"),
        ("books", ["a", "b"], ("a", "b")),
        ("books", "a, b", ("a", "b")),
        ("books", "", ()),
        ("places", ("a",), ["a"]),
        ("args", {"x-max-priority": 5}, {"x-max-priority": 5}),
        ("args", "a:b, c:d:e", {"a": "b", "c": "d:e"}),
        ("args", "", {}),
        ("anything", {1: 2}, {1: 2}),
    ],
)
def test_a_key_becomes_the_field_of_its_name(key: str, written: object, kept: object) -> None:
    value = getattr(shelf(**{key: written}), key)
    assert value == kept
    assert type(value) is type(kept)


@pytest.mark.parametrize(
    ("key", "wrong", "right"),
    [
        ("size", "five", "whole number"),
        ("size", 1.5, "whole number"),
        ("size", True, "whole number"),
        ("weight", "heavy", "a number"),
        ("weight", math.nan, "a number"),
        ("weight", True, "a number"),
        ("patience", -1, "span"),
        ("lease", "long", "span"),
        ("limit", "long", "span"),
        ("locked", "maybe", "true or false"),
        ("locked", 1, "true or false"),
        ("label", 5, "text"),
        ("kind", "stell", r"one of 'wood', 'steel' \(did you mean 'steel'\?\)"),
        ("owner", 5, "text"),
        ("books", 5, "list"),
        ("args", "a", "table"),
        ("args", [1], "table"),
    ],
)
def test_a_wrong_value_is_named_with_section_and_key(key: str, wrong: object, right: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^Config.sections: shelf\.{key}( \(SHELF_SIZE\))? is .*; it must be .*{right}"
    ):
        shelf(**{key: wrong})


def test_an_unknown_key_of_a_section_is_named_with_its_file_and_the_closest_one(tmp_path: Path) -> None:
    path = tmp_path / "machinery.toml"
    path.write_text("[redis]\nsise = 3")
    section = Section("redis", options=Shelf)
    with pytest.raises(
        ConfigError, match=r"machinery.toml: section redis has no key 'sise' \(did you mean 'size'"
    ) as caught:
        parse_section(section, Config.from_toml(path), Shelf)
    assert str(path) in str(caught.value)


def test_a_section_may_take_fewer_keys_than_its_options_have() -> None:
    section = Section("shelf", keys=frozenset({"size"}))
    assert parse_section(section, Config(sections={"shelf": {"size": 4}}), Shelf).size == 4
    with pytest.raises(ConfigError, match="has no key 'weight'"):
        parse_section(section, Config(sections={"shelf": {"weight": 4}}), Shelf)


def test_what_the_options_themselves_refuse_is_named_with_the_section() -> None:
    with pytest.raises(ConfigError, match=r"Config\.sections: section shelf: size must be at most 100"):
        shelf(size=101)


def test_keys_in_a_url_win_over_the_section() -> None:
    config = Config(sections={"shelf": {"size": 4, "label": "a"}})
    options = parse_section(SECTION, config, Shelf, parse_url("shelf://here?size=5&locked=true"))
    assert (options.size, options.label, options.locked) == (5, "a", True)
    assert parse_section(SECTION, config, Shelf, parse_url("shelf://here")).size == 4


@pytest.mark.parametrize("query", ["sise=5", "size=five", "size=101"])
def test_what_is_wrong_in_a_url_is_named_with_the_url_redacted(query: str) -> None:
    with pytest.raises(ConfigError, match=r"shelf://:\*\*\*@here\?" + query):
        parse_section(SECTION, Config(), Shelf, parse_url(f"shelf://:s3cr3t@here?{query}"))


def test_what_is_wrong_in_the_environment_is_named_with_its_variable() -> None:
    config = Config(sections={"shelf": {"size": "five"}}, origin="environment")
    with pytest.raises(ConfigError, match=r"environment: shelf.size \(SHELF_SIZE\) is 'five'"):
        parse_section(SECTION, config, Shelf)


def test_a_span_field_needs_a_slotted_dataclass() -> None:
    @dataclasses.dataclass
    class Unslotted:
        lease: Span = TEN_SECONDS

    with pytest.raises(NotImplementedError, match="slotted"):
        Unslotted()


def test_every_key_is_used_either_per_call_or_at_start() -> None:
    keys = {named.name for named in dataclasses.fields(Config)} - {"origin", "source"}
    assert keys == KEYS_USED_PER_CALL | KEYS_USED_AT_START
    assert not KEYS_USED_PER_CALL & KEYS_USED_AT_START
