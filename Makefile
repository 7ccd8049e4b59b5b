# The only doors into the project. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN_REQUIREMENTS := requirements/service.txt requirements/trainer.txt requirements/demo.txt
export PYTHONUTF8 := 1
# uv leaves bytecode to the first import, and where that may not write (PYTHONDONTWRITEBYTECODE) every process would compile torch anew
export UV_COMPILE_BYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help demo serve stack watch test test-long test-cluster test-kueue test-compose cluster-up cluster-down images lint lint-chart chart format bench bench-gpu bench-cluster requirements schema docs chromium parts cluster-parts clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Environments: hashed requirements into .venv by uv, which pip installs (hashed too). A stamp keeps what is current.
$(BIN)/uv: requirements/uv.txt
	@echo "environment: python"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/run.stamp: $(BIN)/uv $(RUN_REQUIREMENTS) pyproject.toml
	@echo "environment: torch, transformers, fastapi, celery, … (about 6 GB on disk, once)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes $(addprefix -r ,$(RUN_REQUIREMENTS))
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q dayrun service trainer demo k8s
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/docs.stamp: $(BIN)/uv requirements/docs.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/docs.txt
	@touch $@

demo: $(VENV)/run.stamp ## A small model learns to draw on this machine: MINUTES=9.25, PROMPTS='a red apple on a blue background;…'
	@$(BIN)/python -m demo $(if $(MINUTES),--minutes $(MINUTES)) $(if $(PROMPTS),--prompts "$(PROMPTS)") $(DEMO_FLAGS)

serve: $(VENV)/run.stamp ## The service with all its parts on http://127.0.0.1:8765 until Ctrl-C
	@$(BIN)/dayrun serve

stack: $(VENV)/dev.stamp parts ## Postgres, Valkey and S3 on free ports of this machine until Ctrl-C; prints the settings that use them
	@$(BIN)/python -m service.stack

watch: $(VENV)/dev.stamp parts ## The service as `make serve` has it, and a Prometheus beside it with every rule and alert
	@$(BIN)/python -m service.prometheus

test: $(VENV)/dev.stamp chromium parts ## Every test but the long ones, a quarter of an hour on two cores at most
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS)

test-long: $(VENV)/dev.stamp parts ## The long tests: every kill on Postgres too, a rolling restart under load, thousands of odd requests
	@$(BIN)/python -m pytest -m long --numprocesses 2 --dist loadfile $(PYTEST_FLAGS)

test-cluster: $(VENV)/dev.stamp parts ## The tests on a real Kubernetes: the one that KUBECONFIG names, or one booted here (as root, on Debian)
	@[ -n "$$KUBECONFIG" ] || $(MAKE) --no-print-directory cluster-parts
	@[ -n "$$KUBECONFIG$(KEEP)" ] || tests/cluster/boot/with.sh sh -c '[ -f "$$KUBECONFIG" ]' || trap tests/cluster/boot/down.sh EXIT; \
	$(BIN)/python -m pytest -m cluster tests/cluster --numprocesses 2 --dist loadscope $(PYTEST_FLAGS)

test-kueue: $(VENV)/dev.stamp parts cluster-parts ## Runs admitted by a real Kueue, on the test cluster
	@$(BIN)/python -m pytest -m kueue tests/cluster $(PYTEST_FLAGS)

test-compose: $(VENV)/dev.stamp ## docker compose up, a run and its pictures, a restart of the worker, and down again (needs Docker Compose)
	@$(BIN)/python tests/compose/run.py

cluster-up: cluster-parts ## A whole Kubernetes of one node on this machine: NODES=4 simulated ones of eight H200 beside it
	@tests/cluster/boot/up.sh $(NODES)

cluster-down: ## End that Kubernetes; its programs and its images stay for the next one
	@tests/cluster/boot/down.sh

images: cluster-parts ## Build the images of service, trainer and the tests' parts; a running cluster gets them
	@tests/cluster/boot/build.sh
	@tests/cluster/boot/images.sh

lint: $(VENV)/dev.stamp ## ruff, pyright, import rules; migrations, schema, docs and interface against the code and the last release; compose file, chart
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@$(BIN)/hadolint dockerfiles/*.Dockerfile tests/cluster/parts.Dockerfile
	@$(BIN)/python -m service.check_migrations
	@$(BIN)/python -m dayrun.schema --check
	@$(BIN)/python -m service.settings_page
	@$(BIN)/python -m service.access_page --check
	@$(BIN)/python -m service.metrics_page
	@$(BIN)/python -m service.check_api --check
	@tests/compose/lint
	@PYTHONPATH=. $(BIN)/python helm/dashboards.py --check
	@tests/chart/lint

lint-chart: $(VENV)/dev.stamp ## The chart alone: every values file through helm, kubeconform and kube-score; units, rules, page, schema (needs Go)
	@tests/chart/lint

format: $(VENV)/dev.stamp ## Put the code into its form
	@$(BIN)/ruff check --no-cache --fix --quiet .
	@$(BIN)/ruff format --quiet .

bench: $(VENV)/dev.stamp ## Every claim about speed, measured: prints ratios
	@for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

bench-gpu: $(VENV)/dev.stamp ## The small model on one GPU at 512 and 1024 px: micro-batches, share of peak, memory against the estimate
	@$(BIN)/python bench/gpu.py

bench-cluster: $(VENV)/dev.stamp cluster-up ## What a cluster costs us and we cost it, on the test cluster
	@$(BIN)/python bench/on_cluster/scale.py

schema: $(VENV)/dev.stamp ## Write what docs/ has from the code anew: schema, fields, worked estimate, settings, roles, metrics, OpenAPI
	@$(BIN)/python -m dayrun.schema --write
	@$(BIN)/python -m service.settings_page --write
	@$(BIN)/python -m service.access_page --write
	@$(BIN)/python -m service.metrics_page --write
	@$(BIN)/python -m service.check_api --write

docs: $(VENV)/docs.stamp ## The docs as a site in build/site: every link checked, nothing loaded from elsewhere
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "build/site/index.html; to look at it: python3 -m http.server -d build/site"

chart: $(VENV)/dev.stamp ## Write what helm/dayrun has from the code anew: values.schema.json, dashboards, README.md (needs Go)
	@PYTHONPATH=. $(BIN)/python helm/values_schema.py --write
	@PYTHONPATH=. $(BIN)/python helm/dashboards.py --write
	@"$$(tools/go/install helm-docs)/helm-docs" --chart-search-root helm --log-level warning

chromium: # the browser tests drive Debian's Chromium; elsewhere install one and set CHROMIUM
	@command -v $${CHROMIUM:-chromium} >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; }; } || \
	  { echo "tests/browser needs Chromium: install it (Debian: apt-get install chromium) or set CHROMIUM=/path/to/it" >&2; exit 1; }

parts: # the tests start a Postgres, a Redis or Valkey, a PgBouncer and a Prometheus of their own: Debian's programs, none of its services
	@PATH="$$PATH:/usr/sbin:$$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')"; have() { command -v "$$1" >/dev/null; }; \
	  { have postgres && { have valkey-server || have redis-server; } && have pgbouncer && have prometheus && have promtool; } || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && mkdir -p /etc/postgresql-common && \
	    { [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf; } && \
	    { have prometheus || { mkdir -p /etc/systemd/system && ln -sf /dev/null /etc/systemd/system/prometheus.service; }; } && \
	    apt-get install -y -qq --no-install-recommends postgresql redis-server pgbouncer prometheus >/dev/null; } || \
	  { echo "tests need Postgres' server, Redis or Valkey, PgBouncer and Prometheus (Debian: apt-get install postgresql redis-server pgbouncer prometheus)" >&2; \
	    exit 1; }

CLUSTER_PACKAGES := containerd runc containernetworking-plugins conntrack iptables iproute2 buildah skopeo debootstrap openssl gcc libc6-dev
cluster-parts: # what the test cluster takes from Debian; the rest is built from Go modules. Not crun: buildah would prefer it, and it refuses cgroups v1
	@PATH="$$PATH:/usr/sbin"; missing() { for each in containerd runc conntrack iptables ip buildah skopeo debootstrap openssl gcc; do \
	    command -v $$each >/dev/null || return 0; done; [ ! -e /usr/lib/cni/bridge ]; }; \
	  ! missing || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	    apt-get install -y -qq --no-install-recommends $(CLUSTER_PACKAGES) >/dev/null; } || \
	  { echo "the test cluster needs Debian's $(CLUSTER_PACKAGES), and root: install them, or set KUBECONFIG to another cluster" >&2; exit 1; }
	@command -v go >/dev/null || { echo "the test cluster is built from Go modules: install Go 1.26 or later (https://go.dev/dl)" >&2; exit 1; }

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
  --custom-compile-command 'make requirements'
requirements: $(BIN)/uv ## Pin the newest versions anew, with hashes and without index addresses
	@$(BIN)/$(COMPILE) --upgrade requirements/dev.in -o requirements/dev.txt
	@for f in service trainer torch demo data docs; do $(BIN)/$(COMPILE) requirements/$$f.in -c requirements/dev.txt -o requirements/$$f.txt || exit 1; done
	@$(BIN)/$(COMPILE) --upgrade requirements/uv.in -o requirements/uv.txt
	@$(BIN)/$(COMPILE) --upgrade --no-deps requirements/peers/shards.in -o requirements/peers/shards.txt
	@for f in mosaicml-streaming webdataset litdata pictures; do \
	  $(BIN)/$(COMPILE) --upgrade requirements/peers/$$f.in -c requirements/torch.txt -o requirements/peers/$$f.txt || exit 1; done

clean: ## Remove the environment and what was built; runs and data stay
	@rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
