# Functions of the four scripts in this directory, which source this file; see README.md.

zoo=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$zoo/../.." && pwd)

NETWORK=PSENet_for_TensorFlow
PUBLISHED_BATCH_SIZE=14
BACKBONE=resnet_v1_50.ckpt

# Arguments of the model zoo; all others are passed to npu_train.py.
data_path=
ckpt_path=
precision_mode=
over_dump=False
data_dump_flag=False
data_dump_step=10
profiling=False
autotune=False
data_save_path=
train_arguments=()

usage() {
  cat <<USAGE
usage: bash $(basename -- "$0") --data_path=<dir> [argument ...]

  --data_path=<dir>         training images and labels, in it or in its ocr/icdar2015 or icdar2015
  --ckpt_path=<path>        pretrained $BACKBONE, or the directory that holds it (default:
                            pretrain_model in --data_path, else that of the project)
  --precision_mode=<mode>   precision mode of the adapter (default: that of the adapter)
  --over_dump=True          dump operators that overflow
  --data_dump_flag=True     dump tensors at the steps in --data_dump_step=10
  --profiling=True          profile
  --autotune=True           tune operators
  --data_save_path=<dir>    directory for dumps and profiles (default: the run's output directory)
  -h, --help                show this text

Any other --flag=value is passed to npu_train.py. The results are in output/<device>/.
USAGE
}

is_on() {
  case $1 in True | true | 1) return 0 ;; *) return 1 ;; esac
}

fail() {
  echo "error: $1" >&2
  exit 1
}

read_arguments() {
  local argument name
  for argument; do
    name=${argument%%=*}
    case $argument in
      -h | --help)
        usage
        exit 0
        ;;
      --data_path=* | --ckpt_path=* | --precision_mode=* | --over_dump=* | --data_dump_flag=* | \
        --data_dump_step=* | --profiling=* | --autotune=* | --data_save_path=*)
        printf -v "${name#--}" '%s' "${argument#*=}"
        ;;
      *) train_arguments+=("$argument") ;;
    esac
  done
  if [ -z "$data_path" ]; then
    echo '[Error] para "data_path" must be confing'
    exit 1
  fi
  for name in data_path ckpt_path data_save_path; do
    if [ -n "${!name}" ]; then
      printf -v "$name" '%s' "$(as_meant "${!name}")"
    fi
  done
}

# Prints a path as the caller's shell resolves it: in the link test/, the shell's .. is the project's
# directory, but for programs it is the parent of the link's target.
as_meant() {  # path
  local directory
  if directory=$(cd -- "$1" 2>/dev/null && pwd); then
    printf '%s' "$directory"
  elif directory=$(cd -- "$(dirname -- "$1")" 2>/dev/null && pwd); then
    printf '%s' "${directory%/}/$(basename -- "$1")"
  else
    printf '%s' "$1"
  fi
}

# Sets data_arguments from the two paths of the model zoo.
read_paths() {
  local directory training_data
  training_data=$data_path
  for directory in "$data_path/ocr/icdar2015" "$data_path/icdar2015"; do
    if [ -d "$directory" ]; then
      training_data=$directory
    fi
  done
  data_arguments=("--training_data_path=$training_data")
  if [ -d "$ckpt_path" ]; then
    ckpt_path=$ckpt_path/$BACKBONE
  elif [ -z "$ckpt_path" ] && [ -e "$data_path/pretrain_model/$BACKBONE" ]; then
    ckpt_path=$data_path/pretrain_model/$BACKBONE
  fi
  if [ -n "$ckpt_path" ]; then
    data_arguments+=("--pretrained_model_path=$ckpt_path")
  fi
}

# Sets adapter_arguments: the switches of the model zoo as flags of npu_train.py.
read_switches() {
  local save=${data_save_path:-$output}
  adapter_arguments=()
  if is_on "$over_dump" && is_on "$data_dump_flag"; then
    fail '--over_dump and --data_dump_flag cannot both be True; run once with each'
  fi
  if [ -n "$precision_mode" ]; then
    adapter_arguments+=("--precision_mode=$precision_mode")
  fi
  if is_on "$over_dump"; then
    mkdir -p -- "$save/overflow_dump"
    adapter_arguments+=(--enable_dump_debug "--dump_path=$save/overflow_dump")
  fi
  if is_on "$data_dump_flag"; then
    mkdir -p -- "$save/data_dump"
    adapter_arguments+=(--enable_dump "--dump_path=$save/data_dump" "--dump_step=$data_dump_step")
  fi
  if is_on "$profiling"; then
    mkdir -p -- "$save/profiling"
    adapter_arguments+=(--profiling_mode
      "--profiling_options={\"output\":\"$save/profiling\",\"training_trace\":\"on\",\"task_trace\":\"on\"}")
  fi
  if is_on "$autotune"; then
    adapter_arguments+=('--auto_tune_mode=RL,GA')
  fi
}

value_of() {  # name default: the last --name=value for npu_train.py
  local argument value=$2
  for argument in ${train_arguments[@]+"${train_arguments[@]}"}; do
    case $argument in "--$1="*) value=${argument#*=} ;; esac
  done
  printf '%s' "$value"
}

# Runs a command with its output in the log; signals to this script are passed on to the command.
run_logged() {
  local child status=0
  set -m  # otherwise a background command would ignore SIGINT
  "$@" >"$log" 2>&1 </dev/null &
  child=$!
  set +m
  trap 'kill -INT "$child"' INT
  trap 'kill -TERM "$child"' TERM
  while :; do
    status=0
    wait "$child" || status=$?
    kill -0 "$child" 2>/dev/null || break
  done
  trap - INT TERM
  return "$status"
}

field_of() {  # text number: that field of the log's last line that begins with the text
  { grep -a "^$1 " "$log" || true; } | tail -n 1 | cut -d ' ' -f "$2"
}

# Prints and writes the results in the form of the model zoo.
write_results() {  # acc|perf seconds
  local case_name=${NETWORK}_bs${batch_size}_${RANK_SIZE}p_$1 fps accuracy step_seconds losses
  # The rate is that of all ranks together.
  fps=$(field_of FPS 2)
  accuracy=$(field_of 'Final Train Accuracy' 4)
  step_seconds=$(field_of 'avg time per step' 5)
  losses=$output/train_${case_name}_loss.txt
  { grep -a '\] Step [0-9]' "$log" || true; } | cut -d , -f 3 | cut -d ' ' -f 4 >"$losses"

  echo '------------------ Final result ------------------'
  echo "Final Performance images/sec : $fps"
  echo "Final Train Accuracy : $accuracy"
  echo "E2E Training Duration sec : $2"
  {
    echo "Network = $NETWORK"
    echo "RankSize = $RANK_SIZE"
    echo "BatchSize = $batch_size"
    echo "DeviceType = $(uname -m)"
    echo "CaseName = $case_name"
    echo "ActualFPS = $fps"
    echo "TrainingTime = $step_seconds"
    if [ "$1" = acc ]; then
      echo "TrainAccuracy = $accuracy"
    fi
    echo "ActualLoss = $(tail -n 1 -- "$losses")"
    echo "E2ETrainingTime = $2"
  } >"$output/$case_name.log"
}

run_case() {  # acc|perf ranks steps arguments...
  local kind=$1 steps=$3 device status=0 launcher=train_npu.sh started=$SECONDS
  export RANK_SIZE=$2
  shift 3
  read_arguments "$@"
  device=${ASCEND_DEVICE_ID:-${DEVICE_ID:-0}}
  if ((RANK_SIZE > 1)); then
    device=${DEVICES:-0}
    device=${device%%,*}
    launcher=train_npu_8p.sh
    export RANK_OUTPUT=$zoo/output/%d/train_%d.log
  else
    # The rank table of another job would start collectives.
    unset RANK_TABLE_FILE
    export RANK_ID=0
  fi
  # It is the name of a directory that is emptied.
  [[ $device =~ ^[0-9]+$ ]] || fail "the device $device must be a number"
  output=$zoo/output/$device
  log=$output/train_$device.log
  batch_size=$(value_of batch_size_per_gpu "$PUBLISHED_BATCH_SIZE")
  rm -rf -- "$output"
  mkdir -p -- "$output/ckpt"
  read_paths
  read_switches

  echo "training; the log is $log"
  run_logged bash "$root/$launcher" "${data_arguments[@]}" "--checkpoint_path=$output/ckpt" \
    "--max_steps=$steps" ${adapter_arguments[@]+"${adapter_arguments[@]}"} \
    ${train_arguments[@]+"${train_arguments[@]}"} || status=$?
  if ((status != 0)); then
    echo "training ended with exit code $status; the last lines of $log:" >&2
    tail -n 5 -- "$log" >&2
    exit "$status"
  fi
  write_results "$kind" $((SECONDS - started))
}
