#!/usr/bin/env bash
# A night of a fleet: a session on each kind of accelerator, then one report and one verdict.
# In a real fleet each session is a job on a machine of its kind; see ../schedulers.
set -euo pipefail
cd "$(dirname "$0")"
out=${OUT:-out} store=${STORE:-perf}
kinds=(newer older)

mkdir -p "$out"
rm -f "$out"/fleet.{json,html}
reports=()
for at in "${!kinds[@]}"; do
  kind=${kinds[at]}
  rm -f "$out/$kind.json"
  # Red or green, its report is wanted; the verdict is that of all.
  PRETEND=$kind pytest --llmperf-shard "$((at + 1))/${#kinds[@]}" --llmperf-require . \
    --llmperf-store "$store" --llmperf-report "$out/$kind.json" "$@" || true
  if [ -s "$out/$kind.json" ]; then reports+=("$out/$kind.json"); fi
done
if [ "${#reports[@]}" = 0 ]; then
  echo "no session left a report, so there is no verdict" >&2
  exit 11
fi
status=0
pytest-llmperf merge "${reports[@]}" -o "$out/fleet.json" --require . || status=$?
# Reports that cannot be merged leave no file, and then there is no page to make of it.
if [ -s "$out/fleet.json" ]; then
  pytest-llmperf report "$out/fleet.json" -o "$out/fleet.html" || status=$((status ? status : $?))
fi
exit "$status"
