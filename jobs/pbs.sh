#!/usr/bin/env bash
# Runs an experiment under PBS (OpenPBS, PBS Pro or Torque). Resources are given where you submit:
#
#   qsub -l select=4:ncpus=32:mpiprocs=8:ompthreads=4:mem=120gb -l walltime=4:00:00 \
#       -v LODE_EXPERIMENT=EXPERIMENT.cfg jobs/pbs.sh
#
# mpiprocs is the number of ranks of a node and ompthreads should equal `threads` of the experiment;
# ncpus is their product. Further options of `lode run` go into LODE_OPTIONS, separated by spaces:
# qsub splits -v at commas, so export LODE_EXPERIMENT and LODE_OPTIONS and use -V where a value has
# one. Submit from the directory that the experiment's relative paths start at. The program is $LODE,
# or build-release/lode there, or the one on the PATH. A job that runs out of time is submitted again
# in the same words: it goes on from the last stage that was complete.
#
# One job for each model of an experiment, as an array (Torque: -t 0-1):
#
#   export LODE_EXPERIMENT=EXPERIMENT.cfg LODE_MODELS="llama-3.1-8b mistral-7b"
#   qsub -V -J 0-1 ... jobs/pbs.sh
#
#PBS -N lode
#PBS -j oe
set -euo pipefail

if [ -z "${LODE_EXPERIMENT:-}" ] || [ -z "${PBS_NODEFILE:-}" ]; then
    echo "usage: qsub [RESOURCES] -v LODE_EXPERIMENT=EXPERIMENT.cfg jobs/pbs.sh" >&2
    exit 2
fi
cd "$PBS_O_WORKDIR"
# Modules that Lodestone was built with are loaded here, or before qsub -V, which passes them on.

lode=${LODE:-build-release/lode}
[ -x "$lode" ] || lode=$(command -v lode || true)
if [ -z "$lode" ]; then
    echo "pbs.sh: there is no lode in $PWD/build-release or on the PATH; set LODE to the program" >&2
    exit 1
fi

read -r -a options <<<"${LODE_OPTIONS:-}"
index=${PBS_ARRAY_INDEX:-${PBS_ARRAYID:-}}
if [ -n "$index" ]; then
    read -r -a models <<<"${LODE_MODELS:-}"
    if [ "$index" -ge "${#models[@]}" ]; then
        echo "pbs.sh: LODE_MODELS names ${#models[@]} models, but this is array index $index;" \
            "export the list before qsub -V and count from 0" >&2
        exit 2
    fi
    options+=(--model "${models[$index]}")
fi

# The node file has a line for each rank. An Open MPI that was built without PBS needs to be told.
ranks=$(wc -l <"$PBS_NODEFILE")
exec mpirun -n "$ranks" --hostfile "$PBS_NODEFILE" --map-by "slot:PE=${OMP_NUM_THREADS:-1}" \
    --bind-to core "$lode" run "$LODE_EXPERIMENT" "${options[@]}"
