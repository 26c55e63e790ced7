#!/usr/bin/env bash
# One session on a node of a Ray cluster, and its verdict as this script's exit status.
#
#   RAY_API_SERVER_ADDRESS=http://head:8265 REPORTS=/shared/reports ./submit.sh
#
# REPORTS is a directory that the cluster and this machine both see. `ray job submit` ends with 1 for
# whatever the session ended with, so the verdict is read from the report.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${REPORTS:?a directory that the cluster and this machine both see}"

id="perf-$(date -u +%Y%m%dT%H%M%SZ)-$$"
report="$REPORTS/$id.json"
submitted=0
# The entry point runs where --entrypoint-num-gpus finds a device, and gets it for itself.
ray job submit \
  --submission-id "$id" \
  --working-dir . \
  --runtime-env-json '{"pip": ["pytest-llmperf[sql]"]}' \
  --entrypoint-num-gpus 1 \
  --entrypoint-num-cpus 16 \
  -- bash ray-jobs/entry.sh "$report" "${STORE:-$REPORTS/perf}" || submitted=$?

if [ ! -s "$report" ]; then
  echo "the session left no report: ray job logs $id" >&2
  exit $((submitted ? submitted : 1))
fi
exec pytest-llmperf merge "$report" -o "$REPORTS/$id-verdict.json"
