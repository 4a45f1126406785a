"""The smallest example: a server, a task and a worker in one process.

`memory://` lives and dies with the process. Nothing else changes with `sqlite:///tasks.db` or `redis://localhost:6379`, where the
worker may run anywhere (`machinery worker hello:server`).
"""

from machinery import Server

server = Server.from_url("memory://")


@server.task
def greet(name: str) -> str:
    """Say hello."""
    return f"Hello, {name}!"


if __name__ == "__main__":
    with server, server.new_worker("hello", concurrency=2):
        print(greet.send("world").get(timeout=5))
