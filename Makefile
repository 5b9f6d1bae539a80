# Everything a contributor or CI runs. `make` alone lists the commands.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# One feature set and one profile for everything that is built here: another set would compile the world again.
CARGO_SET := --workspace --features simulated-whatsapp
# Tests mostly wait for the programs they started; more of them than cores may do that side by side.
TEST_THREADS ?= 6
PLUGIN_REFERENCE := src/plugin/REFERENCE.md
CHART := charts/whatsapp-operator

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: programs ## show it: API server + simulated WhatsApp + bridge + operator + gateway, live, until Ctrl-C
	@target/debug/demo

.PHONY: demo-check
demo-check: programs ## the demo without a person: a simulated phone scans; exit status 0 when all went well
	@target/debug/demo --check

.PHONY: run
run: strict-bridge programs ## the same with the real WhatsApp: scan with your own phone
	@target/debug/demo --real

.PHONY: test
test: strict-bridge programs control-plane whatsmeow-client baileys-client gitops-judge api-tools helm helm3 promtool browser ## everything that must pass on a fresh machine
	@echo "==> tests (12 to 15 minutes on two cores; some of them wait for minutes in real time)"
	RUST_TEST_THREADS=$(TEST_THREADS) cargo test --locked $(CARGO_SET)

.PHONY: check
check: lint deny test demo-check ## format, clippy, licences, then `make test` and the demo: what CI runs before `make cluster-test`

.PHONY: lint
lint: ## format and clippy
	cargo fmt --all --check
	cargo clippy --locked $(CARGO_SET) --all-targets -- -D warnings

.PHONY: deny
deny: ## licences, bans and sources of all dependencies (cargo-deny; built once, about 6 minutes, unless it is on the PATH)
	@.ci/cargo-deny --all-features check licenses bans sources

.PHONY: chart-check
chart-check: control-plane helm helm3 promtool ## the chart: lint, what it renders, what a real API server makes of it (part of `make test`)
	cargo test --locked $(CARGO_SET) --test acceptance chart

# For which architectures: amd64, arm64 or both. Another one than the machine's own takes a cross compiler; what is missing is said
# before anything is built. A release is for both, unless one is said: clusters have nodes of both kinds, and a digest stands for all.
images: ARCHITECTURES ?= $(shell source .ci/architectures && own_architecture)
release: ARCHITECTURES ?= amd64 arm64

.PHONY: images
images: ## both images from release programs, without a network: target/images/*.tar (needs buildah; elsewhere: docker build); ARCHITECTURES="amd64 arm64"
	@ARCHITECTURES="$(ARCHITECTURES)" .ci/programs whatsapp-operator whatsapp-bridge
	@.ci/images target/images $(addprefix target/shipped/,$(ARCHITECTURES))

.PHONY: release
release: helm ## everything that a release consists of, for amd64 and arm64, in target/release-files; signed with RELEASE_KEY; nothing is uploaded
	@ARCHITECTURES="$(ARCHITECTURES)" .ci/programs whatsapp-operator kubectl-whatsapp whatsapp-bridge
	@.ci/release target/release-files $(addprefix target/shipped/,$(ARCHITECTURES))

.PHONY: cluster-test
cluster-test: programs helm ## images, chart install and everything that needs pods, on the cluster of KUBECONFIG (LOAD_IMAGES: see the script)
	@tests/cluster/run

.PHONY: bench
bench: control-plane whatsmeow-client ## the benchmarks, release build; prints a table and writes target/bench.json
	cargo build --locked --release $(CARGO_SET)
	target/release/bench

# Schemathesis from PyPI, against a gateway with everything real behind it.
.PHONY: api-check
api-check: programs control-plane api-tools ## the REST API against its own document: at least 5,000 requests, good and bad (about 7 minutes)
	API_CHECK_CASES=$${API_CHECK_CASES:-600} API_CHECK_LEAST=$${API_CHECK_LEAST:-5000} cargo test --locked $(CARGO_SET) --test acceptance api_check -- --nocapture

# As many as were promised: 2,000 messages of 20 sessions and ten kills, and a death at every call that leaves a trace.
.PHONY: message-check
message-check: programs control-plane ## messages in full numbers, and a death of bridge and gateway at every point (a few minutes)
	BIG_MESSAGES=1 DEATH_POINTS=1000 cargo test --locked $(CARGO_SET) --test acceptance -- --nocapture big_messages gateway_storm gateway_deaths

.PHONY: pictures
pictures: programs control-plane browser ## take the README's pictures of the dashboard anew, in a real browser
	cargo test --locked $(CARGO_SET) --test acceptance dashboard_pictures -- --ignored

.PHONY: api-tools
api-tools:
	@tests/api/tools >/dev/null

.PHONY: generate
generate: programs ## write crds/, the roles and the references from the code
	target/debug/whatsapp-operator crd --dir crds
	target/debug/whatsapp-operator crd --dir $(CHART)/files/crds
	target/debug/whatsapp-operator rbac > examples/rbac.yaml
	cp examples/rbac.yaml $(CHART)/files/rbac.yaml
	cp $(CHART)/values.yaml $(CHART)/files/defaults.yaml
	target/debug/whatsapp-operator webhook-configuration --service whatsapp-system/whatsapp-operator-webhook > $(CHART)/files/webhook-configuration.yaml
	.ci/chart-readme > $(CHART)/README.md
	target/debug/whatsapp-operator rbac --table > docs/reference/rbac.md
	target/debug/whatsapp-operator openapi > docs/reference/openapi.json
	target/debug/whatsapp-operator openapi --errors > docs/reference/errors.md
	target/debug/kubectl-whatsapp reference > $(PLUGIN_REFERENCE)

.PHONY: programs
programs:
	@echo "==> programs (cold: 4 to 8 minutes; warm: seconds)"
	cargo build --locked $(CARGO_SET)

# The bridge as a release has it: it checks that the server is WhatsApp. A test proves that it refuses the simulated one.
.PHONY: strict-bridge
strict-bridge:
	@echo "==> the bridge with certificate checks (cold: 4 to 8 minutes; warm: seconds)"
	cargo build --locked --workspace --bin whatsapp-bridge --features bridge
	@mkdir -p target/strict && cp target/debug/whatsapp-bridge target/strict/whatsapp-bridge

.PHONY: helm
helm:
	@tests/chart/helm >/dev/null

# For the test that takes a release from one major version to the next.
.PHONY: helm3
helm3:
	@tests/chart/helm 3 >/dev/null

# Prometheus' own evaluation of the chart's alerts.
.PHONY: promtool
promtool:
	@tests/chart/promtool >/dev/null

.PHONY: control-plane
control-plane:
	@tests/control-plane/binaries >/dev/null

# The tests of the dashboard drive a real browser.
.PHONY: browser
browser:
	@tests/browser/install

# A program of the tests in Go, of the folder and with the words given: target/NAME/NAME, by the name of the goal.
define go-program
	@command -v go >/dev/null || { echo "$@: there is no \`go\` to build it with: install Go 1.26 or newer (https://go.dev/dl)" >&2; exit 1; }
	@echo "==> $(2) (cold: 1 minute; warm: seconds)"
	@mkdir -p target/$@
	cd $(1) && GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 \
	    go build -buildvcs=false -trimpath -o ../../target/$@/$@ .
endef

# The engines by which Argo CD and Flux judge resources.
.PHONY: gitops-judge
gitops-judge:
	$(call go-program,tests/gitops,what Argo CD and Flux judge by)

# A client that nobody here wrote, for tests of the simulated WhatsApp.
.PHONY: whatsmeow-client
whatsmeow-client:
	$(call go-program,tests/whatsmeow-client,the stock whatsmeow client)

# A second one, in JavaScript.
.PHONY: baileys-client
baileys-client:
	@tests/baileys-client/install
