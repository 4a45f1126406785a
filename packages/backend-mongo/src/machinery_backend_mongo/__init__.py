"""MongoDB for Machinery: result backend. Planned: nothing here works yet."""
