#!/bin/bash
# Builds build/gpu-bundle.tar.gz: all that a host with a GPU needs to be tested and measured, but for its driver. With
# the argument "here", unpacks nothing and runs it on this machine too.
#
#   tests/gpu/run.sh                            on the machine that has the CUDA toolkit
#   tar -xzf gpu-bundle.tar.gz && gpu-bundle/run_bundle.sh       on the one that has the GPU
set -euo pipefail
cd "$(dirname "$0")/../.."

read -ra bazel <<<"${BAZEL:-bazel}"
targets=(
  //tests/gpu:gpu_benchmark //tests/gpu:device_contract //tests/gpu:cuda_kernels //tests/gpu:cuda_ipc
  //deploy/container:programs
)
"${bazel[@]}" build "${targets[@]}"
outputs=$("${bazel[@]}" info bazel-bin 2>/dev/null)

bundle=build/gpu-bundle
rm -rf "$bundle"
mkdir -p "$bundle"
for target in "${targets[@]}"; do
  path=${target#//}
  cp -f "$outputs/${path/://}" "$bundle/"
done
chmod -R u+w "$bundle"
mv "$bundle/programs" "$bundle/weightstream"
ln -s weightstream "$bundle/weightstream-server"
tests/gpu/gather_libraries.sh "$bundle"
cp -f tests/gpu/run_bundle.sh tests/gpu/main_job.sh "$bundle/"
tar -C build -czf build/gpu-bundle.tar.gz gpu-bundle
echo "build/gpu-bundle.tar.gz: $(du -h build/gpu-bundle.tar.gz | cut -f 1)"

if [[ "${1:-}" == here ]]; then
  "$bundle/run_bundle.sh"
fi
