"""`rllib-dapo check-env`: checks that an environment keeps the rules that training relies on."""
