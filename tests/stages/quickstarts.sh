#!/usr/bin/env bash
# The quickstarts that train, with few steps and short texts: from text to the trajectory of what was
# trained, the training's curves and the tokenizer's beside it.
#
#     tests/stages/quickstarts.sh
#
# LODE names the program (default: that of build-release). Exit status: 0 passed, 1 failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"

head -n 40 configs/quickstart/text/calibration.txt >"$work/books.txt"
gzip -9 "$work/books.txt"
export LODE_TEXT=$work/books.txt.gz
few=(--set train.steps=4 --set 'train.checkpoints=[0,2]' --set train.batch=2 --set train.groups=1 --set train.warmup=1
    --set train.length=32 --set train.tokenizer.vocabulary=400
    --set train.validation.sequences=2 --set train.validation.every=2
    --set calibration.sequences=4 --set calibration.max_length=32 --set classify.controls.draws=10
    --set classify.controls.channels=16 --set evaluate.perplexity.[0].length=64)

# figures FOLDER FIGURE LAYER: how many checkpoints have the figure
figures() { grep -c ",$3,$2," "$1/trajectory.csv" || true; }

for name in quickstart-concentration:small quickstart-train:books3m; do
    model=${name#*:} name=${name%:*}
    lode_run 2 "configs/$name.cfg" results "${few[@]}"
    folder=$work/results/$name
    steps=$(tail -n +2 "$folder/trajectory.csv" | cut -d, -f3 | uniq | tr '\n' ' ')
    if [ "$steps" = "0 2 4 " ]; then ok "$name: steps $steps"; else bad "$name: steps $steps"; fi
    for figure in core_mass core_overlap gini entropy_mean; do
        if [ "$(figures "$folder" "$figure" median)" = 3 ]; then
            ok "$name: $figure"
        else
            bad "$name: $figure of $(figures "$folder" "$figure" median) checkpoints, not 3"
        fi
    done
    if [ "$(figures "$folder" validation_loss all)" = 3 ]; then
        ok "$name: validation losses of all checkpoints"
    else
        bad "$name: $(figures "$folder" validation_loss all) validation losses"
    fi
    for part in '<h2>Training</h2>' "Training of $model" '<h2>Trajectory</h2>' \
        'Concentration of the loss proxy over training' 'Write entropy over training'; do
        grep -qF "$part" "$folder/report.html" || bad "$name: the report lacks \"$part\""
    done
    for file in tokenizer.json train.h5 step-000000/config.json step-000004/tokenizer.json; do
        [ -s "$folder/$model/$file" ] || bad "$name: no $model/$file"
    done
    # What is trained from nothing has none of the other stages, and nobody misses them.
    if grep -qF 'Not there yet' "$folder/report.html"; then bad "$name: stages are missed"; fi
done
exit "$failed"
