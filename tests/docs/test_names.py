"""Every setting and every metric that a page names exists."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

import pytest
from ray import tune

from rllib_dapo import DAPOConfig
from rllib_dapo.config.setting import RLLIB_SECTIONS, own_sections, own_settings, section_kinds
from rllib_dapo.metrics.metric_table import METRICS
from rllib_dapo.run.search.stoppers import STOP_RULES
from rllib_dapo.run.tune_settings import TuneSettings
from tests.docs.blocks import PAGES, blocks_of, parse

SECTIONS = {*own_sections(DAPOConfig), *RLLIB_SECTIONS}
SETTING = re.compile(r"^(?:\w+/)?([a-z_]+)\.([a-z_0-9]+)(?=$|[.:= ])")
METRIC = re.compile(
    r"^(?:evaluation/|evaluation_at_start/)?(env_runners|learners/\w+|seconds)/(.+)$"
)
BARE = re.compile(r"^[a-z]+(_[a-z]+)+$")
# Pages that are about what to look at, where a bare name is one of a metric or of a setting.
OF_FIGURES = ("docs/faq.md", "docs/choosing_clip_bounds.md", "docs/from_data_to_model.md")

OF_METRICS = {(metric.source, metric.name.split("/")[0]) for metric in METRICS}
# What an evaluation adds, and RLlib.
OF_EVALUATION = re.compile(r"(avg|pass|maj)@(k|\d+)|problems|\.\.\.|num_\w+|data_sets/.*")
OF_RLLIB = ("default_optimizer_learning_rate", "weights_seq_no")
# Names of libraries', and what a page calls a former name.
NO_SETTINGS = {
    "deepspeed.initialize",
    "importance_sampling.on_start_gap",
    "importance_sampling.start_gap_limit",
}


def _code(page: str) -> Iterator[str]:
    """Every piece of code within the text of a page."""
    for token in parse(page):
        yield from (c.content for c in token.children or () if c.type == "code_inline")


def _is_setting(section: str, name: str) -> bool:
    if section == "tune":
        fields = {field.name for field in dataclasses.fields(TuneSettings)}
        return name in fields or hasattr(tune, name)
    if section == "stop" or name == "py" or f"{section}.{name}" in NO_SETTINGS:
        return True  # a trial may be stopped at any metric
    return name in section_kinds(DAPOConfig, section)


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_a_page_names_exists(page: str) -> None:
    named = {match.groups() for code in _code(page) if (match := SETTING.match(code))}
    unknown = {
        f"{section}.{name}"
        for section, name in named
        if (section in SECTIONS or section in ("tune", "stop")) and not _is_setting(section, name)
    }
    assert unknown == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_metric_that_a_page_names_exists(page: str) -> None:
    named = {match.groups() for code in _code(page) if (match := METRIC.match(code))}
    unknown = {
        f"{source}/{name}"
        for source, name in named
        if (source, name.split("/")[0]) not in OF_METRICS
        and not OF_EVALUATION.fullmatch(name)
        and name not in OF_RLLIB
        and not any(f'"{name}"' in block.code for block in blocks_of(page))  # one of its own
    }
    assert unknown == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page in OF_FIGURES])
def test_a_bare_name_is_one_of_a_metric_or_of_a_setting(page: str) -> None:
    known = {metric.name for metric in METRICS} | {
        s.name for s in own_settings(DAPOConfig).values()
    }
    known |= {name for section in SECTIONS for name in section_kinds(DAPOConfig, section)}
    known |= {*STOP_RULES, *SECTIONS}
    assert {code for code in _code(page) if BARE.match(code)} - known == set()
