#!/usr/bin/env bash
# The published evaluation: detects text in the test images, packs the results, and scores them.
#
#   bash eval.sh                                   with the published paths, inside this directory
#   ckpt_dir=./out gt=./gt.zip bash eval.sh        environment variables set the paths
#   bash eval.sh --seg_map_thresh=0.99             arguments are passed to eval.py
#   bash eval.sh --platform=npu                    on an Ascend NPU instead of the CPU
#
# It runs from any directory: given relative paths refer to the current directory, and the defaults
# to that of this file. PYTHON selects the interpreter. Only the results of an earlier run are
# removed from output_dir. If a step fails, the script ends with the exit code of that step.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
output_dir=${output_dir:-$here/output}
ckpt_dir=${ckpt_dir:-$here/checkpoint/}
test_data=${test_data:-$here/ocr/ch4_test_images}
gt=${gt:-$here/evaluation/gt.zip}
# The shell does not expand ~ in `env gt=~/gt.zip`.
output_dir=${output_dir/#\~\//$HOME/}
gt=${gt/#\~\//$HOME/}
. "$here/tools/interpreter.sh"

# Checked before detection, which takes minutes.
if [ ! -f "$gt" ]; then
  echo "error: gt=$gt does not exist; see evaluation/README.md for how to get or make it" >&2
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
  echo "error: some images could not be read, so nothing was scored; fix them and run again" >&2
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
