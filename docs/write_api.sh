#!/bin/bash
# Usage: bazel run //docs:write_api. Rewrites docs/api.md from the .proto's comments.
set -euo pipefail
install -m 644 "$1" "$BUILD_WORKSPACE_DIRECTORY/docs/api.md"
