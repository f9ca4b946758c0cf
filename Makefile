# tcmu-lua.  `make help` lists the targets; V=1 shows the commands.

CC ?= cc
PKG_CONFIG ?= pkg-config
LUA ?= lua5.4
BUSTED ?= busted
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/sbin
LUADIR ?= $(PREFIX)/share/lua/5.4
LIBDIR ?= $(PREFIX)/lib/lua/5.4
DATADIR ?= $(PREFIX)/share/tcmu-lua
MANDIR ?= $(PREFIX)/share/man
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
UNITDIR ?= $(PREFIX)/lib/systemd/system
# The bus reads policies below /usr/share and /etc, not below /usr/local.
DBUSDIR ?= \
  $(if $(filter /usr/local,$(PREFIX)),/etc,$(PREFIX)/share)/dbus-1/system.d
CFLAGS ?= -O2 -g
BUILD ?= build
BINARY ?= tcmu-lua

PACKAGES := lua5.4 libuv libnl-genl-3.0
# Without one of these its part of the program is left out.
PACKAGES_OPTIONAL ?= libsystemd liburing
OPTIONAL := $(foreach package,$(PACKAGES_OPTIONAL),$(shell \
  $(PKG_CONFIG) --exists $(package) 2>/dev/null && echo $(package)))
# Without slp-vectorize: two fields fetched at once wait until the stores that
# set them one by one have got through, data that was copied before included.
OUR_CFLAGS = -std=gnu11 -fPIC -fvisibility=hidden -pthread \
  -ftls-model=initial-exec -fno-tree-slp-vectorize \
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
  -DLUADIR='"$(LUADIR)"' -DHANDLERDIR='"$(DATADIR)/handlers"' \
  $(if $(filter libsystemd,$(OPTIONAL)),-DHAVE_LIBSYSTEMD) \
  $(if $(filter liburing,$(OPTIONAL)),-DHAVE_LIBURING) \
  $(shell $(PKG_CONFIG) --cflags $(PACKAGES) $(OPTIONAL))
# The host shares the system's liblua; core.so gets Lua from who loads it.
HOST_LIBS = $(shell $(PKG_CONFIG) --libs $(PACKAGES) $(OPTIONAL))
CORE_LIBS = $(shell $(PKG_CONFIG) --libs libuv libnl-genl-3.0 $(OPTIONAL))

SOURCES := $(filter-out $(if $(filter libsystemd,$(OPTIONAL)),,host/dbus.c) \
  $(if $(filter liburing,$(OPTIONAL)),,host/uring.c),$(wildcard host/*.c))
OBJECTS := $(SOURCES:host/%.c=$(BUILD)/%.o)
CORE_OBJECTS := $(filter-out $(BUILD)/main.o,$(OBJECTS))
CORE := $(BUILD)/tcmu/core.so
LUA_FILES := $(shell find lua handlers examples spec -name '*.lua' 2>/dev/null)

Q := $(if $(V),,@)
SUBMAKE := +$(Q)$(MAKE) --no-print-directory

.PHONY: all
all: $(BINARY) $(CORE)  ## build the program and the Lua module

# As long as the tools are missing, say what installs them.
ifeq ($(shell command -v $(PKG_CONFIG)),)
OUR_CFLAGS = $(error pkg-config is missing: run "dist/need build" first)
endif

$(BINARY): $(OBJECTS)
	@echo "LINK $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread -o $@.new $^ $(HOST_LIBS)
	$(Q)mv $@.new $@

# nodelete: the watchdog's thread outlives the Lua state that loaded it.
$(CORE): $(CORE_OBJECTS)
	@mkdir -p $(@D)
	@echo "LINK $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread -shared -Wl,-z,nodelete -o $@.new \
	  $^ $(CORE_LIBS)
	$(Q)mv $@.new $@

$(BUILD)/%.o: host/%.c
	@mkdir -p $(@D)
	@echo "CC $<"
	$(Q)$(CC) $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

-include $(OBJECTS:.o=.d)

# Built anew when an optional library has come or gone.
WITH := $(BUILD)/with$(subst $() ,-,$(addprefix -,$(OPTIONAL)))
$(BUILD)/bind_dbus.o $(BUILD)/aio.o: $(WITH)
$(WITH):
	@mkdir -p $(@D)
	@rm -f $(BUILD)/with-*
	@touch $@

.PHONY: run
run:  ## install what is missing, build, and try a handler without a kernel
	@dist/need build
	$(SUBMAKE) $(BINARY)
	./$(BINARY) try whoami </dev/null

# quietly COMMAND NAME: what the host logs, which is much where handlers are to
# fail, goes to a file; what a sanitizer finds comes out.
quietly = { $(1); } 2>$(BUILD)/$(2).log || { status=$$?; \
  grep -A 60 -e '==ERROR: ' -e 'runtime error' -e 'WARNING: Thread' \
  $(BUILD)/$(2).log; echo "The host's log is in $(BUILD)/$(2).log."; \
  exit $$status; }

.PHONY: check
check:  ## install what is missing, build, run every spec that needs no VM
	@dist/need build check
	$(SUBMAKE) all
	@$(call quietly,$(BUSTED),check)

SANITIZE := -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all

# The programs that specs start, a thousand shells and a few of Lua, are not
# looked through for leaks: a shell takes four times as long with that.
LOOK_AT_NONE_BELOW := require "luv".os_setenv("ASAN_OPTIONS", "detect_leaks=0")

.PHONY: asan
asan:  ## the same with the C half under ASan, UBSan and the leak detector
	@dist/need build check sanitize
	$(SUBMAKE) all
	$(SUBMAKE) BUILD=build/asan LDFLAGS="-fsanitize=address,undefined" \
	  CFLAGS="$(SANITIZE) -fsanitize=address,undefined" build/asan/tcmu/core.so
	@$(call quietly,LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) \
	  $$($(CC) -print-file-name=libubsan.so)" \
	LSAN_OPTIONS=suppressions=spec/leaks.supp:print_suppressions=0 \
	ASAN_OPTIONS=detect_stack_use_after_return=1 \
	  $(LUA) -e '$(LOOK_AT_NONE_BELOW)' \
	  "$$(command -v $(BUSTED))" --ignore-lua --cpath './build/asan/?.so',asan)

# Not the watchdog's: TSan delays signals until the thread calls something that
# it knows, which a loop in Lua never does.
THREADED := $(patsubst %,spec/%_spec.lua,shards copy_between deputy poll \
  store_broken)

# Its library is for our interpreter alone, not for the shells that specs start,
# and wants addresses where it expects them.
.PHONY: tsan
tsan:  ## the specs of the threads under TSan
	@dist/need build check sanitize
	$(SUBMAKE) BUILD=build/tsan LDFLAGS="-fsanitize=thread" \
	  CFLAGS="$(SANITIZE) -fsanitize=thread" build/tsan/tcmu/core.so
	@$(call quietly,$$(setarch -R true 2>/dev/null && echo setarch -R) env \
	  LD_PRELOAD="$$($(CC) -print-file-name=libtsan.so)" \
	  TSAN_OPTIONS=suppressions=spec/races.supp \
	  $(LUA) -e 'require "luv".os_unsetenv "LD_PRELOAD"' \
	  "$$(command -v $(BUSTED))" --ignore-lua --cpath './build/tsan/?.so' \
	  $(THREADED),tsan)

.PHONY: fuzz
fuzz: build/fuzz-ring  ## feed garbage to the consumer of the ring
	build/fuzz-ring 1 2000

FUZZED := spec/fuzz/ring.c spec/fuzz/main.c host/ring.c host/ring_answer.c \
  host/ring_open.c host/sim.c host/sim_ring.c host/bits.c

build/fuzz-ring: $(FUZZED) $(wildcard host/*.h)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -Ihost $(SANITIZE) -fsanitize=address,undefined \
	  -o $@ $(FUZZED)

.PHONY: lint
lint:  ## static checks of C, Lua, shell and manual pages
	@dist/need build lint
	$(SUBMAKE) lint-installed

# Another make, since the compiler's flags come from what is installed.
.PHONY: lint-installed
lint-installed:
	@luacheck -q --no-color $(LUA_FILES)
	cppcheck -q --std=c11 --enable=warning,portability --error-exitcode=1 \
	  --inline-suppr --suppress=missingIncludeSystem '-DSD_BUS_PARAM(x)=' \
	  --suppress=uninitvar:host/dbus.c -Ihost host spec/bench
	clang -fsyntax-only -Werror -Wpedantic -iquote host $(OUR_CFLAGS) \
	  $(SOURCES) $(wildcard spec/bench/*.c)
	mandoc -T lint -W warning dist/man/*.[178]
	shellcheck -x dist/need .ci/run spec/watch spec/vm/demo spec/bench/vm/run

.PHONY: vm
vm:  ## boot Debian's kernel; a prompt where a Lua disk is attached
	@dist/need build
	$(SUBMAKE) all
	spec/vm/run --interactive spec/vm/demo

.PHONY: modules
modules:  ## build what the module generator makes, for Debian's kernels
	@dist/need build check modules
	spec/mod_builder/modules

.PHONY: vm-check
vm-check: modules  ## run the specs that need the real kernel, in a VM
	$(SUBMAKE) all
	spec/vm/check $(VM_CHECK)

# An interpreter with the host's objects in it, for spec/bench/*.lua.
BENCH := $(BUILD)/bench/run
BENCH_OBJECTS := $(patsubst %,$(BUILD)/bench/%.o,bare consumer entry kernel \
  library load main rings threads)

$(BUILD)/bench/%.o: spec/bench/%.c
	@mkdir -p $(@D)
	@echo "CC $<"
	$(Q)$(CC) -iquote host $(OUR_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

-include $(BENCH_OBJECTS:.o=.d) $(BUILD)/bench/runner_shim.d \
  $(BUILD)/bench/runner_ram.d

$(BENCH): $(BENCH_OBJECTS) $(CORE_OBJECTS)
	@echo "LINK $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread -o $@ $^ $(HOST_LIBS)

# What lets tcmu-runner run on the benchmark's kernel.
RUNNER := $(BUILD)/bench/runner_shim.so $(BUILD)/bench/runner/handler_ram.so

$(BUILD)/bench/runner_shim.so: $(addprefix $(BUILD)/bench/,runner_shim.o \
  kernel.o load.o)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread -shared -o $@ $^

$(BUILD)/bench/runner/handler_ram.so: $(BUILD)/bench/runner_ram.o
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -shared -o $@ $^

.PHONY: bench-program
bench-program: $(BENCH) $(RUNNER)

.PHONY: bench
bench:  ## measure against the targets: ROWS="T1 T8" for some of them
	@dist/need build bench
	$(SUBMAKE) bench-program
	$(BENCH) spec/bench/main.lua build/bench.json $(ROWS)

# What the program is measured against on the real kernel.
$(BUILD)/floor: spec/bench/floor.c host/abi.h
	@mkdir -p $(@D)
	@echo "CC $<"
	$(Q)$(CC) -std=gnu11 -Wall -Wextra -Wpedantic -iquote host $(CFLAGS) -o $@ $<

.PHONY: bench-vm
bench-vm:  ## compare with tcmu-runner and the kernel's own disks, in a VM
	@dist/need build
	$(SUBMAKE) all $(BUILD)/floor
	spec/bench/vm/run $(BENCH_VM)

.PHONY: install
install: all  ## install below DESTDIR and PREFIX
	install -D -m 755 $(BINARY) $(DESTDIR)$(BINDIR)/tcmu-lua
	install -D -m 755 $(CORE) $(DESTDIR)$(LIBDIR)/tcmu/core.so
	cd lua && find . -name '*.lua' -exec \
	  install -D -m 644 {} $(DESTDIR)$(LUADIR)/{} \;
	install -d $(DESTDIR)$(DATADIR)/handlers $(DESTDIR)$(DATADIR)/examples
	install -m 644 handlers/*.lua $(DESTDIR)$(DATADIR)/handlers
	install -m 644 examples/*.lua $(DESTDIR)$(DATADIR)/examples
	for page in dist/man/*.[1-8]; do \
	  install -D -m 644 $$page $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}; \
	done
	install -D -m 644 dist/completion/tcmu-lua.bash \
	  $(DESTDIR)$(COMPLETIONDIR)/tcmu-lua
	install -d $(DESTDIR)$(UNITDIR)
	sed 's,@BINDIR@,$(BINDIR),' dist/tcmu-lua.service.in \
	  >$(DESTDIR)$(UNITDIR)/tcmu-lua.service
	chmod 644 $(DESTDIR)$(UNITDIR)/tcmu-lua.service
	install -D -m 644 dist/org.kernel.TCMUService1.conf \
	  $(DESTDIR)$(DBUSDIR)/org.kernel.TCMUService1.conf

.PHONY: uninstall
uninstall:  ## remove what install has put there
	rm -f $(DESTDIR)$(BINDIR)/tcmu-lua $(DESTDIR)$(COMPLETIONDIR)/tcmu-lua \
	  $(DESTDIR)$(UNITDIR)/tcmu-lua.service \
	  $(DESTDIR)$(DBUSDIR)/org.kernel.TCMUService1.conf
	rm -rf $(DESTDIR)$(LIBDIR)/tcmu $(DESTDIR)$(LUADIR)/tcmu \
	  $(DESTDIR)$(LUADIR)/tcm_mod_builder $(DESTDIR)$(DATADIR)
	for page in dist/man/*.[1-8]; do \
	  rm -f $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}; \
	done

.PHONY: clean
clean:  ## remove what was built
	rm -rf build $(BINARY)

.PHONY: help
help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1|/p' Makefile | column -t -s'|'
