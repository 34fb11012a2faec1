#!/usr/bin/env bash
# The trajectory of books3m's checkpoints, from the study file with fewer texts: trajectory.csv against
# the stage files, by a program that shares nothing with the report.
#
#     tests/stages/trajectory.sh
#
# LODE names the program (default: that of build-release), CHECK_TRAJECTORY that of the test, LODE_DATA
# the data. Exit status: 0 passed, 1 failed, 77 skipped for want of data.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"
check=${CHECK_TRAJECTORY:-$root/build-release/tests/check_trajectory}
data=$(realpath -m "${LODE_DATA:-$root/../shared/data}")
if [ ! -d "$data/models/books3m-steps" ]; then
    echo "skipped: no $data/models/books3m-steps"
    exit 77
fi
export LODE_MODELS=$data/models LODE_CORPORA=$data/corpora
settings=(--set calibration.sequences=8 --set calibration.max_length=64 --set micro_batch=256
    --set classify.controls.draws=20 --set classify.controls.channels=16)
study=configs/studies/small-trajectory.cfg
steps=(books3m-step-000043 books3m-step-000151 books3m-step-000389 books3m-step-000873)

lode_run 2 "$study" results "${settings[@]}"
folder=$work/results/small-trajectory
"$check" "$folder" 42 books3m "${steps[@]}" books3m || failed=1

# Rows come in the order of steps.
order=$(tail -n +2 "$folder/trajectory.csv" | cut -d, -f3 | uniq | tr '\n' ' ')
if [ "$order" = "43 151 389 873 2065 " ]; then
    ok "steps in order: $order"
else
    bad "steps are in the order $order"
fi
if grep -q '<h2>Trajectory</h2>' "$folder/report.html" &&
    grep -q 'When the core is found' "$folder/report.html"; then
    ok "the report has the trajectory"
else
    bad "the report has no trajectory"
fi

# The last step decides what overlaps are with; a checkpoint alone is its own last.
lode_run 1 "$study" one "${settings[@]}" --model books3m-step-000389
"$check" "$work/one/small-trajectory" 42 books3m-step-000389 books3m-step-000389 || failed=1

# Draws are of the experiment's seed alone.
cp "$folder/trajectory.csv" "$work/before.csv"
rm "$folder/trajectory.csv"
"$lode" report "$study" "${settings[@]}" --set "results=$work/results" >"$work/log" 2>&1 ||
    bad "lode report: $(cat "$work/log")"
if cmp -s "$work/before.csv" "$folder/trajectory.csv"; then
    ok "lode report: the same trajectory.csv"
else
    bad "lode report: trajectory.csv differs"
fi

# Channels of models of different shapes cannot be compared, which is said before anything is computed.
shapes="({name=\"books3m\";path=\"$data/models/books3m\";series=\"s\";step=1;},
         {name=\"stories\";path=\"$data/models/stories260k\";series=\"s\";step=2;})"
if "$lode" run "$study" "${settings[@]}" --set "results=$work/shapes" --set "models=$shapes" \
    >"$work/log" 2>&1 || [ -e "$work/shapes/small-trajectory/books3m" ]; then
    bad "models of two shapes in a series: $(cat "$work/log")"
else
    said "models of two shapes in a series" '"stories" has 5 layers of 172 channels, "books3m" 6 of 576'
fi
exit "$failed"
