"""Programs that a model writes, run against tests in a sandbox that nothing leaves.

The sandbox is bubblewrap's (https://github.com/containers/bubblewrap). What decides about a program
stays out of its reach: expected outputs never enter its sandbox, and assertions are evaluated in
another one, which knows the program's values as plain data alone.
"""
