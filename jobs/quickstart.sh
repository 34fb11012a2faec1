#!/usr/bin/env bash
# From a fresh clone to a report: finds or installs what is missing, builds Lodestone without its
# tests, and runs the embedded experiment, configs/quickstart.cfg. Takes a few minutes on two cores.
#
#   jobs/quickstart.sh [RANKS]        2 ranks unless told otherwise
#
# The last line it prints is the path of the report. A second run builds and computes only what has
# changed since the first.
set -euo pipefail

ranks=${1:-2}
if [ $# -gt 1 ] || ! [[ $ranks =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: jobs/quickstart.sh [RANKS]" >&2
    exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

jobs/setup.sh

build="build-quickstart"
mkdir -p "$build"
echo "quickstart: building in $build"
if ! { cmake --preset release -B "$build" -DLODE_TESTS=OFF &&
    cmake --build "$build" --target lode --parallel "$(nproc)"; } >"$build/quickstart.log" 2>&1; then
    tail -n 30 "$build/quickstart.log" >&2
    echo "quickstart: the build failed; all of its output is in $PWD/$build/quickstart.log" >&2
    exit 1
fi

echo "quickstart: running configs/quickstart.cfg on $ranks ranks"
LODE=$PWD/$build/lode jobs/local.sh "$ranks" configs/quickstart.cfg
report=$PWD/results/quickstart/report.html
if ! [ -s "$report" ]; then
    echo "quickstart: the run left no report at $report" >&2
    exit 1
fi
echo "$report"
