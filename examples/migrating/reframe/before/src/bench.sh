#!/usr/bin/env bash
# The simulator stands where your server would be started.
set -euo pipefail
python -m pytest_llmperf.testing --port 30000 --ttft-ms 20 --itl-ms 4 &
trap 'kill $!' EXIT

python -m sglang.bench_serving --backend sglang --base-url http://127.0.0.1:30000 \
    --tokenizer "${MODEL:?a directory with a tokenizer}" --dataset-name random-ids \
    --random-input-len 64 --random-output-len 32 --random-range-ratio 1.0 \
    --num-prompts 64 --max-concurrency 8 --disable-tqdm
