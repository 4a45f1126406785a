"""Amazon DynamoDB for Machinery: result backend. Planned: nothing here works yet."""
