# Everything the repository can do, one word each. What these need they make first, in .workshop/.

PYTHON ?= python3
export PYTHON

# Helpers that may lie beside the repository: they install further Pythons and start a Docker engine.
MACHINERY_PYTHON_INSTALLER ?= $(wildcard $(CURDIR)/../shared/pythons/up)
MACHINERY_DOCKER_STARTER ?= $(wildcard $(CURDIR)/../shared/docker/up)
export MACHINERY_PYTHON_INSTALLER MACHINERY_DOCKER_STARTER

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-docker test-thorough ci check format bench bench-stores bench-sqs bench-pubsub dist clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## run examples/demo.py: a worker on a SQLite file, tasks and their results
	@scripts/demo

test: ## run the tests on python3 (PYTHON=… for another, ARGS=… for pytest, COVERAGE=1 to measure coverage)
	@scripts/services
	@scripts/test $(ARGS)

test-all: ## run the tests on every supported Python there is, and say which are missing
	@scripts/services
	@scripts/test-all $(ARGS)

test-thorough: ## run the tests marked thorough, which `make test` leaves out: some ten minutes
	@scripts/services
	@JOBS=2 scripts/test -m thorough $(ARGS)

test-docker: ## run the tests marked testcontainers, in containers
	@scripts/test-docker $(ARGS)

ci: ## do what .ci/run does: everything, with no service missing
	@.ci/run

check: ## ruff, ruff format --check, mypy and import-linter
	@scripts/check

format: ## let ruff format and mend what it can
	@scripts/in-env check ruff format
	@scripts/in-env check ruff check --fix-only

bench: ## measure speed beside the peers (ARGS=--quick for a minute instead of an hour, ARGS=--help for more)
	@scripts/in-env bench python -m benchmarks.run $(ARGS)

bench-stores: ## measure the result backends beside each other (ARGS='--rounds 1 redis mongodb')
	@scripts/services
	@scripts/in-env bench python -m benchmarks.stores $(ARGS)

bench-sqs: ## measure SQS beside a bare loop on boto3 and Celery (ARGS='--rounds 1')
	@scripts/services
	@scripts/in-env bench python -m benchmarks.sqs $(ARGS)

bench-pubsub: ## measure Pub/Sub beside a bare loop and Google's own client (ARGS='--rounds 1 --tasks 2000')
	@scripts/services
	@scripts/in-env bench python -m benchmarks.pubsub $(ARGS)

dist: ## build wheels and sdists into dist/, and try the wheels in an empty environment
	@scripts/dist

clean: ## delete what the others have made
	rm -rf .workshop dist
