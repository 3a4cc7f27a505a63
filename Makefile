# make            the program, build/integrations
# make SANITIZE=1 the same with AddressSanitizer and UBSan, build/sanitize/integrations
# make COVERAGE=1 the same that counts which lines and branches were run, build/coverage/integrations
# make CC=clang FUZZ=1 fuzz-targets  the fuzz targets with libFuzzer, build/libfuzzer/fuzz
# The other targets are one line each, at the end.

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNIT_DIR ?= /lib/systemd/system
SYSUSERS_DIR ?= /usr/lib/sysusers.d

V ?= 0
ifeq ($(V),0)
Q := @
say = @printf '  %-8s %s\n' $(1) $(2);
endif

# A flag that this compiler has, or nothing.
flag = $(shell $(CC) -Werror $(1) -x c -c -o /dev/null /dev/null 2>/dev/null && echo '$(1)')

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
	-Wconversion -Wsign-conversion -Wformat=2 -Wimplicit-fallthrough -Wundef -Wvla -Wpointer-arith -Wcast-qual \
	-Wwrite-strings -Wnull-dereference -Wdouble-promotion -Wdate-time \
	$(foreach f,-Wtrampolines -Wbidi-chars=any -Wlogical-op -Wduplicated-cond -Wduplicated-branches,$(call flag,$(f)))

HARDENING := -fPIE -fstack-protector-strong -fno-delete-null-pointer-checks -fno-strict-overflow -fno-strict-aliasing \
	$(foreach f,-fstack-clash-protection -fcf-protection=full -fstrict-flex-arrays=3 -ftrivial-auto-var-init=zero,$(call flag,$(f)))

ifeq ($(SANITIZE),1)
BUILD := build/sanitize
MODE := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
LINK_MODE := -fsanitize=address,undefined
else ifeq ($(COVERAGE),1)
BUILD := build/coverage
MODE := -O0 -g --coverage
LINK_MODE := --coverage
else ifeq ($(FUZZ),1)
BUILD := build/libfuzzer
MODE := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
LINK_MODE := -fsanitize=address,undefined
else
BUILD := build
MODE := -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 $(HARDENING)
LINK_MODE := -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,nodlopen
endif

CPPFLAGS := -I. -D_GNU_SOURCE
CFLAGS := -std=c11 $(MODE) $(WARNINGS) $(EXTRA_CFLAGS)
LDFLAGS := $(LINK_MODE) -Wl,--as-needed $(EXTRA_LDFLAGS)
LDLIBS := -lfcgi -lcurl -lhiredis -lyajl -lssl -lcrypto -lev -lseccomp -lanl -lm

SOURCES := $(sort $(wildcard common/*.c fcgi/*.c))
HEADERS := $(sort $(wildcard common/*.h fcgi/*.h))
OBJECTS := $(SOURCES:%.c=$(BUILD)/obj/%.o)
PROGRAM := $(BUILD)/integrations
ARCHIVE := $(BUILD)/libintegrations.a

# Scripts for Redis, as their stores include them: comments left out, the SHA-1 beside the text.
LUA := $(sort $(wildcard fcgi/lua/*.lua))
LUA_HEADERS := $(LUA:fcgi/lua/%.lua=build/lua/%.lua.h)

UNIT_SOURCES := $(sort $(wildcard tests/unit/*.c))
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(filter tests/unit/test_%.c,$(UNIT_SOURCES)))
UNIT_HELPERS := $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out tests/unit/test_%.c,$(UNIT_SOURCES)))

FUZZ_SOURCES := $(sort $(wildcard tests/fuzz/*.c))
FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,$(BUILD)/fuzz/%,$(filter tests/fuzz/fuzz_%.c,$(FUZZ_SOURCES)))
FUZZ_HELPERS := $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out tests/fuzz/fuzz_%.c tests/fuzz/replay.c,$(FUZZ_SOURCES)))
FUZZ_MAIN := $(if $(filter 1,$(FUZZ)),-fsanitize=fuzzer,$(BUILD)/obj/tests/fuzz/replay.o)

all: $(PROGRAM)

$(PROGRAM): $(OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/obj/%.o: %.c Makefile
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(filter $(BUILD)/obj/fcgi/%,$(OBJECTS)): | $(LUA_HEADERS)

# A line "-- include NAME" stands for that file. Two makes (tests/run.sh) may write the same header at once.
build/lua/%.lua.h: fcgi/lua/%.lua $(LUA) Makefile
	$(call say,LUA,$<)
	$(Q)mkdir -p $(@D)
	$(Q)text=$@.$$$$; awk 'function put(file, line, got) { \
	    while ((got = (getline line < file)) > 0) \
	        if (line ~ /^-- include /) put("fcgi/lua/" substr(line, 12)); \
	        else { sub(/ *-- .*/, "", line); if (line != "") print line } \
	    if (got < 0) { print file " cannot be read" > "/dev/stderr"; exit 1 } } BEGIN { put("$<") }' > $$text && \
	{ echo ".sha1 = \"$$(sha1sum < $$text | cut -c 1-40)\", .source ="; \
	    sed -e 's/[\\"]/\\&/g' -e 's/.*/    "&\\n"/' $$text; } > $$text.h && mv $$text.h $@; \
	status=$$?; rm -f $$text $$text.h; exit $$status

lua: $(LUA_HEADERS)

$(ARCHIVE): $(filter-out %/fcgi/main.o,$(OBJECTS))
	$(call say,AR,$@)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^

# A unit test is linked with the helpers whose header it includes (on_loop.h: on_loop.o), and with the archive for
# the rest: what a test or its helpers define themselves is not taken from there.
$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(UNIT_HELPERS) $(ARCHIVE)
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $$(for helper in $(UNIT_HELPERS); do name=$$(basename $$helper .o); \
	    grep -q "^#include \".*\b$$name\.h\"" tests/unit/$*.c && echo $$helper; done) $(ARCHIVE) $(LDLIBS) -lcmocka

# Our own allocations can be made to fail, and no library's.
$(BUILD)/unit/test_no_memory: LDFLAGS += -Wl,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=mmap

unit-tests: $(UNIT_TESTS)

# A fuzz target takes stored inputs as arguments (tests/fuzz/replay.c); with FUZZ=1 libFuzzer finds new ones.
$(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(FUZZ_HELPERS) $(BUILD)/obj/tests/fuzz/replay.o $(ARCHIVE)
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(FUZZ_HELPERS) $(FUZZ_MAIN) $(ARCHIVE) $(LDLIBS)

fuzz-targets: $(FUZZ_TARGETS)

# Preloaded by drills into the workers, whatever they are built with: faults on demand.
FAULTS := build/drills/faults.so

$(FAULTS): tests/drills/faults.c Makefile
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE -std=c11 -O2 -g -fno-builtin $(WARNINGS) -fPIC -shared -o $@ $< -ldl

drill-tools: $(FAULTS)

.PRECIOUS: $(BUILD)/obj/%.o
-include $(OBJECTS:.o=.d) $(UNIT_SOURCES:%.c=$(BUILD)/obj/%.d) $(FUZZ_SOURCES:%.c=$(BUILD)/obj/%.d)

lint:
	tests/lint.sh

format:
	clang-format -i $(SOURCES) $(HEADERS) $(wildcard tests/unit/*.[ch] tests/fuzz/*.[ch] tests/load/*.[ch] tests/drills/*.c)

SHARE = $(PREFIX)/share/integrations
SETTINGS = $(SYSCONFDIR)/integrations
fill_in = sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g'

# An upgrade is the same command: what a site edits is written only where there is none yet, and nginx's own directory is
# left to nginx/install.sh.
install: $(PROGRAM)
	install -D -m 0755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/integrations
	install -d $(DESTDIR)$(SHARE) $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(UNIT_DIR) $(DESTDIR)$(SETTINGS)
	cp -R --no-preserve=ownership nginx deploy/redis deploy/providers $(DESTDIR)$(SHARE)/
	for page in README.md $(wildcard deploy/*.md fcgi/*.md); do install -D -m 0644 $$page $(DESTDIR)$(SHARE)/$$page || exit 1; done
	chmod -R a+rX $(DESTDIR)$(SHARE)
	$(fill_in) deploy/systemd/integrations-admin.sh > $(DESTDIR)$(PREFIX)/sbin/integrations-admin
	chmod 0755 $(DESTDIR)$(PREFIX)/sbin/integrations-admin
	$(fill_in) deploy/systemd/integrations.service > $(DESTDIR)$(UNIT_DIR)/integrations.service
	chmod 0644 $(DESTDIR)$(UNIT_DIR)/integrations.service
	install -m 0644 deploy/systemd/integrations.socket $(DESTDIR)$(UNIT_DIR)
	install -D -m 0644 deploy/systemd/integrations.sysusers $(DESTDIR)$(SYSUSERS_DIR)/integrations.conf
	for file in integrations.env admin.env; do \
	    $(fill_in) deploy/systemd/$$file > $(DESTDIR)$(SHARE)/$$file || exit 1; \
	    chmod 0644 $(DESTDIR)$(SHARE)/$$file || exit 1; \
	    [ -e $(DESTDIR)$(SETTINGS)/$$file ] || cp --preserve=mode $(DESTDIR)$(SHARE)/$$file $(DESTDIR)$(SETTINGS)/ || exit 1; \
	done
	[ -e $(DESTDIR)$(SETTINGS)/providers ] || cp -R --preserve=mode $(DESTDIR)$(SHARE)/providers $(DESTDIR)$(SETTINGS)/

run: ; deploy/run.sh
test: ; tests/run.sh
test-unit: ; tests/run.sh unit
test-service: ; tests/run.sh service
test-browser: ; tests/run.sh browser
sanitize: ; SERVICE_SHARE=100 tests/run.sh unit-sanitize service-sanitize
fresh: ; tests/tools/fresh.sh
booted: ; tests/tools/booted.sh
screenshots: ; tests/browser/screenshots.sh
lighthouse: ; tests/browser/lighthouse.sh
bench: ; tests/load/bench.sh
scale: $(PROGRAM) ; /usr/bin/python3 -B tests/load/scale.py
bench-plot: ; /usr/bin/python3 -B tests/load/bench_plot.py
races: $(PROGRAM) ; CROWD_ROUNDS=200 ROTATIONS=1000 RACES=1000 /usr/bin/python3 -m pytest -q -s -p no:cacheprovider \
	tests/service/test_refresh_once.py tests/service/test_races.py
hostile: $(PROGRAM) ; HOSTILE=whole /usr/bin/python3 -m pytest -q -s -p no:cacheprovider tests/service/test_hostile_answers.py
soak: $(PROGRAM) ; /usr/bin/python3 -B tests/load/soak.py --requests $(or $(N),1000000)
torture: $(PROGRAM) drill-tools ; DRILL_SHARE=1 /usr/bin/python3 -m pytest -q -s -p no:cacheprovider tests/drills \
	--ignore-glob='*/test_chaos*'
chaos: $(PROGRAM) ; tests/drills/chaos.sh $(SEED)
mutants: ; nice -n 19 tests/mutants/run.py $(ONLY)
fuzz: ; tests/fuzz/run.sh $(or $(N),60)
coverage: ; tests/tools/coverage.sh
valgrind: ; tests/tools/valgrind.sh
clean: ; rm -rf build

.PHONY: all unit-tests drill-tools lint format install run test test-unit test-service test-browser sanitize fresh booted screenshots \
	lighthouse bench scale bench-plot races hostile soak torture chaos mutants fuzz fuzz-targets coverage valgrind lua clean
