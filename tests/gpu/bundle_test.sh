#!/bin/bash
# The bundle for GPU hosts starts on a machine that has no GPU, runs what it can, and says what it skipped and why.
set -euo pipefail

bundle=$TEST_TMPDIR/bundle
mkdir "$bundle"
cp -L tests/gpu/run_bundle.sh tests/gpu/gpu_benchmark tests/gpu/device_contract tests/gpu/cuda_kernels "$bundle"
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

output=$("$bundle/run_bundle.sh" 2>&1) || {
  echo "$output"
  exit 1
}
table=${output##*$'\n\n'}
echo "$table"
for name in "server" "client" "device contract" "kernels and their twins" "benchmark"; do
  grep -qE "^$name +(passed|skipped) " <<<"$table" || {
    echo "the table has no good result for '$name'"
    exit 1
  }
done
# Each case of a backend that is not here is named.
if grep -q '^benchmark *skipped' <<<"$table"; then
  grep -q 'SKIPPED.*Backends/DeviceContractTest.*/Cuda' <<<"$output"
  grep -q '^benchmark *skipped *skipped: cuda:0' <<<"$table"
fi
