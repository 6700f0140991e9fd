#!/usr/bin/env bash
# The programs of the system that the tests and the benchmark use: installs the missing ones with apt-get, and says so.
#
#   scripts/install-system.sh              curl, wrk, ab and nginx, as far as they are missing
#   scripts/install-system.sh PACKAGE ...  these Debian packages
set -euo pipefail

# Debian keeps nginx where only root looks.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

packages=("$@")
if [ $# -eq 0 ]; then
    for pair in curl:curl wrk:wrk ab:apache2-utils nginx:nginx; do
        command -v "${pair%%:*}" >/dev/null || packages+=("${pair#*:}")
    done
    [ ${#packages[@]} -gt 0 ] || exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
fi
if ! command -v apt-get >/dev/null || ! command -v "${as_root[0]:-apt-get}" >/dev/null; then
    echo "Missing: ${packages[*]} (Debian's names). Please install them with your package manager," >&2
    echo "for there is no apt-get that this script could use here." >&2
    exit 1
fi

echo "Installing with apt-get: ${packages[*]}"

# Only the programs are wanted: a fresh nginx must not begin to serve port 80 of this machine (invoke-rc.d(8)).
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
    trap '"${as_root[@]}" rm -f $policy' EXIT
    "${as_root[@]}" chmod +x $policy
fi

log=$(mktemp)
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 </dev/null
}
apt update || { echo "apt-get update failed; going on with the lists that are here:" >&2; tail -n 3 "$log" >&2; }
if ! apt install --yes --no-install-recommends "${packages[@]}"; then
    cat "$log" >&2
    echo "apt-get could not install: ${packages[*]}" >&2
    exit 1
fi
rm -f "$log"
