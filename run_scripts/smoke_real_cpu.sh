#!/usr/bin/env bash
# Three optimisation steps of SmolLM2-135M-Instruct on ACLSum with ROUGE, without a GPU.
#   ./run_scripts/smoke_real_cpu.sh [--verbose]
source "$(dirname "$0")/environment.sh"
exec "$PYTHON" -m recipe.shape_grpo.smoke_real "$@"
