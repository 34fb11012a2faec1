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
3 1
4 4
8 2
END

said "the layout of the training" "train: 3 layers over 4 ranks, in 2 replicas that share the sequences"
if grep -q 'model tiny: 3 layers over' "$work/log"; then bad "a layout that is not used"; fi

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

# strike RANKS SIGNAL LEAST MOST: sends it to the run's ranks when training has begun and a random
# number of milliseconds in between has passed
strike() {
    local until victims=("$run")
    until=$(($(now) + 20000))
    while kill -0 "$run" 2>/dev/null && ! grep -q 'train: ' "$work/log" && [ "$(now)" -lt "$until" ]; do
        sleep 0.01
    done
    sleep "0.$(printf %03d $(($3 + RANDOM % ($4 - $3 + 1))))"
    if [ "$1" -gt 1 ]; then mapfile -t victims < <(pgrep -P "$run" || true); fi
    if [ "$2" = KILL ]; then victims+=("$run"); fi
    kill "-$2" "${victims[@]}" 2>/dev/null || true
}

tall=(--set train.steps=100 --set train.checkpoints='[0,7,40,90]' --set train.validation.every=50)
lode_run 1 $experiment tall "${training[@]}" "${tall[@]}"
struck=0 status=1
while read -r ranks signal; do
    start "$ranks" killed "${tall[@]}"
    strike "$ranks" "$signal" 0 400
    await
    case $signal:$status in
    *:0) break ;;
    TERM:75)
        struck=$((struck + 1))
        said "stopped, of $ranks ranks, after $(sed -n 's/.* after step \([0-9]* of [0-9]*\);.*/\1/p' "$work/log")" \
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
if [ "$struck" -ge 2 ]; then ok "$struck times interrupted"; else bad "only $struck times interrupted"; fi
alike "interrupted" tall/train/tiny killed/train/tiny 000000 000007 000040 000090 000100

# Every so many writes of a training, folders and states among them, the last one is killed there.
short=(--set train.steps=4 --set train.warmup=2 --set train.checkpoints='[2]' --set train.save=1
    --set train.validation.every=2)
lode_run 1 $experiment short "${training[@]}" "${short[@]}"
kills=0
for call in 20 60 110 200; do
    rm -rf "$work/fault"
    LODE_FAULT=kill:call=$call start 1 fault "${short[@]}"
    await
    if [ "$status" -eq 137 ]; then kills=$((kills + 1)); fi
    lode_run 1 $experiment fault "${training[@]}" "${short[@]}"
    if ! diff -r "$work/short/train/tiny" "$work/fault/train/tiny" -x '*.h5' -x '*.lock' >"$work/diff" ||
        [ "$("$lode" digest "$work/fault/train/tiny/train.h5")" != \
            "$("$lode" digest "$work/short/train/tiny/train.h5")" ]; then
        bad "killed at write $call: $(cat "$work/diff")"
    fi
done
if [ "$kills" -ge 3 ]; then ok "killed at $kills writes"; else bad "only $kills kills at writes"; fi

# --- what is written, and when ------------------------------------------------------------------

lode_run 1 $experiment short "${training[@]}" "${short[@]}"
said "again: nothing to do" "train: complete, nothing to do"
before=$(stat -c '%n %i' "$work"/short/train/tiny/step-*)
rm "$work/short/train/tiny/step-000004/config.json"
lode_run 1 $experiment short "${training[@]}" "${short[@]}"
said "a file gone: it is trained again" "train: the checkpoint of step 4 is written"
said "a file gone: other folders are left alone" "train: the checkpoint of step 2 is there already"
if [ "$(stat -c '%n %i' "$work"/short/train/tiny/step-* | diff - <(echo "$before") | grep -c '^<')" -ne 1 ]; then
    bad "a file gone: folders were replaced"
fi
lode_run 1 $experiment short "${training[@]}" "${short[@]}" --force
if [ "$(stat -c '%n %i' "$work"/short/train/tiny/step-* | diff - <(echo "$before") | grep -c '^<')" -eq 2 ]; then
    ok "--force writes all folders again"
else
    bad "--force:" "$(cat "$work/log")"
fi

# fails STATUS PATTERN FOLDER OPTION ...: a run that must end with one message
fails() {
    local want=$1 pattern=$2 folder=$3
    shift 3
    start "${many:-1}" "$folder" "$@"
    await
    if [ "$status" -eq "$want" ] && [ "$(grep -c '^lode: error: ' "$work/log")" -eq 1 ] &&
        grep -q "^lode: error: .*$pattern" "$work/log"; then
        ok "refused: $(sed -n 's/^lode: error: //p' "$work/log")"
    else
        bad "exit status $status where \"$pattern\" was to be said:"
        cat "$work/log"
    fi
}

# A run that fails keeps what is done, also where it has come to its end and only train.h5 is left
# to be written: some writes before the last one, those of the checkpoint's own stages.
ending=(--set train.steps=2 --set train.warmup=0 --set 'train.checkpoints=[]' --set train.save=1000)
LODE_FAULT=count start 1 ending "${ending[@]}"
await
writes=$(sed -n 's/^lode: calls that can fail.* write \([0-9]*\) .*/\1/p' "$work/log")
until grep -q '^lode: error: .*train/tiny/train\.h5' "$work/log" || [ "$writes" -lt 10 ]; do
    rm -r "$work/ending"
    writes=$((writes - 6))
    LODE_FAULT=write:call=$writes start 1 ending "${ending[@]}"
    await
done
if [ -e "$work/ending/train/tiny/train-state.h5" ]; then
    ok "the result cannot be written: the state is there"
else
    bad "the result cannot be written: no state among" "$work/ending/train/tiny"/*
fi

mkdir -p "$work/place/train/tiny/train-state.h5"
many=2 fails 8 'train-state.h5: is a folder, where training keeps its state' place "${ending[@]}"
rmdir "$work/place/train/tiny/train-state.h5"
echo "no state" >"$work/place/train/tiny/train-state.h5"
lode_run 2 $experiment place "${training[@]}" "${ending[@]}" --set train.learning_rate=30.0
said "a state that is none" "train-state.h5 is no state that can be read, and cannot be gone on from"
said "a loss that rises" "warning: train: the validation loss was 7."

# One that goes on begins again where a checkpoint is gone; not for that of step 0.
LODE_FAULT=write:call=185 fails 8 'checkpoint of step 40' broken "${tall[@]}" --set train.save=1000
cp -r "$work/broken" "$work/changed"
lode_run 1 $experiment changed "${training[@]}" "${short[@]}"
said "a state of other settings" "train-state.h5 is of other settings or inputs, and cannot be gone on from"
cp -r "$work/broken" "$work/broken0"
rm -r "$work/broken0/train/tiny/step-000000" "$work/broken/train/tiny/step-000007"
lode_run 1 $experiment broken0 "${training[@]}" "${tall[@]}"
said "the checkpoint of step 0 gone" "going on from the state of step "
said "the checkpoint of step 0 gone: it is there again" "the checkpoint of step 0 is written"
alike "the checkpoint of step 0 gone" tall/train/tiny broken0/train/tiny 000000 000007 000040 000090 000100
lode_run 1 $experiment broken "${training[@]}" "${tall[@]}"
said "a checkpoint gone" "the checkpoint of step 7 is not there in BF16, and no state of that step or before; training begins again at step 0"
alike "a checkpoint gone" tall/train/tiny broken/train/tiny 000000 000007 000040 000090 000100

# --- other settings that leave the weights as they are --------------------------------------------

# What was trained before, whose last state stays; then others from there, against ones from nothing.
same_weights=("${training[@]}" --set train.decay=constant --set train.warmup=2 --set train.save=5)
base=("${same_weights[@]}" --set train.steps=12 --set train.checkpoints='[0,4,8]'
    --set train.validation.every=4)
lode_run 2 $experiment base "${base[@]}" --set train.keep_state=true
if [ -s "$work/base/train/tiny/train-state.h5" ]; then ok "the last state stays"; else bad "no state stays"; fi
lode_run 1 $experiment base "${base[@]}" --set train.keep_state=true
if [ -s "$work/base/train/tiny/train-state.h5" ] && grep -q 'train: complete' "$work/log"; then
    ok "and when there is nothing to do, too"
else
    bad "the state went: $(cat "$work/log")"
fi

# changed NAME RANKS TEXT FOLDERS KEY=VALUE ...: the base with these keys, which must say TEXT and be what
# one rank makes of them from nothing, with checkpoints at the steps FOLDERS
changed() {
    local name=$1 ranks=$2 text=$3 folders=$4 settings=("${same_weights[@]}") key
    shift 4
    for key; do settings+=(--set "$key"); done
    lode_run 1 $experiment "$name-fresh" "${settings[@]}"
    if [ ! -d "$work/$name" ]; then cp -r "$work/base" "$work/$name"; fi
    lode_run "$ranks" $experiment "$name" "${settings[@]}"
    said "$name" "$text"
    # shellcheck disable=SC2086
    alike "$name, $ranks ranks" "$name-fresh/train/tiny" "$name/train/tiny" $folders
}
more=(train.steps=20 'train.checkpoints=[0,4,14]' train.validation.every=4)
changed longer 3 "going on from the state of step 12 of 20" "000000 000004 000014 000020" "${more[@]}"
cp -r "$work/longer" "$work/fewer"
cp -r "$work/longer" "$work/gone"
changed fewer 1 "what comes after step 0 is known, and is not done again" "000014 000020" \
    train.steps=20 'train.checkpoints=[14]' train.validation.every=8
rm -r "$work/gone/train/tiny/step-000004"
changed gone 2 "no state of that step or before; training begins again at step 0" \
    "000000 000004 000014 000020" "${more[@]}"
said "and no more than 4 steps" "what comes after step 4 is known, and is not done again"
changed other-validation 2 "going on from the state of step 12 of 20" "000000 000020" train.steps=20 \
    'train.checkpoints=[0]' train.dtype=f32 train.validation.sequences=6 train.validation.every=0
changed unknown-validation 1 "the validation loss after step 3 is not known, and no state of that step or before; training begins again at step 0" \
    "000012" train.steps=12 'train.checkpoints=[]' train.validation.every=3
changed between 3 "the checkpoint of step 6 is not there in BF16" "000006 000014 000020" train.steps=20 \
    'train.checkpoints=[6,14]' train.validation.every=4
said "and then" "going on from the state of step 12 of 20"

# What a folder is called says neither of which step nor of which training it is.
cp -r "$work/base" "$work/mixed"
rm -r "$work/mixed/train/tiny/step-000004"
cp -r "$work/mixed/train/tiny/step-000008" "$work/mixed/train/tiny/step-000004"
changed mixed 1 "the checkpoint of step 4 is not there in BF16" "000000 000004 000008 000012" \
    train.steps=12 'train.checkpoints=[0,4,8]' train.validation.every=4
changed other-rate 2 "is of other settings or inputs" "000000 000001 000006" train.steps=6 \
    'train.checkpoints=[0,1]' train.learning_rate=1e-3 train.validation.every=0

# The same, killed while it is behind the state that it will go on from.
cp -r "$work/base" "$work/behind"
between=("${same_weights[@]}" --set train.steps=20 --set 'train.checkpoints=[6,14]' --set train.save=1
    --set train.validation.every=4)
behind=0
for call in 400 600; do
    LODE_FAULT=kill:call=$call start 1 behind "${between[@]}"
    await
    if [ -e "$work/behind/train/tiny/train-state-earlier.h5" ]; then behind=$((behind + 1)); fi
done
lode_run 3 $experiment behind "${between[@]}"
if [ "$behind" -eq 2 ]; then ok "killed behind a state: $behind times"; else bad "never killed behind a state"; fi
said "and then" "going on from the state of step 12 of 20"
alike "killed behind a state" between-fresh/train/tiny behind/train/tiny 000006 000014 000020

# --- from a checkpoint, with the entropy in the loss ---------------------------------------------

further=(--set 'models=({name="books3m";path="configs/quickstart/model";})' --set train.steps=4
    --set train.from=checkpoint --set 'train.checkpoints=[]' --set train.batch=8
    --set train.learning_rate=1e-3 --set train.warmup=0 --set 'train.validation.corpus=""' --set train.validation.every=0
    --set train.entropy.weight=1.0 --set 'train.entropy.layers=[1,4]' --set train.dtype=f32)
lode_run 1 $experiment further "${training[@]}" "${further[@]}"
lode_run 3 $experiment further3 "${training[@]}" "${further[@]}"
alike "from a checkpoint, 3 ranks" further/train/books3m further3/train/books3m 000004
# --- with a tokenizer of its own -----------------------------------------------------------------

mkdir "$work/bare"
config false 400 >"$work/bare/config.json"
own=("${short[@]}" --set "models=({name=\"own\";path=\"$work/bare\";})"
    --set train.tokenizer.vocabulary=400)
lode_run 2 $experiment own --stages tokenizer,tokenize,train "${own[@]}"
if cmp -s "$work/own/train/own/tokenizer.json" "$work/own/train/own/step-000004/tokenizer.json" &&
    [ "$(cd "$work/own/train/own/step-000004" && printf '%s ' *)" = \
        "config.json lodestone.json model.safetensors tokenizer.json " ]; then
    ok "a folder has the tokenizer that was made"
else
    bad "with a tokenizer of its own:" "$(cat "$work/log")" "$work"/own/train/own/step-000004/*
fi

# Killed on the way to it, and to its ids.
training=(--stages "tokenizer,tokenize,train")
kills=0
for call in 8 30 50 70; do
    rm -rf "$work/fault"
    LODE_FAULT=kill:call=$call start 1 fault "${own[@]}"
    await
    if [ "$status" -eq 137 ] && [ ! -e "$work/fault/train/own/train.h5" ]; then kills=$((kills + 1)); fi
    lode_run 2 $experiment fault "${training[@]}" "${own[@]}"
    if ! diff -r "$work/own/train/own" "$work/fault/train/own" -x '*.h5' -x '*.lock' >"$work/diff" ||
        [ "$("$lode" digest "$work/fault/train/own/tokenizer.h5")" != \
            "$("$lode" digest "$work/own/train/own/tokenizer.h5")" ]; then
        bad "with a tokenizer of its own, killed at write $call: $(cat "$work/diff")"
    fi
done
if [ "$kills" -ge 3 ]; then ok "killed at $kills writes, some of the tokenizer"; else bad "only $kills kills at writes"; fi
training=(--stages "tokenize,train")
lode_run 1 $experiment own "${own[@]}"

# --- the checkpoints are models -------------------------------------------------------------------

lode_run 2 $experiment one --set 'train.checkpoints=[0,10,20]'
said "trained before" "train: complete, nothing to do"
for step in "${steps[@]}"; do
    if ! grep -q "^tiny-step-$step,scar-prot@0.5,.*perplexity" "$work/one/train/summary.csv"; then
        bad "summary.csv has nothing of step $step"
    fi
done
perplexity() {
    awk -F, -v model="$1" '$1 == model && $2 == "dense" && $7 == "perplexity" { print $10 }' \
        "$work/one/train/summary.csv"
}
if awk -v a="$(perplexity tiny-step-000000)" -v b="$(perplexity tiny-step-000030)" \
    'BEGIN { exit !(a > 1500 && a < 2600 && b < a / 2) }'; then
    ok "perplexity before and after: $(perplexity tiny-step-000000), $(perplexity tiny-step-000030)"
else
    bad "perplexity before and after: $(perplexity tiny-step-000000), $(perplexity tiny-step-000030)"
fi

# --- with nothing to measure ---------------------------------------------------------------------

sed '/^\/\/ What is measured/,$d' $experiment >"$work/alone.cfg"
lode_run 2 "$work/alone.cfg" alone
same "a training alone" one/train/tiny alone/train/tiny train
said "a training alone" "the checkpoints of tiny are trained and no more, as there is no calibration.corpus"
if [ -e "$work/alone/train/tiny-step-000030" ] || ! [ -s "$work/alone/train/report.html" ]; then
    bad "a training alone left" "$work"/alone/train/*
fi

# --- mistakes -----------------------------------------------------------------------------------

fails 10 'train: step [0-9]*: .*lower train.learning_rate, or raise train.warmup; the state of step [0-9]* is kept' \
    nan --set train.learning_rate=1e18 --set train.warmup=30 --set train.clip=0.0 --set train.save=1 \
    --set 'train.checkpoints=[]'
many=2 fails 9 'train needs .* MB for activations, and memory = 1 MB leaves 0 MB; raise memory' memory --set memory=1M
fails 4 'train.corpus: .*/no.txt: cannot be read' corpus --set "train.corpus=$work/no.txt"
mkdir -p "$work/way/train/tiny/step-000030"
touch "$work/way/train/tiny/step-000030/notes"
many=2 fails 8 'step-000030: holds "notes"' way
mkdir "$work/other"
config true 1000 >"$work/other/config.json"
cp "$work/model/tokenizer.json" "$work/other"
fails 4 'more than the vocab_size 1000' vocabulary --set "models=({name=\"tiny\";path=\"$work/other\";})"
rm "$work/other/tokenizer.json"
fails 4 'other/tokenizer.json: missing' tokenizer --set "models=({name=\"tiny\";path=\"$work/other\";})"
mkdir "$work/disk"
if [ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=3m none "$work/disk" 2>/dev/null; then
    mounted=$work/disk
    fails 8 'training needs .* MB for checkpoints and .* MB for its state, and the disk has .* MB free; free some space' disk
    umount "$work/disk"
    mounted=
else
    echo "not tested, for want of the right to mount: a full disk"
fi
exit "$failed"
