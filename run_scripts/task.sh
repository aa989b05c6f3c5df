# One cell of the paper's tables; the run_*.sh scripts name the TASK and source this.
#   ./run_scripts/run_TASK.sh METHOD [--dry-run | --verbose] [hydra overrides]
# METHOD: grpo, winner_takes_all, shape_grpo, or another file of shape_grpo/methods.
# Environment variables: MODEL, N_GPUS (per node), NNODES; RUN, the run's folder.
# CPU=1: two steps of a tiny policy (from python -m recipe.shape_grpo.policies) without a GPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    echo "usage: [MODEL=...] [N_GPUS=2] [NNODES=1] [CPU=1] [RUN=outputs/$TASK-METHOD] $0 METHOD [--dry-run | --verbose] [hydra overrides]"
    echo "Metrics, verl's output and checkpoints go into the folder RUN. An interrupted run resumes from its"
    echo "last checkpoint. --verbose shows verl's output; --dry-run only checks the configuration."
    echo "METHOD is one of: $(basename -s .yaml shape_grpo/methods/*.yaml | paste -sd ' ')"
    echo "Candidates per response: dataset.candidates=5; prepare the data with --candidates 5 first."
}

# override KEY TEXT: prints a Hydra override of any text.
override() {
    printf "%s='%s'" "$1" "${2//\'/\\\'}"
}

options=()
arguments=()
for argument in "$@"; do
    case $argument in
        --dry-run | --verbose) options+=("$argument") ;;
        -h | --help)
            usage
            exit
            ;;
        *) arguments+=("$argument") ;;
    esac
done
METHOD=${arguments[0]:-}
if [ ! -f "shape_grpo/methods/$METHOD.yaml" ]; then
    usage >&2
    exit 2
fi

overrides=("+task=$TASK")
if [ -n "${CPU:-}" ]; then
    source run_scripts/environment.sh
    overrides+=(+backend=cpu +scale=tiny)
fi
[ -z "${MODEL:-}" ] || overrides+=("$(override actor_rollout_ref.model.path "$MODEL")")
[ -z "${N_GPUS:-}" ] || overrides+=("trainer.n_gpus_per_node=$N_GPUS")
[ -z "${NNODES:-}" ] || overrides+=("trainer.nnodes=$NNODES")
overrides+=("${arguments[@]:1}")
exec "${PYTHON:-python}" -m recipe.shape_grpo.runs "${options[@]}" "$METHOD" \
    "${RUN:-outputs/$TASK-$METHOD}" "${overrides[@]}"
