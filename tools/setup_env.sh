#!/usr/bin/env bash
# Makes .venv ready; where nothing has changed since the last time, that takes no time.
#
# PYTHON=/path chooses the interpreter, TF=name==version the build of TensorFlow. Both hold for
# later runs without them.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -x .venv/bin/python ]] && .venv/bin/python -m tools.setup_env --check 2>/dev/null; then
    exit 0
fi

python=
if [[ -z ${PYTHON:-} && -s .venv/setup/python ]]; then
    python=$(PYTHON=$(<.venv/setup/python) tools/find_python.sh 2>/dev/null) || python=
fi
[[ -n $python ]] || python=$(tools/find_python.sh)
exec "$python" -m tools.setup_env --interpreter="$python"
