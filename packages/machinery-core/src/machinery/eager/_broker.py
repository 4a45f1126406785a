"""The broker that runs what it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from machinery.abc import Broker, BrokerCapabilities
from machinery.errors import Closed, ConfigError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from machinery._config import Config
    from machinery.abc import Consumer, DeadLetter, Message

CAPABILITIES = BrokerCapabilities(
    priorities=True,
    dead_letters=False,
    routing_key_in_body=False,
    redelivers_dead_consumers=False,
    several_processes=False,
)
"""Takes any ETA, queue and priority, and minds none of them: there is only now, here and one at a time."""


class EagerBroker(Broker):
    """Runs each message inside `publish`, by the function that was assigned. The server that owns it assigns its own."""

    def __init__(self, run: Callable[[Message], None] | None = None) -> None:
        self._run = run
        self._closed = False

    @classmethod
    def from_url(cls, url: str, config: Config) -> Any:  # noqa: ARG003 - nothing to configure
        """A broker that waits for `assign`."""
        return cls()

    @property
    def capabilities(self) -> BrokerCapabilities:
        """Constant."""
        return CAPABILITIES

    def assign(self, run: Callable[[Message], None]) -> None:
        """Run messages with ``run``, which does all a worker would: decode, call, save, and send what follows."""
        self._run = run

    def publish(self, messages: Sequence[Message]) -> None:
        """Run them in the order given, each to its end. What ``run`` raises comes out. Raises `ConfigError` before `assign`."""
        self._check_open()
        if self._run is None:
            raise ConfigError(
                "nobody runs the tasks of this EagerBroker: give it to a Server, or call assign() with a function"
            )
        for message in messages:
            self._run(message)

    def consumer(self, queue: str, name: str) -> Consumer:
        """Raises `Unsupported`."""
        self._check_open()
        raise Unsupported(
            f"eager:// has no worker ({name} asked for {queue!r}): tasks run inside the call that sends them. Leave the worker "
            "out, or use memory:// or sqlite:///file.db"
        )

    def pending(self, queue: str, limit: int) -> list[Message]:  # noqa: ARG002
        """Nothing ever waits."""
        self._check_open()
        return []

    def delayed(self, limit: int) -> list[Message]:  # noqa: ARG002
        """Nothing ever waits."""
        self._check_open()
        return []

    def purge(self, queue: str) -> int:  # noqa: ARG002
        """Nothing ever waits."""
        self._check_open()
        return 0

    def dead(self, queue: str, limit: int) -> list[DeadLetter]:  # noqa: ARG002
        """Raises `Unsupported`."""
        self._refuse_dead_letters()

    def requeue_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:  # noqa: ARG002
        """Raises `Unsupported`."""
        self._refuse_dead_letters()

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None) -> int:  # noqa: ARG002
        """Raises `Unsupported`."""
        self._refuse_dead_letters()

    def close(self) -> None:
        """There is no connection."""
        self._closed = True

    def _refuse_dead_letters(self) -> NoReturn:
        self._check_open()
        raise Unsupported(
            "eager:// keeps no dead letters: a task that is given up shows its error to the caller who sent it"
        )

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this broker was closed")
