#!/bin/bash
# Usage: tests/demo/demo.sh [--shm=FOLDER] SERVER_BINARY COMMAND_BINARY [MODEL]
#
# Shows what Weightstream does, from end to end, on this machine: a server in a temporary folder, a checkpoint pushed,
# verified, replaced under a reader's eyes, rolled back. Prints each command before it runs it, as one would type it.
# MODEL is a .safetensors file or a Hugging Face folder; without it a checkpoint of about 1 GiB is made
# (WEIGHTSTREAM_DEMO_MIB sets another size). Versions lie in FOLDER (default /dev/shm) if three of them fit there, on
# disk otherwise. Cleans up whatever happens; exits 1 if anything failed.
set -euo pipefail

shm=/dev/shm
if [[ "${1:-}" == --shm=* ]]; then
  shm=${1#--shm=}
  shift
fi
(($# == 2 || $# == 3)) || {
  sed -n '2s/^# //p' "$0" >&2
  exit 2
}
server_binary=$(realpath -- "$1")
command_binary=$(realpath -- "$2")
model=${3:-}
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
size_mib=${WEIGHTSTREAM_DEMO_MIB:-1024}
# Debian's own, which sees Debian's NumPy, whatever else is on PATH.
readonly python=/usr/bin/python3
readonly start_seconds=30 stop_seconds=60
# Two versions, and the memory that the server makes ready for a next one; headers and the like come on top.
readonly versions_held=3 margin_bytes=$((64 << 20))

[[ -z "$model" ]] || model=$(realpath -- "$model")
work=$(mktemp -d "${TMPDIR:-/tmp}/weightstream-demo.XXXXXX")
data="" server_pid="" reader_pid=""

finish() {
  local code=$?
  trap - EXIT
  if [[ -n "$reader_pid" ]]; then
    exec {reader_input}>&- || true
    kill "$reader_pid" 2>/dev/null || true
  fi
  [[ -z "$server_pid" ]] || kill -KILL "$server_pid" 2>/dev/null || true
  wait 2>/dev/null || true
  if ((code != 0)) && [[ -e "$work/server.log" ]]; then
    echo "demo: failed; the server's log:" >&2
    tail -n 20 "$work/server.log" >&2
  fi
  rm -rf "$work" ${data:+"$data"}
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() {
  printf '\n\033[1m# %s\033[0m\n' "$*"
}

# Shows a command as one would type it, then runs it: the programs by their names, without the paths of this build.
run() {
  show "$@"
  "$@"
}

show() {
  local shown
  shown=$(printf ' %q' "$@")
  shown=${shown//"$command_binary"/weightstream}
  shown=${shown//"$python"/python3}
  shown=${shown//"$server_binary"/weightstream-server}
  printf '$%s\n' "${shown/%'\&'/"&"}"
}

# Waits until a command succeeds, as long as a process lives and for so many seconds.
await() {
  local pid=$1 seconds=$2 deadline=$((SECONDS + $2))
  shift 2
  until "$@"; do
    if ! kill -0 "$pid" 2>/dev/null || ((SECONDS > deadline)); then
      echo "demo: not so within $seconds seconds: $*" >&2
      return 1
    fi
    sleep 0.05
  done
}

has_ended() {
  ! kill -0 "$1" 2>/dev/null
}

bytes_of() {
  find -L "$1" -maxdepth 1 -name '*.safetensors' -printf '%s\n' | awk '{ sum += $1 } END { printf "%.0f", sum }'
}

# Makes the folder of the versions: in shared memory, as it would be beside an inference server, if there is room. (A
# container has 64 MiB of it unless it is given more.)
make_data_folder() {
  local needed=$((versions_held * $(bytes_of "$first") + margin_bytes)) free
  free=$(df --output=avail --block-size=1 -- "$shm" 2>/dev/null | tail -n 1) || free=0
  if ((free >= needed)); then
    data=$(mktemp -d "$shm/weightstream-demo.XXXXXX")
  else
    data=$work/versions
    mkdir "$data"
    say "$shm has $((free >> 20)) MiB free, and $((needed >> 20)) are needed: the versions lie on disk, in $data"
  fi
}

first=$model second=$model
if [[ -z "$model" ]]; then
  say "Two versions of a checkpoint of about $size_mib MiB: bf16, four shards and an index"
  first=$work/step-100 second=$work/step-200
  run "$python" "$here/make_checkpoint.py" "$first" --mib="$size_mib" --seed=100
  run "$python" "$here/make_checkpoint.py" "$second" --mib="$size_mib" --seed=200
fi

make_data_folder

say "A server, beside which an inference server would run"
show "$server_binary" --listen=127.0.0.1:0 --data-dir="$data" "&"
"$server_binary" --listen=127.0.0.1:0 --data-dir="$data" >"$work/server.out" 2>"$work/server.log" &
server_pid=$!
await "$server_pid" "$start_seconds" grep -s '^listening on ' "$work/server.out"
address=$(sed -n 's/^listening on //p' "$work/server.out")

say "The first version: pushed, then every byte that the server holds checked, by checksums of blocks of 16 MiB"
run "$command_binary" push "$first" --to="$address" --model=demo
run "$command_binary" verify "$first" --to="$address" --model=demo

say "On one machine they can be compared themselves: the checkpoint, and the file that readers map"
held=$data/demo/current/model.safetensors
run "$python" "$here/compare_bytes.py" "$first" "$held"

say "A reader maps the first version while the second one is pushed"
mkfifo "$work/reader.in"
show "$python" "$here/hold_version.py" "$held" "&"
"$python" "$here/hold_version.py" "$held" <"$work/reader.in" >"$work/reader.out" &
reader_pid=$!
exec {reader_input}>"$work/reader.in"
await "$reader_pid" "$start_seconds" grep -s '^reader: holds ' "$work/reader.out"
run "$command_binary" push "$second" --to="$address" --model=demo
run "$command_binary" verify "$second" --to="$address" --model=demo
exec {reader_input}>&-
wait "$reader_pid"
reader_pid=""
tail -n 1 "$work/reader.out"

say "Both versions are held, the second one is current"
run "$command_binary" status --to="$address" --model=demo
run ls -l "$data/demo"

say "Back to the first version, at once"
run "$command_binary" rollback --to="$address" --model=demo --version=1
run "$command_binary" verify "$first" --to="$address" --model=demo
run "$command_binary" status --to="$address"

say "The server ends"
printf '$ kill -TERM %s\n' "$server_pid"
kill -TERM "$server_pid"
await $$ "$stop_seconds" has_ended "$server_pid"
wait "$server_pid"
server_pid=""
[[ -z "$(find "$data" -name '.incoming*' -o -name '.next')" ]]

say "Done: nothing of it is left"
