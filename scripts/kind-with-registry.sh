#!/usr/bin/env bash
# A Kubernetes cluster on this machine: kind, one control plane, four workers, and a registry that all of them know.
set -euo pipefail

# Tried together by kind's authors: kind v0.29.0 names this node image in its release notes. Any kind since v0.20 and
# any node image since v1.30 does.
KIND_NODE=${BALSA_KIND_NODE:-kindest/node:v1.33.1@sha256:050072256b9a903bd914c0b2866828150cb229cea0efe5892e2b644d5dd3b34f}
REGISTRY_IMAGE=${BALSA_REGISTRY_IMAGE:-registry:2.8.3}

usage() {
    cat <<'HELP'
usage: scripts/kind-with-registry.sh [--help]

Makes a kind cluster of one control plane and four workers, and a registry at localhost:5001 which
the cluster's nodes know under that name. What is there already and was made here is kept, and started if
it is stopped; what somebody else made under the same name is left alone and reported.

  BALSA_CLUSTER         the cluster's name (default: balsa; its context is kind-balsa)
  BALSA_REGISTRY_NAME   the registry's container (default: balsa-registry). Name one of your own that
                        listens on port 5001 to use it; it is never removed
  BALSA_KIND_NODE       the image of the nodes, another version of Kubernetes
  BALSA_REGISTRY_IMAGE  the image of the registry

scripts/close_cl.sh removes both again.
HELP
}

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
no_options "$@"
# shellcheck source=scripts/kube.sh
. scripts/kube.sh

need_engine
need_kind
need_kubectl

port=${REGISTRY##*:}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }
container() { docker container inspect -f "$2" "$1" 2>/dev/null; }

# The registry: reached from here as localhost:5001, from the nodes by its container's name.
start_registry() {
    local running mark
    running=$(container "$REGISTRY_NAME" '{{.State.Running}}') || running=none
    if [[ $running != none ]]; then
        mark=$(container "$REGISTRY_NAME" "{{index .Config.Labels \"$MARK\"}}")
        if [[ $mark != "$MAKER" && -z ${BALSA_REGISTRY_NAME:-} ]]; then
            die "a container $REGISTRY_NAME exists that these scripts did not make. Remove or rename it; or, if it is a registry on port $port, say BALSA_REGISTRY_NAME=$REGISTRY_NAME to use it"
        fi
    fi
    case $running in
    true) ;;
    false) docker start "$REGISTRY_NAME" >/dev/null || die "the registry's container $REGISTRY_NAME does not start; is port $port in use?" ;;
    none)
        if listens; then
            die "port $port is in use: $(holder). Stop what listens there; or, if it is a registry in a container, name that by BALSA_REGISTRY_NAME"
        fi
        docker run --detach --restart=always --label "$MARK=$MAKER" --publish "127.0.0.1:$port:5000" \
            --name "$REGISTRY_NAME" "$REGISTRY_IMAGE" >"$LIB_LOG" 2>&1 || {
            docker rm -f "$REGISTRY_NAME" >/dev/null 2>&1 || true
            die "the registry does not start: $(tail -n 1 "$LIB_LOG")"
        }
        ;;
    esac
    eventually 30 "the registry answers on port $port" listens ||
        die "the container $REGISTRY_NAME does not listen on 127.0.0.1:$port"
    say "${BOLD}ok${PLAIN} registry $REGISTRY_NAME at $REGISTRY"
}

# Who holds the port, as far as the engine knows.
holder() {
    local name
    name=$(docker ps --filter "publish=$port" --format '{{.Names}}' | head -n 1)
    if [[ -n $name ]]; then echo "the container $name has it"; else echo "a process outside of the engine has it"; fi
}

# The label of a cluster made here is on its nodes from the beginning, so that one whose making was interrupted is known, too.
cluster_config() {
    cat <<YAML
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
name: $CLUSTER
# Node images before kind v0.27 read hosts.toml only when told; newer ones do so by themselves.
containerdConfigPatches:
- |-
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
nodes:
YAML
    for role in control-plane worker worker worker worker; do
        printf -- '- role: %s\n  image: %s\n  labels:\n    %s: %s\n' "$role" "$KIND_NODE" "$MARK" "$MAKER"
    done
}

create_cluster() { cluster_config | kind create cluster --config - --wait 240s; }

start_cluster() {
    local clusters made node nodes
    clusters=$(kind get clusters 2>"$LIB_LOG") || die "kind get clusters fails: $(tail -n 1 "$LIB_LOG")"
    if ! grep -Fxq -- "$CLUSTER" <<<"$clusters"; then
        step "kind cluster $CLUSTER (the first time it pulls the nodes' image)" create_cluster
    fi
    nodes=$(kind get nodes --name "$CLUSTER")
    BALSA_CONTEXT=kind-$CLUSTER
    known_context "$BALSA_CONTEXT" || kind export kubeconfig --name "$CLUSTER" >/dev/null 2>&1 ||
        die "the kind cluster $CLUSTER gives no access: kind export kubeconfig --name $CLUSTER says why"
    # Whose it is, only the cluster itself can tell, so nothing of it is touched before it answers.
    eventually 60 "the cluster $CLUSTER answers" api_answers ||
        die "the kind cluster $CLUSTER does not answer. If its nodes are stopped: docker start $(tr '\n' ' ' <<<"$nodes")"
    find_context
    made=$(k get nodes -l "$MARK=$MAKER" -o name) || die "kubectl get nodes fails in context $CONTEXT"
    [[ -n $made ]] ||
        die "a kind cluster $CLUSTER exists that these scripts did not make; it is left alone. Give another name by BALSA_CLUSTER, or remove it yourself: kind delete cluster --name $CLUSTER"
    for node in $nodes; do
        # One that validate.sh stopped and was killed over.
        if [[ $(container "$node" '{{.State.Running}}') == false ]]; then
            step "node $node starts again" docker start "$node"
        fi
    done
    say "${BOLD}ok${PLAIN} kind cluster $CLUSTER"
}

api_answers() { kubectl --context "kind-$CLUSTER" --request-timeout=10s get --raw /readyz >/dev/null 2>&1; }

# Inside a node localhost is the node itself, so each is told where the registry of that name is.
introduce_registry() {
    local node directory=/etc/containerd/certs.d/$REGISTRY
    for node in $(kind get nodes --name "$CLUSTER"); do
        docker exec "$node" mkdir -p "$directory"
        printf '[host."http://%s:5000"]\n' "$REGISTRY_NAME" | docker exec -i "$node" cp /dev/stdin "$directory/hosts.toml"
    done
    if [[ $(container "$REGISTRY_NAME" '{{if index .NetworkSettings.Networks "kind"}}yes{{end}}') != yes ]]; then
        docker network connect kind "$REGISTRY_NAME"
    fi
    # Where tools that look for a cluster's registry find it (KEP-1755).
    # kubectl refuses an object of another namespace than the one it is told, so it is told this one.
    k apply --namespace kube-public -f - >/dev/null <<YAML
apiVersion: v1
kind: ConfigMap
metadata:
  name: local-registry-hosting
  namespace: kube-public
data:
  localRegistryHosting.v1: |
    host: "$REGISTRY"
    help: "https://kind.sigs.k8s.io/docs/user/local-registry/"
YAML
    say "${BOLD}ok${PLAIN} the nodes pull $REGISTRY from $REGISTRY_NAME"
}

start_registry
start_cluster
introduce_registry
k get nodes
