"""SQLite's errors in our words: the one table."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from machinery.errors import ConfigError, MachineryError

if TYPE_CHECKING:
    from machinery.errors import Unavailable

BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
"""Somebody else is writing: worth another try at once."""

DEFECTS = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.IntegrityError)
"""Ours or the caller's mistake: trying again would never help, so they come out as they are."""

_WRONG_FILE = {
    sqlite3.SQLITE_NOTADB: "is not a SQLite database; name another file, or remove this one if it holds nothing you need",
    sqlite3.SQLITE_CORRUPT: "is damaged; stop all workers and restore it (sqlite3's .recover may save what is readable)",
}

_OUT_OF_REACH = {
    sqlite3.SQLITE_BUSY: "is locked by another process",
    sqlite3.SQLITE_LOCKED: "is locked by another connection",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; does its folder exist, and may this user write there?",
    sqlite3.SQLITE_READONLY: "cannot be written; its file and folder must be writable for this user",
    sqlite3.SQLITE_PERM: "cannot be opened by this user",
    sqlite3.SQLITE_FULL: "cannot grow; the disk is full",
    sqlite3.SQLITE_IOERR: "cannot be read or written; the disk reports an error",
}


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code (the low byte); 0 for errors that Python's module raised by itself."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def translate(error: sqlite3.Error, path: str, unavailable: type[Unavailable]) -> MachineryError:
    """The error to raise instead. A file that is no database will not become one: `ConfigError`; all else may pass."""
    code = primary_code(error)
    if code in _WRONG_FILE:
        return ConfigError(f"the file {path} {_WRONG_FILE[code]} ({error})")
    return unavailable(f"the SQLite file {path} {_OUT_OF_REACH.get(code, 'cannot be used')} ({error})")
