#!/bin/bash
# Runs what lies beside it, one after the other, and ends with a table. Exits 1 if anything failed; what cannot run on
# this machine is skipped, with the reason. Rates that miss their goal are named and fail nothing. The environment may
# set the main job's MAIN_JOB_DEVICE (default cuda:0) and MAIN_JOB_MIB (1024).
set -uo pipefail
cd "$(dirname "$0")" || exit 1

# What a program exits with that has nothing to run on.
readonly skipped=77
table=()
code=0

# The programs look beside themselves for libraries; what these need in turn is found by this. Not for nvidia-smi, which
# is the host's.
readonly libraries=$PWD

# Runs a program; its last line, or the reason, goes into the table.
run() {
  local name=$1
  shift
  echo "== $name"
  local log result=0
  log=$(LD_LIBRARY_PATH=$libraries "$@" 2>&1) || result=$?
  echo "$log"
  local last outcome=passed
  last=$(tail -n 1 <<<"$log")
  # The test programs' last lines name skipped cases one by one.
  if grep -q '^\[==========\]' <<<"$log"; then
    last="$(grep -c '^\[  SKIPPED \].*ms)$' <<<"$log") cases skipped"
  elif [[ "$last" == "missed: "* ]]; then
    outcome=missed
  fi
  case "$result" in
    0) table+=("$name|$outcome|$last") ;;
    "$skipped") table+=("$name|skipped|$(tail -n 1 <<<"$log")") ;;
    *)
      table+=("$name|FAILED ($result)|$(tail -n 1 <<<"$log")")
      code=1
      ;;
  esac
}

readonly facts=name,driver_version,memory.total,pcie.link.gen.max,pcie.link.width.max
nvidia-smi --query-gpu="$facts" --format=csv 2>/dev/null ||
  echo "no nvidia-smi here"
uname -srm
run "server" bash -c 'set -o pipefail; ./weightstream-server --help | sed -n 1p'
run "client" ./weightstream --version
run "device contract" ./device_contract
run "kernels and their twins" ./cuda_kernels
run "memory of two processes" ./cuda_ipc
run "main job" ./main_job.sh "${MAIN_JOB_DEVICE:-cuda:0}" "${MAIN_JOB_MIB:-1024}"
run "benchmark" ./gpu_benchmark timeline.svg

echo
printf '%s\n' "${table[@]}" | while IFS='|' read -r name result note; do
  printf '%-26s %-12s %s\n' "$name" "$result" "$note"
done
exit "$code"
