#!/bin/bash
# Drives a comparison whose workers are an array job (workers.sh). It needs no GPU.
#   sbatch driver.sh RECIPE [OPTIONS of sail-bench compare]
#SBATCH --job-name=sail-bench-driver
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=24:00:00
set -euo pipefail
source "${VENV:-.venv}/bin/activate"
sail-bench compare "$@" --store "$WORK/store" --cluster "jobs:$WORK/jobs"
