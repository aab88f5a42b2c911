#!/bin/bash
# The demo runs to its end with its own checkpoint and with one that is given, with and without room in shared memory,
# fails where it should, and leaves nothing.
set -euo pipefail
export TMPDIR=$TEST_TMPDIR
export WEIGHTSTREAM_DEMO_MIB=24
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

fail() {
  echo "demo_test: $*" >&2
  exit 1
}

left() {
  find "$TEST_TMPDIR" /dev/shm -maxdepth 1 -name 'weightstream-demo.*' -user "$(id -un)" | sort
}

before=$(left)

# What it shows, and in which order.
expect() {
  local output=$1
  shift
  local pattern
  for pattern in "$@"; do
    grep -q -- "$pattern" <<<"$output" || fail "no '$pattern' in:"$'\n'"$output"
  done
}

output=$("$here/demo.sh" "$WEIGHTSTREAM_SERVER" "$WEIGHTSTREAM" 2>&1) || fail "the demo failed:"$'\n'"$output"
echo "$output"
first_output=$output
expect "$output" 'weightstream push' 'every checksum is equal' 'the same, bit for bit' \
  'every byte was the same' 'version 1 is current' \
  'weightstream status' 'nothing of it is left'

# With a checkpoint of one's own, which stays.
/usr/bin/python3 "$here/make_checkpoint.py" "$TEST_TMPDIR/my model" --mib=2 --shards=2
output=$("$here/demo.sh" "$WEIGHTSTREAM_SERVER" "$WEIGHTSTREAM" "$TEST_TMPDIR/my model" 2>&1) ||
  fail "the demo of a given checkpoint failed:"$'\n'"$output"
expect "$output" 'my\\ model' 'every byte was the same'
[[ $(find "$TEST_TMPDIR/my model" -name '*.safetensors' | wc -l) == 2 ]] || fail "the given checkpoint changed"

# Where shared memory has no room, or is not there, on disk. (Nothing is ever free in /proc.)
for shm in /proc "$TEST_TMPDIR/absent"; do
  output=$("$here/demo.sh" --shm="$shm" "$WEIGHTSTREAM_SERVER" "$WEIGHTSTREAM" "$TEST_TMPDIR/my model" 2>&1) ||
    fail "the demo without room in $shm failed:"$'\n'"$output"
  expect "$output" "$shm has 0 MiB free, and [0-9]* are needed" "--data-dir=$TEST_TMPDIR/" 'every byte was the same'
done
! grep -q 'the versions lie on disk' <<<"$first_output" || fail "there was room in /dev/shm:"$'\n'"$first_output"

# What is needed is counted right beyond 32 bits; the push of these zeros fails.
mkdir "$TEST_TMPDIR/huge"
truncate --size=9G "$TEST_TMPDIR/huge/model.safetensors"
code=0
output=$("$here/demo.sh" --shm=/proc "$WEIGHTSTREAM_SERVER" "$WEIGHTSTREAM" "$TEST_TMPDIR/huge" 2>&1) || code=$?
[[ "$code" == 1 ]] || fail "a file of zeros ended with $code:"$'\n'"$output"
expect "$output" "and $((3 * 9216 + 64)) are needed"

# A byte that differs is found.
/usr/bin/python3 "$here/make_checkpoint.py" "$TEST_TMPDIR/one" --mib=1 --shards=1
one=$(echo "$TEST_TMPDIR"/one/*.safetensors)
cp "$one" "$TEST_TMPDIR/other.safetensors"
/usr/bin/python3 "$here/compare_bytes.py" "$TEST_TMPDIR/one" "$TEST_TMPDIR/other.safetensors"
last=$(($(stat -c %s "$one") - 1))
byte=$(tail -c 1 "$one" | od -An -tu1)
printf '%b' "\\x$(printf '%02x' $((byte ^ 1)))" |
  dd of="$TEST_TMPDIR/other.safetensors" bs=1 seek="$last" conv=notrunc status=none
! /usr/bin/python3 "$here/compare_bytes.py" "$TEST_TMPDIR/one" "$TEST_TMPDIR/other.safetensors" ||
  fail "a byte that differs was not found"

# With one that is broken it fails, and cleans up all the same.
rm "$TEST_TMPDIR/my model/model-00002-of-00002.safetensors"
code=0
output=$("$here/demo.sh" "$WEIGHTSTREAM_SERVER" "$WEIGHTSTREAM" "$TEST_TMPDIR/my model" 2>&1) || code=$?
[[ "$code" == 1 ]] || fail "a broken checkpoint ended with $code:"$'\n'"$output"
expect "$output" 'NOT_FOUND'

[[ "$(left)" == "$before" ]] || fail "something is left: $(left)"
