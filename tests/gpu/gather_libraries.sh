#!/bin/bash
# Usage: gather_libraries.sh FOLDER
#
# Puts beside the programs in FOLDER the shared libraries that they load, and those that these load in turn, but for
# glibc's own, which must be the host's.
set -euo pipefail
folder=$1

for program in "$folder"/*; do
  # Scripts, and the libraries that were put here before.
  if [[ "$program" == *.so* ]] || ! listing=$(ldd "$program" 2>/dev/null); then
    continue
  fi
  if grep 'not found' <<<"$listing" >&2; then
    echo "gather_libraries.sh: $program needs libraries that are not here" >&2
    exit 1
  fi
  sed -nE 's/^\s*(\S+) => (\/\S+) .*/\1 \2/p' <<<"$listing" | while read -r name path; do
    case "$name" in
      libc.so.* | libm.so.* | libpthread.so.* | libdl.so.* | librt.so.*) ;;
      *) [[ -e "$folder/$name" ]] || install -m 0755 "$(readlink -f "$path")" "$folder/$name" ;;
    esac
  done
done
