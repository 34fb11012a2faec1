#!/usr/bin/env bash
# How near a pipeline of two ranks of one thread comes to half the time of one.
#
#   tests/bench/pipeline.sh [LAYERS [MICRO_BATCHES]]
#
# accumulate, forward and backward, over a model of an even number of layers (8) in micro-batches of
# 256 tokens (8). Nothing beats (M + P - 1)/M times the balanced share, which is half of what one
# rank takes: here of two such ranks that run at the same time, each with the whole model, since two
# busy cores are slower than one. The mean of two rounds, about a minute and a half on two cores. Prints a table in Markdown;
# LODE names the program.
# shellcheck source=tests/bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
layers=${1:-8} batches=${2:-8}

model "$layers"
experiment() {
    cat <<END
name = "$1"; results = "results"; threads = 1; micro_batch = 256;
models = ( { name = "m"; path = "model"; } );
calibration = { corpus = "$root/configs/quickstart/text/calibration.txt"; packing = "packed";
                sequences = $batches; max_length = 256; };
END
}
for name in alone one two pair; do experiment $name >$name.cfg; done

run() {
    timed "$1" accumulate run "$2.cfg" --stages tokenize,accumulate
}
for _ in 1 2; do
    rm -rf results
    run 1 alone >>alone.time
    run 1 one >>beside.time &
    run 1 two >>beside.time
    wait $!
    run 2 pair >>pair.time
    for stage in tokenize accumulate; do
        [ "$("$lode" digest results/alone/m/$stage.h5)" = "$("$lode" digest results/pair/m/$stage.h5)" ] ||
            { echo "$stage.h5 differs on two ranks" >&2; exit 1; }
    done
done

mean() {
    awk '{ sum += $1 } END { print sum / NR }' "$1"
}
awk -v m="$batches" -v alone="$(mean alone.time)" -v busy="$(mean beside.time)" \
    -v pair="$(mean pair.time)" -v layers="$layers" 'BEGIN {
    ideal = (m + 1) / m * busy / m / 2
    printf "%d layers, M = %d micro-batches of 256 tokens, seconds a micro-batch:\n\n", layers, m
    print "| one rank alone | one rank beside another | balanced share, P = 2 | (M + P - 1)/M times that | two ranks, measured | ratio |"
    print "|---|---|---|---|---|---|"
    printf "| %.3f | %.3f | %.3f | %.3f | %.3f | %.3f |\n", alone / m, busy / m, busy / m / 2, ideal, pair / m, pair / m / ideal
}'
