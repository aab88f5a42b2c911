# Thin fronts over Bazel. Each installs what it needs first, so that every one works on a fresh Debian 12 machine.
.DEFAULT_GOAL := help
.PHONY: help setup build test demo python bench bench-peers fuzz faults load asan tsan lint format clean

BAZEL ?= bazel
TARGETS ?= //...
MODEL ?=
ARGS ?=
SECONDS ?= 60
export BAZEL

# GCC 12's ThreadSanitizer cannot start where the kernel randomises more than 28 bits of an address.
ASLR_BITS := $(shell cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 28)
TSAN_OPTION := $(if $(filter-out 28,$(ASLR_BITS)),--run_under='/usr/bin/setarch -R')

LOAD_UNDER := $(if $(filter-out 28,$(ASLR_BITS)),--run-under='/usr/bin/setarch -R')

# They come from PyPI: without it the tests of the manifests are skipped, by name.
KUBERNETES_TOOLS := deploy/kubernetes/install_tools || echo "Without its tools kubernetes_test will be skipped."

help: ## Shows this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | \
	  while IFS='|' read -r target what; do printf '  make %-11s %s\n' "$$target" "$$what"; done

setup: ## Installs what is missing with apt-get
	@tools/setup

build: setup ## Builds everything
	$(BAZEL) build $(TARGETS)

test: setup ## Runs every test; TARGETS=//room/... runs some
	@$(KUBERNETES_TOOLS)
	@tools/run_tests plain $(TARGETS)

demo: setup ## Shows an update from end to end; MODEL=PATH sends that checkpoint
	$(BAZEL) build //server:weightstream-server //client:weightstream //tests/demo:all
	tests/demo/demo.sh bazel-bin/server/weightstream-server bazel-bin/client/weightstream $(if $(MODEL),"$(MODEL)")

bench: setup ## Measures the rate beside raw TCP and a plain stub; ARGS="--help" says more
	@tools/setup bench
	$(BAZEL) build //server:weightstream-server //client:weightstream //tests/bench:all
	/usr/bin/python3 -m tests.bench.bench --plots=docs $(ARGS)

bench-peers: setup ## Measures the rate beside what users would pick instead; fetches 3 GB the first time
	@tools/setup peers
	@tests/bench/peers/install
	$(BAZEL) build //server:weightstream-server //tests/bench:raw_tcp //tests/bench:library_push
	/usr/bin/python3 -m tests.bench.peers.peers --sweep $(ARGS)

fuzz: setup ## Fuzzes each target for a minute; SECONDS=600 for longer, ARGS="--targets server"
	@tools/setup fuzz
	$(BAZEL) build --config=fuzz //tests/fuzz:fuzzers
	/usr/bin/python3 -m tests.fuzz.fuzz --seconds=$(SECONDS) $(ARGS)

faults: setup ## Breaks real processes on purpose, 500 schedules; ARGS="--help" says more
	$(BAZEL) build //server:weightstream-server //client:weightstream //tests/bench:slow_link //tests/faults:all
	/usr/bin/python3 -m tests.faults.run $(ARGS)

load: setup ## Loads one server with 64 clients for ten minutes; ARGS="--seconds=60", CONFIG=asan or tsan
	$(BAZEL) build $(if $(CONFIG),--config=$(CONFIG)) //server:weightstream-server \
	  //tests/load:load_client //tests/load:libheap_gauge.so
	/usr/bin/python3 -m tests.load.load $(if $(filter tsan,$(CONFIG)),$(LOAD_UNDER)) $(ARGS)

python: setup ## Tests the Python package as installed, with PyTorch, and its example; fetches 3 GB the first time
	@tools/setup python
	$(BAZEL) build //server:weightstream-server //client:weightstream
	client/python/check bazel-bin/server/weightstream-server bazel-bin/client/weightstream

asan: setup ## Runs every test under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(KUBERNETES_TOOLS)
	@tools/run_tests asan --config=asan $(TARGETS)

tsan: setup ## Runs every test under ThreadSanitizer
	@$(KUBERNETES_TOOLS)
	@tools/run_tests tsan --config=tsan $(TSAN_OPTION) $(TARGETS)

lint: ## Checks format, style, types and our own rules
	@tools/setup lint
	@tools/lint

format: ## Rewrites the sources in the one format
	@tools/setup lint
	@tools/format

clean: ## Removes what was built
	$(BAZEL) clean
	rm -rf build .venv
