# One cell of the paper's tables; the run_*.sh scripts name the TASK and source this.
#   ./run_scripts/run_TASK.sh METHOD [--dry-run] [hydra overrides]
# METHOD: grpo, winner_takes_all, shape_grpo, or another file of recipe/shape_grpo/config/method.
# From the environment: K (candidates; the data prepared for them), MODEL, N_GPUS (a node), NNODES.
# CPU=1: two steps of a tiny policy without a GPU (python -m recipe.shape_grpo.policies.warm_start makes it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

methods=$(basename -s .yaml recipe/shape_grpo/config/method/*.yaml | paste -sd ' ')
METHOD=${1:-}
if [ ! -f "recipe/shape_grpo/config/method/$METHOD.yaml" ]; then
    echo "usage: [K=5] [MODEL=...] [N_GPUS=2] [NNODES=1] $0 METHOD [--dry-run] [hydra overrides]" >&2
    echo "METHOD is one of: $methods" >&2
    exit 2
fi
shift
entry=recipe.shape_grpo.main_shape_grpo
if [ "${1:-}" = --dry-run ]; then
    entry=recipe.shape_grpo.runs.check
    shift
fi

overrides=("+task=$TASK" "+method=$METHOD")
if [ -n "${CPU:-}" ]; then
    source run_scripts/environment.sh
    export VLLM_CPU_KVCACHE_SPACE=1
    overrides+=(+backend=cpu +scale=tiny)
fi
[ -z "${K:-}" ] || overrides+=("dataset.candidates=$K")
[ -z "${MODEL:-}" ] || overrides+=("actor_rollout_ref.model.path=$MODEL")
[ -z "${N_GPUS:-}" ] || overrides+=("trainer.n_gpus_per_node=$N_GPUS")
[ -z "${NNODES:-}" ] || overrides+=("trainer.nnodes=$NNODES")
exec "${PYTHON:-python}" -m "$entry" "${overrides[@]}" "$@"
