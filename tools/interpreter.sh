# Sourced by the published scripts with `here` set; chooses PYTHON from the environment, or .venv's.

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3.7
  if [ -x "$here/.venv/bin/python" ]; then
    PYTHON=$here/.venv/bin/python
  fi
fi
