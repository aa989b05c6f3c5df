#!/usr/bin/env bash
# The API reference, from the docstrings: outputs/docs/index.html.
#   ./run_scripts/build_docs.sh [FOLDER]
source "$(dirname "$0")/environment.sh"
FOLDER=${1:-outputs/docs}
# Left out: code that runs inside a sandbox, and code that verl and vLLM load for the CPU.
"$PYTHON" -W ignore -m pdoc --docformat google --output-directory "$FOLDER" \
    shape_grpo reward_fns '!reward_fns\.ds1000_scorer' '!shape_grpo\.sandbox\.inside' '!shape_grpo\.verl\.cpu\.'
echo "API reference: $FOLDER/index.html"
