#!/usr/bin/env bash
# Films for users of whom the prompt says nothing.
#   ./run_scripts/run_netflix.sh METHOD [--dry-run] [hydra overrides]
TASK=netflix
source "$(dirname "$0")/task.sh"
