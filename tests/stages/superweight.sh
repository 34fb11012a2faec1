#!/usr/bin/env bash
# Super weights that test_plant puts into trained models: found at their coordinates and nowhere
# else, late spikes that depend on an early one not reported, the same bits on any number of ranks;
# what is computed with them; what other versions of the model have of them; and what a user can get
# wrong.
#
#     tests/stages/superweight.sh
#
# LODE, PLANT, ALTER and CHECK_SUPERWEIGHT name the programs (default: those of build-release),
# LODE_DATA the data folder: with it, a float32 model of other sizes is looked at too. Exit status: 0
# passed, 1 failed.
# shellcheck source=tests/stages/common.sh
source "$(dirname "$0")/common.sh"
plant=${PLANT:-$root/build-release/tests/test_plant}
check=${CHECK_SUPERWEIGHT:-$root/build-release/tests/check_superweight}
alter=${ALTER:-$root/build-release/tests/test_alter}
data=${LODE_DATA:-../shared/data}
kinds=(nothing single pair rows layers late)
experiment=tests/stages/superweight.cfg
stages=(--stages "tokenize,calibrate,accumulate,classify,superweight")
evaluation=configs/quickstart/text/evaluation.txt

# models SOURCE NAME: plants every kind into copies of a model, and makes `models` of them
models() {
    local list="" kind
    for kind in "${kinds[@]}"; do
        "$plant" "$kind" "$1" "$work/$2/$kind" >"$work/$2-$kind.planted" || exit 1
        list+="{name=\"$kind\";path=\"$work/$2/$kind\";},"
    done
    models=(--set "models=(${list%,})")
}

# found KIND: "layer row channel" of each super weight that the last run reports of a model, in order
found() {
    sed -n -e 's/^lode: model \([^:]*\): .*/model \1/p' \
        -e 's/^lode: superweight: layer \([0-9]*\), down_proj \[\([0-9]*\), \([0-9]*\)\].*/\1 \2 \3/p' \
        "$work/log" | awk -v kind="$1" '$1 == "model" { here = $2 == kind; next } here'
}

# largest FILE FIRST_LAYER ITERATION: the largest ratio of an output spike in the layers from there on
largest() {
    "$plant" seen "$1" | awk -v first="$2" -v iteration="$3" '
        $1 == iteration && $3 >= first && $4 > most { most = $4 } END { print most + 0 }'
}

# --- coordinates --------------------------------------------------------------------------------

sources=(configs/quickstart/model)
if [ -d "$data/models/babyllama105" ]; then
    sources+=("$data/models/babyllama105")
fi
for source in "${sources[@]}"; do
    name=$(basename "$source")
    models "$source" "$name"
    lode_run 1 $experiment "one-$name" "${models[@]}" "${stages[@]}"
    for kind in "${kinds[@]}"; do
        want=$(cat "$work/$name-$kind.planted")
        got=$(found "$kind")
        if [ "$got" = "$want" ]; then
            ok "$name, $kind: $(wc -w <<<"$want" | awk '{ print $1 / 3 }') found, where planted"
        else
            bad "$name, $kind: planted ${want//$'\n'/, }, found ${got//$'\n'/, }"
        fi
    done
    # The late spikes are there as long as the early weight is, and would be super weights.
    file=$work/one-$name/superweight/late/superweight.h5
    layers=$("$plant" seen "$file" | awk '$3 >= n { n = $3 + 1 } END { print n }')
    before=$(largest "$file" $((layers - 2)) 0)
    after=$(largest "$file" $((layers - 2)) 1)
    if awk "BEGIN { exit !($before > 1000 && $after < 50) }"; then
        ok "$name, late: a spike of $before times its scale becomes $after without the early weight"
    else
        bad "$name, late: $before before, $after after"
    fi
    rest=$(largest "$work/one-$name/superweight/nothing/superweight.h5" 0 0)
    if awk "BEGIN { exit !($rest < 25) }"; then
        ok "$name, nothing: the largest spike is $rest times its scale"
    else
        bad "$name, nothing: the largest spike is $rest times its scale"
    fi
done

# --- what is computed with them, on any number of ranks -----------------------------------------

lode_run 3 $experiment three --set "models.[0].path=$work/$name/layers" "${stages[@]}"
same "$name on 3 ranks" "one-$name/superweight/layers" three/superweight/planted superweight
name=model
cat >"$work/known.json" <<END
{"models": [{"name": "other", "weights": []},
            {"name": "PLANTED", "source": "a test", "weights": [
    $(awk '{ printf "%s{\"layer\": %d, \"row\": %d, \"channel\": %d}", sep, $1, $2, $3; sep = ", " }' \
    "$work/$name-layers.planted"), {"layer": 0, "row": 1, "channel": 2}]}]}
END
all=(--set "models.[0].path=$work/$name/layers" --set superweight.others_fraction=1e-4
    --set 'superweight.experiments=["prune","restore","scale","others-tensor","others-global"]'
    --set 'superweight.scales=(0.0,1.0)' --set superweight.others_count=50
    --set superweight.stopwords=configs/stopwords.txt --set "superweight.corpus=$evaluation"
    --set superweight.sequences=4 --set superweight.max_length=32
    --set "superweight.known=$work/known.json"
    --set "calibration.corpus=$evaluation" --set calibration.sequences=4 --set calibration.keep_logits=4)
for ranks in 1 2 3; do
    lode_run $ranks $experiment "ranks$ranks" "${all[@]}" "${stages[@]}"
    if [ $ranks -gt 1 ]; then
        same "$ranks ranks" ranks1/superweight/planted "ranks$ranks/superweight/planted" \
            tokenize superweight
    fi
done
said "published ones are compared" "2 of 3 published super weights found, 0 others"
said "published and not found" "published for planted, but not found: layer 0 [1, 2]"
if "$check" "$work/$name/layers" "$work/ranks1/superweight/planted" 1e-4 50; then
    ok "other weights as sorted, stopword probabilities as of the logits"
else
    bad "other weights or stopword probabilities"
fi
lode_run 2 $experiment replicas "${all[@]}" --set replicas=2 "${stages[@]}"
same "2 replicas" ranks1/superweight/planted replicas/superweight/planted superweight

# evaluated VARIANT: its perplexity in the last run
evaluated() {
    sed -n "s/^lode: short: perplexity of $1 is \([^ ]*\) .*/\1/p" "$work/log"
}
short='evaluate.perplexity=({name="short";corpus="'$work/short.txt'";format="text";length=32;})'
head -n 12 $evaluation >"$work/short.txt"
lode_run 1 $experiment ranks1 "${all[@]}" --set "$short"
dense=$(evaluated dense)
if [ -n "$dense" ] && [ "$(evaluated super-weight:scale-1)" = "$dense" ] &&
    [ "$(evaluated super-weight:scale-0)" = "$(evaluated super-weight:prune)" ] &&
    [ "$(evaluated super-weight:prune)" != "$dense" ]; then
    ok "perplexity: $dense, $(evaluated super-weight:prune) without super weights"
else
    bad "perplexities of the experiments:"
    grep perplexity "$work/log"
fi

# Where there is none, all of it is the model as it is.
lode_run 1 $experiment none "${all[@]}" --set "models.[0].path=$work/$name/nothing" --set "$short" \
    --set 'superweight.experiments=["prune","restore","scale"]' --set superweight.known=
if [ "$(grep -c "short: perplexity of .* is $(evaluated dense) " "$work/log")" = 5 ]; then
    ok "nothing found: five models are one"
else
    bad "nothing found:"
    grep perplexity "$work/log"
fi

# The authors' rule finds the same.
lode_run 1 $experiment absolute --set "models.[0].path=$work/$name/layers" "${stages[@]}" \
    --set 'superweight.rule="absolute"'
sed -i '1i lode: model planted: ' "$work/log"
if [ "$(found planted)" = "$(cat "$work/$name-layers.planted")" ]; then
    ok "the absolute rule finds them too"
else
    bad "the absolute rule finds $(found planted)"
fi
lode_run 1 $experiment limit --set "models.[0].path=$work/$name/rows" "${stages[@]}" \
    --set superweight.limit=2
said "the limit" "there are more than superweight.limit = 2"

# --- found again in other versions --------------------------------------------------------------

# Of one with a single super weight: as it is; with that zeroed; with another planted; with both; and
# with half of its channels cut out, which are known by a note, or by what they read.
read -r layer row channel <"$work/$name-single.planted"
{ read -r _ && read -r other_layer other_row other_channel; } <"$work/$name-layers.planted"
echo "model.layers.$layer.mlp.down_proj.weight element $row $channel 0" >"$work/zero"
for pair in single:kept single:zeroed layers:other layers:both; do
    cp -r "$work/$name/${pair%:*}" "$work/${pair#*:}"
done
"$alter" "$work/zeroed" "$work/zero"
"$alter" "$work/other" "$work/zero"
folders=
for folder in kept zeroed other both sliced bare; do
    folders+="{name=\"$folder\";path=\"$work/$folder\";},"
done
versions=(--set "models.[0].path=$work/$name/single" --set 'prune.methods=["scar-lp"]'
    --set 'prune.sparsity=(0.5)' --set "export=({variant=\"scar-lp@0.5\";path=\"$work/sliced\";})")
lode_run 2 $experiment versions "${versions[@]}"
cp -r "$work/sliced" "$work/bare"
rm "$work/bare/lodestone.json"
versions+=(--set "audit.folders=(${folders%,})" --set audit.loss_proxy=false)
lode_run 1 $experiment versions "${versions[@]}"
# folder: of the original's, surviving, detected; new
while read -r folder surviving detected new; do
    got=$(awk -F, -v folder="$folder" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        $at["folder"] == folder && $at["layer"] == "all" {
            print $at["superweights"], $at["superweights_surviving"], $at["superweights_detected"],
                $at["superweights_new"] }' "$work/versions/superweight/audit.csv")
    if [ "$got" = "1 $surviving $detected $new" ]; then
        ok "$folder: $surviving of 1 survives, $detected is found again, $new new"
    else
        bad "$folder: 1 $surviving $detected $new expected, $got in audit.csv"
    fi
done <<'END'
kept 1 1 0
zeroed 0 0 0
other 0 0 1
both 1 1 1
sliced 1 1 0
bare 1 1 0
END
said "a new one is named" "audit of other: layer $other_layer, down_proj [$other_row, $other_channel]"
versions_folder=superweight/planted
cp -r "$work/versions" "$work/versions1"
lode_run 3 $experiment versions "${versions[@]}" --stages audit --force
same "audited on 3 ranks" versions1/$versions_folder versions/$versions_folder audit
lode_run 2 $experiment versions "${versions[@]}" --set replicas=2 --stages audit --force
same "audited by 2 replicas" versions1/$versions_folder versions/$versions_folder audit
rm "$work/versions/$versions_folder/audit.h5"
{ LODE_MARKS=kill:20 "$lode" run $experiment --set "results=$work/versions" "${versions[@]}" \
    --stages audit </dev/null >"$work/log" 2>&1 && bad "not killed"; } 2>/dev/null # says "Killed"
lode_run 2 $experiment versions "${versions[@]}" --stages audit
searched=$(sed -n 's/^lode: audit of \([a-z]*\): .* are found again.*/\1/p' "$work/log" | tr '\n' ' ')
if [ "$searched" = "other both sliced bare " ]; then
    ok "killed, it goes on with $searched"
else
    bad "killed, it goes on with $searched"
fi
same "killed" versions1/$versions_folder versions/$versions_folder audit

# --- what a user can get wrong ------------------------------------------------------------------

# refused WHAT TEXT [OPTION ...]: whether a run fails with one message that has the text
refused() {
    local what=$1 text=$2 status=0
    shift 2
    "$lode" run $experiment --set "results=$work/ranks1" "${all[@]}" "${stages[@]}" "$@" </dev/null \
        >"$work/log" 2>&1 || status=$?
    if [ $status -ne 0 ] && [ $status -lt 20 ] && [ "$(grep -cF -- "$text" "$work/log")" = 1 ]; then
        ok "$what is refused"
    else
        bad "$what: exit status $status, did not say \"$text\":"
        tail -n 3 "$work/log"
    fi
}
echo '{"models": [{"name": "planted", "weights": [{"layer": 1.5}]}]}' >"$work/broken.json"
echo '[]' >"$work/array.json"
echo 'supercalifragilistic' >"$work/long.txt"
refused "a prompt that is too long" "positions; a sentence will do" \
    --set "superweight.prompts=[\"$(head -c 6000 $evaluation | tr -cd 'a-z ')\"]"
refused "a list of other numbers" "no layer, row and channel counted from 0" \
    --set "superweight.known=$work/broken.json"
refused "a list that is no object" "$work/array.json" --set "superweight.known=$work/array.json"
refused "a missing list" "$work/missing.json" --set "superweight.known=$work/missing.json"
refused "words without tokens" "for none of these stopwords" \
    --set "superweight.stopwords=$work/long.txt"
exit $failed
