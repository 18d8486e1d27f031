"""`rllib-dapo evaluate`: avg@k, pass@k and maj@k of a model or checkpoint, on several data sets."""
