#!/usr/bin/env bash
# Runs one small experiment in every way there is, and proves that the way changes no result: all
# at once, stage by stage, on several ranks, with little memory, as a sweep, after being killed; and
# that a run computes what has changed and nothing else.
#
#     tests/stages/modes.sh
#
# LODE names the program (default: that of build-release); the stages' own programs lie beside it.
# Exit status: 0 passed, 1 failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"
programs=$(dirname "$lode")
stages=(tokenize calibrate accumulate classify prune evaluate)

# The inputs are copies, since some checks change them.
inputs=$work/inputs
cp -r configs/quickstart "$inputs"
chmod -R u+w "$inputs"
head -n 25 "$inputs/text/evaluation.txt" >"$inputs/text/short.txt"
weights=$inputs/model/model.safetensors
settings=(--set "models.[0].path=$inputs/model"
    --set "calibration.corpus=$inputs/text/calibration.txt"
    --set calibration.sequences=8 --set calibration.max_length=64 --set calibration.keep_logits=2
    --set micro_batch=256 --set 'prune.methods=["scar-prot"]' --set 'prune.sparsity=(0.5)'
    --set "evaluate.perplexity.[0].corpus=$inputs/text/short.txt"
    --set 'evaluate.perplexity.[0].length=64' --set 'evaluate.tasks=()')
model=quickstart/books3m # folder of the results

# run FOLDER [COMMAND ...] -- [OPTION ...]: the experiment into a results folder; what it says goes
# to $work/log. The command is `lode run` unless given.
run() {
    local folder=$work/$1 command=()
    shift
    while [ "$1" != -- ]; do
        command+=("$1")
        shift
    done
    shift
    if [ "${#command[@]}" -eq 0 ]; then
        command=("$lode" run)
    fi
    if ! "${command[@]}" configs/quickstart.cfg "${settings[@]}" --set "results=$folder" "$@" \
        </dev/null >"$work/log" 2>&1; then
        cat "$work/log"
        echo "FAIL  ${command[*]} ... $*"
        exit 1
    fi
}

# digests FOLDER: one line for each stage file of a folder of results
digests() {
    local stage
    for stage in "${stages[@]}"; do
        echo "$stage $("$lode" digest "$1/$stage.h5")"
    done
}

# alike WHAT WANT GOT: whether two folders of results hold the same
alike() {
    digests "$work/$2" >"$work/want"
    digests "$work/$3" >"$work/got"
    if cmp -s "$work/want" "$work/got"; then
        ok "$1: the same digests"
    else
        bad "$1: other digests"
        diff "$work/want" "$work/got" || true
    fi
}

# times FOLDER: when each stage file was written, and which file it is
times() {
    local stage
    for stage in "${stages[@]}"; do
        stat -c "$stage %Y.%y %i" "$1/$stage.h5"
    done
}

# computed WHAT FOLDER STAGE...: whether the run after `times FOLDER >$work/before` computed just
# these stages; it must have called the others complete, and left their files alone
computed() {
    local what=$1 folder=$2 stage said=() wrote=()
    shift 2
    times "$work/$folder" >"$work/after"
    for stage in "${stages[@]}"; do
        if ! grep -q " $stage: complete, nothing to do" "$work/log"; then
            said+=("$stage")
        fi
        if [ "$(grep "^$stage " "$work/before")" != "$(grep "^$stage " "$work/after")" ]; then
            wrote+=("$stage")
        fi
    done
    if [ "${said[*]-}" = "$*" ] && [ "${wrote[*]-}" = "$*" ]; then
        ok "$what: computed ${*:-nothing}"
    else
        bad "$what: called incomplete \"${said[*]-}\", wrote \"${wrote[*]-}\", wanted \"$*\""
    fi
}

# change FILE OFFSET: flips the lowest bit of one byte; a negative offset counts from the end
change() {
    local at=$2 byte
    if [ "$at" -lt 0 ]; then
        at=$(($(stat -c %s "$1") + at))
    fi
    byte=$(od -An -tu1 -j "$at" -N 1 "$1" | tr -d ' ')
    printf '%b' "\\0$(printf '%o' $((byte ^ 1)))" |
        dd of="$1" bs=1 seek="$at" conv=notrunc status=none
}

# --- one result, many ways ----------------------------------------------------------------------

ways() {
    run all --
    for stage in "${stages[@]}"; do
        said "$stage: says its digest" \
            "digest of books3m/$stage.h5: $("$lode" digest "$work/all/$model/$stage.h5")"
    done
    run stages "$programs/lode-tokenize" --
    for stage in "${stages[@]:1}"; do
        run stages "$programs/lode-$stage" --
        if [ -e "$work/stages/$model/evaluate.h5" ] && [ "$stage" != evaluate ]; then
            bad "lode-$stage ran more than its stage"
        fi
    done
    alike "stage by stage" "all/$model" "stages/$model"
    run stages "$lode" report --
    if cmp -s "$work/all/quickstart/summary.csv" "$work/stages/quickstart/summary.csv"; then
        ok "stage by stage: the same summary"
    else
        bad "stage by stage: another summary"
    fi
    run ranks mpirun -n 4 --oversubscribe --bind-to none "$lode" run --
    said "4 ranks, memory" "peak private memory 0.0"
    alike "4 ranks" "all/$model" "ranks/$model"
    run replicas mpirun -n 3 --oversubscribe --bind-to none "$lode" run -- --set replicas=3
    alike "3 replicas" "all/$model" "replicas/$model"
}

# The smallest whole number of megabytes that is enough, where hardly anything is kept for the
# backward; with less the run ends with an error.
memory() {
    local enough=128 short=0 middle status
    while [ $((enough - short)) -gt 1 ]; do
        middle=$(((enough + short) / 2))
        status=0
        rm -rf "$work/memory"
        "$lode" run configs/quickstart.cfg "${settings[@]}" --set "results=$work/memory" \
            --set "memory=${middle}M" </dev/null >"$work/log" 2>&1 || status=$?
        if [ "$status" -eq 0 ]; then
            enough=$middle
            rm -rf "$work/least"
            mv "$work/memory" "$work/least"
        else
            short=$middle
            if [ "$status" -ne 9 ] || ! grep -q "raise memory" "$work/log"; then
                bad "with ${middle}M the run ended with status $status:"
                cat "$work/log"
                return
            fi
        fi
    done
    alike "memory=${enough}M (${short}M is refused)" "all/$model" "least/$model"
}

# --- what has changed, and nothing else ---------------------------------------------------------

changes() {
    cp -rp "$work/all" "$work/changes"
    local folder=changes/$model
    times "$work/$folder" >"$work/before"
    run changes --
    computed "again" "$folder"
    run changes mpirun -n 2 --oversubscribe --bind-to none "$lode" run --
    computed "again on 2 ranks" "$folder"
    touch "$inputs/text/short.txt" "$inputs/text/calibration.txt" "$weights"
    run changes --
    computed "inputs touched" "$folder"
    alike "inputs touched" "all/$model" "$folder"

    change "$inputs/text/short.txt" 1000
    run changes --
    computed "one byte of the evaluation corpus" "$folder" tokenize evaluate
    change "$inputs/text/short.txt" 1000
    run changes --
    alike "the byte put back" "all/$model" "$folder"

    times "$work/$folder" >"$work/before"
    change "$weights" -2
    run changes --
    computed "one byte of a weight" "$folder" calibrate accumulate classify prune evaluate
    change "$weights" -2
    run changes --
    alike "the byte put back" "all/$model" "$folder"

    times "$work/$folder" >"$work/before"
    run changes -- --set classify.core_fraction=0.02
    computed "classify.core_fraction" "$folder" classify prune evaluate

    # A stage alone must not take an earlier stage's file that belongs to other settings.
    local status=0
    "$programs/lode-evaluate" configs/quickstart.cfg "${settings[@]}" \
        --set "results=$work/nothing" </dev/null >"$work/log" 2>&1 || status=$?
    if [ "$status" -eq 4 ] && grep -q "tokenize.h5: missing; run the stage tokenize" "$work/log"; then
        ok "lode-evaluate asks for tokenize"
    else
        bad "lode-evaluate on nothing: status $status"
        cat "$work/log"
    fi
    status=0
    run changes --
    times "$work/$folder" >"$work/before"
    "$programs/lode-classify" configs/quickstart.cfg "${settings[@]}" \
        --set "results=$work/changes" --set calibration.loss=sum </dev/null >"$work/log" 2>&1 ||
        status=$?
    times "$work/$folder" >"$work/after"
    if [ "$status" -eq 4 ] && grep -q "accumulate.h5.*run the stage accumulate" "$work/log" &&
        cmp -s "$work/before" "$work/after"; then
        ok "lode-classify refuses statistics of other settings"
    else
        bad "lode-classify on statistics of other settings: status $status"
        cat "$work/log"
    fi
}

# --- losses that were computed before -------------------------------------------------------------

reuse() {
    local methods=(--set 'prune.methods=["scar-prot","scar-lp","lp"]' --set 'prune.cores=["default","lp"]')
    cp -rp "$work/all" "$work/reuse"
    run reuse -- "${methods[@]}"
    # scar-lp, lp and lp with scar-lp's core keep the same channels
    said "methods added" "5 variants, 2 equal to others, 2 taken from earlier results"
    run scratch mpirun -n 3 --oversubscribe --bind-to none "$lode" run -- "${methods[@]}"
    said "the same from scratch" "5 variants, 2 equal to others, 0 taken from earlier results"
    alike "methods added" "scratch/$model" "reuse/$model"
    run reuse -- --force
    said "--force" "2 variants, 0 equal to others, 0 taken from earlier results"
    alike "--force" "all/$model" "reuse/$model"
    run reuse mpirun -n 2 --oversubscribe --bind-to none "$lode" run -- "${methods[@]}" \
        --set 'evaluate.perplexity.[0].name="renamed"'
    said "another name on 2 ranks" "5 variants, 2 equal to others, 2 taken from earlier results"
}

# --- sweeps -------------------------------------------------------------------------------------

sweep() {
    run sweep -- --set \
        'sweep=({key="classify.core_fraction";values=(0.01,0.02);})'
    local stage one two folder=$work/sweep/quickstart
    said "a sweep's second point" "2 variants, 0 equal to others, 1 taken from earlier results"
    if [ "$(cd "$folder" && printf '%s ' */*/)" = \
        "classify.core_fraction=0.01/books3m/ classify.core_fraction=0.02/books3m/ " ]; then
        ok "a sweep's folders"
    else
        bad "a sweep's folders are" "$folder"/*/*/
        return
    fi
    for stage in "${stages[@]}"; do
        one=$(stat -c %i "$folder/classify.core_fraction=0.01/books3m/$stage.h5")
        two=$(stat -c %i "$folder/classify.core_fraction=0.02/books3m/$stage.h5")
        case $stage in
        tokenize | calibrate | accumulate) [ "$one" = "$two" ] || bad "sweep: $stage.h5 is not shared" ;;
        *) [ "$one" != "$two" ] || bad "sweep: $stage.h5 is shared" ;;
        esac
    done
    alike "a sweep's first point" "all/$model" "sweep/quickstart/classify.core_fraction=0.01/books3m"
    run wide -- --set classify.core_fraction=0.02
    alike "its second" "wide/$model" "sweep/quickstart/classify.core_fraction=0.02/books3m"
}

# --- a killed run -------------------------------------------------------------------------------

# A longer text, so that there is a middle of evaluate.
killed() {
    local whole=(--set "evaluate.perplexity.[0].corpus=$inputs/text/evaluation.txt") process
    cp -rp "$work/all" "$work/whole"
    cp -rp "$work/all" "$work/killed"
    run whole -- "${whole[@]}"
    local file=$work/killed/$model/evaluate.h5
    rm "$file"
    "$lode" run configs/quickstart.cfg "${settings[@]}" "${whole[@]}" \
        --set "results=$work/killed" </dev/null >"$work/log" 2>&1 &
    process=$!
    until [ -e "$file.partial" ] || [ -e "$file" ] || ! kill -0 "$process" 2>/dev/null; do
        sleep 0.02
    done
    sleep 0.05
    kill -KILL "$process" 2>/dev/null || true
    wait "$process" 2>/dev/null || true
    if [ -e "$file" ] || ! [ -e "$file.partial" ]; then
        bad "evaluate was over before it was killed, or never began"
        return
    fi
    run killed -- "${whole[@]}"
    if [ "$(grep -c ": complete, nothing to do" "$work/log")" -eq 5 ]; then
        ok "after being killed: five stages were complete"
    else
        bad "after being killed:"
        cat "$work/log"
    fi
    alike "after being killed" "whole/$model" "killed/$model"
    if [ -e "$file.partial" ]; then
        bad "after being killed: $file.partial is still there"
    fi
}

# --- the report ---------------------------------------------------------------------------------

report() {
    local summary=$work/all/quickstart/summary.csv
    cp "$summary" "$work/summary"
    rm "$summary" "$work/all/quickstart/report.html"
    run all "$lode" report --
    if cmp -s "$summary" "$work/summary" && [ -s "$work/all/quickstart/report.html" ] &&
        [ "$(wc -l <"$summary")" -eq 3 ]; then
        ok "lode report: the same summary"
    else
        bad "lode report: another summary"
        diff "$work/summary" "$summary" || true
    fi
}

ways
memory
changes
reuse
sweep
killed
report
exit "$failed"
