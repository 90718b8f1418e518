#!/usr/bin/env bash
# Everything: the cluster, the registry, the images, the certificates, three replicas and the client pods.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: scripts/start.sh [--no-build] [--executables DIR] [--inside] [--help]

Makes the kind cluster and its registry, builds and pushes both images, makes certificates and Secrets,
starts the replicas raft-0 to raft-2, and runs the client's test. Needs Docker, kind and kubectl; Rust where
it is there, else the executables are built in a container.

Run again on the same cluster it deletes the StatefulSet, waits until its pods are gone, and starts
anew: on the kind overlay's emptyDir, with an empty store.

  --no-build         the images are in the registry already
  --executables DIR  build no executables; take the static ones in DIR
  --inside           build the executables in a container

  BALSA_CLUSTER   the kind cluster's name (default: balsa)
  BALSA_CONTEXT   a cluster of your own by its context: no kind cluster, no registry and no image is made.
                  Its nodes pull the images that the manifests name
  BALSA_SERVERS, BALSA_CLIENT
                  the manifests (default: k8s/rendered/kind-servers.yaml and kind-client.yaml)
  BALSA_KEYS      where the certificates are kept (default: certs/generated/kubernetes)

Then: scripts/validate.sh, kubectl exec -ti cliente -- cltraft shell, scripts/close_cl.sh.
HELP
}

build=true image_options=()
while (($#)); do
    case $1 in
    --no-build) build=false && shift ;;
    --executables)
        [[ $# -ge 2 ]] || { usage >&2; exit 64; }
        image_options=(--executables "$(realpath -m -- "$2")") && shift 2
        ;;
    --inside) image_options=(--inside) && shift ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 64 ;;
    esac
done

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/kube.sh
. scripts/kube.sh
# shellcheck source=scripts/image.sh
. scripts/image.sh

need_manifests "$SERVERS" "$CLIENT"
need_kubectl
if [[ -z ${BALSA_CONTEXT:-} ]]; then
    need_engine
    need_kind
    scripts/kind-with-registry.sh
    if $build; then
        scripts/recompileServer.sh "${image_options[@]}"
        scripts/recompileClient.sh "${image_options[@]}"
    fi
fi
find_context

# The program that makes certificates: what the machine builds or has built, else the one in the image,
# which any Linux runs.
find_certificate_maker() {
    local id
    if [[ -n ${CLTRAFT:-} || -x $TARGET/release/cltraft || -x $TARGET/debug/cltraft ]]; then return; fi
    if [[ $(uname -s) == Linux ]] && docker image inspect "$REGISTRY/cltraft:latest" >/dev/null 2>&1; then
        CLTRAFT=$(mktemp)
        at_exit "rm -f '$CLTRAFT'"
        id=$(docker create "$REGISTRY/cltraft:latest")
        docker cp "$id:/usr/local/bin/cltraft" "$CLTRAFT" >/dev/null
        docker rm "$id" >/dev/null
        export CLTRAFT
    fi
}

# secret NAME FILE…: a Secret of these files, KEY=PATH each. One that somebody else made stays.
secret() {
    local name=$1 file arguments=() mark
    shift
    mark=$(k get secret "$name" --ignore-not-found -o "jsonpath={.metadata.name}|{.metadata.labels.${MARK//./\\.}}")
    if [[ -n $mark && $mark != "$name|$MAKER" ]]; then
        say "Secret $name was not made here; it is used as it is"
        return
    fi
    for file in "$@"; do arguments+=("--from-file=$file"); done
    k create secret generic "$name" "${arguments[@]}" --dry-run=client --output yaml |
        k label --local --filename - --output yaml "$MARK=$MAKER" |
        k apply --server-side --force-conflicts --field-manager=balsa-scripts --filename - >/dev/null
    say "${BOLD}ok${PLAIN} Secret $name"
}

# Seven seats, so that scaling needs no new Secret.
make_secrets() {
    local keys=${BALSA_KEYS:-certs/generated/kubernetes} seat files=()
    find_certificate_maker
    step "certificates in $keys" scripts/gen-certs.sh --out "$keys" --nodes 7 --namespace "$NAMESPACE"
    for seat in raft-{0..6}; do
        files+=("$seat.crt=$keys/$seat/tls.crt" "$seat.key=$keys/$seat/tls.key")
    done
    secret raft-certs "ca.crt=$keys/raft-0/ca.crt" "${files[@]}"
    for seat in client admin; do
        secret "$seat-certs" "ca.crt=$keys/$seat/ca.crt" "tls.crt=$keys/$seat/tls.crt" "tls.key=$keys/$seat/tls.key"
    done
}

no_replica_pods() {
    local found name worker none=true
    found=$(k get pods -o name) || return 1
    while read -r name; do
        [[ $name =~ ^pod/raft-[0-9]+$ ]] || continue
        none=false
        # On a worker that is gone a pod ends only when it is told that nobody waits.
        worker=$(worker_of "${name#pod/}")
        if [[ -n $worker ]] && worker_not_ready "$worker"; then
            k delete "$name" --force --grace-period=0 --wait=false >/dev/null 2>&1 || true
        fi
    done <<<"$found"
    $none
}

remove_former() {
    if ours statefulset raft srvraft; then
        say "StatefulSet raft is there already; it is deleted, and begun anew"
        k delete statefulset raft --wait=false >/dev/null
        eventually 180 "the former replicas are gone" no_replica_pods || die "pods of the former StatefulSet do not end: kubectl get pods"
    fi
    local name
    for name in clientraft cliente; do
        remove_client "$name" || die "the former pod $name does not end: kubectl describe pod $name"
    done
}

make_secrets
remove_former
k apply -f "$SERVERS" >&2
find_replicas
say "waiting until the replicas have founded a cluster and are ready"
eventually "$POD_READY" "all replicas are ready" all_ready || {
    placements >&2
    why_not_ready
    die "the replicas are not ready; what they wait for is above. More: kubectl describe pod raft-0; kubectl logs raft-0"
}
k apply -f "$CLIENT" >&2
say "the client's test, kubectl logs clientraft:"
client_test || die "the client's test did not succeed: kubectl describe pod clientraft; kubectl logs clientraft"
placements
say "next: scripts/validate.sh · kubectl --context $CONTEXT exec -ti cliente -- cltraft shell · scripts/close_cl.sh"
