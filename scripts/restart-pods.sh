#!/usr/bin/env bash
# Restarts the replicas' pods, one at a time.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: scripts/restart-pods.sh [--help]

Deletes the replicas' pods one after the other, the leader's last, and each time waits until the new
one is ready and a voter again. It begins only when all are, so that a majority answers all the time.

go_statefulset.sh and go_pods.sh are the assignment's names for it.

Never delete all pods at once on the kind overlay: with emptyDir a deleted pod's data is gone, and
what the others do not hold is lost.

  BALSA_CLUSTER   the kind cluster's name (default: balsa)
  BALSA_CONTEXT   any other cluster, by its context
HELP
}

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
no_options "$@"
# shellcheck source=scripts/kube.sh
. scripts/kube.sh
# shellcheck source=scripts/agree.sh
. scripts/agree.sh

need_manifests "$CLIENT"
find_context current
ours statefulset raft srvraft || die "there is no StatefulSet raft in context $CONTEXT: scripts/start.sh makes it"
find_replicas
usable_client || die "the client pod cliente cannot be used; without it nobody can see whether the replicas are voters"

leader() { enter -o json status | grep '"is_leader":true' | sed -n 's/.*"name":"\([^"]*\)".*/\1/p' | head -n 1; }

whole() { all_ready && all_voters; }

eventually "$SETTLE" "all replicas are ready and voters" whole || {
    placements >&2
    die "not all replicas are ready and voters, so none is restarted: another one less could be one too many"
}
last=$(leader)
order=()
for seat in $(seats); do if [[ $seat != "$last" ]]; then order+=("$seat"); fi; done
for seat in "${order[@]}" ${last:+"$last"}; do
    former=$(uid_of "$seat")
    say "$seat is deleted"
    k delete pod "$seat" --wait=false >/dev/null
    if ! eventually "$POD_READY" "the new $seat is ready" pod_ready_anew "$seat" "$former" ||
        ! eventually "$SETTLE" "all replicas are voters" whole; then
        placements >&2
        die "$seat did not come back; the others are left alone. kubectl describe pod $seat; kubectl logs $seat"
    fi
    say "${BOLD}ok${PLAIN} $seat is ready and a voter"
done
placements
