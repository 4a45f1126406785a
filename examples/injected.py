"""An application that is given its services. On Redis it shares one client of its own with them; in a test they are memory.

`Orders` knows the interfaces of `machinery.abc` and no service. What it needs itself (here a price list) reaches its tasks the
same way: they are methods.
"""

import os
from collections.abc import Mapping

import redis

from machinery import Config, Server
from machinery.abc import Backend, Broker, Lock
from machinery_broker_redis import RedisBackend, RedisBroker, RedisLock

CONFIG = Config(default_queue="orders", results_expire_in=600)


class Orders:
    """Prices orders in the background."""

    def __init__(self, prices: Mapping[str, int], broker: Broker, backend: Backend, lock: Lock) -> None:
        self._prices = prices
        self.server = Server(CONFIG, broker, backend, lock)
        self.price = self.server.task(name="price")(self._price)

    def _price(self, items: list[str]) -> int:
        return sum(self._prices[item] for item in items)


def main() -> None:
    """Run it on Redis, with a worker in this process."""
    client = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost:6379"))
    # These use the client's settings, and closing it stays our business.
    broker, backend, lock = RedisBroker(client, CONFIG), RedisBackend(client, CONFIG), RedisLock(client, CONFIG)
    orders = Orders({"tea": 3, "cake": 4}, broker, backend, lock)
    with orders.server.new_worker("orders", concurrency=2):
        print(orders.price.send(["tea", "cake", "cake"]).get(timeout=10))
    for service in (broker, backend, lock, client):
        service.close()


if __name__ == "__main__":
    main()
