"""Amazon SQS for Machinery: broker. Planned: nothing here works yet."""
