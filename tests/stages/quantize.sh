#!/usr/bin/env bash
# Quantizes the embedded model in many ways, holds the parameters against NumPy's, and proves that
# neither ranks nor replicas nor an interruption change a bit of them; then asks for what cannot be
# done.
#
#     tests/stages/quantize.sh [P...]
#
# LODE and CHECK_QUANTIZE name the programs (default: those of build-release). Exit status: 0 passed,
# 1 failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"
check_quantize=${CHECK_QUANTIZE:-$root/build-release/tests/check_quantize}
before=tokenize,calibrate,accumulate,moments,classify,superweight,prune,compensate
experiment=tests/stages/quantize.cfg

# again FOLDER: the first run's results up to the stage, in a folder of their own
again() {
    cp -rp "$work/first" "$work/$1"
    rm -f "$work/$1"/quantize/books3m/quantize*
}

run() { lode_run "$1" "$experiment" "${@:2}"; }

run 2 all --stages tokenize,calibrate,accumulate,classify,superweight,quantize \
    --set 'prune.methods=[]'
"$check_quantize" tests/golden/quantize_stage.h5 "$work/all/quantize/books3m/quantize.h5" ||
    failed=1

# Fewer of the dense model, and those of a pruned one.
few=(--set 'quantize.granularity=["group-50"]' --set 'quantize.protection=["both"]'
    --set quantize.pruned=true)
run 2 first --stages "$before,quantize" "${few[@]}"
for ranks; do
    again other
    run "$ranks" other --stages quantize "${few[@]}"
    same "$ranks ranks" first/quantize/books3m other/quantize/books3m quantize
    rm -rf "$work/other"
done
again other
run 3 other --set replicas=3 --stages quantize "${few[@]}"
same "3 replicas" first/quantize/books3m other/quantize/books3m quantize
rm -rf "$work/other"

# interrupted LIMIT: a run that is told to stop early, and goes on with another number of ranks
interrupted() {
    local status=0
    again other
    mpirun -q -n 2 --oversubscribe --bind-to none "$lode" run "$experiment" \
        --set "results=$work/other" "${few[@]}" --stages quantize --time-limit "$1" </dev/null \
        >"$work/log" 2>&1 || status=$?
    if [ "$status" -eq 0 ]; then
        ok "a limit of $1 s is none here"
    elif [ "$status" -ne 75 ]; then
        bad "a run with a limit of $1 s: status $status"
        cat "$work/log"
    fi
    run 3 other --stages quantize "${few[@]}"
    same "interrupted after $1 s" first/quantize/books3m other/quantize/books3m quantize
    if [ -n "$(find "$work/other" -name '*scratch*' -o -name '*.partial*')" ]; then
        bad "left: $(find "$work/other" -name '*scratch*' -o -name '*.partial*')"
    fi
    rm -rf "$work/other"
}
interrupted 1

# killed CALL: a rank that dies while it writes, and a run that goes on
killed() {
    again other
    LODE_FAULT=kill:rank=1:call=$1 mpirun -q -n 2 --oversubscribe --bind-to none "$lode" run \
        "$experiment" --set "results=$work/other" "${few[@]}" --stages quantize </dev/null \
        >"$work/log" 2>&1 &&
        bad "the run was not killed at call $1"
    run 1 other --stages quantize "${few[@]}"
    said "goes on after call $1" "going on from an interrupted run"
    same "killed at call $1" first/quantize/books3m other/quantize/books3m quantize
    rm -rf "$work/other"
}
killed 3000

# Another model, with another dtype, where the data folder has it.
export LODE_DATA=${LODE_DATA:-$root/../shared/data}
if [ -d "$LODE_DATA/models/stories260k" ]; then
    experiment=tests/stages/stories260k.cfg
    few=(--set 'quantize.methods=["rtn", "lp"]' --set 'quantize.clip=["none", "searched"]'
        --set 'quantize.bits=(3)' --set 'quantize.z=(3.0)' --set calibration.sequences=8
        --set 'prune.methods=[]' --set 'evaluate.perplexity=()')
    for ranks in 2 3; do
        run "$ranks" "stories-$ranks" --stages tokenize,calibrate,accumulate,classify,quantize \
            "${few[@]}"
    done
    same "stories260k" stories-2/stories260k/stories260k stories-3/stories260k/stories260k quantize
fi

exit $failed
