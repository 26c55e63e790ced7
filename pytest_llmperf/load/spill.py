from pytest_llmperf.load.read.spill import SpillReader, SpillWriter  # noqa
