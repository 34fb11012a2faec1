# shellcheck shell=bash
# shellcheck disable=SC2034
# What tests of whole stages begin with; they source it. It leaves them in the project's root, with
#   root, lode   the root, and the program under test (LODE; default: that of build-release)
#   work         a folder of their own, deleted at the end; so is what they mount at $mounted
#   ok, bad      print a verdict; `failed` is 1 after a bad one
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lode=${LODE:-$root/build-release/lode}
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
work=$(mktemp -d)
mounted=
finish() {
    if [ -n "$mounted" ]; then umount "$mounted" || true; fi
    rm -rf "$work"
}
trap finish EXIT
cd "$root"

failed=0
ok() { echo "ok    $*"; }
bad() {
    echo "FAIL  $*"
    failed=1
}
