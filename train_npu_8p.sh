#!/usr/bin/env bash
# The published training on several Ascend NPUs of a server, eight by default: runs train_npu.sh
# once per NPU, as the ranks of one job.
#
#   bash train_npu_8p.sh                           on eight devices
#   bash train_npu_8p.sh --restore                 arguments are passed to every train_npu.sh
#   RANK_SIZE=4 bash train_npu_8p.sh               on the four devices of rank_table_4p.json
#   bash train_npu_8p.sh --help                    lists the environment variables
#
# It runs from any directory: given relative paths refer to the current directory, and the defaults
# to that of this file. PYTHON selects the interpreter. Variables that are set already are kept.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
. "$here/tools/interpreter.sh"

export PYTHON START_DIRECTORY=$PWD
cd -- "$here"
exec "$PYTHON" -m tools.launch_npu "$@"
