# Image Factory: run, test, install. `make help` lists everything.
#
# DESTDIR, PREFIX and LIBDIR as packagers expect. One build profile and one target folder for all
# tests, so that nothing is compiled twice.

PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
LIBEXECDIR ?= $(PREFIX)/libexec
SYSCONFDIR ?= /etc
CARGO      ?= cargo
FUZZ_S     ?= 30

PLUGINS = MockOS:mock_os MockCloud:mock_cloud

.PHONY: help
help: ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

.PHONY: deps
deps: ## Installs what building and testing need beside cargo (Debian packages)
	packaging/install-dependencies

.PHONY: build
build: ## Builds host, command line and plugins
	$(CARGO) build --workspace

.PHONY: lint
lint: ## Formatting and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings

.PHONY: test
test: deps lint build ## All tests that CI runs
	IMAGEFACTORY_TEST_PREBUILT=1 $(CARGO) test --workspace --quiet
	tests/fuzz/run.sh $(FUZZ_S)

.PHONY: test-long
test-long: deps lint build ## The full counts: kill tests, ten-minute fuzzing, every template, the peers
	IMAGEFACTORY_TEST_PREBUILT=1 IMAGEFACTORY_TEST_LONG=1 $(CARGO) test --workspace --quiet
	tests/fuzz/run.sh 600
