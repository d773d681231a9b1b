#!/usr/bin/env bash
# The published training on one Ascend NPU: the command of the run that scored best.
#
#   bash train_npu.sh                              the published paths, inside this folder
#   bash train_npu.sh --restore                    arguments go to npu_train.py, after the ones below
#   bash train_npu.sh --checkpoint_path=./run2     so one of them replaces what stands below
#   DEVICE_ID=3 bash train_npu.sh                  another device
#
# It runs from any folder: a relative path that is given counts from where you are, the defaults lie
# beside this file. PYTHON names the interpreter. What the environment sets is left as it is.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
. "$here/tools/interpreter.sh"

export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}
export RANK_SIZE=${RANK_SIZE:-1}
export RANK_ID=${RANK_ID:-0}
export JOB_ID=${JOB_ID:-10087}
# Either names the device; the adapter prefers the former.
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
