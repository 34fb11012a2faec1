#!/usr/bin/env bash
# Runs an experiment on this machine.
#
#   jobs/local.sh RANKS EXPERIMENT.cfg [OPTION ...]
#
# The options are those of `lode run`: --set key=value, --stages a,b, --model NAME, --force,
# --time-limit 3h30m. The program is $LODE, or the one in build-release or build-quickstart, or the
# one on the PATH. Relative paths in the experiment start at the directory you run from.
#
# Ctrl-C, and SIGTERM or SIGUSR1 to this script, end the unit of work in hand (a micro-batch, a
# layer); Ctrl-C twice ends everything at once. Exit status 75 says that the run was stopped so, or
# by its time limit: the same command goes on where it was, as it does after anything else that has
# stopped it.
#
# Ranks are not bound to cores: a rank has as many threads as the experiment says, and mpirun would
# by default pin all of them to one core.
set -euo pipefail

if [ $# -lt 2 ] || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: jobs/local.sh RANKS EXPERIMENT.cfg [OPTION ...]" >&2
    exit 2
fi
ranks=$1
shift

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
lode=${LODE:-}
for candidate in "$root/build-release/lode" "$root/build-quickstart/lode" "$(command -v lode || true)"; do
    if [ -z "$lode" ] && [ -x "$candidate" ]; then
        lode=$candidate
    fi
done
if [ -z "$lode" ]; then
    echo "local.sh: lode is not built; run jobs/quickstart.sh, or" \
        "cmake --preset release && cmake --build --preset release, or set LODE to the program" >&2
    exit 1
fi

if [ "$ranks" -eq 1 ]; then
    exec "$lode" run "$@"
fi

options=(-n "$ranks")
if mpirun --version 2>/dev/null | grep -q 'Open MPI\|OpenRTE'; then
    options+=(--bind-to none)
    # Open MPI counts whole cores, not hardware threads.
    cores=$( (lscpu -p=CORE,SOCKET 2>/dev/null || true) | sed '/^#/d' | sort -u | wc -l)
    if [ "$ranks" -gt "$cores" ] || [ "$ranks" -gt "$(nproc)" ]; then
        options+=(--oversubscribe)
    fi
    # Containers often have no user but root, whom Open MPI refuses unless told twice.
    if [ "$(id -u)" -eq 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
else
    options+=(-bind-to none)
fi

# mpirun hands SIGUSR1 on to the ranks; at SIGINT and SIGTERM it kills them a second later. So it
# runs where the terminal's Ctrl-C does not reach it, in a process group of its own.
asked='' again=''
# Called by the traps.
# shellcheck disable=SC2317
hand_on() {
    again=yes
    if [ "$1" = INT ] && [ "$asked" = INT ]; then
        kill -TERM "$launcher" 2>/dev/null || true
    else
        echo "local.sh: ending the unit of work in hand; Ctrl-C again ends at once" >&2
        kill -USR1 "$launcher" 2>/dev/null || true
    fi
    asked=$1
}
set -m
mpirun "${options[@]}" "$lode" run "$@" </dev/null &
launcher=$!
set +m
for name in INT TERM USR1; do
    # shellcheck disable=SC2064
    trap "hand_on $name" "$name"
done

# A signal ends the waiting, not what is waited for.
status=0
while
    again='' status=0
    wait "$launcher" || status=$?
    [ -n "$again" ]
do :; done
exit "$status"
