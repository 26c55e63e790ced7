"""The markers that tests declare with; registered in every pytest run, so light."""

from __future__ import annotations

#: What `pytest --markers` says, by name.
MARKERS = {
    "llm_server": "llm_server(engine, *, model, args, env, accelerator, timeout, python, image, "
    "devices, nodes, recipe, reference): the server this test needs; tests that ask for the same "
    "one share a launch. "
    "image='NAME:TAG' starts it in a container. devices=2 or '0,1' says how many or which devices "
    "it is given (default: as many as its arguments use). nodes=2 spreads it over two. "
    "recipe=False adds no documented flags for model and accelerator. "
    "reference={'args': ...} says how the server that llm_no_regression compares it with differs.",
    "llm_workload": "llm_workload(name, **fields): what is asked of the server: a preset (chat, "
    "reasoning, summarize, mlperf-r1, shared-prefix, sessions), a .json or .jsonl file of prompts "
    "or arrivals, or a Workload. Its fields: input_tokens, output_tokens, length_spread, "
    "shared_prefix_tokens, prefixes, turns, turn_input_tokens, think_time, concurrency, ramp_up, "
    "rate, final_rate, arrivals, burstiness, trace_speed, requests, duration, warmup_requests, "
    "runs, flush, slo, api, stream, seed, temperature, request_timeout; a parameter named like "
    "one of them sets it.",
    "llm_floor": "llm_floor(metric='value unit', ..., on=None, remote=False): the test fails when "
    "a metric is lower, e.g. llm_floor(output_throughput='1800 tok/s', on='RTX 4090').",
    "llm_ceiling": "llm_ceiling(metric='value unit', ..., on=None, remote=False): the test fails "
    "when a metric is higher, e.g. llm_ceiling(ttft_p95='400 ms').",
    "llm_no_regression": "llm_no_regression(metric='loss to catch', ..., allow=None, subject=()): "
    "compare with an accepted level or a reference, e.g. llm_no_regression(output_throughput='3%')."
    " subject=('engine_version', 'dtype') names facts of the server that are held fixed: where "
    "they differ, the gate is refused.",
}
