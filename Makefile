# The commands of this project. On Debian 12 each target installs what it lacks, so that a fresh machine
# needs no preparation; a second run finds everything there and works without the network.
# Options go through ARGS: make test ARGS='-k lab', make bench ARGS='--runs 20 --json'.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test check build deb wheel test-install test-package bench lint format clean
.PHONY: packages test-packages deb-packages archive-packages peer

# Debian's Python: its packaged libraries are built for it, and another python3 may come first on PATH.
PYTHON := /usr/bin/python3
VENV := .venv
LINT := .cache/lint-venv
LINT_TOOLS := ruff==0.17.6 mypy==2.4.1 import-linter==2.16
# Its name says what is installed: another edit of this file installs nothing anew.
LINT_MARK := .installed-$(subst $() ,-,$(subst ==,-,$(LINT_TOOLS)))
PEERS := .cache/peers

# Root installs packages, opens raw sockets and makes namespaces. Under sudo nothing is cached in the tree,
# where it would belong to root.
ifeq ($(shell id -u),0)
SUDO :=
PYTEST := $(VENV)/bin/python -m pytest
else
SUDO := sudo
PYTEST := sudo env PYTHONDONTWRITEBYTECODE=1 HYPOTHESIS_STORAGE_DIRECTORY=/run/portward-hypothesis \
	$(VENV)/bin/python -m pytest -o cache_dir=/run/portward-pytest
endif

RUN_PACKAGES := python3-venv python3-pip python3-setuptools python3-wheel \
	python3-watchdog python3-regex python3-systemd nftables iproute2
TEST_PACKAGES := python3-pytest python3-hypothesis python3-pytest-random-order python3-scapy \
	nmap iptables tcpdump ipset conntrack tcpd ufw python3-zstandard curl openssl \
	dbus-daemon python3-dbus python3-gi gir1.2-glib-2.0 libgnutls-dane0 libidn12 libnsl2 libgsasl18 libsecret-1-0 \
	man-db groff systemd apparmor logrotate python3-shtab bash zsh fish
# What debian/control asks of a build, and what the package's own tests need.
DEB_PACKAGES := dpkg-dev fakeroot debhelper dh-python dh-apparmor bash-completion lintian git \
	python3-hypothesis python3-pytest python3-pytest-random-order python3-regex python3-scapy python3-shtab \
	python3-systemd python3-watchdog man-db nftables iproute2 systemd mmdebstrap systemd-container
# What `make test-package` needs beside that: a machine with Debian's own kernel, and what Debian's archive does.
ARCHIVE_PACKAGES := qemu-system-x86 e2fsprogs piuparts autopkgtest

# $(call install,PACKAGES): apt is asked only where dpkg says that one is missing.
define install
missing=(); for package in $(1); do \
	status=$$(dpkg-query --show --showformat='$${db:Status-Status}' "$$package" 2>/dev/null || true); \
	[ "$$status" = installed ] || missing+=("$$package"); \
done; \
[ $${#missing[@]} -eq 0 ] || { \
	$(SUDO) apt-get --quiet update </dev/null; \
	$(SUDO) env DEBIAN_FRONTEND=noninteractive \
		apt-get --quiet --yes --no-install-recommends install "$${missing[@]}" </dev/null; \
}
endef

help: ## say what can be done here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## start all three processes on this host, observing: nothing is blocked
	$(SUDO) $(VENV)/bin/portward run --observe

# What commands would else work out anew each time. A filter that fails its tests says so, and each command tries it.
BUILT := build/proved.json build/parsed.json

build: packages $(VENV)/bin/portward $(BUILT) ## make .venv/bin/portward

# Two halves at once, told one after the other: what waits for processes, packets and clocks, and what computes.
WAITING := tests/netns tests/faults tests/package
COMPUTING := $(filter-out $(WAITING) tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/)))

test: build test-packages peer ## run the tests; as root, or through sudo, so that no namespace test is skipped
ifeq ($(strip $(ARGS)),)
	$(if $(SUDO),$(SUDO) --validate)
	mkdir -p build
	$(PYTEST) $(COMPUTING) >build/computing.log 2>&1 & computing=$$!; \
	status=0; $(PYTEST) $(WAITING) || status=$$?; \
	wait $$computing || status=$$?; cat build/computing.log; exit $$status
else
	$(PYTEST) $(ARGS)
endif

check: lint test ## everything that must be green before a change goes in

lint: $(LINT)/$(LINT_MARK) ## format and rules (ruff), types (mypy --strict), who may import whom
	$(LINT)/bin/ruff format --check .
	$(LINT)/bin/ruff check .
	$(LINT)/bin/mypy
	$(LINT)/bin/lint-imports

format: $(LINT)/$(LINT_MARK) ## rewrite the code in the project's format
	$(LINT)/bin/ruff format .
	$(LINT)/bin/ruff check --fix .

bench: build test-packages peer ## measure beside PortSentry, Fail2ban, SSHGuard, journalctl and grep
	$(SUDO) env PYTHONDONTWRITEBYTECODE=1 $(VENV)/bin/python -m tests.bench $(ARGS)

# What git has is built, in a folder of its own: nothing that lies about gets into the package, and nothing of the
# build into the tree. Debian's tools come first on PATH, as on a build server.
deb: deb-packages ## build the Debian package into dist/
	rm -rf build/deb && mkdir -p build/deb/portward dist
	if git rev-parse --git-dir >/dev/null 2>&1; then git ls-files -z --cached --others --exclude-standard; \
	else find . -type f -not -path './build/*' -not -path './.*' -not -path './dist/*' -print0; fi | \
		tar --create --null --files-from=- --ignore-failed-read | tar --extract --directory=build/deb/portward
	cd build/deb/portward && env PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		dpkg-buildpackage --unsigned-source --unsigned-changes --build=binary
	cp build/deb/portward_* dist/

wheel: packages $(BUILT) ## build the wheel into dist/, for other distributions
	$(PYTHON) -m pip --quiet --disable-pip-version-check wheel --no-deps --no-build-isolation --wheel-dir dist .

PACKAGE_TESTS := $(SUDO) env PORTWARD_PACKAGE_TESTS=1 PYTHONDONTWRITEBYTECODE=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	$(VENV)/bin/python -m pytest -o cache_dir=/run/portward-pytest tests/package

test-install: deb-packages test-packages build ## build the package, have lintian read it, live with it in a container
	$(PACKAGE_TESTS) -k "lintian or from_installation_to_purge" $(ARGS)

test-package: deb-packages archive-packages test-packages build ## that, and all else there is to prove of it (half an hour)
	$(PACKAGE_TESTS) $(ARGS)

clean: ## remove what the targets above made
	rm -rf $(VENV) .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find correlator tests -name __pycache__ -prune -exec rm -rf {} +

packages:
	@$(call install,$(RUN_PACKAGES))

deb-packages:
	@$(call install,$(DEB_PACKAGES))

archive-packages:
	@$(call install,$(ARCHIVE_PACKAGES))

test-packages:
	@$(call install,$(TEST_PACKAGES))

# The libraries are Debian's, seen through --system-site-packages; nothing comes from elsewhere.
$(VENV)/bin/portward: pyproject.toml | packages
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(VENV)/bin/python -m pip --quiet --disable-pip-version-check install --no-index --no-deps \
		--no-build-isolation --config-settings editable_mode=compat --editable .
	touch $@

# Nobody else may be able to write them, or they are not believed. The code is compiled with them, as a package's is
# when it is installed: who may not write here, or runs it through sudo, would compile it for each command.
build/proved.json: $(wildcard filters/*.toml correlator/*.py correlator/*/*.py correlator/*/*/*.py) | $(VENV)/bin/portward
	mkdir -p build
	$(VENV)/bin/python -m compileall -q correlator
	-umask 022; $(VENV)/bin/python -B -m correlator.config.proofs filters >$@

build/parsed.json: $(wildcard filters/*.toml) correlator/config/parsed.py | $(VENV)/bin/portward
	mkdir -p build
	umask 022; $(VENV)/bin/python -B -m correlator.config.parsed filters >$@

# Tools that only developers need, apart, so that what they depend on never shadows Debian's libraries.
$(LINT)/$(LINT_MARK): | packages
	$(PYTHON) -m venv $(LINT)
	$(LINT)/bin/python -m pip --quiet --disable-pip-version-check install $(LINT_TOOLS)
	touch $@

# The real PortSentry, Fail2ban, SSHGuard, rsyslog, firewalld, Shorewall, Exim and msmtp, unpacked and not installed:
# installing them would start daemons on this host or change it; and a clock to show them. Where no mirror has one, what needs it is skipped and says so.
# $(call fetch,PACKAGE,FOLDER,A FILE OF IT,WHAT IT IS)
define fetch
[ -e $(PEERS)/$(2)/$(3) ] || { mkdir -p $(PEERS) && cd $(PEERS) && rm -f $(1)_*.deb && \
	{ apt-get --quiet download $(1) || \
		{ $(SUDO) apt-get --quiet update && apt-get --quiet download $(1); }; } </dev/null && \
	dpkg --extract $(1)_*.deb $(2); } || \
echo "make: no $(4) to compare with: what needs it is skipped" >&2
endef

peer: | packages
	@$(call fetch,portsentry,portsentry,usr/sbin/portsentry,PortSentry)
	@$(call fetch,fail2ban,fail2ban,usr/bin/fail2ban-regex,Fail2ban)
	@$(call fetch,sshguard,sshguard,usr/libexec/sshguard/sshg-parser,SSHGuard)
	@$(call fetch,libfaketime,faketime,usr/share/doc/libfaketime,clock for Fail2ban)
	@$(call fetch,rsyslog,rsyslog,usr/sbin/rsyslogd,rsyslog)
	@$(call fetch,libestr0,rsyslog,usr/share/doc/libestr0,library for rsyslog)
	@$(call fetch,libfastjson4,rsyslog,usr/share/doc/libfastjson4,library for rsyslog)
	@$(call fetch,firewalld,firewalld,usr/sbin/firewalld,firewalld)
	@$(call fetch,python3-firewall,firewalld,usr/share/doc/python3-firewall,library for firewalld)
	@$(call fetch,python3-nftables,firewalld,usr/share/doc/python3-nftables,library for firewalld)
	@$(call fetch,shorewall-core,shorewall,usr/share/doc/shorewall-core,library for Shorewall)
	@$(call fetch,shorewall,shorewall,usr/share/doc/shorewall,Shorewall)
	@$(call fetch,shorewall6,shorewall,usr/share/doc/shorewall6,Shorewall for IPv6)
	@$(call fetch,exim4-daemon-light,exim,usr/sbin/exim4,Exim)
	@$(call fetch,msmtp,msmtp,usr/bin/msmtp,msmtp)
