#!/bin/sh
# Fuzzes the decoder of untrusted values and that of containers, inside of the Python that PYO3_PYTHON names; it must have
# numpy, to compare with.
# Arguments go to libFuzzer.
set -e
cd "$(dirname "$0")"
ask() { "$PYO3_PYTHON" -c "import sys, sysconfig; print($1)"; }
site=$(ask 'sysconfig.get_path("purelib")')
libraries=$(ask 'sysconfig.get_config_var("LIBDIR")')
home=$(ask sys.base_prefix)
export PYTHONPATH="$site" LD_LIBRARY_PATH="$libraries" PYTHONHOME="$home"
# The interpreter's own allocator would hide its objects from the sanitizer; what it never frees is no leak of ours.
export PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 OPENBLAS_NUM_THREADS=1
for target in plain containers; do
	cargo +nightly fuzz run --fuzz-dir . --features python "$target" -- "$@"
done
