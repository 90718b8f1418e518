#!/usr/bin/env bash
# The manifests of `k8s/` without a cluster: what is rendered is what is committed, and fits the schemas.
set -euo pipefail

# The newest release; it holds the schemas of each version of Kubernetes up to its own.
KUBERNETES_VALIDATE=1.37.0
# The version whose schemas count; manifests must hold for v1.30 and later.
KUBERNETES=1.33
# Reads the alerts' expressions as Prometheus does, where promtool is missing.
PROMQL_PARSER=0.12.0

usage() {
    cat <<END
usage: scripts/check-manifests.sh [--write] [--help]

Renders each overlay of k8s/ with kubectl or kustomize, compares it with the files in k8s/rendered/, and
checks those against the schemas of Kubernetes $KUBERNETES with kubernetes-validate, which is installed from
PyPI below the target directory. The alerts are read by promtool, which also plays their stories
(integration/manifests/alerts.yaml); without promtool only their expressions are read, by promql-parser from
PyPI. Needs no cluster. What the objects say beyond schemas is checked by \`cargo test --test manifests\`.

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
    "managed-servers.yaml managed/servers"
    "managed-client.yaml managed/client"
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

# The overlays as a whole are what their parts are, so they need only render.
same_as_committed() {
    local pair file overlay fresh=$SCRATCH/fresh.yaml
    for overlay in kind production managed; do
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

# The namespace stands in the certificates' names. It is said in one place, and goes everywhere from there.
follows_its_settings() {
    local copy=$SCRATCH/k8s fresh=$SCRATCH/fresh.yaml settings=components/cert-manager/configmap-settings.yaml
    cp -r k8s "$copy" && sed -i 's/namespace: default/namespace: elsewhere/; s/cluster: balsa/cluster: other/' "$copy/$settings" &&
        "${RENDERER[@]}" "$copy/overlays/managed/servers" >"$fresh" || return 1
    if grep -nE '\.default(\.|$)|balsa://balsa/|- balsa$' "$fresh"; then
        echo "k8s/$settings does not reach these names"
        return 1
    fi
    # Six of each seat with three Services, and one name a certificate.
    [[ $(grep -c '\.elsewhere' "$fresh") -eq $((7 * 9)) && $(grep -c 'balsa://other/' "$fresh") -eq 10 ]] ||
        { echo "k8s/$settings reaches other names than those that it should" && return 1; }
}

# Whoever has one of the two operators takes its component alone.
stand_alone() {
    local copy=$SCRATCH/alone servers=overlays/managed/servers fresh=$SCRATCH/fresh.yaml
    cp -r k8s "$copy" && sed -i '/components\/cert-manager$/d' "$copy/$servers/kustomization.yaml" &&
        "${RENDERER[@]}" "$copy/$servers" >"$fresh" || return 1
    # The scraper's CA, certificate and key from one Secret, and the replicas' keys from where they were.
    [[ $(grep -c 'name: monitor-certs' "$fresh") -eq 3 && $(grep -c 'secretName: raft-certs' "$fresh") -eq 1 ]] ||
        { echo "the component monitoring does not stand alone" && return 1; }
    cp k8s/$servers/kustomization.yaml "$copy/$servers" && sed -i '/components\/monitoring$/d' "$copy/$servers/kustomization.yaml" &&
        "${RENDERER[@]}" "$copy/$servers" >"$fresh" || return 1
    if grep 'monitoring.coreos.com' "$fresh" || ! grep -q 'kind: Certificate' "$fresh"; then
        echo "the component cert-manager does not stand alone" && return 1
    fi
}

# installed PACKAGE VERSION: in a directory of its own below the tools, from PyPI. It appears whole or not at all.
installed() {
    local folder=$TOOLS/$1-$2
    [[ -d $folder ]] ||
        { rm -rf "$folder.new" &&
            python3 -m pip install --quiet --disable-pip-version-check --target "$folder.new" "$1==$2" >/dev/null 2>&1 &&
            mv "$folder.new" "$folder"; }
}

find_validator() {
    local folder=$TOOLS/kubernetes-validate-$KUBERNETES_VALIDATE
    VALIDATOR=(env "PYTHONPATH=$folder" python3 "$folder/bin/kubernetes-validate")
    installed kubernetes-validate "$KUBERNETES_VALIDATE"
}

validate() { "${VALIDATOR[@]}" --strict -k "$KUBERNETES" k8s/rendered/*.yaml; }

# The file of rules as Prometheus itself wants it.
rules() { sed -n '/^  groups:/,$s/^  //p' k8s/components/monitoring/prometheusrule-raft.yaml; }

# Their expressions, and what fires when.
play() {
    cp integration/manifests/alerts.yaml "$SCRATCH" && rules >"$SCRATCH/rules.yaml" &&
        (cd "$SCRATCH" && promtool check rules rules.yaml && promtool test rules alerts.yaml)
}

parse() {
    rules | PYTHONPATH=$TOOLS/promql-parser-$PROMQL_PARSER:$TOOLS/kubernetes-validate-$KUBERNETES_VALIDATE python3 -c '
import promql_parser, sys, yaml
rules = [rule for group in yaml.safe_load(sys.stdin)["groups"] for rule in group["rules"]]
for rule in rules:
    print(rule["alert"], promql_parser.parse(rule["expr"]))
sys.exit(len(rules) == 0)'
}

SCRATCH=$(mktemp -d)
at_exit "rm -rf '$SCRATCH'"

if find_renderer; then
    step "k8s/rendered is what the overlays render to" same_as_committed
    step "the certificates' names follow their settings" follows_its_settings
    step "each component stands alone" stand_alone
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
if command -v promtool >/dev/null 2>&1; then
    step "the alerts fire when they should, and not else" play
else
    if installed promql-parser "$PROMQL_PARSER" && find_validator; then
        step "the alerts' expressions are PromQL" parse
    else
        left_out "the alerts' expressions" "promql-parser cannot be had from PyPI (python3 with pip)"
    fi
    left_out "the alerts' stories" "promtool is not here (it comes with Prometheus)"
fi
if ((${#LEFT_OUT[@]})); then exit 69; fi
