#!/usr/bin/env bash
# Compares methods over seeds, without a GPU, verl or Ray; ends with a page of tables and figures.
#   ./run_scripts/compare_cpu.sh catalogue    # a simulated world, 20 seeds
#   ./run_scripts/compare_cpu.sh language     # a language policy of 1M parameters, 3 seeds
# Or another sweep of recipe/shape_grpo/config/sweep. Further arguments go to the sweep.
if [ $# -eq 0 ] || [ "$1" = -h ] || [ "$1" = --help ]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit $(($# == 0 ? 2 : 0))
fi
sweep=$1
shift
source "$(dirname "$0")/environment.sh"
export OMP_NUM_THREADS=1
"$PYTHON" -m recipe.shape_grpo.sweep "$sweep" "$@" \
    --jobs "$(nproc)" --output "outputs/sweep-$sweep"
exec "$PYTHON" -m recipe.shape_grpo.report "outputs/sweep-$sweep" --output "outputs/report-$sweep"
