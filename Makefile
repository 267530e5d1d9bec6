# The contract's targets. `make help` lists them.
.PHONY: help deps demo-deps build demo test test-all vm-test kube-test attacks reach profiles-report bench install fmt lint deny advisories clean
PREFIX ?= /usr/local
CARGO ?= cargo
REL = target/release

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

deps: ## install what building and testing need (Debian, Ubuntu)
	@integration/scripts/deps.sh

build: demo-deps ## release binaries in target/release
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/integration/scripts/rustc-shipped.sh $(CARGO) build --release --locked --bins

demo: build ## a real containerd runs an allowed image and refuses the others
	$(REL)/demo

demo-deps:
	@integration/scripts/deps.sh --demo

test: deps fmt lint deny ## everything CI runs
	integration/scripts/run-tests.sh

test-all: test ## and the long tier
	BULKHEAD_LONG=1 integration/scripts/run-tests.sh

vm-test: deps ## cgroup v2, systemd and kernels 6.1 and 6.12, in machines of their own (vagrant/README.md)
	$(CARGO) build --locked --workspace --bins
	target/debug/bulkhead-vm test $(KERNELS)

kube-test: deps ## a real Kubernetes node, its programs built once and kept in target/deps/kube (ONLY=)
	integration/kube/build.sh
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked -p bulkhead-kube --test kube -- $(ONLY)

attacks: deps ## what a hostile tenant tries, under runc, gVisor and Bulkhead: the table
	$(CARGO) build --locked --workspace --bins
	BULKHEAD_WRITE_DOCS=1 $(CARGO) test --locked -p bulkhead-attacks --test attacks

reach: deps ## how many functions of the kernel one nginx reaches, under runc, gVisor and Bulkhead
	$(CARGO) build --locked --workspace --bins
	BULKHEAD_WRITE_DOCS=1 $(CARGO) test --locked -p bulkhead-attacks --test reach

profiles-report: deps ## profiles worked out from files, held against recorded runs: target/reports/profiles.json
	$(CARGO) build --locked -p bulkhead-cli
	$(CARGO) test --locked -p bulkhead-integration --test profiles -- --nocapture
	$(CARGO) test --locked -p bulkhead-integration --test corpus -- --nocapture --include-ignored --test-threads=1

bench: build ## numbers beside runc, crun, runsc and the kernel alone (RUNS=, ONLY=)
	@integration/scripts/deps.sh --bench
	$(REL)/bench

install: build ## binaries below DESTDIR and PREFIX
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(REL)/containerd-shim-bulkhead-v2 $(REL)/bulkhead
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system integration/deploy/systemd/bulkhead-watch.service
	sed -i 's#^ExecStart=[^ ]*#ExecStart=$(PREFIX)/bin/bulkhead#' $(DESTDIR)$(PREFIX)/lib/systemd/system/bulkhead-watch.service

fmt: ## unformatted files are an error
	$(CARGO) fmt --all --check
	@# Listed by build scripts, where cargo does not look.
	rustfmt --check --edition 2024 integration/attacks/src/outside/*.rs integration/attacks/inside/src/techniques/*.rs

lint: ## clippy warnings are errors
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

deny: ## licences, sources and forbidden crates
	@integration/scripts/cargo-deny.sh check bans licenses sources

advisories: ## known vulnerabilities; needs the network
	@integration/scripts/cargo-deny.sh check advisories

clean: ## remove what was built
	$(CARGO) clean
