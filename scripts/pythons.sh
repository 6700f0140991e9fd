#!/usr/bin/env bash
# Python interpreters and virtual environments, for the Makefile.
#
#   scripts/pythons.sh find VERSION        the path of a Python of this version that really runs (3.11, 3.12, ...)
#   scripts/pythons.sh others              which supported versions are at hand, besides that of .venv
#   scripts/pythons.sh each MAKE           runs `MAKE test-on-VERSION` for all of these at once
#   scripts/pythons.sh venv DIR [VERSION]  makes a virtual environment; without VERSION, of $PYTHON or the first that will do
set -euo pipefail

SUPPORTED=(3.13 3.12 3.11)

# runs PYTHON CONDITION: that it is on the path means little, pyenv puts a shim there for each Python anyone ever installed.
runs() {
    "$1" -c "import sys; v = '%d.%d' % sys.version_info[:2]; sys.exit(not ($2))" >/dev/null 2>&1
}

find_version() {
    local candidate
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/"python$1"; do
        if runs "$candidate" "v == '$1'"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

find_any() {
    local version
    if runs "${PYTHON:-python3}" "sys.version_info >= (3, 11)"; then
        "${PYTHON:-python3}" -c 'import sys; print(sys.executable)'
        return
    fi
    for version in "${SUPPORTED[@]}"; do
        find_version "$version" && return
    done
    echo "No Python of version 3.11 or later found: install one, or name it: make PYTHON=/path/to/python3" >&2
    return 1
}

others() {
    local version
    for version in "${SUPPORTED[@]}"; do
        if ! runs .venv/bin/python "v == '$version'" && find_version "$version" >/dev/null; then
            echo "$version"
        fi
    done
}

# At once, since much of it is waiting; what each says is shown whole, one after the other.
each() {
    local version status=0
    local -A runs_of=()
    set -m  # else the shell has them ignore Ctrl-C, which some tests are about
    trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
    for version in $(others); do
        "$1" --no-print-directory "test-on-$version" >".test-$version.log" 2>&1 &
        runs_of[$version]=$!
    done
    for version in "${!runs_of[@]}"; do
        wait "${runs_of[$version]}" || status=$?
        cat ".test-$version.log"
        rm ".test-$version.log"
    done
    return $status
}

make_venv() {
    local directory=$1 python
    if [ $# -gt 1 ]; then
        python=$(find_version "$2") || { echo "No Python $2 that runs was found." >&2; return 1; }
    else
        python=$(find_any)
    fi
    echo "Making $directory with $python"
    # Debian ships Python without ensurepip, which venv needs; its package has the version in its name.
    if ! "$python" -c 'import ensurepip' 2>/dev/null && ! "$python" -c 'import virtualenv' 2>/dev/null; then
        echo "$python cannot make virtual environments yet (no ensurepip)"
        "$(dirname "$0")/install-system.sh" "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv" ||
            "$(dirname "$0")/install-system.sh" python3-venv
    fi
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv --clear "$directory"
    else
        "$python" -m virtualenv --quiet --clear "$directory"
    fi
}

case "${1:-}" in
    find) find_version "$2" ;;
    others) others ;;
    each) each "$2" ;;
    venv) make_venv "${@:2}" ;;
    *) sed -n '4,7s/^# *//p' "$0" >&2; exit 2 ;;
esac
