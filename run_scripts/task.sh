# One cell of the paper's tables; the run_*.sh scripts name the TASK and source this.
#   ./run_scripts/run_TASK.sh METHOD [--dry-run] [hydra overrides]
# METHOD: grpo, winner_takes_all, shape_grpo, or another file of recipe/shape_grpo/config/method.
# From the environment: MODEL, N_GPUS (a node), NNODES.
# CPU=1: two steps of a tiny policy without a GPU (python -m recipe.shape_grpo.policies makes it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    echo "usage: [MODEL=...] [N_GPUS=2] [NNODES=1] [CPU=1] $0 METHOD [--dry-run] [hydra overrides]"
    echo "METHOD is one of: $(basename -s .yaml recipe/shape_grpo/config/method/*.yaml | paste -sd ' ')"
    echo "Candidates an answer: dataset.candidates=5; prepare the data with --candidates 5 first."
}

entry=recipe.shape_grpo.main_shape_grpo
arguments=()
for argument in "$@"; do
    case $argument in
        --dry-run) entry=recipe.shape_grpo.runs.check ;;
        -h | --help)
            usage
            exit
            ;;
        *) arguments+=("$argument") ;;
    esac
done
METHOD=${arguments[0]:-}
if [ ! -f "recipe/shape_grpo/config/method/$METHOD.yaml" ]; then
    usage >&2
    exit 2
fi

overrides=("+task=$TASK" "+method=$METHOD")
if [ -n "${CPU:-}" ]; then
    source run_scripts/environment.sh
    overrides+=(+backend=cpu +scale=tiny)
fi
[ -z "${MODEL:-}" ] || overrides+=("actor_rollout_ref.model.path=$MODEL")
[ -z "${N_GPUS:-}" ] || overrides+=("trainer.n_gpus_per_node=$N_GPUS")
[ -z "${NNODES:-}" ] || overrides+=("trainer.nnodes=$NNODES")
exec "${PYTHON:-python}" -m "$entry" "${overrides[@]}" "${arguments[@]:1}"
