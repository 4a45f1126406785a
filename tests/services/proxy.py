"""A cable between a client and a service that can be cut, slowed down and blocked."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

CHUNK = 65536


class _Cable:
    """One connection: a client's socket, the service's, and a thread for each direction."""

    def __init__(self, proxy: CuttingProxy, client: socket.socket, service: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.service = service
        self.threads = [
            threading.Thread(target=self._carry, args=(client, service, False), daemon=True),
            threading.Thread(target=self._carry, args=(service, client, True), daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def cut(self) -> None:
        """End the connection on both sides."""
        for side in (self.client, self.service):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def _carry(self, source: socket.socket, target: socket.socket, is_reply: bool) -> None:
        try:
            while chunk := source.recv(CHUNK):
                if not self.proxy.lets_pass(is_reply=is_reply):
                    break
                target.sendall(chunk)
        except OSError:
            pass
        self.cut()


class CuttingProxy:
    """Listens on a port of the loopback interface and passes everything on to ``(host, port)`` until told otherwise.

    As a context manager it ends with the block. `connections` counts those accepted so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._cables: list[_Cable] = []
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self._ended = threading.Event()
        self._refusing = threading.Event()
        self._delay = 0.0
        self._lose_next_reply = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(self) -> None:
        """End every connection there is now. New ones are taken as before."""
        with self._lock:
            cables, self._cables = self._cables, []
        for cable in cables:
            cable.cut()

    def refuse(self) -> None:
        """Cut, and end every new connection at once, until `restore`."""
        self._refusing.set()
        self.cut()

    def black_hole(self) -> None:
        """Let nothing through in either direction, and nobody know, until `restore`: then what was sent arrives."""
        self._open.clear()

    def delay(self, seconds: float) -> None:
        """Hold every piece back for so long, in both directions."""
        self._delay = seconds

    def lose_next_reply(self) -> None:
        """Drop the next piece that the service sends, and cut that connection: the call was carried out and nobody knows."""
        self._lose_next_reply = True

    def restore(self) -> None:
        """Pass everything on again."""
        self._refusing.clear()
        self._delay = 0.0
        self._lose_next_reply = False
        self._open.set()

    def close(self) -> None:
        """End the proxy and all its connections."""
        self._ended.set()
        self._open.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        self.cut()

    def lets_pass(self, *, is_reply: bool) -> bool:
        """Whether a piece may pass; returns when it is time. False: the connection is to be cut."""
        if self._delay:
            self._ended.wait(self._delay)
        self._open.wait()
        if is_reply and self._lose_next_reply:
            self._lose_next_reply = False
            return False
        return True

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                if self._refusing.is_set():
                    raise ConnectionRefusedError
                service = socket.create_connection(self._target, timeout=5)
                service.settimeout(None)
                for side in (client, service):
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._cables.append(_Cable(self, client, service))
            if self._refusing.is_set():  # since we looked: this one was not among those that were cut
                self.cut()
