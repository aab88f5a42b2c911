#!/bin/bash
# The bundle for GPU hosts starts on a machine that has no GPU, runs what it can, and says what it skipped and why.
set -euo pipefail

bundle=$TEST_TMPDIR/bundle
mkdir "$bundle"
cp -L tests/gpu/{run_bundle.sh,main_job.sh,gpu_benchmark,device_contract,cuda_kernels,cuda_ipc} "$bundle"
cp -L deploy/container/programs "$bundle/weightstream"
ln -s weightstream "$bundle/weightstream-server"
tests/gpu/gather_libraries.sh "$bundle"
# On a bare host there is glibc and nothing else.
for program in "$bundle"/*; do
  [[ "$program" == *.so* || "$program" == *.sh ]] && continue
  outside=$(LD_LIBRARY_PATH=$bundle ldd "$program" | grep -v "=> $bundle/" |
    grep -vE 'linux-vdso|ld-linux|lib(c|m|pthread|dl|rt)\.so' || true)
  if [[ -n "$outside" ]]; then
    echo "$program loads what the bundle has not: $outside"
    exit 1
  fi
done

# The main job as the GPU will do it, on devices that are here: with room for two versions, and for one.
job() {
  local device=$1 ending=$2 last
  "$bundle/main_job.sh" "$device" 8 >"$TEST_TMPDIR/job" 2>&1 || {
    cat "$TEST_TMPDIR/job"
    exit 1
  }
  last=$(tail -n 1 "$TEST_TMPDIR/job")
  [[ "$last" == "two versions of 8 MiB on $device: pushed, verified, pulled; $ending" ]] || {
    echo "it ended with: $last"
    exit 1
  }
}
job host-staged "rolled back to version 1"
job host-memory:20 "rolled back to version 1"
job host-memory:9 "version 2 in the place of version 1, rollback refused"
# What does not fit is a failure that names its step, not skipped.
result=0
"$bundle/main_job.sh" host-memory:7 8 >"$TEST_TMPDIR/job" 2>&1 || result=$?
if ((result != 1)) || ! grep -q '^failed on host-memory:7, at: version 1: pushed$' "$TEST_TMPDIR/job"; then
  cat "$TEST_TMPDIR/job"
  echo "code $result"
  exit 1
fi

output=$("$bundle/run_bundle.sh" 2>&1) || {
  echo "$output"
  exit 1
}
table=${output##*$'\n\n'}
echo "$table"
for name in "server" "client" "device contract" "kernels and their twins" \
  "memory of two processes" "main job" "benchmark"; do
  grep -qE "^$name +(passed|missed|skipped) " <<<"$table" || {
    echo "the table has no good result for '$name'"
    exit 1
  }
done
# Each case of a backend that is not here is named.
if grep -q '^benchmark *skipped' <<<"$table"; then
  grep -q 'SKIPPED.*Backends/DeviceContractTest.*/Cuda' <<<"$output"
  grep -q "SKIPPED.*Runtimes/SharedBetweenProcessesTest.*/Cuda" <<<"$output"
  grep -q '^benchmark *skipped *skipped: cuda:0' <<<"$table"
  grep -q '^main job *skipped *skipped: .*cuda:0' <<<"$table"
fi
