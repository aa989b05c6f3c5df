#!/usr/bin/env bash
# The checks without the tests, in seconds: style, types and import contracts.
source "$(dirname "$0")/environment.sh"
# Not ".": a folder of your own task may lie in the clone.
FILES=(pyproject.toml recipe reward_fns shape_grpo tests)
"$PYTHON" -m ruff check "${FILES[@]}"
"$PYTHON" -m ruff format --check "${FILES[@]}"
"$PYTHON" -m mypy
"$VENV/bin/lint-imports"
