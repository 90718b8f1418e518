#!/usr/bin/env bash
# Everything: the cluster, the registry, the images, the certificates, three replicas and the client pods.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: scripts/start.sh [--no-build] [--executables DIR] [--inside] [--help]

Makes the kind cluster and its registry, builds and pushes both images, makes certificates and the Secrets
that are not there yet, starts the replicas raft-0 to raft-2, and runs the client's test. Needs Docker, kind and kubectl; Rust where
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
  BALSA_KEYS      where the certificates are kept (default: certs/generated/CONTEXT)

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

# Secrets that are there stay as they are, whoever made them: they may be what everybody else's certificates are signed by.
# One with which nothing could start ends the script, since the pods would only fail for the same reason later.
judge_secret() { # NAME FILE…
    local name=$1 directory held content file found=' ' ended=()
    shift
    directory=$(mktemp -d)
    at_exit "rm -rf '$directory'"
    # shellcheck disable=SC2016 # the template's own variables
    held=$(k get secret "$name" -o 'go-template={{range $file, $content := .data}}{{$file}} {{$content}}{{"\n"}}{{end}}') ||
        die "kubectl get secret $name fails in context $CONTEXT"
    # Certificates only; no key is written to a file.
    while read -r file content; do
        found+="$file "
        if [[ $file == *.crt ]]; then base64 -d <<<"$content" >"$directory/$file"; fi
    done <<<"$held"
    for file in "$@"; do
        [[ $found == *" $file "* ]] ||
            die "Secret $name in namespace $NAMESPACE is there already and lacks $file; it is left alone. Add that, or delete the Secret and run this again: kubectl delete secret $name"
    done
    if command -v openssl >/dev/null; then
        for file in "$directory"/*.crt; do
            if ! openssl x509 -in "$file" -noout -checkend 0 >/dev/null 2>&1; then ended+=("${file##*/}"); fi
        done
    else
        left_out "whether Secret $name has expired" "openssl is missing"
    fi
    ((${#ended[@]} == 0)) ||
        die "Secret $name in namespace $NAMESPACE is there already, and ${ended[*]} in it has expired or is no certificate; it is left alone. Renew it (certs/README.md) and apply it, or delete the Secret and run this again: kubectl delete secret $name"
    BUNDLES[$name]=$(tr -d '\n' <"$directory/ca.crt")
    say "Secret $name is there already; it is used as it is"
}

# What the pods take from each Secret: the replicas that the manifest starts, and the two clients.
files_of() {
    local n replicas
    if [[ $1 != raft-certs ]]; then
        printf '%s\n' ca.crt tls.crt tls.key
        return
    fi
    replicas=$(sed -n 's/^  replicas: *//p' "$SERVERS" | head -n 1)
    echo ca.crt
    for ((n = 0; n < ${replicas:-3}; n++)); do printf '%s\n' "raft-$n.crt" "raft-$n.key"; done
}

# Seven seats, so that scaling needs no new Secret.
make_secrets() {
    local keys name file files missing=() found
    keys=$(keys_directory)
    declare -A BUNDLES
    for name in raft-certs client-certs admin-certs; do
        found=$(k get secret "$name" --ignore-not-found -o name) || die "kubectl get secret $name fails in context $CONTEXT"
        if [[ -z $found ]]; then
            missing+=("$name")
        else
            mapfile -t files < <(files_of "$name")
            judge_secret "$name" "${files[@]}"
        fi
    done
    if ((${#missing[@]} == 0)); then return; fi
    find_certificate_maker
    step "certificates in $keys" scripts/gen-certs.sh --k8s --out "$keys" --nodes 7 --namespace "$NAMESPACE"
    for name in "${!BUNDLES[@]}"; do
        [[ ${BUNDLES[$name]} == *"$(tr -d '\n' <"$keys/ca/ca.crt")"* ]] ||
            die "Secret $name in namespace $NAMESPACE is of another CA than that in $keys, so what is missing (${missing[*]}) cannot be made to match it. Name the directory with its CA by BALSA_KEYS, make what is missing yourself, or delete the Secret and run this again: kubectl delete secret $name"
    done
    # What gen-certs.sh makes besides, such as the Secret of whoever collects metrics, is made with them.
    for file in "$keys"/k8s/*.yaml; do
        name=$(basename "$file" .yaml)
        if [[ " ${missing[*]} " != *" $name "* && -n $(k get secret "$name" --ignore-not-found -o name) ]]; then continue; fi
        # `create` replaces nothing, not even what appeared a moment ago, and keeps no copy of the keys in an annotation.
        k label --local --filename "$file" --output yaml "$MARK=$MAKER" | k create --filename - >/dev/null ||
            die "Secret $name cannot be made in context $CONTEXT"
        say "${BOLD}ok${PLAIN} Secret $name"
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
