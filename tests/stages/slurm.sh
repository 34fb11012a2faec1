#!/usr/bin/env bash
# jobs/slurm.sbatch under a real Slurm: a controller and two nodes on this machine, in a folder of
# their own. A study over both nodes runs into its time limit, stops at the warning, queues again,
# goes on, and ends with the results of an undisturbed run; and an array has one job per model.
#
#   tests/stages/slurm.sh
#
# Installs Slurm where it is missing and root may; exit status 77 where it cannot be had.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PATH=$PATH:/usr/sbin:/sbin
skip() {
    echo "skipped: $*"
    exit 77
}

# --- Slurm ----------------------------------------------------------------------------------

have_slurm() { command -v slurmctld && command -v slurmd && command -v munged && command -v sbatch; }
if ! have_slurm >/dev/null; then
    if ! [ "$(id -u)" = 0 ] || ! command -v apt-get >/dev/null; then
        skip "there is no Slurm, and only root on Debian could install it"
    fi
    # Daemons that packages start would be another cluster's.
    policy=/usr/sbin/policy-rc.d
    if ! [ -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    else
        policy=
    fi
    { timeout 100 apt-get update && DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y \
        --no-install-recommends slurmctld slurmd slurm-client munge; } </dev/null >"$work/apt.log" 2>&1 || true
    if [ -n "$policy" ]; then rm -f $policy; fi
    have_slurm >/dev/null || skip "there is no Slurm, and its packages cannot be had"
fi

cluster=$work/cluster
daemons=()
stop_cluster() {
    local pid
    scancel --quiet --user="$(id -un)" 2>/dev/null || true
    # Jobs' own processes first; daemons without children end at once.
    for pid in $(lode_pids); do kill -KILL "$pid" 2>/dev/null || true; done
    for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${daemons[@]}"; do
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
    finish
}
trap stop_cluster EXIT

# Processes of the program that this test's jobs run.
lode_pids() {
    local pid
    for pid in $(pgrep -x "$(basename "$lode" | cut -c 1-15)" || true); do
        if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "results=$work/"; then
            echo "$pid"
        fi
    done
}

# wait_for SECONDS COMMAND ...: until the command succeeds
wait_for() {
    local left=$(($1 * 20))
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 0.05
    done
}

# daemon PROGRAM [OPTION ...]: starts it in the foreground mode that it has been given
daemon() {
    "$@" </dev/null >>"$work/daemons.log" 2>&1 &
    daemons+=($!)
}

start_cluster() {
    local user host port
    user=$(id -un)
    host=$(hostname -s)
    port=$((20000 + ($$ * 8) % 10000))
    mkdir -p "$cluster"/{state,spool-n1,spool-n2,tmp-n1,tmp-n2}
    chmod 755 "$work"
    dd if=/dev/urandom of="$cluster/key" bs=128 count=1 2>/dev/null
    chmod 600 "$cluster/key"
    export SLURM_CONF=$cluster/slurm.conf
    cat >"$SLURM_CONF" <<END
ClusterName=lode
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until its credentials have expired.
AuthInfo=socket=$cluster/munge,cred_expire=5
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool-%n
TmpFS=$cluster/tmp-%n
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd-%n.pid
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdLogFile=$cluster/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/linear
MpiDefault=pmix
MailProg=/bin/true
ReturnToService=2
JobRequeue=1
KillWait=3
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SlurmdParameters=config_overrides
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 2))] CPUs=2 RealMemory=500
PartitionName=main Nodes=ALL Default=YES State=UP MaxTime=30
END
    daemon munged --foreground --force --key-file="$cluster/key" --socket="$cluster/munge" \
        --pid-file="$cluster/munged.pid" --log-file="$cluster/munged.log" --seed-file="$cluster/seed"
    wait_for 5 test -S "$cluster/munge" || skip "munged does not start: $(cat "$work/daemons.log")"
    daemon slurmctld -D -c
    daemon slurmd -D -N n1
    daemon slurmd -D -N n2
    wait_for 20 idle || skip "Slurm does not start here: $(tail -n 3 "$cluster"/*.log)"
    srun --mpi=list 2>&1 | grep -qw pmix || skip "this Slurm has no PMIx"
}
idle() { [ "$(sinfo --noheader --format=%T:%D)" = idle:2 ]; }

state() { scontrol --oneliner show job "$1" | grep -o 'JobState=[A-Z]*' | sort -u | tr '\n' ' '; }
completed() { [ "$(state "$1")" = 'JobState=COMPLETED ' ]; }
has() { grep -qF -- "$1" "$2"; }

# --- the study ------------------------------------------------------------------------------

options=(--set micro_batch=512 --set 'evaluate.tasks=()' --set 'prune.methods=["scar-prot"]'
    --set 'prune.sparsity=0.5')
stages=(tokenize calibrate accumulate classify prune evaluate)

lode_run 2 configs/quickstart.cfg plain "${options[@]}"
start_cluster

export LODE=$lode OMPI_MCA_mpi_yield_when_idle=1
log=$work/job.out
job=$(sbatch --parsable --nodes=2 --ntasks-per-node=1 --time=1 --signal=B:USR1@20 --output="$log" \
    jobs/slurm.sbatch configs/quickstart.cfg --set "results=$work/queued" "${options[@]}")

# The ranks sleep through their time, in the middle of a stage.
partial=$work/queued/quickstart/books3m/accumulate.h5.partial
wait_for 30 test -e "$partial" || bad "the job does not begin: $(cat "$log")"
# shellcheck disable=SC2046
kill -STOP $(lode_pids)
wait_for 60 has "the job's time is almost up" "$log" || bad "the job was not warned of its time limit"
# shellcheck disable=SC2046
kill -CONT $(lode_pids)
if wait_for 60 completed "$job"; then
    ok "the job is complete"
else
    bad "the job is not complete:"
    scontrol show job "$job" || true
    sinfo --long || true
    tail -n 20 "$cluster/slurmctld.log"
fi
for line in "lode: stopped by SIGUSR1 in" "not finished; the job is queued again" \
    "restart 1 of job $job" "going on from an interrupted run"; do
    if has "$line" "$log"; then ok "it said: $line"; else bad "it did not say: $line"; fi
done
if [ "$failed" -ne 0 ]; then cat "$log"; exit 1; fi
same "over two nodes, with a restart" plain/quickstart/books3m queued/quickstart/books3m "${stages[@]}"

# --- an array -------------------------------------------------------------------------------

model=configs/quickstart/model
export LODE_MODELS="books3m copy"
job=$(sbatch --parsable --array=0-1 --nodes=1 --ntasks=2 --time=5 --output="$work/array-%a.out" jobs/slurm.sbatch \
    configs/quickstart.cfg --set "results=$work/array" "${options[@]}" \
    --set "models=({name=\"books3m\"; path=\"$model\";}, {name=\"copy\"; path=\"$model\";})")
wait_for 60 completed "$job" || bad "the array is $(state "$job"): $(cat "$work"/array-*.out)"
for name in $LODE_MODELS; do
    same "a job of an array, $name" plain/quickstart/books3m "array/quickstart/$name" "${stages[@]}"
done
summary=$work/array/quickstart/summary.csv
if [ "$(cut -d, -f1 "$summary" | sort -u | tr '\n' ' ')" = "books3m copy model " ]; then
    ok "the summary has both models"
else
    bad "the summary has $(cut -d, -f1 "$summary" | sort -u | tr '\n' ' ')"
fi

exit "$failed"
