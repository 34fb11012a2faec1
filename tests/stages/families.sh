#!/usr/bin/env bash
# Every model family through every stage, on small models: the number of ranks changes no bit of
# what is exact and nothing beyond rounding of what distributed solvers give; results agree with
# their float64 references, where there are any; and exported folders, evaluated as models of their
# own, give the perplexity of the variant that they hold, whatever the layout of their weights.
#
#     tests/stages/families.sh [CASE ...]
#
# A case is a folder of tests/golden/families (default: all). LODE and CHECK_GOLDEN name the programs
# (default: those of build-release). Exit status: 0 passed, 1 failed, 77 nothing to test.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"
check_golden=${CHECK_GOLDEN:-$root/build-release/tests/check_golden}
families=tests/golden/families
references=tests/golden/family

cases=("$@")
if [ $# -eq 0 ]; then
    for config in "$families"/*/config.json; do
        [ -r "$config" ] && cases+=("$(basename "$(dirname "$config")")")
    done
fi
if [ ${#cases[@]} -eq 0 ]; then
    echo "skipped: $families has no models"
    exit 77
fi

export FAMILIES=$work
mkdir "$work/models"
head -n 48 configs/quickstart/text/calibration.txt >"$work/calibration.txt"
head -n 8 configs/quickstart/text/evaluation.txt >"$work/evaluation.txt"
for case in "${cases[@]}"; do
    cp -r "$families/$case" "$work/models/$case"
    chmod -R u+w "$work/models/$case"
    [ -e "$work/models/$case/tokenizer.json" ] ||
        cp "$families/tokenizer.json" "$work/models/$case/tokenizer.json"
done

# models FOLDER NAME...: the value of `models` for folders of these names
models() {
    local folder=$1 name separator="("
    shift
    for name; do
        printf '%s{name="%s";path="%s/%s";}' "$separator" "$name" "$folder" "$name"
        separator=,
    done
    echo ")"
}
all=$(models "$work/models" "${cases[@]}")

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

# perplexities FOLDER: "model variant value" of each row of the summary
perplexities() {
    awk -F, '$7 == "perplexity" { print $1, $2, $10 }' "$work/$1/families/summary.csv"
}

# near WHAT TOLERANCE < lines "name want got": whether all of them are as near as that
near() {
    if awk -v t="$2" '{ d = $2 - $3; d = d < 0 ? -d : d; n++
                        if (!($2 > 1 && $3 > 1 && d <= t * $2)) { print; bad = 1 } }
                      END { exit bad || n == 0 }' >"$work/far"; then
        ok "$1"
    else
        bad "$1:" "$(cat "$work/far")"
    fi
}

# --- what the number of ranks may change --------------------------------------------------------

solved=(--set 'prune.methods=["scar-prot","sparsegpt-channel"]'
    --set 'prune.compensation=["none","least-squares","sequential"]')
for ranks in 1 2; do
    must run $ranks "exact$ranks" --set "models=$all"
    cp -r "$work/exact$ranks" "$work/solved$ranks"
    must run $ranks "solved$ranks" --set "models=$all" "${solved[@]}"
done
for case in "${cases[@]}"; do
    different=
    for stage in tokenize calibrate accumulate classify prune compensate evaluate; do
        one=$("$lode" digest "$work/exact1/families/$case/$stage.h5")
        two=$("$lode" digest "$work/exact2/families/$case/$stage.h5")
        [ -n "$one" ] && [ "$one" = "$two" ] || different="$different $stage"
    done
    if [ -z "$different" ]; then
        ok "$case: the same bits on 2 ranks"
    else
        bad "$case: on 2 ranks other bits in$different"
    fi
done
join -j 1 <(perplexities solved1 | sed 's/ /:/' | sort) <(perplexities solved2 | sed 's/ /:/' | sort) |
    near "perplexities of solved variants on 2 ranks" 1e-6

# --- against the references ---------------------------------------------------------------------

for case in "${cases[@]}"; do
    [ -r "$references-$case.h5" ] || continue
    for results in exact1 solved1; do
        if "$check_golden" "$references-$case.h5" "$references-$case.json" \
            "$work/$results/families/$case" --compensated >"$work/log"; then
            ok "$case: $(tail -n 1 "$work/log")"
        else
            cat "$work/log"
            bad "$case differs from its reference"
        fi
    done
done

# --- exported folders ---------------------------------------------------------------------------

# exports VARIANT:LAYOUT:NAME ...: the value of `export`; models add their names to the paths where
# there are several
exports() {
    local item variant layout name own="" separator="("
    [ ${#cases[@]} -gt 1 ] || own=${cases[0]}
    for item; do
        IFS=: read -r variant layout name <<<"$item"
        printf '%s{variant="%s";layout="%s";path="%s/out/%s/%s";}' "$separator" "$variant" \
            "$layout" "$work" "$name" "$own"
        separator=,
    done
    echo ")"
}

# again NAME CASE...: evaluates the exported folders of that name
again() {
    local name=$1
    shift
    must run 1 "again-$name" --set "models=$(models "$work/out/$name" "$@")" \
        --set 'prune.methods=[]'
}

# same NAME RESULTS VARIANT TOLERANCE: whether the folders of that name have the perplexities of the
# variant
same() {
    join -j 1 <(perplexities "$2" | awk -v v="$3" '$2 == v { print $1, $3 }' | sort) \
        <(perplexities "again-$1" | awk '$2 == "dense" { print $1, $3 }' | sort) |
        near "$1 folders: the perplexity of $3" "$4"
}

must run 1 solved1 --set "models=$all" "${solved[@]}" --stages export --set "export=$(exports \
    scar-prot@0.5:sliced:sliced scar-prot@0.5:padded:padded \
    scar-prot@0.5+least-squares:sliced:solved dense:auto:dense)"
for name in sliced padded solved dense; do
    again $name "${cases[@]}"
done
same sliced exact1 scar-prot@0.5 1e-6
same padded exact1 scar-prot@0.5 1e-6
same solved solved1 scar-prot@0.5+least-squares 1e-2 # rounded to the source's type
same dense exact1 dense 1e-6

# An output bias needs a place to go to, which only some families have.
biased=()
for case in "${cases[@]}"; do
    if run 1 exact1 --set "models=$(models "$work/models" "$case")" --stages export \
        --set "export=({variant=\"scar-prot@0.5+bias\";path=\"$work/out/biased/$case\";})"; then
        biased+=("$case")
    elif ! grep -q 'have no place for an output bias' "$work/log"; then
        bad "$case: export with a bias:" "$(cat "$work/log")"
    fi
done
again biased "${biased[@]}"
same biased exact1 scar-prot@0.5+bias 1e-2
if [ $# -gt 0 ] || [ "$(echo "${biased[@]}" | tr ' ' '\n' | cut -c1-5 | sort -u | tr '\n' ' ')" = \
    "gpt2 llama " ]; then
    ok "a place for an output bias: ${biased[*]}"
else
    bad "a place for an output bias: ${biased[*]}"
fi
exit "$failed"
