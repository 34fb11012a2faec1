#!/usr/bin/env bash
# Has small models answer tasks, holds the answers against lm_eval's, and proves that neither ranks
# nor replicas nor earlier results change a bit of them; then asks for tasks that cannot be answered.
#
#     tests/stages/tasks.sh [P...]
#
# LODE and CHECK_TASKS name the programs (default: those of build-release). Without the data folder
# only the embedded model is asked. Exit status: 0 passed, 1 failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"
check_tasks=${CHECK_TASKS:-$root/build-release/tests/check_tasks}
# run RANKS FOLDER [lode options], matches WHAT FOLDER: the experiment; whether a folder's results are
# those of the run called few
run() { lode_run "$1" tests/stages/tasks.cfg "${@:2}"; }
matches() { same "$1" few/tasks/stories260k "$2/tasks/stories260k" tokenize evaluate; }

# refused STATUS PATTERN COMMAND [lode options]: whether lode ends with a status and a message
refused() {
    local want=$1 pattern=$2 command=$3 status=0
    shift 3
    "$lode" "$command" tests/stages/tasks.cfg --set "results=$work/refused" "$@" </dev/null \
        >"$work/log" 2>&1 || status=$?
    if [ "$status" -eq "$want" ] && [ "$(grep -c "error: " "$work/log")" -eq 1 ] &&
        grep -q -- "$pattern" "$work/log"; then
        ok "refused: $pattern"
    else
        bad "not refused with \"$pattern\": status $status"
        cat "$work/log"
    fi
}

# The embedded model on its own tasks, with examples too.
continuations="path = \"configs/quickstart/tasks/continuations.jsonl\"; pruned = false;"
last_words="path = \"configs/quickstart/tasks/last-words.jsonl\"; pruned = false;"
lode_run 2 configs/quickstart.cfg quickstart --set 'evaluate.perplexity=()' \
    --set calibration.sequences=4 \
    --set "evaluate.tasks=( { name = \"continuations\"; $continuations },
        { name = \"last-words\"; $last_words },
        { name = \"continuations-2\"; $continuations limit = 20; shots = 2; } )"
"$check_tasks" tests/golden/tasks-quickstart.h5 \
    "$work/quickstart/quickstart/books3m/evaluate.h5" || failed=1

export LODE_DATA=${LODE_DATA:-../shared/data}
for needed in models/stories260k tasks/hellaswag.jsonl; do
    if [ ! -e "$LODE_DATA/$needed" ]; then
        echo "skipped the rest: no $needed in the data folder"
        exit $failed
    fi
done
run 2 first
"$check_tasks" tests/golden/tasks-stories260k.h5 "$work/first/tasks/stories260k/evaluate.h5" ||
    failed=1

# Few items, of every kind: choices, last words, choices of contexts, of different numbers, with
# examples, cut from the left; the pruned variants answer too.
task() { echo "{ name = \"$1\"; path = \"$LODE_DATA/tasks/$1.jsonl\"; limit = $2; shots = $3; }"; }
few="evaluate.tasks=( $(task copa 20 0), $(task lambada 20 0), $(task winogrande 20 0),
    $(task arc_easy 20 0), $(task sciq 6 2) )"
less=(--set "$few" --set micro_batch=300)
run 1 few "${less[@]}"
said "what is cut is counted" "requests are longer than the model's 512 positions"
for ranks; do
    run "$ranks" other "${less[@]}"
    matches "$ranks ranks" other
    rm -rf "$work/other"
done
run 3 other "${less[@]}" --set replicas=3
matches "3 replicas" other
run 2 other "${less[@]}" --set 'prune.methods=["lp"]'
said "of earlier results" "copa: 2 variants, 0 equal to others, 2 taken from earlier results"
run 2 other "${less[@]}"
said "a variant that is new" "copa: 3 variants, 0 equal to others, 2 taken from earlier results"
matches "two variants taken from earlier results" other
run 1 other "${less[@]}"
said "nothing has changed" "evaluate: complete, nothing to do"

cp "$LODE_DATA/tasks/copa.jsonl" "$work/items.jsonl"
chmod u+w "$work/items.jsonl"
alone() { echo "evaluate.tasks=( { name = \"t\"; path = \"$work/items.jsonl\"; $1 } )"; }
run 1 changed --set "$(alone "")"
said "an own set" "t: accuracy of dense is"
sed -i 's/"gold": 0/"gold": 1/' "$work/items.jsonl"
run 1 changed --set "$(alone "")"
said "another gold changes no likelihood" \
    "t: 3 variants, 0 equal to others, 3 taken from earlier results"

refused 4 "nowhere.jsonl" check --set 'evaluate.tasks=( { name = "t"; path = "nowhere.jsonl"; } )'
refused 4 "has 99 other items to stand before" check --set "$(alone "shots = 100;")"
echo '{"id": "1", "requests": [["a", ""]], "gold": 0}' >"$work/items.jsonl"
refused 5 "items.jsonl: line 1: the continuation of request 0 is empty" check --set "$(alone "")"
long=$(printf 'word %.0s' {1..400})
echo "{\"requests\": [[\"a\", \" $long\"]], \"gold\": 0}" >"$work/items.jsonl"
refused 4 "tokens, the model has 512 positions" run --set "$(alone "")"
exit $failed
