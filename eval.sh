#!/usr/bin/env bash
# The published evaluation: detect in the test images, pack the results, score them.
#
#   bash eval.sh                                   the published paths, inside this folder
#   ckpt_dir=./out gt=./gt.zip bash eval.sh        each path may be given by the environment
#   bash eval.sh --seg_map_thresh=0.99             arguments go to eval.py, after the ones below
#   bash eval.sh --platform=npu                    so this detects on an Ascend NPU, not on the CPU
#
# It runs from any folder: a relative path that is given counts from where you are, the defaults lie
# beside this file. PYTHON names the interpreter. Only results of an earlier run are removed from
# output_dir. The first step that fails ends it, with that step's exit code.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
output_dir=${output_dir:-$here/output}
ckpt_dir=${ckpt_dir:-$here/checkpoint/}
test_data=${test_data:-$here/ocr/ch4_test_images}
gt=${gt:-$here/evaluation/gt.zip}
# As a shell expands it at the start of a word; env gt=~/gt.zip does not.
output_dir=${output_dir/#\~\//$HOME/}
gt=${gt/#\~\//$HOME/}
. "$here/tools/interpreter.sh"

# Known before the images are gone through, which takes minutes.
if [ ! -f "$gt" ]; then
  echo "error: there is no ground truth at gt=$gt; evaluation/README.md says how to get or make it" >&2
  exit 1
fi

mkdir -p -- "$output_dir"

status=0
"$PYTHON" "$here/eval.py" \
  --test_data_path="$test_data" \
  --checkpoint_path="$ckpt_dir" \
  --gpu_list="" \
  --output_dir="$output_dir" \
  "$@" || status=$?
if [ "$status" -eq 3 ]; then
  echo "error: some images could not be read, so nothing is scored; mend them and run again" >&2
fi
if [ "$status" -ne 0 ]; then
  exit "$status"
fi

output_dir=$(cd -- "$output_dir" && pwd)
gt=$(cd -- "$(dirname -- "$gt")" && pwd)/$(basename -- "$gt")
cd -- "$here"
"$PYTHON" -m tools.pack_results --output_dir="$output_dir" --gt="$gt"
case " $* " in
  *"-output_shape=polygon "* | *"-output_shape polygon "*) scorer=(evaluation/polygon_script.py) ;;
  *"-write_scores "* | *"-write_scores=true "*)
    scorer=(evaluation/script.py '-p={"CONFIDENCES": true}') ;;
  *) scorer=(evaluation/script.py) ;;
esac
"$PYTHON" "${scorer[@]}" -g="$gt" -s="$output_dir/results.zip"
