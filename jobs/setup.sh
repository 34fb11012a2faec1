#!/usr/bin/env bash
# Finds what Lodestone needs, and installs what is missing where it may.
#
#   jobs/setup.sh             what building and running needs
#   jobs/setup.sh --tests     and what the tests need
#   jobs/setup.sh --checkers  and what tests/run.sh checks them with: Clang, sanitizers, Valgrind
#
# Each library is looked for by using it, not by asking the package manager, so a machine whose
# modules provide everything needs nothing. On Debian and its relatives root installs what is
# missing; anybody else is told, in one line, what to ask the administrator for. Exit status: 0 all
# there, 3 something is missing, 1 the installation failed.
set -euo pipefail

probe_folder=$(mktemp -d)
trap 'rm -rf "$probe_folder"' EXIT

# compiles COMPILER [FLAG ...]: whether it compiles and links the program on standard input.
compiles() {
    "$@" -x c - -o "$probe_folder/probe" >/dev/null 2>&1
}

# links_with COMPILER [FLAG ...]: whether an empty program links with a library. What that library
# wants from others is not this probe's business, so undefined symbols are let pass.
links_with() {
    local compiler=$1
    shift
    echo 'int main(void) { return 0; }' >"$probe_folder/empty.c"
    "$compiler" "$probe_folder/empty.c" -o "$probe_folder/probe" -Wl,--no-as-needed \
        -Wl,--unresolved-symbols=ignore-all "$@" >/dev/null 2>&1
}

# at_least WANTED HAVE: whether version HAVE is not older than WANTED.
at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

has_compiler() {
    compiles gcc -std=c17 -fopenmp <<<'#include <stdio.h>
int main(void) { return puts("") < 0; }'
}

has_cmake() {
    local version
    version=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p')
    [ -n "$version" ] && at_least 3.22 "$version"
}

has_ninja() { command -v ninja >/dev/null; }

has_pkg_config() { command -v pkg-config >/dev/null; }

has_mpi_compiler() {
    compiles mpicc <<<'#include <mpi.h>
int main(int argc, char **argv) { return MPI_Init(&argc, &argv); }'
}

has_mpirun() { command -v mpirun >/dev/null; }

# A parallel HDF5, in the places where pipeline/cmake/FindLodeHDF5.cmake looks.
has_hdf5() {
    local -a places=()
    local root module place
    for root in "${HDF5_ROOT:-}" "${HDF5_DIR:-}"; do
        [ -z "$root" ] || places+=("-I$root/include")
    done
    for module in hdf5-openmpi hdf5-mpi hdf5; do
        if pkg-config --exists "$module" 2>/dev/null; then
            places+=("$(pkg-config --cflags "$module")")
        fi
    done
    places+=("")
    for place in "${places[@]}"; do
        # Flags of pkg-config are several words.
        # shellcheck disable=SC2086
        if compiles mpicc -c $place <<<'#include <hdf5.h>
#ifndef H5_HAVE_PARALLEL
#error serial
#endif'; then
            return 0
        fi
    done
    h5pcc -showconfig 2>/dev/null | grep -q 'Parallel HDF5: *\(yes\|ON\)'
}

has_scalapack() {
    [ -z "${SCALAPACK_ROOT:-}${EBROOTSCALAPACK:-}" ] || return 0
    links_with mpicc -lscalapack-openmpi || links_with mpicc -lscalapack ||
        links_with mpicc -lscalapack-mpich
}

has_openblas() {
    [ -z "${OPENBLAS_ROOT:-}${OPENBLAS_HOME:-}${EBROOTOPENBLAS:-}" ] || return 0
    local machine
    machine=$(gcc -print-multiarch 2>/dev/null || true)
    links_with gcc "-L/usr/lib/$machine/openblas-openmp" -lopenblas &&
        compiles gcc -c "-I/usr/include/$machine/openblas-openmp" -I/usr/include/openblas \
            <<<'#include <cblas.h>'
}

has_libconfig() { pkg-config --exists libconfig 2>/dev/null; }
has_jansson() { pkg-config --exists 'jansson >= 2.13' 2>/dev/null; }
has_pcre2() { pkg-config --exists libpcre2-8 2>/dev/null; }
has_utf8proc() { pkg-config --exists libutf8proc 2>/dev/null; }
has_xxhash() { pkg-config --exists libxxhash 2>/dev/null; }
has_zlib() { pkg-config --exists zlib 2>/dev/null; }
has_openssl() { [ -n "${OPENSSL_ROOT_DIR:-}" ] || pkg-config --exists libcrypto 2>/dev/null; }
has_gnuplot() { command -v gnuplot >/dev/null; }
has_h5dump() { command -v h5dump >/dev/null; }
has_cmocka() { pkg-config --exists cmocka 2>/dev/null; }

has_clang() { compiles clang -std=c17 <<<'int main(void) { return 0; }'; }

has_clang_openmp() {
    compiles clang -fopenmp <<<'#include <omp.h>
int main(void) { return omp_get_max_threads() < 1; }'
}

has_clang_sanitizers() {
    compiles clang -fsanitize=address,undefined <<<'int main(void) { return 0; }'
}

# Also fails where valgrind has no symbols of the C library to work with.
has_valgrind() { valgrind -q true >/dev/null 2>&1; }

# Probe, Debian package, and what the thing is called elsewhere.
needs_of_lodestone='
has_compiler            build-essential             GCC with C17 and OpenMP
has_cmake               cmake                       CMake 3.22 or newer
has_ninja               ninja-build                 Ninja
has_pkg_config          pkg-config                  pkg-config
has_mpi_compiler        libopenmpi-dev              MPI (mpicc)
has_mpirun              openmpi-bin                 MPI (mpirun)
has_hdf5                libhdf5-openmpi-dev         parallel HDF5 of the same MPI
has_scalapack           libscalapack-openmpi-dev    ScaLAPACK of the same MPI
has_openblas            libopenblas-openmp-dev      OpenBLAS
has_libconfig           libconfig-dev               libconfig
has_jansson             libjansson-dev              Jansson 2.13 or newer
has_pcre2               libpcre2-dev                PCRE2
has_utf8proc            libutf8proc-dev             utf8proc
has_xxhash              libxxhash-dev               xxHash
has_zlib                zlib1g-dev                  zlib
has_openssl             libssl-dev                  OpenSSL
has_gnuplot             gnuplot-nox                 gnuplot'
needs_of_tests='
has_h5dump              hdf5-tools                  h5dump
has_cmocka              libcmocka-dev               cmocka'
needs_of_checkers='
has_clang               clang                       Clang
has_clang_openmp        libomp-dev                  OpenMP for Clang
has_clang_sanitizers    libclang-rt-dev             sanitizers for Clang
has_valgrind            valgrind                    Valgrind'

# Sets the lists missing_packages and missing_names.
look() {
    missing_packages=()
    missing_names=()
    local probe package name
    while read -r probe package name; do
        if [ -n "$probe" ] && ! "$probe"; then
            missing_packages+=("$package")
            missing_names+=("$name")
        fi
    done <<<"$needs"
}

names() {
    local text
    text=$(printf ', %s' "${missing_names[@]}")
    echo "${text#, }"
}

needs=$needs_of_lodestone
case "${1:-}" in
'') ;;
--tests) needs+=$needs_of_tests ;;
--checkers) needs+=$needs_of_tests$needs_of_checkers ;;
*)
    echo "usage: jobs/setup.sh [--tests | --checkers]" >&2
    exit 2
    ;;
esac

look
if [ ${#missing_packages[@]} -eq 0 ]; then
    echo "setup: everything that is needed is here"
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    if [ "${missing_packages[*]}" = gnuplot-nox ]; then
        echo "setup: gnuplot is missing; reports will have tables but no figures"
        exit 0
    elif command -v apt-get >/dev/null; then
        echo "setup: packages are missing; ask the administrator to run:" \
            "apt-get install --no-install-recommends ${missing_packages[*]}" >&2
    else
        echo "setup: missing: $(names); load their modules, or ask the administrator for them" >&2
    fi
    exit 3
fi

echo "setup: installing ${missing_packages[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$probe_folder/apt.log
# A release that has a library under another package's roof does not know the package's name; what
# is then still missing shows below.
install() {
    local package
    local -a known=()
    apt-get update || return 1
    for package in "${missing_packages[@]}"; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            known+=("$package")
        fi
    done
    [ ${#known[@]} -eq 0 ] || apt-get install -y --no-install-recommends "${known[@]}"
}
if ! install </dev/null >"$log" 2>&1; then
    grep '^[EW]:' "$log" >&2 || tail -n 20 "$log" >&2
    echo "setup: apt-get could not install ${missing_packages[*]}" >&2
    exit 1
fi
look
if [ ${#missing_packages[@]} -ne 0 ]; then
    echo "setup: installed, but still not usable: $(names)" >&2
    exit 1
fi
echo "setup: installed; everything that is needed is here"
