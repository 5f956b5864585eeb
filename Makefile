.DELETE_ON_ERROR:
.PHONY: run test lint fmt bench tools

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

bench:          ## side by side with nginx, in one run; see bench/README.md
	bench/run

tools:
	@deploy/install-test-tools
