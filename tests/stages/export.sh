#!/usr/bin/env bash
# Exports variants of the embedded model, and proves that the folders are what the variants were:
# evaluated as models of their own they give the same perplexity; their bytes are the same for every
# number of ranks; they are written when something is missing or has changed, and only then.
#
#     tests/stages/export.sh
#
# LODE names the program (default: that of build-release). Exit status: 0 passed, 1 failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"

head -n 25 configs/quickstart/text/evaluation.txt >"$work/short.txt"
settings=(--set calibration.sequences=8 --set calibration.max_length=64 --set micro_batch=256
    --set "evaluate.perplexity.[0].corpus=$work/short.txt"
    --set 'evaluate.perplexity.[0].length=64' --set 'evaluate.tasks=()')
pruned=(--set 'prune.methods=["scar-prot"]' --set 'prune.sparsity=(0.5)'
    --set 'prune.allocation=["uniform","global"]'
    --set 'prune.compensation=["none","least-squares"]')
cp -r configs/quickstart/model "$work/model"
chmod -R u+w "$work/model"
echo '{"temperature": 1}' >"$work/model/generation_config.json"
echo weights >"$work/model/pytorch_model.bin"

# exports FOLDER: the value of `export` for all that is exported
exports() {
    printf '({variant="scar-prot@0.5";path="%s/sliced";layout="sliced";},' "$1"
    printf '{variant="scar-prot@0.5";path="%s/padded";layout="padded";},' "$1"
    printf '{variant="scar-prot@0.5+global";path="%s/global";},' "$1"
    printf '{variant="scar-prot@0.5+global+least-squares";path="%s/solved";},' "$1"
    printf '{variant="dense";path="%s/dense";})' "$1"
}

# run RANKS FOLDER [OPTION ...]: the quickstart into a results folder; what it says goes to $work/log
run() { lode_run "$1" configs/quickstart.cfg "$2" "${settings[@]}" "${@:3}"; }

# perplexity FOLDER MODEL VARIANT: the value in the summary
perplexity() {
    awk -F, -v model="$2" -v variant="$3" \
        '$1 == model && $2 == variant && $7 == "perplexity" { print $10 }' \
        "$work/$1/quickstart/summary.csv"
}

# --- what a folder holds ------------------------------------------------------------------------

source=(--set "models.[0].path=$work/model")
run 1 results "${source[@]}" "${pruned[@]}" --set "export=$(exports "$work/one")"

run 1 again --set 'prune.methods=[]' --set "models=({name=\"sliced\";path=\"$work/one/sliced\";},
    {name=\"padded\";path=\"$work/one/padded\";},{name=\"global\";path=\"$work/one/global\";},
    {name=\"solved\";path=\"$work/one/solved\";},{name=\"dense\";path=\"$work/one/dense\";})"
# New weights are rounded to the source's bfloat16.
while read -r model variant tolerance; do
    want=$(perplexity results books3m "$variant")
    got=$(perplexity again "$model" dense)
    if awk -v a="$want" -v b="$got" -v t="$tolerance" \
        'BEGIN { d = a - b; exit !(a > 1 && b > 1 && (d < 0 ? -d : d) <= t * a) }'; then
        ok "$model folder: perplexity $got, $variant has $want"
    else
        bad "$model folder: perplexity $got, $variant has $want"
    fi
done <<END
sliced scar-prot@0.5 1e-6
padded scar-prot@0.5 1e-6
global scar-prot@0.5+global 1e-6
solved scar-prot@0.5+global+least-squares 2e-3
dense dense 1e-6
END

if [ "$(cd "$work/one/sliced" && printf '%s ' *)" = \
    "config.json generation_config.json lodestone.json model.safetensors tokenizer.json " ] &&
    cmp -s "$work/one/sliced/tokenizer.json" "$work/model/tokenizer.json" &&
    cmp -s "$work/one/dense/config.json" "$work/model/config.json"; then
    ok "the files of a folder"
else
    bad "the files of a folder are" "$work"/one/sliced/*
fi
# members FILE: the members of a config.json, one a line, numbers in one spelling
members() {
    tr -d ' ' <"$1" | sed -e 's/1e-05/1e-5/' -e '$a\'
}
if [ "$(diff <(members "$work/model/config.json") <(members "$work/one/sliced/config.json") |
    grep '^[<>]' | tr '\n' ' ')" = '< "intermediate_size":576, > "intermediate_size":288, ' ]; then
    ok "config.json differs in intermediate_size alone"
else
    bad "config.json:"
    diff "$work/model/config.json" "$work/one/sliced/config.json" || true
fi
for ranks in 2 3; do
    run "$ranks" results "${source[@]}" "${pruned[@]}" --stages export \
        --set "export=$(exports "$work/ranks")"
    if diff -r "$work/one" "$work/ranks"; then
        ok "$ranks ranks: the same bytes"
    else
        bad "$ranks ranks: other bytes"
    fi
    rm -r "$work/ranks"
done

# --- what is written, and when ------------------------------------------------------------------

all=("${source[@]}" "${pruned[@]}" --set "export=$(exports "$work/one")")
run 1 results "${all[@]}" # the other runs have left export.h5 for other folders
run 1 results "${all[@]}"
if grep -q "export: complete, nothing to do" "$work/log"; then
    ok "again: nothing to do"
else
    bad "again:" "$(cat "$work/log")"
fi
before=$(stat -c '%n %i' "$work"/one/*)
rm "$work/one/padded/model.safetensors"
run 1 results "${all[@]}"
if [ "$(stat -c '%n %i' "$work"/one/* | diff - <(echo "$before") | grep -c '^<')" -eq 1 ] &&
    cmp -s "$work/one/padded/model.safetensors" "$work/one/sliced/model.safetensors"; then
    ok "a file gone: its folder is written again, the others stay"
else
    bad "a file gone:" "$(cat "$work/log")"
fi
echo '{"temperature": 2}' >"$work/model/generation_config.json"
run 1 results "${all[@]}"
if cmp -s "$work/one/sliced/generation_config.json" "$work/model/generation_config.json"; then
    ok "a changed companion is copied again"
else
    bad "a changed companion:" "$(cat "$work/log")"
fi

# --- where folders go ---------------------------------------------------------------------------

run 2 many "${pruned[@]}" --set "models=({name=\"a\";path=\"$work/model\";},
    {name=\"b\";path=\"$work/one/dense\";})" \
    --set 'sweep=({key="classify.core_fraction";values=(0.01,0.02);})' \
    --set 'evaluate.perplexity=()' --set "export=({variant=\"scar-prot@0.5\";path=\"$work/out/\";})"
if [ "$(cd "$work/out" && printf '%s ' */*)" = "$(printf 'classify.core_fraction=%s ' \
    0.01/a 0.01/b 0.02/a 0.02/b)" ]; then
    ok "a folder for each point and model"
else
    bad "folders are" "$work"/out/*/*
fi

# --- mistakes -----------------------------------------------------------------------------------

# fails STATUS PATTERN OPTION...: what `lode run --stages export` says
fails() {
    local status=$1 pattern=$2 got=0
    shift 2
    "$lode" run configs/quickstart.cfg "${settings[@]}" "${source[@]}" "${pruned[@]}" \
        --set "results=$work/results" --stages export "$@" </dev/null >"$work/log" 2>&1 || got=$?
    if [ "$got" -eq "$status" ] && [ "$(grep -c '^lode: error: ' "$work/log")" -eq 1 ] &&
        grep -q "^lode: error: .*$pattern" "$work/log"; then
        ok "refused: $(sed -n 's/^lode: error: //p' "$work/log")"
    else
        bad "exit status $got where \"$pattern\" was to be refused:"
        cat "$work/log"
    fi
}

fails 3 'export.\[0\].variant: .*did you mean "scar-prot@0.5"' \
    --set 'export=({variant="scar-port@0.5";path="x";})'
fails 3 'set it to "padded" or "auto"' \
    --set "export=({variant=\"scar-prot@0.5+global\";path=\"$work/x\";layout=\"sliced\";})"
touch "$work/one/dense/notes"
fails 8 'one/dense: holds "notes"' --force --set "export=({variant=\"dense\";path=\"$work/one/dense\";})"
mkdir "$work/disk"
if [ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=256k none "$work/disk" 2>/dev/null; then
    mounted=$work/disk
    fails 8 'disk/small.partial/model.safetensors: .*No space left' \
        --set "export=({variant=\"dense\";path=\"$work/disk/small\";})"
    if [ -n "$(ls -A "$work/disk")" ]; then
        bad "a full disk: left" "$work"/disk/*
    fi
    umount "$work/disk"
    mounted=
else
    echo "not tested, for want of the right to mount: a full disk"
fi
if "$lode" check configs/quickstart.cfg --set 'export=({variant="lp@0.7";path="x";})' \
    >"$work/log" 2>&1 || ! grep -q 'no variant "lp@0.7"' "$work/log"; then
    bad "lode check takes a variant that the experiment does not have:" "$(cat "$work/log")"
else
    ok "lode check: $(cat "$work/log")"
fi
exit "$failed"
