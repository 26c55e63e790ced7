#!/usr/bin/env bash
# Installs the checkout in the current directory into an environment of its own, .venv, and prints
# the path of that environment's Python as the last line: what --llmperf-reference-build wants.
#
#   reference.sh [COMMAND...]
#
# COMMAND installs the checkout, with the environment active; without one that is
# `pip install -e python`, as SGLang has it.
set -euo pipefail

if [ $# -eq 0 ]; then
    set -- pip install --quiet -e python
fi
"${PYTHON:-python3}" -m venv --clear .venv
export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
"$@"
echo "$PWD/.venv/bin/python"
