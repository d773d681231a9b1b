#!/usr/bin/env bash
# The published training on one Ascend NPU: the command of the best run.
#
#   bash train_npu.sh                              with the published paths, inside this directory
#   bash train_npu.sh --restore                    arguments are passed to npu_train.py
#   bash train_npu.sh --checkpoint_path=./run2     and override the defaults below
#   DEVICE_ID=3 bash train_npu.sh                  on another device
#
# It runs from any directory: given relative paths refer to the current directory, and the defaults
# to that of this file. PYTHON selects the interpreter. Variables that are set already are kept.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
. "$here/tools/interpreter.sh"

export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}
export RANK_SIZE=${RANK_SIZE:-1}
export RANK_ID=${RANK_ID:-0}
export JOB_ID=${JOB_ID:-10087}
# Either selects the device; the adapter prefers the former.
export ASCEND_DEVICE_ID=${ASCEND_DEVICE_ID:-${DEVICE_ID:-0}}
export DEVICE_ID=${DEVICE_ID:-$ASCEND_DEVICE_ID}

exec "$PYTHON" "$here/npu_train.py" \
  --input_size=512 \
  --learning_rate=0.0001 \
  --batch_size_per_gpu=14 \
  --num_readers=16 \
  --checkpoint_path="$here/checkpoint/" \
  --training_data_path="$here/ocr/icdar2015/" \
  --pretrained_model_path="$here/pretrain_model/resnet_v1_50.ckpt" \
  "$@"
