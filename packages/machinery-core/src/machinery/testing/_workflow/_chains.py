"""What follows a task: callbacks, and chains of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machinery import TaskContext, TaskFailed, chain
from machinery.testing._expectations import PATIENCE, raises
from machinery.testing._workflow._suite import SOON, Got, add_add, add_multiply

if TYPE_CHECKING:
    from machinery import Server


class Chains:
    """Callbacks and chains."""

    def test_results_are_appended_to_the_arguments_of_what_follows(self, server: Server) -> None:
        got = Got()

        @server.task
        def first(number: int) -> int:
            return number + 1

        @server.task
        def second(*numbers: int) -> None:
            got.put(list(numbers))

        with server.new_worker("contract", 4):
            first.options(on_success=[second.partial(10), second.partial(20)]).send(1)
            assert sorted(got.take(2)) == [[10, 2], [20, 2]]

    def test_an_immutable_task_passes_nothing_on(self, server: Server) -> None:
        got = Got()

        @server.task
        def first() -> int:
            return 1

        @server.task
        def second(*numbers: int) -> None:
            got.put(list(numbers))

        with server.new_worker("contract", 4):
            first.options(immutable=True, on_success=[second.partial(10)]).send()
            assert got.take(1) == [[10]]

    def test_the_error_is_put_before_the_arguments_of_an_error_callback(self, server: Server) -> None:
        got = Got()

        @server.task
        def bad() -> None:
            raise ValueError("no good")

        @server.task
        def mourn(error: str, name: str) -> None:
            got.put([error, name])

        with server.new_worker("contract", 4):
            bad.options(on_error=[mourn.partial("Ann")]).send()
            assert got.take(1) == [["no good", "Ann"]]

    def test_a_chain_passes_results_from_link_to_link(self, server: Server) -> None:
        @server.task
        def add(a: int, b: int) -> int:
            return a + b

        with server.new_worker("contract", 4):
            links = [add.signature(1, 1), *[add.partial(10) for _ in range(4)]]
            assert server.send_chain(chain(*links)).get(timeout=PATIENCE) == 42

    def test_each_link_gets_the_results_behind_its_own_arguments(self, server: Server) -> None:
        add, multiply = add_add(server), add_multiply(server)
        with server.new_worker("contract", 4):
            sent = server.send_chain(chain(add.signature(1, 1), add.partial(5, 5), multiply.partial(4)))
            assert sent.get(timeout=PATIENCE) == 48

    def test_a_chain_ends_with_its_first_failure(self, server: Server) -> None:
        runs: list[str] = []

        @server.task
        def bad() -> int:
            runs.append("bad")
            raise ValueError("broken link")

        @server.task
        def after(number: int) -> int:
            runs.append("after")
            return number

        with server.new_worker("contract", 4), raises(TaskFailed, "broken link"):
            server.send_chain(chain(bad.signature(), after.partial())).get(timeout=PATIENCE)
        assert runs == ["bad"]

    def test_headers_travel_through_retries_and_to_callbacks(self, server: Server) -> None:
        headers = {"trace": "00-ab-cd", "Ümlaut": "✓"}
        got = Got()

        @server.task(retry_count=1, retry=SOON)
        def first(context: TaskContext) -> None:
            got.put(dict(context.headers))
            if context.attempt == 1:
                raise ValueError("once more")

        @server.task
        def second(context: TaskContext) -> None:
            got.put(dict(context.headers))

        with server.new_worker("contract", 4):
            first.options(headers=headers, on_success=[second.options(headers=headers).signature()]).send()
            for seen in got.take(3):
                assert {key: seen.get(key) for key in headers} == headers
