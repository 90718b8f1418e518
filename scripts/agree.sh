# shellcheck shell=bash
# Whether replicas agree, asked through a client: `enter ARGUMENT…` runs cltraft as an admin, `seats` prints the seats that
# there should be, one a line. Both come from the script that sources this, behind lib.sh.

DIRECTORY=$(mktemp -d)
at_exit "rm -rf '$DIRECTORY'"

# Whether all voters of the membership are the seats that there should be, and no other change is under way.
all_voters() {
    local members count
    count=$(seats | wc -l) && members=$(enter -o json member list 2>/dev/null) || return 1
    [[ $(grep -c '"role":"voter"' <<<"$members") -eq $count && $(grep -c '"role"' <<<"$members") -eq $count ]]
}

# Whether all replicas, as they answer themselves, have applied the same and hold the same map, and the same entry
# wherever two of them still hold one: snapshots drop entries, at a point of each node's own. Compared are the newest
# thousand entries, which is a page, because a client in a pod has no memory for a long log; the hash is of the whole map.
same_everywhere() {
    local seat count applied first='' file files=()
    count=$(seats | wc -l)
    enter -o json status >"$DIRECTORY/status" 2>/dev/null || return 1
    [[ $(grep -c '"state_hash"' "$DIRECTORY/status") -eq $count ]] || return 1
    [[ $(sed -n 's/.*"applied_index":\([0-9]*\).*"state_hash":"\([^"]*\)".*/\1 \2/p' "$DIRECTORY/status" | sort -u | wc -l) -eq 1 ]] || return 1
    applied=$(sed -n 's/.*"applied_index":\([0-9]*\).*/\1/p' "$DIRECTORY/status" | sort -u)
    rm -f "$DIRECTORY"/raft-*
    for seat in $(seats); do
        file=$DIRECTORY/$seat
        files+=("$file")
        enter replication "$seat" --from $((applied > 1000 ? applied - 999 : 1)) --limit 1000 >"$file" 2>/dev/null && [[ -s $file ]] || return 1
        sed -n '/^-----/,$p' "$file" >"$file.map"
        if [[ -z $first ]]; then first=$file.map; else cmp -s "$first" "$file.map" || return 1; fi
    done
    # A line of the log begins with its index in brackets.
    # Judged by the words and not by a pipe's status, which many differences would turn into another one.
    [[ -z $(awk '/^-----/ { nextfile } /^\[[0-9]+\]/ { if ($1 in seen && seen[$1] != $0) { print; exit } seen[$1] = $0 }' "${files[@]}") ]]
}

show_content() {
    local seat
    for seat in $(seats); do
        printf '  %s: %s\n' "$seat" "$(sed -n "s/.*\"name\":\"$seat\".*\"applied_index\":\([0-9]*\).*\"state_hash\":\"\([^\"]*\)\".*/applied up to \1, map \2/p" "$DIRECTORY/status")"
    done
}

# A ledger: writes that were acknowledged, each under a key of its own. Whatever happens later, they are there.
LEDGER=() LEDGER_PREFIX=validation/$$-$RANDOM

# note: one more acknowledged write.
note() {
    local key=$LEDGER_PREFIX/${#LEDGER[@]} value=$RANDOM-$RANDOM
    enter --timeout 45s put "$key" "$value" >/dev/null || { say "the write of $key was not acknowledged"; return 1; }
    LEDGER+=("$key=$value")
}

# ledger_holds: whether each is read back as it was acknowledged.
ledger_holds() {
    local entry found
    for entry in "${LEDGER[@]}"; do
        found=$(enter --timeout 45s -o json get "${entry%%=*}") || { say "the read of ${entry%%=*} failed: $found"; return 1; }
        if [[ $found != *"\"value\":\"${entry#*=}\""* ]]; then
            say "${entry%%=*} was acknowledged with ${entry#*=}, and is read as: $found"
            return 1
        fi
    done
    echo "  ${#LEDGER[@]} acknowledged writes of this run are read back"
}

# forget: takes the ledger's keys out of the store.
forget() {
    local entry
    for entry in "${LEDGER[@]}"; do enter delete "${entry%%=*}" >/dev/null 2>&1 || return 1; done
    LEDGER=()
}
