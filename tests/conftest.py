"""What all tests share: the services."""

from tests.services.fixtures import redis_database, redis_server, redis_url

__all__ = ["redis_database", "redis_server", "redis_url"]
