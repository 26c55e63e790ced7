#!/usr/bin/env bash
# A night of a fleet: a session on each kind of accelerator, then one report and one verdict.
# In a real fleet each session is a job on a machine of its kind; see ../schedulers.
set -euo pipefail
cd "$(dirname "$0")"
out=${OUT:-out} store=${STORE:-perf}
kinds=(newer older)

mkdir -p "$out"
reports=()
for at in "${!kinds[@]}"; do
  kind=${kinds[at]}
  rm -f "$out/$kind.json"
  # Red or green, its report is wanted; the verdict is that of all.
  PRETEND=$kind pytest --llmperf-shard "$((at + 1))/${#kinds[@]}" --llmperf-require . \
    --llmperf-store "$store" --llmperf-report "$out/$kind.json" "$@" || true
  if [ -s "$out/$kind.json" ]; then reports+=("$out/$kind.json"); fi
done
status=0
pytest-llmperf merge "${reports[@]}" -o "$out/fleet.json" --require . || status=$?
pytest-llmperf report "$out/fleet.json" -o "$out/fleet.html"
exit "$status"
