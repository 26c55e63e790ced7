#!/usr/bin/env bash
# What the job runs, in a copy of the working directory that is gone afterwards: entry.sh REPORT STORE
set -euo pipefail

exec pytest "${SUITE:-tests}" -k test_one_device --color no -p no:cacheprovider \
  --llmperf-store "$2" \
  --llmperf-report "$1"
