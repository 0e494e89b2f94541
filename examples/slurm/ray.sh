#!/bin/bash
# A comparison on a Ray cluster that lives inside one job. The first node has Ray's head and the driver.
#   sbatch --nodes=4 ray.sh RECIPE [OPTIONS of sail-bench compare]
#SBATCH --job-name=sail-bench-ray
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
#SBATCH --time=24:00:00
set -euo pipefail
source "${VENV:-.venv}/bin/activate"
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(python -c 'import secrets; print(secrets.token_hex(32))')}
cpus=${SLURM_CPUS_PER_TASK:-1} gpus=${SLURM_GPUS_ON_NODE:-0} port=${RAY_PORT:-6379}
ip=$(hostname --ip-address | cut -d' ' -f1)

trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
ray start --head --block --node-ip-address="$ip" --port="$port" --num-cpus="$cpus" --num-gpus="$gpus" \
  --include-dashboard=false &
until (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null; do sleep 2; done
if ((SLURM_NNODES > 1)); then
  srun --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --exclude="$SLURMD_NODENAME" \
    ray start --block --address="$ip:$port" --num-cpus="$cpus" --num-gpus="$gpus" &
fi
sail-bench compare "$@" --store "$WORK/store" --cluster "ray:$ip:$port" \
  --workers "${WORKERS:-$((SLURM_NNODES * (gpus > 0 ? gpus : cpus)))}"
