#!/usr/bin/env bash
# Full training on one NPU in the form of the model zoo; see README.md.
set -euo pipefail

. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
run_case acc 1 100000 "$@"
