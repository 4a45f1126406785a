"""Services in containers of their own, for those who have a container engine and no servers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.services.chain import Unobtainable, check_docker
from tests.services.processes import comes_up


@contextmanager
def container_of(image: str, port: int, answers: Callable[[int, str], bool], command: str = "") -> Iterator[str]:
    """A container of that image: ``host:port`` where its ``port`` is reached. ``answers``: whether it does, by port and host."""
    check_docker()
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # the container is stopped here, by its id
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - only where there is an engine

    container = DockerContainer(image).with_exposed_ports(port)
    if command:
        container.with_command(command)
    try:
        container.start()
    except Exception as error:
        raise Unobtainable(f"the image {image} does not start ({type(error).__name__}: {error})") from error
    try:
        host, outside = container.get_container_host_ip(), int(container.get_exposed_port(port))
        if not comes_up(lambda: answers(outside, host)):
            raise Unobtainable(f"the image {image} starts, and nothing answers")
        yield f"{host}:{outside}"
    finally:
        container.stop()
