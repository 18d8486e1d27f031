"""Training: the RLModule, the Learner, and how weights travel."""
