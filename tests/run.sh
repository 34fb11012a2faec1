#!/usr/bin/env bash
# Runs every test in every configuration.
#
#   tests/run.sh             release, clang, sanitize and valgrind
#   tests/run.sh --quick     release only
#
# release   gcc, optimised: all tests
# clang     clang, warnings as errors: unit tests
# sanitize  gcc with AddressSanitizer, LeakSanitizer and UBSan: unit tests, MPI tests, fuzz targets,
#           and the shortest of the stage tests
# valgrind  no AVX-512, unoptimised: one unit test of each module that computes without MPI
#
# Missing packages are installed first where that is possible (jobs/setup.sh). A configuration that
# does not build counts as one failure. The last line is "N passed, N failed, N skipped", and the
# exit status is 0 when nothing failed. Output of all tests is in build-<configuration>/.
set -euo pipefail

# What the sanitizers run. Of the stage tests, only the embedded experiment: under sanitizers the
# others take too long.
sanitize_tests='^(unit\.|mpi\.|fuzz\.|stages\.golden\.quickstart)'

# What valgrind runs: unit.<name>. Of these store, edits and trainer start MPI, which keeps memory to
# the end: their accesses are checked, their leaks are left to the sanitizers. Those that need one or
# two minutes come first, so that none runs alone at the end; kernels and their gradients would need
# more, and are left to the sanitizers.
valgrind_tests=(plan tokenizer config score store edits trainer checkpoint families architecture rotary
    safetensors spill corpus gzip bpe_train text_golden task answer channel halo control structure mask
    probe random supernode partition schedule batch protocol compare check_rules writer input spike bits
    retention)

# What is built, where that is not everything (all of which release and clang compile).
declare -A targets=(
    [sanitize]="unit_tests mpi_tests fuzz_tests lode check_golden"
    [valgrind]="${valgrind_tests[*]/#/test_}"
)

usage() {
    echo "usage: tests/run.sh [--quick]" >&2
    exit 2
}

quick=no
case "$*" in
'') ;;
--quick) quick=yes ;;
*) usage ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
cores=$(nproc)
jobs=$((cores + (cores + 1) / 2)) # tests wait for ranks to start, for each other, and for disks
passed=0
failed=0
skipped=0

# Tests start several ranks, whatever the number of cores.
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
if [ "$(id -u)" -eq 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# What tests write goes to memory where there is plenty: none is about a disk, and waiting for one to
# sync takes whole stages a fifth of their time.
scratch=
declare -A builders=() # the process that builds a configuration
# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    if [ "${#builders[@]}" -gt 0 ]; then kill "${builders[@]}" 2>/dev/null || true; fi
    if [ -n "$scratch" ]; then rm -rf "$scratch"; fi
}
trap clean_up EXIT
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ] &&
    [ "$(df --output=avail -k /dev/shm | tail -n 1)" -gt 4000000 ]; then
    scratch=$(mktemp -d /dev/shm/lode-tests-XXXXXX)
    export TMPDIR=$scratch
fi

say() { printf '\n== %s\n' "$*"; }

finish() {
    printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" -eq 0 ] || exit 1
    exit 0
}

# fail WHAT: counts a failure that is not a test's.
fail() {
    echo "FAILED: $*"
    failed=$((failed + 1))
}

# start_build CONFIGURATION JOBS PRIORITY: in the background, with that many compilers, for `built`. A
# warning is an error.
start_build() {
    mkdir -p "build-$1"
    (
        cmake --preset "$1"
        # shellcheck disable=SC2086
        exec nice -n "$3" ninja -C "build-$1" -j "$2" ${targets[$1]:-}
    ) </dev/null >"build-$1/build.log" 2>&1 &
    builders[$1]=$!
}

# built CONFIGURATION: waits for its build, and returns whether it succeeded.
built() {
    local log=build-$1/build.log status=0
    say "$1: building"
    wait "${builders[$1]}" || status=$?
    unset "builders[$1]"
    if [ "$status" -ne 0 ]; then
        grep -E -A 5 'error|Error|FAILED' "$log" | head -n 40 || tail -n 40 "$log"
        fail "$1 does not build; all of the output is in $log"
    fi
    return "$status"
}

# Prints "STATUS NAME<tab>REASON" for each test of ctest's JUnit file, STATUS being one of passed,
# failed and skipped. Only tags at the depth where ctest puts them are read, so that nothing which a
# test prints is taken for a result. A test that ctest could not start has failed.
verdicts() {
    awk '
        function flush() { if (name != "") print status " " name "\t" reason; name = "" }
        /^\t<testcase / {
            flush()
            match($0, /name="[^"]*"/); name = substr($0, RSTART + 6, RLENGTH - 7)
            match($0, /status="[^"]*"/); state = substr($0, RSTART + 8, RLENGTH - 9)
            status = state == "run" ? "passed" : state == "disabled" ? "skipped" : "failed"
            reason = state == "disabled" ? "disabled" : ""
        }
        /^\t\t<skipped message="/ {
            if (state == "notrun" && index($0, "\"SKIP_")) status = "skipped"
            next
        }
        status == "skipped" && /skip(ped)?/ && reason == "" {
            reason = $0; sub(/^[ \t]*(<system-out>)?/, "", reason); sub(/<\/system-out>.*/, "", reason)
        }
        END { flush() }' "$1"
}

# count VERDICTS: adds a list of verdicts to the totals and prints those that did not pass.
count() {
    local status rest name reason
    while read -r status rest; do
        IFS=$'\t' read -r name reason <<<"$rest"
        case $status in
        passed) passed=$((passed + 1)) ;;
        skipped)
            skipped=$((skipped + 1))
            echo "SKIPPED: $configuration: $name (${reason:-no reason given})"
            ;;
        *)
            failed=$((failed + 1))
            echo "FAILED: $configuration: $name"
            ;;
        esac
    done <"$1"
}

# run_tests CONFIGURATION REGEX: runs the tests whose names match and counts them.
run_tests() {
    configuration=$1
    local folder=$PWD/build-$1 status=0 before=$failed
    rm -f "$folder/tests.xml"
    say "$1: testing"
    ctest --test-dir "$folder" -R "$2" --no-tests=error --output-on-failure --parallel "$jobs" \
        --output-junit "$folder/tests.xml" </dev/null || status=$?
    if [ -s "$folder/tests.xml" ]; then
        verdicts "$folder/tests.xml" >"$folder/verdicts.txt"
        count "$folder/verdicts.txt"
    fi
    if [ "$status" -ne 0 ] && [ "$failed" -eq "$before" ]; then
        fail "$1: ctest ended with status $status"
    fi
}

# Runs one program of the valgrind configuration under valgrind and prints its verdict. Called from
# xargs, which shellcheck does not see.
# shellcheck disable=SC2317
valgrind_one() {
    local program=$PWD/build-valgrind/tests/test_$1 log=$PWD/build-valgrind/valgrind-$1.log status=0
    local options=(--leak-check=full "--show-leak-kinds=definite,indirect"
        "--errors-for-leak-kinds=definite,indirect")
    if [ "$1" = store ] || [ "$1" = edits ] || [ "$1" = trainer ]; then
        options=(--leak-check=no)
        if [ -r /usr/share/openmpi/openmpi-valgrind.supp ]; then
            options+=(--suppressions=/usr/share/openmpi/openmpi-valgrind.supp)
        fi
    fi
    if [ -x "$program" ]; then
        timeout 600 valgrind --quiet --error-exitcode=99 --num-callers=30 "${options[@]}" \
            "$program" >"$log" 2>&1 </dev/null || status=$?
    else
        echo "there is no $program" >"$log"
        status=1
    fi
    case $status in
    0) printf 'passed unit.%s\n' "$1" ;;
    77) printf 'skipped unit.%s\t%s\n' "$1" "$(grep -m 1 'skipped' "$log")" ;;
    *) printf 'failed unit.%s\n' "$1" ;;
    esac
}

run_valgrind() {
    configuration=valgrind
    say "valgrind: testing"
    export -f valgrind_one
    printf '%s\n' "${valgrind_tests[@]}" |
        xargs -P "$cores" -I '{}' bash -c 'valgrind_one {}' >build-valgrind/verdicts.txt
    count build-valgrind/verdicts.txt
    local name
    sed -n 's/^failed unit\.//p' build-valgrind/verdicts.txt | while read -r name; do
        echo "--- end of build-valgrind/valgrind-$name.log"
        tail -n 40 "build-valgrind/valgrind-$name.log"
    done
}

if [ "$quick" = yes ]; then needs=--tests; else needs=--checkers; fi
if ! jobs/setup.sh "$needs"; then
    fail "something that the tests need is missing"
    finish
fi
start_build release "$cores" 0
release=yes
built release || release=no
if [ "$quick" = no ]; then
    # Tests leave a core idle now and then: the other configurations are built meanwhile, with what is
    # left.
    for configuration in clang sanitize valgrind; do
        start_build "$configuration" $((cores > 2 ? cores / 2 : 1)) 19
    done
fi
if [ "$release" = yes ]; then
    run_tests release .
fi
if [ "$quick" = no ]; then
    if built clang; then
        run_tests clang '^unit\.'
    fi
    if built sanitize; then
        UBSAN_OPTIONS=print_stacktrace=1 \
            LSAN_OPTIONS="suppressions=$PWD/tests/lsan.supp:print_suppressions=0" \
            run_tests sanitize "$sanitize_tests"
    fi
    if built valgrind; then
        run_valgrind
    fi
fi
finish
