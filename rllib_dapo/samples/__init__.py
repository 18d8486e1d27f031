"""What the model says while it learns: tables of sampled responses, as JSONL and for TensorBoard."""

from rllib_dapo.samples.callback import SampleTable
from rllib_dapo.samples.record import Sample

__all__ = ["Sample", "SampleTable"]
