# tcmu-lua: make help lists what can be made.

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
CFLAGS ?= -O2 -g

PACKAGES := lua5.4 libuv libnl-genl-3.0
BUILD := build

OUR_CFLAGS := -std=gnu11 -fPIC -fvisibility=hidden -pthread \
  -ftls-model=initial-exec -fno-strict-aliasing \
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
  -DLUADIR='"$(LUADIR)"' -DHANDLERDIR='"$(DATADIR)/handlers"' \
  $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
LIBS_HOST := $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null)
LIBS_CORE := $(shell $(PKG_CONFIG) --libs libuv libnl-genl-3.0 2>/dev/null)

SOURCES := $(wildcard host/*.c)
OBJECTS := $(SOURCES:host/%.c=$(BUILD)/%.o)
CORE := $(filter-out $(BUILD)/main.o,$(OBJECTS))

Q := $(if $(V),,@)

.PHONY: all
all: tcmu-lua $(BUILD)/tcmu/core.so  ## build the host and the Lua module

tcmu-lua: $(OBJECTS)
	@echo "LINK $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread -o $@ $^ $(LIBS_HOST)

# nodelete: the watchdog's thread outlives the Lua state that loaded it.
$(BUILD)/tcmu/core.so: $(CORE)
	@mkdir -p $(@D)
	@echo "LINK $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread -shared -Wl,-z,nodelete -o $@ $^ \
	  $(LIBS_CORE)

$(BUILD)/%.o: host/%.c
	@mkdir -p $(@D)
	@echo "CC $<"
	$(Q)$(CC) $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

-include $(OBJECTS:.o=.d)

.PHONY: check
check: all  ## run every spec that needs no kernel
	$(Q)$(BUSTED)

.PHONY: clean
clean:  ## remove what was built
	rm -rf $(BUILD) tcmu-lua

.PHONY: help
help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1|/p' Makefile | column -t -s'|'
