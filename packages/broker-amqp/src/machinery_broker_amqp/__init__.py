"""RabbitMQ for Machinery: broker and result backend. Planned: nothing here works yet."""
