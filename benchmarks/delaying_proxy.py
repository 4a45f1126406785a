"""A cable to Redis that takes its time: ``python -m benchmarks.delaying_proxy HOST PORT MILLISECONDS``; prints its port.

Half of the milliseconds are spent in each direction. Nothing else is limited: any number of pieces may be under way at once,
as on a long cable. One thread and `select`, whose timeouts are exact where event loops round up to a millisecond. It adds some
0.1 ms of its own to a round trip; what a round trip really takes is measured beside it.

Standard library only.
"""

from __future__ import annotations

import ctypes
import heapq
import select
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

CHUNK = 1 << 18
PR_SET_TIMERSLACK = 29
"""Linux may end any wait 50 µs late, twice in a round trip; this asks for 1 ns."""


class DelayingProxy:
    """Passes everything on to ``(host, port)`` after a delay, in both directions."""

    def __init__(self, host: str, port: int, one_way: float) -> None:
        self._target = (host, port)
        self._one_way = one_way
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._others: dict[socket.socket, socket.socket] = {}
        self._under_way: list[tuple[float, int, socket.socket, bytes]] = []
        self._sequence = 0

    def serve(self) -> None:
        """Pass on until the process is ended."""
        while True:
            wait = max(0.0, self._under_way[0][0] - time.monotonic()) if self._under_way else None
            readable, _, _ = select.select([self._listener, *self._others], [], [], wait)
            for side in readable:
                if side is self._listener:
                    self._connect()
                elif side in self._others:
                    self._take(side)
            self._deliver()

    def _connect(self) -> None:
        client, _ = self._listener.accept()
        service = socket.create_connection(self._target)
        for side, other in ((client, service), (service, client)):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._others[side] = other

    def _take(self, side: socket.socket) -> None:
        try:
            piece = side.recv(CHUNK)
        except ConnectionError:
            piece = b""
        if not self._one_way:
            self._pass_on(self._others[side], piece)
            return
        self._sequence += 1
        due = time.monotonic() + self._one_way
        heapq.heappush(self._under_way, (due, self._sequence, self._others[side], piece))
        if not piece:  # the end travels like everything else
            self._others.pop(side)

    def _deliver(self) -> None:
        while self._under_way and self._under_way[0][0] <= time.monotonic():
            _, _, target, piece = heapq.heappop(self._under_way)
            self._pass_on(target, piece)

    def _pass_on(self, target: socket.socket, piece: bytes) -> None:
        with suppress(OSError):
            if piece:
                target.sendall(piece)
                return
        self._end(target)

    def _end(self, side: socket.socket) -> None:
        other = self._others.pop(side, None)
        if other is not None:
            self._others.pop(other, None)
            other.close()
        side.close()


def main(arguments: Sequence[str]) -> None:
    """Carry out the command line."""
    host, port, milliseconds = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    proxy = DelayingProxy(host, int(port), float(milliseconds) / 2000)
    print(proxy.port, flush=True)
    proxy.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
