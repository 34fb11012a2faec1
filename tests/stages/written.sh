#!/usr/bin/env bash
# Writes quantized variants, and what experiments make of super weights, as folders, and proves that
# a folder holds what was simulated: evaluated as a model of its own, on the same text in the same
# micro-batches, it has the variant's perplexity bit for bit. Of a BF16 model with a planted super
# weight and, where the data folder has it, of an F32 one.
#
#     tests/stages/written.sh
#
# LODE and PLANT name the programs (default: those of build-release). Exit status: 0 passed,
# 1 failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"
plant=${PLANT:-$root/build-release/tests/test_plant}
data=${LODE_DATA:-$root/../shared/data}
experiment=tests/stages/written.cfg

head -n 8 configs/quickstart/text/evaluation.txt >"$work/short.txt"
text=(--set "evaluate.perplexity.[0].corpus=$work/short.txt")
nothing_else=(--set 'prune.methods=[]' --set 'quantize.methods=[]' --set 'superweight.prompts=[]'
    --set 'superweight.experiments=[]')

# exports FOLDER VARIANT ...: the value of `export`; a variant may end in " padded"
exports() {
    local folder=$1 separator="" number=0 variant
    shift
    printf '('
    for variant; do
        printf '%s{variant="%s";path="%s/%d";' "$separator" "${variant% padded}" "$folder" $number
        case $variant in *" padded") printf 'layout="padded";' ;; esac
        case $variant in *int4* | *lp4*) printf 'codes=%s;' "${codes:-true}" ;; esac
        printf '}'
        separator=,
        number=$((number + 1))
    done
    printf ')'
}

# perplexity RESULTS MODEL VARIANT: value and standard error in the summary, to the last bit
perplexity() {
    awk -F, -v model="$2" -v variant="$3" \
        '$1 == model && $2 == variant && $7 == "perplexity" { print $10, $11 }' \
        "$work/$1/written/summary.csv"
}

# compare NAME MODEL VARIANT ...: writes the variants of a model and evaluates the folders; `settings`
# are those of the experiment
compare() {
    local name=$1 model=$2 variant number=0 models="" want got
    shift 2
    lode_run 1 "$experiment" "$name" "${settings[@]}" --set "models.[0].path=$model" \
        --set "export=$(exports "$work/$name-out" "$@")"
    for variant; do
        models="$models${models:+,}{name=\"m$number\";path=\"$work/$name-out/$number\";}"
        number=$((number + 1))
    done
    lode_run 1 "$experiment" "$name-again" "${text[@]}" "${nothing_else[@]}" \
        --set "models=($models)"
    number=0
    for variant; do
        want=$(perplexity "$name" model "${variant% padded}")
        got=$(perplexity "$name-again" "m$number" dense)
        if [ -n "$want" ] && [ "$got" = "$want" ]; then
            ok "$name, $variant: the folder has perplexity $got"
        else
            bad "$name, $variant: the folder has perplexity $got, the variant $want"
        fi
        number=$((number + 1))
    done
}

# --- a folder is what was simulated --------------------------------------------------------------

"$plant" single configs/quickstart/model "$work/planted" >"$work/place"
settings=("${text[@]}")
variants=(int4-block-16-clip:both lp4-group-50-clip:both scar-prot@0.5:int4-group-50-clip:both
    "scar-prot@0.5:lp4-block-16-clip:both padded" scar-prot@0.5+global:int4-block-16-clip:both
    scar-prot@0.5+global+least-squares:int4-group-50-clip:both
    scar-prot@0.5+least-squares:lp4-group-50-clip:both
    super-weight:prune super-weight:scale-1.5 super-weight:others-tensor
    super-weight:others-global)
compare brain "$work/planted" "${variants[@]}"

if [ "$(perplexity brain model super-weight:prune)" != "$(perplexity brain model dense)" ]; then
    ok "the super weight at $(cat "$work/place") was found and matters"
else
    bad "the super weight at $(cat "$work/place") was not found"
fi
if [ -d "$data/models/stories260k" ]; then
    settings+=(--set 'quantize.clip=["none"]' --set 'quantize.protection=["none"]')
    compare single "$data/models/stories260k" int4-block-16 lp4-group-50 \
        scar-prot@0.5+global:int4-group-50 scar-prot@0.5+global+least-squares:int4-block-16 \
        super-weight:prune
    if [ "$(perplexity single model super-weight:prune)" = "$(perplexity single model dense)" ]; then
        ok "where no super weight is found, pruning it is nothing"
    else
        bad "super-weight:prune changes a model without any"
    fi
else
    echo "not tested, for want of the data folder: a model of F32 weights"
fi

# --- what it says, and on how many ranks it was written ------------------------------------------

settings=("${text[@]}" --set "models.[0].path=$work/planted")
if [ "$(cd "$work/brain-out/0" && printf '%s ' *)" = "config.json lodestone.json \
model.safetensors model.safetensors.index.json quantization.safetensors tokenizer.json " ]; then
    ok "the files of a quantized folder"
else
    bad "the files of a quantized folder are" "$work"/brain-out/0/*
fi
for member in '"method": "rtn"' '"bits": 4' '"granularity": "block-16"' '"clip": "searched"' \
    '"protection": "both"' '"dequantized": true' '"bytes": [0-9]' '"codes": true'; do
    if ! grep -q "$member" "$work/brain-out/0/lodestone.json"; then
        bad "lodestone.json does not say $member"
    fi
done
if ! grep -q '"changed_weights": 1' "$work/brain-out/7/lodestone.json"; then
    bad "lodestone.json of super-weight:prune does not say how many weights have changed"
fi
lode_run 2 "$experiment" brain "${settings[@]}" --stages export \
    --set "export=$(exports "$work/two" "${variants[@]}")"
if diff -r "$work/brain-out" "$work/two"; then
    ok "2 ranks: the same bytes"
else
    bad "2 ranks: other bytes"
fi
lode_run 1 "$experiment" brain "${settings[@]}" --stages export \
    --set "export=$(codes=false exports "$work/two" "${variants[0]}")"
if cmp -s "$work/two/0/model.safetensors" "$work/brain-out/0/model.safetensors" &&
    [ "$(stat -c %s "$work/two/0/quantization.safetensors")" -lt \
        "$(stat -c %s "$work/brain-out/0/quantization.safetensors")" ]; then
    ok "without codes: the folder is written again, its weights are the same"
else
    bad "without codes:" "$(cat "$work/log")"
fi

# --- what no folder can hold ---------------------------------------------------------------------

# refused PATTERN OPTION ...: what `lode check` says
refused() {
    local pattern=$1
    shift
    if ! "$lode" check "$experiment" "${settings[@]}" "$@" </dev/null >"$work/log" 2>&1 &&
        grep -q "^lode: error: .*$pattern" "$work/log"; then
        ok "refused: $(sed -n 's/^lode: error: //p' "$work/log")"
    else
        bad "\"$pattern\" was to be refused:" "$(cat "$work/log")"
    fi
}
refused 'export.\[0\].variant: super-weight:restore puts activations back .*export super-weight:prune' \
    --set 'export=({variant="super-weight:restore";path="x";})'
refused 'export.\[0\].variant: .*quantizes activations .*export int4-group-50-clip:both, with "none"' \
    --set 'quantize.activations=["none","token-held"]' \
    --set 'export=({variant="int4-group-50-clip-a8-token-held:both";path="x";})'
refused 'export.\[0\].codes: dense is not quantized' \
    --set 'export=({variant="dense";path="x";codes=true;})'
refused 'no variant "int4-group-51-clip:both"; did you mean "int4-group-50-clip:both"?' \
    --set 'export=({variant="int4-group-51-clip:both";path="x";})'
exit "$failed"
