#!/usr/bin/env bash
# The files that the old script left, side by side: three starts of the server before, three after.
set -euo pipefail
cd "$(dirname "$0")"
out=${1:?usage: compare.sh DIRECTORY}
mkdir -p "$out"
for side in before after; do
    pytest-llmperf import recorded/"$side"-*.jsonl --launch-per-file \
        --accelerator simulated -o "$out/$side.json"
done
pytest-llmperf compare "$out/before.json" "$out/after.json"
