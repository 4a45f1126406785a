"""A chain: tasks one after the other. Each gets the results of the one before, after its own arguments.

Whoever finishes a task sends the next one, so a chain needs no more of the sender than its start.
"""

import math

from machinery import Server, chain

server = Server.from_url("memory://")


@server.task
def add(*numbers: int) -> int:
    """Add whole numbers."""
    return sum(numbers)


@server.task
def multiply(*numbers: int) -> int:
    """Multiply whole numbers."""
    return math.prod(numbers)


def main() -> None:
    """Send a chain of three. Its result is that of the last task, and has one for each."""
    steps = chain(add.signature(1, 1), add.signature(5, 5), multiply.signature(4))
    result = server.send_chain(steps)
    print(f"multiply(4, add(5, 5, add(1, 1))) = {result.get(timeout=5)}")
    print(f"step by step: {[member.get(timeout=5) for member in result.members]}")


if __name__ == "__main__":
    with server, server.new_worker("chain", concurrency=2):
        main()
