from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from benchmarks.synthetic_run import synthetic_run
from rllib_dapo.reporting.figures_content import (
    CurveLimits,
    curve_limits,
    figure_names,
    figures_list,
    horizontal_axes,
    sampled_tokens,
    thinning,
    trial_figures,
)
from rllib_dapo.reporting.report_panels import PAPER_PANELS

ALL = CurveLimits(None, None)


def test_our_metrics_come_first_and_parts_of_the_reward_among_them() -> None:
    names = figure_names(synthetic_run(1, 10).trials, PAPER_PANELS)
    assert names.index("env_runners/reward_components/form") < names.index("timers/part_3")
    assert names.index("env_runners/accuracy") < names.index("learners/default_policy/entropy")
    described = {figure["name"]: figure for figure in figures_list(names)}
    assert described["env_runners/reward_components/form"]["unit"] == "reward"
    assert described["learners/default_policy/entropy"]["unit"] == "nats"
    assert described["timers/part_3"] == {"name": "timers/part_3", "unit": "", "meaning": ""}


def test_an_evaluation_begins_with_the_one_before_training() -> None:
    (trial,) = synthetic_run(1, 20).trials
    curve = trial_figures(trial, ["evaluation/env_runners/avg@8"], PAPER_PANELS, ALL)
    assert curve["evaluation/env_runners/avg@8"]["x"] == [0, 10, 20]
    assert curve["evaluation/env_runners/avg@8"]["y"][0] == 0.02


def test_what_is_a_number_in_one_trial_and_a_word_in_another_is_drawn_where_it_is_one() -> None:
    first, second = synthetic_run(2, 3).trials
    first.frame["mine"], second.frame["mine"] = [1.0, np.inf, 3.0], ["a", "b", "c"]
    assert "mine" in figure_names([first, second], PAPER_PANELS)
    assert trial_figures(first, ["mine"], PAPER_PANELS, ALL)["mine"] == {"x": [1, 3], "y": [1, 3]}
    assert trial_figures(second, ["mine"], PAPER_PANELS, ALL) == {}


def test_long_curves_are_thinned_and_the_page_can_say_so() -> None:
    (trial,) = synthetic_run(1, 5000).trials
    names = figure_names([trial], PAPER_PANELS)
    limits = curve_limits([trial], names, PAPER_PANELS)
    assert thinning([trial], limits) == {"longest": 5000, **limits._asdict()}
    curve = trial_figures(trial, names, PAPER_PANELS, limits)["env_runners/accuracy"]
    assert 100 <= len(curve["y"]) <= limits.panels
    assert max(curve["y"]) == float(f"{trial.frame['env_runners/accuracy'].max():.5g}")
    short = replace(trial, frame=trial.frame.head(20))
    assert thinning([short], curve_limits([short], names, PAPER_PANELS)) is None


def test_positions_belong_together_on_every_axis() -> None:
    (trial,) = synthetic_run(1, 40).trials
    axes = horizontal_axes(trial.frame, None)
    assert axes["update"] == [4 * step for step in axes["iteration"]]
    assert {len(values) for values in axes.values()} == {40}
    thin = horizontal_axes(trial.frame, 10)
    assert thin["second"][-1] == axes["second"][-1]
    bare = horizontal_axes(trial.frame[["training_iteration"]], None)
    assert (bare["update"], bare["token"], bare["second"]) == ([], [], [])


def test_sampled_tokens_are_those_of_all_groups() -> None:
    frame = pd.DataFrame(
        {
            "env_runners/tokens_per_accepted_group": [100.0, 250.0, 10.0],
            "env_runners/groups_accepted": [4.0, 0.0, 2.0],
        }
    )
    # Where no group was accepted, the metric is the tokens themselves.
    assert sampled_tokens(frame).tolist() == [400, 650, 670]
    assert sampled_tokens(frame[["env_runners/groups_accepted"]]) is None
