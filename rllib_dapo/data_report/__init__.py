"""`rllib-dapo data`: what a file of problems holds, and what a model would read of it."""
