# `make` lists the targets. Rust and Go are needed, and Python 3.11 for the KMS clients.

.PHONY: manifests chart
.DEFAULT_GOAL := help
.PHONY: help testbed node clients prometheus alerts build image crds fmt lint test demo clean fuzz

# `make demo ONCE=1` ends by itself.
ONCE ?=
# `make e2e E2E="leader upgrade"` goes through these topics only.
E2E ?=
# `make fuzz FUZZ_SECONDS=600`; how long each target runs.
export FUZZ_SECONDS ?= 10

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

testbed: ## Build the control plane that the tests and the demo run against, once
	@tests/cluster/build

node: ## Build what a single-node Kubernetes without Docker needs, once (about 15 min)
	@tests/node/build

clients: ## Build the KMS clients that the tests use, once
	@tests/clients/build

prometheus: ## Build promtool, which the tests of the alerts use, once
	@tests/alerts/build

alerts: prometheus ## Test the alerts, the dashboard and that what they name is exported
	cargo test --locked --test alerts

build: ## Build the operator and the kubectl plugin: target/release/cmk-operator and kubectl-cmk
	cargo build --locked --release

image: ## Build the operator's image without Docker, and say how large it is
	@image/build

crds: ## Generate crds/ again after a change to the types
	@mkdir -p crds
	@cargo run --locked --quiet -- crds > crds/.new || { rm -f crds/.new; exit 1; }
	@mv crds/.new crds/cmk-operator.yaml
	@echo 'crds/cmk-operator.yaml is what `cmk-operator crds` prints'

manifests: ## Write again what is made from the code and from the chart: files/ and README of the chart, deploy/
	@tests/chart/build >/dev/null
	@CMK_CHART_WRITE=1 cargo test --locked --quiet --test chart shipped
	@git status --short charts deploy

chart: ## Check the Helm chart with Helm 4 and 3 on a real API server
	@echo '== Helm 4 and 3 (about 4 min the first time, a second after that)'
	@tests/chart/build >/dev/null
	@tests/cluster/build >/dev/null
	cargo test --locked --test chart

fmt: ## Format the code
	cargo fmt

lint: ## Check format, clippy and, where cargo-deny is installed, licences and dependencies
	@echo '== format'
	cargo fmt --check
	@echo '== clippy (about 2 min the first time, seconds after that)'
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test e2e -- -D warnings
	@echo '== licences and dependencies'
	@if command -v cargo-deny >/dev/null; then \
		cargo deny check licenses bans sources; \
	else \
		echo 'skipped: cargo-deny is not installed (cargo install --locked cargo-deny)'; \
	fi

test: lint ## Run everything: format, clippy, and all tests on a real control plane
	@echo '== control plane (about 8 min the first time, seconds after that)'
	@tests/cluster/build
	@echo '== KMS clients (about 4 min the first time, a second after that)'
	@tests/clients/build
	@echo '== kstatus and the Lua of Argo CD (about 1 min the first time, a second after that)'
	@tests/gitops/build
	@echo '== Helm 4 and 3 (about 4 min the first time, a second after that)'
	@tests/chart/build
	@echo '== promtool (about 4 min the first time, a second after that)'
	@tests/alerts/build
	@echo '== tests: unit, vectors, properties, rules on the control plane, KMS clients, demo, doctests'
	@echo '   (about 2 min to build the first time; a few minutes to run)'
	cargo test --locked --no-fail-fast
	@echo '== all tests passed'

demo: ## Show the operator on a real Kubernetes API server; ONCE=1 ends by itself
	@echo '== control plane (about 8 min the first time, seconds after that)'
	@tests/cluster/build
	@echo '== KMS clients (about 4 min the first time, a second after that)'
	@tests/clients/build
	@echo '== operator, debug build (about 2 min the first time, seconds after that)'
	@cargo test --locked --no-run --test demo
	@cargo test --locked --quiet --test demo -- $(if $(ONCE),,--stay)

.PHONY: e2e
e2e: ## Install the chart on a real node and use it, as root on Debian; or on the cluster of CMK_E2E_KUBECONFIG
	@echo '== the end-to-end tests, debug build (about 2 min the first time, seconds after that)'
	@cargo test --locked --no-run --test e2e
	@# The image without link-time optimisation: some minutes less, and the same program.
	@CARGO_PROFILE_RELEASE_LTO=$${CARGO_PROFILE_RELEASE_LTO-off} \
		CARGO_PROFILE_RELEASE_CODEGEN_UNITS=$${CARGO_PROFILE_RELEASE_CODEGEN_UNITS-16} \
		cargo test --locked --quiet --test e2e -- $(E2E)

fuzz: ## Fuzz the parsers for FUZZ_SECONDS each
	@fuzz/run

clean: ## Remove what cargo built; the control plane stays in its cache
	cargo clean

include benches/bench.mk
