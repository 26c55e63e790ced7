"""A ceiling that one commit of a small repository breaks; see make_repository.sh.

The "engine" is the simulator and ``server.args`` is its source code: what a commit changes there
is what it makes slower.
"""

from pathlib import Path

import pytest

ARGS = Path(__file__).with_name("server.args").read_text(encoding="utf-8")

pytestmark = [
    pytest.mark.llm_server("sim", model="toy", args=ARGS),
    pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=16, concurrency=4, requests=16),
]


@pytest.mark.llm_ceiling(tpot_mean="16 ms")
def test_speed(llm_perf):
    llm_perf.run()
