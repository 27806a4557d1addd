#  Everything is built from what exists: a directory that is not there yet is simply no target.
#
#      make [-j2] [BUILD=dir] [CC=clang] [SAN=address,undefined] [V=1]
#      make test-unit | lint | fuzz SECONDS_EACH=20 | clean
#      make test-san | test-tsan | valgrind | soak MINUTES=30 LOAD=0.5
#      make install [DESTDIR=] [PREFIX=/usr] | uninstall | deb

BUILD ?= build
QUIET := $(if $(V),,@)
ifeq ($(origin CC),default)
CC := gcc
endif
SAN ?=
SECONDS_EACH ?= 20
PKG_CONFIG ?= pkg-config

PACKAGES := libzmq libpq jansson libcurl libssl libcrypto libwebsockets zlib
#  Tables name only what differs from zero: { "id", T_UUID, READONLY }.
WARNINGS := -Wall -Wextra -Wno-missing-field-initializers -Wshadow -Wvla -Wformat=2 \
    -Wframe-larger-than=4096 -Werror
CFLAGS ?= -O2 -g
#  The sanitizers make frames of their own size.
ifneq ($(SAN),)
SANITIZE := -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=undefined -Wno-frame-larger-than
endif
PACKAGE_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PACKAGES))
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -I. -Wa,-I. $(WARNINGS) $(SANITIZE) $(CFLAGS) -MMD -MP \
    -pthread $(PACKAGE_CFLAGS)
lib = $(shell $(PKG_CONFIG) --libs $(1))

PROTO_SRC := $(wildcard proto/*.c)
DB_SRC := $(wildcard db/*.c)
KIT_SRC := $(wildcard actors/kit/*.c)
BROKER_SRC := $(wildcard broker/*.c)
EDGE_SRC := $(wildcard edge/*.c)
TOOLS_SRC := $(wildcard tools/*.c)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

LIBPROTO := $(if $(PROTO_SRC),$(BUILD)/libproto.a)
LIBDB := $(if $(DB_SRC),$(BUILD)/libdb.a)
LIBKIT := $(if $(KIT_SRC),$(BUILD)/libkit.a)
LIBS := $(LIBKIT) $(LIBDB) $(LIBPROTO)

PROTO_LIBS = $(call lib,libzmq jansson libcrypto zlib) -lm -pthread
DB_LIBS = $(call lib,libpq) $(PROTO_LIBS)
KIT_LIBS = $(call lib,libcurl libssl zlib) -lcrypt $(DB_LIBS)
EDGE_LIBS = $(call lib,libwebsockets libssl zlib) $(PROTO_LIBS)

#  An actor is a file of actors/, or a directory there once it has outgrown one file.
ACTOR_FILES := $(patsubst actors/%.c,%,$(wildcard actors/*.c))
ACTOR_DIRS := $(filter-out kit,$(sort $(patsubst actors/%/,%,$(dir $(wildcard actors/*/*.c)))))
ACTORS := $(sort $(ACTOR_FILES) $(ACTOR_DIRS))
actor_src = $(wildcard actors/$(1).c actors/$(1)/*.c)

PROGRAMS := $(if $(BROKER_SRC),$(BUILD)/bin/busbar-broker) $(if $(EDGE_SRC),$(BUILD)/bin/busbar-edge) \
    $(if $(TOOLS_SRC),$(BUILD)/bin/busbar) $(ACTORS:%=$(BUILD)/bin/busbar-%)

UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_HELP := $(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c))
UNITS := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/unit/%)

.PHONY: all lib test-unit lint fuzz clean
.SECONDARY:
.DELETE_ON_ERROR:

all: lib $(PROGRAMS)
lib: $(LIBS)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo '  cc $@'
	$(QUIET)$(CC) $(ALL_CFLAGS) -c $< -o $@

$(LIBPROTO): $(call obj,$(PROTO_SRC))
$(LIBDB): $(call obj,$(DB_SRC))
$(LIBKIT): $(call obj,$(KIT_SRC))
$(LIBS):
	@rm -f $@
	@echo '  ar $@'
	$(QUIET)$(AR) rcs $@ $^

$(BUILD)/bin/busbar-broker: $(call obj,$(BROKER_SRC)) $(LIBPROTO)
	@mkdir -p $(@D)
	@echo '  ld $@'
	$(QUIET)$(CC) $(SANITIZE) $(LDFLAGS) $^ -o $@ $(PROTO_LIBS)

$(BUILD)/bin/busbar-edge: $(call obj,$(EDGE_SRC)) $(LIBPROTO)
	@mkdir -p $(@D)
	@echo '  ld $@'
	$(QUIET)$(CC) $(SANITIZE) $(LDFLAGS) $^ -o $@ $(EDGE_LIBS)

$(BUILD)/bin/busbar: $(call obj,$(TOOLS_SRC)) $(LIBDB) $(LIBPROTO)
	@mkdir -p $(@D)
	@echo '  ld $@'
	$(QUIET)$(CC) $(SANITIZE) $(LDFLAGS) $^ -o $@ $(KIT_LIBS)

#  What one actor needs beyond the kit.
LIBS_kernels = $(call lib,libseccomp)
LIBS_platform += $(call lib,libgit2)
LIBS_platform += $(call lib,libmariadb sqlite3)
LIBS_clusters = $(call lib,libseccomp)

define actor_rule
$(BUILD)/bin/busbar-$(1): $(call obj,$(call actor_src,$(1))) $(LIBS)
	@mkdir -p $$(@D)
	@echo '  ld $$@'
	$(QUIET)$(CC) $(SANITIZE) $(LDFLAGS) $$^ -o $$@ $$(LIBS_$(1)) $$(KIT_LIBS)
endef
$(foreach actor,$(ACTORS),$(eval $(call actor_rule,$(actor))))

#  Unit tests: one program per class, linked with every library that exists (the archives give only what
#  is used); a test that needs the inside of the broker or the edge includes the .c under test.
$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(call obj,$(UNIT_HELP)) $(LIBS)
	@mkdir -p $(@D)
	@echo '  ld $@'
	$(QUIET)$(CC) $(SANITIZE) $(LDFLAGS) $(filter %.o,$^) $(filter %.a,$^) -o $@ $(UNIT_LIBS) \
	    $(call lib,cmocka) $(EDGE_LIBS) $(KIT_LIBS)

#  Kernels are driven without the actor around them.
KERNEL_PARTS := $(wildcard $(patsubst %,actors/kernels/%.c,signer lenient jupyter jupyter_line sandbox output))
KERNEL_TESTS := $(patsubst %,$(BUILD)/unit/test_%,jupyter sandbox output)
$(KERNEL_TESTS): $(call obj,$(KERNEL_PARTS))
$(KERNEL_TESTS): UNIT_LIBS = $(LIBS_kernels)

$(BUILD)/unit/test_statement_text: $(call obj,$(patsubst %,actors/platform/%.c,lines sqltext))
$(BUILD)/unit/test_lineage_text: $(call obj,$(patsubst %,actors/platform/%.c,lineage_text sqltext))
$(BUILD)/unit/test_cron: $(call obj,$(patsubst %,actors/jobs/%.c,cron cron_next zone))
$(BUILD)/unit/test_dag: $(call obj,actors/jobs/dag.c)
$(BUILD)/unit/test_graph: $(call obj,$(patsubst %,actors/jobs/%.c,graph node asl asl_choice))

$(BUILD)/unit/test_autoscale: $(call obj,actors/clusters/autoscale.c)

#  The actors that tests/api/test_kit.py and test_conform.py drive.
TEST_ACTORS := test/kit_actor test/conform_actor
$(BUILD)/test/kit_actor: $(call obj,$(wildcard tests/api/kit_actor/*.c)) $(LIBS)
	@mkdir -p $(@D)
	@echo '  ld $@'
	$(QUIET)$(CC) $(SANITIZE) $(LDFLAGS) $^ -o $@ $(KIT_LIBS)

$(BUILD)/test/conform_actor: $(call obj,tests/clients/conform_actor.c) $(LIBS)
	@mkdir -p $(@D)
	@echo '  ld $@'
	$(QUIET)$(CC) $(SANITIZE) $(LDFLAGS) $^ -o $@ $(KIT_LIBS)

#  This one runs the real broker.
$(BUILD)/unit/test_bus_broker: | $(BUILD)/bin/busbar-broker

#  The compiler does not tell which .sql and .py files an object embeds.
SQL_USERS := $(shell grep -ls '^SQL_FILE' $(wildcard db/*.c actors/*.c actors/*/*.c tests/unit/*.c))
$(call obj,$(SQL_USERS)): $(wildcard db/*.sql db/queries/*.sql db/migrations/0001_base.* actors/*/*.py)

#  Those that want a PostgreSQL get a temporary one.
DB_UNITS := $(filter $(foreach name,db db_batch db_row db_silent guest guest_attacks migrate,%/test_$(name)),$(UNITS))
.PHONY: test-db check-sql
test-db: $(DB_UNITS)
	@set -e; for test in $(DB_UNITS); do tests/api/pg_fixture.py $$test; done

#  Every named statement, prepared and planned against a migrated database.
check-sql:
	@tools/check-sql

test-unit: $(UNITS)
	@failed=; for test in $(UNITS); do \
	    echo "== $$test"; $$test || failed="$$failed $$test"; done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

#  From nothing to a running system, and from nothing to a verdict.
.PHONY: deps run test test-san
deps:
	@tools/deps.sh

run: deps
	@$(MAKE) --no-print-directory all
	@exec $(BUILD)/bin/busbar up --demo $(UP)

#  The last line says how many passed and failed. TESTS="-k notebooks" picks some.
test: deps
	@$(MAKE) --no-print-directory all $(UNITS) $(TEST_ACTORS:%=$(BUILD)/%)
	@UNITS="$(UNITS)" tests/run.sh $(BUILD) $(TESTS)

#  The same once more, watched: every process of the system under test is instrumented. The second one
#  looks for races, in what has threads.
.PHONY: test-tsan valgrind
SAN_UNITS = $(UNITS:$(BUILD)/%=$(BUILD)/san/%)
test-san:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/san SAN=address,undefined all $(SAN_UNITS) \
	    $(TEST_ACTORS:%=$(BUILD)/san/%)
	@UNITS="$(SAN_UNITS)" BUSBAR_TEST_PATIENCE=180 SANITIZED=1 tests/run.sh $(BUILD)/san $(TESTS)

#  It cannot follow threads into forks, where the tests of the sandbox start theirs.
TSAN_UNITS = $(patsubst $(BUILD)/%,$(BUILD)/tsan/%,$(filter-out %/test_sandbox,$(UNITS)))
test-tsan:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan SAN=thread all $(TSAN_UNITS) \
	    $(TEST_ACTORS:%=$(BUILD)/tsan/%)
	@UNITS="$(TSAN_UNITS)" SUITES=tests/api/test_kit.py BUSBAR_TEST_PATIENCE=180 SANITIZED=1 \
	    tests/run.sh $(BUILD)/tsan $(TESTS)

#  Reads of what was never written, which the sanitizers do not see.
MEMCHECK := valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite \
    --show-leak-kinds=definite --num-callers=30
#  Not those that drive kernels, or ask what is done within milliseconds or with megabytes.
MEMCHECK_NOT := bus bus_failures db_silent guest guest_attacks jupyter sandbox
MEMCHECK_UNITS = $(filter-out $(foreach name,$(MEMCHECK_NOT),%/test_$(name)),$(UNITS))
valgrind: all $(MEMCHECK_UNITS)
	@UNITS="$(MEMCHECK_UNITS)" WRAP="$(MEMCHECK)" SUITES=none tests/run.sh $(BUILD)

#  With real engines, fetched into the build directory; what cannot be fetched is skipped and says so.
.PHONY: test-engines
test-engines: all
	@BUSBAR_BIN=$(abspath $(BUILD))/bin BUSBAR_BUILD=$(abspath $(BUILD)) BUSBAR_TEST_PATIENCE=180 \
	    /usr/bin/python3 -m pytest -p no:cacheprovider -q -rs tests/engines

#  Mixed load for a long time: nothing may grow. Samples are in build/soak.log.
MINUTES ?= 30
LOAD ?= 0.5
.PHONY: soak
soak: all
	@BUSBAR_BIN=$(abspath $(BUILD))/bin tests/soak/soak.py --minutes $(MINUTES) --load $(LOAD) \
	    --log $(BUILD)/soak.log

#  Beside its peers, one table of ratios; build/bench.md keeps it. ROWS=get,post measures those alone,
#  ROUNDS=1 ROUND_SECONDS=1 only tries whether everything works.
ROUNDS ?= 5
ROUND_SECONDS ?= 3
CROWD_SECONDS ?= 20
ROWS ?=
BENCH_PROGRAMS := $(addprefix $(BUILD)/bench/,bus_bench bus_load crowd hello_lws live_load turns_actor)
.PHONY: bench
bench: all $(BENCH_PROGRAMS)
	@python3 tests/bench/bench.py $(BUILD) --rounds $(ROUNDS) --seconds $(ROUND_SECONDS) \
	    --crowd-seconds $(CROWD_SECONDS) --rows "$(ROWS)"

BENCH_CLIENTS := $(BUILD)/bench/live_load $(BUILD)/bench/crowd
$(BENCH_CLIENTS): $(call obj,tests/bench/client.c)

#  The actor whose write path is measured.
$(BUILD)/bench/turns_actor: $(BUILD)/obj/tests/bench/turns_actor.o $(LIBS)
	@mkdir -p $(@D)
	@echo '  ld $@'
	$(QUIET)$(CC) $(SANITIZE) $(LDFLAGS) $^ -o $@ $(KIT_LIBS)

$(BUILD)/bench/hello_lws: $(BUILD)/obj/tests/bench/hello_lws.o
	@mkdir -p $(@D)
	@echo '  ld $@'
	$(QUIET)$(CC) $(SANITIZE) $(LDFLAGS) $^ -o $@ $(call lib,libwebsockets)

#  Round trips of the bus, one line of JSON.
.PHONY: bench-bus
bench-bus: $(BUILD)/bench/bus_bench
	@$<

$(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(LIBPROTO)
	@mkdir -p $(@D)
	@echo '  ld $@'
	$(QUIET)$(CC) $(SANITIZE) $(LDFLAGS) $^ -o $@ $(PROTO_LIBS)

#  The sources of proto once more, instrumented; a fuzz target is one file, what it needs of them, and
#  the parts named here.
FUZZ_cron := $(patsubst %,actors/jobs/%.c,cron cron_next zone)
FUZZ_graph := $(patsubst %,actors/jobs/%.c,graph node asl asl_choice)
FUZZ_jupyter := actors/kernels/jupyter_line.c actors/kernels/lenient.c actors/kernels/signer.c actors/kernels/output.c
FUZZ_frame := edge/frame.c
FUZZ_live := edge/live.c edge/client.c edge/channel.c edge/sub.c edge/session.c edge/rules.c
FUZZ_multipart := edge/multipart.c
FUZZ_openapi := edge/router.c edge/rules.c
FUZZ_router := edge/router.c edge/rules.c
FUZZ_rules := edge/rules.c
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZERS := $(FUZZ_SRC:tests/fuzz/fuzz_%.c=%)
FUZZ_SAN := address,undefined -fno-sanitize-recover=undefined
FUZZ_FLAGS = -std=gnu17 -D_GNU_SOURCE -I. $(WARNINGS) -Wno-frame-larger-than -O1 -g -pthread -MMD -MP \
    $(PACKAGE_CFLAGS)

$(BUILD)/obj/fuzz/%.o: %.c
	@mkdir -p $(@D)
	@echo '  cc $@'
	$(QUIET)clang $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,$(FUZZ_SAN) -c $< -o $@

$(BUILD)/fuzz/libproto.a: $(PROTO_SRC:%.c=$(BUILD)/obj/fuzz/%.o)
	@mkdir -p $(@D)
	@rm -f $@
	@echo '  ar $@'
	$(QUIET)$(AR) rcs $@ $^

$(foreach name,$(FUZZERS),$(eval $(BUILD)/fuzz/$(name): $(FUZZ_$(name):%.c=$(BUILD)/obj/fuzz/%.o)))
$(BUILD)/fuzz/%: $(BUILD)/obj/fuzz/tests/fuzz/fuzz_%.o $(BUILD)/fuzz/libproto.a
	@echo '  ld $@'
	$(QUIET)clang -fsanitize=fuzzer,$(FUZZ_SAN) $(filter %.o,$^) $(filter %.a,$^) -o $@ $(PROTO_LIBS)

fuzz: $(FUZZERS:%=$(BUILD)/fuzz/%)
	@set -e; for name in $(FUZZERS); do \
	    mkdir -p $(BUILD)/fuzz/found-$$name; echo "== fuzz $$name"; \
	    $(BUILD)/fuzz/$$name -max_total_time=$(SECONDS_EACH) -verbosity=0 -print_final_stats=1 \
	        -artifact_prefix=$(BUILD)/fuzz/ $(BUILD)/fuzz/found-$$name tests/fuzz/corpus/$$name; done

#  Hostile clients against a whole running system that is watched by sanitizers; what was found stays in
#  build/fuzz-edge. `tests/chaos/raw_fuzz.py --seed N --case M` repeats one.
.PHONY: fuzz-edge
fuzz-edge:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/san SAN=address,undefined all
	@BUSBAR_BIN=$(abspath $(BUILD))/san/bin BUSBAR_TEST_PATIENCE=180 tests/chaos/raw_fuzz.py \
	    --seconds $(or $(SECONDS),60) --out $(BUILD)/fuzz-edge $(if $(SEED),--seed $(SEED))

#  Includes point one way: proto <- db <- kit <- actors, proto <- broker, proto <- edge.
SOURCES = $(wildcard proto/*.[ch] db/*.[ch] broker/*.[ch] edge/*.[ch] tools/*.[ch] actors/*.[ch] \
    actors/*/*.[ch] tests/unit/*.[ch] tests/fuzz/*.[ch])
lint: check-sql
	@tests/lint.sh $(SOURCES)

include tools/install.mk

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
