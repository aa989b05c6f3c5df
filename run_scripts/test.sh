#!/usr/bin/env bash
# All checks and tests, the real pipeline on the CPU included. Arguments go to pytest: with -m slow,
# the tests that are left out otherwise.
source "$(dirname "$0")/environment.sh"
./run_scripts/check.sh
if [ $# -gt 0 ]; then
    exec "$PYTHON" -m pytest "$@"
fi
# Two at a time, a core each. One that hangs prints where, is named as failed, and the rest goes on.
OMP_NUM_THREADS=1 \
    "$PYTHON" -m pytest -n 2 --timeout 600 -o faulthandler_timeout=300 -m "not e2e and not slow"
# These are alone: each has the processes of a whole cluster.
exec "$PYTHON" -m pytest -m "e2e and not slow"
