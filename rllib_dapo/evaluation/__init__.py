"""Evaluation: the estimators, and what is sampled, kept and drawn for them.

`estimators` is the mathematics, on plain numbers; `metrics` the few figures that a training run reports; `sampling`,
`responses`, `figures` and `picture` are what `rllib-dapo evaluate` is made of (it is put together in `run.evaluation`).
"""

from rllib_dapo.evaluation.metrics import average_at_k, evaluation_metrics

__all__ = ["average_at_k", "evaluation_metrics"]
