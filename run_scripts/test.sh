#!/usr/bin/env bash
# All checks and tests, including the real pipeline on the CPU. Arguments go to pytest: -m slow runs
# the tests that are left out otherwise.
source "$(dirname "$0")/environment.sh"
./run_scripts/check.sh
if [ $# -gt 0 ]; then
    exec "$PYTHON" -m pytest "$@"
fi
# One thread each, and more of them than two cores: many tests wait for a process. A test that hangs
# prints where, and fails; the others continue.
export OMP_NUM_THREADS=1
"$PYTHON" -m pytest -n 3 --timeout 600 -o faulthandler_timeout=300 -m "not e2e and not slow"
# Two at a time, a file's together, for the runs that its tests share. Each starts the processes of a
# whole cluster, and most of a run is their imports, one after the other.
exec "$PYTHON" -m pytest -n 2 --dist loadfile -m "e2e and not slow" \
    $(grep -rl --include="test_*.py" "mark\.e2e" tests)
