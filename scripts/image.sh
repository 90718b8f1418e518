# shellcheck shell=bash
# Building and pushing one image. Sourced behind lib.sh and kube.sh, never run.

# No image is larger; one that is has something in it that does not belong there.
IMAGE_LIMIT=$((15 * 1000 * 1000))

version_of_crate() { sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1; }

# A host that can make Linux executables by itself: they are built there, and no base image is pulled.
builds_here() { [[ $(uname -s) == Linux ]] && command -v cargo >/dev/null && command -v cc >/dev/null && command -v readelf >/dev/null; }

# make_image NAME EXECUTABLES: the image $REGISTRY/NAME from the executables in a directory; `inside` builds them in a container.
make_image() {
    local name=$1 from=$2 context size
    local arguments=(--tag "$REGISTRY/$name:latest" --label "$MARK=$MAKER" --build-arg "VERSION=$(version_of_crate)"
        --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)")
    if [[ $from == inside ]]; then
        step "image $name, its executable built in a container (this takes minutes)" \
            docker build "${arguments[@]}" --target "$name" --file docker/Dockerfile.inside .
    else
        context=$(mktemp -d)
        at_exit "rm -rf '$context'"
        install -m 755 "$from/$name" "$context/$name"
        mkdir -m 700 "$context/data"
        step "image $name" docker build "${arguments[@]}" --file "docker/Dockerfile.$name" "$context"
    fi
    size=$(docker image inspect -f '{{.Size}}' "$REGISTRY/$name:latest")
    ((size <= IMAGE_LIMIT)) || die "the image $name has $size bytes, more than $IMAGE_LIMIT"
    say "${BOLD}ok${PLAIN} $REGISTRY/$name:latest has $((size / 1000)) kB"
}

push_image() {
    answers_as_registry || die "no registry answers at $REGISTRY: scripts/kind-with-registry.sh starts one"
    step "push of $1" docker push "$REGISTRY/$1:latest"
}

# One GET over plain HTTP, which is all that the local registry speaks; needs no further program.
registry_get() {
    local connection
    exec {connection}<>"/dev/tcp/${REGISTRY%:*}/${REGISTRY##*:}" || return 1
    printf 'GET %s HTTP/1.0\r\nHost: %s\r\n\r\n' "$1" "$REGISTRY" >&"$connection"
    timeout 20 cat <&"$connection"
    exec {connection}>&-
}

answers_as_registry() { [[ $(registry_get /v2/ 2>/dev/null) == *' 200 '* ]]; }

catalog() { registry_get /v2/_catalog | sed '1,/^\r\{0,1\}$/d'; }

image_usage() {
    cat <<HELP
usage: scripts/$(basename "$0") [--executables DIR] [--inside] [--no-push] [--help]

Builds the image $REGISTRY/$1, FROM scratch with the static executable, pushes it to the
registry at $REGISTRY, and ends with the registry's catalog.

  --executables DIR  build nothing; take the static executables in DIR
  --inside           build the executables in a container, which pulls the image of Rust's
                     toolchain. The default where Rust, a C compiler or Linux is missing
  --no-push          only build the image
HELP
}

# recompile NAME ARGUMENT…: what recompileServer.sh and recompileClient.sh do.
recompile() {
    local name=$1 from='' push=true host
    shift
    while (($#)); do
        case $1 in
        --executables)
            [[ $# -ge 2 ]] || { image_usage "$name" >&2; exit 64; }
            # lib.sh has changed the directory.
            if [[ $2 == /* ]]; then from=$2; else from=$OLDPWD/$2; fi
            shift 2
            ;;
        --inside) from=inside && shift ;;
        --no-push) push=false && shift ;;
        --help | -h) image_usage "$name" && exit 0 ;;
        *) image_usage "$name" >&2 && exit 64 ;;
        esac
    done
    need_engine
    if $push; then answers_as_registry || die "no registry answers at $REGISTRY: scripts/kind-with-registry.sh starts one"; fi
    if [[ -z $from ]] && ! builds_here; then from=inside; fi
    if [[ -z $from ]]; then
        scripts/build-static.sh
        host=$(rustc -vV | sed -n 's/^host: //p')
        from=$TARGET/$host/release
    elif [[ $from != inside ]]; then
        [[ -d $from ]] || die "there is no directory $from with executables"
        scripts/build-static.sh --check-only "$from"
    fi
    make_image "$name" "$from"
    if $push; then
        push_image "$name"
        say "the registry's catalog:"
        catalog
    fi
}
