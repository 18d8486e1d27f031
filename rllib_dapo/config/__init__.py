"""The settings: what a user touches, what each one is, and what is wrong with a value."""
