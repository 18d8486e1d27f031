"""The updates of a recorded run made again, under its own settings or under others."""
