#!/usr/bin/env bash
# Some hundred steps on eight NPUs, for their speed, as the model zoo calls and reads it; README.md beside this file.
set -euo pipefail

. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
run_case perf 8 400 "$@"
