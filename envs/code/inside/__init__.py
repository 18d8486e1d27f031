"""What runs inside of the sandbox; needs nothing but Python, and imports nothing else of this."""
