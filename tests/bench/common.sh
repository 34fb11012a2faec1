# shellcheck shell=bash
# What measurements of whole stages begin with; they source it.
#   root, lode   the project's root, and the program (LODE; default: that of build-release)
#   work         a folder of their own, deleted at the end; they are left in it
#   model LAYERS a Llama of that many layers in $work/model: hidden size 1024, 2816 channels, random
#                BF16 weights, a vocabulary so small that the head costs next to nothing
#   timed RANKS STAGE ARGUMENT ...  runs lode with the arguments and one thread a rank; prints the
#                seconds that the stage's pass took by its own account
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lode=$(realpath "${LODE:-$root/build-release/lode}")
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

model() {
    cat >config.json <<END
{"model_type": "llama", "num_hidden_layers": $1, "hidden_size": 1024, "intermediate_size": 2816,
 "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 512, "hidden_act": "silu",
 "max_position_embeddings": 2048, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "bos_token_id": 1,
 "eos_token_id": 2, "tie_word_embeddings": false}
END
    "$lode" synthesize config.json model --dtype BF16 >/dev/null 2>log || { cat log >&2; return 1; }
}

timed() {
    local ranks=$1 stage=$2 launcher=() log
    shift 2
    log=$(mktemp -p "$work")
    if [ "$ranks" -gt 1 ]; then
        launcher=(mpirun -q -n "$ranks" --bind-to none)
    fi
    "${launcher[@]}" "$lode" "$@" </dev/null >"$log" 2>&1 || { cat "$log" >&2; return 1; }
    sed -n "s/.*$stage: [a-z-]* .*, \([0-9.]*\) s\$/\1/p" "$log" | tail -n 1
}
