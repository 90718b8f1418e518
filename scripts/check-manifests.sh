#!/usr/bin/env bash
# The manifests of `k8s/` without a cluster: what is rendered is what is committed, and fits the schemas.
set -euo pipefail

# The newest release; it holds the schemas of each version of Kubernetes up to its own.
KUBERNETES_VALIDATE=1.37.0
# The version whose schemas count; manifests must hold for v1.30 and later.
KUBERNETES=1.33

usage() {
    cat <<END
usage: scripts/check-manifests.sh [--write] [--help]

Renders each overlay of k8s/ with kubectl or kustomize, compares it with the files in k8s/rendered/, and
checks those against the schemas of Kubernetes $KUBERNETES with kubernetes-validate, which is installed from
PyPI below the target directory. Needs no cluster. What they say beyond schemas is checked by
\`cargo test --test manifests\`.

  --write   write k8s/rendered/ anew before

Status 0: all held. 69: what was checked held, and something was left out for want of a tool. 1: something
does not hold.
END
}

write=
for argument in "$@"; do
    case $argument in
    --write) write=1 ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 64 ;;
    esac
done

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# FILE OVERLAY: what is committed, and what it is made from.
RENDERED=(
    "kind-servers.yaml kind/servers"
    "kind-client.yaml kind/client"
    "production-servers.yaml production/servers"
    "production-client.yaml production/client"
)

# A program that renders, newer ones and older ones alike.
find_renderer() {
    if command -v kubectl >/dev/null 2>&1 && kubectl kustomize --help >/dev/null 2>&1; then
        RENDERER=(kubectl kustomize)
    elif command -v kustomize >/dev/null 2>&1; then
        RENDERER=(kustomize build)
    else
        return 1
    fi
}

head_of() {
    echo "# Rendered from k8s/overlays/$1 by scripts/check-manifests.sh --write: change it there."
}

render() { head_of "$1" && "${RENDERER[@]}" "k8s/overlays/$1"; }

# The two overlays as a whole are what their parts are, so they need only render.
same_as_committed() {
    local pair file overlay fresh=$SCRATCH/fresh.yaml
    for overlay in kind production; do
        render "$overlay" >"$fresh" || return 1
    done
    for pair in "${RENDERED[@]}"; do
        read -r file overlay <<<"$pair"
        render "$overlay" >"$fresh" || return 1
        if [[ -n $write ]]; then
            cp "$fresh" "k8s/rendered/$file"
        elif ! diff -u "k8s/rendered/$file" "$fresh"; then
            echo "k8s/rendered/$file is not what k8s/overlays/$overlay renders to: scripts/check-manifests.sh --write"
            return 1
        fi
    done
}

find_validator() {
    local folder=$TOOLS/kubernetes-validate-$KUBERNETES_VALIDATE
    VALIDATOR=(env "PYTHONPATH=$folder" python3 "$folder/bin/kubernetes-validate")
    if [[ -x $folder/bin/kubernetes-validate ]]; then return; fi
    # It appears whole or not at all.
    python3 -m pip install --quiet --disable-pip-version-check --target "$folder.new" \
        "kubernetes-validate==$KUBERNETES_VALIDATE" >/dev/null 2>&1 &&
        rm -rf "$folder" && mv "$folder.new" "$folder"
}

validate() { "${VALIDATOR[@]}" --strict -k "$KUBERNETES" k8s/rendered/*.yaml; }

SCRATCH=$(mktemp -d)
at_exit "rm -rf '$SCRATCH'"

if find_renderer; then
    step "k8s/rendered is what the overlays render to" same_as_committed
elif [[ -n $write ]]; then
    die "neither kubectl nor kustomize is here: one of them is needed to render"
else
    left_out "rendering the manifests" "neither kubectl nor kustomize is here"
fi
if find_validator; then
    step "k8s/rendered fits the schemas of Kubernetes $KUBERNETES" validate
else
    left_out "the schemas of the manifests" "kubernetes-validate cannot be had from PyPI (python3 with pip)"
fi
if ((${#LEFT_OUT[@]})); then exit 69; fi
