"""What the model says while it learns: tables of sampled responses, as JSONL and for TensorBoard."""

from rllib_dapo.samples.record import Sample
from rllib_dapo.samples.table import SampleTable

__all__ = ["Sample", "SampleTable"]
