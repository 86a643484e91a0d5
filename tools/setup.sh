#!/bin/sh
# Put everything that Concertina needs into .venv. Done once per lock: a marker named by its checksum says so.
# Torch comes first and by pip, so that a machine's own choice of build (CPU or CUDA) stands; uv installs the rest.
set -eu
cd "$(dirname "$0")/.."

lock=$(cat constraints.txt requirements.txt requirements-dev.txt pyproject.toml tools/setup.sh | cksum | tr ' ' -)
[ -f ".venv/set-up-$lock" ] && exit 0

find_python() {
    for python in ${PYTHON:-python3.11 python3 python}; do
        if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    echo "error: Python 3.11 is needed, and ${PYTHON:-neither python3.11 nor python3} is not that;" \
        "install it (Debian: python3.11 and python3.11-venv) or say where it is: make PYTHON=/path/to/python3.11" >&2
    exit 1
}

python=$(find_python)
echo "setup: Python environment in .venv (once; a few minutes, most of them for torch)" >&2
rm -f .venv/set-up-*
[ -x .venv/bin/python ] || "$python" -m venv .venv || {
    rm -rf .venv
    echo "error: $python cannot make an environment; on Debian, install python3.11-venv" >&2
    exit 1
}
pip="$PWD/.venv/bin/python -m pip -q -q --disable-pip-version-check"
uv="$PWD/.venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python"

$pip install torch -c constraints.txt
$pip install uv==0.13.9
$uv -r requirements.txt -r requirements-dev.txt setuptools -c constraints.txt ||
    $pip install -r requirements.txt -r requirements-dev.txt setuptools -c constraints.txt
$pip install --no-deps --no-build-isolation -e .
$pip install py-nanotts -c constraints.txt ||
    echo "setup: py-nanotts does not install here; the test split that it speaks will be skipped" >&2
touch ".venv/set-up-$lock"
