"""RLlib's events of a whole algorithm, as docs/callbacks.md has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.rllib.callbacks.callbacks import RLlibCallback

from rllib_dapo import DAPO, DAPOConfig


class Recorder(RLlibCallback):
    """Notes the events of the algorithm in their order, with what they get."""

    events: list[tuple[str, dict[str, Any]]]

    def on_algorithm_init(self, **given: Any) -> None:
        type(self).events = [("init", given)]

    def on_train_result(self, *, result: dict[str, Any], **given: Any) -> None:
        self.events.append(("train_result", given))
        result["of_ones_own"] = result["training_iteration"] + 0.5

    def on_evaluate_start(self, **given: Any) -> None:
        self.events.append(("evaluate_start", given))

    def on_evaluate_end(self, **given: Any) -> None:
        self.events.append(("evaluate_end", given))

    def on_checkpoint_loaded(self, **given: Any) -> None:
        self.events.append(("checkpoint_loaded", given))


class Counter(RLlibCallback):
    """Logs on EnvRunners, also on those in processes of their own."""

    def on_episode_end(self, *, episode: Any, metrics_logger: Any, **given: Any) -> None:
        metrics_logger.log_value("letters", len(episode.get_actions()[-1]), reduce="sum")


@pytest.mark.slow
def test_what_env_runners_log_is_in_the_results(
    cluster: None, small_config: Callable[..., DAPOConfig]
) -> None:
    config = (
        small_config(engine="transformers", num_env_runners=1)
        .dynamic_sampling(enabled=False)
        .callbacks(Counter)
        .evaluation(
            evaluation_interval=1, evaluation_num_prompts=2, evaluation_samples_per_prompt=2
        )
    )
    algo = config.build_algo()
    for _ in range(2):
        result = algo.train()
        # 4 prompts with 8 responses of at most 6 tokens, each one letter.
        assert 0 < result["env_runners"]["letters"] <= 4 * 8 * 6
        assert 0 < result["evaluation"]["env_runners"]["letters"] <= 2 * 2 * 6
    algo.stop()


@pytest.mark.slow
def test_events_of_an_algorithm_come_in_their_order_with_what_the_page_says(
    cluster: None, small_config: Callable[..., DAPOConfig], tmp_path: Path
) -> None:
    config = (
        small_config(engine="transformers")
        .dynamic_sampling(enabled=False)
        .callbacks(Recorder)
        .evaluation(
            evaluation_interval=1, evaluation_num_prompts=2, evaluation_samples_per_prompt=2
        )
    )
    algo = config.build_algo()
    result = algo.train()
    assert result["of_ones_own"] == 1.5

    # What Tune calls to save and to restore a trial, and what a program calls.
    algo.save_checkpoint(str(tmp_path))
    algo.load_checkpoint(str(tmp_path))
    algo.restore_from_path(tmp_path)
    algo.stop()

    names = [name for name, _ in Recorder.events]
    assert names == ["init", "evaluate_start", "evaluate_end", "train_result", "checkpoint_loaded"]
    assert all(isinstance(given["algorithm"], DAPO) for _, given in Recorder.events)
    assert all(given["metrics_logger"] for _, given in Recorder.events[:-1])
    assert "metrics_logger" not in Recorder.events[-1][1]
    (evaluated,) = (g["evaluation_metrics"] for n, g in Recorder.events if n == "evaluate_end")
    assert 0 <= evaluated["env_runners"]["avg@2"] <= 1
