#!/usr/bin/env bash
# Every task of the paper by every method, two steps each, without a GPU.
#   ./run_scripts/grid_cpu.sh [--problems DS1000.jsonl] [--tasks TASK ...] [--methods METHOD ...]
source "$(dirname "$0")/environment.sh"
exec "$PYTHON" -m recipe.shape_grpo.sweep.cells "$@"
