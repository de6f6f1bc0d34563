# Included by the Makefile.
.PHONY: bench

# `make bench ARGS="--keys 1000 --json"`; `--help` names all.
ARGS ?=

bench: ## Measure the operator beside a bare client: about 10 min; ARGS=--short: 1 min
	@tests/cluster/build
	cargo bench --locked --bench reconciler -- $(ARGS)
