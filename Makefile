.DELETE_ON_ERROR:
.PHONY: run test lint fmt bench fuzz soak verify soak-bus tools

run:            ## the demo
	cargo run --release

test: tools     ## everything that can be checked; installs what the tests need
	cargo build --workspace --all-targets
	cargo nextest run --workspace

lint:           ## formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt:
	cargo fmt --all

bench:          ## side by side with nginx, HAProxy, Envoy and raw Redis, in one run; see bench/README.md
	bench/run

fuzz:           ## each target for SECONDS (60): codec and tables by libFuzzer, the rest by the gateway's own search; see fuzz/README.md
	fuzz/run $(or $(SECONDS),60)
	TURNPIKE_FUZZ=$(or $(SECONDS),60)s cargo test -p gateway --lib fuzzing:: -- --nocapture --test-threads 1

soak: tools     ## ten instances under load while they are killed, frozen, slowed and cut off; for TURNPIKE_SOAK (300s)
	cargo build --workspace --all-targets
	TURNPIKE_SOAK=$(or $(TURNPIKE_SOAK),300s) cargo nextest run -p e2e --no-capture soak::

verify: tools   ## the bus's contract and faults once, as a table; CASES="--only F5 --backend redis --repeat 10 --seed 7"
	cargo run -q -p verify --example verify -- $(CASES)

soak-bus: tools ## the bus's contract and faults again and again, for TURNPIKE_SOAK (3600s); the table goes to target/verification.md
	TURNPIKE_SOAK=$(or $(TURNPIKE_SOAK),3600s) cargo run -q -p verify --example verify -- --report target/verification.md $(CASES)

tools:
	@deploy/install-test-tools
