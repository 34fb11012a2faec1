#!/usr/bin/env bash
# Runs a model of any shape, with random weights, through the calibration's statistics and one
# window of perplexity within a memory budget, and shows what that took as a Markdown table.
#
#     tests/bench/large.sh CONFIG [LAYERS]
#
# CONFIG is a config.json or a model's folder, whose tokenizer is then used; LAYERS are the layers to
# write, all unless given. The checkpoint (BF16) is written first and deleted at the end, as is
# everything else: two bytes a parameter must be free in FOLDER. Environment:
#
#     FOLDER  where to work (default: a new folder under $TMPDIR or /tmp)
#     RANKS   rank counts, one run each (default: "1 2")
#     THREADS of each rank (default: the processors divided by the ranks)
#     MEMORY  the budget of a rank (default: 6G)
#     SEQUENCES, LENGTH  of the calibration (default: 2 of 512 tokens)
#     WINDOW  tokens of the perplexity's window (default: 2048; 0: none)
#     LODE    the program (default: that of build-release)
#
# Private memory is RssAnon of /proc/PID/status, looked at twice a second, beside the peak that lode
# itself has seen; faults are those that had to wait for the disk. Exit status: 0 all runs
# succeeded, 1 one has not, 2 wrong arguments.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
lode=${LODE:-$root/build-release/lode}
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    sed -n '5p' "$0" >&2
    exit 2
fi
memory=${MEMORY:-6G} sequences=${SEQUENCES:-2} length=${LENGTH:-512} window=${WINDOW:-2048}
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
export OMPI_MCA_mpi_yield_when_idle=1
work=$(mktemp -d "${FOLDER:-${TMPDIR:-/tmp}}/lode-large-XXXXXX")
trap 'rm -rf "$work"' EXIT

echo "writing the checkpoint ..." >&2
"$lode" synthesize "$1" "$work/model" --dtype BF16 ${2:+--layers "$2"} </dev/null >&2
bytes=$(du -cb "$work"/model/*.safetensors | tail -1 | cut -f1)

# Lines of words of one letter: a token each, or two of the tokenizer of bytes that a config.json
# without a tokenizer beside it gets. A sequence is cut from a longer line; the text is one window.
letters() {
    awk -v n="$1" -v seed="$2" 'BEGIN {
        srand(seed)
        for (i = 0; i < n; i++) printf "%c ", 97 + int(rand() * 26)
        print ""
    }'
}
per=2
if [ -f "$1/tokenizer.json" ]; then
    per=1
fi
for ((line = 1; line <= sequences; line++)); do
    letters $((2 * length)) "$line"
done >"$work/calibration.txt"
letters $((5 * window / 4 / per)) 0 >"$work/window.txt"

cat >"$work/large.cfg" <<END
name = "large";
results = "$work/results";
memory = "$memory";
micro_batch = $((sequences * length > window ? sequences * length : window));
models = ( { name = "model"; path = "$work/model"; } );
calibration = { corpus = "$work/calibration.txt"; format = "lines"; sequences = $sequences;
                max_length = $length; };
prune = { methods = [ ]; };
evaluate = { perplexity = ( { name = "window"; corpus = "$work/window.txt"; format = "text";
             protocol = "gptq"; length = $window; } ); };
END
if [ "$window" -eq 0 ]; then
    sed -i '/^evaluate/,$d' "$work/large.cfg"
fi

# watch PID: the most private memory, faults and bytes read of each process below, until PID ends
watch() {
    while kill -0 "$1" 2>/dev/null; do
        for process in $(pgrep -x lode -P "$1") "$1"; do
            if [ "$(cat "/proc/$process/comm" 2>/dev/null)" = lode ]; then
                awk -v p="$process" -v f="$(awk '{print $12}' "/proc/$process/stat" 2>/dev/null)" \
                    -v r="$(awk '/^read_bytes/ {print $2}' "/proc/$process/io" 2>/dev/null)" \
                    '/^RssAnon/ {print p, $2 * 1024, f, r}' "/proc/$process/status" 2>/dev/null || true
            fi
        done
        sleep 0.5
    done | awk '{ if ($2 > most[$1]) most[$1] = $2; fault[$1] = $3; read[$1] = $4 }
        END { n = asorti_keys(most, key)
              for (i = 1; i <= n; i++) {
                  a = a (i > 1 ? ", " : "") sprintf("%.2f", most[key[i]] / 1e9)
                  f += fault[key[i]]; r += read[key[i]] }
              printf "%s | %d | %.1f", a, f, r / 1e9 }
        function asorti_keys(from, to,    k, n, i, t) {
            for (k in from) { n++; to[n] = k + 0 }
            for (i = 2; i <= n; i++) for (k = i; k > 1 && to[k - 1] > to[k]; k--) {
                t = to[k]; to[k] = to[k - 1]; to[k - 1] = t }
            return n }'
}

# step NAME RANKS THREADS STAGES: runs stages and prints a row of the table
step() {
    local start end seconds numbers pid command=("$lode")
    if [ "$2" -gt 1 ]; then
        command=(mpirun -n "$2" --oversubscribe --bind-to none "$lode")
    fi
    start=$(date +%s.%N)
    OMP_NUM_THREADS=$3 "${command[@]}" run "$work/large.cfg" --set "threads=$3" --stages "$4" \
        </dev/null >"$work/log" 2>&1 &
    pid=$!
    numbers=$(watch "$pid")
    if ! wait "$pid"; then
        cat "$work/log" >&2
        echo "$1 on $2 ranks failed" >&2
        return 1
    fi
    end=$(date +%s.%N)
    seconds=$(awk -v a="$start" -v b="$end" 'BEGIN {printf "%.0f", b - a}')
    rate=$(grep -o '[0-9]* tokens/s' "$work/log" | tail -1 || true)
    peak=$(sed -n 's/.*peak private memory \([0-9.]* GB (rank [0-9]*)\).*/\1/p' "$work/log")
    echo "| $2 × $3 | $1 | $seconds | ${rate% tokens/s} | $numbers | $peak |"
    sed 's/^/    /' "$work/log" >&2
}

echo "$(basename "$1" .json)${2:+, $2 layers}, BF16, $(awk -v b="$bytes" 'BEGIN {printf "%.1f", b / 1e9}') GB," \
    "memory = \"$memory\", $sequences × $length tokens, window of $window"
echo
echo "| ranks × threads | stages | s | tokens/s | private GB, each rank | faults | GB read | peak that lode saw |"
echo "|---|---|---|---|---|---|---|---|"
for ranks in ${RANKS:-1 2}; do
    processors=$(nproc)
    threads=${THREADS:-$((processors > ranks ? processors / ranks : 1))}
    rm -rf "$work/results"
    step "digests and ids" "$ranks" "$threads" tokenize
    step "calibrate, accumulate" "$ranks" "$threads" calibrate,accumulate
    if [ "$window" -gt 0 ]; then
        step "perplexity" "$ranks" "$threads" classify,prune,evaluate
    fi
done
