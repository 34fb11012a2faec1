#!/usr/bin/env bash
# Trains a small model, and proves: the loss falls; weights, curves and folders have the same bytes
# on any number of ranks and replicas, and after being killed and stopped at random moments and going
# on elsewhere; the folders are models that all stages run on; and what can go wrong is said.
#
#     tests/stages/train.sh [SEED]
#
# LODE names the program (default: that of build-release). Exit status: 0 passed, 1 failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"

RANDOM=${1:-11}
export TMPDIR=$work OMPI_MCA_btl_vader_backing_directory=$work # what killed launchers leave
export OMPI_MCA_odls_base_sigkill_timeout=0
experiment=tests/stages/train.cfg
export LODE_TRAIN_MODEL=$work/model LODE_TRAIN_TEXT=$work/text.txt
head -n 12 configs/quickstart/text/evaluation.txt >"$LODE_TRAIN_TEXT"
mkdir "$work/model"
cp configs/quickstart/model/tokenizer.json "$work/model"
echo '{"temperature": 1}' >"$work/model/generation_config.json"
# config TIED VOCABULARY: a config.json
config() {
    cat <<END
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
 "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
 "num_key_value_heads": 2, "vocab_size": $2, "max_position_embeddings": 64,
 "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "hidden_act": "silu", "bos_token_id": 1,
 "eos_token_id": 2, "tie_word_embeddings": $1, "torch_dtype": "float32"}
END
}
config true 2048 >"$work/model/config.json"

training=(--stages "tokenize,train")

# alike WHAT WANT GOT STEP ...: whether two models' folders, below $work, have the same training
alike() {
    local what=$1 want=$2 got=$3 step
    shift 3
    same "$what" "$want" "$got" train
    for step; do
        if ! diff -r "$work/$want/step-$step" "$work/$got/step-$step" >"$work/diff"; then
            bad "$what: step-$step differs: $(cat "$work/diff")"
        fi
    done
    if [ -n "$(find "$work/$got" -name '*.partial*' -o -name '*state*' -o -name '*.replaced')" ]; then
        bad "$what: left" "$work/$got"/*
    fi
}
steps=(000000 000010 000020 000030)

# losses: the validation losses that the last run said, one a line
losses() { sed -n 's/^lode: train: after step .* the validation loss is \([0-9.]*\) .*/\1/p' "$work/log"; }

# --- a training ---------------------------------------------------------------------------------

lode_run 1 $experiment one "${training[@]}"
if losses | awk 'NR == 1 { first = $1 } { last = $1 } END { exit !(NR == 4 && first > 7.4 && first < 7.9 && last < first - 1) }'; then
    ok "validation losses fall: $(losses | tr '\n' ' ')"
else
    bad "validation losses:" "$(cat "$work/log")"
fi
if [ "$(cd "$work/one/train/tiny/step-000010" && printf '%s ' *)" = \
    "config.json generation_config.json lodestone.json model.safetensors tokenizer.json " ] &&
    grep -q '"torch_dtype": "bfloat16"' "$work/one/train/tiny/step-000010/config.json" &&
    ! grep -q lm_head "$work/one/train/tiny/step-000010/model.safetensors"; then
    ok "the files of a folder"
else
    bad "the files of a folder are" "$work"/one/train/tiny/step-000010/*
fi
for word in '"series": "tiny"' '"step": 10' '"digest": "[0-9a-f]\{32\}"' '"dtype": "BF16"'; do
    if ! grep -q "$word" "$work/one/train/tiny/step-000010/lodestone.json"; then
        bad "lodestone.json does not say $word"
    fi
done

while read -r ranks replicas; do
    lode_run "$ranks" $experiment "p$ranks-$replicas" "${training[@]}" --set "replicas=$replicas"
    alike "$ranks ranks, replicas=$replicas" one/train/tiny "p$ranks-$replicas/train/tiny" \
        "${steps[@]}"
done <<END
2 0
2 2
3 1
4 4
8 2
8 0
END

# --- interrupted --------------------------------------------------------------------------------

now() { date +%s%3N; }

# await: waits for the run in the background, and sets `status`
await() {
    status=0
    wait "$run" 2>/dev/null || status=$?
}

# start RANKS FOLDER OPTION ...: a training in the background
start() {
    local ranks=$1 folder=$2 launcher=()
    shift 2
    if [ "$ranks" -gt 1 ]; then launcher=(mpirun -q -n "$ranks" --oversubscribe --bind-to none); fi
    "${launcher[@]}" "$lode" run $experiment --set "results=$work/$folder" "${training[@]}" "$@" \
        </dev/null >"$work/log" 2>&1 &
    run=$!
}

# strike SIGNAL LEAST MOST: sends it to the run's ranks when a training has begun and a random number
# of milliseconds in between has passed
strike() {
    local until victims
    until=$(($(now) + 20000))
    while kill -0 "$run" 2>/dev/null && ! [ -e "$work/killed/train/tiny/train.h5.partial" ] &&
        [ "$(now)" -lt "$until" ]; do
        sleep 0.01
    done
    sleep "0.$(printf %03d $(($2 + RANDOM % ($3 - $2 + 1))))"
    mapfile -t victims < <(pgrep -P "$run" || true)
    if [ "${#victims[@]}" -eq 0 ] || [ "$1" = KILL ]; then victims+=("$run"); fi
    kill "-$1" "${victims[@]}" 2>/dev/null || true
}

tall=(--set train.steps=120 --set train.checkpoints='[0,7,40,90]' --set train.validation.every=50)
lode_run 1 $experiment tall "${training[@]}" "${tall[@]}"
struck=0 status=1
while read -r ranks signal; do
    start "$ranks" killed "${tall[@]}"
    strike "$signal" 0 400
    await
    case $signal:$status in
    *:0) break ;;
    TERM:75)
        struck=$((struck + 1))
        said "stopped on $ranks ranks after $(sed -n 's/.* after step \([0-9]* of [0-9]*\);.*/\1/p' "$work/log")" \
            "run the same command again"
        ;;
    KILL:*) struck=$((struck + 1)) ;;
    *) bad "exit status $status after $signal:" "$(cat "$work/log")" ;;
    esac
done <<END
2 KILL
1 TERM
3 KILL
4 TERM
1 KILL
2 TERM
2 KILL
END
lode_run 2 $experiment killed "${training[@]}" "${tall[@]}"
ok "$struck times interrupted"
alike "interrupted" tall/train/tiny killed/train/tiny 000000 000007 000040 000090 000120

# Killed at every write that a training of a few steps makes, folders and states among them.
short=(--set train.steps=4 --set train.checkpoints='[2]' --set train.save=1
    --set train.validation.every=2)
lode_run 1 $experiment short "${training[@]}" "${short[@]}"
writes=$(LODE_FAULT=count "$lode" run $experiment --set "results=$work/count" "${training[@]}" \
    "${short[@]}" 2>&1 </dev/null | sed -n 's/.*write \([0-9]*\).*/\1/p')
