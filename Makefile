# xtrace-catch. `make` lists the targets. `sudo make run` works from a fresh clone on Debian and Ubuntu; dnf, zypper, apk
# and pacman get the names in deploy/deps/names.txt, which have not been tried.

INTERFACE ?=
DEVICE ?=
MODE ?=
ARGS ?=
PREFIX ?= /usr/local
PYTHON ?= python3
STATIC_TARGET ?=

VENV := .venv
BIN := $(VENV)/bin
BUILD_PACKAGES := clang gcc libc6-dev linux-libc-dev python3 python3-venv python3-dev
TEST_PACKAGES := bpftool ethtool git iproute2 iptables iputils-ping iperf3 jq libcap2-bin mandoc openssl procps systemd time util-linux
SERVER_PACKAGES := victoria-metrics prometheus nfdump pmacct tshark openssl curl
DEB_PACKAGES := debhelper dpkg-dev lintian
RPM_PACKAGES := rpm
VM_PACKAGES := qemu-system-x86 cpio kmod xz-utils zstd
C_SOURCES := $(wildcard csrc/*.[ch] tests/*/*.c benchmarks/*.c deploy/static/*.c)
PYTHON_SOURCES := xtrace tests benchmarks deploy build_ffi.py setup.py
OPTIONS = $(if $(INTERFACE),-i $(INTERFACE)) $(ARGS)

# Under sudo build as the owner of the tree; only installing and monitoring run as root.
OWNER := $(shell stat -c %U .)
AS_OWNER := $(if $(and $(filter 0,$(shell id -u)),$(filter-out root UNKNOWN,$(OWNER))),runuser -u $(OWNER) -- env HOME=$(shell getent passwd $(OWNER) | cut -d: -f6))

.DEFAULT_GOAL := help
.PHONY: help deps build run run-with-interface interfaces info test test-vm test-rdma lint stub options snapshot picture bench install uninstall clean static wheel deb rpm

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables: INTERFACE=eth0, ARGS=\"-t 1s -c 3\", PREFIX=/usr/local, PYTHON=/usr/bin/python3;"
	@echo "  static, deb, rpm: STATIC_TARGET=aarch64-linux-gnu (for arm64: dist/xtrace-catch-arm64 and its packages);"
	@echo "  docker-*: INTERFACE, DEVICE=mlx5_0, MODE=xdp, BASE=debian:bookworm-slim, PLATFORM=linux/arm64 (docker-build),"
	@echo "    DOCKER_BUILD=\"--network host\""

# $(1): packages, $(2): the target that installs them. Does nothing if all are installed; installs only as root.
need_packages = @deploy/deps/install.sh $(2) $(1)

# Only as root; otherwise the tests that need the servers are skipped. Tests start the servers themselves, so
# the packages' services are disabled, unless the packages were installed before.
define need_servers
	@if [ "$$(id -u)" != 0 ] || { command -v victoria-metrics && command -v promtool && command -v nfcapd && command -v nfacctd && command -v tshark && command -v openssl && command -v curl; } >/dev/null; then exit 0; fi; \
	new="$$(for p in victoria-metrics prometheus nfdump; do dpkg-query -W $$p >/dev/null 2>&1 || printf '%s ' $$p; done)"; \
	$(MAKE) --no-print-directory server-packages || { echo "make: tests that push to real servers will be skipped" >&2; exit 0; }; \
	if command -v systemctl >/dev/null; then systemctl disable --now $$new >/dev/null 2>&1 || true; fi
endef

deps:  ## install the packages needed to build and test (as root)
	$(call need_packages,$(BUILD_PACKAGES) $(TEST_PACKAGES),deps)
	$(need_servers)

.PHONY: build-packages test-packages server-packages vm-packages static-packages deb-packages rpm-packages
server-packages:
	$(call need_packages,$(SERVER_PACKAGES),$@)
build-packages:
	$(call need_packages,$(if $(wildcard $(BIN)/xtrace-catch),,$(BUILD_PACKAGES)),deps)
test-packages: build-packages
	$(call need_packages,$(TEST_PACKAGES),deps)
vm-packages:
	$(call need_packages,$(VM_PACKAGES),$@)
deb-packages:
	$(call need_packages,$(DEB_PACKAGES),$@)
rpm-packages:
	$(call need_packages,$(RPM_PACKAGES),$@)
static-packages:
	$(call need_packages,$(shell STATIC_TARGET=$(STATIC_TARGET) deploy/static/build.sh --packages),$@)

$(BIN)/python: | build-packages
	@$(AS_OWNER) $(PYTHON) -m venv $(VENV)

# One stamp per set of dependencies; sources are used from the tree.
$(VENV)/built: $(BIN)/python pyproject.toml setup.py build_ffi.py $(wildcard csrc/*.[ch])
	@echo "building xtrace-catch in $(VENV)"
	@$(AS_OWNER) $(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@$(AS_OWNER) rm -rf build
	@$(AS_OWNER) touch $@

$(VENV)/dev: $(VENV)/built
	@$(AS_OWNER) $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(AS_OWNER) rm -rf build
	@$(AS_OWNER) touch $@

# Compile as the owner, so that root, who runs the command, writes nothing into the tree.
$(VENV)/compiled: $(VENV)/built $(wildcard xtrace/*.py xtrace/*/*.py xtrace/*/*/*.py)
	@$(AS_OWNER) $(BIN)/python -m compileall -q xtrace
	@$(AS_OWNER) touch $@

# Signals wait until the tool handles them, while Python starts, where env can do that (coreutils 8.31).
WAITING := $(shell env --block-signal=INT true 2>/dev/null && echo 'env --block-signal=INT,TERM,HUP ')

# Works from any directory, also through a link.
xtrace-catch: Makefile
	@printf '#!/bin/sh\nexport PYTHONDONTWRITEBYTECODE=1\nexec $(WAITING)"$$(dirname "$$(readlink -f "$$0")")/$(BIN)/xtrace-catch" "$$@"\n' > $@.new
	@chmod 755 $@.new && { [ "$$(id -u)" -ne 0 ] || chown --reference=Makefile $@.new; } && mv $@.new $@

build: $(VENV)/built $(VENV)/compiled xtrace-catch  ## build ./xtrace-catch

run: build  ## monitor INTERFACE (default: eth0, or else the default route's) with ARGS
	@./xtrace-catch $(OPTIONS)

run-with-interface: build  ## same as run, but INTERFACE is required
	@test -n "$(INTERFACE)" || { echo "make: INTERFACE is not set (make run-with-interface INTERFACE=eth0)" >&2; exit 2; }
	@./xtrace-catch $(OPTIONS)

interfaces: build  ## list the interfaces
	@./xtrace-catch -l

info:  ## show kernel, BTF, JIT, privileges and tool versions
	@echo "kernel      $$(uname -sr) ($$(uname -m)); needed: Linux 5.10 or newer"
	@echo "BTF         $$(test -r /sys/kernel/btf/vmlinux && echo yes || echo no)"
	@echo "BPF JIT     $$(cat /proc/sys/net/core/bpf_jit_enable 2>/dev/null || echo unknown) (1: on)"
	@echo "user        $$(id -un), capabilities $$(awk '/CapEff/{print $$2}' /proc/self/status)"
	@echo "unprivileged BPF disabled: $$(cat /proc/sys/kernel/unprivileged_bpf_disabled 2>/dev/null || echo unknown)"
	@for tool in clang gcc $(PYTHON) bpftool; do printf '%-11s %s\n' $$tool "$$($$tool --version 2>/dev/null | head -1 | grep . || echo 'not installed')"; done
	@printf '%-11s %s\n' xtrace-catch "$$($(BIN)/xtrace-catch --version 2>/dev/null || echo 'not built')"

test: test-packages build $(VENV)/dev  ## run the tests: all tiers as root, otherwise those that need no root
	$(need_servers)
	@PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m pytest $(ARGS)

test-vm: vm-packages build $(VENV)/dev  ## run the kernel and netns tiers in VMs with Linux 5.10, 6.1, 6.12 and the newest; slow
	@PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m tests.vm $(ARGS)

test-rdma: vm-packages build $(VENV)/dev  ## run the RDMA tests between two VMs with Linux 5.10 and the newest; slow
	@PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m tests.vm.pair $(ARGS)

lint: test-packages build $(VENV)/dev  ## run ruff, mypy and clang-format, check import directions
	@$(BIN)/ruff check --no-cache $(PYTHON_SOURCES)
	@$(BIN)/ruff format --no-cache --check --quiet $(PYTHON_SOURCES)
	@PYTHONDONTWRITEBYTECODE=1 $(BIN)/mypy --cache-dir=/dev/null --no-error-summary
	@$(BIN)/clang-format --dry-run --Werror $(C_SOURCES)
	@PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m pytest -q --no-header tests/unit/test_imports.py

stub: build  ## write the shim's type stubs, xtrace/_native.pyi, after a change to csrc/*.h
	@$(AS_OWNER) $(BIN)/python build_ffi.py

options: $(VENV)/built  ## write the documents' tables of options and messages, and the shell completions
	@$(AS_OWNER) $(BIN)/python -m deploy.options

snapshot: $(VENV)/built  ## add new options, fields and metrics to tests/fixtures/public.txt, which tests keep from breaking
	@$(AS_OWNER) $(BIN)/python -m deploy.snapshot

picture: test-packages build $(VENV)/dev  ## record a run and draw it: docs/terminal.svg (as root)
	@PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m tests.netns.picture

bench: test-packages build $(VENV)/dev  ## print the table of measurements, or ARGS=ROW; --save writes RESULTS.md (as root)
	@PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m benchmarks $(ARGS)

static: static-packages  ## build dist/xtrace-catch, one static executable, with licenses and SBOM
	@$(AS_OWNER) env SOURCE_DATE_EPOCH=$(EPOCH) STATIC_TARGET=$(STATIC_TARGET) deploy/static/build.sh

wheel: build-packages  ## build wheel and source distribution into dist/
	@echo "building the wheel"
	@$(AS_OWNER) env SOURCE_DATE_EPOCH=$(EPOCH) PYTHON=$(PYTHON) deploy/packages/wheel.sh
	@ls -l dist/*.whl dist/*.tar.gz

deb rpm: %: %-packages static
	@$(AS_OWNER) env SOURCE_DATE_EPOCH=$(EPOCH) STATIC_TARGET=$(STATIC_TARGET) deploy/packages/$@.sh
	@ls -l dist/*.$@
deb:  ## build a Debian package of the static executable into dist/
rpm:  ## build an RPM package of the static executable into dist/

# Where shells search below the prefixes /usr and /usr/local.
BASH_COMPLETION := share/bash-completion/completions/xtrace-catch
ZSH_COMPLETION := share/zsh/site-functions/_xtrace-catch
FISH_COMPLETION := share/fish/vendor_completions.d/xtrace-catch.fish

install: build  ## install the command into PREFIX/bin with its own environment in PREFIX/lib/xtrace-catch (as root)
	@test -w $(PREFIX) || { echo "make: $(PREFIX) is not writable (run sudo make install)" >&2; exit 1; }
	@$(AS_OWNER) rm -rf $(VENV)/wheel
	@$(AS_OWNER) $(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(VENV)/wheel .
	@$(AS_OWNER) rm -rf build
	@$(PYTHON) -m venv --clear $(PREFIX)/lib/xtrace-catch
	@$(PREFIX)/lib/xtrace-catch/bin/pip install --quiet --disable-pip-version-check $(VENV)/wheel/*.whl
	@install -D -m 644 docs/man/xtrace-catch.8 $(PREFIX)/share/man/man8/xtrace-catch.8
	@install -D -m 644 deploy/completion/xtrace-catch.bash $(PREFIX)/$(BASH_COMPLETION)
	@install -D -m 644 deploy/completion/_xtrace-catch $(PREFIX)/$(ZSH_COMPLETION)
	@install -D -m 644 deploy/completion/xtrace-catch.fish $(PREFIX)/$(FISH_COMPLETION)
	@mkdir -p $(PREFIX)/bin && rm -f $(PREFIX)/bin/xtrace-catch
	@printf '#!/bin/sh\nexec $(WAITING)$(PREFIX)/lib/xtrace-catch/bin/xtrace-catch "$$@"\n' > $(PREFIX)/bin/xtrace-catch
	@chmod 755 $(PREFIX)/bin/xtrace-catch
	@echo "installed $(PREFIX)/bin/xtrace-catch"

uninstall:  ## remove what install installed
	@rm -rf $(PREFIX)/lib/xtrace-catch
	@rm -f $(PREFIX)/bin/xtrace-catch $(PREFIX)/share/man/man8/xtrace-catch.8
	@rm -f $(addprefix $(PREFIX)/,$(BASH_COMPLETION) $(ZSH_COMPLETION) $(FISH_COMPLETION))

clean:  ## remove all build products
	@rm -rf $(VENV) .static .packages build dist *.egg-info xtrace-catch xtrace/_native*.so xtrace/*.o csrc/*.o
	@find xtrace tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Containers

DOCKER ?= docker
DOCKER_BUILD ?=
PLATFORM ?=
BASE ?= debian:bookworm-slim
IMAGE := xtrace-catch
OURS := org.opencontainers.image.title=$(IMAGE)
EPOCH = $(or $(SOURCE_DATE_EPOCH),$(shell $(AS_OWNER) git log -1 --format=%ct 2>/dev/null || stat -c %Y pyproject.toml))
COMPOSE = $(shell $(DOCKER) compose version >/dev/null 2>&1 && echo $(DOCKER) compose || echo docker-compose) -p $(IMAGE)
# The container gets the settings as the tool's environment variables.
SETTINGS = $(if $(INTERFACE),NETWORK_INTERFACE=$(INTERFACE)) $(if $(DEVICE),RDMA_DEVICE=$(DEVICE)) $(if $(MODE),MONITOR_MODE=$(MODE))
CAPABILITIES ?= $(or $(CAPABILITY_BPF),BPF) NET_ADMIN $(or $(CAPABILITY_PERFMON),PERFMON)
NCCL = $(findstring nccl,$(MODE))
LEAST_PRIVILEGE = --network host $(if $(NCCL),--pid host --cap-add SYS_PTRACE --security-opt apparmor=unconfined) --cap-drop ALL $(addprefix --cap-add ,$(CAPABILITIES)) --read-only \
	-v /proc:/host/proc:ro -v /sys:/host/sys:ro
BUILD_ARGS = --build-arg BASE=$(BASE) --build-arg SOURCE_DATE_EPOCH=$(EPOCH) \
	--build-arg REVISION=$(shell $(AS_OWNER) git rev-parse HEAD 2>/dev/null)

# After an engine has refused a container: says what helps if it was for the names of capabilities.
CURE = { code=$$?; made=$$($(DOCKER) create $(addprefix --cap-add ,$(CAPABILITIES)) $(IMAGE):latest 2>&1) && $(DOCKER) rm $$made >/dev/null; \
	case $$made in *"unknown capability"*) echo "make: this engine does not know BPF and PERFMON (use make $@ CAPABILITY_BPF=SYS_ADMIN CAPABILITY_PERFMON=CAP_SYS_ADMIN)" >&2;; esac; \
	exit $$code; }

.PHONY: docker-build docker-archive docker-image docker-run docker-up docker-up-xdp docker-up-rdma docker-up-nccl docker-down
.PHONY: docker-logs docker-shell docker-info docker-test docker-clean docker-network-info test-container

ARCHIVE = $(DOCKER) run --rm --network none --log-driver none $(IMAGE):archive
ALL_PLATFORMS := linux/amd64,linux/arm64

docker-build:  ## build the image xtrace-catch:latest in BASE; the same sources give the same image
	@$(DOCKER) build $(DOCKER_BUILD) $(BUILD_ARGS) --build-arg PLATFORM=$(PLATFORM) -t $(IMAGE):archive .
	@$(ARCHIVE) | $(DOCKER) load

docker-archive:  ## build the image for amd64 and arm64 into one OCI archive, dist/xtrace-catch.oci.tar, to be pushed under one tag
	@$(DOCKER) build $(DOCKER_BUILD) $(BUILD_ARGS) --build-arg PLATFORM=$(or $(PLATFORM),$(ALL_PLATFORMS)) -t $(IMAGE):archive .
	@$(AS_OWNER) mkdir -p dist
	@$(ARCHIVE) >dist/xtrace-catch.oci.tar || { rm -f dist/xtrace-catch.oci.tar; exit 1; }
	@test "$$(id -u)" != 0 || chown --reference=Makefile dist/xtrace-catch.oci.tar
	@ls -l dist/xtrace-catch.oci.tar

docker-image:
	@$(DOCKER) image inspect $(IMAGE):latest >/dev/null 2>&1 || $(MAKE) --no-print-directory docker-build

docker-run: docker-image  ## run the container in the foreground until Ctrl-C
	@$(DOCKER) run --rm $(shell test -t 0 && echo -it) --name $(IMAGE) $(LEAST_PRIVILEGE) $(addprefix -e ,$(SETTINGS)) $(IMAGE):latest $(ARGS) || $(CURE)

docker-up: docker-image  ## run the container in the background (MODE, INTERFACE, DEVICE); builds the image if missing
	@$(SETTINGS) $(COMPOSE) $(if $(NCCL),-f docker-compose.yml -f deploy/docker-compose.nccl.yml) up -d || $(CURE)

docker-up-xdp docker-up-rdma docker-up-nccl: docker-up-%:
	@$(MAKE) --no-print-directory docker-up MODE=$*
docker-up-xdp:  ## docker-up in mode xdp
docker-up-rdma:  ## docker-up in mode rdma
docker-up-nccl:  ## docker-up in mode nccl, with access to the host's processes

docker-down:  ## stop and remove the container
	@$(COMPOSE) --profile victoriametrics down
	@$(DOCKER) rm -f $(IMAGE) >/dev/null 2>&1 || true

docker-logs:  ## follow the container's output
	@$(DOCKER) logs -f $(IMAGE)

docker-shell:  ## start a shell with curl, ping and wget in the container's network
	@$(DOCKER) build --quiet $(DOCKER_BUILD) $(BUILD_ARGS) --target debug -t $(IMAGE):debug . >/dev/null
	@$(DOCKER) run --rm $(shell test -t 0 && echo -it || echo -i) --network host $(IMAGE):debug

docker-info:  ## show engine, kernel, image and container
	@$(DOCKER) version --format 'engine      {{.Server.Version}} ({{.Server.Os}}/{{.Server.Arch}})'
	@$(DOCKER) info --format 'kernel      {{.KernelVersion}}, {{.OperatingSystem}}'
	@$(DOCKER) image inspect --format 'image       {{index .RepoTags 0}}, {{.Size}} bytes, made {{.Created}}' $(IMAGE):latest 2>/dev/null || echo "image       not built"
	@$(DOCKER) container inspect --format 'container   {{.State.Status}} since {{.State.StartedAt}}' $(IMAGE) 2>/dev/null || echo "container   none"

docker-test: docker-build  ## build the image and run its --version
	@$(DOCKER) run --rm $(IMAGE):latest --version

test-container: docker-image $(VENV)/dev  ## test the image: records, ending, privileges (as root)
	@PYTHONDONTWRITEBYTECODE=1 XTRACE_REQUIRE=container $(BIN)/python -m pytest tests/container $(ARGS)

docker-network-info: docker-image  ## list the interfaces visible to the container
	@$(DOCKER) run --rm --network host $(IMAGE):latest -l

docker-clean:  ## remove only this project's container, images and volumes
	@$(COMPOSE) --profile victoriametrics down --volumes
	@$(DOCKER) rm -f $(IMAGE) >/dev/null 2>&1 || true
	@for image in $(IMAGE):latest $(IMAGE):latest-arm64 $(IMAGE):archive $(IMAGE):debug; do $(DOCKER) image rm $$image 2>/dev/null || true; done; \
	untagged=$$($(DOCKER) image ls -q --filter dangling=true --filter label=$(OURS)); test -z "$$untagged" || $(DOCKER) image rm $$untagged
