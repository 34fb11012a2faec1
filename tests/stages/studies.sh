#!/usr/bin/env bash
# Runs every study of configs/studies on the model and the texts that come with Lodestone, with few
# and short sequences: each must run to its report. On one rank: others see to many.
#
#     tests/stages/studies.sh [STUDY.cfg ...]
#
# LODE names the program (default: that of build-release). Exit status: 0 passed, 1 failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"

# The folders that studies name, filled with what there is.
model=$root/configs/quickstart/model
text=$root/configs/quickstart/text
export LODE_MODELS=$work/models LODE_CORPORA=$work/corpora LODE_TASKS=$work/tasks
export LODE_FOLDERS=$work/folders
grep -oh ' steps = ".LODE_MODELS/[^"]*' configs/studies/*.cfg | sort -u |
    while read -r name; do # folders above those of a series
        folder=$work/models/${name#*LODE_MODELS/}
        mkdir -p "$folder"
        ln -s "$model" "$folder/step-43"
        ln -s "$model" "$folder/stage1-step150-tokens1B"
    done
grep -oh 'LODE_MODELS/[^"]*' configs/studies/*.cfg configs/studies/settings/*.cfg | sort -u |
    while read -r name; do
        if [ -d "$work/models/${name#LODE_MODELS/}" ]; then continue; fi
        mkdir -p "$(dirname "$work/models/${name#LODE_MODELS/}")"
        ln -s "$model" "$work/models/${name#LODE_MODELS/}"
    done
grep -oh 'LODE_CORPORA/[^"]*' configs/studies/*.cfg configs/studies/settings/*.cfg | sort -u |
    while read -r name; do
        mkdir -p "$(dirname "$work/corpora/${name#LODE_CORPORA/}")"
        case $name in
        # A few windows: perplexities of all variants take most of the time.
        *test* | *eval*) tail -n 5 "$text/evaluation.txt" ;;
        *valid*) head -n 12 "$text/evaluation.txt" ;;
        *) # one text in as many orders as there are corpora
            grep -v '^$' "$text/calibration.txt" | sort --random-sort --random-source=<(yes "$name")
            ;;
        esac | if [[ $name == *.gz ]]; then gzip -n; else cat; fi >"$work/corpora/${name#LODE_CORPORA/}"
    done

mkdir "$work/tasks"
grep -oh 'LODE_TASKS/[^"]*' configs/studies/*.cfg configs/studies/settings/*.cfg | sort -u |
    while read -r name; do
        head -n 3 configs/quickstart/tasks/continuations.jsonl >"$work/tasks/${name#LODE_TASKS/}"
    done

# What a model this small and a test this short need otherwise. Those that take what was
# published have two perplexities and six tasks.
settings=(--set "results=$work/results" --set "prune.sparsity=(0.5)" --set calibration.sequences=6
    --set calibration.max_length=48 --set classify.write_support=12
    --set classify.controls.draws=20 --set classify.controls.channels=32
    --set evaluate.perplexity.[0].length=64)
probe="probe.sequences=4 probe.max_length=48 probe.halo_sequences=2 probe.channels=8 probe.bins=4
    probe.draws=2 probe.random_cores=2"
published="evaluate.perplexity.[1].length=64"
for task in 0 1 2 3 4 5; do
    published+=" evaluate.tasks.[$task].limit=1 evaluate.tasks.[$task].shots=1"
done
zero_shot="evaluate.perplexity.[1].length=64"
for task in 0 1 2 3 4 5 6; do
    zero_shot+=" evaluate.tasks.[$task].limit=1"
done
trained="train.steps=3 train.checkpoints=[] train.warmup=1 train.length=32 train.batch=4 train.groups=2
    micro_batch=64 train.validation.sequences=2 train.validation.every=0 sweep.[0].values=(0.0,1.0)"
short_tasks=""
for task in 0 1 2 3; do
    short_tasks+=" evaluate.tasks.[$task].limit=1"
done
few="quantize.sequences=2 quantize.z=(3.0,6.0)"
blocks="evaluate.perplexity.[1].length=64 $few"
declare -A more=(
    [llama-3.1-8b]="$published"
    [llama-3.1-8b-random]="$published"
    [llama-3.1-70b]="$published"
    [llama-2-7b]="$published"
    [mistral-7b]="$published"
    [qwen2-7b]="$published"
    [score-core]="$published"
    [causal]="$probe"
    [small-stories]="$probe prune.methods=[\"scar-prot\",\"flap\"]" # small-books has all of them
    [small-books]="$probe"
    [super-weight-experiments]="$zero_shot superweight.sequences=2 superweight.max_length=32"
    [halo-size]="sweep.[0].values=(6,12,24)"
    [calibration-size]="sweep.[0].values=(3,6,12)"
    [quantization-blocks]="$blocks quantize.granularity=[\"block-128\"] quantize.bits=(4)"
    [quantization-w8a8]="$blocks"
    [small-quantization]="$few quantize.bits=(3) quantize.granularity=[\"channel\",\"block-128\"]"
    [small-quantization-stories]="$few quantize.methods=[\"lp\"] quantize.bits=(2)" # the other has the rest
    [small-activations]="$few sweep.[0].values=(0.8)"
    [small-activations-stories]="$few quantize.granularity=[\"channel\"] quantize.activations=[\"tensor-smooth\"]"
    [small-joint]="quantize.bits=(4)"
    [small-joint-stories]="quantize.bits=(8) quantize.methods=[\"rtn\"] prune.methods=[\"scar-prot\"]"
    [entropy-loss]="$trained train.format=lines train.validation.format=lines $short_tasks"
    [small-entropy-loss]="$trained prune.methods=[\"entropy\"]" # the others have all of them
    [small-entropy-loss-stories]="$trained train.entropy.form=square"
    [small-audit]="prune.sparsity=(0.25,0.5)"
    [small-audit-stories]="prune.sparsity=(0.25,0.5) audit.loss_proxy=false"
)

if [ $# -eq 0 ]; then
    set -- configs/studies/*.cfg
fi
for study; do
    name=$(basename "$study" .cfg)
    extra=()
    for setting in ${more[$name]-}; do
        extra+=(--set "$setting")
    done
    folder=$work/results/$name
    if ! "$lode" run "$study" "${settings[@]}" "${extra[@]}" </dev/null >"$work/log" 2>&1; then
        tail -n 5 "$work/log"
        echo "FAIL  $study"
        failed=1
    elif [ ! -s "$folder/summary.csv" ] || [ ! -s "$folder/report.html" ]; then
        echo "FAIL  $study leaves no report"
        failed=1
    else
        echo "ok    $study: $(($(wc -l <"$folder/summary.csv") - 1)) figures"
    fi
    rm -rf "$work/results" "$work/folders"
done
exit $failed
