"""Sampled responses and distributions as TensorBoard shows them: one event file for each table.

TensorBoard reads all event files of a folder in the order of their names. A file of its own for
each table can be written anew when a run goes on from a checkpoint, and lies on any storage:
nothing is ever appended.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from rllib_dapo.tracking.sample_record import Sample

_SHOWN_CHARACTERS = 4000


def event_file_name(iteration: int) -> str:
    """Sorted as the iterations are; TensorBoard wants `tfevents` in it."""
    return f"events.out.tfevents.{iteration:010d}.samples"


def event_file(
    samples: Sequence[Sample], histograms: Mapping[str, Sequence[float]], *, iteration: int
) -> bytes:
    """An event file's content.

    Args:
        samples: Become one text for each source.
        histograms: Name to values.
        iteration: The step that TensorBoard shows them at.
    """
    from tensorboardX import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        with SummaryWriter(logdir=folder) as writer:
            for source in sorted({sample.source for sample in samples}):
                of_source = [sample for sample in samples if sample.source == source]
                writer.add_text(
                    f"responses/{source}", as_markdown(of_source), of_source[0].iteration
                )
            for name, values in histograms.items():
                writer.add_histogram(name, list(values), iteration)
        (written,) = Path(folder).iterdir()
        return written.read_bytes()


def as_markdown(samples: Sequence[Sample]) -> str:
    """Samples as text; what the model wrote stands in it as it is, whatever Markdown or HTML it holds."""
    parts, prompt = [], None
    for sample in samples:
        if (sample.seed, sample.prompt) != prompt:
            prompt = (sample.seed, sample.prompt)
            parts.append(f"**prompt {sample.seed}**\n\n{_verbatim(sample.prompt)}")
        reward = "no reward" if sample.reward is None else f"reward {sample.reward:+.3g}"
        cut = ", truncated" if sample.is_truncated else ""
        parts.append(
            f"{sample.verdict}, {reward}, {sample.response_tokens} tokens{cut}\n\n{_verbatim(sample.response)}"
        )
    return "\n\n".join(parts)


def _verbatim(text: str) -> str:
    """Indented by four: Markdown's code block, which no text can end as it can a fence."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} [...]"
    return "\n".join(f"    {escape(line, quote=False)}" for line in shown.splitlines() or [""])
