SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-exhaustive test-browser test-gpu lint type docs bench \
	bench-long results clean

PYTHON ?=#         make setup PYTHON=python3.12 takes that Python; default: the first of 3.11 to 3.13
TESTS ?= tests#    make test TESTS=tests/core runs a part
export PYTHON

help:  ## this list
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## /{printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup:  ## make .venv with everything this machine can use; again: seconds
	@tools/setup.sh

demo: setup  ## train a tiny model to add, here and now
	.venv/bin/python examples/demo.py

# Two workers; tests/conftest.py says which tests stay together on one of them, and in which order.
# Every process of a test would compile the package again where byte code is not kept.
PYTEST = env -u PYTHONDONTWRITEBYTECODE .venv/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder

test: setup  ## tests of every part, and a few whole runs: ten to fifteen minutes on two cores
	$(PYTEST) $(TESTS)

test-all: setup  ## what make test runs, with recovery, sweeps and examples: an hour or more
	$(PYTEST) $(TESTS) -m "not gpu and not browser and not exhaustive"

test-exhaustive: setup  ## what test-all leaves out: long trainings, more combinations, before a release
	$(PYTEST) $(TESTS) -m exhaustive

test-browser: setup  ## tests of pages, in Chromium (Debian: apt-get install chromium): minutes
	$(PYTEST) tests/browser -m browser

test-gpu: setup  ## what needs an NVIDIA GPU: one page of figures, in benchmarks/results/gpu.json
	.venv/bin/pytest -m gpu -rs -s $(TESTS)

lint: setup  ## style and formatting
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

type: setup  ## types: strict in core and envs
	.venv/bin/mypy

docs: setup  ## the tables of docs/ that are made from the code, and a reference in build/api
	.venv/bin/python tools/configuration_tables.py
	.venv/bin/python tools/answer_rule_tables.py
	.venv/bin/python tools/scaling_tables.py
	.venv/bin/python tools/design_table.py
	.venv/bin/python tools/weight_transfer_table.py
	.venv/bin/python tools/results_page.py
	.venv/bin/python tools/clip_bounds_result.py
	.venv/bin/python tools/api_pages.py

# What a ratio is measured of, each in minutes; the others are studies, or need a GPU.
RATIOS = rollout learner verifier step_vs_trl sweep_overhead logprob_memory fetch weight_transfer \
	learner_memory planned_memory shared_prompts overlap dynamic_sampling critic judge lora \
	report_page
STUDIES = staleness plan_memory scale claims sweep_statistics sample_efficiency
RUN_BENCHMARKS = echo "runs: $(1)"; missed=; for name in $(1); do \
	    echo "== benchmarks/$$name.py"; \
	    .venv/bin/python benchmarks/$$name.py || missed+=" $$name"; \
	done; .venv/bin/python tools/results_page.py; \
	[ -z "$$missed" ] || { echo "missed:$$missed"; exit 1; }

bench: setup  ## benchmarks with a ratio, about an hour; fails where one misses its target
	@$(call RUN_BENCHMARKS,$(RATIOS))

bench-long: setup  ## studies, hours; those that were interrupted go on where they were
	@$(call RUN_BENCHMARKS,$(STUDIES))

results: setup  ## docs/results.md and the figures on other pages, from benchmarks/results
	.venv/bin/python tools/results_page.py

clean:  ## remove what the other targets made, .venv too
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
