#!/usr/bin/env bash
# Models that come of training, seen from outside: they are models of their own, at every point of a
# sweep; points that train alike share the folders; what was trained otherwise is not taken for them;
# a folder that is damaged is made again; and the folders are a series of another experiment.
#
#     tests/stages/checkpoints.sh
#
# LODE names the program (default: that of build-release). Exit status: 0 passed, 1 failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"

head -n 12 configs/quickstart/text/evaluation.txt >"$work/text.txt"
mkdir "$work/model"
cat >"$work/model/config.json" <<END
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
 "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
 "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 64,
 "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "hidden_act": "silu", "bos_token_id": 1,
 "eos_token_id": 2, "tie_word_embeddings": true, "torch_dtype": "float32"}
END
cat >"$work/exp.cfg" <<END
name = "e"; micro_batch = 64;
models = ( { name = "tiny"; path = "$work/model"; } );
calibration = { corpus = "$work/text.txt"; sequences = 3; max_length = 24; };
classify = { core_fraction = 0.05; write_support = 4; redundancy = { sequences = 2; }; };
prune = { methods = [ "lp" ]; };
evaluate = { perplexity = ( { name = "p"; corpus = "$work/text.txt"; length = 16; } ); };
train = { steps = 4; from = "scratch"; corpus = "$work/text.txt"; length = 16; batch = 4;
          checkpoints = [ 0 ]; tokenizer = { vocabulary = 300; }; };
END
sweep='sweep=({ key = "classify.core_fraction"; values = ( 0.05, 0.1 ); })'
one=one/e/classify.core_fraction=0.05 two=one/e/classify.core_fraction=0.1

# refused WHAT PATTERN OPTION ...: whether lode run ends with a message that has the pattern
refused() {
    local what=$1 pattern=$2
    shift 2
    if "$lode" run "$work/exp.cfg" --set "results=$work/one" "$@" </dev/null >"$work/log" 2>&1; then
        bad "$what: was done"
    elif grep '^lode: error: ' "$work/log" | grep -q -e "$pattern"; then
        ok "$what: $(sed -n 's/^lode: error: //p' "$work/log")"
    else
        bad "$what: $(cat "$work/log")"
    fi
}

# --- a sweep ------------------------------------------------------------------------------------

refused "checkpoints before there are any" 'tiny/tokenizer.h5: missing' --model tiny-step-000004
lode_run 1 "$work/exp.cfg" one --set "$sweep"
for point in "$one" "$two"; do
    for model in tiny-step-000000 tiny-step-000004; do
        if [ -s "$work/$point/$model/evaluate.h5" ] && [ ! -e "$work/$point/$model/train.h5" ]; then
            ok "$point/$model was analysed"
        else
            bad "$point/$model has" "$work/$point/$model"/*
        fi
    done
    if [ -e "$work/$point/tiny/calibrate.h5" ]; then bad "a model without weights was analysed"; fi
done
said "train.h5 is shared" "$two/tiny/train.h5 is taken from"
said "tokenizer.h5 is shared" "$two/tiny/tokenizer.h5 is taken from"
if [ "$work/$one/tiny/step-000004/model.safetensors" -ef "$work/$two/tiny/step-000004/model.safetensors" ] &&
    cmp -s "$work/$one/tiny/tokenizer.json" "$work/$two/tiny/tokenizer.json"; then
    ok "the folders go with it"
else
    bad "the folders do not go with it"
fi
if grep -q '^tiny-step-000004,dense,' "$work/one/e/summary.csv"; then
    ok "the summary has the checkpoints"
else
    bad "summary.csv: $(cat "$work/one/e/summary.csv")"
fi
digests() { sed -n 's/^lode: digest of //p' "$work/log"; }
digests >"$work/first"

lode_run 1 "$work/exp.cfg" one --set "$sweep"
if grep -q 'train: step' "$work/log"; then bad "a complete training was done again"; fi
rm "$work/$two/tiny/step-000004/config.json" "$work/$one/tiny/tokenizer.json"
lode_run 2 "$work/exp.cfg" one --set "$sweep"
said "what is lost is made again" "the checkpoint of step 4 is written"
if digests | diff "$work/first" - && cmp -s "$work/$one/tiny/tokenizer.json" "$work/$two/tiny/tokenizer.json"; then
    ok "and is the same"
else
    bad "and is not the same"
fi

# --- one of them --------------------------------------------------------------------------------

lode_run 1 "$work/exp.cfg" one --set "$sweep" --model tiny-step-000004 --stages prune --force
if grep -q 'model tiny-step-000004, classify.core_fraction=0.1' "$work/log" &&
    ! grep -q 'model tiny,\|model tiny-step-000000' "$work/log"; then
    ok "one checkpoint alone"
else
    bad "one checkpoint alone: $(cat "$work/log")"
fi
refused "checkpoints of other settings" 'tiny/train.h5: missing, of other inputs or settings' \
    --set "$sweep" --set train.learning_rate=0.5 --model tiny-step-000004
lode_run 1 "$work/exp.cfg" fresh --stages tokenizer,tokenize
said "texts before training" "model tiny-step-000004 is not trained yet; it is left out"

# --- a series -----------------------------------------------------------------------------------

lode_run 1 "$work/exp.cfg" series --set "models=({ name = \"s\"; steps = \"$work/$one/tiny\"; })" \
    --set train.steps=0 --set train.tokenizer.vocabulary=0
for step in 000000 000004; do
    same "step $step as a model of a series" "$one/tiny-step-$step" "series/e/s-step-$step" \
        calibrate accumulate classify prune evaluate
done
if "$lode" check "$work/exp.cfg" --resolved --set "models=({ name = \"s\"; steps = \"$work/$one/tiny\"; })" \
    --set train.steps=0 --set train.tokenizer.vocabulary=0 |
    grep -q 'name = "s-step-000004"; path = ".*/step-000004"; steps = ""; series = "s"; step = 4'; then
    ok "what the folder of steps stands for"
else
    bad "what the folder of steps stands for"
fi
exit $failed
