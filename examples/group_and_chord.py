"""A group, which is tasks side by side, and a chord, which is a group and a task that gets all its results.

Whoever finishes the last member of a chord sends the callback. It gets the results in the order of the group, after its own
arguments, whatever the order in which the members ended.
"""

import math

from machinery import Server, TaskFailed, chord, group

server = Server.from_url("memory://")


@server.task
def add(*numbers: int) -> int:
    """Add whole numbers."""
    return sum(numbers)


@server.task
def multiply(*numbers: int) -> int:
    """Multiply whole numbers."""
    return math.prod(numbers)


@server.task
def divide(whole: int, parts: int) -> float:
    """Fail where there are no parts."""
    return whole / parts


@server.task
def mourn(error: str, what: str) -> str:
    """Get the error of the member that failed before its own arguments."""
    return f"no {what}: {error}"


def main() -> None:
    """Send a group, a chord of it, and a chord that fails."""
    both = group(add.signature(1, 1), add.signature(5, 5))
    print(f"add(1, 1) and add(5, 5) = {server.send_group(both).get(timeout=5)}")

    product = server.send_chord(chord(both, multiply.signature()))
    print(f"multiply(add(1, 1), add(5, 5)) = {product.get(timeout=5)}")

    noted = mourn.partial("product").with_(uuid="noted")  # an id of our own, to wait for it
    failing = chord([add.signature(1, 1), divide.signature(1, 0)], multiply.options(on_error=noted).signature())
    try:
        server.send_chord(failing).get(timeout=5)
    except TaskFailed as failure:
        print(f"failed at {failure.name}: {failure.error}")
    print(server.result("noted").get(timeout=5))


if __name__ == "__main__":
    worker = server.new_worker("group-and-chord", concurrency=2)
    worker.set_error_handler(lambda *_: None)  # else a failure is logged, too
    with server, worker:
        main()
