#!/usr/bin/env bash
# The job scripts without a scheduler: jobs/local.sh stops when it is asked to, and jobs/pbs.sh, in a
# PBS of a few lines, stops in its walltime and submits itself until it is done.
#
#   tests/stages/jobs.sh
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"

head -n 12 configs/quickstart/text/evaluation.txt >"$work/text.txt"
export LODE=$lode LODE_KILL_TEXT=$work/text.txt LODE_KILL_EXPORT=$work/out
experiment=tests/stages/kill.cfg

# --- jobs/local.sh --------------------------------------------------------------------------

# local_run RANKS SIGNAL ...: sends the signals, one after the other, once a stage is under way; sets
# `status`
local_run() {
    local ranks=$1 pid name signals
    shift
    signals=("$@")
    rm -rf "$work/local"
    set -m # a shell's background jobs ignore SIGINT otherwise
    "$root/jobs/local.sh" "$ranks" "$experiment" --set "results=$work/local" </dev/null >"$work/log" 2>&1 &
    pid=$!
    set +m
    for _ in $(seq 500); do
        [ -e "$work/local/kill/books3m/tokenize.h5" ] && break
        sleep 0.02
    done
    if [ $# -gt 1 ]; then # ranks that sleep do not stop of their own will
        for name in $(pgrep -P "$(pgrep -P "$pid" mpirun)"); do kill -STOP "$name"; done
    fi
    for name in "${signals[@]}"; do
        kill "-$name" "$pid"
        sleep 0.1
    done
    status=0
    wait "$pid" || status=$?
}

for ranks in 1 2; do
    for name in INT TERM USR1; do
        local_run $ranks $name
        if [ "$status" -eq 75 ] && ! grep -q error: "$work/log"; then
            ok "SIG$name to local.sh, $ranks ranks: exit status 75"
        else
            bad "SIG$name to local.sh, $ranks ranks: exit status $status: $(cat "$work/log")"
        fi
        said "SIG$name to local.sh, $ranks ranks: says so" "run the same command again to go on"
    done
done
local_run 2 INT INT
if [ "$status" -ne 75 ] && [ "$status" -ne 0 ]; then
    ok "Ctrl-C twice: exit status $status"
else
    bad "Ctrl-C twice: exit status $status: $(cat "$work/log")"
fi

# --- jobs/pbs.sh ----------------------------------------------------------------------------

# qsub notes the job, which a loop below runs; every job has 31 seconds, of which lode gets one.
mkdir "$work/bin"
cat >"$work/bin/qsub" <<'END'
#!/bin/sh
echo "$LODE_RESTART $LODE_OPTIONS $*" >>"$PBS_QUEUE"
END
cat >"$work/bin/qstat" <<'END'
#!/bin/sh
[ "$1 $2" = "-f 7.server" ] && printf 'Job Id: 7.server\n    Resource_List.walltime = 00:00:31\n'
END
chmod +x "$work"/bin/*
cp jobs/pbs.sh "$work/copy" # as PBS does
printf 'localhost\nlocalhost\n' >"$work/nodes"

# job OPTION ...: one job under these settings; sets `status`
job() {
    status=0
    env PATH="$work/bin:$PATH" OMPI_MCA_rmaps_base_oversubscribe=1 \
        OMPI_MCA_hwloc_base_binding_policy=none PBS_O_WORKDIR="$root" PBS_NODEFILE="$work/nodes" \
        PBS_JOBID=7.server PBS_QUEUE="$work/queue" LODE_EXPERIMENT=$experiment \
        "$@" "$work/copy" </dev/null >"$work/log" 2>&1 || status=$?
}

expect() {
    if [ "$status" -eq "$2" ]; then ok "$1"; else bad "$1: exit status $status: $(cat "$work/log")"; fi
}

submit="qsub -V jobs/pbs.sh"
options="--set results=$work/pbs --model books3m"
restart=0
job LODE_OPTIONS="$options --time-limit 0.01"
expect "an option goes before the walltime, and nothing is submitted unasked" 75
said "who must submit it" "submit it again in the same words"
if [ -e "$work/queue" ]; then bad "something was submitted unasked"; fi
while :; do
    job LODE_OPTIONS="$options" LODE_SUBMIT="$submit" LODE_RESTART=$restart
    if [ "$status" -ne 75 ] || [ "$restart" -gt 9 ]; then break; fi
    restart=$((restart + 1))
    if [ "$(tail -n 1 "$work/queue")" != "$restart $options -V jobs/pbs.sh" ]; then
        bad "submitted $(tail -n 1 "$work/queue")"
    fi
    # A stage that needs more than a second would not get done in any number of such jobs.
    if [ "$restart" -ge 3 ]; then options="--time-limit 1h $options"; fi
done
expect "done after $restart restarts" 0
job LODE_OPTIONS="--set results=$work/array --time-limit 0.01" LODE_SUBMIT="$submit" \
    LODE_MODELS="other books3m" PBS_ARRAY_INDEX=1
expect "a job of an array" 75
if [ "$(tail -n 1 "$work/queue")" = "1 --set results=$work/array --time-limit 0.01 --model books3m -V jobs/pbs.sh" ]; then
    ok "a job of an array is submitted again for its model"
else
    bad "a job of an array submitted $(tail -n 1 "$work/queue")"
fi
job LODE_OPTIONS="$options --force --time-limit 0.01" LODE_SUBMIT="$submit" LODE_RESTART=4 LODE_RESTARTS=4
expect "the last restart" 75
said "that it was the last" "not finished after 4 restarts"

exit "$failed"
