#!/usr/bin/env bash
# Makes the certificates of a cluster with `cltraft certs init` (rcgen).
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
    cat <<'HELP'
Usage: scripts/gen-certs.sh [OPTION]...

Makes a CA, one certificate for each node, and those of `client`, `admin` and `monitor`:
  OUT/ca/{ca.crt,ca.crl,ca.key}   OUT/raft-0/{ca.crt,ca.crl,tls.crt,tls.key} ...   OUT/client/
  OUT/admin/   OUT/monitor/
Run again, it keeps what is there and makes what is missing.

  --out DIR               where to (default: certs/generated of this repository)
  --cluster NAME          the cluster's name (default: balsa)
  --nodes N               seats raft-0 to raft-(N-1) (default: 3, with --k8s 7)
  --dns NAME              a further DNS name of every node; may be repeated
  --ip ADDRESS            a further IP address of every node; may be repeated
  --namespace NAME        Kubernetes namespace (default: default)
  --service NAME          headless Service of the nodes (default: raft-service)
  --client-service NAME   Service for clients (default: raft-client)
  --days N                validity of the certificates in days (default: 365)
  --ca-days N             validity of the CA in days (default: 3650)
  --k8s                   write Secret manifests besides, for kubectl apply -f OUT/k8s: raft-certs (all seats),
                          client-certs, admin-certs, monitor-certs. They hold keys; never commit them
  --force                 issue all certificates anew; the CA is never replaced
  --help                  this text

The executable is $CLTRAFT, else target/release/cltraft, else target/debug/cltraft, else it is built.
HELP
}

out_given=no
for argument in "$@"; do
    case $argument in
    -h | --help)
        usage
        exit 0
        ;;
    --out | --out=*) out_given=yes ;;
    esac
done

# What `cltraft` would refuse, told before it is built.
check_options() {
    local argument unknown=()
    while (($#)); do
        argument=$1
        shift
        case $argument in
        --out | --cluster | --nodes | --dns | --ip | --namespace | --service | --client-service | --days | --ca-days | --output | --lang | -o)
            shift || true # its value
            ;;
        --*=* | -o?* | --force | --k8s) ;;
        *) unknown+=("$argument") ;;
        esac
    done
    if ((${#unknown[@]})); then
        printf 'gen-certs.sh: %s is no option\n' "${unknown[@]}" >&2
        echo "scripts/gen-certs.sh --help shows what there is." >&2
        return 2
    fi
}

find_cltraft() {
    if [[ -n ${CLTRAFT:-} ]]; then
        if [[ ! -x $CLTRAFT ]]; then
            echo "gen-certs.sh: CLTRAFT=$CLTRAFT is not an executable" >&2
            return 1
        fi
        echo "$CLTRAFT"
        return
    fi
    local target=${CARGO_TARGET_DIR:-$repo/target} profile
    for profile in release debug; do
        if [[ -x $target/$profile/cltraft ]]; then
            echo "$target/$profile/cltraft"
            return
        fi
    done
    check_options "$@" || return
    echo "gen-certs.sh: building cltraft (a few minutes the first time)" >&2
    (cd "$repo" && cargo build --release --locked --bin cltraft) >&2
    echo "$target/release/cltraft"
}

cltraft=$(find_cltraft "$@")
if [[ $out_given == no ]]; then
    set -- --out "$repo/certs/generated" "$@"
fi
exec "$cltraft" certs init "$@"
