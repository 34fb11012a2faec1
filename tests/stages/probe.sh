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
head -n 25 configs/quickstart/text/evaluation.txt >"$work/short.txt"
export LODE_PROBE_TEXT=$work/short.txt

# run RANKS FOLDER [lode options], matches WHAT FOLDER: the experiment; whether a folder's results are
# those of the first run
run() { lode_run "$1" tests/stages/probe.cfg "${@:2}"; }
matches() { same "$1" first/probe/books3m "$2/probe/books3m" tokenize probe; }

# refused STATUS PATTERN [lode options]: whether `lode check` ends with a status and a message
refused() {
    local want=$1 pattern=$2 status=0
    shift 2
    "$lode" check tests/stages/probe.cfg "$@" </dev/null >"$work/log" 2>&1 || status=$?
    if [ "$status" -eq "$want" ] && grep -q "$pattern" "$work/log"; then
        ok "refused: $pattern"
    else
        bad "not refused with \"$pattern\": status $status"
        cat "$work/log"
    fi
}

run 2 first
"$check_probe" tests/golden/probe.h5 "$work/first/probe/books3m" || failed=1
without_evaluation=tokenize,calibrate,accumulate,classify,probe
for ranks; do
    run "$ranks" other --stages "$without_evaluation"
    matches "$ranks ranks" other
    rm -rf "$work/other"
done
cp -rp "$work/first" "$work/other"
rm "$work/other/probe/books3m/probe.h5"
run 3 other --set replicas=3 --stages probe
matches "3 replicas" other

# complete WHAT WANT [lode options]: whether the checks of `other` are called complete, yes or no
complete() {
    local what=$1 want=$2 got=no
    shift 2
    run 1 other --stages tokenize,probe "$@"
    if grep -q " probe: complete, nothing to do" "$work/log"; then
        got=yes
    fi
    if [ "$got" = "$want" ]; then
        ok "$what: complete is $got"
    else
        bad "$what: complete is $got"
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
    ok "texts of the calibration"
else
    bad "texts of the calibration:"
    cat "$work/log"
fi

refused 3 'set probe.perplexity=nothing: probe.perplexity: evaluate.perplexity has no entry "nothing"' \
    --set probe.perplexity=nothing
refused 3 'evaluate.perplexity has none' --set 'evaluate.perplexity=()'
refused 3 'probe.max_length: 512 is above the 256 positions' --set probe.max_length=512
if "$lode" run tests/stages/probe.cfg --set "results=$work/other" --set probe.sparsity=0.99 \
    </dev/null >"$work/log" 2>&1 || ! grep -q "probe.sparsity: 0.99 removes 570" "$work/log"; then
    bad "probe.sparsity = 0.99:"
    cat "$work/log"
else
    ok "refused: a sparsity that leaves no room for the core"
fi
exit $failed
