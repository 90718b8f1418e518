#!/usr/bin/env bash
# The main job on one machine: three nodes over mutual TLS keep one log, survive kill -9, and answer.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
source "$root/scripts/lib.sh"

usage() {
  cat <<'TXT'
usage: scripts/local.sh [--dir DIR] [--debug] [--keep]

Builds Balsa, makes certificates, starts three nodes on loopback over mutual TLS, writes and reads,
kills the leader with kill -9, reads the values back from the new leader, restarts the dead node and
shows that all three hold the same log and the same map. On a terminal it then opens the shell; without
one it takes everything down and exits 0.

  --dir DIR  where the cluster lives (default: a new temporary directory, removed at the end)
  --debug    use a debug build (compiles faster)
  --keep     leave the cluster running at the end
TXT
}

dir=""
profile=release
keep=false
while (($#)); do
  case $1 in
    --dir) [[ $# -ge 2 ]] || die "--dir wants a directory"; dir=$2; shift 2 ;;
    --debug) profile=debug; shift ;;
    --keep) keep=true; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown option $1" ;;
  esac
done

need cargo "install Rust from https://rustup.rs"
need cc "install a C compiler (Debian: apt-get install gcc)"

step "build ($profile)"
if [[ $profile == release ]]; then
  (cd "$root" && cargo build --release --locked --bins)
else
  (cd "$root" && cargo build --locked --bins)
fi
target=${CARGO_TARGET_DIR:-$root/target}
cltraft=$target/$profile/cltraft

made=""
if [[ -z $dir ]]; then
  dir=$(mktemp -d "${TMPDIR:-/tmp}/balsa-local.XXXXXX")
  made=$dir
fi

started=false
finish() {
  local status=$?
  if $started && ! $keep; then
    "$cltraft" local --dir "$dir" --down || status=1
    if [[ -n $made ]]; then rm -rf "$made"; fi
  fi
  if ((status != 0)) && ! $keep && [[ -n $made && -d $made ]]; then
    note "the nodes' logs are in $made"
  fi
  exit "$status"
}
trap finish EXIT

step "start three nodes in $dir, every connection over mutual TLS"
started=true
exports=$("$cltraft" local --nodes 3 --dir "$dir" --detach)
eval "$exports"
export BALSA_ENDPOINTS BALSA_CERTS

step "three writes, three reads, one overwrite: the automatic client"
"$cltraft" --lang en test

field() { # field NAME JSON: one plain value of a one-line JSON object
  sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\)\"\{0,1\}.*/\1/p" <<<"$2"
}
leader_now() { # the seat that leads, as the cluster says
  local answer
  answer=$("$cltraft" -o json get "$1") || return 1
  field leader "$answer"
}

for number in 1 2 3; do
  "$cltraft" -o json put "local/key-$number" "value-$number" >/dev/null
done
leader=$(leader_now local/key-1)
[[ -n $leader ]] || die "no leader was named"

step "kill -9 the leader, $leader"
began=$(date +%s%N)
"$cltraft" local --dir "$dir" --kill "$leader"
"$cltraft" -o json put local/after-kill written >/dev/null
ended=$(date +%s%N)
next=$(leader_now local/after-kill)
[[ $next != "$leader" ]] || die "$leader was killed and still leads"
note "new leader: $next; the first write was acknowledged $(((ended - began) / 1000000)) ms after the kill"

step "read the values back"
for number in 1 2 3; do
  answer=$("$cltraft" -o json get "local/key-$number")
  value=$(field value "$answer")
  [[ $value == "value-$number" ]] || die "local/key-$number reads '$value', not 'value-$number'"
  note "local/key-$number = $value"
done

step "restart $leader with its old directory"
"$cltraft" local --dir "$dir" --start "$leader"

step "compare the log and the map of all three nodes"
# Two nodes agree when their whole logs and maps are the same, line by line.
same=false
for _ in $(seq 1 100); do
  for node in raft-0 raft-1 raft-2; do
    "$cltraft" replication "$node" >"$dir/$node.replication" 2>"$dir/replication.err" || true
  done
  if [[ -s $dir/raft-0.replication ]] &&
    cmp -s "$dir/raft-0.replication" "$dir/raft-1.replication" &&
    cmp -s "$dir/raft-0.replication" "$dir/raft-2.replication"; then
    same=true
    break
  fi
  sleep 0.1
done
if ! $same; then
  cat "$dir/replication.err" >&2
  diff "$dir/raft-0.replication" "$dir/raft-1.replication" >&2 || true
  diff "$dir/raft-0.replication" "$dir/raft-2.replication" >&2 || true
  die "the three nodes do not hold the same log and map"
fi
cat "$dir/$leader.replication"
note "raft-0, raft-1 and raft-2 hold the same log and the same map"

if [[ -t 0 && -t 1 ]]; then
  step "the shell (exit leaves and takes the cluster down)"
  "$cltraft" shell || true
fi
step "done: SUCCESS"
