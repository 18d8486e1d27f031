"""The commands of `rllib-dapo`, a file each. What a command needs is imported when it runs."""
