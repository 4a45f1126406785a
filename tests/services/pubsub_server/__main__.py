"""Serve until told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from grpc import aio

from tests.services.pubsub_server.journal import Journal
from tests.services.pubsub_server.project import Project
from tests.services.pubsub_server.service import Service

UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0))


async def main(port: str, journal: str = "") -> None:
    project = Project(Journal(Path(journal)) if journal else None)
    server = aio.server(options=UNLIMITED)
    server.add_generic_rpc_handlers(Service(project).handlers())
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await stopped.wait()
    await server.stop(grace=0)


asyncio.run(main(*sys.argv[1:]))
