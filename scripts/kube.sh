# shellcheck shell=bash
# shellcheck disable=SC2034 # the settings are for the scripts that source this
# What the scripts for the Kubernetes cluster share. Sourced behind lib.sh, never run.

# The kind cluster. Its context is kind-NAME, which kind decides.
CLUSTER=${BALSA_CLUSTER:-balsa}
# The container engine's registry, under the name that the manifests write.
REGISTRY=localhost:5001 REGISTRY_NAME=${BALSA_REGISTRY_NAME:-balsa-registry}
# What these scripts make carries this label, and only what carries it do they ever remove: on containers, and on the nodes of
# a cluster from its first moment on.
MARK=balsa.made-by MAKER=scripts
# The certificates' names end in it.
NAMESPACE=default
# The manifests of the replicas and of the client pods; others for other images.
SERVERS=${BALSA_SERVERS:-k8s/rendered/kind-servers.yaml} CLIENT=${BALSA_CLIENT:-k8s/rendered/kind-client.yaml}
# How many seconds to wait for what a cluster does: a pod that is drawn, started, taken in and caught up; a worker that is
# noticed as lost (some 45 s) or comes back; replicas that are up, until they agree.
POD_READY=${BALSA_POD_READY:-240} WORKER_LOST=${BALSA_WORKER_LOST:-120} WORKER_BACK=${BALSA_WORKER_BACK:-240} SETTLE=${BALSA_SETTLE:-120}

# Where a cluster's certificates are kept, and the key of its CA: a directory for each, so that none goes with another's cluster.
keys_directory() { printf '%s' "${BALSA_KEYS:-certs/generated/${CONTEXT//[^A-Za-z0-9.-]/_}}"; }

need_kubectl() { need kubectl "install it, see https://kubernetes.io/docs/tasks/tools/"; }

need_kind() { need kind "install it, see https://kind.sigs.k8s.io/docs/user/quick-start/"; }

# kubectl in the context and namespace that was chosen; no request of it hangs.
k() { kubectl --context "$CONTEXT" --namespace "$NAMESPACE" --request-timeout=30s "$@"; }

# Not in a pipe: grep ends at the first match, and kubectl, which still writes, would fail by that.
known_context() {
    local known
    known=$(kubectl config get-contexts -o name 2>/dev/null) && grep -Fxq -- "$1" <<<"$known"
}

# Chooses the context: $BALSA_CONTEXT, else that of the kind cluster, else, where `current` is given, kubectl's own. A
# cluster that is looked at may be any; one that is filled or emptied is named.
find_context() {
    local why
    need_kubectl
    CONTEXT=${BALSA_CONTEXT:-kind-$CLUSTER}
    if ! known_context "$CONTEXT"; then
        [[ -z ${BALSA_CONTEXT:-} ]] || die "kubectl knows no context $CONTEXT: kubectl config get-contexts lists them"
        [[ ${1:-} == current ]] && CONTEXT=$(kubectl config current-context 2>/dev/null) && [[ -n $CONTEXT ]] ||
            die "kubectl knows no context kind-$CLUSTER: run scripts/start.sh, or name a cluster by BALSA_CLUSTER (kind) or BALSA_CONTEXT (any)"
        if [[ $CONTEXT == kind-* ]]; then CLUSTER=${CONTEXT#kind-}; fi
    fi
    why=$(kubectl --context "$CONTEXT" --request-timeout=30s get --raw /readyz 2>&1 >/dev/null) ||
        die "the cluster of context $CONTEXT does not answer: ${why:-it is not ready}"
    say "cluster: context $CONTEXT, namespace $NAMESPACE"
}

need_manifests() { # FILE…
    local file
    for file in "$@"; do
        [[ -r $file ]] || die "$file is missing: restore it, or name another by BALSA_SERVERS or BALSA_CLIENT"
    done
}

# pod_field NAME JSONPATH: one field of a pod, empty if there is no such pod or field.
pod_field() { k get pod "$1" --ignore-not-found -o "jsonpath=$2" 2>/dev/null; }
worker_of() { pod_field "$1" '{.spec.nodeName}'; }
uid_of() { pod_field "$1" '{.metadata.uid}'; }

pod_ready() {
    [[ $(pod_field "$1" '{.metadata.deletionTimestamp}|{.status.conditions[?(@.type=="Ready")].status}') == '|True' ]]
}

# Whether a pod is ready that is not the one with this uid.
pod_ready_anew() {
    local uid
    uid=$(uid_of "$1") && [[ -n $uid && $uid != "$2" ]] && pod_ready "$1"
}

# Whether the pod's absence is certain: an answer, and empty.
pod_gone() {
    local found
    found=$(k get pod "$1" --ignore-not-found -o name 2>/dev/null) && [[ -z $found ]]
}

worker_ready() { [[ $(k get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null) == True ]]; }
worker_not_ready() {
    local status
    status=$(k get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null) && [[ $status != True ]]
}

# The workers that take pods, one a line: ready, not cordoned, without a taint that keeps pods away.
open_workers() {
    k get nodes -o 'jsonpath={range .items[*]}{.metadata.name}|{.spec.unschedulable}|{.spec.taints[*].effect}|{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' |
        while IFS='|' read -r name cordoned taints ready; do
            if [[ -n $name && $cordoned != true && $taints != *NoSchedule* && $taints != *NoExecute* && $ready == True ]]; then
                printf '%s\n' "$name"
            fi
        done
}

# The image of a kind's object, to tell Balsa's from somebody else's under the same name.
image_of() { k get "$1" "$2" --ignore-not-found -o 'jsonpath={.spec.template.spec.containers[0].image}{.spec.containers[0].image}'; }

# ours KIND NAME IMAGE: whether there is such an object; ends the script if it is not Balsa's.
ours() {
    local image
    image=$(image_of "$1" "$2" 2>/dev/null) || { pause 3 && image=$(image_of "$1" "$2"); } || die "kubectl get $1 $2 fails in context $CONTEXT"
    [[ -n $image ]] || return 1
    [[ ${image##*/} == "$3" || ${image##*/} == "$3":* || ${image##*/} == "$3"@* ]] ||
        die "$1 $2 in namespace $NAMESPACE runs $image, which is not Balsa's $3; it is left alone. Remove or rename it, or use another cluster"
}

# How many replicas there should be: asked once, so that no later question that fails looks like none.
REPLICAS=0
find_replicas() {
    REPLICAS=$(k get statefulset raft -o 'jsonpath={.spec.replicas}') && [[ $REPLICAS =~ ^[1-9][0-9]*$ ]] ||
        die "StatefulSet raft in context $CONTEXT names no replicas: kubectl get statefulset raft"
}

# Their pods.
seats() {
    local n
    for ((n = 0; n < REPLICAS; n++)); do printf 'raft-%d\n' "$n"; done
}

all_ready() {
    local seat
    ((REPLICAS > 0)) || return 1
    for seat in $(seats); do pod_ready "$seat" || return 1; done
}

# Where everything runs, for the person. Ready is the pod's condition: what a container was last called outlives its worker.
placements() {
    k get pods -o custom-columns=POD:.metadata.name,WORKER:.spec.nodeName,PHASE:.status.phase,READY:'.status.conditions[?(@.type=="Ready")].status',ADDRESS:.status.podIP |
        awk 'NR == 1 || $1 ~ /^(raft-[0-9]+|clientraft|cliente)$/ { print "  " $0 }'
}

# What the replicas that are not ready wait for, in Kubernetes' words and in their own: a missing Secret, an image, a certificate
# that has expired.
why_not_ready() {
    local seat
    for seat in $(seats); do
        if pod_ready "$seat"; then continue; fi
        say "--- $seat: $(pod_field "$seat" '{.status.conditions[?(@.status=="False")].message} {.status.containerStatuses[0].state}')"
        k get events --field-selector "involvedObject.name=$seat,type=Warning" -o 'jsonpath={range .items[*]}{.message}{"\n"}{end}' 2>/dev/null | tail -n 3 >&2 || true
        { k logs "$seat" --tail=5 2>/dev/null || k logs "$seat" --previous --tail=5 2>/dev/null; } >&2 || true
    done
}

remove_client() {
    ours pod "$1" cltraft || return 0
    k delete pod "$1" --ignore-not-found --grace-period=0 --force --wait=false >/dev/null 2>&1 || true
    eventually 60 "pod $1 is gone" pod_gone "$1"
}

client_started() { [[ $(pod_field "$1" '{.status.phase}') =~ ^(Running|Succeeded|Failed)$ ]]; }
client_ended() { [[ $(pod_field "$1" '{.status.phase}') =~ ^(Succeeded|Failed)$ ]]; }

# fresh_client NAME: the client pod anew. One that has not started within 30 s, on a worker that is gone, is made again:
# until Kubernetes notices the loss of a worker, it may draw it.
fresh_client() {
    local name=$1 attempt worker
    remove_client "$name" || return 1
    for attempt in {1..8}; do
        # The file holds both pods, and the other one may be there in another form, which is no failure of this one.
        if pod_gone "$name" && ! k apply -f "$CLIENT" >"$LIB_LOG" 2>&1 && pod_gone "$name"; then
            say "pod $name cannot be made: $(tail -n 1 "$LIB_LOG")"
            return 1
        fi
        if eventually 30 "pod $name has started" client_started "$name"; then return 0; fi
        worker=$(worker_of "$name")
        if [[ -n $worker ]] && worker_not_ready "$worker"; then
            say "worker $worker is gone; pod $name is made anew (attempt $attempt)"
            remove_client "$name" || return 1
        fi
    done
    say "pod $name does not start: $(pod_field "$name" '{.status.containerStatuses[0].state.waiting}{.status.conditions[?(@.status=="False")].message}')"
    return 1
}

# enter ARGUMENT…: cltraft in the interactive client's pod.
enter() { timeout "${BALSA_EXEC:-60}" kubectl --context "$CONTEXT" --namespace "$NAMESPACE" exec cliente -- cltraft --lang en "$@"; }

# The interactive client's pod, usable: it may have been on a worker that is gone.
usable_client() {
    if ours pod cliente cltraft && BALSA_EXEC=20 enter --version >/dev/null 2>&1; then return 0; fi
    fresh_client cliente && eventually 30 "kubectl exec reaches pod cliente" enter --version >/dev/null
}

# client_test: the automatic client as a fresh pod. Prints what it says; in LEADER, the seat that led.
client_test() {
    local said
    LEADER=
    fresh_client clientraft && eventually 240 "pod clientraft has ended" client_ended clientraft || return 1
    said=$(k logs clientraft) || return 1
    printf '%s\n' "$said"
    [[ $said == *SUCCESS* && $(pod_field clientraft '{.status.phase}') == Succeeded ]] || { say "the client's test failed"; return 1; }
    LEADER=$(sed -n 's/.*leader=\([0-9][0-9]*\).*/raft-\1/p' <<<"$said" | tail -n 1)
    [[ -n $LEADER ]] || { say "the client's test named no leader"; return 1; }
}
