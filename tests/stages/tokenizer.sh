#!/usr/bin/env bash
# Trains a tokenizer on the quickstart's text and tokenises with it: the same for every number of
# ranks, whether the text is compressed or not, and as with the same tokenizer.json in the model's
# folder; made again only where something has changed; and what a user can get wrong.
#
#     tests/stages/tokenizer.sh
#
# LODE names the program (default: that of build-release). Exit status: 0 passed, 1 failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"

folder=tokenizer/small
calibration=configs/quickstart/text/calibration.txt
mkdir "$work/model"
sed 's/"vocab_size": 2048/"vocab_size": 704/' configs/quickstart/model/config.json \
    >"$work/model/config.json"
gzip -c "$calibration" >"$work/text.gz"
head -c 500 "$work/text.gz" >"$work/cut.gz"

# run RANKS FOLDER [OPTION ...]: tokenizer and tokenize into a results folder
run() {
    lode_run "$1" tests/stages/tokenizer.cfg "$2" --set "models.[0].path=$work/model" \
        --stages tokenizer,tokenize "${@:3}"
}

# refused WHAT TEXT [OPTION ...]: whether a run fails with one message that has the text, and leaves
# no tokenizer behind
refused() {
    local what=$1 text=$2
    shift 2
    rm -rf "$work/refused"
    if "$lode" run tests/stages/tokenizer.cfg --set "results=$work/refused" \
        --set "models.[0].path=$work/model" --stages tokenizer "$@" >"$work/log" 2>&1; then
        bad "$what: was accepted"
    elif [ "$(grep -c 'lode: error' "$work/log")" != 1 ]; then
        bad "$what: not one message"
        cat "$work/log"
    elif [ -e "$work/refused/$folder/tokenizer.h5" ]; then
        bad "$what: left a file"
    else
        said "$what" "$text"
    fi
}

# equal WHAT WANT GOT: whether two files are
equal() { if cmp "$2" "$3"; then ok "$1"; else bad "$1"; fi; }

# value FOLDER ATTRIBUTE: an attribute of tokenizer.h5
value() {
    h5dump -a "$2" "$work/$1/$folder/tokenizer.h5" | sed -n 's/^ *(0): *//p'
}

run 1 one
said 'the stage says what it made' 'tokenizer: 640 tokens of 26993 bytes'
for ranks in 2 3; do
    run "$ranks" "ranks$ranks"
    same "$ranks ranks" "one/$folder" "ranks$ranks/$folder" tokenizer tokenize
    equal "$ranks ranks: tokenizer.json" "$work/one/$folder/tokenizer.json" \
        "$work/ranks$ranks/$folder/tokenizer.json"
done

run 1 gzip --set "train.corpus=$work/text.gz"
same 'compressed' "one/$folder" "gzip/$folder" tokenizer tokenize

if command -v h5dump >/dev/null; then
    merges=$(value one merges)
    if [ "$(value one vocabulary)" = 640 ] && [ "$(value one texts)" = 74 ] &&
        [ "$((259 + $(value one alphabet) + merges))" = 640 ]; then
        ok "tokenizer.h5 has what was trained on, and $merges merges"
    else
        bad 'attributes of tokenizer.h5'
    fi
fi

# In the model's folder it is that model's tokenizer.
cp "$work/one/$folder/tokenizer.json" "$work/model/tokenizer.json"
run 1 given --set 'train.tokenizer={}'
same 'given' "one/$folder" "given/$folder" tokenize
rm "$work/model/tokenizer.json"

# Done once, and again where something is missing or has changed.
cp "$work/one/$folder/tokenizer.json" "$work/before"
run 1 one
if grep -q 'tokens of' "$work/log"; then bad 'a second run trains again'; else ok 'a second run'; fi
rm "$work/one/$folder/tokenizer.json"
run 1 one
said 'a missing tokenizer.json is made again' 'tokenizer: 640 tokens'
equal 'and is the same' "$work/before" "$work/one/$folder/tokenizer.json"
echo >>"$work/one/$folder/tokenizer.json"
run 1 one
said 'one that was changed is made again' 'tokenizer.json is not as it was written; it is made again'
equal 'and is what it was' "$work/before" "$work/one/$folder/tokenizer.json"
run 1 one --set train.tokenizer.vocabulary=600
said 'another vocabulary' 'tokenizer: 600 tokens'
said 'another vocabulary gives other ids' 'tokenize: '
run 1 one --set train.tokenizer.sample=9000
said 'a sample' 'tokenizer: 640 tokens of 8'
cp "$work/one/$folder/tokenizer.json" "$work/sampled"
run 1 one --set train.tokenizer.sample=9000 --set seed=8
if cmp -s "$work/sampled" "$work/one/$folder/tokenizer.json"; then
    bad 'another seed draws the same lines'
else
    ok 'another seed draws other lines'
fi

refused 'a vocabulary above the model'\''s' 'train.tokenizer.vocabulary: 705 is above the vocab_size 704' \
    --set train.tokenizer.vocabulary=705
printf 'so short a text\n' >"$work/short.txt"
refused 'too short a text' "$work/short.txt: has enough pairs for a vocabulary of" \
    --set "train.corpus=$work/short.txt"
refused 'too small a sample' 'raise train.tokenizer.sample, train on more text or lower' \
    --set train.tokenizer.sample=2000
refused 'a gzip file that is cut off' "$work/cut.gz: the gzip file is cut off" \
    --set "train.corpus=$work/cut.gz"
refused 'a missing text' "$work/no.txt" --set "train.corpus=$work/no.txt"
refused 'a sample below a line' 'a sample of 10 bytes has no room' --set train.tokenizer.sample=10
sed -i 's/"bos_token_id": 1/"bos_token_id": 5/' "$work/model/config.json"
refused 'another BOS' 'set bos_token_id and eos_token_id to these (they are 5 and 2)'

exit "$failed"
