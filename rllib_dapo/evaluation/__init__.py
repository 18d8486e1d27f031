"""`rllib-dapo evaluate`: avg@k, pass@k and maj@k of a model or a checkpoint, on one data set or several."""
