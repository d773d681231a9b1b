#!/usr/bin/env bash
# Performance of a few hundred steps on eight NPUs in the form of the model zoo; see README.md.
set -euo pipefail

. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
run_case perf 8 400 "$@"
