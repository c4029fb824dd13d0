#!/bin/sh
# Install exactly what the lock names into /opt/venv, from wheels only: nothing is compiled, so no compiler is needed.
#
#   install.sh LOCK lock|cpu
#
# With `cpu`, torch and torchvision come in their builds without CUDA, and CUDA's own packages stay out.
set -eu
lock=$1
case $2 in
lock) set -- ;;
cpu)
    grep -vE '^(nvidia-|cuda-|triton==)' "$lock" >/tmp/cpu.lock
    lock=/tmp/cpu.lock
    set -- --torch-backend=cpu
    ;;
*)
    echo "TORCH is lock or cpu, not $2" >&2
    exit 2
    ;;
esac
/opt/venv/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check "$(grep '^uv==' "$lock")"
/opt/venv/bin/uv pip sync --quiet --no-cache --no-build --compile-bytecode --python /opt/venv/bin/python "$@" "$lock"
