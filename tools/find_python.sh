#!/usr/bin/env bash
# Prints the path of the Python that the project's environment is made with.
#
# In this order: $PYTHON; the one that .venv was made with; a python3 on PATH that has TensorFlow 1.15
# (containers for NVIDIA GPUs and Ascend NPUs); a python3.7 on PATH that runs (a pyenv shim may exist
# and fail); pyenv's 3.7.x, newest first; conda environments; uv. If none is found, it prints how to
# install one and exits with 1.
set -u

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
passed_over=()

# Prints "ok", or why an interpreter cannot be used. Python 2 must be able to parse it.
probe='
import platform
import sys

def has(name):
    import importlib.util
    return importlib.util.find_spec(name) is not None

def has_tensorflow():
    if sys.version_info < (3, 7) or not has("tensorflow_core"):
        return False
    import tensorflow
    return tensorflow.__version__.startswith("1.15.")

def verdict():
    version = "%d.%d" % sys.version_info[:2]
    if platform.python_implementation() != "CPython":
        return "is %s, not CPython" % platform.python_implementation()
    if (version != "3.7" or "tensorflow" in sys.argv) and not has_tensorflow():
        return "is Python %s without TensorFlow 1.15" % version
    if not has("ensurepip") and not (has("tensorflow_core") and has("pip")):
        return "cannot make environments; install the package python%s-venv" % version
    return "ok"

print(verdict())
'

# judge PYTHON [tensorflow]: prints "ok" or the reason; with "tensorflow", it must have that.
judge() {
    local answer
    answer=$(TF_CPP_MIN_LOG_LEVEL=3 "$1" -c "$probe" "${@:2}" 2>/dev/null </dev/null) || answer=
    tail -n 1 <<<"${answer:-does not run}"
}

# Returns 0 for the interpreter of .venv itself, which is not a candidate.
is_ours() {
    local directory
    directory=$(cd "$(dirname "$1")" 2>/dev/null && pwd -P) || return 1
    [[ -d $root/.venv && $directory/ == "$(cd "$root/.venv" && pwd -P)"/* ]]
}

# take PYTHON [tensorflow]: if the interpreter can be used, prints its path and exits.
take() {
    local answer
    [[ -x $1 && ! -d $1 ]] && ! is_ours "$1" || return 0
    answer=$(judge "$@")
    if [[ $answer == ok ]]; then
        printf '%s\n' "$1"
        exit 0
    fi
    passed_over+=("$1 $answer")
}

# on_path NAME: every file of that name on PATH, not only the first.
on_path() {
    local directory directories
    IFS=: read -ra directories <<<"$PATH"
    for directory in "${directories[@]}"; do
        printf '%s\n' "${directory:-.}/$1"
    done
}

pyenv_pythons() {
    local pyenv_root
    for pyenv_root in "${PYENV_ROOT:-}" "${HOME:-}/.pyenv" "$(pyenv root 2>/dev/null)"; do
        printf '%s\n' "$pyenv_root"/versions/3.7*/bin/python
    done | sort -u -V -r
}

conda_pythons() {
    local base
    "${CONDA_EXE:-conda}" env list 2>/dev/null | awk '!/^#/ && NF {print $NF "/bin/python"}'
    for base in "${HOME:-}"/{mini,ana}conda3 "${HOME:-}"/{miniforge3,mambaforge} /opt/conda; do
        printf '%s\n' "$base"/bin/python "$base"/envs/*/bin/python
    done
}

uv_pythons() {
    uv python find --system 3.7 2>/dev/null || uv python find 3.7 2>/dev/null
}

take_given() {
    local path answer
    path=$(command -v "$PYTHON") || path=$PYTHON
    answer=$(judge "$path")
    if [[ $answer != ok ]]; then
        echo "error: PYTHON=$PYTHON $answer; name a Python 3.7, or leave PYTHON out to search" >&2
        exit 1
    fi
    [[ $path == /* ]] || path=$PWD/$path
    printf '%s\n' "$path"
    exit 0
}

search() {
    local source candidate
    while IFS= read -r candidate; do take "$candidate" tensorflow; done < <(on_path python3)
    passed_over=() # an ordinary python3 need not be reported
    for source in 'on_path python3.7' pyenv_pythons conda_pythons uv_pythons; do
        while IFS= read -r candidate; do take "$candidate"; done < <($source)
    done
}

explain() {
    cat >&2 <<'TEXT'
error: no Python 3.7 was found, which TensorFlow 1.15 needs. Each of these provides one:
  pyenv:   pyenv install 3.7.16
  conda:   conda create -n psenet python=3.7
  Docker:  docker run -it -v "$PWD":/psenet -w /psenet python:3.7 bash
Then run the same command again, which will find it. For a Python elsewhere, set
PYTHON=/path/to/python3.7. (uv is searched too, but no longer installs Python 3.7.)
TEXT
    if ((${#passed_over[@]})); then
        echo 'Rejected:' >&2
        printf '  %s\n' "${passed_over[@]}" >&2
    fi
    exit 1
}

# For detection alone: any CPython from 3.8 to 3.13, newest first.
find_for_detection() {
    local check='import ensurepip, platform, sys
sys.exit(platform.python_implementation() != "CPython" or not (3, 8) <= sys.version_info[:2] <= (3, 13))'
    local candidate version
    local candidates=()
    if [[ -n ${PYTHON:-} ]]; then
        if "$PYTHON" -c "$check" 2>/dev/null; then
            "$PYTHON" -c 'import sys; print(sys.executable)'
            exit 0
        fi
        echo "error: PYTHON=$PYTHON is not a CPython from 3.8 to 3.13 that can make environments" >&2
        exit 1
    fi
    candidate=$(sed -n 's/^home = //p' "$root/.venv-detect/pyvenv.cfg" 2>/dev/null)
    candidates+=("$candidate/python3")
    for version in 3.13 3.12 3.11 3.10 3.9 3.8; do
        candidates+=("python$version" "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/"$version".*/bin/python)
    done
    for candidate in "${candidates[@]}" python3; do
        if "$candidate" -c "$check" 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            exit 0
        fi
    done
    echo 'error: no CPython from 3.8 to 3.13 was found; set PYTHON=/path/to/python3' >&2
    exit 1
}

if [[ ${1:-} == detect ]]; then
    find_for_detection
fi
if [[ -n ${PYTHON:-} ]] && ! is_ours "$(command -v "$PYTHON" || echo "$PYTHON")"; then
    take_given
fi
remembered=$(cat "$root/.venv/setup/python" 2>/dev/null)
if [[ -n $remembered ]] && "$remembered" -c '' 2>/dev/null; then
    printf '%s\n' "$remembered"
    exit 0
fi
search
explain
