#!/bin/bash
# Usage: api_test.sh PAGE WRITTEN. Fails where docs/api.md is not what the .proto's comments say now.
set -euo pipefail
if ! diff -u "$1" "$2"; then
  echo "docs/api.md is stale: bazel run //docs:write_api" >&2
  exit 1
fi
grep -q '^### BeginUpdate$' "$1"
