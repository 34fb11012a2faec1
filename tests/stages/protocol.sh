#!/usr/bin/env bash
# Takes the perplexities of every protocol on small models, and holds them against their float64
# reference; then proves that neither ranks nor micro-batches of another model's making change a bit
# of them, that summary.csv and comparisons.csv keep protocols apart, and that what cannot be done is
# refused.
#
#     tests/stages/protocol.sh [P...]
#
# LODE and CHECK_PROTOCOL name the programs (default: those of build-release); LODE_DATA is the data
# folder (default ../shared/data). Exit status: 0 passed, 1 failed, 77 passed as far as it went,
# without the data folder's models.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"
check=${CHECK_PROTOCOL:-$root/build-release/tests/check_protocol}
data=${LODE_DATA:-$root/../shared/data}
export LODE_PROTOCOL=$work
quickstart=configs/quickstart

# run RANKS FOLDER MODEL PATH [lode options]: the experiment on a model
run() {
    lode_run "$1" tests/stages/protocol.cfg "$2" \
        --set "models=( { name = \"$3\"; path = \"$4\"; } )" "${@:5}"
}

# held MODEL FOLDER: compares with the reference
held() {
    if "$check" tests/golden/protocol.json "$1" "$work/$2/protocol/$1/evaluate.h5" >"$work/log"; then
        ok "$1: $(tail -n 1 "$work/log")"
    else
        cat "$work/log"
        bad "$1 against the reference"
    fi
}

# refused COMMAND STATUS PATTERN MODEL [lode options]: whether `lode COMMAND` ends with a status and
# a message
refused() {
    local command=$1 want=$2 pattern=$3 path=$4 status=0
    shift 4
    "$lode" "$command" tests/stages/protocol.cfg --set "results=$work/refused" \
        --set "models=( { name = \"m\"; path = \"$path\"; } )" "$@" </dev/null >"$work/log" 2>&1 ||
        status=$?
    if [ "$status" -eq "$want" ] && grep -q "$pattern" "$work/log"; then
        ok "$command refuses: $pattern"
    else
        bad "$command does not refuse with \"$pattern\": status $status"
        cat "$work/log"
    fi
}

printf '%b' '<s>Once upon a time there was a  cat.\n' \
    '</s>He had\xc2\xa0been there\xe3\x80\x80before. \n' \
    '  The\tend\xe2\x80\x89of\x1cit\xe2\x80\x8b all\xc2\x85now\n' 'a\n' >"$work/edges.txt"
head -n 40 $quickstart/text/evaluation.txt >"$work/text.txt"
cp "$work/text.txt" "$work/rows.txt"
run 2 first quickstart $quickstart/model
held quickstart first
for ranks; do
    run "$ranks" other quickstart $quickstart/model
    same "$ranks ranks" first/protocol/quickstart other/protocol/quickstart tokenize evaluate
    rm -rf "$work/other"
done

# A tokenizer that adds nothing and has no BOS: the first token is predicted from EOS.
cp -r $quickstart/model "$work/bare"
chmod -R u+w "$work/bare"
sed '/^"post_processor": {$/,/^"decoder": {$/c\
"post_processor": null,\
"decoder": {' $quickstart/model/tokenizer.json >"$work/bare/tokenizer.json"
echo '{ "bos_token": null, "eos_token": { "content": "</s>" } }' >"$work/bare/tokenizer_config.json"
run 1 first bare "$work/bare"
held bare first
run 1 first bare "$work/bare"
if [ "$(grep -c "complete, nothing to do" "$work/log")" -ge 6 ]; then
    ok "complete with a tokenizer_config.json"
else
    bad "not complete with a tokenizer_config.json:"
    cat "$work/log"
fi
echo '{ "bos_token": "<s>" }' >"$work/bare/tokenizer_config.json"
run 1 first bare "$work/bare"
if grep -q "tokenize: complete" "$work/log"; then
    bad "another BOS of tokenizer_config.json goes unnoticed"
else
    ok "another BOS of tokenizer_config.json is noticed"
fi

# One row for each figure, each with its protocol; pruned variants are compared within one only (and
# lm-eval-edges is too short for that).
csv=$work/pruned/protocol/summary.csv
run 1 pruned quickstart $quickstart/model --set 'prune.methods=["lp","magnitude"]' --set prune.sparsity=0.5
for metric in perplexity byte_perplexity bits_per_byte; do
    case $metric in perplexity) want=48 ;; *) want=18 ;; esac
    got=$(awk -F, -v metric=$metric '$7 == metric' "$csv" | wc -l)
    if [ "$got" -eq $want ]; then
        ok "summary.csv has $want rows of $metric"
    else
        bad "summary.csv has $got rows of $metric, not $want"
    fi
done
if [ "$(awk -F, 'NR > 1 && index($8, $9) != 1' "$csv" | wc -l)" -eq 0 ] &&
    [ "$(awk -F, 'NR > 1 && index($2, $3) != 1' "$work/pruned/protocol/comparisons.csv" | wc -l)" -eq 0 ] &&
    [ "$(wc -l <"$work/pruned/protocol/comparisons.csv")" -eq 46 ]; then
    ok "every row has its perplexity's protocol"
else
    bad "rows with another protocol than their perplexity's"
fi

# What cannot be done.
cp -r "$work/bare" "$work/none"
sed -i 's/"bos_token_id": 1/"bos_token_id": null/; s/"eos_token_id": 2/"eos_token_id": null/' \
    "$work/none/config.json"
for command in check run; do
    refused $command 3 'evaluate.perplexity.\[2\].bos: "always" needs a bos_token_id' "$work/none"
done
rm "$work/none/tokenizer_config.json"
# shellcheck disable=SC2016
lm_eval='evaluate.perplexity=( { name = "p"; corpus = "$LODE_PROTOCOL/text.txt"; protocol = "lm-eval"; length = 64; } )'
for command in check run; do
    refused $command 4 'names a BOS or EOS token, and evaluate.perplexity "p"' "$work/none" \
        --set "$lm_eval"
done
echo '{ "bos_token": "<|begin|>" }' >"$work/none/tokenizer_config.json"
refused run 5 'is no token of the tokenizer.json' "$work/none" --set "$lm_eval"
echo 'x' >"$work/short.txt"
refused run 4 'fewer than one window of evaluate.perplexity "p" (length = 64)' $quickstart/model \
    --set "${lm_eval//text.txt/short.txt}" --set 'evaluate.perplexity.[0].protocol="gptq"'

if [ ! -r "$data/models/stories260k/config.json" ]; then
    echo "skipped: the data folder's models (set LODE_DATA)"
    [ $failed -ne 0 ] || failed=77
    exit $failed
fi
head -n 1 "$data/corpora/tinystories-eval-small.txt" >"$work/text.txt"
head -n 30 "$data/corpora/wiki.test.raw" >"$work/rows.txt"
run 2 first stories260k "$data/models/stories260k"
held stories260k first
head -n 8 "$data/corpora/tinystories-eval.txt" >"$work/text.txt"
cp "$work/text.txt" "$work/rows.txt"
run 2 first babyllama105 "$data/models/babyllama105"
held babyllama105 first
exit $failed
