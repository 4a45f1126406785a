"""A configuration file that is read again while the program runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue

import pytest

from machinery._config import log_changes
from machinery._config_files import ConfigFile
from machinery._plugins import load_broker
from machinery.abc import Config
from tests.core.site_packages import SitePackages

pytest.importorskip("yaml", reason="PyYAML is not installed (the extra machinery-core[yaml])")

NEVER = 3600.0
SOON = 15.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "machinery.yaml"
    path.write_text("default_queue: first")
    return path


@pytest.fixture
def open_config(path: Path) -> Iterator[Callable[..., Config]]:
    """Loads the file with `keep_reloading`; what it watches is closed in the end."""
    opened: list[ConfigFile[Config]] = []

    def open_config(interval: float = NEVER) -> Config:
        config = Config.from_yaml(path, keep_reloading=True, interval=interval)
        assert config.source is not None
        opened.append(config.source)
        return config

    yield open_config
    for source in opened:
        source.close()
    for watcher in watchers():
        watcher.join(SOON)


@pytest.fixture
def config(open_config: Callable[..., Config]) -> Config:
    return open_config()


@pytest.fixture
def source(config: Config) -> ConfigFile[Config]:
    assert config.source is not None
    return config.source


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "machinery-config"]


def test_a_changed_file_is_swapped_in_whole(path: Path, source: ConfigFile[Config]) -> None:
    taken: list[Config] = []
    source.subscribe(taken.append)
    path.write_text("mixed_fleet: true\nresults_expire_in: 60")
    assert source.look()
    assert taken == [Config(mixed_fleet=True, results_expire_in=60)]
    assert taken[0].source is source


def test_a_file_that_did_not_change_is_left_alone(path: Path, source: ConfigFile[Config]) -> None:
    taken: list[Config] = []
    source.subscribe(taken.append)
    path.touch()
    assert not source.look()
    assert not taken


def test_the_watch_looks_by_itself(path: Path, open_config: Callable[..., Config]) -> None:
    source = open_config(interval=0.01).source
    assert source is not None
    taken: SimpleQueue[Config] = SimpleQueue()
    source.subscribe(taken.put)
    path.write_text("default_queue: second")
    while taken.get(timeout=SOON).default_queue != "second":  # pragma: no cover - the watch saw half a file
        pass


def test_a_change_between_loading_and_subscribing_is_seen(path: Path, open_config: Callable[..., Config]) -> None:
    source = open_config(interval=0.01).source
    assert source is not None
    path.write_text("default_queue: second")
    taken: SimpleQueue[Config] = SimpleQueue()
    source.subscribe(taken.put)
    assert taken.get(timeout=SOON).default_queue == "second"


def test_the_file_is_looked_at_every_ten_seconds_where_nothing_else_is_said(path: Path) -> None:
    source = Config.from_yaml(path, keep_reloading=True).source
    assert source is not None
    assert source.interval == 10


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        ("results_expire_in: soon", "results_expire_in is 'soon'"),
        ("defualt_queue: x", "unknown key 'defualt_queue'"),
        ("broker: 'redis://:s3cr3t@h", "is not YAML"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_wrong_is_logged_once_and_the_old_one_kept(
    path: Path, source: ConfigFile[Config], caplog: pytest.LogCaptureFixture, contents: str | None, complaint: str
) -> None:
    taken: list[Config] = []
    source.subscribe(taken.append)
    path.unlink() if contents is None else path.write_text(contents)
    assert not source.look()
    assert not source.look()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert complaint in record.message
    assert str(path) in record.message
    assert "the configuration stays as it was" in record.message
    assert "s3cr3t" not in record.message
    assert not taken


def test_a_file_that_was_mended_is_taken_and_wrong_again_is_logged_again(
    path: Path, source: ConfigFile[Config], caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text("max_crashes: none")
    assert not source.look()
    path.write_text("default_queue: first")
    assert not source.look()  # back to what it was: nothing to take over
    path.write_text("max_crashes: none")
    assert not source.look()
    path.write_text("max_crashes: 5")
    assert source.look()
    assert len(caplog.records) == 2


def test_nothing_that_stands_in_a_file_ends_the_watch(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def parse(contents: bytes, source: ConfigFile[int]) -> int:
        return int(contents)

    source = ConfigFile(path, parse, NEVER)
    path.write_text("s3cr3t")
    assert not source.look()
    assert "ValueError" in caplog.text
    assert "s3cr3t" not in caplog.text
    path.write_text("5")
    assert source.look()


def test_a_section_that_a_plug_in_in_use_would_refuse_is_not_swapped_in(
    path: Path, config: Config, site_packages: SitePackages, caplog: pytest.LogCaptureFixture
) -> None:
    assert config.source is not None
    site_packages.install("acme-shelf", {"brokers": {"shelf": "Broker"}})
    load_broker("shelf://", config)
    path.write_text("shelf: {size: many}")
    assert not config.source.look()
    assert "shelf.size (SHELF_SIZE) is 'many'" in caplog.text
    path.write_text("shelf: {size: 5}")
    assert config.source.look()


def test_every_subscriber_is_told_though_one_fails(
    path: Path, source: ConfigFile[Config], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(config: Config) -> None:
        raise RuntimeError("cannot take it over")

    taken: list[Config] = []
    source.subscribe(fail)
    source.subscribe(taken.append)
    path.write_text("default_queue: second")
    assert source.look()
    assert len(taken) == 1
    assert "cannot take it over" in caplog.text


def test_who_subscribes_late_gets_the_latest_at_once(path: Path, source: ConfigFile[Config]) -> None:
    path.write_text("default_queue: second")
    source.look()
    taken: list[Config] = []
    source.subscribe(taken.append)
    assert [config.default_queue for config in taken] == ["second"]


def test_nothing_is_watched_before_somebody_subscribes(config: Config) -> None:
    assert not watchers()


def test_the_watch_ends_with_the_last_subscriber(path: Path, source: ConfigFile[Config]) -> None:
    first: list[Config] = []
    second: list[Config] = []
    source.subscribe(first.append)
    source.subscribe(second.append)
    (watcher,) = watchers()
    assert watcher.daemon
    source.unsubscribe(first.append)
    source.unsubscribe(first.append)
    assert watcher.is_alive()
    path.write_text("default_queue: second")
    source.look()
    assert (len(first), len(second)) == (0, 1)
    source.unsubscribe(second.append)
    watcher.join(SOON)
    assert not watcher.is_alive()


def test_closing_ends_the_watch_and_may_be_repeated(source: ConfigFile[Config]) -> None:
    source.subscribe(SimpleQueue[Config]().put)
    (watcher,) = watchers()
    source.close()
    source.close()
    watcher.join(SOON)
    assert not watcher.is_alive()


def test_a_subscriber_may_close_the_file(path: Path, open_config: Callable[..., Config]) -> None:
    source = open_config(interval=0.01).source
    assert source is not None
    source.subscribe(lambda _: source.close())
    (watcher,) = watchers()
    path.write_text("default_queue: second")
    watcher.join(SOON)
    assert not watcher.is_alive()


def test_what_was_changed_in_code_outlasts_a_reload(path: Path, config: Config) -> None:
    changed = config.with_(mixed_fleet=True)
    assert changed.source is not None
    assert changed.source is not config.source
    taken: list[Config] = []
    changed.source.subscribe(taken.append)
    path.write_text("default_queue: second")
    changed.source.look()
    changed.source.close()
    assert taken == [Config(default_queue="second", mixed_fleet=True)]
    assert taken[0].source is changed.source


def test_a_reload_says_which_keys_are_in_effect_and_which_wait_for_a_restart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = Config(broker="redis://:s3cr3t@h")
    new = Config(
        default_queue="q", mixed_fleet=True, drain_timeout=timedelta(0), sections={"redis": {}}, origin="machinery.yaml"
    )
    with caplog.at_level(logging.INFO, "machinery"):
        log_changes(old, new, logging.getLogger("machinery"))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "machinery.yaml changed; in effect from now on: default_queue, mixed_fleet"),
        ("WARNING", "machinery.yaml changed; in effect only after a restart: broker, drain_timeout, sections"),
    ]


def test_a_reload_that_changes_nothing_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        log_changes(Config(), Config(), logging.getLogger("machinery"))
    assert not caplog.records
