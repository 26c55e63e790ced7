from counting_engine import Counting


def pytest_llmperf_engines():
    return {"counting": Counting()}
