#!/usr/bin/env bash
# Runs an experiment under Slurm. Resources are given where you submit:
#
#   sbatch -N 4 --ntasks-per-node=8 --cpus-per-task=4 --mem=120G --time=4:00:00 \
#       jobs/slurm.sh EXPERIMENT.cfg [OPTION ...]
#
# One task is one rank; --cpus-per-task should equal `threads` of the experiment. The options are
# those of `lode run`. Submit from the directory that the experiment's relative paths start at. The
# program is $LODE, or build-release/lode there, or the one on the PATH. A job that runs out of time
# is submitted again in the same words: it goes on from the last stage that was complete.
#
# One job for each model of an experiment, as an array:
#
#   export LODE_MODELS="llama-3.1-8b mistral-7b"
#   sbatch --array=0-1 ... jobs/slurm.sh EXPERIMENT.cfg
#
# Ranks are started by srun; set SLURM_MPI_TYPE=pmix (or what `srun --mpi=list` offers) where srun's
# default does not suit your MPI, or LODE_LAUNCH=mpirun to let mpirun start them.
#
#SBATCH --job-name=lode
#SBATCH --output=lode-%j.out
set -euo pipefail

if [ $# -lt 1 ] || [ -z "${SLURM_JOB_ID:-}" ]; then
    echo "usage: sbatch [RESOURCES] jobs/slurm.sh EXPERIMENT.cfg [OPTION ...]" >&2
    exit 2
fi
# Modules that Lodestone was built with are loaded here, or before sbatch, which passes them on.

# Slurm runs a copy of this script, so the program is looked for from the working directory.
lode=${LODE:-build-release/lode}
[ -x "$lode" ] || lode=$(command -v lode || true)
if [ -z "$lode" ]; then
    echo "slurm.sh: there is no lode in $PWD/build-release or on the PATH; set LODE to the program" >&2
    exit 1
fi

if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    read -r -a models <<<"${LODE_MODELS:-}"
    if [ "$SLURM_ARRAY_TASK_ID" -ge "${#models[@]}" ]; then
        echo "slurm.sh: LODE_MODELS names ${#models[@]} models, but this is array index" \
            "$SLURM_ARRAY_TASK_ID; export the list before sbatch and count from 0" >&2
        exit 2
    fi
    set -- "$@" --model "${models[$SLURM_ARRAY_TASK_ID]}"
fi

cpus=${SLURM_CPUS_PER_TASK:-1}
if [ "${LODE_LAUNCH:-srun}" = mpirun ]; then
    exec mpirun --map-by "slot:PE=$cpus" --bind-to core "$lode" run "$@"
fi
# srun does not take the job's --cpus-per-task over by itself since Slurm 22.05.
exec srun --cpus-per-task="$cpus" --cpu-bind=cores --kill-on-bad-exit=1 "$lode" run "$@"
