#!/usr/bin/env bash
# The validation: writes, a deleted leader, a stopped worker, and nothing is lost. Ends with SUCCESS.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: scripts/validate.sh [--force] [--help]

Checks a running cluster in five stages, prints each one's result and where the pods run, and exits
with 0 only if all held:

  1  all replicas run, each on a worker of its own
  2  three writes from a client pod, three reads, an overwrite
  3  the leader's pod is deleted: another one leads, the pod is regenerated, without a volume on another
     worker, and holds everything that was committed
  4  the worker of the new leader is stopped: two replicas go on; where the pod may move it is regenerated
     on another worker
  5  the worker comes back: all replicas hold the same entries and the same map

Writes acknowledged meanwhile are read back after each fault. Every connection is mutual TLS. It changes
the keys of the client's test and takes some five minutes; every wait has an end. What it cordons or stops it uncordons and starts again, however it ends.

  --force   delete the leader's pod with --grace-period=0 --force, as if it had vanished

  BALSA_CLUSTER       the kind cluster's name (default: balsa)
  BALSA_CONTEXT       any other cluster, by its context. With neither, and no kind cluster balsa, the
                      context that kubectl uses now
  BALSA_STOP_WORKER, BALSA_START_WORKER
                      commands that stop and start a worker, which get its name as their last word
                      (default: docker stop, docker start)
  BALSA_CLIENT        the client pods' manifest (default: k8s/rendered/kind-client.yaml)
  BALSA_POD_READY, BALSA_WORKER_LOST, BALSA_WORKER_BACK, BALSA_SETTLE
                      how many seconds to wait at most for a pod (240), for Kubernetes to notice that a
                      worker is gone (120), for a worker that starts again (240), and for replicas
                      that are up to agree (120)
HELP
}

force=()
while (($#)); do
    case $1 in
    --force) force=(--grace-period=0 --force) && shift ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 64 ;;
    esac
done

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/kube.sh
. scripts/kube.sh
# shellcheck source=scripts/agree.sh
. scripts/agree.sh

TITLES=(
    "all replicas run, each on a worker of its own"
    "writes and reads from a client pod"
    "the leader's pod is deleted and regenerated elsewhere"
    "the new leader's worker is stopped"
    "the worker comes back, and all replicas hold the same"
)
HELD=0 STAGE=0 BEGUN=$SECONDS

# What was done is undone and told, whatever ended the script; this runs after the uncordoning.
summary() {
    local n
    if ((STAGE == 0)); then return; fi
    echo
    for n in "${!TITLES[@]}"; do
        if ((n < HELD)); then
            echo "stage $((n + 1)): OK      ${TITLES[n]}"
        elif ((n < STAGE)); then
            echo "stage $((n + 1)): FAILED  ${TITLES[n]}"
        else
            echo "stage $((n + 1)): not run ${TITLES[n]}"
        fi
    done
    if ((HELD == ${#TITLES[@]})); then echo "SUCCESS: all five stages held, in $((SECONDS - BEGUN)) s"; else echo "NOT VALIDATED"; fi
}
at_exit summary

CORDONED='' STOPPED=''
uncordon() {
    if [[ -n $CORDONED ]]; then k uncordon "$CORDONED" >&2 && CORDONED=''; fi
}
start_worker() {
    if [[ -n $STOPPED ]]; then worker_command start "$STOPPED" >&2 && STOPPED=''; fi
}
at_exit start_worker
at_exit uncordon

begin() {
    STAGE=$1
    echo
    echo "=== Stage $STAGE: ${TITLES[STAGE - 1]}"
}

held() {
    HELD=$STAGE
    placements
    echo "stage $STAGE: OK"
}

failed() {
    echo "stage $STAGE: FAILED: $*"
    placements || true
    exit 1
}

# worker_command stop|start WORKER
worker_command() {
    local words
    if [[ $1 == stop ]]; then read -ra words <<<"${BALSA_STOP_WORKER:-docker stop}"; else read -ra words <<<"${BALSA_START_WORKER:-docker start}"; fi
    "${words[@]}" "$2" >/dev/null
}

# Whether a worker can be stopped is found out before anything is deleted.
need_workers() {
    local worker nodes
    if [[ -n ${BALSA_STOP_WORKER:-} && -n ${BALSA_START_WORKER:-} ]]; then return; fi
    [[ -z ${BALSA_STOP_WORKER:-}${BALSA_START_WORKER:-} ]] || die "BALSA_STOP_WORKER and BALSA_START_WORKER belong together"
    local way="give the ways to stop and start a worker by BALSA_STOP_WORKER and BALSA_START_WORKER"
    command -v docker >/dev/null || die "docker is missing, which stops the workers of a kind cluster; $way"
    nodes=$(k get nodes -o 'jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}')
    if command -v kind >/dev/null; then nodes=$(kind get nodes --name "$CLUSTER" 2>/dev/null) || nodes=; fi
    for worker in $(open_workers); do
        if ! grep -Fxq -- "$worker" <<<"$nodes" || ! docker container inspect "$worker" >/dev/null 2>&1; then
            die "the worker $worker of context $CONTEXT is no node of the kind cluster $CLUSTER, so docker cannot stop it; $way"
        fi
    done
}

# Of the replicas' own, that they run is proof enough, whatever the Secrets are called.
need_secrets() {
    local name
    for name in client-certs admin-certs; do
        [[ -n $(k get secret "$name" --ignore-not-found -o name) ]] ||
            die "the Secret $name is missing in namespace $NAMESPACE: scripts/start.sh makes it"
    done
}

# Every replica on a worker of its own.
on_own_workers() {
    local seat workers=()
    for seat in $(seats); do workers+=("$(worker_of "$seat")"); done
    [[ $(printf '%s\n' "${workers[@]}" | grep . | sort -u | wc -l) -eq $REPLICAS ]]
}
apart() { eventually 10 "each replica is on a worker of its own" on_own_workers; }

# Whether each replica has a volume: where that is bound to a worker, the pod can only run there.
keep_volumes() { [[ -n $(k get statefulset raft -o 'jsonpath={.spec.volumeClaimTemplates[*].metadata.name}') ]]; }

# How many workers take pods. No answer is not none.
OPEN=0
count_workers() {
    local found
    found=$(open_workers) && [[ -n $found ]] && OPEN=$(wc -l <<<"$found")
}

# The pod, regenerated, is on another worker than before.
moved() {
    local now
    now=$(worker_of "$1") && [[ -n $now && $now != "$2" ]] || failed "$1 is on $2 again"
    echo "$1 was regenerated on $now"
}

find_context current
ours statefulset raft srvraft || die "there is no StatefulSet raft in context $CONTEXT: scripts/start.sh makes it"
find_replicas
need_manifests "$CLIENT"
need_secrets
need_workers

begin 1
eventually "$POD_READY" "all replicas are ready" all_ready || {
    why_not_ready
    failed "not all replicas are ready; what they wait for is above"
}
apart || failed "two replicas are on one worker"
usable_client || failed "the client pod cliente cannot be used: kubectl describe pod cliente"
eventually "$SETTLE" "all replicas are voters" all_voters || failed "not all replicas are voters: kubectl exec cliente -- cltraft member list"
held

begin 2
client_test || failed "the client's test"
echo "the leader is $LEADER"
note || failed "a write"
held

begin 3
former=$LEADER worker=$(worker_of "$LEADER") uid=$(uid_of "$LEADER")
if keep_volumes; then
    echo "$former may stay where its volume is"
else
    # Cordoned, so that the pod moves; one that is cordoned already stays so afterwards.
    if [[ $(k get node "$worker" -o 'jsonpath={.spec.unschedulable}') != true ]]; then
        CORDONED=$worker
        k cordon "$worker" >/dev/null
    fi
    eventually 60 "kubectl tells which workers take pods" count_workers || failed "kubectl does not tell which workers take pods"
    others=$OPEN
    ((REPLICAS <= others)) ||
        failed "besides $worker there are $others workers that take pods, too few for $REPLICAS replicas on workers of their own: add one"
fi
echo "pod $former on $worker is deleted${force[*]:+, by ${force[*]}}"
k delete pod "$former" --wait=false "${force[@]}" >"$LIB_LOG" 2>&1 || failed "it cannot be deleted: $(cat "$LIB_LOG")"
client_test || failed "the client's test without $former"
[[ $LEADER != "$former" ]] || failed "nobody else was elected"
usable_client || failed "the client pod cliente cannot be used: kubectl describe pod cliente"
note || failed "a write without $former"
echo "the leader is $LEADER"
eventually "$POD_READY" "$former runs anew" pod_ready_anew "$former" "$uid" || failed "$former was not regenerated: kubectl describe pod $former; kubectl logs $former"
uncordon
if keep_volumes; then echo "$former was regenerated on $(worker_of "$former"), with its volume"; else moved "$former" "$worker"; fi
apart || failed "two replicas are on one worker"
eventually "$SETTLE" "all replicas are voters" all_voters || failed "$former is not a voter again"
eventually "$SETTLE" "all replicas hold the same" same_everywhere || failed "the replicas do not hold the same"
show_content
ledger_holds || failed "an acknowledged write is not there"
client_test || failed "the client's test"
echo "the leader is $LEADER"
held

begin 4
former=$LEADER worker=$(worker_of "$LEADER") uid=$(uid_of "$LEADER")
echo "worker $worker is stopped, and with it $former, which leads"
STOPPED=$worker
worker_command stop "$worker" || failed "worker $worker cannot be stopped"
client_test || failed "the client's test with those that remain"
[[ $LEADER != "$former" ]] || failed "$former still leads, although its worker is stopped"
echo "the leader is $LEADER"
usable_client || failed "the client pod cliente cannot be used: kubectl describe pod cliente"
note || failed "a write with those that remain"
ledger_holds || failed "an acknowledged write is not there"
eventually "$WORKER_LOST" "Kubernetes notices that $worker is gone" worker_not_ready "$worker" || failed "worker $worker is still called ready"
if keep_volumes; then
    echo "$former stays where its volume is, and waits for its worker"
elif ! eventually 60 "kubectl tells which workers take pods" count_workers; then
    failed "kubectl does not tell which workers take pods"
elif ((OPEN < REPLICAS)); then
    echo "no worker is free for $former, which waits for its own"
else
    # Kubernetes does not give a StatefulSet's pod up by itself, since it cannot know that it ended.
    k delete pod "$former" --grace-period=0 --force --wait=false >/dev/null 2>&1 || true
    eventually "$POD_READY" "$former runs anew" pod_ready_anew "$former" "$uid" || failed "$former was not regenerated: kubectl describe pod $former"
    moved "$former" "$worker"
    apart || failed "two replicas are on one worker"
    usable_client || failed "the client pod cliente cannot be used: kubectl describe pod cliente"
    eventually "$SETTLE" "all replicas are voters" all_voters || failed "$former is not a voter again"
    eventually "$SETTLE" "all replicas hold the same" same_everywhere || failed "the replicas do not hold the same"
    show_content
    ledger_holds || failed "an acknowledged write is not there"
fi
held

begin 5
start_worker || failed "worker $worker cannot be started"
eventually "$WORKER_BACK" "worker $worker is ready" worker_ready "$worker" || failed "worker $worker does not come back"
eventually "$POD_READY" "all replicas are ready" all_ready || failed "not all replicas are ready"
apart || failed "two replicas are on one worker"
usable_client || failed "the client pod cliente cannot be used: kubectl describe pod cliente"
eventually "$SETTLE" "all replicas are voters" all_voters || failed "not all replicas are voters"
client_test || failed "the client's test"
echo "the leader is $LEADER"
eventually "$SETTLE" "all replicas hold the same" same_everywhere || failed "the replicas do not hold the same"
show_content
ledger_holds || failed "an acknowledged write is not there"
forget || say "the keys below $LEDGER_PREFIX could not be deleted"
held
