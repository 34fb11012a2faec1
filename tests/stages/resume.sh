#!/usr/bin/env bash
# resume.sh: every stage that goes on from where an interrupted run stopped: killed, on one rank where
# its bits do not depend on that, then asked to stop on three, then ended on two. The results must be
# those of an undisturbed run, and neither a partial file nor a journal may be left.
#
# LODE_MARKS (store/journal.h) interrupts a rank after so many units, whatever the machine's speed.
source "$(dirname "$0")/common.sh"

model=quickstart/books3m
experiment=configs/quickstart.cfg
# Short texts and small micro-batches: many units in little time.
settings=(
    --set calibration.sequences=16 --set calibration.max_length=48 --set micro_batch=96
    --set calibration.padding='"eos"' --set calibration.keep_logits=3
    --set 'prune.methods=["lp","sparsegpt-channel"]' --set prune.cores='["none"]'
    --set prune.sparsity=0.5 --set classify.controls.draws=20 --set classify.controls.read_halo=true
    --set 'prune.compensation=["none","bias","least-squares","sequential"]'
    --set 'classify.spectra=["q","write"]' --set classify.redundancy.sequences=2
    --set 'evaluate.perplexity.[0].corpus="configs/quickstart/text/calibration.txt"'
    --set evaluate.perplexity.[0].length=64 --set evaluate.tasks.[0].limit=6
    --set evaluate.tasks.[1].limit=6
    --set 'probe.checks=["ablation"]' --set probe.sequences=16 --set probe.max_length=32
    --set probe.channels=3
)

lode_run 2 $experiment whole "${settings[@]}"

# interrupt RANKS MARKS STATUS STAGES: a run that is interrupted after so many marks of a rank
interrupt() {
    local launcher=() status=0
    if [ "$1" -gt 1 ]; then launcher=(mpirun -q -n "$1" --oversubscribe --bind-to none); fi
    LODE_MARKS=$2 "${launcher[@]}" "$lode" run $experiment "${settings[@]}" \
        --set "results=$work/stopped" --stages "$4" </dev/null >"$work/log" 2>&1 || status=$?
    if [ "$status" -ne "$3" ]; then
        bad "$4: the run with $2 on $1 ranks left with $status, not $3:"
        cat "$work/log"
    fi
}

# resume KILLED_RANKS STOPPED_RANKS MARKS STAGE...: the stages, which run together
resume() {
    local killed=$1 stopped=$2 marks=$3 list status=137
    shift 3
    list=$(IFS=,; echo "$*")
    rm -rf "$work/stopped"
    cp -rp "$work/whole" "$work/stopped"
    for stage; do rm "$work/stopped/$model/$stage.h5"; done
    { interrupt "$killed" "kill:$marks" "$status" "$list"; } 2>/dev/null # says "Killed"
    interrupt "$stopped" "stop:$marks" 75 "$list"
    lode_run 2 $experiment stopped "${settings[@]}" --stages "$list"
    if grep -q 'going on from an interrupted run, [1-9]' "$work/log"; then
        ok "$list: $(grep -o 'going on from .*' "$work/log" | head -1)"
    else
        bad "$list: nothing was taken over:"
        cat "$work/log"
    fi
    same "$list" whole/$model stopped/$model "$@"
    if find "$work/stopped" -name '*.partial*' -o -name '*.journal*' | grep .; then
        bad "$list: left behind"
    fi
}

resume 1 3 9 calibrate accumulate
resume 1 3 9 moments
resume 1 3 1 classify
resume 2 2 3 spectra
resume 2 2 5 prune
resume 2 2 4 compensate
resume 1 3 9 evaluate
resume 1 3 9 probe

# An exported folder, of which tensors are the units: a write fails amid them, on other ranks too.
copies=(--set "export=({variant=\"lp@0.5\"; path=\"$work/model\";})" --stages export)
lode_run 1 $experiment whole "${settings[@]}" "${copies[@]}"
mv "$work/model" "$work/model.whole"
rm "$work/whole/$model/export.h5"
status=0
LODE_FAULT=write:rank=0:call=60 mpirun -q -n 2 --oversubscribe --bind-to none "$lode" run \
    $experiment "${settings[@]}" --set "results=$work/whole" "${copies[@]}" </dev/null \
    >"$work/log" 2>&1 || status=$?
if [ "$status" -ne 8 ] || ! [ -e "$work/model.partial" ] || [ -e "$work/model" ]; then
    bad "export: with a failed write it left with $status, and $(ls "$work")"
fi
lode_run 3 $experiment whole "${settings[@]}" "${copies[@]}"
if grep -q 'export: going on from an interrupted run, [1-9]' "$work/log" &&
    diff -r "$work/model" "$work/model.whole"; then
    ok "export: $(grep -o 'going on from .*' "$work/log" | head -1)"
else
    bad "export: nothing was taken over, or not the same came of it:"
    cat "$work/log"
fi
exit "$failed"
