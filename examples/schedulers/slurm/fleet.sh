#!/bin/bash
# One session on each kind of accelerator, then one verdict: the exit status of the last job.
#
#   ./fleet.sh h100 mi300x          # names of partitions
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kinds=("$@")
if [ "${#kinds[@]}" = 0 ]; then
  echo "usage: fleet.sh PARTITION..." >&2
  exit 2
fi
mkdir -p out
jobs=() reports=()
for at in "${!kinds[@]}"; do
  kind=${kinds[at]}
  rm -f "out/$kind.json" # of last night: a job that never starts must not be taken for it
  jobs+=("$(NAME=$kind SHARD=$((at + 1))/${#kinds[@]} \
    sbatch --parsable --partition="$kind" --export=ALL "$here/one-node.sbatch" | cut -d ';' -f 1)")
  reports+=("out/$kind.json")
done
after=$(IFS=:; echo "${jobs[*]}")
REPORTS="${reports[*]}" exec sbatch --wait --dependency="afterany:$after" --export=ALL \
  "$here/verdict.sbatch"
