"""Updates of a recorded run, repeated under its own settings or under others."""
