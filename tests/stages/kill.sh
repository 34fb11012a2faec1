#!/usr/bin/env bash
# Kills runs at random moments in all stages, in every way there is, and starts them again until they
# are done: on other rank counts, with replicas, killed again and again. What they leave in the end
# is what an undisturbed run leaves, bit for bit, and no scrap beside it.
#
#   tests/stages/kill.sh [KILLS] [SEED]      40 kills and a new seed unless told otherwise
#
# Of a failure the seed is worth keeping, though moments also depend on how busy the machine is.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"

kills=${1:-40}
seed=${2:-$(date +%s)}
RANDOM=$seed
echo "      $kills kills, seed $seed"

stages=(tokenize calibrate accumulate moments classify superweight spectra prune compensate quantize
    evaluate probe export audit)
export LODE_KILL_TEXT=$work/text.txt LODE_KILL_EXPORT=$work/out
head -n 12 configs/quickstart/text/evaluation.txt >"$LODE_KILL_TEXT"
results=$work/results
folder=$results/kill/books3m

# What killed launchers leave behind is theirs alone.
mkdir "$work/tmp"
export TMPDIR=$work/tmp OMPI_MCA_btl_vader_backing_directory=$work/tmp
# Of ranks that are one short the others need not be asked.
export OMPI_MCA_odls_base_sigkill_timeout=0

log=$work/log
runs=0
settings=() # of every run

now() { date +%s%3N; }

# between LEAST MOST: a random number
between() { echo $(($1 + (RANDOM * 32768 + RANDOM) % ($2 - $1 + 1))); }

pause() { sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"; }

# --- runs -----------------------------------------------------------------------------------

# start RANKS OPTION ...: a run in the background, whose process is $run and whose words are in $log;
# a new file, since ranks that have lost their launcher may still be writing to the last one
start() {
    local ranks=$1 launcher=()
    shift
    rm -f "$log"
    runs=$((runs + 1))
    log=$work/log-$runs
    if [ "$ranks" -gt 1 ]; then launcher=(mpirun -q -n "$ranks" --oversubscribe --bind-to none); fi
    (
        if [ -n "${file_limit:-}" ]; then ulimit -f "$file_limit"; fi
        exec "${launcher[@]}" "$lode" run tests/stages/kill.cfg --set "results=$results" \
            "${settings[@]}" "$@"
    ) </dev/null >"$log" 2>&1 &
    run=$!
}

# Sets `ranks` to the processes of the run's ranks.
find_ranks() {
    mapfile -t ranks < <(pgrep -P "$run" || true)
    if [ "${#ranks[@]}" -eq 0 ]; then ranks=("$run"); fi
}

# Sets `status` to the run's; one that does not end is a failure.
await() {
    local end=$(($(now) + 300000))
    status=0
    while kill -0 "$run" 2>/dev/null; do
        if [ "$(now)" -gt "$end" ]; then
            bad "a run hangs: $what"
            cat "$log"
            find_ranks
            kill -KILL "$run" "${ranks[@]}" 2>/dev/null || true
            exit 1
        fi
        sleep 0.01
    done
    wait "$run" 2>/dev/null || status=$?
}

digests() {
    local stage
    for stage; do
        echo "$stage $("$lode" digest "$folder/$stage.h5")"
    done
    (cd "$LODE_KILL_EXPORT" && sha256sum ./*)
    sed 's/^/summary /' "$results/kill/summary.csv"
}

# undisturbed WANT STAGE ...: the results of a run on two ranks that nothing happens to; sets
# `duration` to what each stage takes, in ms, and `total`
undisturbed() {
    local want=$1 begun ended stage
    shift
    begun=$(now)
    start 2
    what=undisturbed
    await
    if [ "$status" -ne 0 ]; then
        cat "$log"
        echo "FAIL  the undisturbed run"
        exit 1
    fi
    digests "$@" >"$want"
    duration=()
    total=0
    for stage in "${stages[@]}"; do
        ended=$(stat -c %.3Y "$folder/$stage.h5" | tr -d .)
        duration+=($((ended > begun ? ended - begun : 1)))
        begun=$ended
        total=$((total + duration[-1]))
    done
    rm -rf "$results" "$LODE_KILL_EXPORT"
}

# What ScaLAPACK computes is that of a grid, and differs on another: spectra, least squares.
one_grid=()
any_grid=(--set 'prune.compensation=["none", "bias"]')
settings=("${any_grid[@]}")
undisturbed "$work/want-any-grid" "${stages[@]:0:6}" "${stages[@]:7}"
settings=("${one_grid[@]}")
undisturbed "$work/want-one-grid" "${stages[@]}"

# --- killing --------------------------------------------------------------------------------

ways=(rank all launcher term usr1 interrupt limit disk fault-kill fault-write)

# Waits until a stage that is not complete has begun, and a random part of its time has passed; or
# until the run is over.
reach_moment() {
    local i missing=() at
    for i in "${!stages[@]}"; do
        if ! [ -e "$folder/${stages[$i]}.h5" ]; then missing+=("$i"); fi
    done
    if [ "${#missing[@]}" -eq 0 ]; then
        pause "$(between 0 500)"
        return
    fi
    at=${missing[$(between 0 $((${#missing[@]} > 5 ? 5 : ${#missing[@]} - 1)))]}
    while kill -0 "$run" 2>/dev/null &&
        ! [ -e "$folder/${stages[$at]}.h5.partial" ] && ! [ -e "$folder/${stages[$at]}.h5" ]; do
        sleep 0.005
    done
    pause "$(between 0 "${duration[$at]}")"
}

# The first stage that is not complete, where the work stands.
stage_in_hand() {
    local stage
    for stage in "${stages[@]}"; do
        if ! [ -e "$folder/$stage.h5" ]; then
            echo "$stage"
            return
        fi
    done
    echo report
}

# strike WAY COUNT REPLICAS: a run on COUNT ranks that is killed; sets `status`
strike() {
    local way=$1 count=$2 options=(--set "replicas=$3") file_limit='' victim soon
    what="$way on $count ranks, replicas=$3"
    case $way in
    limit)
        soon=$(between 300 "$total")
        options+=(--time-limit "$((soon / 1000)).$(printf %03d $((soon % 1000)))")
        ;;
    disk) file_limit=$(between 8600 40000) ;; # KiB; MPI itself needs some
    fault-kill)
        victim="rank=$(between 0 $((count - 1))):call=$(between 1 150)"
        export LODE_FAULT=kill:$victim
        ;;
    fault-write)
        victim="rank=$(between 0 $((count - 1))):call=$(between 1 150)"
        export LODE_FAULT=write:$victim
        ;;
    esac
    start "$count" "${options[@]}"
    unset LODE_FAULT
    case $way in
    rank | all | launcher | term | usr1 | interrupt)
        reach_moment
        find_ranks
        case $way in
        rank) kill -KILL "${ranks[$(between 0 $((${#ranks[@]} - 1)))]}" ;;
        all) kill -KILL "$run" "${ranks[@]}" ;;
        launcher) kill -KILL "$run" ;; # the ranks find out by themselves
        term) kill -TERM "${ranks[@]}" ;;
        usr1) kill -USR1 "$run" ;;
        interrupt) kill -INT "${ranks[@]}" ;;
        esac 2>/dev/null || true
        ;;
    esac
    await
}

# Whether the way that a run ended is one it may end in.
judge() {
    local way=$1 errors
    errors=$(grep -c '^lode: error:' "$log" || true)
    case $way:$status in
    *:0) return ;;
    term:75 | usr1:75 | interrupt:75 | limit:75)
        if [ "$errors" -eq 0 ] && [ "$(grep -c '^lode: stopped by .*run the same command again' "$log")" -eq 1 ]; then
            return
        fi
        ;;
    rank:* | all:* | launcher:* | fault-kill:*)
        # Some MPI libraries tell the survivors first.
        if [ "$status" -ge 128 ] || [ "$status" -eq 11 ]; then return; fi
        ;;
    disk:8 | fault-write:8)
        if [ "$errors" -eq 1 ]; then return; fi
        ;;
    esac
    # Struck before it has ranks, or asks for the signal, a run dies of it.
    case $way in
    term | usr1 | interrupt) if ! [ -s "$log" ]; then return; fi ;;
    esac
    bad "$what: exit status $status"
    cat "$log"
}

# compare WANT STAGE ...: what a finished run has left
compare() {
    local want=$1 scraps
    shift
    digests "$@" >"$work/got"
    if ! cmp -s "$want" "$work/got"; then
        bad "after $struck kills, the last by $what: other results"
        diff "$want" "$work/got" || true
    fi
    scraps=$(find "$results" "$LODE_KILL_EXPORT"* -name '*.partial*' -o -name '*.journal*' -o -name '*scratch*' -o -name '*spill*')
    if [ -n "$scraps" ]; then
        bad "after $struck kills, the last by $what: left $scraps"
    fi
}

declare -A seen
struck=0
finished=0
while [ "$struck" -lt "$kills" ] && [ "$failed" -eq 0 ]; do
    # Another rank count at every start; every second time the same throughout, for ScaLAPACK.
    fixed=$((finished % 2))
    replicas=1
    settings=("${one_grid[@]}")
    if [ "$fixed" -eq 0 ]; then
        settings=("${any_grid[@]}")
        replicas=$(between 1 2)
    fi
    while [ "$failed" -eq 0 ]; do
        count=2
        if [ "$fixed" -eq 0 ]; then count=$(between "$replicas" 3); fi
        way=${ways[$(between 0 $((${#ways[@]} - 1)))]}
        if [ "$struck" -ge "$kills" ]; then way=none; fi
        strike "$way" "$count" "$replicas"
        if [ "$status" -eq 12 ]; then # ranks without launcher are still about
            sleep 0.2
            continue
        fi
        judge "$way"
        [ "$status" -ne 0 ] || break
        struck=$((struck + 1))
        hit=$(stage_in_hand)
        seen[$hit]=$((${seen[$hit]:-0} + 1))
    done
    [ "$failed" -eq 0 ] || break
    if [ "$fixed" -eq 1 ]; then
        compare "$work/want-one-grid" "${stages[@]}"
    else
        compare "$work/want-any-grid" "${stages[@]:0:6}" "${stages[@]:7}"
    fi
    finished=$((finished + 1))
    rm -rf "$results" "$LODE_KILL_EXPORT"
done

for stage in "${stages[@]}" report; do
    printf '      %3d kills in %s\n' "${seen[$stage]:-0}" "$stage"
done
if [ "$failed" -eq 0 ]; then
    ok "$struck kills, $finished runs that ended all the same"
fi
exit "$failed"
