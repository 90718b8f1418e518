#!/usr/bin/env bash
# The assignment's name for restart-pods.sh.
exec "$(dirname "$0")/restart-pods.sh" "$@"
