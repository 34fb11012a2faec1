#!/usr/bin/env bash
# Takes the perplexity of one text with Lodestone (protocol llama.cpp) and with llama.cpp itself, and
# says whether they agree.
#
#     tests/bench/llama_perplexity.sh PEER GGUF MODEL TEXT [LENGTH]... [-- OPTION...]
#
# PEER is llama.cpp's program llama-perplexity, GGUF the model converted by its
# convert_hf_to_gguf.py, MODEL the Hugging Face folder that was converted. This script neither
# fetches nor builds nor converts anything. LENGTHs are contexts, 512 unless given; OPTIONs go to the
# peer, whose cache of keys and values is float16 unless they say "-ctk f32 -ctv f32 -fa off".
# Both score the same tokens, so that they agree where they differ by less than a twentieth of the
# standard error; weights of lower precision than the folder's need not.
#
# LODE names the program under test (default: that of build-release). Exit status: 0 all agree, 1
# some do not or a program failed, 2 wrong arguments.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
lode=${LODE:-$root/build-release/lode}
if [ $# -lt 4 ]; then
    sed -n '5p' "$0" >&2
    exit 2
fi
peer=$1 gguf=$2 model=$3 text=$4
shift 4
lengths=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    lengths+=("$1")
    shift
done
[ $# -eq 0 ] || shift
[ ${#lengths[@]} -gt 0 ] || lengths=(512)
for file in "$peer" "$gguf" "$model/config.json" "$text"; do
    if [ ! -r "$file" ]; then
        echo "$file: missing or not readable" >&2
        exit 2
    fi
done
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The smallest experiment around one perplexity: a calibration has to be there.
{
    echo "name = \"llama\"; results = \"$work\"; prune = { methods = [ ]; };"
    echo "models = ( { name = \"m\"; path = \"$(realpath "$model")\"; } );"
    echo "calibration = { corpus = \"$(realpath "$text")\"; format = \"text\"; sequences = 1; max_length = 32; };"
    echo "evaluate = { perplexity = ("
    separator=
    for length in "${lengths[@]}"; do
        echo "  $separator{ name = \"c$length\"; corpus = \"$(realpath "$text")\"; protocol = \"llama.cpp\"; length = $length; }"
        separator=,
    done
    echo "); };"
} >"$work/llama.cfg"
if ! "$lode" run "$work/llama.cfg" </dev/null >"$work/log" 2>&1; then
    cat "$work/log" >&2
    exit 1
fi

status=0
printf '%8s  %22s  %22s  %10s  %s\n' context lodestone llama.cpp difference verdict
for length in "${lengths[@]}"; do
    if ! "$peer" -m "$gguf" -f "$text" -c "$length" "$@" </dev/null >"$work/peer" 2>&1; then
        tail -n 20 "$work/peer" >&2
        echo "$peer: failed at a context of $length" >&2
        exit 1
    fi
    theirs=$(sed -n 's|.*Final estimate: PPL = \([0-9.]*\) +/- \([0-9.]*\).*|\1 \2|p' "$work/peer")
    ours=$(awk -F, -v name="c$length" '$8 == name && $7 == "perplexity" { print $10, $11 }' \
        "$work/llama/summary.csv")
    if [ -z "$theirs" ] || [ -z "$ours" ]; then
        echo "no figure at a context of $length" >&2
        exit 1
    fi
    if ! echo "$length $ours $theirs" | awk '{
        difference = $2 - $4
        agree = (difference < 0 ? -difference : difference) <= $3 / 20
        printf "%8d  %12.4f ± %7.4f  %12.4f ± %7.4f  %+10.4f  %s\n", $1, $2, $3, $4, $5, difference,
            agree ? "agree" : "DIFFER"
        exit !agree
    }'; then
        status=1
    fi
done
exit $status
