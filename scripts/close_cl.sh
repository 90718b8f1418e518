#!/usr/bin/env bash
# Removes exactly what start.sh made.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: scripts/close_cl.sh [--help]

Removes what scripts/start.sh made: the kind cluster, the registry, the two images in the container
engine, and the certificates. What somebody else made under the same names is left alone and
reported. Nothing to remove is no error.

  BALSA_CLUSTER   the kind cluster's name (default: balsa)
  BALSA_CONTEXT   a cluster of your own, by its context: removes the replicas, the client pods, their
                  Services and the Secrets from it, and the certificates
  BALSA_KEYS      where the certificates are kept (default: certs/generated/kubernetes)
HELP
}

case ${1:-} in
'') ;;
--help | -h) usage && exit 0 ;;
*) usage >&2 && exit 64 ;;
esac

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/kube.sh
. scripts/kube.sh

remove_keys() {
    local keys=${BALSA_KEYS:-certs/generated/kubernetes}
    if [[ -n ${BALSA_KEYS:-} ]]; then
        say "the certificates in $keys are left there"
    elif [[ -d $keys ]]; then
        rm -rf "$keys"
        say "removed the certificates in $keys"
    fi
}

if [[ -n ${BALSA_CONTEXT:-} ]]; then
    need_manifests "$SERVERS" "$CLIENT"
    find_context
    if ours statefulset raft srvraft; then k delete -f "$SERVERS" --ignore-not-found >&2; fi
    remove_client clientraft
    remove_client cliente
    k delete secret -l "$MARK=$MAKER" --ignore-not-found >&2
    remove_keys
    exit 0
fi

need_engine
need_kind
need_kubectl

clusters=$(kind get clusters 2>/dev/null)
if grep -Fxq -- "$CLUSTER" <<<"$clusters"; then
    CONTEXT=kind-$CLUSTER
    known_context "$CONTEXT" || kind export kubeconfig --name "$CLUSTER" >/dev/null 2>&1 || true
    made=$(k get nodes -l "$MARK=$MAKER" -o name) ||
        die "the kind cluster $CLUSTER does not answer, so nobody can tell who made it. If it is yours to remove: kind delete cluster --name $CLUSTER"
    if [[ -n $made ]]; then
        step "removed the kind cluster $CLUSTER" kind delete cluster --name "$CLUSTER"
    else
        say "the kind cluster $CLUSTER was not made by these scripts; it is left alone"
    fi
fi

mark=$(docker container inspect -f "{{index .Config.Labels \"$MARK\"}}" "$REGISTRY_NAME" 2>/dev/null) || mark=none
case $mark in
"$MAKER") docker rm --force --volumes "$REGISTRY_NAME" >/dev/null && say "removed the registry $REGISTRY_NAME" ;;
none) ;;
*) say "the container $REGISTRY_NAME was not made by these scripts; it is left alone" ;;
esac

for name in srvraft cltraft; do
    mark=$(docker image inspect -f "{{index .Config.Labels \"$MARK\"}}" "$REGISTRY/$name:latest" 2>/dev/null) || continue
    if [[ $mark == "$MAKER" ]]; then
        docker rmi "$REGISTRY/$name:latest" >/dev/null && say "removed the image $REGISTRY/$name:latest"
    fi
done
remove_keys
