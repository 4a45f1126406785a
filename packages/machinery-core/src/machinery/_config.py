"""Configuration: one frozen value, injected, never global."""

from __future__ import annotations

import copy
import dataclasses
import functools
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_type_hints

from machinery._config_files import ConfigFile, parse_toml, parse_yaml, read_file
from machinery._entry_points import SECTION_DISTRIBUTIONS, imported_sections, installed_sections
from machinery._sections import Options, Section, parse_contents, require_known
from machinery._settings import Span, closest, refuse, to_setting
from machinery._urls import ServiceUrl, redact_value
from machinery.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_QUEUE = "machinery_tasks"
"""Go's default queue (protocol §9)."""

ENVIRONMENT: Mapping[str, str] = {
    "BROKER": "broker",
    "RESULT_BACKEND": "result_backend",
    "LOCK": "lock",
    "MULTIPLE_BROKEN_SEPARATOR": "multiple_broker_separator",
    "MULTIPLE_BROKER_SEPARATOR": "multiple_broker_separator",
    "DEFAULT_QUEUE": "default_queue",
    "RESULTS_EXPIRE_IN": "results_expire_in",
    "NO_UNIX_SIGNALS": "no_unix_signals",
    "MACHINERY_GROUP_EXPIRE_IN": "group_expire_in",
    "MACHINERY_MIXED_FLEET": "mixed_fleet",
    "MACHINERY_DRAIN_TIMEOUT": "drain_timeout",
    "MACHINERY_CONNECT_TIMEOUT": "connect_timeout",
    "MACHINERY_MAX_CRASHES": "max_crashes",
    "MACHINERY_UNLIMITED_CONCURRENCY": "unlimited_concurrency",
    "MACHINERY_PROGRAM_NAME": "program_name",
}
"""Environment variable → key. The first ones are Go's, its misspelling included."""

KEYS_USED_PER_CALL = frozenset({"default_queue", "mixed_fleet"})
"""Keys that take effect as soon as a reloaded file holds them."""
KEYS_USED_AT_START = frozenset(
    {
        "broker",
        "connect_timeout",
        "drain_timeout",
        "group_expire_in",
        "lock",
        "max_crashes",
        "multiple_broker_separator",
        "no_unix_signals",
        "program_name",
        "result_backend",
        "results_expire_in",
        "sections",
        "unlimited_concurrency",
    }
)
"""Keys that went into connections, stores and workers when these were made: a reload names them in the log."""

_RESULTS_EXPIRE_IN = Span(timedelta(hours=1))
_GROUP_EXPIRE_IN = Span(timedelta(days=7))
_DRAIN_TIMEOUT = Span(timedelta(seconds=30))
_CONNECT_TIMEOUT = Span(timedelta(seconds=5))
_DEFAULTS_FOR_ZERO = {"results_expire_in": _RESULTS_EXPIRE_IN.default, "group_expire_in": _GROUP_EXPIRE_IN.default}
_URL_KEYS = frozenset({"broker", "lock", "result_backend"})
_NOT_KEYS = frozenset({"origin", "sections", "source"})
_RELOAD_INTERVAL = 10.0

_logger = logging.getLogger("machinery")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of a server. Spans take a `timedelta` or a number of seconds and are kept as `timedelta`.

    A value of the wrong type or out of range is a `ConfigError` that names the key, the value and what would be right. The
    ``repr`` shows what differs from the defaults, without secrets.
    """

    broker: str = ""
    """Broker URL; its scheme names the plug-in."""
    result_backend: str = ""
    """Result backend URL; empty: the broker's, where its plug-in has a backend, else ``null://``."""
    lock: str = ""
    """Lock URL; empty: the broker's or the backend's, where the plug-in has a lock, else in-process."""
    multiple_broker_separator: str = ""
    """Splits ``broker`` into several hosts (AMQP)."""
    default_queue: str = DEFAULT_QUEUE
    results_expire_in: Span = _RESULTS_EXPIRE_IN
    """How long a record lives after its last write. 0 means the default, as in Go."""
    group_expire_in: Span = _GROUP_EXPIRE_IN
    """How long the records of an open group live after a member last finished. 0 means the default."""
    no_unix_signals: bool = False
    """`Worker.launch` leaves SIGINT and SIGTERM alone."""
    mixed_fleet: bool = False
    """Go workers consume the same queues: refuse what harms them, count groups by reading states at once."""
    drain_timeout: Span = _DRAIN_TIMEOUT
    """How long a stopping worker lets running tasks finish before it hands them back."""
    connect_timeout: Span = _CONNECT_TIMEOUT
    """How long to try to reach a service before it is `Unavailable`. More than 0."""
    max_crashes: int = 3
    """How many started runs of one task may end in no answer before it is a dead letter. At least 1."""
    unlimited_concurrency: int = 1000
    """The named limit behind concurrency 0. At least 1."""
    program_name: str = ""
    """Goes into the key of periodic locks, as Go's ``argv[0]`` does; empty: this program's base name."""
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    """The plug-ins' own sections by name (``redis``, ``amqp``, …), as read; each plug-in parses its own."""
    origin: str = field(default="", compare=False, repr=False)
    """Where the settings were read, for errors: a file's path, ``environment``, or empty for code."""
    source: ConfigFile[Config] | None = field(default=None, compare=False, repr=False)
    """The file that is read again while the program runs (`from_yaml` with ``keep_reloading``)."""

    def __post_init__(self) -> None:
        for key in _keys():
            label = f"{self.origin}: {key}" if self.origin else key
            object.__setattr__(self, key, _to_value(key, getattr(self, key), label))
        object.__setattr__(self, "sections", _to_sections(self.sections, self.origin))

    def __repr__(self) -> str:
        shown = (
            f"{named.name}={redact_value(named.name, value)!r}"
            for named in dataclasses.fields(self)
            if named.repr and (value := getattr(self, named.name)) != _default(named)
        )
        return f"Config({', '.join(shown)})"

    def with_(self, **changes: Any) -> Self:
        """A copy with other values for some keys. They outlast a reload. Raises `ConfigError` for a key there is none of."""
        require_known_keys(changes, "Config.with_")
        source = self.source and self.source.changed_by(lambda config: dataclasses.replace(config, **changes))
        return dataclasses.replace(self, **changes, source=source)

    @property
    def results_expire_seconds(self) -> int:
        """`results_expire_in` for stores that only know whole seconds: rounded up, at least 1."""
        return _to_whole_seconds(self.results_expire_in)

    @property
    def group_expire_seconds(self) -> int:
        """`group_expire_in` for stores that only know whole seconds: rounded up, at least 1."""
        return _to_whole_seconds(self.group_expire_in)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """What the environment (``os.environ``) says; what is not there, or empty, keeps its default.

        Go's names: ``BROKER``, ``RESULT_BACKEND``, ``LOCK``, ``MULTIPLE_BROKEN_SEPARATOR`` (sic; spelled ``BROKER`` too),
        ``DEFAULT_QUEUE``, ``RESULTS_EXPIRE_IN`` (seconds), ``NO_UNIX_SIGNALS``, and for the plug-ins' sections what each of the
        installed ones declares (``REDIS_MAX_ACTIVE``, ``AMQP_EXCHANGE`` …), also with the section's name before it
        (``AMQP_AMQP_EXCHANGE``), which wins. What Go has not: ``MACHINERY_GROUP_EXPIRE_IN``, ``MACHINERY_MIXED_FLEET``,
        ``MACHINERY_DRAIN_TIMEOUT``, ``MACHINERY_CONNECT_TIMEOUT`` (seconds each), ``MACHINERY_MAX_CRASHES``,
        ``MACHINERY_UNLIMITED_CONCURRENCY``, ``MACHINERY_PROGRAM_NAME``. Flags are ``true`` or ``false``, ``1`` or ``0``.

        Only what is set takes part: no section, and no TLS, comes into being because the environment was read (in Go, TLS
        does). Raises `ConfigError` that names the variable.
        """
        environ = os.environ if environ is None else environ
        given = {
            key: _to_value(key, environ[variable], f"environment variable {variable}", from_text=True)
            for variable, key in ENVIRONMENT.items()
            if environ.get(variable)
        }
        _warn_of_typos(environ)
        sections = {
            section.name: contents
            for section in installed_sections().values()
            if (contents := _section_from_env(section, environ))
        }
        return cls(**given, sections=sections, origin="environment")

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Self:
        """What a TOML file says: keys at the top, plug-ins' sections as tables. Raises `ConfigError` that names file and key."""
        return cls._parsed(read_file(Path(path)), Path(path), parse_toml)

    @classmethod
    def from_yaml(
        cls, path: str | os.PathLike[str], *, keep_reloading: bool = False, interval: float = _RELOAD_INTERVAL
    ) -> Self:
        """What a YAML file says, with Go's keys and sections; Go reads the first 1000 bytes, we the whole file.

        ``keep_reloading``: while a server uses it, the file is looked at every ``interval`` seconds and, when it changed, swapped
        in whole. The keys in `KEYS_USED_PER_CALL` take effect, the others are named in the log; a file that is wrong is logged
        and the old configuration kept. Needs ``pip install 'machinery-core[yaml]'``. Raises `ConfigError` that names file and
        key.
        """
        contents = read_file(Path(path))
        config = cls._parsed(contents, Path(path), parse_yaml)
        if not keep_reloading:
            return config

        def parse_again(contents: bytes, source: ConfigFile[Config]) -> Config:
            again = dataclasses.replace(cls._parsed(contents, Path(path), parse_yaml), source=source)
            _check_sections(again)
            return again

        return dataclasses.replace(config, source=ConfigFile(Path(path), parse_again, interval, contents))

    @classmethod
    def _parsed(cls, contents: bytes, path: Path, parse: Callable[[bytes, str], dict[Any, Any]]) -> Self:
        written = parse(contents, str(path))
        sections = {key: value for key, value in written.items() if _is_section(key, value)}
        given = {key: value for key, value in written.items() if key not in sections}
        if not _keys().keys() >= given.keys():
            _require_known_keys(given, {*_keys(), *SECTION_DISTRIBUTIONS, *installed_sections()}, str(path))
        return cls(
            **{key: value for key, value in given.items() if value is not None},
            sections={name: {} if keys is None else keys for name, keys in sections.items()},
            origin=str(path),
        )


def parse_section(section: Section, config: Config, options: type[Options], url: ServiceUrl | None = None) -> Options:
    """``options`` (a dataclass) made of a plug-in's ``section`` of ``config``; defaults where there is none.

    Keys become the fields of the same name. Fields may be `str`, `bool`, `int`, `float`, `timedelta` or `Span` (a number of
    seconds), a `Literal`, a list, tuple or mapping, or any of these or ``None``. With ``url``, keys may also stand in its query
    (``?read_timeout=3``), where they win. A `ValueError` from ``__post_init__`` is reported like everything else that is wrong:
    as a `ConfigError` that names file or URL, section, key, value (redacted) and what would be right.
    """
    layers = [(config.origin or "Config.sections", config.sections.get(section.name, {}))]
    if url is not None and url.query:
        layers.append((str(url), url.query))
    return parse_contents(section, options, *layers)


def check_section(section: Section, config: Config) -> None:
    """Raise the `ConfigError` that the plug-in would raise for its ``section`` of ``config``."""
    if section.options is not None:
        parse_section(section, config, section.options)
    elif section.keys:
        for key in config.sections.get(section.name, {}):
            require_known(key, section, config.origin or "Config.sections")


def log_changes(old: Config, new: Config, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
    """Say which keys a reload changed: those in effect from now on, and those that wait for a restart."""
    changed = sorted(key for key in {*_keys(), "sections"} if getattr(old, key) != getattr(new, key))
    now = [key for key in changed if key in KEYS_USED_PER_CALL]
    later = [key for key in changed if key not in KEYS_USED_PER_CALL]
    if now:
        logger.info("%s changed; in effect from now on: %s", new.origin, ", ".join(now))
    if later:
        logger.warning("%s changed; in effect only after a restart: %s", new.origin, ", ".join(later))


@functools.cache
def _keys() -> Mapping[str, Any]:
    """Key → type of everything but the sections."""
    hints = get_type_hints(Config)
    return {named.name: hints[named.name] for named in dataclasses.fields(Config) if named.name not in _NOT_KEYS}


def _to_value(key: str, value: Any, label: str, *, from_text: bool = False) -> Any:
    value = to_setting(value, _keys()[key], key, label, from_text=from_text)
    if key in _URL_KEYS:
        return value.strip()
    if key == "default_queue" and not value:
        refuse(label, key, value, "it must name a queue")
    if key == "connect_timeout" and not value:
        refuse(label, key, value, "it must be more than 0")
    if _keys()[key] is int and value < 1:
        refuse(label, key, value, "it must be at least 1")
    return value or _DEFAULTS_FOR_ZERO.get(key, value)


def _to_sections(sections: Any, origin: str) -> dict[str, dict[str, Any]]:
    """A deep copy, so that nobody else can change what is frozen here."""
    where = f"{origin}: " if origin else ""
    if not isinstance(sections, Mapping):
        raise ConfigError(
            f"{where}sections is a {type(sections).__name__}; it must map a section's name to its keys and values"
        )
    for name, contents in sections.items():
        if not isinstance(name, str):
            raise ConfigError(f"{where}section {name!r} has a name that is not text")
        if not isinstance(contents, Mapping):
            refuse(f"{where}section {name}", name, contents, "it must be a table of keys and values")
        for key in contents:
            if not isinstance(key, str):
                raise ConfigError(f"{where}section {name} has the key {key!r}; a key must be text")
    return {name: copy.deepcopy(dict(contents)) for name, contents in sections.items()}


def _is_section(key: Any, value: Any) -> bool:
    """Whether a top-level key is a section: Go's, or one of an installed plug-in (imported only when it comes to that)."""
    if key in SECTION_DISTRIBUTIONS:
        return True
    return key not in _keys() and (value is None or isinstance(value, Mapping)) and key in installed_sections()


def require_known_keys(given: Mapping[str, Any], where: str, *, but: str = "") -> None:
    """Raise the `ConfigError` that says ``where`` there stands a key that is no setting, or is ``but``."""
    _require_known_keys(given, {*_keys(), "sections"} - {but}, where)


def _require_known_keys(written: Mapping[Any, Any], known: set[str], origin: str) -> None:
    for key, value in written.items():
        if key not in known:
            kind = "section" if isinstance(value, Mapping) else "key"
            raise ConfigError(
                f"{origin}: unknown {kind} {key!r}{closest(key, known)}; known are {', '.join(sorted(known))}"
            )


def _section_from_env(section: Section, environ: Mapping[str, str]) -> dict[str, str]:
    """Go also answers to a doubled name, such as ``AMQP_AMQP_EXCHANGE``, and prefers it (protocol §9)."""
    prefix = f"{section.name.upper()}_"
    return {
        key: text
        for variable, key in section.environment.items()
        if (text := environ.get(prefix + variable) or environ.get(variable))
    }


def _warn_of_typos(environ: Mapping[str, str]) -> None:
    ours = [variable for variable in ENVIRONMENT if variable.startswith("MACHINERY_")]
    for variable in environ:
        if (
            variable.startswith("MACHINERY_")
            and variable not in ENVIRONMENT
            and (hint := closest(variable, ours, 0.85))
        ):
            _logger.warning("environment variable %s is not one of ours%s", variable, hint)


def _check_sections(config: Config) -> None:
    """Try the sections of the plug-ins in use: a reload must not swap in what these cannot read. Raises `ConfigError`."""
    for section in imported_sections().values():
        check_section(section, config)


def _to_whole_seconds(span: timedelta) -> int:
    return max(1, math.ceil(span.total_seconds()))


def _default(named: dataclasses.Field[Any]) -> Any:
    return named.default_factory() if named.default_factory is not dataclasses.MISSING else named.default
