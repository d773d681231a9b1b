#!/usr/bin/env bash
# The published training on several Ascend NPUs of a server, all eight unless told otherwise: runs
# train_npu.sh once for each, as the ranks of one job.
#
#   bash train_npu_8p.sh                           eight devices
#   bash train_npu_8p.sh --restore                 arguments go to every rank's train_npu.sh
#   RANK_SIZE=4 bash train_npu_8p.sh               the four devices of rank_table_4p.json
#   bash train_npu_8p.sh --help                    what the environment may set
#
# It runs from any folder: a relative path that is given counts from where you are, the defaults lie
# beside this file. PYTHON names the interpreter. What the environment sets is left as it is.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
. "$here/tools/interpreter.sh"

export PYTHON START_DIRECTORY=$PWD
cd -- "$here"
exec "$PYTHON" -m tools.launch_npu "$@"
