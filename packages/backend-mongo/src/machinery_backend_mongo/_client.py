"""One database of one MongoDB: made when it is first used, its indexes before the first write, every error translated."""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pymongo
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from machinery.errors import Closed, ConfigError
from machinery_backend_mongo._collections import Collections
from machinery_backend_mongo._documents import CODEC
from machinery_backend_mongo._errors import DRIVER_ERRORS, translate
from machinery_backend_mongo._indexes import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from pymongo.database import Database

SAFE = WriteConcern("majority", j=True)
"""What is acknowledged survives a kill of the server, and the loss of the primary where the set has others."""


class Client:
    """The database. Safe from any thread. Raises `BackendUnavailable`, `ConfigError`, `Unsupported`; `Closed` after `close`."""

    def __init__(
        self,
        make: Callable[[], pymongo.MongoClient[Any]],
        database: str,
        *,
        address: str,
        answer_timeout: timedelta | None,
        owned: bool = True,
    ) -> None:
        self.address = address
        """The URL without secrets."""
        self._make = make
        self._database = database
        self._answer_timeout = answer_timeout.total_seconds() if answer_timeout else None
        self._owned = owned
        self._driver: pymongo.MongoClient[Any] | None = None
        self._collections: Collections | None = None
        self._opening = threading.Lock()
        self._is_indexed = False
        self._closed = False

    def check_open(self) -> None:
        """Raise `Closed` after `close`."""
        if self._closed:
            raise Closed("this result backend was closed")

    @contextmanager
    def calls(self) -> Iterator[Collections]:
        """The collections, for calls whose errors are translated and which together take no longer than an answer may."""
        self.check_open()
        try:
            with nullcontext() if self._answer_timeout is None else pymongo.timeout(self._answer_timeout):
                yield self._collections or self._open()
        except DRIVER_ERRORS as error:
            self.check_open()
            raise translate(error, self.address) from None

    @contextmanager
    def writes(self) -> Iterator[Collections]:
        """Like `calls`, after the indexes were made that let everything expire."""
        if not self._is_indexed:
            with self.calls() as collections:
                ensure(
                    collections, self.address
                )  # several at once do no harm, and nobody waits for another one's time to end
                self._is_indexed = True
        with self.calls() as collections:
            yield collections

    @contextmanager
    def database(self) -> Iterator[Database[Any]]:
        """The database itself, for looking at its settings."""
        with self.calls() as collections:
            yield collections.tasks.database

    def close(self) -> None:
        """Let go of every connection, but of an application's own client."""
        with self._opening:
            self._closed = True
            if self._driver is not None and self._owned:
                self._driver.close()
            self._driver = self._collections = None

    def _open(self) -> Collections:
        with self._opening:
            self.check_open()
            if self._collections is None:
                self._driver = self._make()
                self._collections = Collections.of(
                    self._driver.get_database(
                        self._database,
                        codec_options=CODEC,
                        read_preference=ReadPreference.PRIMARY,
                        write_concern=concern_of(self._driver, self.address),
                    )
                )
            return self._collections


def concern_of(driver: pymongo.MongoClient[Any], address: str) -> WriteConcern:
    """How safe a write is before it counts as done: as the client says, and `SAFE` where it says nothing.

    Raises `ConfigError` for a client that does not want to know.
    """
    concern = driver.write_concern
    if not concern.acknowledged:
        raise ConfigError(
            f"the write concern of MongoDB at {address} is w=0, so that nobody would know what is stored; leave w out of the URL"
        )
    return SAFE if concern.is_server_default else concern
