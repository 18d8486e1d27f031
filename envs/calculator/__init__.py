"""A calculator as a tool, and problems that may be solved with it."""
