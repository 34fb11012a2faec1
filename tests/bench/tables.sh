#!/usr/bin/env bash
# Tables of results/ from what the report wrote, as Markdown:
#
#     tests/bench/tables.sh quantization RESULTS/summary.csv   perplexity by bits and protection
#     tests/bench/tables.sh audit RESULTS/audit.csv            a row for each folder
#
# A table for each model, point and dataset. Exit status: 0, 2 wrong command line.
set -euo pipefail

usage() {
    sed -n 's/^#     //p' "$0" >&2
    exit 2
}
if [ $# -ne 2 ] || [ ! -r "$2" ]; then
    usage
fi

# Takes a line of CSV apart: the field of a column is field("name"); the first line has the names.
# shellcheck disable=SC2016 # $0 is awk's
reader='
    function parse(line, n, part) {
        for (n = 1; ; n++) {
            if (match(line, /^"([^"]|"")*"/)) {
                part = substr(line, 2, RLENGTH - 2)
                gsub(/""/, "\"", part)
                line = substr(line, RLENGTH + 1)
            } else {
                part = line
                sub(/,.*/, "", part)
                line = substr(line, length(part) + 1)
            }
            cell[n] = part
            if (line == "") return
            line = substr(line, 2)
        }
    }
    function field(name) { return cell[at[name]] }
    function model() { return field("model") (field("point") == "" ? "" : " at " field("point")) }
    { parse($0) }
    NR == 1 { for (n in cell) at[cell[n]] = n; next }
'

# Variants of the dense model, a row for each quantization, columns for what is left as stored.
quantization() {
    awk "$reader"'
        field("metric") != "perplexity" || field("protocol") == "" { next }
        {
            table = model() ", " field("dataset") " (" field("protocol") ")"
            if (!(table in known)) { known[table] = ++tables; title[tables] = table }
            t = known[table]
        }
        field("method") == "dense" { dense[t] = field("value") }
        field("quantization") == "none" || field("variant") ~ /@/ { next }
        {
            name = field("quantization")
            if (!((t, name) in seen)) { seen[t, name] = 1; order[t, ++rows[t]] = name }
            value[t, name, field("protection")] = field("value")
        }
        END {
            split("none super-weight supernode both", kept, " ")
            for (t = 1; t <= tables; t++) {
                if (!rows[t]) continue
                printf "%s%s; dense %.4g\n\n", (written++ ? "\n" : ""), title[t], dense[t]
                print "| | none kept | super weights | supernodes | both |\n|---|---|---|---|---|"
                for (r = 1; r <= rows[t]; r++) {
                    printf "| `%s` |", order[t, r]
                    for (k = 1; k <= 4; k++)
                        if ((t, order[t, r], kept[k]) in value)
                            printf " %.4g |", value[t, order[t, r], kept[k]]
                        else
                            printf " |"
                    printf "\n"
                }
            }
        }' "$1"
}

# Rows over all layers, sorted by fields that come before any that may hold a comma.
audit() {
    awk "$reader"'
        function percent(x) { return x == "" ? "–" : sprintf("%.1f %%", 100 * x) }
        field("layer") != "all" { next }
        {
            table = model() (field("metric") == "" ? "" \
                : ", " field("metric") " on " field("dataset"))
            if (table != last)
                printf "%s%s; original %.4g\n\n", (NR > 2 ? "\n" : ""), table, field("value_original")
            if (table != last)
                print "| folder | value | core mass of the original | core again in core |" \
                    " super weights | core zeroed | changed | removed | error core | halo | rest |" \
                    "\n|---|---|---|---|---|---|---|---|---|---|---|"
            last = table
            before = field("core_mass_original")
            mass = before > 0 && field("core_mass") != "" ? field("core_mass") / before : ""
            printf "| %s | %.4g | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", field("folder"),
                field("value"), percent(mass), percent(field("core_overlap")),
                (field("superweights") > 0 ? field("superweights_surviving") " of " field("superweights") : "–") \
                    (field("superweights_detected") != "" ? ", " field("superweights_detected") \
                        " found again, " field("superweights_new") " new" : ""),
                percent(field("core_zeroed")), percent(field("core_changed")),
                percent(field("core_removed")), percent(field("weight_error_core")),
                percent(field("weight_error_halo")), percent(field("weight_error_rest"))
        }' <(head -n 1 "$1"; tail -n +2 "$1" | sort -s -t, -k1,1 -k22,23)
}

case $1 in
quantization | audit) "$1" "$2" ;;
*) usage ;;
esac
