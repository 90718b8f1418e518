# shellcheck shell=bash
# A client that writes and reads all the time, every answer of it judged. Sourced behind lib.sh, never run.
#
# It alone writes below load/, one operation after the other. So each read has one right answer: the value that was
# acknowledged last, in a key that has as many versions as writes of it were acknowledged. A write that was lost, carried
# out twice or forged shows in the next read of its key.

LOAD_KEYS=16 LOAD=''

# load_begins COMMAND…: a shell of cltraft with JSON answers, driven by standard input.
load_begins() {
    LOAD=$(mktemp -d)
    at_exit "rm -rf '$LOAD'"
    : >"$LOAD/answers"
    : >"$LOAD/failures"
    load_run "$@" 2>"$LOAD/said" &
    at_exit "kill $! 2>/dev/null"
    eventually 60 "the load has begun" load_goes_on || load_failed "no write at all"
    load_mark
}

load_run() {
    local n=0 key version versions=() answer=''
    trap - EXIT INT TERM
    coproc CLIENT { "$@"; }
    while :; do
        if [[ -e $LOAD/hold ]]; then
            load_count held
            until [[ ! -e $LOAD/hold ]]; do pause 0.1; done
            load_count resumed
        fi
        key=load/$((n % LOAD_KEYS)) version=$((${versions[n % LOAD_KEYS]:-0} + 1))
        load_ask put "$key" "$n" && load_count put '"applied":true' '"exit":0}' || return 0
        versions[n % LOAD_KEYS]=$version
        load_ask get "$key" && load_count get "\"value\":\"$n\"" "\"version\":$version," '"exit":0}' || return 0
        n=$((n + 1))
        pause 0.01
    done
}

load_ask() {
    asked="$*"
    printf '%s\n' "$asked" >&"${CLIENT[1]}" && IFS= read -rt 120 answer <&"${CLIENT[0]}" && return
    echo "$asked: the client has ended, or does not answer" >>"$LOAD/failures"
    return 1
}

# load_count WHAT PART…: one line of the time in microseconds and WHAT, if all parts are in the answer. After a wrong one the load
# ends, since it could not tell any longer what is right.
load_count() {
    local what=$1 part
    shift
    for part in "$@"; do
        if [[ $answer != *"$part"* ]]; then
            echo "$asked: answered $answer, which lacks $part" >>"$LOAD/failures"
            return 1
        fi
    done
    echo "${EPOCHREALTIME//[!0-9]/} $what" >>"$LOAD/answers"
}

load_failed() {
    die "the load: $* $(cat "$LOAD/failures"; tail -n 3 "$LOAD/said")"
}

load_writes() { grep -c ' put$' "$LOAD/answers" || true; }

# Whether two more writes were acknowledged than when it was asked last.
load_goes_on() {
    local now
    [[ ! -s $LOAD/failures ]] || load_failed
    now=$(load_writes)
    if ((now >= ${LOAD_SEEN:-0} + 2)); then
        unset LOAD_SEEN
        return 0
    fi
    LOAD_SEEN=${LOAD_SEEN:-$now}
    return 1
}

# load_hold, load_resume: a rest, in which replicas can be compared.
load_hold() {
    : >"$LOAD/hold"
    eventually 90 "the load rests" load_rests || load_failed "it does not rest"
}
load_rests() { [[ ! -s $LOAD/failures ]] || load_failed; [[ $(tail -n 1 "$LOAD/answers") == *' held' ]]; }
load_resume() { rm -f "$LOAD/hold"; }

# load_mark: what load_report tells of begins now.
load_mark() { LOAD_FROM=$(wc -l <"$LOAD/answers"); }

# load_report: what became of it since load_mark; ends the script if anything failed. In LOAD_GAP, the longest time between two
# acknowledged writes, in milliseconds, one that lasts until now included.
load_report() {
    local writes reads
    unset LOAD_SEEN
    eventually 90 "the load goes on" load_goes_on || load_failed "no write is acknowledged any more"
    read -r writes reads LOAD_GAP < <(tail -n +"$((LOAD_FROM > 0 ? LOAD_FROM : 1))" "$LOAD/answers" | awk '
        NR == 1 { last = $1 }
        $2 == "put" { writes++; if (last && $1 - last > gap) gap = $1 - last; last = $1 }
        $2 == "get" { reads++ }
        $2 == "held" { last = 0 }
        $2 == "resumed" { last = $1 }
        END { printf "%d %d %d\n", writes, reads, gap / 1000 }')
    echo "  load: $writes writes and $reads reads, none failed; the longest gap between two writes was $LOAD_GAP ms"
}
