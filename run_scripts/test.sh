#!/usr/bin/env bash
# All checks and tests, the real pipeline on the CPU included. Arguments go to pytest: with -m slow,
# the tests on two Ray nodes, which are left out otherwise.
source "$(dirname "$0")/environment.sh"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
"$VENV/bin/lint-imports"
if [ $# -gt 0 ]; then
    exec "$PYTHON" -m pytest "$@"
fi
"$PYTHON" -m pytest -n 2 -m "not e2e"
# These are alone: each has the processes of a whole cluster.
exec "$PYTHON" -m pytest -m "e2e and not slow"
