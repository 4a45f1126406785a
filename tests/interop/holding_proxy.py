"""A cable to a service on which one thing that a client says can be held back: the client stops right there."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

CHUNK = 65536
PATIENCE = 30.0


class HoldingProxy:
    """Listens on a port of the loopback interface and passes everything on to ``(host, port)``.

    Told to `hold` a text, it keeps the first piece a client sends with that text in it, and whatever follows on that
    connection, until `release`. All other connections go on. As a context manager it ends with the block, and then drops
    what it holds.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sides: list[socket.socket] = []
        self._text = b""
        self._holding = threading.Lock()
        self._held = threading.Event()
        self._released = threading.Event()
        self._dropped = False
        self._thread = threading.Thread(target=self._accept, name="holding-proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._dropped = True
        self._released.set()
        for side in (self._listener, *self._sides):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()
        self._thread.join(PATIENCE)

    def hold(self, text: str) -> None:
        """Hold back the next piece that a client sends with ``text`` in it."""
        self._text = text.encode()

    def wait(self) -> None:
        """Return when it is held; an `AssertionError` when nobody says it."""
        assert self._held.wait(PATIENCE), f"nobody has said {self._text!r}"

    def release(self) -> None:
        """Pass on what is held."""
        self._released.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            service = socket.create_connection(self._target)
            self._sides += [client, service]
            for side in (client, service):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, target, is_said in ((client, service, True), (service, client, False)):
                threading.Thread(target=self._carry, args=(source, target, is_said), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, is_said: bool) -> None:
        before = b""
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                if is_said and self._is_it(before + chunk):
                    self._held.set()
                    self._released.wait()
                    if self._dropped:
                        break
                before = chunk[-len(self._text) :]
                target.sendall(chunk)
        for side in (source, target):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def _is_it(self, said: bytes) -> bool:
        with self._holding:
            return bool(self._text) and not self._held.is_set() and self._text in said
