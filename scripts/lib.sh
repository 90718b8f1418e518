# shellcheck shell=bash
# What the scripts share. Sourced, never run: `. "$(dirname "$0")/lib.sh"`. Changes to the crate's root.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# Where cargo builds, and where tools that the scripts install for themselves live.
# shellcheck disable=SC2034 # for the scripts that source this
TARGET=${CARGO_TARGET_DIR:-target} TOOLS=${CARGO_TARGET_DIR:-target}/tools

if [[ -t 2 ]]; then BOLD=$'\e[1m' RED=$'\e[31m' PLAIN=$'\e[0m' CLEAR=$'\r\e[K'; else BOLD='' RED='' PLAIN='' CLEAR=''; fi

# say TEXT…: one line for the person, on standard error, so that standard output stays the script's answer.
say() { printf '%s\n' "$*" >&2; }

# die TEXT…: says what is wrong and ends the script.
die() { say "${RED}error:${PLAIN} $*"; exit 1; }

# no_options ARGUMENT…: of a script that takes none: for --help its `usage`, for all else the same as an error, status 64.
no_options() {
    case ${1:-} in
    '') ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 64 ;;
    esac
}

# need TOOL WAY-TO-GET-IT: ends the script with the way out if a program is missing.
need() { command -v "$1" >/dev/null 2>&1 || die "$1 is missing: $2"; }

# at_exit COMMAND…: runs the command when the script ends, however it ends; the last one first.
LIB_AT_EXIT=()
at_exit() { LIB_AT_EXIT=("$*" "${LIB_AT_EXIT[@]}"); }
lib_end() {
    local status=$? command
    for command in "${LIB_AT_EXIT[@]}"; do eval "$command" || true; done
    exit "$status"
}
trap lib_end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A pause without a process of its own: nothing is ever written to this descriptor.
exec {LIB_PAUSE}<> <(:)
pause() { read -rt "$1" -u "$LIB_PAUSE" _ || true; }

# eventually SECONDS WHAT COMMAND…: asks once a second until the command succeeds, and now and then says for what it waits. If
# it does not in time, says so, and status 1.
eventually() {
    local limit=$1 what=$2 begun=$SECONDS deadline=$((SECONDS + $1)) told=$SECONDS
    shift 2
    until "$@"; do
        if ((SECONDS - told >= 20)); then
            told=$SECONDS
            say "  … until $what, $((SECONDS - begun)) s"
        fi
        if ((SECONDS >= deadline)); then
            say "not within $limit s: $what"
            return 1
        fi
        pause 1
    done
}

LIB_TICKER=
lib_stop_ticker() {
    [[ -z $LIB_TICKER ]] && return
    kill "$LIB_TICKER" 2>/dev/null || true
    wait "$LIB_TICKER" 2>/dev/null || true
    LIB_TICKER=
    printf '%s' "$CLEAR" >&2
}
at_exit lib_stop_ticker

# While something takes longer than two seconds: on a terminal one line that counts, elsewhere a line
# now and then, so that a log stays short and nobody takes silence for a hang.
lib_tick() {
    local label=$1 begun=$SECONDS script=$$ every=20
    if [[ -n $CLEAR ]]; then every=1; fi
    trap - EXIT INT TERM
    pause 2
    while kill -0 "$script" 2>/dev/null; do
        if [[ -n $CLEAR ]]; then printf '%s' "$CLEAR" >&2; fi
        printf '  … %s, %d s' "$label" $((SECONDS - begun)) >&2
        if [[ -z $CLEAR ]]; then printf '\n' >&2; fi
        pause "$every"
    done
}

LIB_LOG=$(mktemp)
at_exit "rm -f '$LIB_LOG'"

# step LABEL COMMAND…: runs a command quietly, shows that it goes on, and prints what it said if it fails.
# The command runs without `set -e`; give it one command, or a function that joins with &&.
step() {
    local label=$1 begun=$SECONDS status=0
    shift
    lib_tick "$label" &
    LIB_TICKER=$!
    "$@" >"$LIB_LOG" 2>&1 || status=$?
    lib_stop_ticker
    if ((status != 0)); then
        tail -n 200 "$LIB_LOG" >&2
        die "$label: failed with status $status"
    fi
    say "${BOLD}ok${PLAIN} $label ($((SECONDS - begun)) s)"
}

# left_out WHAT WHY: something was not checked. Said at once and once more at the end.
LEFT_OUT=()
left_out() {
    LEFT_OUT+=("$1: $2")
    say "${BOLD}left out${PLAIN} $1: $2"
}

# A container engine that answers.
need_engine() {
    local why
    need docker "install it, see https://docs.docker.com/get-docker/"
    why=$(timeout 60 docker version --format '{{.Server.Version}}' 2>&1 >/dev/null) ||
        die "no container engine answers: ${why:-docker version says nothing}. Start it, or check DOCKER_HOST and who may use its socket"
}
