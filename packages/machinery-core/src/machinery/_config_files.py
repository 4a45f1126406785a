"""Configuration files: read, parsed, and looked at again while the program runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from machinery.errors import ConfigError

Value = TypeVar("Value")


def read_file(path: Path) -> bytes:
    """The file's bytes, however many. Raises `ConfigError` that names it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error.strerror or error}") from error


def parse_toml(contents: bytes, origin: str) -> dict[Any, Any]:
    """The keys and values of a TOML text. Raises `ConfigError` that names ``origin`` and the place."""
    import tomllib  # noqa: PLC0415 - a third of what importing core takes, and most programs read no such file

    try:
        return tomllib.loads(_decode(contents, origin))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin} is not TOML: {error}") from None


def parse_yaml(contents: bytes, origin: str) -> dict[Any, Any]:
    """The keys and values of a YAML text. Raises `ConfigError` that names ``origin`` and the place, or what to install."""
    try:
        import yaml  # noqa: PLC0415 - an extra: core itself needs only Python
    except ImportError as error:
        raise ConfigError(f"to read {origin} PyYAML is needed: pip install 'machinery-core[yaml]'") from error
    try:
        written = yaml.safe_load(_decode(contents, origin))
    except yaml.MarkedYAMLError as error:  # its own text quotes the line, and with it perhaps a password
        mark = error.problem_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ConfigError(f"{origin} is not YAML: {error.problem}{place}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{origin} is not YAML: {type(error).__name__}") from None
    if written is None:
        return {}
    if not isinstance(written, dict):
        raise ConfigError(
            f"{origin} holds a {type(written).__name__}; it must hold keys and values, such as broker: redis://…"
        )
    return written


def _decode(contents: bytes, origin: str) -> str:
    try:
        return contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{origin} is not UTF-8 (byte {error.start})") from None


class ConfigFile(Generic[Value]):
    """A file that is looked at again every ``interval`` seconds, from the first subscription until the last one is gone.

    When its contents changed, they are parsed and every subscriber gets the new value, whole. A file that is gone, unreadable or
    wrong is logged once and the old value stays. Replace the file in one step (write another, rename it): half a file may happen
    to be a correct one. Safe to use from any thread; subscribers are called on the watching thread, one after the other, and
    a call may still be under way when `close` returns.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes, ConfigFile[Value]], Value],
        interval: float,
        contents: bytes | None = None,
    ) -> None:
        """``parse`` is given this object too; ``contents``: what is known already, and so is no change."""
        self.path = path
        self.interval = interval
        self.logger = logging.getLogger("machinery")
        self._parse = parse
        self._seen = contents
        self._latest: Value | None = None
        self._complaint = ""
        self._looking = threading.RLock()  # held while subscribers run: they may want locks whose holders call `close`
        self._lock = threading.Lock()
        self._subscribers: list[Callable[[Value], None]] = []
        self._stopped: threading.Event | None = None

    def changed_by(self, change: Callable[[Value], Value]) -> ConfigFile[Value]:
        """Another watch of the same file, whose values go through ``change``. It has no subscribers yet."""
        return ConfigFile(self.path, lambda contents, source: change(self._parse(contents, source)), self.interval)

    def subscribe(self, callback: Callable[[Value], None]) -> None:
        """Have ``callback`` called with each new value; at once with the latest, where there was a change before."""
        with self._lock:
            self._subscribers.append(callback)
            latest = self._latest
            if self._stopped is None:
                self._stopped = threading.Event()
                watch = threading.Thread(
                    target=self._watch, args=(self._stopped,), name="machinery-config", daemon=True
                )
                watch.start()
        if latest is not None:
            callback(latest)

    def unsubscribe(self, callback: Callable[[Value], None]) -> None:
        """Do not call ``callback`` again. One that does not subscribe is no error."""
        with self._lock:
            if callback in self._subscribers:
                self._subscribers.remove(callback)
            if not self._subscribers:
                self._stop()

    def close(self) -> None:
        """Stop watching and forget all subscribers. May be called twice; a later subscription starts anew."""
        with self._lock:
            self._subscribers.clear()
            self._stop()

    def look(self) -> bool:
        """Look at the file now; whether a new value was handed out."""
        with self._looking:
            try:
                contents = read_file(self.path)
                value = None if contents == self._seen else self._parse(contents, self)
            except Exception as error:  # noqa: BLE001 - nothing that stands in a file may end the watch
                self._complain(str(error) if isinstance(error, ConfigError) else f"{self.path}: {type(error).__name__}")
                return False
            self._complaint = ""
            if value is None:
                return False
            with self._lock:
                self._seen, self._latest = contents, value
                subscribers = tuple(self._subscribers)
            for callback in subscribers:
                self._hand_out(value, callback)
            return True

    def _stop(self) -> None:
        if self._stopped is not None:
            self._stopped.set()
            self._stopped = None

    def _watch(self, stopped: threading.Event) -> None:
        while not stopped.wait(self.interval):
            self.look()

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            self.logger.error("%s; the configuration stays as it was", complaint)

    def _hand_out(self, value: Value, callback: Callable[[Value], None]) -> None:
        try:
            callback(value)
        except Exception:
            self.logger.exception("a subscriber failed to take over the new contents of %s", self.path)
