#!/usr/bin/env bash
# Everything a user can get wrong ends in one clear message, on any number of ranks.
#
#   tests/stages/errors.sh LODE SPOIL MPIRUN
#
# For every mistake: the documented exit status (pipeline/base/error.h) on every rank; one line
# "lode: error: …" that names the thing and the remedy, and nothing else but lode's own lines; no
# result under its final name, no *.partial but those whose finished units a journal lists, and no
# summary left behind. LODE_ERRORS_MESSAGES names a file to which all messages go, for reading them.
set -euo pipefail

if [ $# -ne 3 ]; then
    echo "usage: errors.sh LODE SPOIL MPIRUN" >&2
    exit 2
fi
lode=$(realpath "$1")
spoil=$(realpath "$2")
mpirun=$3
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/lode-errors-XXXXXX")
mounted=
finish() {
    if [ -n "$mounted" ]; then umount "$mounted" || true; fi
    rm -rf "$work"
}
trap finish EXIT
cd "$work"

usage=2 config=3 input=4 format=5 shape=6 unsupported=7 io=8 memory=9 numeric=10 busy=12
cases=0 failures=0
messages=${LODE_ERRORS_MESSAGES:-/dev/null}

# --- what is checked ----------------------------------------------------------------------------

wrong() {
    failures=$((failures + 1))
    echo "FAILED: $what, $ranks ranks: $*"
    sed 's/^/    /' stderr
    if [ -e statuses ]; then sed 's/^/    exit status /' statuses; fi
}

# As many ranks as asked for. Each notes its status: mpirun's own is that of one of them.
start() {
    rm -f statuses
    if [ "$ranks" -eq 1 ]; then
        "$@" >stdout 2>stderr || echo $? >statuses
    else
        # shellcheck disable=SC2016
        "$mpirun" -q --oversubscribe --bind-to none -n "$ranks" \
            bash -c '"$@" || echo $? >>statuses' each "$@" >stdout 2>stderr || true
    fi
}

# Whether there is a partial file that no later run would go on with.
partial_alone() {
    local file
    while read -r file; do
        [ -e "${file%.partial}.journal" ] || return 0
    done < <(find results -name '*.partial')
    return 1
}

# fails STATUS PATTERN... -- COMMAND...: on $on ranks. Whatever results there are beforehand must
# still be there, unchanged, and nothing more.
on="1 3"
leaves=
fails() {
    local status=$1 patterns=() pattern before error
    shift
    while [ "$1" != -- ]; do
        patterns+=("$1")
        shift
    done
    shift
    for ranks in $on; do
        cases=$((cases + 1))
        before=$(contents)
        start "$@"
        [ "$(sort statuses 2>/dev/null | uniq -c | tr -s ' ')" = " $ranks $status" ] ||
            wrong "the exit status is not $status on $ranks ranks"
        [ "$(grep -c '^lode: error: ' stderr)" -eq 1 ] || wrong "not exactly one error line"
        if grep -v '^lode: ' stderr >others; then wrong "there are other lines"; fi
        if [ "$status" -ne "$memory" ] && grep -q 'peak private' stderr; then
            wrong "it says how much memory it took"
        fi
        error=$(grep -m 1 '^lode: error: ' stderr || true)
        for pattern in "${patterns[@]}"; do
            grep -q -E -e "$pattern" <<<"$error" || wrong "the message has no \"$pattern\""
        done
        [ "$(contents)" = "$before" ] || wrong "results changed: $(contents | tr '\n' ' ')"
        if [ -d results ] && partial_alone; then wrong "a partial file"; fi
    done
    printf '%s\n    %s\n' "$what" "$(sed -n 's/^lode: error: //p' stderr)" >>"$messages"
}

# What a failing run may not touch: all results but $leaves, what the stages before it complete.
contents() {
    if [ -d results ]; then
        find results \( -name '*.h5' -o -name 'summary.csv' -o -name 'report.html' \) \
            ! -name "$leaves" -exec cksum {} + | sort
    fi
}

# bad STATUS PATTERN...: lode run of exp.cfg, which new_case wrote.
bad() {
    fails "$@" -- "$lode" run exp.cfg
}

# --- what the cases are made of -----------------------------------------------------------------

# A tokenizer of 29 tokens: special ones, the space and the letters. $1: what stands in "unk_token".
tokenizer() {
    local letter id=4
    printf '{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,\n'
    printf '"post_processor": {"type": "TemplateProcessing", "single": [\n'
    printf '  {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],\n'
    printf '  "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},\n'
    printf '"model": {"type": "BPE", "dropout": null, "unk_token": %s, "fuse_unk": false,\n' "$1"
    printf ' "byte_fallback": false, "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, " ": 3'
    for letter in a b c d e f g h i j k l m n o p q r s t u v w x y z; do
        printf ', "%s": %d' "$letter" "$id"
        id=$((id + 1))
    done
    printf '}, "merges": []}}\n'
}

# safetensors HEADER BYTES [LENGTH]: a file with that header, that many zero bytes of data, and that
# length field instead of the header's own.
safetensors() {
    local length=${3:-${#1}} i
    for ((i = 0; i < 8; i++)); do
        # shellcheck disable=SC2059
        printf "\\x$(printf %02x $((length >> 8 * i & 255)))"
    done
    printf %s "$1"
    head -c "$2" /dev/zero
}

experiment() {
    cat <<END
name = "e"; results = "results"; seed = 1;
models = ( { name = "tiny"; path = "model"; } );
calibration = { corpus = "calibration.txt"; sequences = 6; max_length = 24; };
classify = { core_fraction = 0.05; write_support = 2; redundancy = { sequences = 2; }; };
prune = { methods = [ "lp" ]; sparsity = ( 0.5 ); };
evaluate = { perplexity = ( { name = "p"; corpus = "evaluation.txt"; length = 16; } ); };
END
}

mkdir sound
"$spoil" sound sound
tokenizer '"<unk>"' >sound/tokenizer.json
for i in 1 2 3 4 5 6; do echo "the quick brown fox number $i jumps over a lazy dog"; done |
    tr 1-6 a-f >sound.txt

# new_case NAME: everything sound again; the case spoils one thing of it.
new_case() {
    what=$1
    rm -rf results model ./*.txt.d
    mkdir model
    cp -al sound/. model
    rm -rf calibration.txt evaluation.txt exp.cfg
    cp sound.txt calibration.txt
    cp sound.txt evaluation.txt
    experiment >exp.cfg
}

# Takes the place of a hard link to the sound file.
replace() {
    rm -rf "$1"
    cat >"$1"
}
spoilt() {
    rm -f model/*.safetensors model/*.json
    "$spoil" "$1" model
    cp sound/tokenizer.json model/
}
edit() { # FILE SED-COMMAND
    sed "$2" "$1" >edited
    cmp -s "$1" edited && { echo "errors.sh: $2 changes nothing in $1" >&2; exit 1; }
    replace "$1" <edited
}

# --- nothing wrong ------------------------------------------------------------------------------

# The sound experiment runs, so that what fails below does so for the reason given.
what="nothing wrong"
new_case "$what"
for ranks in 1 3; do
    rm -rf results
    start "$lode" run exp.cfg
    [ ! -e statuses ] || wrong "the sound experiment fails"
    [ -s results/e/summary.csv ] || wrong "the sound experiment leaves no summary"
done
cp -a results finished

# --- command line -------------------------------------------------------------------------------

new_case "unknown command"
fails $usage 'no command frobnicate' '--help' -- "$lode" frobnicate
on=1
new_case "unknown option"
fails $usage 'no option --fast' '--help' -- "$lode" run exp.cfg --fast
new_case "no file"
fails $usage 'needs a file' '--help' -- "$lode" run
new_case "two files"
fails $usage 'exp.cfg and other.cfg' -- "$lode" run exp.cfg other.cfg
new_case "option without value"
fails $usage '--set needs a value' -- "$lode" run exp.cfg --set
new_case "--set without ="
fails $usage '--set seed' 'key.path=value' -- "$lode" run exp.cfg --set seed
new_case "unknown stage"
fails $usage '--stages' '"acumulate"' 'the stages are .*accumulate' -- "$lode" run exp.cfg --stages tokenize,acumulate
new_case "no stage"
fails $usage '--stages' 'the stages are .*accumulate' -- "$lode" run exp.cfg --stages ''
new_case "no time limit"
fails $usage '--time-limit' '"soon" is no duration' '3h30m' -- "$lode" run exp.cfg --time-limit soon
on="1 3"
new_case "unknown model"
fails $usage '--model tinny' '"tiny"' -- "$lode" run exp.cfg --model tinny
new_case "no model in a folder of a series"
mkdir -p series/tokenizer-v2 && cp -r model series/step-000010
fails $input 'series/tokenizer-v2/config.json: missing' 'taken for step 2 of series "run"' -- \
    "$lode" run exp.cfg --set 'models=({name="run";steps="series";})' --model run

# --- experiment file ----------------------------------------------------------------------------

new_case "experiment missing"
fails $input 'no-such.cfg' 'cannot be read' -- "$lode" run no-such.cfg
on=1
new_case "experiment is a folder"
fails $input 'model: is not a regular file' -- "$lode" run model
new_case "experiment is a dangling link"
ln -sf nowhere dangling.cfg
fails $input 'dangling.cfg' 'cannot be read' -- "$lode" run dangling.cfg
new_case "unknown key"
edit exp.cfg 's/sequences = 6/sequnces = 6/'
bad $config 'exp.cfg:3: calibration.sequnces' 'did you mean "sequences"'
new_case "unknown key of --set"
fails $config 'calibration.max_lenght' 'did you mean "max_length"' -- "$lode" run exp.cfg --set calibration.max_lenght=4
new_case "wrong type"
edit exp.cfg 's/sequences = 6/sequences = "six"/'
bad $config 'exp.cfg:3: calibration.sequences' 'integer'
new_case "out of range"
edit exp.cfg 's/core_fraction = 0.05/core_fraction = 1.5/'
bad $config 'exp.cfg:4: classify.core_fraction' 'above 0 and below 1'
new_case "unknown choice"
edit exp.cfg 's/"lp"/"lb"/'
bad $config 'exp.cfg:5: prune.methods' '"lb"' '"?lp"?'
new_case "missing key"
edit exp.cfg '/^models/d'
bad $config 'exp.cfg' 'models' 'required|missing'
new_case "syntax error"
edit exp.cfg 's/^prune = {/prune = { (/'
bad $config 'exp.cfg:5' 'syntax'
new_case "name of two folders"
edit exp.cfg 's/name = "e"/name = "..\/e"/'
bad $config 'exp.cfg:1: name' 'A-Z|letters'
new_case "binary experiment"
head -c 4000 sound/model.safetensors | replace exp.cfg
bad $config 'exp.cfg'
new_case "experiment of zero bytes"
head -c 4000 /dev/zero | replace exp.cfg
bad $config 'exp.cfg'
new_case "deep nesting"
{ echo -n 'name = '; head -c 200000 /dev/zero | tr '\0' '('; } | replace exp.cfg
bad $config 'exp.cfg' 'nest|deep'
new_case "experiment includes itself"
echo '@include "exp.cfg"' | replace exp.cfg
bad $config 'exp.cfg' 'include|nest|deep'
new_case "variable not set"
# shellcheck disable=SC2016
edit exp.cfg 's/"calibration.txt"/"$LODE_NOT_SET\/calibration.txt"/'
bad $config 'LODE_NOT_SET' 'export'
new_case "sweep of an unknown key"
echo 'sweep = ( { key = "prune.sparsety"; values = ( 0.5 ); } );' >>exp.cfg
bad $config 'exp.cfg:7' 'prune.sparsety' 'sparsity'
new_case "sequence longer than the model allows"
edit exp.cfg 's/max_length = 24/max_length = 65/'
bad $config 'exp.cfg:3: calibration.max_length' 'tiny' '64 or less'
new_case "window longer than the model allows"
edit exp.cfg 's/length = 16/length = 100/'
bad $config 'exp.cfg:6: evaluate.perplexity' 'tiny' '64 or less'
new_case "write support as wide as the model"
edit exp.cfg 's/write_support = 2/write_support = 16/'
bad $config 'exp.cfg:4: classify.write_support' '15 or less'
on="1 3"
new_case "more replicas than ranks"
fails $config 'replicas = 4' 'lower it' -- "$lode" run exp.cfg --set replicas=4

# --- what the stages after classify are asked for -------------------------------------------------

on=1
# set_bad STATUS KEY=VALUE... -- PATTERN...: lode run with these settings; nothing is computed.
set_bad() {
    local status=$1 settings=()
    shift
    while [ "$1" != -- ]; do
        settings+=(--set "$1")
        shift
    done
    shift
    fails "$status" "$@" -- "$lode" run exp.cfg "${settings[@]}"
    if [ -n "$(find results -name tokenize.h5 2>/dev/null)" ]; then wrong "found out too late"; fi
}
new_case "unknown check"
set_bad $config 'probe.checks=["ablations"]' -- 'probe.checks' '"ablation"'
new_case "perplexity that the checks lack"
set_bad $config 'probe.checks=["dose-response"]' 'probe.perplexity="q"' -- 'probe.perplexity' '"q"' '"p"'
new_case "checks without a perplexity"
set_bad $config 'probe.checks=["random-cores"]' 'evaluate.perplexity=()' -- 'probe.checks' 'evaluate.perplexity has none'
new_case "corpus that the checks lack"
set_bad $input 'probe.checks=["ablation"]' 'probe.max_length=16' 'probe.corpus="none.txt"' -- 'none.txt' 'cannot be read'
new_case "unknown spectrum"
set_bad $config 'classify.spectra=["quu"]' -- 'classify.spectra' '"quu"'
new_case "unknown compensation"
set_bad $config 'prune.compensation=["least-square"]' -- 'prune.compensation' '"least-squares"'
new_case "padding without a token for it"
edit model/config.json 's/"eos_token_id": [0-9]*/"eos_token_id": null/'
set_bad $config 'calibration.padding="eos"' -- 'calibration.padding' 'eos_token_id' '"none"'
new_case "merged statistics missing"
set_bad $input 'calibration.merged="none"' -- 'calibration.merged' 'none/tiny/tokenize.h5' 'lode merge'
new_case "protected super weights that nobody looks for"
set_bad $config 'quantize.methods=["rtn"]' 'quantize.protection=["both"]' -- 'quantize.protection: "both"' 'superweight.prompts'
new_case "experiments with super weights that nobody looks for"
set_bad $config 'superweight.experiments=["prune"]' -- 'superweight.experiments: "prune"' 'superweight.prompts'
new_case "bits that no codec has"
set_bad $config 'quantize.bits=(4,9)' -- 'quantize.bits: 9' 'at least 2 and at most 8'
new_case "unknown granularity"
set_bad $config 'quantize.granularity=["grup-64"]' -- 'quantize.granularity' 'did you mean "group-64"'
new_case "block beyond those of the paper"
set_bad $config 'quantize.granularity=["block-8192"]' -- 'quantize.granularity: "block-8192"' 'N from 2 to 4096'
new_case "super weight prompt of zero bytes"
set_bad $config 'superweight.prompts=[""]' -- 'superweight.prompts: is empty'
prompt='superweight.prompts=["abc"]'
new_case "stopwords without texts"
set_bad $config "$prompt" 'superweight.stopwords="none.txt"' -- 'superweight.stopwords' 'superweight.corpus'
new_case "texts without stopwords"
set_bad $config "$prompt" 'superweight.corpus="none.txt"' -- 'superweight.corpus' 'superweight.stopwords'
new_case "no file of stopwords"
set_bad $input "$prompt" 'superweight.stopwords="none.txt"' 'superweight.corpus="calibration.txt"' 'superweight.max_length=16' -- 'none.txt' 'cannot be read'
new_case "no texts of the stopwords"
set_bad $input "$prompt" 'superweight.stopwords="calibration.txt"' 'superweight.corpus="none.txt"' 'superweight.max_length=16' -- 'none.txt' 'cannot be read'
new_case "no list of published coordinates"
set_bad $input "$prompt" 'superweight.known="none.json"' -- 'superweight.known' 'none.json' 'cannot be read'
new_case "a list of published super weights with a place between two"
echo '{"models": [{"name": "other", "weights": [{"layer": 1.5, "row": 0, "channel": 0}]}]}' >list.json
set_bad $format "$prompt" 'superweight.known="list.json"' -- 'list.json' 'counted from 0'
new_case "no stopwords"
: >none.txt
set_bad $input "$prompt" 'superweight.stopwords="none.txt"' 'superweight.corpus="calibration.txt"' 'superweight.max_length=16' -- 'superweight.stopwords' 'none.txt'
rm none.txt
new_case "texts of stopwords longer than the model allows"
set_bad $config "$prompt" 'superweight.stopwords="calibration.txt"' 'superweight.corpus="calibration.txt"' -- 'superweight.max_length' '64 or less'
new_case "audit of a model that the experiment lacks"
set_bad $config 'audit.folders=({name="a";path="model";model="tinny";})' -- 'audit.folders.\[0\].model' 'did you mean "tiny"'
new_case "two audited folders of one name"
set_bad $config 'audit.folders=({name="a";path="model";},{name="a";path="model";})' -- 'audit.folders.\[1\].name' 'used twice'
one() { echo "export=({variant=\"$1\";path=\"$2\";})"; }
on="1 3"
new_case "export of an unknown variant"
set_bad $config "$(one lp@0.6 out)" -- 'export.\[0\].variant' '"lp@0.5"'
on=1
new_case "export to a folder of somebody else's"
set_bad $io "$(one lp@0.5 sound)" -- 'sound: holds "config.json", which lode did not write'
new_case "export to a file"
set_bad $io "$(one lp@0.5 sound.txt)" -- 'sound.txt: is in the way'
new_case "export below a file"
set_bad $io "$(one lp@0.5 sound.txt/x)" -- 'sound.txt/x: a file is in the way' 'another path'
new_case "export over the model"
set_bad $config "$(one lp@0.5 sound/../model/)" -- 'export.\[0\].path' 'is the model itself'
new_case "export under the name of an unfinished one"
set_bad $config "$(one lp@0.5 out.partial/)" -- 'export.\[0\].path' 'ends in .partial'
new_case "two exports to one folder"
set_bad $config 'export=({variant="dense";path="out/a";},{variant="lp@0.5";path="./out//a/";})' -- 'export.\[1\].path' 'same folder'
new_case "one export in another's folder"
set_bad $config 'export=({variant="dense";path="out/a";},{variant="lp@0.5";path="out";})' -- 'export.\[1\].path' 'lies in the other'

new_case "sparsity that leaves less than the core"
for command in check run; do
    fails $config 'prune.sparsity 0.9 removes 43 of the 48' 'only 24 may go' -- "$lode" $command exp.cfg --set 'prune.methods=["scar-lp"]' --set prune.sparsity=0.9 --set classify.core_fraction=0.5
done

# These depend on what is found: all stages before are complete.
on="1 3" leaves='*.h5'
new_case "rate that no mask of the sparsity can have"
fails $config 'exactly 1 of the 2' 'probe.rates' -- "$lode" run exp.cfg --set 'probe.checks=["dose-response"]' --set 'probe.rates=(0.5)' --set probe.sparsity=0.01 --set probe.max_length=16
on=1
new_case "floor above what the sparsity leaves"
fails $config 'prune.sparsity 0.5' 'prune.floor' -- "$lode" run exp.cfg --set 'prune.allocation=["global"]' --set prune.floor=0.9
new_case "sliced export of layers of different widths"
fails $config 'export.\[0\].layout' '"padded"' -- "$lode" run exp.cfg --set 'prune.allocation=["global"]' --set 'export=({variant="lp@0.5+global";path="out";layout="sliced";})'
if [ -e out ] || [ -e out.partial ]; then wrong "a folder is left"; fi
leaves=
on="1 3"

# --- training and series --------------------------------------------------------------------------

on=1
train='train.corpus="sound.txt"' few='train.length=16'
new_case "training without a text"
set_bad $config train.steps=2 -- 'train.corpus: required key is missing' 'train.steps'
new_case "training text missing"
set_bad $input train.steps=2 'train.corpus="none.txt"' $few -- 'none.txt' 'cannot be read'
new_case "validation text missing"
set_bad $input train.steps=2 "$train" $few 'train.validation.corpus="none.txt"' -- 'none.txt' 'cannot be read'
new_case "groups that replicas cannot share"
set_bad $config train.steps=2 "$train" $few micro_batch=32 train.batch=6 train.groups=2 -- \
    'train.groups: 2' '3 micro-batches' 'set it to 1'
new_case "sequences of training longer than the model allows"
set_bad $config train.steps=2 "$train" train.length=65 -- 'train.length: 65' 'tiny' '64 or less'
new_case "warm-up beyond the last step"
set_bad $config train.steps=2 "$train" $few train.warmup=3 -- 'train.warmup: 3' 'set it to 2 or less'
new_case "checkpoint beyond the last step"
set_bad $config train.steps=2 "$train" $few 'train.checkpoints=[3]' -- 'train.checkpoints: 3' 'train longer'
new_case "layer that the model lacks"
set_bad $config train.steps=2 "$train" $few 'train.entropy.layers=(40)' -- 'train.entropy.layers' 'no layer 40'
new_case "tokenizer of one's own for a checkpoint"
set_bad $config train.steps=2 "$train" $few train.tokenizer.vocabulary=300 -- 'train.tokenizer.vocabulary' 'from = "scratch"'
new_case "tokenizer larger than the model's vocabulary"
set_bad $config train.steps=2 'train.from="scratch"' "$train" $few train.tokenizer.vocabulary=300000 -- \
    'train.tokenizer.vocabulary: 300000' 'vocab_size'
new_case "from scratch without a tokenizer"
rm model/tokenizer.json model/*.safetensors
set_bad $input train.steps=2 'train.from="scratch"' "$train" $few -- 'model/tokenizer.json: missing' 'train.tokenizer.vocabulary'
new_case "from scratch without config.json"
rm model/config.json
set_bad $input train.steps=2 'train.from="scratch"' "$train" $few -- 'model/config.json'
new_case "training text shorter than a sequence"
echo "a b" >short.txt
leaves=.lock fails $input 'short.txt: has [0-9]+ tokens' 'train.length = 16' -- \
    "$lode" run exp.cfg --set train.steps=2 --set 'train.corpus="short.txt"' --set $few --stages tokenize
new_case "checkpoint of a model that was not trained"
fails $input 'results/e/tiny/tokenize.h5: missing' 'run the stage tokenize' -- \
    "$lode" run exp.cfg --set train.steps=2 --set "$train" --set $few --model tiny-step-000002
new_case "checkpoint that no step leaves"
fails $usage '--model tiny-step-000001' '"tiny"' -- \
    "$lode" run exp.cfg --set train.steps=2 --set "$train" --set $few --model tiny-step-000001
new_case "neither path nor steps"
set_bad $config 'models=({name="tiny";})' -- 'models.\[0\].path: required' 'steps'
new_case "path and steps"
set_bad $config 'models=({name="tiny";path="model";steps="model";})' -- 'models.\[0\].steps' 'name alone'
new_case "folder of steps without any"
set_bad $config 'models=({name="tiny";steps="model";})' -- 'models.\[0\].steps: model: has no folder with a step'
new_case "folder of steps missing"
set_bad $config 'models=({name="tiny";steps="none";})' -- 'models.\[0\].steps: none: cannot be listed'
new_case "two folders of a step"
mkdir -p model/step-3 model/step3
set_bad $config 'models=({name="tiny";steps="model";})' -- 'step-3 and step3 are both of step 3' 'series and step'
new_case "step of no series"
set_bad $config 'models=({name="tiny";path="model";step=3;})' -- 'models.\[0\].step' 'key series'
new_case "series without a step"
set_bad $config 'models=({name="tiny";path="model";series="s";})' -- 'models.\[0\].series' 'key step'
new_case "folder of a step that is no model"
mkdir -p model/step-3
set_bad $input 'models=({name="tiny";steps="model";})' -- 'model/step-3'

# --- model --------------------------------------------------------------------------------------

new_case "no model folder"
rm -r model
bad $input 'model: ' 'Hugging Face folder'
on=1
new_case "no config.json"
rm model/config.json
bad $input 'model/config.json'
new_case "no tokenizer.json"
rm model/tokenizer.json
bad $input 'model: ' 'tokenizer.json' 'fetch'
new_case "no weights"
rm model/model.safetensors
bad $input 'model: ' 'model.safetensors' 'convert'
new_case "missing shard"
spoilt sharded
rm model/model-00002-of-00002.safetensors
bad $input 'model.safetensors.index.json' 'model-00002-of-00002' 'fetch'
new_case "index that is not JSON"
spoilt sharded
echo '{"weight_map": [' | replace model/model.safetensors.index.json
bad $format 'model.safetensors.index.json' 'line'
new_case "index that leaves the folder"
spoilt sharded
edit model/model.safetensors.index.json 's/"model-00002-/"..\/model-00002-/'
bad $format 'model.safetensors.index.json' 'plain name'
new_case "unknown model_type"
edit model/config.json 's/"model_type": "llama"/"model_type": "mamba"/'
bad $unsupported 'model/config.json: "model_type" is "mamba"' 'llama'
new_case "a model of text and images"
edit model/config.json 's/"model_type": "llama"/"model_type": "llava", "text_config": {}/'
bad $unsupported 'model/config.json: "model_type" is "llava"' 'wraps a language model'
new_case "option that is not implemented"
edit model/config.json 's/"hidden_act": "silu"/"hidden_act": "quick_gelu"/'
bad $unsupported 'model/config.json: "hidden_act" is "quick_gelu"' 'supported: "silu"'
new_case "experts"
edit model/config.json 's/"model_type": "llama"/"model_type": "llama", "num_local_experts": 8/'
bad $unsupported 'model/config.json: "num_local_experts" is 8' 'use a checkpoint without it'
new_case "rotary positions of an unknown kind"
edit model/config.json 's/"model_type": "llama"/&, "rope_scaling": {"type": "ntk", "factor": 2}/'
bad $unsupported 'model/config.json: "rope_scaling" is "ntk"' 'supported: "default", "linear"'
new_case "rotary positions without a factor"
edit model/config.json 's/"model_type": "llama"/&, "rope_scaling": {"rope_type": "yarn"}/'
bad $format 'model/config.json: "rope_scaling" has no "factor"'
new_case "fused tensor of another width"
rm -rf model
cp -r "$root/tests/golden/families/phi3" model
cp sound/tokenizer.json model/
edit model/config.json 's/"intermediate_size": 36/"intermediate_size": 40/'
bad $shape 'model/model.safetensors: tensor "model.layers.0.mlp.gate_up_proj.weight"' \
    'shape \[72, ?24\]' '\[80, ?24\]'
new_case "config.json without a key"
edit model/config.json '/intermediate_size/d'
bad $format 'model/config.json: "intermediate_size" is missing'
new_case "config.json out of range"
edit model/config.json 's/"hidden_size": 16/"hidden_size": -16/'
bad $format 'model/config.json: "hidden_size" is -16'
new_case "config.json that is not JSON"
echo 'hidden_size = 16' | replace model/config.json
bad $format 'model/config.json: line 1'
new_case "missing tensor"
spoilt missing-tensor
bad $format 'model/model.safetensors' 'model.layers.2.mlp.up_proj.weight' 'config.json'
new_case "wrong shape"
spoilt wrong-shape
bad $shape 'model/model.safetensors' 'model.layers.2.mlp.up_proj.weight' '\[49, ?16\]' '\[48, ?16\]'
new_case "wrong dtype"
spoilt wrong-dtype
bad $shape 'model/model.safetensors' 'model.layers.2.mlp.up_proj.weight' 'I32' 'supported: F32'
on="1 3"
new_case "truncated weights"
head -c 20000 sound/model.safetensors | replace model/model.safetensors
bad $format 'model/model.safetensors' 'truncated' 'fetch it again'
on=1
new_case "weights cut in the header"
head -c 200 sound/model.safetensors | replace model/model.safetensors
bad $format 'model/model.safetensors' 'truncated' 'fetch it again'
new_case "empty weights"
replace model/model.safetensors </dev/null
bad $format 'model/model.safetensors' '0 bytes' 'fetch it again'
new_case "Git LFS pointer"
echo 'version https://git-lfs.github.com/spec/v1' | replace model/model.safetensors
bad $format 'model/model.safetensors' 'LFS' 'git lfs pull'
new_case "weights are a folder"
rm model/model.safetensors
mkdir model/model.safetensors
bad $input 'model/model.safetensors' 'regular file'
new_case "huge header"
safetensors '{}' 100 $((1 << 62)) | replace model/model.safetensors
bad $format 'model/model.safetensors' 'limit' 'damaged'
new_case "header that is not JSON"
safetensors '{"a": [' 8 | replace model/model.safetensors
bad $format 'model/model.safetensors'
new_case "header of deep JSON"
safetensors "{\"a\": $(head -c 60000 /dev/zero | tr '\0' '[')" 8 | replace model/model.safetensors
bad $format 'model/model.safetensors' 'depth|deep|nest'
new_case "overlapping tensors"
safetensors '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}' 12 |
    replace model/model.safetensors
bad $format 'model/model.safetensors' '"b"' 'overlap'
new_case "tensor beyond the end"
safetensors '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9223372036854775800]}}' 8 | replace model/model.safetensors
bad $format 'model/model.safetensors' '"a"' 'data_offsets'
new_case "shape that overflows"
safetensors '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}' 8 | replace model/model.safetensors
bad $format 'model/model.safetensors' '"a"' '63 bits'

# --- tokenizer ----------------------------------------------------------------------------------

new_case "tokenizer that is not JSON"
echo '{"model": ' | replace model/tokenizer.json
bad $format 'model/tokenizer.json' 'not JSON' 'line'
new_case "tokenizer without a model"
edit model/tokenizer.json 's/"model":/"modell":/'
bad $format 'model/tokenizer.json' '"model" is missing'
new_case "tokenizer without a vocabulary"
edit model/tokenizer.json 's/"vocab":/"vocabulary":/'
bad $format 'model/tokenizer.json' '"vocab" is missing'
new_case "tokenizer of another type"
edit model/tokenizer.json 's/"type": "BPE"/"type": "WordPiece"/'
bad $unsupported 'model/tokenizer.json' '"WordPiece"' 'BPE'
new_case "unknown token that is not in the vocabulary"
tokenizer '"<unknown>"' | replace model/tokenizer.json
printf 'some text\nan UPPER case one\n' | replace calibration.txt
bad $format 'model/tokenizer.json' 'calibration.txt' '"U"' 'unk_token'
new_case "tokens beyond the model's vocabulary"
edit model/tokenizer.json 's/"z": 29/"z": 32/'
bad $format 'model/tokenizer.json' 'token id 32' 'another model'

# --- texts --------------------------------------------------------------------------------------

new_case "no corpus"
rm calibration.txt
bad $input 'calibration.txt' 'cannot be read'
new_case "corpus is a folder"
rm calibration.txt
mkdir calibration.txt
bad $input 'calibration.txt' 'not a regular file'
new_case "empty corpus"
replace calibration.txt </dev/null
bad $input 'calibration.txt' 'no text'
new_case "corpus of white space"
printf ' \n\t\n\n' | replace calibration.txt
bad $input 'calibration.txt' 'no text'
new_case "invalid UTF-8"
printf 'good text\nbad \xff text\n' | replace calibration.txt
bad $format 'calibration.txt' 'byte 14|offset 14' 'UTF-8'
new_case "bad line of JSON"
printf '{"text": "good"}\n{"text": \n' | replace calibration.txt
fails $format 'calibration.txt' 'line 2' -- "$lode" run exp.cfg --set 'calibration.format="jsonl"'
new_case "line of JSON without its field"
printf '{"text": "good"}\n{"test": "bad"}\n' | replace calibration.txt
fails $format 'calibration.txt' 'line 2' '"text"' 'name the key' -- "$lode" run exp.cfg --set 'calibration.format="jsonl"'
on="1 3"
new_case "corpus too short to pack"
echo 'short' | replace calibration.txt
fails $input 'calibration.txt' '24 tokens' 'longer' -- "$lode" run exp.cfg --set 'calibration.packing="packed"'
new_case "evaluation shorter than a window"
echo 'short' | replace evaluation.txt
bad $input 'evaluation.txt' '"p"' 'length = 16' 'longer corpus or shorter windows'
new_case "bad second item of a task"
printf '%s\n' '{"requests": [["the", " fox"]], "gold": 0}' '{"requests": [["the", " fox"]], "gold": 1}' >items.jsonl
tasks='evaluate.tasks=({name="t";path="items.jsonl";})'
fails $format 'items.jsonl: line 2' '"gold" is 1' -- "$lode" run exp.cfg --set "$tasks"
new_case "continuation longer than the model"
printf '{"requests": [["the", " %s"]], "gold": 0}\n' "$(printf 'fox %.0s' {1..100})" >items.jsonl
fails $input 'items.jsonl: line 1: request 0' '401 tokens, the model has 64 positions' 'take the item out' -- "$lode" run exp.cfg --set "$tasks"
on=1
new_case "byte order mark"
printf '\xef\xbb\xbf{"requests": [["the", " fox"]], "gold": 0}\n' >items.jsonl
fails $format 'items.jsonl: begins with a byte order mark' 'UTF-8 without' -- "$lode" run exp.cfg --set "$tasks"
new_case "control characters in what a message quotes"
printf '{"requests": [["the", " fox"]], "gold": 0} \033[2J\rx\n' >items.jsonl
fails $format 'items.jsonl: line 1' "near '[?]'" -- "$lode" run exp.cfg --set "$tasks"
new_case "lone surrogate"
printf '{"requests": [["the \\ud800", " fox"]], "gold": 0}\n' >items.jsonl
fails $format 'items.jsonl: line 1' 'invalid Unicode' -- "$lode" run exp.cfg --set "$tasks"
on="1 3"
new_case "empty evaluation"
replace evaluation.txt </dev/null
bad $input 'evaluation.txt' 'no text'

# --- numbers and memory -------------------------------------------------------------------------

leaves=tokenize.h5
new_case "NaN in a layer"
spoilt nan-layer
bad $numeric 'layer 2' 'tiny' 'NaN' 'checkpoint'
new_case "NaN in the head"
spoilt nan-head
bad $numeric 'head' 'tiny' 'NaN' 'checkpoint'
new_case "too small a memory budget"
edit exp.cfg 's/sequences = 6; max_length = 24/sequences = 64; max_length = 64/'
for i in {1..64}; do cat sound.txt; done | tr -d '\n' | fold -w 60 | replace calibration.txt
fails $memory 'MB' 'raise memory' -- "$lode" run exp.cfg --set memory=1048576
leaves=

# --- results ------------------------------------------------------------------------------------

# The results of a sound run, to go on from; $1 ... are the stages whose files are left out.
new_results() {
    new_case "$1"
    shift
    cp -a finished results
    rm results/e/summary.csv results/e/report.html
    for stage in "$@"; do rm "results/e/tiny/$stage.h5"; done
}

# Whether a full run puts right what was wrong: as the sound run left it.
heals() {
    ranks=1
    start "$lode" run exp.cfg
    [ ! -e statuses ] || wrong "lode run does not put it right"
    for file in finished/e/tiny/*.h5; do
        cmp -s <("$lode" digest "$file") <("$lode" digest "results/${file#finished/}") ||
            wrong "${file##*/} differs from the sound run's"
    done
    cmp -s finished/e/summary.csv results/e/summary.csv || wrong "summary.csv differs"
}

new_case "a file in place of the results"
echo >results
bad $io 'results' 'a file is in the way' 'choose another'
on=1
new_case "a file in place of the model's results"
mkdir -p results/e
echo >results/e/tiny
bad $io 'results/e/tiny' 'a file is in the way' 'choose another'
new_case "results where nothing can be written"
fails $io '/proc/lode' 'choose another' -- "$lode" run exp.cfg --set 'results="/proc/lode"'
on="1 3"
new_case "another run at work"
mkdir -p results/e/tiny
exec 9>results/e/tiny/.lock
flock 9
bad $busy 'results/e/tiny is in use' 'wait for that run'
exec 9>&-
new_case "limit on the size of files"
ln -sfn "$root/configs" configs
# shellcheck disable=SC2016
leaves=tokenize.h5 fails $io 'calibrate.h5' '"/?logits"' 'File too large' 'space' -- bash -c \
    'ulimit -f 32768; exec "$@"' limited "$lode" run configs/quickstart.cfg --set calibration.keep_logits=64
new_case "a full disk"
mkdir results
if [ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=96k none results 2>/dev/null; then
    mounted=$PWD/results
    bad $io 'tokenize.h5' 'No space left' 'free some space'
    umount results
    mount -t tmpfs -o ro none results
    bad $io 'results/e' 'Read-only' 'choose another'
    umount results
    mounted=
else
    echo "not tested, for want of the right to mount: $what"
fi

new_case "a stage without any before"
fails $input 'results/e/tiny/tokenize.h5: missing' 'run the stage tokenize first' -- "$lode" run exp.cfg --stages classify
on=1
for pair in "accumulate classify" "classify prune" "prune evaluate"; do
    read -r first second <<<"$pair"
    new_results "$second without $first" "$first" "$second"
    fails $input "results/e/tiny/$first.h5: missing" "run the stage $first first" -- "$lode" run exp.cfg --stages "$second"
done
new_results "a stage's own program" accumulate classify
fails $input 'accumulate.h5: missing' 'run the stage accumulate first' -- "$(dirname "$lode")/lode-classify" exp.cfg
new_case "report without results"
fails $input 'results/e: missing' 'run the experiment first' -- "$lode" report exp.cfg
new_case "digest of something else"
fails $format 'exp.cfg' 'HDF5' -- "$lode" digest exp.cfg
new_case "standard output that cannot be written"
# shellcheck disable=SC2016
fails $io 'standard output' -- bash -c '"$@" >/dev/full' full "$lode" keys

on="1 3"
new_results "a stage before of other parameters"
fails $input 'accumulate.h5' 'run the stage accumulate' -- "$lode" run exp.cfg --stages classify --set 'calibration.loss="sum"'
new_results "a stage before that was cut short"
truncate -s 20000 results/e/tiny/accumulate.h5
fails $format 'accumulate.h5' 'run its stage again|run the stage' -- "$lode" run exp.cfg --stages classify --force
heals
on=1
new_results "a stage before that is empty"
: >results/e/tiny/accumulate.h5
fails $format 'accumulate.h5' 'run its stage again|run the stage' -- "$lode" run exp.cfg --stages classify --force
heals
new_results "a stage before that is something else"
cp exp.cfg results/e/tiny/tokenize.h5
fails $format 'tokenize.h5' 'run its stage again|run the stage' -- "$lode" run exp.cfg --stages calibrate
heals
new_results "a result that was cut short"
truncate -s 20000 results/e/tiny/evaluate.h5
fails $format 'evaluate.h5' 'run its stage again|run the stage' -- "$lode" report exp.cfg
heals
# Whatever bytes a file holds, reading it ends in an error or in the sound result, and never in a
# crash.
for offset in 0 8 40 96 200 800 1200 2100 3000 5000; do
    new_results "a stage before with garbage at $offset" classify
    head -c 64 sound/model.safetensors | tail -c 48 |
        dd of=results/e/tiny/accumulate.h5 bs=1 seek=$offset conv=notrunc status=none
    ranks=1
    start "$lode" run exp.cfg --stages classify
    [ ! -e statuses ] || [ "$(cat statuses)" -le 13 ] || wrong "the status is $(cat statuses)"
    cases=$((cases + 1))
done

echo "$cases cases, $failures failures"
[ "$failures" -eq 0 ]
