#!/usr/bin/env bash
# Installs the checkout in the current directory into an environment of its own, .venv, where
# --llmperf-python and --llmperf-reference-build look for it. CI runs it for both sides.
#
# PERF_INSTALL is the command that installs it, with the environment active. The default is
# SGLang's, whose Python package lies in python/.
set -euo pipefail

"${PYTHON:-python3}" -m venv --clear .venv
export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
${PERF_INSTALL:-pip install --quiet -e python}
