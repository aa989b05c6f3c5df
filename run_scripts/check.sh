#!/usr/bin/env bash
# The checks without the tests, in seconds: style, types and import contracts.
source "$(dirname "$0")/environment.sh"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
"$VENV/bin/lint-imports"
