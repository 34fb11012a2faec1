#!/usr/bin/env bash
# What pruning saves when a model is evaluated, and what it saves to evaluate variants together.
#
#   tests/bench/sweep.sh [LAYERS [WINDOWS]]
#
# The perplexity of a text of so many windows (8) of 256 tokens under a model of so many layers (4)
# and its variants that lack 25, 50 and 75 % of the FFN's channels: the unpruned model alone, each
# variant beside it, and all at once. A variant's own time is what it adds to the unpruned model's.
# Medians of three. One rank, one thread, about two minutes. Prints tables in Markdown; LODE names the program.
# shellcheck source=tests/bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
layers=${1:-4} windows=${2:-8}

model "$layers"
tr -cd '\n -~' <"$root/configs/quickstart/text/evaluation.txt" >ascii.txt # a byte is a token
head -c $((windows * 256)) ascii.txt >cut.txt
cat >sweep.cfg <<END
name = "sweep"; results = "results"; threads = 1; micro_batch = 1024;
models = ( { name = "m"; path = "model"; } );
calibration = { corpus = "$root/configs/quickstart/text/calibration.txt"; sequences = 2; max_length = 32; };
prune = { methods = [ "magnitude" ]; sparsity = ( 0.25, 0.5, 0.75 ); };
evaluate = { perplexity = ( { name = "p"; corpus = "cut.txt"; length = 256; } ); };
END

run() { # the median of three
    for _ in 1 2 3; do
        rm -f results/sweep/m/evaluate.h5
        timed 1 evaluate run sweep.cfg "$@"
    done | sort -n | sed -n 2p
}
all=$(run)
dense=$(run --set 'evaluate.perplexity.[0].pruned=false')
for sparsity in 0.25 0.5 0.75; do
    echo "$sparsity $(run --set "prune.sparsity=$sparsity")"
done >kept.time

awk -v all="$all" -v dense="$dense" -v tokens=$((windows * 256)) '
    BEGIN {
        print "| channels kept | seconds | tokens/s | of the unpruned model |"
        print "|---|---|---|---|"
        printf "| 100 %% | %.1f | %.0f | 1.00 |\n", dense, tokens / dense
        apart = dense
    }
    {
        own = $2 - dense
        apart += $2
        printf "| %.0f %% | %.1f | %.0f | %.2f |\n", 100 - 100 * $1, own, tokens / own, dense / own
    }
    END {
        print ""
        print "| the unpruned model and three variants | seconds |"
        print "|---|---|"
        printf "| four runs, each variant beside the unpruned model | %.1f |\n", apart
        printf "| one run | %.1f |\n", all
    }' kept.time
