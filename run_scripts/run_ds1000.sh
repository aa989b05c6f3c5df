#!/usr/bin/env bash
# Solutions of data science problems, scored by their tests.
#   ./run_scripts/run_ds1000.sh METHOD [--dry-run] [hydra overrides]
TASK=ds1000
source "$(dirname "$0")/task.sh"
