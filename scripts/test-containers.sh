#!/usr/bin/env bash
# The validation on the container engine alone: faults, scaling and new certificates under a load that never stops.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: scripts/test-containers.sh [--executables DIR] [--require] [--help]

Builds both images and starts three replicas as containers, under the names that they have in the StatefulSet
and with certificates that arrive as Secrets do. Meanwhile a client writes and reads all the time. After each of
these steps its every answer must have been right, the client's test passes, the probes say live and ready, every
write acknowledged so far is read back, and all replicas hold the same:

  - the leader's container is killed, and made again with an empty disk
  - the leader is stopped in order, and started again with its disk
  - the leader is cut off from the network, and joined again
  - the leader falls silent without closing anything, and wakes
  - a second replica begins under the name of one that is cut off, which then comes back
  - five replicas, of which two change addresses; and three again
  - all certificates are renewed; another CA takes over; a client's certificate is revoked

Needs an engine, 20.10 or newer, and nothing from any registry; takes some minutes. Where no engine answers it
says so and ends with 0: nothing was checked. It removes what it made, however it ends.

  --executables DIR   build no executables; take the static ones in DIR
  --require           no engine is an error
HELP
}

from='' require=false
while (($#)); do
    case $1 in
    --executables) [[ $# -ge 2 ]] || { usage >&2; exit 64; }; from=$(realpath -m -- "$2") && shift 2 ;;
    --require) require=true && shift ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 64 ;;
    esac
done

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

if ! (need_engine) 2>/dev/null; then
    if $require; then need_engine; fi
    left_out "THE TEST WITH CONTAINERS" "no container engine answers here; nothing of it was checked"
    exit 0
fi

# shellcheck source=scripts/image.sh
. scripts/image.sh
# shellcheck source=scripts/containers.sh
. scripts/containers.sh
# shellcheck source=scripts/agree.sh
. scripts/agree.sh
# shellcheck source=scripts/load.sh
. scripts/load.sh

# Each stage with its time and what the load saw of it; when something goes wrong, what the replicas said last.
STAGES=() TITLE='' BEGUN=0 FINISHED=false
begin() {
    TITLE=$1 BEGUN=$SECONDS
    echo
    echo "=== $((${#STAGES[@]} + 1)). $TITLE"
    if [[ -n $LOAD ]]; then load_mark; fi
}
held() {
    agree
    STAGES+=("$(printf '%4d s %8d ms  %s' $((SECONDS - BEGUN)) "$LOAD_GAP" "$TITLE")")
}
tell() {
    local seat
    if $FINISHED; then return; fi
    for seat in $(seats); do
        docker container inspect "$RUN-$seat" >/dev/null 2>&1 || continue
        say "--- $seat"
        docker logs --tail 15 "$RUN-$seat" >&2 2>&1 || true
    done
}
at_exit tell

if [[ -z $from ]]; then
    scripts/build-static.sh
    from=$TARGET/$(rustc -vV | sed -n 's/^host: //p')/release
    [[ $from == /* ]] || from=$PWD/$from
else
    [[ -d $from ]] || die "there is no directory $from with executables"
    scripts/build-static.sh --check-only "$from"
fi
make_image srvraft "$from"
make_image cltraft "$from"
export CLTRAFT=$from/cltraft
step "certificates" scripts/gen-certs.sh --k8s --out "$PLACE/made"
make_network
deliver client-certs load
run_with load --rm "$RUN/cltraft:latest" certs show /etc/balsa/certs/ca.crt >"$LIB_LOG" 2>&1 ||
    die "a container does not read a file of this machine below $PLACE; is the engine on another one, or TMPDIR not shared with it? $(tail -n 1 "$LIB_LOG")"
ALL=$SECONDS

begin "three replicas found a cluster"
for seat in $(seats); do start_replica "$seat"; done
contain admin-certs cliente --detach "$RUN/cltraft:latest" >/dev/null
client_test
load_begins contain client-certs load --interactive --rm "$RUN/cltraft:latest" --lang en --timeout 60s -o json shell
note || die "no write"
held

begin "$LEADER, which leads, is killed, and made again with an empty disk"
former=$LEADER
docker kill "$RUN-$former" >/dev/null
client_test
[[ $LEADER != "$former" ]] || die "nobody else was elected"
note || die "no write without $former"
remove "$former"
start_replica "$former"
held

begin "$LEADER, which leads, is stopped in order, and started again with its disk"
former=$LEADER node=$(node_of "$LEADER")
clock=${EPOCHREALTIME//[!0-9]/}
docker stop --time 40 "$RUN-$former" >/dev/null
clock=$(((${EPOCHREALTIME//[!0-9]/} - clock) / 1000))
status=$(docker inspect -f '{{.State.ExitCode}}' "$RUN-$former")
[[ $status == 0 ]] || die "$former ended with status $status"
load_report
echo "  $former handed over and ended with status 0 after $clock ms, of the 40 s that a pod has"
note || die "no write without $former"
docker start "$RUN-$former" >/dev/null
held
[[ $(node_of "$former") == "$node" ]] || die "$former came back as another node, although it has its disk"

begin "$LEADER, which leads, is cut off from the network, and joined again under another address"
former=$LEADER address=$(address_of "$LEADER")
cut_off "$former"
client_test
[[ $LEADER != "$former" ]] || die "nobody else was elected"
note || die "no write without $former"
eventually 30 "$former is not ready" not_ready "$former" || die "the probe of $former says that $PROBE"
echo "  the probe says that $PROBE"
echo "  the probe says that $(probe "$former" live)" || die "a node that is cut off is live"
join "$former" "$former" --ip "$(unused_address)"
echo "  $former: $address → $(address_of "$former")"
held

begin "$LEADER, which leads, falls silent without closing anything, and wakes"
former=$LEADER
docker pause "$RUN-$former" >/dev/null
client_test
[[ $LEADER != "$former" ]] || die "nobody else was elected"
note || die "no write without $former"
docker unpause "$RUN-$former" >/dev/null
held

seat=$(seats | grep -vx "$LEADER" | tail -n 1)
begin "$seat is cut off, a second $seat begins elsewhere, and the first one comes back"
former=$(node_of "$seat")
cut_off "$seat"
docker rename "$RUN-$seat" "$RUN-$seat-former"
mv "$PLACE/disks/$seat" "$PLACE/disks/$seat-former"
mv "$PLACE/mounts/$seat" "$PLACE/mounts/$seat-former"
start_replica "$seat"
# While one replaces the other both are members.
taken_over() { node=$(node_of "$seat") && [[ $node =~ ^[0-9a-f]+$ && $node != "$former" ]] && all_voters; }
eventually 120 "the second $seat is a voter in the place of the first one" taken_over || die "the members: $(enter member list 2>&1)"
echo "  the second $seat is another node: $node in the place of $former"
join "$seat" "$seat-former" --ip "$(unused_address)"
note || die "no write with two of the name $seat"
pause 10
eventually 60 "the first $seat is not ready" not_ready "$seat-former" || die "the probe of the first $seat says that $PROBE"
echo "  the probe of the first $seat says that $PROBE"
held
[[ $(node_of "$seat") == "$node" ]] || die "the seat went to the first $seat again"
# The kubelet ends a pod that was replaced as soon as it hears of it.
remove "$seat-former"

begin "five replicas"
COUNT=5
start_replica raft-3
start_replica raft-4
note || die "no write with five replicas"
held

mapfile -t followers < <(seats | grep -vx "$LEADER")
one=${followers[-2]} other=${followers[-1]}
begin "$one and $other change addresses"
first=$(address_of "$one") second=$(address_of "$other")
cut_off "$one"
cut_off "$other"
join "$one" "$one" --ip "$second"
join "$other" "$other" --ip "$first"
echo "  $one: $first → $(address_of "$one"), $other: $second → $(address_of "$other")"
note || die "no write"
held

begin "three replicas again"
COUNT=3
for seat in raft-4 raft-3; do
    docker stop --time 40 "$RUN-$seat" >/dev/null
    status=$(docker inspect -f '{{.State.ExitCode}}' "$RUN-$seat")
    [[ $status == 0 ]] || die "$seat ended with status $status"
    remove "$seat"
done
for seat in raft-4 raft-3; do
    eventually 60 "$seat is removed" enter --timeout 20s member remove "$seat" || die "$seat cannot be removed: $(enter member list 2>&1)"
done
held

# Certificates, without a restart of anything.
certs issue client leaver
contain leaver leaver --detach "$RUN/cltraft:latest" >/dev/null
coproc LEAVER { docker exec --interactive "$RUN-leaver" cltraft --lang en -o json shell; }
# leave: one write by that client, whose connection stays open from one to the next; its answer.
leave() { echo 'put leaver 1' >&"${LEAVER[1]}" && IFS= read -rt 60 -u "${LEAVER[0]}" SAID; }
leave && [[ $SAID == *'"exit":0}' ]] || die "the client that is to leave cannot write: ${SAID:-}"
mkdir "$PLACE/mounts/former"
cp -L "$PLACE/mounts/load"/tls.* "$PLACE/mounts/former/"
unbroken=$(lives)

begin "every certificate is renewed"
certs renew --all
arrive own
note || die "no write with renewed certificates"
held

begin "another CA takes over: everybody trusts both"
certs rotate-ca trust
arrive trust
note || die "no write while two CAs are trusted"
held

begin "another CA takes over: every certificate is of the new one"
certs rotate-ca reissue
arrive own
note || die "no write with certificates of the new CA"
held

begin "another CA takes over: nobody trusts the former one any more"
certs rotate-ca drop
arrive trust
note || die "no write with the new CA alone"
cp -L "$PLACE/mounts/load"/ca.* "$PLACE/mounts/former/"
give "$PLACE/mounts/former"
refused former
held

begin "a client's certificate is revoked"
leave && [[ $SAID == *'"exit":0}' ]] || die "the client that is to leave cannot write: ${SAID:-}"
certs revoke leaver
arrive lists
# What it sent into the connection that was closed may be unknown to it; it was not carried out.
leave && [[ $SAID == *revoked* && $SAID =~ '"exit":'[57]',' ]] || die "the client whose certificate is revoked is answered ${SAID:-nothing}"
[[ $(enter -o json get leaver) == *'"version":2,'* ]] || die "a write of the client whose certificate is revoked was carried out"
refused leaver
held

[[ $(lives) == "$unbroken" ]] || die "something was started again. Before: $unbroken; after: $(lives)"
echo "  nothing was started again since the first certificate was renewed"

FINISHED=true
echo
echo "time, and the longest gap between two acknowledged writes:"
printf '%s\n' "${STAGES[@]}"
echo "SUCCESS: containers, $(load_writes) writes of the load and ${#LEDGER[@]} others, none failed, in $((SECONDS - ALL)) s"
