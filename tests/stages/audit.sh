#!/usr/bin/env bash
# Audits versions of the embedded model: its own folder, exported ones, one of them without its note,
# and one with weights changed by another program, against figures of a third (tests/golden/audit.py);
# for several numbers of ranks, interrupted, and with folders that are none.
#
#     tests/stages/audit.sh
#
# LODE names the program (default: that of build-release), ALTER and CHECK_AUDIT those of the test,
# LODE_AUDIT_RANKS numbers of ranks. Exit status: 0 passed, 1 failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"
alter=${ALTER:-$root/build-release/tests/test_alter}
check_audit=${CHECK_AUDIT:-$root/build-release/tests/check_audit}

head -n 25 configs/quickstart/text/evaluation.txt >"$work/short.txt"
settings=(--set calibration.sequences=8 --set calibration.max_length=64 --set micro_batch=256
    --set classify.controls.draws=20 --set 'prune.methods=["scar-prot"]' --set 'prune.sparsity=(0.5)'
    --set 'prune.allocation=["uniform","global"]'
    --set 'superweight.prompts=["It was a dark night, and the"]' --set superweight.rule=absolute
    --set superweight.absolute=0.3 --set superweight.product=0.05 --set superweight.limit=14
    --set "evaluate.perplexity.[0].corpus=$work/short.txt"
    --set 'evaluate.perplexity.[0].length=64'
    --set 'evaluate.tasks=({name="last-words";path="configs/quickstart/tasks/last-words.jsonl";limit=6;})'
    --set "export=({variant=\"scar-prot@0.5\";path=\"$work/sliced\";},
        {variant=\"scar-prot@0.5+global\";path=\"$work/padded/\";})")

# folders NAME ...: the value of audit.folders for folders of $work
folders() {
    printf '(%s)' "$(for name; do printf '{name="%s";path="%s/%s";},' "$name" "$work" "$name"; done |
        sed 's/,$//')"
}

# run RANKS FOLDER [OPTION ...]: the quickstart into a results folder; what it says goes to $work/log
run() { lode_run "$1" configs/quickstart.cfg "$2" "${settings[@]}" "${@:3}"; }

cp -r configs/quickstart/model "$work/self"
cp -r configs/quickstart/model "$work/altered"
chmod -R u+w "$work/altered" "$work/self"
"$alter" "$work/altered" tests/golden/audit.changes

# --- what is found ------------------------------------------------------------------------------

# The exported folders need not exist when the experiment begins.
exported=(--set "audit.folders=$(folders sliced padded)" --set audit.loss_proxy=false)
if "$lode" check configs/quickstart.cfg "${settings[@]}" "${exported[@]}" >"$work/log" 2>&1; then
    ok "lode check: folders to be exported are missing"
else
    bad "lode check:" "$(cat "$work/log")"
fi
run 2 results "${exported[@]}"
cp -r "$work/sliced" "$work/bare"
rm "$work/bare/lodestone.json"

all=(--set "audit.folders=$(folders self altered sliced padded bare)")
model=quickstart/books3m
run 1 results "${all[@]}"
"$check_audit" tests/golden/audit.h5 "$work/results/$model" || failed=1

run 1 results "${all[@]}"
said "again: nothing to do" "audit: complete, nothing to do"
cp -r "$work/results" "$work/whole"
for ranks in ${LODE_AUDIT_RANKS:-2 3 5 8}; do
    run "$ranks" results "${all[@]}" --stages audit --force
    same "$ranks ranks" whole/$model results/$model audit
done

# --- what it depends on -------------------------------------------------------------------------

# interrupted STATUS MARKS: on three ranks, after so many marks of one of them
interrupted() {
    local status=0
    LODE_MARKS=$2 mpirun -q -n 3 --oversubscribe --bind-to none "$lode" run configs/quickstart.cfg \
        "${settings[@]}" "${all[@]}" --set "results=$work/results" --stages audit </dev/null \
        >"$work/log" 2>&1 || status=$?
    if [ "$status" -ne "$1" ]; then
        bad "interrupted by $2: left with $status, not $1:" "$(cat "$work/log")"
    fi
}
rm "$work/results/$model/audit.h5"
interrupted 75 stop:8
{ interrupted 137 kill:12; } 2>/dev/null # says "Killed"
run 2 results "${all[@]}" --stages audit
said "interrupted twice, it goes on" "going on from an interrupted run"
same "interrupted" whole/$model results/$model audit
if find "$work/results" -name '*.partial*' -o -name '*.journal*' -o -name '*scratch*' | grep .; then
    bad "left behind"
fi

printf 'model.layers.0.mlp.up_proj.weight element 0 0 0.5\n' >"$work/one-more"
"$alter" "$work/altered" "$work/one-more"
touch -d '1 hour ago' "$work/altered/model.safetensors" # not within one tick of the clock
run 1 results "${all[@]}" --stages audit
if grep -q "audit: complete" "$work/log" ||
    [ "$("$lode" digest "$work/results/$model/audit.h5")" = \
        "$("$lode" digest "$work/whole/$model/audit.h5")" ]; then
    bad "a folder's weight has changed, and the results have not"
else
    ok "a folder's weight has changed, and so have the results"
fi

# --- mistakes -----------------------------------------------------------------------------------

# fails COMMAND STATUS PATTERN FOLDER: what lode check or the stage says of a folder
fails() {
    local command=$1 status=$2 pattern=$3 got=0 stages=()
    if [ "$command" = run ]; then stages=(--stages audit); fi
    "$lode" "$command" configs/quickstart.cfg "${settings[@]}" --set "results=$work/results" \
        --set "audit.folders=$(folders "$4")" "${stages[@]}" </dev/null >"$work/log" 2>&1 || got=$?
    if [ "$got" -eq "$status" ] && [ "$(grep -c '^lode: error: ' "$work/log")" -eq 1 ] &&
        grep -q "^lode: error: .*$pattern" "$work/log"; then
        ok "refused: $(sed -n 's/^lode: error: //p' "$work/log")"
    else
        bad "lode $command, folder $4: $got, not $status:" "$(cat "$work/log")"
    fi
}

# with EXPRESSION NAME: a copy of the model whose config.json sed has changed
with() {
    cp -r "$work/self" "$work/$2"
    sed -i "$1" "$work/$2/config.json"
}
fails check 4 "audit.folders.\[0\].path: .*missing: there is no such folder" missing
fails run 4 "audit.folders.\[0\].path: .*missing: there is no such folder" missing
cp -r "$work/self" "$work/short"
truncate -s 1000000 "$work/short/model.safetensors"
fails check 5 "short/model.safetensors" short
with 's/}$/,"quantization_config": {"quant_method": "gptq", "bits": 4}}/' packed
fails check 7 "packed.*gptq.*dequantize" packed
# A sound model of another shape.
"$lode" synthesize "$work/self/config.json" "$work/other" --layers 3 >"$work/log" 2>&1
fails check 6 "layers 3, but 6 in model books3m" other
sed 's/"vocab_size": 2048/"vocab_size": 1024/' "$work/self/config.json" >"$work/words.json"
"$lode" synthesize "$work/words.json" "$work/words" >"$work/log" 2>&1
fails check 6 "vocabulary 1024, but 2048 in model books3m" words
# A sliced folder of another model: as wide as one of this, but its channels read something else.
sed 's/"intermediate_size": 576/"intermediate_size": 288/' "$work/self/config.json" \
    >"$work/narrow.json"
"$lode" synthesize "$work/narrow.json" "$work/narrow" >"$work/log" 2>&1
fails run 6 "narrow: .*none of the original's" narrow
# A note that does not fit its weights.
cp -r "$work/sliced" "$work/noted"
sed -i 's/"kept": \[/"kept": [[5,4],/' "$work/noted/lodestone.json"
fails run 5 'noted/lodestone.json: "kept" does not have' noted
exit "$failed"
