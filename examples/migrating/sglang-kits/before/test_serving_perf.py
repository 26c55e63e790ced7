"""Before: a perf test as SGLang's own suites have them, with the kit of `sglang.test`.

The simulator stands where `popen_launch_server(MODEL, ...)` would start SGLang.
"""

import subprocess
import sys
import unittest

from sglang.benchmark.serving import run_benchmark
from sglang.test.kits.perf_bench_kit import at_least, at_most, check_perf, reported
from sglang.test.test_utils import get_benchmark_args, is_in_ci

URL = "http://127.0.0.1:30000"
TOKENIZER = "models/tiny-r1-v1"  # made by: pytest-llmperf models models


class TestServing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        command = [sys.executable, "-m", "pytest_llmperf.testing", "--port", "30000"]
        cls.process = subprocess.Popen([*command, "--ttft-ms", "20", "--itl-ms", "4"])

    @classmethod
    def tearDownClass(cls):
        cls.process.kill()
        cls.process.wait()

    def bench(self):
        arguments = get_benchmark_args(
            base_url=URL,
            backend="sglang",
            dataset_name="random-ids",
            tokenizer=TOKENIZER,
            num_prompts=64,
            random_input_len=64,
            random_output_len=32,
            max_concurrency=8,
            device="cpu",
        )
        arguments.random_range_ratio = 1.0
        arguments.ready_check_timeout_sec = 60
        return run_benchmark(arguments)

    def test_with_the_kit(self):
        res = self.bench()
        check_perf(
            self,
            at_least("output_throughput", res["output_throughput"], 1200, amd=1000, unit="tok/s"),
            at_most("median_ttft_ms", res["median_ttft_ms"], 100, amd=120),
            reported("median_itl_ms", res["median_itl_ms"], unit="ms"),
        )

    def test_with_a_bare_floor(self):
        res = self.bench()
        if is_in_ci():
            self.assertGreater(res["output_throughput"], 1200)


if __name__ == "__main__":
    unittest.main()
