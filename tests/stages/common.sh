# shellcheck shell=bash
# shellcheck disable=SC2034
# What tests of whole stages begin with; they source it. It leaves them in the project's root, with
#   root, lode   the root, and the program under test (LODE; default: that of build-release)
#   work         a folder of their own, deleted at the end; so is what they mount at $mounted
#   ok, bad      print a verdict; `failed` is 1 after a bad one
#   lode_run, same, said  run an experiment, compare results, look into what a run said
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lode=${LODE:-$root/build-release/lode}
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
export OMPI_MCA_mpi_yield_when_idle=1 # ranks may be more than cores
work=$(mktemp -d)
mounted=
finish() {
    if [ -n "$mounted" ]; then umount "$mounted" || true; fi
    rm -rf "$work"
}
trap finish EXIT
cd "$root"

# lode_run RANKS EXPERIMENT FOLDER [OPTION ...]: the experiment into the results $work/FOLDER ($work where
# that is empty); what it says goes to $work/log, and is printed only where it fails, which ends the test
lode_run() {
    local ranks=$1 experiment=$2 folder=$3 launcher=()
    shift 3
    if [ "$ranks" -gt 1 ]; then
        launcher=(mpirun -q -n "$ranks" --oversubscribe --bind-to none)
    fi
    if ! "${launcher[@]}" "$lode" run "$experiment" --set "results=$work${folder:+/$folder}" "$@" \
        </dev/null >"$work/log" 2>&1; then
        cat "$work/log"
        echo "FAIL  lode run $experiment on $ranks ranks: $*"
        exit 1
    fi
}

failed=0
ok() { echo "ok    $*"; }
bad() {
    echo "FAIL  $*"
    failed=1
}

# same WHAT WANT GOT STAGE ...: whether the stages' files of two models' folders, below $work, hold the
# same
same() {
    local what=$1 want=$work/$2 got=$work/$3 stage digest
    shift 3
    for stage; do
        digest=$("$lode" digest "$got/$stage.h5")
        if [ "$digest" = "$("$lode" digest "$want/$stage.h5")" ]; then
            ok "$what: $stage.h5 is $digest"
        else
            bad "$what: $stage.h5 differs:"
            diff <("$lode" digest "$want/$stage.h5" --list) \
                <("$lode" digest "$got/$stage.h5" --list) || true
        fi
    done
}

# said WHAT TEXT: whether the last run's log has the text
said() {
    if grep -qF -- "$2" "$work/log"; then
        ok "$1"
    else
        bad "$1: did not say \"$2\":"
        cat "$work/log"
    fi
}
