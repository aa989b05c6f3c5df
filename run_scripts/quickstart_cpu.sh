#!/usr/bin/env bash
# Trains a small policy to recommend films by shape_grpo and by grpo, on a machine without a GPU.
#   ./run_scripts/quickstart_cpu.sh [--quick] [--verbose] [--ratings DIR]
source "$(dirname "$0")/environment.sh"
exec "$PYTHON" -m recipe.shape_grpo.quickstart "$@"
