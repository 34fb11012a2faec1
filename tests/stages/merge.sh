#!/usr/bin/env bash
# Merges the statistics of several runs, and proves that nobody can tell them from those of one run
# over all the sequences: every dataset has the same bits, and an experiment that names the merged
# statistics comes to the same results without a pass of its own. Also what `lode merge` refuses, and
# that random draws of sequences depend on the seed alone.
#
#     tests/stages/merge.sh
#
# LODE names the program (default: that of build-release). Exit status: 0 passed, 1 failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"

corpus=$work/corpus.txt # one text a line
awk 'NF && lines++ < 12' configs/quickstart/text/calibration.txt >"$corpus"
head -n 25 configs/quickstart/text/evaluation.txt >"$work/short.txt"
settings=(--set calibration.max_length=64 --set calibration.sequences=12
    --set calibration.keep_logits=6 --set classify.redundancy.sequences=7
    --set classify.redundancy.max_length=40 --set micro_batch=64
    --set 'calibration.second_moment="float64"'
    --set 'prune.methods=["scar-prot","wanda-channel"]' --set 'prune.sparsity=(0.5)'
    --set "evaluate.perplexity.[0].corpus=$work/short.txt"
    --set 'evaluate.perplexity.[0].length=64' --set 'evaluate.tasks=()')
model=books3m

# run NAME [OPTION ...]: the experiment under a name of its own; what it says goes to $work/log
run() { lode_run 1 configs/quickstart.cfg "" "${settings[@]}" --set "name=$1" "${@:2}"; }

# --- three parts and the whole ------------------------------------------------------------------

run whole --set "calibration.corpus=$corpus"
part=0
parts=()
for lines in 1,4 5,5 6,12; do # the middle one has but one sequence
    part=$((part + 1))
    sed -n "${lines}p" "$corpus" >"$work/part$part.txt"
    run "part$part" --set "calibration.corpus=$work/part$part.txt" --stages tokenize,calibrate,accumulate,moments
    parts+=("$work/part$part/$model")
done
for ranks in 1 2 3; do
    mpirun -q -n "$ranks" --oversubscribe --bind-to none "$lode" merge "${parts[@]}" \
        --output "$work/merged$ranks/$model" >"$work/log" 2>&1 || {
        cat "$work/log"
        bad "lode merge on $ranks ranks"
    }
    same "merged on $ranks ranks" "whole/$model" "merged$ranks/$model" calibrate accumulate
done
"$lode" merge "${parts[0]}" "${parts[1]}" --output "$work/two/$model" 2>"$work/log"
"$lode" merge "$work/two/$model" "${parts[2]}" --output "$work/three/$model" 2>>"$work/log"
same "merged in two steps" "whole/$model" "three/$model" calibrate accumulate

# --- an experiment on merged statistics ---------------------------------------------------------

stages=(calibrate accumulate classify prune evaluate)
run later --set 'calibration.corpus=""' --set "calibration.merged=$work/merged2"
same "an experiment on them" "whole/$model" "later/$model" tokenize "${stages[@]}"
if grep -q "$work/later/$model/accumulate.h5 is taken from $work/merged2/$model/accumulate.h5" \
    "$work/log" && ! grep -q "calibrate and accumulate\|warning" "$work/log"; then
    ok "it computed no statistics"
else
    bad "it was to compute no statistics:" "$(cat "$work/log")"
fi
run later --set 'calibration.corpus=""' --set "calibration.merged=$work/merged3"
if [ "$(grep -c "complete, nothing to do" "$work/log")" -ge 5 ]; then
    ok "merged again: what follows stays complete"
else
    bad "merged again:" "$(cat "$work/log")"
fi
# Second moments are weighted means, and solves are not of the same bits anyway.
for name in whole later; do
    from=(--set "calibration.corpus=$corpus")
    if [ "$name" = later ]; then from=(--set "calibration.merged=$work/merged3"); fi
    run "$name" "${from[@]}" --set 'prune.methods=["scar-prot"]' \
        --set 'prune.compensation=["least-squares"]'
    awk -F, '$2 == "scar-prot@0.5+least-squares" { print $10 }' "$work/$name/summary.csv" \
        >"$work/$name.value"
done
if [ "$(stat -c %i "$work/later/$model/moments.h5")" = \
    "$(stat -c %i "$work/merged2/$model/moments.h5")" ] &&
    paste "$work/whole.value" "$work/later.value" |
    awk '{ d = $1 - $2; ok = $1 > 1 && (d < 0 ? -d : d) <= 1e-6 * $1 } END { exit !ok }'; then
    ok "merged second moments: perplexity $(cat "$work/later.value") after least squares"
else
    bad "merged second moments: perplexities $(cat "$work/whole.value" "$work/later.value")"
fi
run other --set "calibration.merged=$work/merged2" --set calibration.loss=sum --stages \
    tokenize,calibrate,accumulate
run sum --set "calibration.corpus=$corpus" --set calibration.loss=sum --stages \
    tokenize,calibrate,accumulate
same "of another loss" "sum/$model" "other/$model" calibrate accumulate
if [ "$(stat -c %i "$work/other/$model/calibrate.h5")" = \
    "$(stat -c %i "$work/merged2/$model/calibrate.h5")" ] &&
    [ "$(stat -c %i "$work/other/$model/accumulate.h5")" != \
        "$(stat -c %i "$work/merged2/$model/accumulate.h5")" ]; then
    ok "of another loss: calibrate.h5 is shared, accumulate.h5 is not"
else
    bad "of another loss: the wrong files are shared"
fi

# --- what is refused ----------------------------------------------------------------------------

# fails RANKS STATUS PATTERN ARGUMENT...: what lode says
fails() {
    local ranks=$1 status=$2 pattern=$3 got=0
    shift 3
    mpirun -q -n "$ranks" --oversubscribe --bind-to none "$lode" "$@" </dev/null >"$work/log" 2>&1 ||
        got=$?
    if [ "$got" -eq "$status" ] && [ "$(grep -c '^lode: error: ' "$work/log")" -eq 1 ] &&
        grep -q "^lode: error: .*$pattern" "$work/log"; then
        ok "refused: $(sed -n 's/^lode: error: //p' "$work/log")"
    else
        bad "exit status $got where \"$pattern\" was to be refused:"
        cat "$work/log"
    fi
    if [ -e "$work/refused/$model/accumulate.h5" ]; then bad "something was merged all the same"; fi
}

to=(--output "$work/refused/$model")
run single --set "calibration.corpus=$work/part1.txt" --set calibration.loss=sum \
    --stages tokenize,calibrate,accumulate
cp -r configs/quickstart/model "$work/model"
chmod -R u+w "$work/model"
sed -i 's/1e-05/2e-05/' "$work/model/config.json"
run foreign --set "calibration.corpus=$work/part1.txt" --set "models.[0].path=$work/model" \
    --stages tokenize,calibrate,accumulate
cp -r "$work/part1" "$work/mixed"
cp "$work/part2/$model/tokenize.h5" "$work/mixed/$model/"
fails 3 4 "calibration.loss is \"mean\" and \"sum\"" merge "${parts[1]}" "$work/single/$model" "${to[@]}"
fails 2 4 'are of different models' merge "${parts[0]}" "$work/foreign/$model" "${to[@]}"
fails 2 4 'mixed/books3m: calibrate.h5 is not of the sequences' merge "${parts[0]}" \
    "$work/mixed/$model" "${to[@]}"
fails 1 4 'nowhere/tokenize.h5' merge "${parts[0]}" "$work/nowhere" "${to[@]}"
fails 1 2 'are the same folder' merge "${parts[0]}" "${parts[0]}/" "${to[@]}"
fails 1 2 'are the same folder' merge "${parts[0]}" "${parts[1]}" --output "${parts[1]}"
fails 1 2 'holds the results of a run' merge "${parts[0]}" "${parts[1]}" --output "$work/whole/$model"
fails 1 2 'two folders' merge "${parts[0]}" "${to[@]}"
fails 1 2 'needs two folders' merge "${parts[0]}" "${parts[1]}"
fails 1 4 "missing, or no file of results; write it with lode merge" run configs/quickstart.cfg \
    --set "results=$work" --set "calibration.merged=$work/nowhere"
fails 1 3 'calibration.corpus: required key is missing' run configs/quickstart.cfg \
    --set "results=$work" --set 'calibration.corpus=""'

# --- random draws of sequences ------------------------------------------------------------------

# digest_of NAME [OPTION ...]: of the ids that are drawn
digest_of() {
    local ranks=$1
    shift
    mpirun -q -n "$ranks" --oversubscribe --bind-to none "$lode" run configs/quickstart.cfg \
        "${settings[@]}" --set "results=$work" --set name=draw --set "calibration.corpus=$corpus" \
        --set 'evaluate.perplexity=()' --stages tokenize "$@" >"$work/log" 2>&1
    "$lode" digest "$work/draw/$model/tokenize.h5"
}
random=(--set 'calibration.select="random"' --set calibration.sequences=5)
drawn=$(digest_of 1 "${random[@]}")
if [ "$drawn" = "$(digest_of 3 "${random[@]}")" ] && [ "$drawn" = "$(digest_of 2 "${random[@]}")" ] &&
    [ "$drawn" != "$(digest_of 1 "${random[@]}" --set seed=7)" ] &&
    [ "$drawn" != "$(digest_of 1 --set calibration.sequences=5)" ] &&
    [ "$(digest_of 1)" = "$(digest_of 1 --set 'calibration.select="random"')" ]; then
    ok "a random draw depends on the seed, not on the ranks; one of all sequences has each once"
else
    bad "random draws"
fi
exit "$failed"
