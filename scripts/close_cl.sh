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
                  Services and the Secrets from it, and the certificates; never volumes
  BALSA_KEYS      where the certificates are kept (default: certs/generated/CONTEXT)
HELP
}

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
no_options "$@"
# shellcheck source=scripts/kube.sh
. scripts/kube.sh

# Once nothing is left that needs them.
remove_keys() {
    local keys
    keys=$(keys_directory)
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
    strangers=0
    for name in raft-certs client-certs admin-certs monitor-certs; do
        left=$(k get secret "$name" --ignore-not-found -o name) || die "kubectl get secret $name fails in context $CONTEXT; run this again"
        if [[ -n $left ]]; then
            say "Secret $name was not made by these scripts; it is left alone"
            strangers=1
        fi
    done
    claims=$(k get pvc -l app=raft -o name 2>/dev/null) || claims=
    if [[ -n $claims ]]; then say "the volumes stay, and the data in them; to remove them, too: kubectl --context $CONTEXT delete pvc -l app=raft"; fi
    if ((strangers)); then say "so are the certificates in $(keys_directory), and the key of their CA"; else remove_keys; fi
    exit 0
fi

need_engine
need_kind
need_kubectl

clusters=$(kind get clusters 2>/dev/null) || die "kind get clusters fails, so nobody can tell which there are: run it by hand, it says why"
CONTEXT=kind-$CLUSTER gone=true
if grep -Fxq -- "$CLUSTER" <<<"$clusters"; then
    known_context "$CONTEXT" || kind export kubeconfig --name "$CLUSTER" >/dev/null 2>&1 || true
    made=$(k get nodes -l "$MARK=$MAKER" -o name) ||
        die "the kind cluster $CLUSTER does not answer, so nobody can tell who made it. If it is yours to remove: kind delete cluster --name $CLUSTER"
    if [[ -n $made ]]; then
        step "removed the kind cluster $CLUSTER" kind delete cluster --name "$CLUSTER"
    else
        say "the kind cluster $CLUSTER was not made by these scripts; it is left alone"
        gone=false
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
if $gone; then remove_keys; fi
