#!/usr/bin/env bash
# Builds the client's image and pushes it to the local registry; --help tells the ways.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/kube.sh
. scripts/kube.sh
# shellcheck source=scripts/image.sh
. scripts/image.sh

recompile cltraft "$@"
