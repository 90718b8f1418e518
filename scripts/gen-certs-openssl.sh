#!/usr/bin/env bash
# Makes the certificates of a cluster with openssl alone: the recipe of certs/README.md, step by step.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
config=$repo/certs/openssl.cnf

usage() {
    cat <<'HELP'
Usage: scripts/gen-certs-openssl.sh [OPTION]...

Makes the same as scripts/gen-certs.sh, but needs only openssl (3.0 or newer) and bash:
  OUT/ca/{ca.crt,ca.crl,ca.key}   OUT/raft-0/{ca.crt,ca.crl,tls.crt,tls.key} ...   OUT/client/
  OUT/admin/   OUT/monitor/
Run again, it keeps what is there and makes what is missing.

  --out DIR               where to (default: certs/generated of this repository)
  --cluster NAME          the cluster's name (default: balsa)
  --nodes N               seats raft-0 to raft-(N-1) (default: 3)
  --dns NAME              a further DNS name of every node; may be repeated
  --ip ADDRESS            a further IP address of every node; may be repeated
  --namespace NAME        Kubernetes namespace (default: default)
  --service NAME          headless Service of the nodes (default: raft-service)
  --client-service NAME   Service for clients (default: raft-client)
  --days N                validity of the certificates in days (default: 365)
  --ca-days N             validity of the CA in days (default: 3650)
  --force                 issue all certificates anew; the CA is never replaced
  --help                  this text
HELP
}

out=$repo/certs/generated
cluster=balsa
nodes=3
namespace=default
service=raft-service
client_service=raft-client
days=365
ca_days=3650
force=no
more_dns=()
more_ips=()
problems=()

while (($# > 0)); do
    option=$1
    shift
    case $option in
    -h | --help)
        usage
        exit 0
        ;;
    --force)
        force=yes
        continue
        ;;
    --*=*)
        value=${option#*=}
        option=${option%%=*}
        ;;
    --out | --cluster | --nodes | --dns | --ip | --namespace | --service | --client-service | --days | --ca-days)
        if (($# == 0)); then
            problems+=("$option needs a value")
            break
        fi
        value=$1
        shift
        ;;
    *)
        problems+=("there is no option $option")
        continue
        ;;
    esac
    case $option in
    --out) out=$value ;;
    --cluster) cluster=$value ;;
    --nodes) nodes=$value ;;
    --dns) more_dns+=("$value") ;;
    --ip) more_ips+=("$value") ;;
    --namespace) namespace=$value ;;
    --service) service=$value ;;
    --client-service) client_service=$value ;;
    --days) days=$value ;;
    --ca-days) ca_days=$value ;;
    *) problems+=("there is no option $option") ;;
    esac
done

label='[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?'
byte='(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])'
check() { # option, value, pattern, rule
    [[ $2 =~ ^($3)$ ]] || problems+=("$1 '$2' is not possible: $4")
}
check_number() { # option, value, largest
    if [[ ! $2 =~ ^[1-9][0-9]{0,5}$ ]] || (($2 > $3)); then
        problems+=("$1 '$2' is not possible: it must be 1 to $3")
    fi
}
for pair in "--cluster $cluster" "--namespace $namespace" "--service $service" \
    "--client-service $client_service"; do
    check "${pair%% *}" "${pair#* }" "$label" "it must be a label of a-z, 0-9 and inner -"
done
for name in ${more_dns[@]+"${more_dns[@]}"}; do
    check --dns "$name" "$label(\.$label)*" "it must be labels of a-z, 0-9 and inner -, with dots between"
done
for address in ${more_ips[@]+"${more_ips[@]}"}; do
    check --ip "$address" "$byte(\.$byte){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*" "it must be an IPv4 or IPv6 address"
done
check_number --nodes "$nodes" 100
check_number --days "$days" 36500
check_number --ca-days "$ca_days" 36500
if ((${#problems[@]} == 0)) && ((days > ca_days)); then
    problems+=("--days $days is not possible: the CA ends after $ca_days days")
fi
[[ -n $out ]] || problems+=("--out needs a directory")
command -v openssl >/dev/null || problems+=("openssl is not installed")
if ((${#problems[@]} > 0)); then
    printf 'gen-certs-openssl.sh: %s\n' "${problems[@]}" >&2
    exit 2
fi

fail() {
    printf 'gen-certs-openssl.sh: %s\n' "$1" >&2
    exit 1
}

# Everything is made in here and moved into place whole, so that a failure leaves nothing half-made.
# It lies inside OUT because a move is atomic only within one file system. Keys: owner only.
umask 022
mkdir -p "$out"
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT

quietly() { # runs openssl and shows what it says only if it fails
    "$@" 2>"$work/log" || {
        cat "$work/log" >&2
        return 1
    }
}

new_key() { # file
    (umask 077 && quietly openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1")
}

# Nobody is on it yet. The number is the second of its making, as `cltraft certs` numbers lists, so that any
# later list of either maker counts as newer.
make_list() { # the CA's directory
    : >"$work/index.txt"
    printf '%016X\n' "$(date +%s)" >"$work/crlnumber"
    cat >"$work/list.cnf" <<CNF
[ ca ]
default_ca = lists
[ lists ]
database       = $work/index.txt
crlnumber      = $work/crlnumber
default_md     = sha256
crl_extensions = extensions
[ extensions ]
authorityKeyIdentifier = keyid:always
CNF
    quietly openssl ca -gencrl -config "$work/list.cnf" -cert "$1/ca.crt" -keyfile "$1/ca.key" -crldays 730 \
        -out "$work/ca.crl"
    mv -fT "$work/ca.crl" "$1/ca.crl"
}

make_ca() {
    if [[ -e $out/ca/next || -e $out/ca/former ]]; then
        fail "the CA in $out/ca is being changed; finish that with cltraft certs rotate-ca"
    fi
    if [[ -e $out/ca ]]; then
        [[ -s $out/ca/ca.crt ]] || fail "$out/ca exists but lacks ca.crt; put the file back, or move the directory away"
        [[ -s $out/ca/ca.key ]] || fail "$out/ca exists but lacks ca.key; put the file back, or move the directory away"
        # As `cltraft certs` does: a CA of our own making says which cluster it signs for.
        local subject
        subject=$(openssl x509 -in "$out/ca/ca.crt" -noout -subject -nameopt RFC2253)
        if [[ $subject == 'subject=CN=Balsa CA'*',O='* && $subject != *",O=$cluster" ]]; then
            fail "the CA in $out/ca signs for cluster ${subject##*,O=}, not for $cluster; give that cluster its own --out"
        fi
        if [[ ! -s $out/ca/ca.crl ]]; then
            # An empty list with a newer number would give access back to everybody who was revoked.
            local copy
            for copy in "$out"/*/ca.crl; do
                if [[ -s $copy ]]; then fail "$out/ca/ca.crl is gone; put a copy of it back: cp $copy $out/ca/"; fi
            done
            make_list "$out/ca"
        fi
        echo "kept     $out/ca"
        return
    fi
    mkdir -m 700 "$work/ca"
    new_key "$work/ca/ca.key"
    quietly openssl req -x509 -new -config "$config" -extensions ca -key "$work/ca/ca.key" -sha256 \
        -subj "/O=$cluster/CN=Balsa CA $(openssl rand -hex 4)" \
        -days "$ca_days" -out "$work/ca/ca.crt"
    make_list "$work/ca"
    mv -T "$work/ca" "$out/ca"
    echo "created  $out/ca"
}

make_leaf() { # role, name, further names such as ,DNS:localhost
    local role=$1 name=$2 names="URI:balsa://$cluster/$1/$2${3:-}" dir=$out/$2 new=$work/$2 file
    if [[ -e $dir && $force == no ]]; then
        for file in ca.crt tls.crt tls.key; do
            [[ -s $dir/$file ]] || fail "$dir exists but lacks $file; put the file back, or move the directory away"
        done
        [[ -e $dir/ca.crl ]] || cp "$out/ca/ca.crl" "$dir/ca.crl"
        echo "kept     $dir"
        return
    fi
    mkdir "$new"
    new_key "$new/tls.key"
    # The request carries the names and proves that the key is held; the profile decides the rest.
    quietly openssl req -new -config "$config" -key "$new/tls.key" -sha256 \
        -subj "/O=$cluster/CN=$name" -addext "subjectAltName=$names" -out "$work/request.pem"
    quietly openssl x509 -req -in "$work/request.pem" -sha256 -copy_extensions copy \
        -extfile "$config" -extensions "$role" -CA "$out/ca/ca.crt" -CAkey "$out/ca/ca.key" \
        -days "$days" -out "$new/tls.crt"
    cp "$out/ca/ca.crt" "$out/ca/ca.crl" "$new"
    if [[ -e $dir ]]; then
        # A running node watches the directory, so the files change inside it; certificate last.
        for file in ca.crt ca.crl tls.key tls.crt; do mv -fT "$new/$file" "$dir/$file"; done
        rmdir "$new"
        echo "replaced $dir"
    else
        mv -T "$new" "$dir"
        echo "created  $dir"
    fi
}

node_names() { # name
    local names=",DNS:$1" host suffix item
    for host in "$1.$service" "$service" "$client_service"; do
        for suffix in "" ".$namespace" ".$namespace.svc" ".$namespace.svc.cluster.local"; do
            names+=",DNS:$host$suffix"
        done
    done
    names+=",DNS:localhost"
    for item in ${more_dns[@]+"${more_dns[@]}"}; do names+=",DNS:$item"; done
    names+=",IP:127.0.0.1,IP:::1"
    for item in ${more_ips[@]+"${more_ips[@]}"}; do names+=",IP:$item"; done
    echo "$names"
}

make_ca
for ((ordinal = 0; ordinal < nodes; ordinal++)); do
    make_leaf node "raft-$ordinal" "$(node_names "raft-$ordinal")"
done
make_leaf client client
make_leaf admin admin
make_leaf monitor monitor
echo "$out/ca/ca.key signs new certificates: keep it off the cluster."
