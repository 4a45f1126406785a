"""The server: what it is built from, what it knows, and what it lets go of."""

from __future__ import annotations

import functools
import logging
from typing import Any

import pytest

from machinery import Config, Server, Signature, Task, chain
from machinery.abc import Message
from machinery.errors import Closed, ConfigError, TaskAlreadyRegistered, UnknownScheme, WorkflowError
from machinery.memory import MemoryBackend, MemoryBroker, MemoryLock
from machinery.null import NullBackend


def test_a_server_holds_the_objects_it_is_given() -> None:
    config, broker, backend, lock = Config(), MemoryBroker(), MemoryBackend(), MemoryLock()
    logger = logging.getLogger("mine")
    server = Server(config, broker, backend, lock, logger=logger)
    assert server.config is config
    assert server.broker is broker
    assert server.backend is backend
    assert server.lock is lock
    assert server.logger is logger


def test_a_server_needs_a_broker_and_nothing_else() -> None:
    with pytest.raises(ConfigError, match="needs a broker"):
        Server()
    server = Server(broker=MemoryBroker())
    assert isinstance(server.backend, NullBackend)
    assert isinstance(server.lock, MemoryLock)
    assert server.logger.name == "machinery"


def test_one_url_serves_all_three() -> None:
    with Server.from_url("memory://") as server:
        assert isinstance(server.broker, MemoryBroker)
        assert isinstance(server.backend, MemoryBackend)
        assert isinstance(server.lock, MemoryLock)


def test_another_result_backend_can_be_named() -> None:
    with Server.from_url("memory://", result_backend="null://", default_queue="mine") as server:
        assert isinstance(server.backend, NullBackend)
        assert server.config.default_queue == "mine"


def test_a_configuration_without_a_broker_is_refused() -> None:
    with pytest.raises(ConfigError, match="names no broker"):
        Server.from_config(Config())
    with pytest.raises(UnknownScheme):
        Server.from_url("nonsense://")


@pytest.mark.parametrize(
    "given", [("redis://localhost",), (Config(), "redis://localhost"), (Config(), MemoryBroker(), "redis://localhost")]
)
def test_a_url_in_the_place_of_a_service_is_refused(given: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError, match="for URLs there is Server"):
        Server(*given)


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("bogus", "unknown key 'bogus'"),
        ("defaultqueue", "'defaultqueue'.*'default_queue'"),
        ("broker", "unknown key 'broker'"),
    ],
)
def test_a_setting_that_there_is_not_is_refused_by_name(key: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=f"Server.from_url: .*{complaint}"):
        Server.from_url("memory://", **{key: "x"})  # type: ignore[arg-type]


def test_a_task_may_be_retried_for_a_list_of_errors() -> None:
    task = Server.from_url("memory://").register_task("t", print, retry_for=[OSError], no_retry_for=FileExistsError)
    assert task.run_options.retry_for == (OSError,)
    assert task.run_options.no_retry_for == (FileExistsError,)


def test_closing_lets_go_of_what_the_server_built_and_of_nothing_that_was_injected() -> None:
    built = Server.from_url("memory://")
    built.close()
    built.close()
    with pytest.raises(Closed):
        built.send_task(Signature("add"))

    injected = Server(None, MemoryBroker(), MemoryBackend())
    injected.close()
    injected.send_task(Signature("add"))


def test_tasks_are_registered_by_decorator_by_name_and_by_mapping() -> None:
    server = Server.from_url("memory://")

    @server.task
    def one() -> None: ...

    @server.task(name="second", retry_count=2)
    def two() -> None: ...

    def three() -> None: ...

    assert isinstance(server.register_task("third", three, retry_count=1), Task)
    server.register_tasks({"fourth": three, "fifth": one})
    assert server.registry.names() == ["fifth", "fourth", "one", "second", "third"]
    assert server.is_task_registered("second")
    assert not server.is_task_registered("two")
    assert two.signature().retry_count == 2


def test_another_function_of_the_same_name_is_refused() -> None:
    server = Server.from_url("memory://")
    server.register_task("same", len)
    with pytest.raises(TaskAlreadyRegistered):
        server.register_task("same", repr)


@pytest.mark.parametrize(
    ("name", "function", "options", "error"),
    [
        ("made", 3, {}, TypeError),
        ("", len, {}, ConfigError),
        ("made", len, {"soft_time_limit": 0}, ConfigError),
        ("made", len, {"no_such_option": 1}, TypeError),
    ],
)
def test_what_cannot_be_a_task_is_refused(
    name: str, function: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        Server.from_url("memory://").register_task(name, function, **options)


def test_a_function_without_a_name_needs_one() -> None:
    server = Server.from_url("memory://")
    with pytest.raises(ConfigError, match="needs a name"):
        server.task(functools.partial(len))
    assert server.task(name="length")(functools.partial(len)).name == "length"


def test_what_waits_can_be_looked_at() -> None:
    server = Server.from_url("memory://")
    now = server.send_task(Signature("now"))
    server.send_task(Signature("elsewhere", routing_key="other"))
    later = server.register_task("later", len).options(countdown=60).send([])
    server.broker.publish([Message(b"not a signature", "machinery_tasks")])

    assert [task.uuid for task in server.pending_tasks()] == [now.uuid]
    assert [task.name for task in server.pending_tasks("other")] == ["elsewhere"]
    assert [task.uuid for task in server.delayed_tasks()] == [later.uuid]
    assert server.dead_tasks() == []


def test_a_workflow_is_made_of_signatures() -> None:
    with pytest.raises(WorkflowError, match="at least one"):
        chain()
    with pytest.raises(WorkflowError, match="not of int"):
        chain([1])  # type: ignore[list-item]


def test_a_chain_is_linked_by_on_success_and_takes_one_list() -> None:
    last = Signature("last", on_success=[Signature("after")])
    first, second = chain([Signature("first", uuid="task_1"), last]).linked()
    assert first.uuid == "task_1"
    assert first.on_success == (second,)
    assert second.uuid.startswith("task_")
    assert [each.name for each in second.on_success] == ["after"]


def test_a_configuration_that_is_swapped_takes_effect(server: Server) -> None:
    server._replace_config(server.config.with_(default_queue="another"))
    server.send_task(Signature("add"))
    assert [task.name for task in server.pending_tasks("another")] == ["add"]
    assert len(server.pending_tasks()) == 1
