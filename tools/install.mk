#  What `make install`, `make uninstall` and `make deb` do. A program finds the rest from where it stands
#  (tools/place.c), so any PREFIX works, and any DESTDIR.

DESTDIR ?=
PREFIX ?= /usr
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
INSTALL ?= install

BINDIR = $(PREFIX)/bin
LIBEXECDIR = $(PREFIX)/libexec/busbar
DATADIR = $(PREFIX)/share/busbar
DOCDIR = $(PREFIX)/share/doc/busbar
MANDIR = $(PREFIX)/share/man
COMPLETIONDIR = $(PREFIX)/share/bash-completion/completions
UNITDIR = $(PREFIX)/lib/systemd/system

#  Below DATADIR as in the tree.
DATA := $(wildcard db/migrations/*.sql proto/python/pyproject.toml proto/python/busbar/*.py) \
    $(wildcard tools/examples/*.py tools/conform/*.py) tools/demo.py \
    $(shell find edge/dashboard/dist -type f 2>/dev/null)
DOCS := README.md CHANGELOG.md proto/PROTOCOL.md proto/wire.def proto/error.def
MANUALS := $(wildcard tools/man/*.[1-8])

.PHONY: install uninstall deb

install: all
	@for program in $(PROGRAMS); do \
	    case $$program in */busbar) to=$(BINDIR) ;; *) to=$(LIBEXECDIR) ;; esac; \
	    $(INSTALL) -D -m 755 $$program "$(DESTDIR)$$to/$${program##*/}" || exit 1; done
	@for file in $(DATA); do $(INSTALL) -D -m 644 $$file "$(DESTDIR)$(DATADIR)/$$file" || exit 1; done
	@$(INSTALL) -d "$(DESTDIR)$(DOCDIR)" && $(INSTALL) -m 644 $(DOCS) tools/systemd/own-uids.conf \
	    "$(DESTDIR)$(DOCDIR)"
	@for page in $(MANUALS); do \
	    $(INSTALL) -D -m 644 $$page "$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}" || exit 1; done
	@$(INSTALL) -D -m 644 tools/completion/busbar.bash "$(DESTDIR)$(COMPLETIONDIR)/busbar"
	@$(INSTALL) -d "$(DESTDIR)$(UNITDIR)"
	@sed 's|@bindir@|$(BINDIR)|' tools/systemd/busbar.service >"$(DESTDIR)$(UNITDIR)/busbar.service"
	@chmod 644 "$(DESTDIR)$(UNITDIR)/busbar.service"
#  Settings that are there stay as they are.
	@[ -e "$(DESTDIR)$(SYSCONFDIR)/busbar/busbar.env" ] || \
	    $(INSTALL) -D -m 640 tools/deb/busbar.env "$(DESTDIR)$(SYSCONFDIR)/busbar/busbar.env"

#  Settings and data stay.
uninstall:
	rm -rf "$(DESTDIR)$(LIBEXECDIR)" "$(DESTDIR)$(DATADIR)" "$(DESTDIR)$(DOCDIR)"
	rm -f "$(DESTDIR)$(BINDIR)/busbar" "$(DESTDIR)$(COMPLETIONDIR)/busbar" \
	    "$(DESTDIR)$(UNITDIR)/busbar.service"
	rm -f $(foreach page,$(MANUALS),"$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(notdir $(page))")

#  Built apart, with the flags that Debian hardens its packages with; those make frames of their own size.
DEB_FLAGS = DEB_BUILD_MAINT_OPTIONS=hardening=+bindnow dpkg-buildflags --get
deb:
	@command -v dpkg-shlibdeps >/dev/null || { echo "make deb needs the package dpkg-dev" >&2; exit 1; }
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/deb PREFIX=/usr DESTDIR=$(BUILD)/deb/root \
	    CFLAGS="$$($(DEB_FLAGS) CFLAGS) $$($(DEB_FLAGS) CPPFLAGS) -Wno-frame-larger-than" \
	    LDFLAGS="$$($(DEB_FLAGS) LDFLAGS)" deb-tree
	@tools/deb/build.sh $(BUILD)/deb $(BUILD)

.PHONY: deb-tree
deb-tree:
	@rm -rf "$(DESTDIR)"
	@$(MAKE) --no-print-directory install

#  Debian 12 and 13 from nothing, each in a room of its own, and what the README promises tried there.
#  As root; SUITES="12 13", STEPS="tour test package container", BENCH=1, PREVIOUS=commit (tests/cleanroom/run.sh).
.PHONY: cleanroom
cleanroom:
	@tests/cleanroom/run.sh $(BUILD)
