from __future__ import annotations

import struct
from collections.abc import Iterator

from tensorboardX.proto.event_pb2 import Event

from rllib_dapo.tracking.sample_record import Sample
from rllib_dapo.tracking.tensorboard import as_markdown, event_file, event_file_name


def _sample(response: str, *, source: str = "training", iteration: int = 20) -> Sample:
    return Sample(
        iteration=iteration,
        source=source,  # type: ignore[arg-type]
        seed=3,
        prompt="1+1=",
        response=response,
        verdict="correct",
        reward=1.0,
        reason="",
        prediction="2",
        response_tokens=2,
        is_truncated=False,
        weights_version=19,
    )


def _events(content: bytes) -> Iterator[Event]:
    """TFRecord: length, its checksum, the record, its checksum."""
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]


def test_a_file_holds_texts_of_each_source_and_histograms_at_their_steps() -> None:
    samples = [_sample("2"), _sample("3", source="evaluation")]
    content = event_file(samples, {"distributions/reward": [1.0, -1.0, 1.0]}, iteration=20)
    values = {v.tag: (event.step, v) for event in _events(content) for v in event.summary.value}
    assert {tag.removesuffix("/text_summary"): step for tag, (step, _) in values.items()} == {
        "responses/training": 20,
        "responses/evaluation": 20,
        "distributions/reward": 20,
    }
    assert values["distributions/reward"][1].histo.num == 3


def test_an_evaluation_before_training_stands_at_step_0() -> None:
    content = event_file([_sample("2", source="evaluation", iteration=0)], {}, iteration=0)
    assert [event.step for event in _events(content) if event.summary.value] == [0]


def test_names_of_files_sort_as_iterations_do() -> None:
    names = [event_file_name(iteration) for iteration in (0, 9, 10, 99, 100, 1_000_000)]
    assert names == sorted(names)
    assert all("tfevents" in name for name in names)


def test_what_a_model_writes_is_neither_markup_nor_the_end_of_its_block() -> None:
    hostile = "<script>alert(1)</script>\n```\n# heading\n<img src=x onerror=alert(1)>"
    shown = as_markdown([_sample(hostile)])
    assert "<" not in shown
    for line in ("```", "# heading"):
        assert f"\n    {line}\n" in shown  # indented by four: part of a code block


def test_a_prompt_stands_once_above_its_responses() -> None:
    shown = as_markdown([_sample("2"), _sample("3")])
    assert shown.count("1+1=") == 1
    assert shown.index("1+1=") < shown.index("    2") < shown.index("    3")
