# shellcheck shell=bash
# Replicas and clients as containers, as the StatefulSet has them as pods. Sourced behind lib.sh, never run.

# Of this run alone: what carries the label is removed at the end, and nothing else.
RUN=balsa-test-$$ MARK=balsa.test-run MAKER=$$
# shellcheck disable=SC2034 # for image.sh
REGISTRY=$RUN
DOMAIN=raft-service.default.svc.cluster.local
ENDPOINTS=raft-0.$DOMAIN:6000,raft-1.$DOMAIN:6000,raft-2.$DOMAIN:6000
COUNT=3

# made/: what gen-certs.sh makes. mounts/: the Secrets, as each container has them. disks/: the replicas' volumes.
PLACE=$(mktemp -d)
at_exit "rm -rf '$PLACE'"
chmod 755 "$PLACE"
mkdir "$PLACE/mounts" "$PLACE/disks"

clean_up() {
    local ids
    ids=$(docker ps --all --quiet --filter "label=$MARK=$MAKER")
    # shellcheck disable=SC2086 # ids are words
    if [[ -n $ids ]]; then docker rm --force --volumes $ids; fi
    docker network ls --quiet --filter "label=$MARK=$MAKER" | while read -r ids; do docker network rm "$ids"; done
    docker rmi "$RUN/srvraft:latest" "$RUN/cltraft:latest"
} >/dev/null 2>&1
at_exit clean_up

seats() {
    local n
    for ((n = 0; n < COUNT; n++)); do printf 'raft-%d\n' "$n"; done
}

# Its subnet is named, since the engine gives out chosen addresses only then: it is the one that the engine chose itself.
make_network() {
    local attempt subnet
    for attempt in {1..5}; do
        docker network create --label "$MARK=$MAKER" "$RUN-$attempt" >/dev/null || return
        subnet=$(docker network inspect -f '{{(index .IPAM.Config 0).Subnet}}' "$RUN-$attempt")
        docker network rm "$RUN-$attempt" >/dev/null
        if docker network create --label "$MARK=$MAKER" --subnet "$subnet" "$RUN" >"$LIB_LOG" 2>&1; then return; fi
    done
    die "the engine makes no network: $(tail -n 1 "$LIB_LOG")"
}

# Whoever is not root cannot give files to the image's user, and runs the containers as themselves.
AS=() OWNER=65532
if [[ $(id -u) != 0 ]]; then AS=(--user "$(id -u):$(id -g)") OWNER=$(id -u); fi
give() { if [[ $(id -u) == 0 ]]; then chown -R "$OWNER:$OWNER" "$1"; fi; }

# certs ARGUMENT…: cltraft's commands for certificates, on this run's.
certs() { "$CLTRAFT" --lang en certs "$@" --out "$PLACE/made" >"$LIB_LOG" 2>&1 || die "cltraft certs $*: $(cat "$LIB_LOG")"; }

# files_of SECRET: a directory with what it holds: that of the manifest, or, for somebody who has none, of their own directory.
files_of() {
    local manifest=$PLACE/made/k8s/$1.yaml directory=$PLACE/files/$1 file content
    mkdir -p "$directory"
    if [[ -e $manifest ]]; then
        while read -r file content; do
            base64 -d <<<"$content" >"$directory/$file"
        done < <(sed -n 's/^  "\(.*\)": \(.*\)$/\1 \2/p' "$manifest")
    else
        cp "$PLACE/made/$1"/* "$directory/"
    fi
    printf '%s\n' "$directory"
}

# Which Secret each container has mounted.
declare -A MOUNTED

# deliver SECRET CONTAINER: as the kubelet does it: a new directory, then the link `..data` moved onto it in one step, then the
# links to files that are new, and last the former directory is gone.
deliver() {
    local mount=$PLACE/mounts/$2 files former='' version file
    files=$(files_of "$1")
    mkdir -p "$mount"
    MOUNTED[$2]=$1
    if [[ -L $mount/..data ]]; then former=$(readlink "$mount/..data"); fi
    version=..$(date -u +%Y_%m_%d_%H_%M_%S).$RANDOM$RANDOM
    mv "$files" "$mount/$version"
    chmod 755 "$mount/$version"
    chmod 440 "$mount/$version"/*
    give "$mount/$version"
    ln -s "$version" "$mount/..data_tmp"
    mv -T "$mount/..data_tmp" "$mount/..data"
    for file in "$mount/$version"/*; do
        [[ -L $mount/${file##*/} ]] || ln -s "..data/${file##*/}" "$mount/${file##*/}"
    done
    for file in "$mount"/*; do if [[ ! -e $file ]]; then rm "$file"; fi; done
    if [[ -n $former ]]; then rm -rf "${mount:?}/$former"; fi
}

loaded() { docker logs "$RUN-$1" 2>&1 | grep 'certificates loaded anew' | grep -c "$2=true" || true; }
has_loaded() { (($(loaded "$1" "$2") > $3)); }

# arrive own|trust|lists: what is in the Secrets now reaches every container, each in its own time, until every replica says that it
# has loaded a certificate of its own, other CAs to trust, or other revocation lists.
arrive() {
    local name seat
    declare -A before
    for seat in $(seats); do before[$seat]=$(loaded "$seat" "$1"); done
    for name in "${!MOUNTED[@]}"; do
        deliver "${MOUNTED[$name]}" "$name"
        pause 0.3
    done
    for seat in $(seats); do
        eventually 60 "$seat has loaded its certificates anew" has_loaded "$seat" "$1" "${before[$seat]}" ||
            die "$seat does not load its certificates"
    done
    # A client says nothing of it. It looks every two seconds, and takes what it has seen twice.
    pause 5
}

# Everything that would show that something was started again.
lives() {
    local name form='{{.Name}} {{.Id}} {{.State.StartedAt}} {{.RestartCount}}'
    for name in load cliente $(seats); do docker inspect -f "$form" "$RUN-$name"; done
    for name in $(seats); do echo "$name $(node_of "$name") $(docker logs "$RUN-$name" 2>&1 | grep -c ': starting ')"; done
}

# run_with MOUNT ARGUMENT…: a container as a pod has it: no privilege, a root nobody writes to, the user of the image.
run_with() {
    local mount=$1
    shift
    docker run --label "$MARK=$MAKER" --network "$RUN" --read-only --cap-drop ALL --security-opt no-new-privileges "${AS[@]}" \
        --volume "$PLACE/mounts/$mount:/etc/balsa/certs:ro" --env BALSA_CERTS=/etc/balsa/certs --env "BALSA_ENDPOINTS=$ENDPOINTS" "$@"
}

# contain SECRET NAME ARGUMENT…: one that stays, with a Secret of its own.
contain() {
    local secret=$1 name=$2
    shift 2
    [[ -e $PLACE/mounts/$name/..data ]] || deliver "$secret" "$name"
    run_with "$name" --name "$RUN-$name" "$@"
}

# start_replica SEAT: on the disk that the seat has, or on an empty one.
start_replica() {
    local disk=$PLACE/disks/$1
    if [[ ! -d $disk ]]; then
        mkdir -m 700 "$disk"
        give "$disk"
    fi
    contain raft-certs "$1" --detach --hostname "$1" --ip "$(unused_address)" --network-alias "$1.$DOMAIN" --network-alias "$DOMAIN" \
        --volume "$disk:/var/lib/balsa" --env "BALSA_NAME=$1" --env "BALSA_SERVICE=$DOMAIN" --env BALSA_REPLICAS=3 \
        --env BALSA_DATA_DIR=/var/lib/balsa/data "$RUN/srvraft:latest" >/dev/null
}

# remove NAME: the container, and a replica's disk with it.
remove() {
    docker rm --force --volumes "$RUN-$1" >/dev/null
    rm -rf "${PLACE:?}/disks/$1" "${PLACE:?}/mounts/$1"
    unset "MOUNTED[$1]"
}

cut_off() { docker network disconnect "$RUN" "$RUN-$1"; }

# join SEAT CONTAINER ARGUMENT…: connects a container again, under the names of the seat.
join() {
    local seat=$1 name=$2
    shift 2
    docker network connect --alias "$seat.$DOMAIN" --alias "$DOMAIN" "$@" "$RUN" "$RUN-$name"
}

# An address that nobody has had, as a pod gets one. The engine's own choice may be one that was freed a moment ago, whose new
# holder would answer for the former one: what is sent to a worker that is gone is answered by nobody.
unused_address() {
    local subnet
    subnet=$(docker network inspect -f '{{(index .IPAM.Config 0).Subnet}}' "$RUN")
    # A file, since this runs in a subshell.
    echo x >>"$PLACE/addresses"
    printf '%s.%s\n' "${subnet%.*}" $((200 + $(wc -l <"$PLACE/addresses")))
}

address_of() { docker inspect -f "{{(index .NetworkSettings.Networks \"$RUN\").IPAddress}}" "$RUN-$1"; }

# enter ARGUMENT…: cltraft as an admin, in the container of the interactive client.
enter() { timeout 60 docker exec "$RUN-cliente" cltraft --lang en "$@"; }

# probe CONTAINER live|ready: what the kubelet runs in a pod.
probe() { timeout 30 docker exec "$RUN-$1" srvraft probe "$2" 2>&1; }

not_ready() { ! PROBE=$(probe "$1" ready); }

all_ready() {
    local seat
    for seat in $(seats); do PROBE=$(probe "$seat" ready) || return 1; done
}

all_live() {
    local seat said
    for seat in $(seats); do said=$(probe "$seat" live) || die "the probe says that $said"; done
}

# node_of SEAT: the id of the member at this seat.
node_of() { enter -o json member list | sed -n "s/.*\"name\":\"$1\".*\"node_id\":\"\([^\"]*\)\".*/\1/p"; }

# The automatic client in a container of its own, with a certificate that is no admin's. In LEADER, the seat that led.
client_test() {
    local said
    said=$(run_with load --rm "$RUN/cltraft:latest" --lang en test --wait 120s 2>&1) || die "the client's test failed: $said"
    [[ $said == *SUCCESS* ]] || die "the client's test does not say SUCCESS: $said"
    LEADER=$(sed -n 's/.*leader=\([0-9][0-9]*\).*/raft-\1/p' <<<"$said" | tail -n 1)
    [[ -n $LEADER ]] || die "the client's test named no leader: $said"
    echo "  the client's test: $(grep -c ' OK: ' <<<"$said") writes and reads, SUCCESS; $LEADER leads"
}

# refused MOUNT: a client with these certificates may do nothing.
refused() {
    local said status=0
    said=$(run_with "$1" --rm "$RUN/cltraft:latest" --lang en --timeout 10s put refused 1 2>&1) || status=$?
    [[ $status == 7 ]] || die "a client with the certificate of $1 ended with status $status: $said"
    echo "  a client with the certificate of $1: ${said%%$'\n'*}"
}

# Everything that must hold after each step, whatever was done in it.
agree() {
    eventually 120 "all $COUNT replicas are voters" all_voters || die "the members: $(enter member list 2>&1)"
    eventually 60 "all replicas are ready, as their probes say" all_ready || die "the probe says that $PROBE"
    all_live
    client_test
    load_report
    load_hold
    eventually 60 "all replicas hold the same" same_everywhere || die "the replicas do not hold the same: $(enter status 2>&1)"
    load_resume
    show_content
    ledger_holds || die "an acknowledged write is lost"
}
