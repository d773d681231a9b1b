#!/usr/bin/env bash
# The whole training on one NPU, as the model zoo calls and reads it; README.md beside this file.
set -euo pipefail

. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
run_case acc 1 100000 "$@"
