#!/usr/bin/env bash
# Every model family through every stage, on small models: the number of ranks changes no bit;
# results agree with their float64 references, where there are any; and exported folders, evaluated
# as models of their own, give the perplexity of the variant that they hold, whatever the layout of
# their weights.
#
#     tests/stages/families.sh [CASE ...]
#
# A case is a folder of tests/golden/families; without any, those are taken that differ in more than
# their positions. LODE and CHECK_GOLDEN name the programs (default: those of build-release).
# Exit status: 0 passed, 1 failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"
check_golden=${CHECK_GOLDEN:-$root/build-release/tests/check_golden}
families=tests/golden/families
references=tests/golden/family
stages=(tokenize calibrate accumulate classify prune compensate evaluate)

cases=("$@")
if [ $# -eq 0 ]; then
    cases=(llama-bias llama-sharded mistral qwen2 qwen3 olmo olmo2 gemma2 phi3 gpt2)
fi

export FAMILIES=$work
mkdir "$work/models"
head -n 48 configs/quickstart/text/calibration.txt >"$work/calibration.txt"
head -n 8 configs/quickstart/text/evaluation.txt >"$work/evaluation.txt"
for case in "${cases[@]}"; do
    cp -r "$families/$case" "$work/models/$case"
    chmod -R u+w "$work/models/$case"
    cp "$families/tokenizer.json" "$work/models/$case/tokenizer.json"
done

# models PREFIX FOLDER NAME...: items of `models` for folders of these names, called PREFIX NAME, each
# with a comma after it
models() {
    local prefix=$1 folder=$2 name
    shift 2
    for name; do
        printf '{name="%s%s";path="%s/%s";},' "$prefix" "$name" "$folder" "$name"
    done
}
all=$(models "" "$work/models" "${cases[@]}")
all="(${all%,})"

# run RANKS FOLDER [OPTION ...]: the experiment into a results folder; what it says goes to $work/log
run() {
    local command=("$lode") folder=$work/$2
    if [ "$1" -gt 1 ]; then
        command=(mpirun -q -n "$1" --oversubscribe --bind-to none "$lode")
    fi
    shift 2
    "${command[@]}" run tests/stages/families.cfg --set "results=$folder" "$@" \
        </dev/null >"$work/log" 2>&1
}

# must COMMAND...: ends the test where that fails
must() {
    if ! "$@"; then
        cat "$work/log"
        echo "FAIL  $*"
        exit 1
    fi
}

# perplexities: "model variant value" of each perplexity that $work/log tells. Of two models that are
# the same, the second takes those of the first.
perplexities() {
    sed -n -e 's/^lode: model \([^:]*\): .*/model \1/p' \
        -e 's|^lode: .*/\([^/]*\)/evaluate.h5 is taken from .*/\([^/]*\)/evaluate.h5|taken \1 \2|p' \
        -e 's/^lode: short: perplexity of \([^ ]*\) is \([^ ]*\) .*/\1 \2/p' "$work/log" |
        awk '$1 == "model" { model = $2; next }
             $1 == "taken" { for (i in of) if (split(i, key) && key[1] == $3) print $2, key[2], of[i]
                             next }
             { of[model " " $1] = $2; print model, $1, $2 }'
}

every=$(IFS=,; echo "${stages[*]}")

# --- what the number of ranks may change --------------------------------------------------------

for ranks in 1 2; do
    must run $ranks "results$ranks" --set "models=$all" --stages "$every"
done
for case in "${cases[@]}"; do
    different=
    for stage in "${stages[@]}"; do
        one=$("$lode" digest "$work/results1/families/$case/$stage.h5")
        two=$("$lode" digest "$work/results2/families/$case/$stage.h5")
        [ -n "$one" ] && [ "$one" = "$two" ] || different="$different $stage"
    done
    if [ -z "$different" ]; then
        ok "$case: the same bits on 2 ranks"
    else
        bad "$case: on 2 ranks other bits in$different"
    fi
done

# --- against the references ---------------------------------------------------------------------

# With all that needs distributed matrices besides; and so the report of models without a gate.
solved=(--set 'prune.methods=["scar-prot","scar-conn","wanda-channel","magnitude","taylor","entropy","flap","sparsegpt-channel"]'
    --set 'prune.compensation=["none","bias","least-squares","sequential"]'
    --set 'prune.allocation=["uniform","global"]')
must run 1 results1 --set "models=$all" "${solved[@]}"
perplexities >"$work/perplexities"
for case in "${cases[@]}"; do
    [ -r "$references-$case.h5" ] || continue
    if "$check_golden" "$references-$case.h5" "$references-$case.json" \
        "$work/results1/families/$case" --compensated >"$work/log"; then
        ok "$case: $(tail -n 1 "$work/log")"
    else
        grep -v '^ok' "$work/log" || true
        bad "$case differs from its reference"
    fi
done

# --- exported folders ---------------------------------------------------------------------------

# Folders lie in $work/<kind>/<case>. New weights are rounded to the source's type.
kinds=(sliced padded solved biased)
declare -A variant=([sliced]=scar-prot@0.5 [padded]=scar-prot@0.5+global
    [solved]=scar-prot@0.5+least-squares [biased]=scar-prot@0.5+bias)
declare -A layout=([sliced]=sliced [padded]=padded [solved]=auto [biased]=auto)
declare -A tolerance=([sliced]=1e-6 [padded]=1e-6 [solved]=1e-2 [biased]=1e-2)
folders=
takes_bias=
for case in "${cases[@]}"; do
    exports=
    for kind in "${kinds[@]}"; do
        exports+="{variant=\"${variant[$kind]}\";layout=\"${layout[$kind]}\";path=\"$work/$kind/$case\";},"
        [ "$kind" = biased ] || folders+=$(models "$kind:" "$work/$kind" "$case")
    done
    one=(--set "models=({name=\"$case\";path=\"$work/models/$case\";})" "${solved[@]}"
        --stages export)
    if run 1 results1 "${one[@]}" --set "export=(${exports%,})"; then
        takes_bias+=" $case"
        folders+=$(models biased: "$work/biased" "$case")
    elif grep -q "export of scar-prot@0.5+bias: .* have no place for an output bias" "$work/log"; then
        must run 1 results1 "${one[@]}" --set "export=(${exports%%,\{variant=\"scar-prot@0.5+bias*})"
    else
        cat "$work/log"
        bad "$case: exports"
        exit 1
    fi
done
if [ $# -gt 0 ] || [ "$takes_bias" = " llama-bias llama-sharded gpt2" ]; then
    ok "a place for an output bias:$takes_bias"
else
    bad "a place for an output bias:$takes_bias"
fi

must run 1 folders --set "models=($(echo "${folders%,}" | tr : -))" --set calibration.sequences=1 \
    --set 'prune.methods=[]' --stages "${every/compensate,/}"
perplexities >"$work/again"
for kind in "${kinds[@]}"; do
    # The largest relative difference, and of how many folders.
    read -r count worst < <(awk -v kind="$kind" -v variant="${variant[$kind]}" '
        NR == FNR { if ($2 == variant) want[kind "-" $1] = $3; next }
        $1 in want { d = $3 / want[$1] - 1; d = d < 0 ? -d : d; n++; if (d > worst) worst = d }
        END { print n + 0, worst + 0 }' "$work/perplexities" "$work/again")
    wanted=${#cases[@]}
    [ "$kind" != biased ] || wanted=$(wc -w <<<"$takes_bias")
    if [ "$count" -eq "$wanted" ] && awk "BEGIN { exit !($worst <= ${tolerance[$kind]}) }"; then
        ok "$kind: $count folders have the perplexity of ${variant[$kind]} within $worst"
    else
        bad "$kind: $count folders differ from ${variant[$kind]} by up to $worst"
    fi
done
exit "$failed"
