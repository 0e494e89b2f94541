#!/bin/bash
# Workers of a comparison, one a GPU. They take jobs until driver.sh has ended; more can be added at any time.
#   sbatch --array=0-7 workers.sh
#SBATCH --job-name=sail-bench-worker
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
set -euo pipefail
source "${VENV:-.venv}/bin/activate"
mkdir -p "$WORK/jobs"
exec sail-bench run-job "$WORK/jobs" --idle-minutes 60
