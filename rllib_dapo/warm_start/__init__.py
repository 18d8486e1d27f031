"""`rllib-dapo sft` and `self-consistency`: what a base model and its data may need before RL."""
