#!/usr/bin/env bash
# All checks and tests, the real pipeline on the CPU included. Arguments go to pytest.
source "$(dirname "$0")/environment.sh"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
"$VENV/bin/lint-imports"
exec "$PYTHON" -m pytest "$@"
