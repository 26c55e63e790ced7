"""Before: a ReFrame test. bench.sh starts a server, sends a load, and prints two figures."""

import reframe as rfm
import reframe.utility.sanity as sn


@rfm.simple_test
class ServingPerf(rfm.RunOnlyRegressionTest):
    valid_systems = ["*"]
    valid_prog_environs = ["*"]
    executable = "./bench.sh"
    reference = {
        "cluster:h200": {
            "output_throughput": (1300, -0.05, None, "tok/s"),
            "median_ttft": (50, None, 0.20, "ms"),
        },
        "cluster:mi300x": {
            "output_throughput": (1100, -0.05, None, "tok/s"),
            "median_ttft": (60, None, 0.20, "ms"),
        },
    }

    @sanity_function
    def answered(self):
        return sn.assert_found(r"Successful requests: +64", self.stdout)

    @performance_function("tok/s")
    def output_throughput(self):
        return sn.extractsingle(r"Output token throughput .*: +(\S+)", self.stdout, 1, float)

    @performance_function("ms")
    def median_ttft(self):
        return sn.extractsingle(r"Median TTFT .*: +(\S+)", self.stdout, 1, float)
