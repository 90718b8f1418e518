#!/usr/bin/env bash
# The assignment's name for restart-pods.sh.
set -euo pipefail
exec "$(dirname "$0")/restart-pods.sh" "$@"
