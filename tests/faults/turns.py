"""Threads that take turns: any order in which they might call a service can be played, and played again."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence


class Turns:
    """Lets one thread at a time go on from one `take` to its next, drawn by lot: the same ones for the same ``seed``."""

    def __init__(self, seed: int) -> None:
        self._lot = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self._lock = threading.Lock()
        self._waiting: dict[str, threading.Semaphore] = {}
        self._going = 0

    def take(self) -> None:
        """Wait for our turn."""
        turn = threading.Semaphore(0)
        with self._lock:
            self._waiting[threading.current_thread().name] = turn
            self._pass_on()
        turn.acquire()

    def play(self, bodies: Sequence[Callable[[], object]]) -> None:
        """Call all of these, each in a thread of its own, until they have ended. Raises what one of them raises."""
        errors: list[BaseException] = []

        def run(body: Callable[[], object]) -> None:
            try:
                body()
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)
            finally:
                with self._lock:
                    self._pass_on()

        self._going = len(bodies)
        threads = [threading.Thread(target=run, args=(body,), name=f"turn-{at}") for at, body in enumerate(bodies)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _pass_on(self) -> None:
        """One has stopped. When all have, another one goes on."""
        self._going -= 1
        if not self._going and self._waiting:
            self._going = 1
            self._waiting.pop(self._lot.choice(sorted(self._waiting))).release()
