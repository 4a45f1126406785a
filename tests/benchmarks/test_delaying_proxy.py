"""The cable delays, and does nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from benchmarks.delaying_proxy import DelayingProxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a service that says what it hears, to one client."""

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            while piece := client.recv(1 << 16):
                client.sendall(piece)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def connected(port: int, one_way: float) -> socket.socket:
    """A client of the service, at the other end of the cable."""
    proxy = DelayingProxy("127.0.0.1", port, one_way)
    threading.Thread(target=proxy.serve, daemon=True).start()
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def received(client: socket.socket, size: int) -> bytes:
    """So many bytes."""
    found = b""
    while len(found) < size:
        piece = client.recv(1 << 16)
        assert piece
        found += piece
    return found


def test_a_round_trip_takes_twice_the_way(echo: int) -> None:
    with connected(echo, one_way=0.05) as client:
        start = time.monotonic()
        client.sendall(b"there")
        assert received(client, 5) == b"there"
        assert time.monotonic() - start >= 0.1


def test_pieces_do_not_wait_for_those_before_them(echo: int) -> None:
    with connected(echo, one_way=0.2) as client:
        start = time.monotonic()
        for _ in range(20):
            client.sendall(b"piece")
            time.sleep(0.001)  # a piece of its own, not a wait for anything
        assert received(client, 100) == b"piece" * 20
        assert time.monotonic() - start < 20 * 0.4


@pytest.mark.parametrize("one_way", [0.0, 0.001])
def test_everything_arrives_in_order(echo: int, one_way: float) -> None:
    contents = bytes(range(256)) * 400
    with connected(echo, one_way) as client:
        client.sendall(contents)
        assert received(client, len(contents)) == contents


@pytest.mark.parametrize("one_way", [0.0, 0.001])
def test_the_end_of_a_connection_travels_too(echo: int, one_way: float) -> None:
    with connected(echo, one_way) as client:
        client.sendall(b"last")
        received(client, 4)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
