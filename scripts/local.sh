#!/usr/bin/env bash
# The main job on one machine: three nodes over mutual TLS keep one log, survive kill -9, and answer.
set -euo pipefail

usage() {
    cat <<'END'
usage: scripts/local.sh [--dir DIR] [--debug] [--keep]

Builds Balsa, makes certificates, starts three nodes on loopback over mutual TLS, writes and reads,
kills the leader with kill -9, reads the values back from the new leader, restarts the dead node and
shows that all three hold the same log and the same map. On a terminal it then opens the shell; without
one it takes the cluster down and exits 0.

  --dir DIR  where the cluster lives (default: a new temporary directory, removed at the end)
  --debug    use a debug build, which compiles faster
  --keep     leave the cluster running at the end
END
}

dir='' profile=release keep=false
while (($#)); do
    case $1 in
    --dir) [[ $# -ge 2 ]] || { usage >&2; exit 64; }; dir=$(realpath -m -- "$2") && shift 2 ;;
    --debug) profile=debug && shift ;;
    --keep) keep=true && shift ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 64 ;;
    esac
done

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

need cargo "install Rust, see https://rustup.rs"
need cc "install a C compiler, such as the package gcc"
need openssl "install the package openssl"

build=(cargo build --locked --bins)
if [[ $profile == release ]]; then build+=(--release); fi
step "built ($profile)" "${build[@]}"
cltraft=$TARGET/$profile/cltraft
[[ $cltraft == /* ]] || cltraft=$PWD/$cltraft

if [[ -z $dir ]]; then
    dir=$(mktemp -d "${TMPDIR:-/tmp}/balsa-local.XXXXXX")
    $keep || at_exit "rm -rf '$dir'"
fi

# Ends the cluster's own processes, whatever happened; a cluster that was never started is no error.
down() { "$cltraft" local --dir "$dir" --down >/dev/null 2>&1; }
$keep || at_exit down

say "three nodes in $dir, every connection over mutual TLS"
exports=$("$cltraft" local --nodes 3 --dir "$dir" --detach)
eval "$exports"
export BALSA_ENDPOINTS BALSA_CERTS
openssl verify -CAfile "$BALSA_CERTS/ca.crt" "$dir"/certs/raft-[0-2]/tls.crt >&2

say "the automatic client: three writes, three reads, one overwrite"
"$cltraft" --lang en test

# field NAME JSON: one plain value of a one-line JSON object.
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\)\"\{0,1\}.*/\1/p" <<<"$2"; }

for number in 1 2 3; do
    answer=$("$cltraft" -o json put "local/key-$number" "value-$number")
done
leader=$(field leader "$answer")
[[ $leader == raft-[0-2] ]] || die "no leader was named: $answer"

say "kill -9 of the leader, $leader"
begun=$(date +%s%N)
"$cltraft" local --dir "$dir" --kill "$leader" >&2
answer=$("$cltraft" -o json put local/after-kill written)
took=$((($(date +%s%N) - begun) / 1000000))
next=$(field leader "$answer")
[[ $next == raft-[0-2] && $next != "$leader" ]] || die "no new leader was named: $answer"
say "the new leader is $next; the next write was acknowledged $took ms after the kill"

say "the values, read back"
for number in 1 2 3; do
    value=$(field value "$("$cltraft" -o json get "local/key-$number")")
    [[ $value == "value-$number" ]] || die "local/key-$number reads '$value', not 'value-$number'"
    echo "local/key-$number = $value"
done

say "$leader starts again with its old directory"
"$cltraft" local --dir "$dir" --start "$leader" >&2

# Two nodes agree when their whole logs and maps are the same, line by line.
same=false
for _ in {1..300}; do
    for node in raft-0 raft-1 raft-2; do
        "$cltraft" replication "$node" >"$dir/$node.replication" 2>"$dir/$node.error" || true
    done
    if [[ -s $dir/raft-0.replication ]] &&
        cmp -s "$dir/raft-0.replication" "$dir/raft-1.replication" &&
        cmp -s "$dir/raft-0.replication" "$dir/raft-2.replication"; then
        same=true
        break
    fi
    pause 0.1
done
if ! $same; then
    cat "$dir"/raft-?.error >&2
    diff "$dir/raft-0.replication" "$dir/raft-1.replication" >&2 || true
    diff "$dir/raft-0.replication" "$dir/raft-2.replication" >&2 || true
    die "the three nodes do not hold the same log and map"
fi
cat "$dir/$leader.replication"
say "raft-0, raft-1 and raft-2 hold this log and this map, line by line"

if [[ -t 0 && -t 1 ]]; then
    say "the shell; exit leaves it and takes the cluster down"
    "$cltraft" shell || true
fi
if $keep; then
    say "the cluster runs on:"
    echo "$exports"
fi
echo "SUCCESS"
