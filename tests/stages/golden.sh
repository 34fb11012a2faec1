#!/usr/bin/env bash
# Runs an experiment, holds it against its float64 reference, and proves that the number of ranks
# changes no bit of it.
#
#     tests/stages/golden.sh EXPERIMENT.cfg REFERENCE [--compensated] [--set key.path=value]... P...
#
# REFERENCE is a path without .h5 and .json, from the project's root or in the data folder. The
# experiment has one model and no sweep. The first P runs all of it for check_golden, and once more
# with the other loss, padding and few variants. The other P's run all stages up to prune, and evaluate with
# few variants, since perplexities of all of them at each P would take most of the time and prove
# the same; every stage file must then have the digest that the first P gave it.
#
# With --compensated the settings ask for compensations, and may for sparsegpt-channel. What these
# give comes from ScaLAPACK: every P then runs everything, stages up to classify must have the digest
# that the first P gave them, and the rest must agree with it within what check_golden allows.
#
# LODE and CHECK_GOLDEN name the programs (default: those of build-release). LODE_DATA is the data
# folder (default ../shared/data). Exit status: 0 passed, 1 failed, 77 no reference or no data.
set -euo pipefail

if [ $# -lt 3 ]; then
    sed -n '5p' "$0" >&2
    exit 2
fi
experiment=$1
reference=$2
shift 2
settings=()
compensated=()
if [ "${1-}" = --compensated ]; then
    compensated=(--compensated)
    shift
fi
while [ "${1-}" = --set ]; do
    settings+=(--set "$2")
    shift 2
done
root=$(cd "$(dirname "$0")/../.." && pwd)
lode=${LODE:-$root/build-release/lode}
check_golden=${CHECK_GOLDEN:-$root/build-release/tests/check_golden}
export LODE_DATA=${LODE_DATA:-$root/../shared/data}
few=(--set 'prune.methods=["scar-prot","random"]' --set 'prune.cores=["default"]'
     --set 'prune.sparsity=(0.5)')
# What structure.py finds is held beside the reference's classes, where it was made for this model.
structure=tests/golden/structure-$(basename "$reference").h5
before_evaluate=tokenize,calibrate,accumulate,classify,prune
exact=tokenize,calibrate,accumulate,moments,classify

cd "$root"
[ -r "$reference.h5" ] || reference=$LODE_DATA/$reference
if [ ! -r "$reference.h5" ] || [ ! -r "$reference.json" ]; then
    echo "skipped: there is no reference $reference.h5 with $reference.json (set LODE_DATA)"
    exit 77
fi
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# run RANKS FOLDER [lode options]: prints what lode said only where it fails
run() {
    local ranks=$1 folder=$2
    shift 2
    if ! mpirun --oversubscribe --bind-to none -n "$ranks" "$lode" run "$experiment" \
        "${settings[@]}" --set "results=$folder" "$@" < /dev/null > "$work/log" 2>&1; then
        cat "$work/log"
        echo "FAIL  lode run $experiment on $ranks ranks"
        exit 1
    fi
}

# differ WANT GOT STAGES RANKS: compares the stage files of two result folders
failed=0
differ() {
    local stage file want got
    for stage in ${3//,/ }; do
        file=$(cd "$1" && echo */*/"$stage.h5")
        want=$("$lode" digest "$1/$file")
        got=$("$lode" digest "$2/$file")
        if [ "$got" = "$want" ]; then
            echo "ok    $stage.h5 on $4 ranks: $got"
        else
            echo "FAIL  $stage.h5 on $4 ranks ($got) differs from $first ($want):"
            diff <("$lode" digest "$1/$file" --list) <("$lode" digest "$2/$file" --list) || true
            failed=1
        fi
    done
}

first=$1
shift
run "$first" "$work/first"
if [ "${#compensated[@]}" -gt 0 ]; then
    "$check_golden" "$reference.h5" "$reference.json" "$(echo "$work"/first/*/*/)" --compensated ||
        failed=1
    for ranks; do
        run "$ranks" "$work/other"
        differ "$work/first" "$work/other" "$exact" "$ranks"
        "$check_golden" "$reference.h5" "$reference.json" "$(echo "$work"/other/*/*/)" \
            --compensated --ranks "$(echo "$work"/first/*/*/)" || failed=1
        rm -rf "$work/other"
    done
    exit $failed
fi
against=()
[ -r "$structure" ] && against=(--structure "$structure")
"$check_golden" "$reference.h5" "$reference.json" "$(echo "$work"/first/*/*/)" \
    ${against[@]+"${against[@]}"} || failed=1
run "$first" "$work/sum" "${few[@]}" --set calibration.loss=sum --set calibration.padding=eos
"$check_golden" "$reference.h5" "$reference.json" "$(echo "$work"/sum/*/*/)" --loss sum || failed=1
if [ $# -gt 0 ]; then
    cp -r "$work/first" "$work/few"
    run "$first" "$work/few" "${few[@]}"
fi
for ranks; do
    run "$ranks" "$work/other" --stages "$before_evaluate"
    differ "$work/first" "$work/other" "$before_evaluate" "$ranks"
    run "$ranks" "$work/other" "${few[@]}"
    differ "$work/few" "$work/other" prune,evaluate "$ranks"
    rm -rf "$work/other"
done
exit $failed
