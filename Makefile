# What CI runs. Each target works on a clean clone with a Rust toolchain; `.ci/needs` names, and as root installs, the
# Debian packages that are missing.

CARGO := cargo
TESTS := tests/clients
# One selection of packages and features, so that no target builds again what another one has built.
ALL := --workspace --features countersign-verify/actix
PROGRAMS := target/debug/countersign target/debug/countersign-conformance
SOURCES := Cargo.toml Cargo.lock build.rs $(shell find src verify conformance policies -type f)

.PHONY: demo test test-dates lint logs deploy conformance clients interop fuzz mutants bench soak

demo: target/debug/countersign ## a whole exchange on this machine
	@./target/debug/countersign demo

target/debug/countersign: $(SOURCES)
	@[ -x $@ ] || echo "Building the broker. The first build takes about five minutes on two cores."
	@$(CARGO) build --locked --package countersign
	@touch $@

target/debug/countersign-conformance: $(SOURCES)
	$(CARGO) build --locked $(ALL) --bins --examples
	@touch $(PROGRAMS)

test: ## everything that a Rust toolchain and Debian packages can run
	@.ci/needs cc make pkg-config openssl openssl-dev curl python3 unshare redis-server redis-cli
	# With the examples, so that the programs have the same dependencies as the tests.
	$(CARGO) build --locked $(ALL) --bins --examples
	@touch $(PROGRAMS)
	$(CARGO) test --locked $(ALL)

test-dates: ## the whole suite with the system's clock at today, + 2 days, + 400 days and + 10 years
	@.ci/needs cc make pkg-config openssl openssl-dev curl python3 unshare redis-server redis-cli faketime
	tests/dates

lint: ## formatting, lints, documentation, dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked $(ALL) --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --locked $(ALL) --lib --bins --examples --no-deps --quiet
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check bans licenses sources; \
	else echo "cargo-deny is not installed, so deny.toml was not checked: cargo install cargo-deny"; fi

logs: ## the whole suite at TRACE, and a search for anything that lets somebody in
	tests/logs

deploy: ## alert rules and the systemd unit, by the programs that read them
	@.ci/needs promtool systemd-analyze
	cd deploy/prometheus && promtool check rules alerts.yml && promtool test rules alerts_test.yml
	tests/unit

clients: target/debug/countersign ## unmodified OAuth clients, over TLS
	@.ci/needs node npm python3 openssl openssl-dev curl go java mvn
	$(TESTS)/run

conformance: ## what the documents ask, clause by clause
	@.ci/needs cc pkg-config openssl-dev
	@$(MAKE) --no-print-directory $(PROGRAMS)
	./target/debug/countersign-conformance local target/debug/countersign --results conformance/results

interop: ## a SPIRE server, built once (ten minutes), for `make clients` to try as well
	@.ci/needs go
	tests/clients/build-spire target/interop

fuzz: ## each reader of what strangers write, for a minute
	fuzz/run 60

mutants: ## every check, taken out in turn: does a test fail? Takes an hour or two; SHARD=1/20 takes a part
	tests/mutants $(SHARD)

bench: ## the broker against what one core can do at all
	@.ci/needs taskset redis-server
	$(CARGO) build --locked --release --package countersign --package countersign-loadtest
	sync # what the build wrote is not to be measured
	./target/release/countersign-loadtest hostile loadtest/results
	./target/release/countersign-loadtest shared loadtest/results
	./target/release/countersign-loadtest lists loadtest/results
	./target/release/countersign-loadtest failover loadtest/results
	./target/release/countersign-loadtest run loadtest/results

soak: ## ten million exchanges, and what becomes of memory
	@.ci/needs taskset
	$(CARGO) build --locked --release --package countersign --package countersign-loadtest
	./target/release/countersign-loadtest soak loadtest/results
