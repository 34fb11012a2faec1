#!/usr/bin/env bash
# lode synthesize and lode bench: tiny models of every family, and what a user can get wrong.
#
#   tests/stages/bench.sh        (LODE names the program)
# shellcheck source=tests/stages/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
families=$root/tests/golden/families
cd "$work"

# refuses STATUS PATTERN ARGUMENT ...: lode ends with the status and one message that has the pattern
refuses() {
    local status=$1 pattern=$2 got=0
    shift 2
    "$lode" "$@" >/dev/null 2>log || got=$?
    if [ "$got" -eq "$status" ] && [ "$(grep -c '^lode: error: ' log)" -eq 1 ] &&
        grep -q -E -e "$pattern" log; then
        ok "refused: lode $*"
    else
        bad "lode $*: status $got, not $status with \"$pattern\":"
        cat log
    fi
}

made() {
    "$lode" synthesize "$@" >out 2>log || { bad "lode synthesize $*"; cat log; }
}

# --- synthesize -----------------------------------------------------------------------------------

made "$families/llama" one
made "$families/llama/config.json" two --threads 3
if cmp -s one/model.safetensors two/model.safetensors; then ok "equal bytes on other threads"; else bad "threads change weights"; fi
made "$families/llama" two --seed 7
if cmp -s one/model.safetensors two/model.safetensors; then bad "the seed changes nothing"; else ok "another seed"; fi
made "$families/llama" sharded --shard-size 20K --layers 5 --dtype F32
if [ -e sharded/model.safetensors.index.json ] && grep -q '"num_hidden_layers": 5' sharded/config.json &&
    grep -q '"dtype": "float32"' sharded/config.json; then
    ok "five layers in shards"
else
    bad "sharded: $(ls sharded)"
fi

# Every model is read as it was written, and computes; the tokenizer is one of bytes.
head -c 400 "$root/configs/quickstart/text/evaluation.txt" >text.txt
experiment() {
    cat <<END
name = "e"; results = "results"; models = ( $1 );
calibration = { corpus = "text.txt"; sequences = 2; max_length = 16; };
classify = { core_fraction = 0.05; write_support = 2; };
prune = { methods = [ "lp" ]; sparsity = ( 0.5 ); };
evaluate = { perplexity = ( { name = "p"; corpus = "text.txt"; length = 16; } ); };
END
}
models='{ name = "sharded"; path = "sharded"; }'
for family in "$families"/*/; do
    name=$(basename "$family")
    made "$family" "family-$name" --dtype F16 --layers 3
    models="$models, { name = \"$name\"; path = \"family-$name\"; }"
done
experiment "$models" >all.cfg
if "$lode" check all.cfg >out 2>log; then ok "$(tail -n 1 out)"; else bad "$(cat log)"; fi
experiment "$models" >some.cfg
for name in sharded gemma2 gpt2 phi3; do
    if "$lode" run some.cfg --model "$name" >out 2>log; then
        ok "lode run on a synthesized $name"
    else
        bad "lode run on $name: $(cat log)"
    fi
done
# Perplexities of random models are about that of guessing.
if awk -F, '$7 == "perplexity" { n++; if (!($10 > 100 && $10 < 2000)) wrong = 1 } END { exit wrong || n < 8 }' results/e/summary.csv; then
    ok "perplexities near that of 288 tokens guessed"
else
    bad "perplexities: $(cut -d, -f1,2,7,10 results/e/summary.csv)"
fi
made one/config.json copy
if cmp -s one/tokenizer.json copy/tokenizer.json; then ok "the tokenizer is copied"; else bad "no tokenizer"; fi

refuses 2 'config.json and the folder' synthesize "$families/llama"
refuses 2 'no use for x' synthesize "$families/llama" y x
refuses 2 '--dtype F64' synthesize "$families/llama" new --dtype F64
refuses 2 '--layers 0' synthesize "$families/llama" new --layers 0
refuses 2 '--shard-size much' synthesize "$families/llama" new --shard-size much
refuses 4 'nowhere: ' synthesize nowhere new
mkdir theirs && echo text >theirs/notes
refuses 8 'theirs: holds "notes"' synthesize "$families/llama" theirs
echo text >file
refuses 8 'file' synthesize "$families/llama" file/new
sed 's/"hidden_size": 24/"hidden_size": 4194304/; s/"intermediate_size": 36/"intermediate_size": 1048576/' \
    "$families/llama/config.json" >huge.json
refuses 8 'huge: needs [0-9.]+ GB .* free' synthesize huge.json huge --layers 4000
sed 's/"model_type": "llama"/"model_type": "mamba"/' "$families/llama/config.json" >mamba.json
refuses 7 'mamba' synthesize mamba.json new
(
    ulimit -f 64
    refuses 8 'model.safetensors: cannot be written' synthesize "$root/configs/quickstart/model" new
    exit "$failed"
) || failed=1
if [ -e new ] || [ -e new.partial ] || [ -e huge.partial ]; then bad "something is left: $(ls)"; else ok "nothing is left"; fi

# --- bench ----------------------------------------------------------------------------------------

for name in llama gemma2 gpt2; do
    if "$lode" bench "$families/$name" --tokens 32 --length 12 --threads 1 --output "$name.json" >out 2>log &&
        grep -q '"sgemm_gflops": [0-9]' "$name.json" && grep -q '"training_gflops": [0-9]' "$name.json" &&
        grep -q '"optimizer_gbs": [0-9]' "$name.json" && grep -q 'all but linear layers' out; then
        ok "lode bench on $name"
    else
        bad "lode bench on $name: $(cat log out)"
    fi
done
if mpirun -q -n 2 --oversubscribe --bind-to none "$lode" bench "$families/llama" --tokens 16 --threads 1 \
    --dtype F32 --layers 1 --output two.json >out 2>log && grep -q '"ranks": 2' two.json; then
    ok "lode bench on two ranks"
else
    bad "lode bench on two ranks: $(cat log out)"
fi
refuses 2 'lode bench needs a file' bench
refuses 2 '--tokens none' bench "$families/llama" --tokens none
refuses 2 '--length 65.*64 positions' bench "$families/llama" --length 65
refuses 4 'nowhere' bench nowhere
refuses 8 '--output nowhere/b.json' bench "$families/llama" --output nowhere/b.json

exit "$failed"
