#!/bin/sh
# Print a Python that Tidemark runs on, or say in one line what is missing. PYTHON names one by hand.
for python in ${PYTHON:-python3.12 python3.11 python3 python}; do
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1 || continue
    if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
        echo "$python has no venv module: install it (Debian and Ubuntu: apt install python3-venv)" >&2
        exit 1
    fi
    command -v "$python"
    exit 0
done
echo "Python 3.11 or 3.12 is missing${PYTHON:+ (PYTHON=$PYTHON is none)}: install one, or name it with make PYTHON=/path/to/python" >&2
exit 1
