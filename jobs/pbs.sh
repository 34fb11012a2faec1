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
# or build-release/lode there, or the one on the PATH.
#
# PBS warns nobody before the time is up. So lode is told the walltime, begins no unit of work (a
# micro-batch, a layer) that would not end in it, and exits with status 75. The job then submits
# itself again where LODE_SUBMIT says how, at most LODE_RESTARTS times (20), and goes on where it
# stopped:
#
#   export LODE_EXPERIMENT=EXPERIMENT.cfg
#   export LODE_SUBMIT="qsub -V -l select=4:ncpus=32:mpiprocs=8 -l walltime=4:00:00 jobs/pbs.sh"
#   $LODE_SUBMIT
#
# Without it, submit the job again in the same words. It goes on in the same way after anything else
# that has stopped it.
#
# One job for each model of an experiment, as an array (Torque: -t 0-1), which LODE_SUBMIT leaves
# out, since a job that is submitted again is for one model:
#
#   export LODE_EXPERIMENT=EXPERIMENT.cfg LODE_MODELS="llama-3.1-8b mistral-7b"
#   qsub -V -J 0-1 ... jobs/pbs.sh
#
#PBS -N lode
#PBS -j oe
#PBS -r y
set -euo pipefail

if [ -z "${LODE_EXPERIMENT:-}" ] || [ -z "${PBS_NODEFILE:-}" ]; then
    echo "usage: qsub [RESOURCES] -v LODE_EXPERIMENT=EXPERIMENT.cfg jobs/pbs.sh" >&2
    exit 2
fi
cd "$PBS_O_WORKDIR"

# The modules that Lodestone was built with, where your site has such (or load them before qsub -V,
# which passes them on):
# module load gcc openmpi hdf5 openblas scalapack

say() { echo "pbs.sh: $*" >&2; }

lode=${LODE:-build-release/lode}
[ -x "$lode" ] || lode=$(command -v lode || true)
if [ -z "$lode" ]; then
    say "there is no lode in $PWD/build-release or on the PATH; set LODE to the program"
    exit 1
fi

index=${PBS_ARRAY_INDEX:-${PBS_ARRAYID:-}}
if [ -n "$index" ]; then
    read -r -a models <<<"${LODE_MODELS:-}"
    if [ "$index" -ge "${#models[@]}" ]; then
        say "LODE_MODELS names ${#models[@]} models, but this is array index $index;" \
            "export the list before qsub -V and count from 0"
        exit 2
    fi
    export LODE_OPTIONS="${LODE_OPTIONS:-} --model ${models[$index]}"
fi

# An option of yours goes before the job's walltime, of which half a minute is left for the rest.
options=()
walltime=$(qstat -f "${PBS_JOBID:-}" 2>/dev/null | sed -n 's/^ *Resource_List.walltime = //p' || true)
if [[ $walltime =~ ^([0-9]+):([0-9]+):([0-9]+)$ ]]; then
    seconds=$((10#${BASH_REMATCH[1]} * 3600 + 10#${BASH_REMATCH[2]} * 60 + 10#${BASH_REMATCH[3]} - 30))
    if [ "$seconds" -gt 0 ]; then options+=(--time-limit "$seconds"); fi
fi
read -r -a more <<<"${LODE_OPTIONS:-}"
options+=("${more[@]}")

# The node file has a line for each rank. An Open MPI that was built without PBS needs to be told.
ranks=$(wc -l <"$PBS_NODEFILE")
status=0
mpirun -n "$ranks" --hostfile "$PBS_NODEFILE" --map-by "slot:PE=${OMP_NUM_THREADS:-1}" \
    --bind-to core "$lode" run "$LODE_EXPERIMENT" "${options[@]}" || status=$?

restarts=${LODE_RESTART:-0}
if [ "$status" -ne 75 ]; then
    exit "$status"
fi
if [ -z "${LODE_SUBMIT:-}" ]; then
    say "not finished; submit it again in the same words"
elif [ "$restarts" -ge "${LODE_RESTARTS:-20}" ]; then
    say "not finished after $restarts restarts; submit it again, or raise LODE_RESTARTS"
else
    say "not finished; submitted again"
    export LODE_RESTART=$((restarts + 1))
    # Several words.
    # shellcheck disable=SC2086
    $LODE_SUBMIT || say "it could not be; submit it again in the same words"
fi
exit "$status"
