#!/usr/bin/env bash
# Before: bench_serving against a server that runs, and thresholds with jq.
set -euo pipefail
url=${1:?usage: bench.sh URL OUTPUT}
output=${2:?usage: bench.sh URL OUTPUT}

python -m sglang.bench_serving --backend sglang --base-url "$url" \
    --tokenizer models/tiny-r1-v1 --dataset-name random-ids \
    --random-input-len 64 --random-output-len 32 --random-range-ratio 1.0 \
    --num-prompts 64 --max-concurrency 8 --output-file "$output" --disable-tqdm

result=$(tail -n 1 "$output")
jq -e '.output_throughput >= 600' <<< "$result" > /dev/null || {
    echo "too slow: $(jq .output_throughput <<< "$result") tok/s, 600 wanted"
    exit 1
}
jq -e '.p99_ttft_ms <= 500' <<< "$result" > /dev/null || {
    echo "too late: p99 TTFT $(jq .p99_ttft_ms <<< "$result") ms, 500 allowed"
    exit 1
}
