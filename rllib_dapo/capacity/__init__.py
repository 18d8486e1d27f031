"""`rllib-dapo plan`: the memory and time that a run will want, from arithmetic alone."""
