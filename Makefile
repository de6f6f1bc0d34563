.DEFAULT_GOAL := help
.PHONY: help testbed

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

testbed: ## Build the control plane that the tests, the demo and the benchmarks run against
	@tests/cluster/build

include benches/bench.mk
