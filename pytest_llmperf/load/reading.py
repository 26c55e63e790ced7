from pytest_llmperf.load.read.reading import to_record  # noqa
