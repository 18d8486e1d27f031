"""Sampled responses and distributions for TensorBoard: one event file for each table.

TensorBoard reads all event files of a folder in the order of their names. With a file for each
table nothing is ever appended: any storage will do, and a run that is resumed from a checkpoint
replaces the files that it writes again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from rllib_dapo.tracking.sample_record import Sample

_SHOWN_CHARACTERS = 4000


def event_file_name(iteration: int) -> str:
    """Name of an iteration's event file.

    Names sort in the order of iterations, and contain `tfevents`, which TensorBoard looks for.
    """
    return f"events.out.tfevents.{iteration:010d}.samples"


def event_file(
    samples: Sequence[Sample], histograms: Mapping[str, Sequence[float]], *, iteration: int
) -> bytes:
    """Makes the content of an event file.

    Args:
        samples: Samples, shown as one text for each source.
        histograms: Values of each histogram, by name.
        iteration: Step at which TensorBoard shows the histograms.
    """
    from tensorboardX import SummaryWriter

    # The writer writes only to a local folder, while a trial's storage may be remote.
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
    """Formats samples as Markdown in which prompts and responses are shown verbatim."""
    parts, prompt = [], None
    for sample in samples:
        if (sample.seed, sample.prompt) != prompt:
            prompt = (sample.seed, sample.prompt)
            parts.append(f"**prompt {sample.seed}**\n\n{_verbatim(sample.prompt)}")

        reward = "no reward" if sample.reward is None else f"reward {sample.reward:+.3g}"
        truncated = ", truncated" if sample.is_truncated else ""
        heading = f"{sample.verdict}, {reward}, {sample.response_tokens} tokens{truncated}"
        parts.append(f"{heading}\n\n{_verbatim(sample.response)}")
    return "\n\n".join(parts)


def _verbatim(text: str) -> str:
    """Indents by four, as a Markdown code block, which no text can end early as it can a fence."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} [...]"
    return "\n".join(f"    {escape(line, quote=False)}" for line in shown.splitlines() or [""])
