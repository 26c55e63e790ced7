# Two commands matter: `make demo` and `make test`. Each sets up all it needs in .build/.
# `make quick` is the inner loop: no engine, two to three minutes.

PYTHON ?= python3
BUILD := .build
DEV := $(BUILD)/dev
ENGINES := $(BUILD)/engines
COVERAGE := $(CURDIR)/$(BUILD)/coverage
UV := $(BUILD)/uv/bin/uv
UV_VERSION := 0.13.9
TWINE_VERSION := 7.0.0

# Compiled once here, or at every start of an engine where Python may not write bytecode itself.
export UV_COMPILE_BYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help demo test quick coverage mutation faults lint format docs docs-links release-check contracts engines wheel clean

help:
	@echo "make demo    start real SGLang, measure a DeepSeek-R1-shaped model, leave demo-out/report.html"
	@echo "make test    every test, real SGLang included, on the built wheel"
	@echo "make quick   the tests that need no engine, on the checkout"
	@echo "make coverage  which lines and branches the tests reach, by room; make mutation: what they notice"
	@echo "make lint    ruff, mypy --strict, import-linter"
	@echo "make docs    the site, with the reference made of the code, in .build/site; warnings are errors"
	@echo "make docs-links  whether links to other sites still lead somewhere"
	@echo "make release-check  sdist and wheel built, looked into, installed and used; nothing is published"
	@echo "make contracts  the engines' own parsers on the command of every recipe"
	@echo "make engines  real SGLang, vLLM and llama.cpp on this machine's CPU, each in an environment of its own"

demo: $(ENGINES)/.ready
	rm -rf demo-out
	$(ENGINES)/bin/pytest examples/quickstart --llmperf-report demo-out/report.json --llmperf-html demo-out/report.html
	@$(ENGINES)/bin/check-jsonschema --schemafile schemas/report-v1.schema.json demo-out/report.json

# Five at a time where no engine is measured, for most of them wait; then those that start one,
# or a cluster, alone.
test: $(ENGINES)/.ready $(BUILD)/consumers/.ready
	LLMPERF_ENGINES_REQUIRED=1 LLMPERF_CONSUMERS=$(CURDIR)/$(BUILD)/consumers \
		$(ENGINES)/bin/pytest -n 5 --dist worksteal -m "not engine and not cluster" $(ARGS)
	LLMPERF_ENGINES_REQUIRED=1 $(ENGINES)/bin/pytest -m "engine or cluster"

quick: $(DEV)/.ready
	$(DEV)/bin/pytest -n auto -m "not engine and not cluster" $(ARGS)

# Which lines and branches the tests without an engine reach, in all processes that they start; with
# ENGINE=1 those of the engine tests too. In .build/coverage.
coverage: $(DEV)/.ready $(if $(ENGINE),$(ENGINES)/.ready)
	rm -rf $(COVERAGE)
	mkdir -p $(COVERAGE)
	COVERAGE_FILE=$(COVERAGE)/data $(DEV)/bin/coverage run -m pytest -n auto -m "not engine and not cluster" $(ARGS)
	$(if $(ENGINE),COVERAGE_FILE=$(COVERAGE)/data $(ENGINES)/bin/coverage run -m pytest -m engine)
	COVERAGE_FILE=$(COVERAGE)/data $(DEV)/bin/coverage combine --quiet
	COVERAGE_FILE=$(COVERAGE)/data $(DEV)/bin/coverage json --quiet -o $(COVERAGE)/coverage.json
	$(DEV)/bin/python -m benchmarks.covered $(COVERAGE)/coverage.json

# Whether the tests notice changes to what judges and computes; an hour and more, of two cores.
SAMPLE ?= 300
mutation: $(DEV)/.ready $(BUILD)/mutation/.ready
	$(DEV)/bin/python -m benchmarks.mutation --mutmut $(BUILD)/mutation/venv/bin/mutmut --sample $(SAMPLE) $(ARGS)

# Every fault once, 200 kills, and the table of docs/reliability.md that comes of it.
faults: $(DEV)/.ready
	rm -f $(BUILD)/faults.jsonl
	LLMPERF_FAULT_ROWS=$(CURDIR)/$(BUILD)/faults.jsonl $(DEV)/bin/pytest tests/faults
	LLMPERF_FAULT_ROWS=$(CURDIR)/$(BUILD)/faults.jsonl $(DEV)/bin/python -m benchmarks.kills
	$(DEV)/bin/python tests/faults/table.py $(BUILD)/faults.jsonl docs/reliability.md

lint: $(DEV)/.ready
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports
	$(DEV)/bin/check-jsonschema --check-metaschema schemas/*.json
	$(DEV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml examples/ci/github/*.yml
	$(DEV)/bin/check-jsonschema --builtin-schema custom.github-workflows-require-timeout .github/workflows/*.yml examples/ci/github/*.yml
	$(DEV)/bin/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(DEV)/bin/check-jsonschema --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(DEV)/bin/check-jsonschema --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci examples/ci/gitlab/.gitlab-ci.yml
	$(DEV)/bin/check-jsonschema --builtin-schema vendor.buildkite examples/ci/buildkite/pipeline.yml

format: $(DEV)/.ready
	$(DEV)/bin/ruff check --fix .
	$(DEV)/bin/ruff format .

# The site. Every page is read anew, for a warning is told only once; nothing is fetched.
SPHINX = $(BUILD)/docs/bin/sphinx-build --fail-on-warning --keep-going --fresh-env --quiet \
	--doctree-dir $(BUILD)/doctrees
docs: $(BUILD)/docs/.ready
	rm -rf $(BUILD)/site
	$(SPHINX) --builder html docs $(BUILD)/site

# For a job of every week: other sites answer or they do not.
docs-links: $(BUILD)/docs/.ready
	$(SPHINX) --builder linkcheck docs $(BUILD)/links

# What an engine's own parser says to the command of every recipe; not part of the tests, for it
# installs engines. VLLM_PYTHON names an interpreter that has vLLM.
contracts: $(DEV)/.ready $(ENGINES)/.engine $(BUILD)/contracts/.lmdeploy
	LLMPERF_CONTRACT_SGLANG=$(ENGINES)/bin/python LLMPERF_CONTRACT_VLLM=$(VLLM_PYTHON) \
	LLMPERF_CONTRACT_LMDEPLOY=$(BUILD)/contracts/lmdeploy/bin/python $(DEV)/bin/python tests/contracts/parsers.py

# The same tests over SGLang, vLLM and llama.cpp; not part of the tests, for it installs 4 GB more
# and compiles.
engines: $(DEV)/.ready $(ENGINES)/.ready $(BUILD)/vllm/.ready $(BUILD)/llamacpp/.ready
	LLMPERF_ENGINES_REQUIRED=1 LLMPERF_SGLANG_PYTHON=$(abspath $(ENGINES))/bin/python \
	LLMPERF_VLLM_PYTHON=$(abspath $(BUILD))/vllm/bin/python \
	LLMPERF_LLAMACPP_PYTHON=$(abspath $(BUILD))/llamacpp/bin/python \
		$(DEV)/bin/pytest -m engine tests/engines/test_real_others.py $(ARGS)

# A release without releasing; leaves what would be published in dist/. TWINE checks the metadata.
release-check: $(UV) $(BUILD)/twine/.ready
	$(PYTHON) -m tools.release.check --uv $(UV) --twine $(BUILD)/twine/bin/twine --dist dist

clean:
	rm -rf $(BUILD) dist demo-out docs/reference docs/repository

# --- environments ---------------------------------------------------------------------------

$(UV):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(BUILD)/uv
	$(BUILD)/uv/bin/pip install --quiet "uv==$(UV_VERSION)"

# The checkout, editable, with the tools that read it.
$(DEV)/.ready: $(UV) pyproject.toml constraints/dev.txt
	$(UV) venv --quiet --clear --python $(PYTHON) $(DEV)
	$(UV) pip install --quiet --python $(DEV)/bin/python -c constraints/dev.txt -e . --group dev
	touch $@

# The checkout, editable, for the reference is made of it.
$(BUILD)/docs/.ready: $(UV) pyproject.toml constraints/docs.txt
	$(UV) venv --quiet --clear --python $(PYTHON) $(BUILD)/docs
	$(UV) pip install --quiet --python $(BUILD)/docs/bin/python -c constraints/docs.txt -e . --group docs
	touch $@

$(BUILD)/twine/.ready: $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) $(BUILD)/twine
	$(UV) pip install --quiet --python $(BUILD)/twine/bin/python "twine==$(TWINE_VERSION)"
	touch $@

# What the tests need, without the project: mutmut has a changed copy of that.
$(BUILD)/mutation/.ready: $(UV) pyproject.toml constraints/dev.txt
	$(UV) venv --quiet --clear --python $(PYTHON) $(BUILD)/mutation/venv
	$(UV) pip install --quiet --python $(BUILD)/mutation/venv/bin/python -c constraints/dev.txt \
		-r pyproject.toml --group test "mutmut==3.8.1"
	touch $@

# Tools that read what is exported, which need other versions of things than we do.
$(BUILD)/consumers/.ready: $(UV) constraints/consumers.txt
	$(UV) venv --quiet --clear --python $(PYTHON) $(BUILD)/consumers
	$(UV) pip install --quiet --python $(BUILD)/consumers/bin/python -r constraints/consumers.txt
	touch $@

$(BUILD)/contracts/.lmdeploy: $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) $(BUILD)/contracts/lmdeploy
	$(UV) pip install --quiet --no-deps --python $(BUILD)/contracts/lmdeploy/bin/python "lmdeploy==0.18.0"
	touch $@

# By pip, which heeds what the machine says of where torch's builds for CPUs are kept; uv does not.
$(BUILD)/vllm/.ready: $(UV) constraints/vllm.txt
	$(UV) venv --quiet --clear --seed --python $(PYTHON) $(BUILD)/vllm
	$(BUILD)/vllm/bin/python -m pip install --quiet --no-deps -r constraints/vllm.txt
	touch $@

# Compiled here, for the processor at hand; what only tests llama.cpp itself is left out.
$(BUILD)/llamacpp/.ready: $(UV) constraints/llamacpp.txt
	$(UV) venv --quiet --clear --python $(PYTHON) $(BUILD)/llamacpp
	CMAKE_ARGS="-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_USE_PREBUILT_UI=OFF" \
		$(UV) pip install --quiet --no-deps --python $(BUILD)/llamacpp/bin/python -r constraints/llamacpp.txt
	touch $@

# The built wheel, beside a real engine, with what the tests need.
SOURCES := $(shell find pytest_llmperf schemas -type f -not -name '*.pyc') pyproject.toml README.md LICENSE
$(ENGINES)/.ready: $(UV) $(ENGINES)/.engine $(SOURCES)
	rm -rf dist
	$(UV) build --quiet --wheel --out-dir dist
	$(UV) pip install --quiet --python $(ENGINES)/bin/python -c constraints/engines.txt --reinstall-package pytest-llmperf dist/*.whl
	touch $@

$(ENGINES)/.engine: $(UV) pyproject.toml constraints/engines.txt
	$(UV) venv --quiet --clear --python $(PYTHON) $(ENGINES)
	$(UV) pip install --quiet --prerelease=allow --python $(ENGINES)/bin/python -c constraints/engines.txt \
		"sglang==0.5.23" --group test
	touch $@
