"""Real services for the tests: where they come from, and how to kill, restart and cut them off.

`fixtures` has what tests ask for by name; `redis` a server that a test may ill-treat; `proxy` a cable that can be cut.
"""
