"""Whether an environment keeps the rules that training relies on."""
