#!/usr/bin/env bash
# The static executables for the images, and the proof that they need nothing around them.
set -euo pipefail

usage() {
    cat <<'END'
usage: scripts/build-static.sh [--check-only DIR] [--help]

Builds srvraft and cltraft for this machine's kind, without any shared library, prints where they are
and how large, and runs them in an empty root directory, where they also resolve names: from
/etc/hosts, and from a name server.

  --check-only DIR   build nothing; check the two executables in DIR
END
}

built=
while (($#)); do
    case $1 in
    --check-only) built=${2:?--check-only needs a directory} && shift 2 ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 64 ;;
    esac
done
if [[ -n $built ]]; then built=$(cd "$built" && pwd); fi

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

need cargo "install Rust, see https://rustup.rs"
need cc "install a C compiler, such as the package gcc"
need readelf "install the package binutils"

if [[ -z $built ]]; then
    # The target is named even though it is the host: without it the flag would also reach the
    # procedural macros, which are shared libraries for the compiler and cannot be static.
    host=$(rustc -vV | sed -n 's/^host: //p')
    variable=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$host")_RUSTFLAGS
    # Without a dynamic loader the crate getrandom does not find libc's function by its name, and reads
    # /dev/urandom instead, which an empty root lacks; told so, it asks the kernel.
    export "$variable=-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\""
    # Names of functions stay for backtraces. Line tables would double the size, so none are made; those of
    # the standard library come with it, and are stripped off.
    export CARGO_PROFILE_RELEASE_DEBUG=none CARGO_PROFILE_RELEASE_SPLIT_DEBUGINFO=off CARGO_PROFILE_RELEASE_STRIP=debuginfo
    step "static release build for $host" cargo build --locked --release --bins --target "$host"
    built=$TARGET/$host/release
fi

check_static() {
    local file=$1 kind
    [[ -x $file ]] || die "$file is missing"
    kind=$(readelf -lWd "$file")
    if [[ $kind == *INTERP* ]]; then die "$file asks for a dynamic loader; it is not static"; fi
    if [[ $kind == *NEEDED* ]]; then die "$file needs shared libraries; it is not static"; fi
    say "${BOLD}ok${PLAIN} $file is static, $(($(stat -c %s "$file") / 1024)) KiB"
}

for name in srvraft cltraft; do check_static "$built/$name"; done

# An empty root: the executables, and the two files that a pod gets from Kubernetes.
root=$(mktemp -d)
at_exit "rm -rf '$root'"
cp "$built/srvraft" "$built/cltraft" "$root/"
mkdir "$root/etc"
printf '127.0.0.1 localhost in-hosts.test\n' >"$root/etc/hosts"
printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:2\n' >"$root/etc/resolv.conf"

# As root plainly, else with a user namespace, which most systems allow.
if [[ $(id -u) == 0 ]] && chroot "$root" /cltraft --help >/dev/null 2>&1; then
    inside=(chroot "$root")
elif command -v unshare >/dev/null && unshare --user --map-root-user true 2>/dev/null; then
    inside=(unshare --user --map-root-user chroot "$root")
else
    left_out "the run in an empty root" "needs root, or user namespaces and the program unshare"
    exit 0
fi

for name in srvraft cltraft; do
    help=$("${inside[@]}" "/$name" --help 2>&1) || die "$name --help fails in an empty root: $help"
    [[ $help == *USAGE* ]] || die "$name --help says nothing of use in an empty root: $help"
    say "${BOLD}ok${PLAIN} $name runs in an empty root"
done

# Name resolution is judged by what follows it: nobody listens on port 1, so a name that was resolved
# ends in a refused connection, and one that was not in something else. In a network of its own, so
# that port 53 is free and the machine's own name server stays out of it.
"${inside[@]}" /cltraft certs init --out /certs >/dev/null || die "cltraft certs init fails in an empty root"

resolves() {
    local expected=$1 name=$2 said found=no
    said=$(chroot "$root" /cltraft --lang en --certs /certs/admin --timeout 2s --endpoints "$name:1" status 2>&1) || true
    if grep -qi refused <<<"$said"; then found=yes; fi
    [[ $found == "$expected" ]] || die "$name in an empty root: resolved $found, expected $expected: $said"
}

names_resolve() {
    local ready
    coproc STUB { python3 scripts/dns-stub.py; }
    read -rt 10 -u "${STUB[0]}" ready && [[ $ready == ready ]] || die "the name server does not start"
    resolves yes in-hosts.test && resolves yes in-dns.test && resolves no nowhere.invalid
}

if command -v python3 >/dev/null && unshare --user --map-root-user --net true 2>/dev/null; then
    export root RED PLAIN
    export -f names_resolve resolves die say
    step "names resolve in an empty root" unshare --user --map-root-user --net bash -euc names_resolve
else
    left_out "name resolution in an empty root" "needs python3, and unshare with user and network namespaces"
fi
