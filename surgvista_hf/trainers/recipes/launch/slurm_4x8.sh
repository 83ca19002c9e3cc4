#!/bin/bash
# Four machines with eight GPUs each under SLURM: sbatch slurm_4x8.sh surgvista_base training.gradient_accumulation_steps=1
# One task a machine starts the processes of its GPUs. A job that is requeued goes on from its newest complete checkpoint.
#SBATCH --job-name=surgvista
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export OMP_NUM_THREADS=1
srun --kill-on-bad-exit=1 bash -c 'accelerate launch \
    --multi_gpu --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * 8))" --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$0" --main_process_port 29500 --rdzv_backend c10d --mixed_precision bf16 --dynamo_backend no \
    -m surgvista_hf.trainers.pretrain "$@"' "${hosts[0]}" "$@"
