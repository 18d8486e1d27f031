SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-browser lint type bench clean

PYTHON ?=#         make setup PYTHON=python3.12 takes that Python; default: the first of 3.11 to 3.13
TESTS ?= tests#    make test TESTS=tests/core runs a part
export PYTHON

help:  ## this list
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## /{printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup:  ## make .venv with everything this machine can use; again: seconds
	@tools/setup.sh

demo: setup  ## train a tiny model to add, here and now
	.venv/bin/python examples/demo.py

test: setup  ## the tests that need no GPU and no patience
	.venv/bin/pytest $(TESTS)

test-slow: setup  ## the slow tests
	.venv/bin/pytest $(TESTS) -m "slow and not gpu and not browser"

test-browser: setup  ## the tests of pages, in Chromium (Debian: apt-get install chromium)
	.venv/bin/pytest tests/browser -m browser

lint: setup  ## style and formatting
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# mypy knows nothing of setup.cfg's package_dir, so it is shown the package as it will be when installed.
type: setup  ## types: strict in core and envs
	@rm -rf build/typing && mkdir -p build/typing/rllib_dapo
	@ln -s $(CURDIR)/rllib_dapo/* $(CURDIR)/envs $(CURDIR)/tune_configs build/typing/rllib_dapo/
	@.venv/bin/mypy -p rllib_dapo | sed -E -e 's#^build/typing/rllib_dapo/(envs|tune_configs)/#\1/#' -e 's#^build/typing/##'

bench: setup  ## every benchmark in turn; fails where one misses its target
	@missed=; for script in $$(grep -l '^if __name__' benchmarks/*.py); do \
	    echo "== $$script"; .venv/bin/python $$script || missed+=" $$script"; \
	done; [ -z "$$missed" ] || { echo "missed:$$missed"; exit 1; }

clean:  ## remove what the other targets made, .venv too
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
