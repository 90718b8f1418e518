#!/usr/bin/env bash
# The validation on the container engine alone: the images, a killed leader, a cut line, more seats and fewer.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: scripts/test-containers.sh [--executables DIR] [--require] [--help]

Builds both images, starts three replicas as containers under the names that they have in the StatefulSet,
and checks after each step that the client's test passes, that every write acknowledged so far is read back,
and that all replicas hold the same:

  - the leader's container is killed, and made again with an empty disk
  - the new leader is cut off from the network, and joined again
  - five replicas, and three again

Needs an engine, 20.10 or newer, and nothing from any registry. Where no engine answers it says so and
ends with 0: nothing was checked. It removes what it made, however it ends.

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
# shellcheck source=scripts/image.sh
. scripts/image.sh
# shellcheck source=scripts/agree.sh
. scripts/agree.sh

if ! (need_engine) 2>/dev/null; then
    if $require; then need_engine; fi
    left_out "THE TEST WITH CONTAINERS" "no container engine answers here; nothing of it was checked"
    exit 0
fi

# Of this run alone: what carries the label is removed at the end, and nothing else.
RUN=balsa-test-$$ MARK=balsa.test-run MAKER=$$ REGISTRY=$RUN
DOMAIN=raft-service.default.svc.cluster.local
COUNT=3

clean_up() {
    local ids
    ids=$(docker ps --all --quiet --filter "label=$MARK=$MAKER")
    # shellcheck disable=SC2086 # ids are words
    if [[ -n $ids ]]; then docker rm --force --volumes $ids; fi
    docker network rm "$RUN"
    docker rmi "$RUN/srvraft:latest" "$RUN/cltraft:latest"
} >/dev/null 2>&1
at_exit clean_up

# When something goes wrong, what the replicas said last.
FINISHED=false
tell() {
    local seat
    if $FINISHED; then return; fi
    for seat in $(seats); do
        say "--- $seat"
        docker logs --tail 15 "$RUN-$seat" >&2 2>&1 || true
    done
}
at_exit tell

seats() {
    local n
    for ((n = 0; n < COUNT; n++)); do printf 'raft-%d\n' "$n"; done
}

# Certificates as the Secrets have them: all seats flat in one directory, and one for each client.
make_certificates() {
    local seat
    CLTRAFT=$from/cltraft scripts/gen-certs.sh --out "$CERTS/made" --nodes 5 &&
        mkdir "$CERTS/raft" && cp "$CERTS/made/raft-0/ca.crt" "$CERTS/raft/" &&
        for seat in raft-{0..4}; do
            cp "$CERTS/made/$seat/tls.crt" "$CERTS/raft/$seat.crt" && cp "$CERTS/made/$seat/tls.key" "$CERTS/raft/$seat.key"
        done &&
        cp -r "$CERTS/made/client" "$CERTS/made/admin" "$CERTS/" && rm -rf "$CERTS/made" &&
        chmod 755 "$CERTS" && find "$CERTS" -name '*.key' -exec chmod 440 {} + &&
        if [[ $(id -u) == 0 ]]; then chgrp -R "$OWNER" "$CERTS"; fi
}

# A container as a pod has it: no privilege, a root nobody writes to, the user of the image. Whoever is not
# root cannot give files to that user, and runs the containers as themselves.
AS=() OWNER=65532
if [[ $(id -u) != 0 ]]; then AS=(--user "$(id -u):$(id -g)") OWNER=$(id -u); fi
contain() { # NAME ARGUMENT…
    local name=$1
    shift
    docker run --label "$MARK=$MAKER" --network "$RUN" --name "$RUN-$name" --hostname "$name" --read-only --cap-drop ALL \
        --security-opt no-new-privileges "${AS[@]}" --env BALSA_CERTS=/etc/balsa/certs "$@"
}

# Its disk lives as long as its container, as an emptyDir lives as long as its pod.
start_replica() {
    contain "$1" --detach --network-alias "$1.$DOMAIN" --network-alias "$DOMAIN" --tmpfs "/var/lib/balsa:uid=$OWNER,mode=0700" \
        --volume "$CERTS/raft:/etc/balsa/certs:ro" --env "BALSA_NAME=$1" --env "BALSA_SERVICE=$DOMAIN" --env BALSA_REPLICAS=3 \
        --env BALSA_DATA_DIR=/var/lib/balsa/data "$RUN/srvraft:latest" >/dev/null
}

ENDPOINTS=raft-0.$DOMAIN:6000,raft-1.$DOMAIN:6000,raft-2.$DOMAIN:6000

start_client() {
    contain cliente --detach --volume "$CERTS/admin:/etc/balsa/certs:ro" --env "BALSA_ENDPOINTS=$ENDPOINTS" "$RUN/cltraft:latest" >/dev/null
}

enter() { timeout 60 docker exec "$RUN-cliente" cltraft --lang en "$@"; }

# The automatic client in a container of its own, with a certificate that is no admin's.
client_test() {
    local said
    said=$(timeout 200 docker run --rm --label "$MARK=$MAKER" --network "$RUN" --read-only --cap-drop ALL \
        "${AS[@]}" --env BALSA_CERTS=/etc/balsa/certs --volume "$CERTS/client:/etc/balsa/certs:ro" --env "BALSA_ENDPOINTS=$ENDPOINTS" \
        "$RUN/cltraft:latest" --lang en test --wait 120s) || die "the client's test failed: $said"
    printf '%s\n' "$said"
    [[ $said == *SUCCESS* ]] || die "the client's test does not say SUCCESS"
    LEADER=$(sed -n 's/.*leader=\([0-9][0-9]*\).*/raft-\1/p' <<<"$said" | tail -n 1)
    [[ -n $LEADER ]] || die "the client's test named no leader"
    echo "the leader is $LEADER"
}

agree() {
    eventually 120 "all $COUNT replicas are voters" all_voters || die "the members: $(enter member list 2>&1)"
    eventually 60 "all replicas hold the same" same_everywhere || die "the replicas do not hold the same: $(enter status 2>&1)"
    show_content
    ledger_holds || die "an acknowledged write is lost"
}

if [[ -z $from ]]; then
    scripts/build-static.sh
    from=$TARGET/$(rustc -vV | sed -n 's/^host: //p')/release
    [[ $from == /* ]] || from=$PWD/$from
else
    [[ -x $from/srvraft && -x $from/cltraft ]] || die "there are no executables srvraft and cltraft in $from"
fi
make_image srvraft "$from"
make_image cltraft "$from"
CERTS=$(mktemp -d)
at_exit "rm -rf '$CERTS'"
step "certificates" make_certificates
docker network create --label "$MARK=$MAKER" "$RUN" >/dev/null || die "the engine makes no network"

echo "=== three replicas found a cluster"
for seat in $(seats); do start_replica "$seat"; done
start_client
client_test
note || die "no write"
agree

echo "=== $LEADER, which leads, is killed, and made again with an empty disk"
former=$LEADER
docker kill "$RUN-$former" >/dev/null
docker rm --volumes "$RUN-$former" >/dev/null
client_test
[[ $LEADER != "$former" ]] || die "nobody else was elected"
note || die "no write without $former"
start_replica "$former"
agree
client_test

echo "=== $LEADER, which leads, is cut off, and joined again"
former=$LEADER
docker network disconnect "$RUN" "$RUN-$former"
client_test
[[ $LEADER != "$former" ]] || die "nobody else was elected"
note || die "no write without $former"
docker network connect --alias "$former.$DOMAIN" --alias "$DOMAIN" "$RUN" "$RUN-$former"
agree
client_test

echo "=== five replicas"
COUNT=5
start_replica raft-3
start_replica raft-4
agree
client_test
note || die "no write with five replicas"

echo "=== three replicas again"
COUNT=3
for seat in raft-4 raft-3; do
    docker stop --time 40 "$RUN-$seat" >/dev/null
    docker rm --volumes "$RUN-$seat" >/dev/null
done
for seat in raft-4 raft-3; do
    eventually 60 "$seat is removed" enter --timeout 20s member remove "$seat" || die "$seat cannot be removed: $(enter member list 2>&1)"
done
agree
client_test

FINISHED=true
echo "SUCCESS: containers"
