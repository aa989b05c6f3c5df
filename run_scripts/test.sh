#!/usr/bin/env bash
# All checks and tests, including the real pipeline on the CPU. Arguments go to pytest: -m slow runs
# the tests that are left out otherwise.
source "$(dirname "$0")/environment.sh"
./run_scripts/check.sh
if [ $# -gt 0 ]; then
    exec "$PYTHON" -m pytest "$@"
fi
# Two at a time, with one core each. A test that hangs prints where, and fails; the others continue.
OMP_NUM_THREADS=1 \
    "$PYTHON" -m pytest -n 2 --timeout 600 -o faulthandler_timeout=300 -m "not e2e and not slow"
# One at a time: each starts the processes of a whole cluster.
exec "$PYTHON" -m pytest -m "e2e and not slow"
