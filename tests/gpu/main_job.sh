#!/bin/bash
# Usage: main_job.sh DEVICE [MIB]
#
# The main job with the real programs that lie beside it, bash and coreutils: a server with --device=DEVICE, a
# checkpoint of so many MiB (default 1024) pushed, verified by digests where its bytes lie, and pulled and compared byte
# for byte; a second version; the first one again, or that refused where the second took its place. The last line says
# what was done; exits with 77 where the machine has not that device.
set -euo pipefail

device=${1:?usage: main_job.sh DEVICE [MIB]}
mib=${2:-1024}
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# The programs look here for libraries too; bash and the host's tools shall not.
unset LD_LIBRARY_PATH
readonly skipped=77 start_seconds=60 stop_seconds=60 tensors=4
# What a server says of a GPU that is not there. Whatever else keeps it from its start is a failure.
readonly no_device='built without CUDA|no NVIDIA driver|driver sees no GPU'

work=$(mktemp -d "${TMPDIR:-/tmp}/weightstream-main-job.XXXXXX")
server=""

finish() {
  local code=$?
  trap - EXIT
  [[ -z "$server" ]] || kill -KILL "$server" 2>/dev/null || true
  wait 2>/dev/null || true
  if ((code != 0 && code != skipped)); then
    [[ ! -e "$work/log" ]] || tail -n 20 "$work/log"
    echo "failed on $device, at: $step"
  fi
  rm -rf "$work"
  exit "$code"
}
step="making the checkpoints"
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Says what comes, as the reason if it fails.
begin() {
  step=$1
  echo "-- $step"
}

# A safetensors file: BF16 tensors of random bytes, an equal part of the whole each.
make_checkpoint() {
  local path=$1 part=$(((mib << 20) / tensors)) header="" i size
  for ((i = 0; i < tensors; ++i)); do
    header+="${header:+,}\"layer.$i.weight\":{\"dtype\":\"BF16\",\"shape\":[1024,$((part / 2048))],"
    header+="\"data_offsets\":[$((i * part)),$(((i + 1) * part))]}"
  done
  header="{$header}"
  size=${#header}
  {
    # Its length, in eight bytes, the lowest first. It is below 65536.
    # shellcheck disable=SC2059
    printf "$(printf '\\x%02x\\x%02x' $((size & 255)) $((size >> 8)))\0\0\0\0\0\0%s" "$header"
    head -c "$((mib << 20))" /dev/urandom
  } >"$path"
}

weightstream() {
  LD_LIBRARY_PATH=$here "$here/weightstream" "$@" --model=job
}

# Fails where its command is not refused.
refused() {
  local result=0
  "$@" >"$work/refusal" 2>&1 || result=$?
  cat "$work/refusal"
  ((result == 1)) || {
    echo "it ended with code $result, and 1 was to be"
    return 1
  }
}

begin "a server with --device=$device"
LD_LIBRARY_PATH=$here "$here/weightstream-server" --listen=127.0.0.1:0 --data-dir="$work/versions" \
  --device="$device" >"$work/out" 2>"$work/log" &
server=$!
deadline=$((SECONDS + start_seconds))
until grep -q '^listening on ' "$work/out"; do
  if ! kill -0 "$server" 2>/dev/null; then
    if grep -qE "$no_device" "$work/log"; then
      echo "skipped: $(tail -n 1 "$work/log")"
      exit "$skipped"
    fi
    exit 1
  fi
  ((SECONDS < deadline)) || exit 1
  sleep 0.05
done
address=$(sed -n 's/^listening on //p' "$work/out")

begin "two checkpoints of $mib MiB"
for version in 1 2; do make_checkpoint "$work/$version.safetensors"; done

for version in 1 2; do
  begin "version $version: pushed"
  weightstream push "$work/$version.safetensors" --to="$address" --version="$version"
  begin "version $version: verified where it lies"
  weightstream verify "$work/$version.safetensors" --to="$address"
  begin "version $version: another one is not taken for it"
  refused weightstream verify "$work/$((3 - version)).safetensors" --to="$address"
  begin "version $version: pulled, and compared byte for byte"
  weightstream pull --from="$address" --out="$work/pulled"
  cmp <(tail -c "$((mib << 20))" "$work/$version.safetensors") \
    <(tail -c "$((mib << 20))" "$work/pulled/model.safetensors")
  rm -rf "$work/pulled"
done

begin "status"
weightstream status --to="$address" | tee "$work/status"

if grep -qE '^1 +[0-9]' "$work/status"; then
  begin "version 1 is still held: rolled back to it"
  weightstream rollback --to="$address" --version=1
  weightstream verify "$work/1.safetensors" --to="$address"
  refused weightstream verify "$work/2.safetensors" --to="$address"
  ending="rolled back to version 1"
else
  begin "version 2 took its place: a rollback is refused, and harms nothing"
  refused weightstream rollback --to="$address" --version=1
  weightstream verify "$work/2.safetensors" --to="$address"
  ending="version 2 in the place of version 1, rollback refused"
fi

begin "the server ends"
kill -TERM "$server"
deadline=$((SECONDS + stop_seconds))
while kill -0 "$server" 2>/dev/null; do
  ((SECONDS < deadline)) || exit 1
  sleep 0.05
done
wait "$server"
server=""
echo "two versions of $mib MiB on $device: pushed, verified, pulled; $ending"
