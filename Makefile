# Image Factory: run, test, install. `make help` lists everything.
#
# DESTDIR, PREFIX and LIBDIR as packagers expect. One build profile and one target folder for all
# tests, so that nothing is compiled twice.

PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
LIBEXECDIR ?= $(PREFIX)/libexec
INCLUDEDIR ?= $(PREFIX)/include
SYSCONFDIR ?= /etc
CARGO      ?= cargo
INSTALL    ?= install
FUZZ_S     ?= 30
VERSION     = 2.0.0

# id of the manifest:name of the crate
PLUGINS = MockOS:mock_os MockCloud:mock_cloud DebianOS:debian_os LocalCloud:local_cloud OVACloud:ova_cloud \
    DockerCloud:docker_cloud VSphereCloud:vsphere_cloud OpenStackCloud:openstack_cloud \
    EC2Cloud:ec2_cloud

.PHONY: help
help: ## What can be made
	@grep -hE '^[a-z.-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

.PHONY: deps
deps: ## Installs what building and testing need beside cargo (Debian packages)
	packaging/install-dependencies

.PHONY: demo
demo: deps ## Builds a Debian image from a template, boots it, and shows where it is
	$(CARGO) build --workspace
	$(MAKE) --no-print-directory plugins.d BUILT=target/debug
	packaging/demo target/debug

.PHONY: build
build: ## Builds host, command line and plugins
	$(CARGO) build --workspace

# A workspace of its own, and the only thing here that needs libvirt-dev.
.PHONY: libvirt
libvirt: ## Builds imagefactory-libvirt, which plugins ask for libvirt (needs libvirt-dev)
	$(CARGO) build --quiet --release --manifest-path plugins/libvirt/Cargo.toml --target-dir target/libvirt

.PHONY: release
release: ## The same, as it is installed
	$(CARGO) build --workspace --release

.PHONY: plugins.d
plugins.d: ## Puts manifests and built plugins side by side, as the daemon reads them
	@mkdir -p $(BUILT)/plugins.d
	@for plugin in $(PLUGINS); do \
	    id=$${plugin%%:*}; crate=$${plugin##*:}; \
	    $(INSTALL) -m 0644 plugin-manifests/$$id.json $(BUILT)/plugins.d/$$id.json && \
	    $(INSTALL) -m 0755 $(BUILT)/libimagefactory_plugin_$$crate.so $(BUILT)/plugins.d/$$id.so || exit 1; \
	done
BUILT ?= target/release

.PHONY: lint
lint: ## Formatting and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(CARGO) fmt --check --manifest-path plugins/libvirt/Cargo.toml
	$(CARGO) clippy --manifest-path plugins/libvirt/Cargo.toml --target-dir target/libvirt --all-targets --quiet -- -D warnings

# With all targets, so that the test build has the same features and nothing is compiled twice.
.PHONY: test-build
test-build:
	$(CARGO) build --workspace --all-targets --quiet

.PHONY: clouds
clouds: deps ## The real cloud servers that the tests push to (Debian packages)
	tests/clouds/install-servers
	tests/clouds/prepare-openstack >/dev/null
	tests/clouds/make-venv >/dev/null

.PHONY: clients
clients: deps ## The Python environment of the tests' schemathesis, in target/clients
	tests/clients/make-venv >/dev/null

.PHONY: test
test: deps lint test-build clients clouds ## All tests that CI runs
	IMAGEFACTORY_TEST_PREBUILT=1 tests/run.sh
	tests/fuzz/run.sh $(FUZZ_S)

.PHONY: test-long
test-long: deps lint test-build clients clouds ## The full counts: kill tests, ten-minute fuzzing
	IMAGEFACTORY_TEST_PREBUILT=1 IMAGEFACTORY_TEST_LONG=1 tests/run.sh
	$(MAKE) --no-print-directory plugins.d BUILT=target/debug
	tests/examples.sh target/debug
	tests/fuzz/run.sh 600

.PHONY: install
install: ## Installs a release build below DESTDIR and PREFIX
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(LIBEXECDIR)/imagefactory \
	    $(DESTDIR)$(LIBDIR)/imagefactory/plugins.d $(DESTDIR)$(LIBDIR)/pkgconfig \
	    $(DESTDIR)$(INCLUDEDIR)/imagefactory $(DESTDIR)$(SYSCONFDIR)/imagefactory
	$(INSTALL) -m 0755 $(BUILT)/imagefactory $(DESTDIR)$(PREFIX)/bin/
	$(INSTALL) -m 0755 $(BUILT)/imagefactoryd $(DESTDIR)$(PREFIX)/sbin/
	$(INSTALL) -m 0755 $(BUILT)/imagefactory-stage-runner $(DESTDIR)$(LIBEXECDIR)/imagefactory/
	if [ -x target/libvirt/release/imagefactory-libvirt ]; then \
	    $(INSTALL) -m 0755 target/libvirt/release/imagefactory-libvirt $(DESTDIR)$(LIBEXECDIR)/imagefactory/; \
	fi
	for plugin in $(PLUGINS); do \
	    id=$${plugin%%:*}; crate=$${plugin##*:}; \
	    $(INSTALL) -m 0644 plugin-manifests/$$id.json $(DESTDIR)$(LIBDIR)/imagefactory/plugins.d/ && \
	    $(INSTALL) -m 0755 $(BUILT)/libimagefactory_plugin_$$crate.so \
	        $(DESTDIR)$(LIBDIR)/imagefactory/plugins.d/$$id.so || exit 1; \
	done
	$(INSTALL) -m 0644 plugin-sdk/include/imagefactory/*.h $(DESTDIR)$(INCLUDEDIR)/imagefactory/
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|; s|@VERSION@|$(VERSION)|' \
	    plugin-sdk/imagefactory-plugin.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/imagefactory-plugin.pc
	packaging/man/install $(BUILT)/imagefactory $(DESTDIR)$(PREFIX)/share/man
	packaging/completion/install $(BUILT)/imagefactory $(DESTDIR)$(PREFIX)/share
