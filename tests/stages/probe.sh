#!/usr/bin/env bash
# Runs every causal check on the embedded model, holds the results against their float64 reference,
# and proves that neither ranks nor replicas nor memory change a bit of them; then asks for checks
# that cannot be made.
#
#     tests/stages/probe.sh [P...]
#
# LODE and CHECK_PROBE name the programs (default: those of build-release). Exit status: 0 passed, 1
# failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"
check_probe=${CHECK_PROBE:-$root/build-release/tests/check_probe}
export OMPI_MCA_mpi_yield_when_idle=1
head -n 25 configs/quickstart/text/evaluation.txt >"$work/short.txt"
export LODE_PROBE_TEXT=$work/short.txt

# run RANKS FOLDER [lode options]: prints what lode said only where it fails
run() {
    local ranks=$1 folder=$2
    shift 2
    if ! mpirun --oversubscribe --bind-to none -n "$ranks" "$lode" run tests/stages/probe.cfg \
        --set "results=$work/$folder" "$@" </dev/null >"$work/log" 2>&1; then
        cat "$work/log"
        echo "FAIL  lode run tests/stages/probe.cfg on $ranks ranks"
        exit 1
    fi
}

# same WHAT FOLDER: whether a folder's results are those of the first run
same() {
    local stage want got
    for stage in tokenize probe; do
        want=$("$lode" digest "$work/first/probe/books3m/$stage.h5")
        got=$("$lode" digest "$work/$2/probe/books3m/$stage.h5")
        if [ "$got" = "$want" ]; then
            echo "ok    $1: $stage.h5 is $got"
        else
            echo "FAIL  $1: $stage.h5 differs:"
            diff <("$lode" digest "$work/first/probe/books3m/$stage.h5" --list) \
                <("$lode" digest "$work/$2/probe/books3m/$stage.h5" --list) || true
            failed=1
        fi
    done
}

# refused STATUS PATTERN [lode options]: whether `lode check` ends with a status and a message
refused() {
    local want=$1 pattern=$2 status=0
    shift 2
    "$lode" check tests/stages/probe.cfg "$@" </dev/null >"$work/log" 2>&1 || status=$?
    if [ "$status" -eq "$want" ] && grep -q "$pattern" "$work/log"; then
        echo "ok    refused: $pattern"
    else
        echo "FAIL  not refused with \"$pattern\": status $status"
        cat "$work/log"
        failed=1
    fi
}

run 2 first
"$check_probe" tests/golden/probe.h5 "$work/first/probe/books3m" || failed=1
without_evaluation=tokenize,calibrate,accumulate,classify,probe
for ranks; do
    run "$ranks" other --stages "$without_evaluation"
    same "$ranks ranks" other
    rm -rf "$work/other"
done
cp -rp "$work/first" "$work/other"
rm "$work/other/probe/books3m/probe.h5"
run 3 other --set replicas=3 --stages probe
same "3 replicas" other

# complete WHAT WANT [lode options]: whether the checks of `other` are called complete, yes or no
complete() {
    local what=$1 want=$2 got=no
    shift 2
    run 1 other --stages tokenize,probe "$@"
    if grep -q " probe: complete, nothing to do" "$work/log"; then
        got=yes
    fi
    if [ "$got" = "$want" ]; then
        echo "ok    $what: complete is $got"
    else
        echo "FAIL  $what: complete is $got"
        failed=1
    fi
}

less=(--set 'probe.checks=["random-cores"]')
run 1 other --stages tokenize,probe "${less[@]}"
complete "as it was" yes "${less[@]}"
complete "another perplexity's length" yes "${less[@]}" --set 'evaluate.perplexity.[0].length=48'
complete "the length of the one in use" no "${less[@]}" --set 'evaluate.perplexity.[1].length=48'
complete "its protocol" no "${less[@]}" --set 'evaluate.perplexity.[1].protocol="llama.cpp"'

# The texts of the calibration, where the checks have none of their own; nothing else is computed.
run 2 other --set 'probe.corpus=""' --set 'probe.checks=["ablation"]' --set probe.layer_step=7
if [ "$(grep -c ": complete, nothing to do" "$work/log")" -eq 5 ] &&
    grep -q "unchanged model is .*(calibration, texts, 48)" "$work/log"; then
    echo "ok    texts of the calibration"
else
    echo "FAIL  texts of the calibration:"
    cat "$work/log"
    failed=1
fi

refused 3 'set probe.perplexity=nothing: probe.perplexity: evaluate.perplexity has no entry "nothing"' \
    --set probe.perplexity=nothing
refused 3 'evaluate.perplexity has none' --set 'evaluate.perplexity=()'
refused 3 'probe.max_length: 512 is above the 256 positions' --set probe.max_length=512
if "$lode" run tests/stages/probe.cfg --set "results=$work/other" --set probe.sparsity=0.99 \
    </dev/null >"$work/log" 2>&1 || ! grep -q "probe.sparsity: 0.99 removes 570" "$work/log"; then
    echo "FAIL  probe.sparsity = 0.99:"
    cat "$work/log"
    failed=1
else
    echo "ok    refused: a sparsity that leaves no room for the core"
fi
exit $failed
