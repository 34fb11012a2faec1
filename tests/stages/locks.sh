#!/usr/bin/env bash
# Several runs at once: two on one model's results, of which the second gives way; one for each model
# of an experiment, as the jobs of an array; and locks that killed runs have left.
#
#   [NO_LOCKS=LIBRARY] tests/stages/locks.sh
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"

model=configs/quickstart/model
options=(--set calibration.sequences=8 --set calibration.max_length=64 --set micro_batch=256
    --set 'prune.methods=["scar-prot"]' --set 'prune.sparsity=0.5' --set 'evaluate.tasks=()'
    --set 'evaluate.perplexity.[0].length=64' --set "evaluate.perplexity.[0].corpus=$work/short.txt"
    --set "models=({name=\"a\";path=\"$model\";},{name=\"b\";path=\"$model\";},
                   {name=\"c\";path=\"$model\";},{name=\"d\";path=\"$model\";})")
head -n 25 configs/quickstart/text/evaluation.txt >"$work/short.txt"
stages=(accumulate evaluate)

# start RANKS LOG OPTION ...: a run in the background, its process in $started
start() {
    local ranks=$1 log=$2 launcher=()
    shift 2
    if [ "$ranks" -gt 1 ]; then launcher=(mpirun -q -n "$ranks" --oversubscribe --bind-to none); fi
    "${launcher[@]}" "$lode" run configs/quickstart.cfg "${options[@]}" "$@" </dev/null >"$work/$log" 2>&1 &
    started=$!
}

# --- an array's jobs, all at once -----------------------------------------------------------

lode_run 1 configs/quickstart.cfg plain "${options[@]}"
pids=()
for name in a b c d; do
    start $((1 + ${#pids[@]} % 2)) "log-$name" --set "results=$work/array" --model $name
    pids+=("$started")
done
for i in 0 1 2 3; do
    if ! wait "${pids[$i]}"; then
        bad "one of four jobs at once fails: $(tail -n 3 "$work"/log-?)"
    fi
done
for name in a b c d; do
    same "one of four jobs at once" "plain/quickstart/$name" "array/quickstart/$name" "${stages[@]}"
done
for file in summary.csv comparisons.csv; do
    if cmp -s "$work/plain/quickstart/$file" "$work/array/quickstart/$file"; then
        ok "four jobs at once: $file is complete"
    else
        bad "four jobs at once: $file is incomplete:"
        diff "$work/plain/quickstart/$file" "$work/array/quickstart/$file" | head -n 5 || true
    fi
done
if grep -q warning "$work"/log-?; then
    bad "four jobs at once: $(grep -h warning "$work"/log-? | head -n 1)"
fi
if cmp -s "$work/plain/quickstart/.fingerprints.json" "$work/array/quickstart/.fingerprints.json"; then
    ok "four jobs at once: what each has hashed is remembered"
else
    bad "four jobs at once: .fingerprints.json is incomplete"
fi

# --- two on one -----------------------------------------------------------------------------

# Whichever rank counts they have, the second stops at once; the first, which is stopped in the
# middle so that it cannot be over, is none the worse.
two() {
    local first=$1 second=$2 folder=$work/two-$1 pid ranks=() status=0
    start "$first" first --set "results=$folder" --model a
    pid=$started
    for _ in $(seq 200); do
        [ -s "$folder/quickstart/a/.lock" ] && break
        sleep 0.02
    done
    ranks=("$pid")
    if [ "$first" -gt 1 ]; then mapfile -t ranks < <(pgrep -P "$pid"); fi
    kill -STOP "${ranks[@]}"
    start "$second" log --set "results=$folder" --model a
    wait "$started" || status=$?
    kill -CONT "${ranks[@]}"
    if [ "$status" -eq 12 ] && [ "$(grep -c error: "$work/log")" -eq 1 ]; then
        ok "$second ranks beside $first: exit status 12, one message"
    else
        bad "$second ranks beside $first: exit status $status: $(cat "$work/log")"
    fi
    said "$second ranks beside $first: names who is there" \
        "quickstart/a is in use by process $(cut -d' ' -f2 "$folder/quickstart/a/.lock" | head -n 1) on $(hostname)"
    if wait "$pid"; then
        ok "the first goes on"
    else
        bad "the first fails: $(cat "$work/first")"
    fi
    same "the first of two" plain/quickstart/a "two-$first/quickstart/a" "${stages[@]}"
}
two 1 2
two 2 1

# --- killed runs ----------------------------------------------------------------------------

start 1 first --set "results=$work/killed" --model a
for _ in $(seq 200); do
    [ -s "$work/killed/quickstart/a/.lock" ] && break
    sleep 0.02
done
kill -KILL "$started"
wait "$started" 2>/dev/null || true
if [ -s "$work/killed/quickstart/a/.lock" ]; then
    ok "a killed run leaves its name in the lock"
else
    bad "the killed run has left no lock"
fi
lode_run 2 configs/quickstart.cfg killed "${options[@]}" --model a
same "after a killed run" plain/quickstart/a killed/quickstart/a "${stages[@]}"

# --- no locks -------------------------------------------------------------------------------

# NO_LOCKS is a library to preload; a program under sanitizers takes none.
if [ -n "${NO_LOCKS:-}" ]; then
    LD_PRELOAD=$NO_LOCKS lode_run 1 configs/quickstart.cfg unlocked "${options[@]}" --model a
    said "without locks: a warning" "this file system has no locks; do not start two runs on"
    same "without locks" plain/quickstart/a unlocked/quickstart/a "${stages[@]}"
fi

exit "$failed"
