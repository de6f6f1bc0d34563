# Included by the Makefile.
.PHONY: bench bench-reconciler bench-endpoint

# `make bench-reconciler ARGS="--keys 1000 --json"`; `--help` names all. --short and --json are known to both.
ARGS ?=

bench: bench-reconciler bench-endpoint ## Measure everything: about 15 min; ARGS=--short: 2 min

bench-reconciler: ## Measure the operator beside a bare client
	@tests/cluster/build
	cargo bench --locked --bench reconciler -- $(ARGS)

bench-endpoint: ## Measure the KMS endpoint beside a bare HTTP server and moto
	@tests/clients/build >/dev/null || echo 'moto is not there to compare with'
	cargo bench --locked --bench endpoint -- $(ARGS)
