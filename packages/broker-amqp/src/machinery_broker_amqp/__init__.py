"""RabbitMQ for Machinery: broker and result backend."""

from machinery_broker_amqp._backend import AmqpBackend
from machinery_broker_amqp._broker import AmqpBroker
from machinery_broker_amqp._options import AmqpOptions

__all__ = ["AmqpBackend", "AmqpBroker", "AmqpOptions"]
