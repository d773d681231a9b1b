#!/usr/bin/env bash
# Full training on eight NPUs in the form of the model zoo; see README.md.
set -euo pipefail

. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
run_case acc 8 100000 "$@"
