# SPDX-License-Identifier: GPL-2.0-or-later
# hvm-dm: `make help` lists the targets. Everything is built under build/.

VERSION := 0.1.0
PREFIX  ?= /usr/local
DESTDIR ?=
LIBEXECDIR ?= $(PREFIX)/libexec
B       := build

CC      ?= gcc
CLANG   ?= clang
PKGS    := xendevicemodel xenforeignmemory xenevtchn xengnttab xencall xentoolcore xentoollog xenstore \
           libvncserver json-c liburing zlib libisal
# Built with their headers, loaded at run time where they are wanted.
LOADED  := sdl2
WARN    := -Wall -Wextra -Werror -Wconversion -Wimplicit-fallthrough -Wvla -Wshadow
CPPFLAGS += -I. -D_GNU_SOURCE -DHVM_DM_VERSION='"$(VERSION)"' -DHVM_DM_DATADIR='"$(PREFIX)/share/hvm-dm"'
CFLAGS  ?= -O2 -g
HARDEN  := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
ALL_CFLAGS = -std=c11 $(WARN) $(CPPFLAGS) $(HARDEN) $(CFLAGS) $(PKG_CFLAGS) -pthread
LDFLAGS += -pie -Wl,-z,relro,-z,now,--as-needed -pthread

# V=1 shows the commands.
Q = $(if $(V),,@echo "  $@";)

# Asked only when something is compiled: `make help` must work on a bare machine.
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(shell pkg-config --cflags $(PKGS) $(LOADED)))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $$(shell pkg-config --libs $(PKGS)))$(PKG_LIBS)

# Everything but main.c and ioreq/ is hypervisor-free and is what the unit tests link.
LIB_SRC  := $(filter-out core/main.c,$(wildcard core/*.c)) \
            $(wildcard hw/*.c block/*.c net/*.c ui/*.c firmware/*.c monitor/*.c)
DM_SRC   := core/main.c $(wildcard ioreq/*.c pv/*.c)
LIB_OBJ  := $(LIB_SRC:%.c=$(B)/%.o)
DM_OBJ   := $(DM_SRC:%.c=$(B)/%.o)

# Unit tests: one cmocka program per tests/unit/test_*.c.
UNIT     := $(patsubst %.c,$(B)/%,$(wildcard tests/unit/test_*.c tests/unit/xen/test_*.c))
UNIT_SUP := $(filter-out tests/unit/test_%.c,$(wildcard tests/unit/*.c))
# Those of tests/unit/xen/ link ioreq/ and pv/ themselves, on Xen's libraries replaced by xen_fake*.c.
XEN_SUP  := $(wildcard tests/unit/xen/xen_fake*.c) tests/unit/block_fake.c $(wildcard ioreq/*.c pv/*.c) $(LIB_SRC)

# Fuzz targets: clang, libFuzzer, ASan, UBSan, in objects of their own.
FUZZ     := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_FLAGS := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
FUZZ_SUP := tests/fuzz/fuzz.c $(UNIT_SUP)
FUZZ_LIB_OBJ := $(LIB_SRC:%.c=$(B)/fuzz/%.o) $(FUZZ_SUP:%.c=$(B)/fuzz/%.o)

.PHONY: all help setup unit fuzz box box-all check bench demo demo-install install clean sanitize clang-check
.SECONDARY:

all: $(B)/hvm-dm

help:
	@echo "make              build $(B)/hvm-dm"
	@echo "make demo         install what is missing, build, boot a guest on real Xen in a box (ISO= DISK= CFG= VGA= DM=)"
	@echo "make demo-install install a system from CD to an empty disk and start it from there (FORMAT=raw|qcow2|vhd BUS=ide|ahci PV=0|1 DISK=keep)"
	@echo "make check        all tests: unit, sanitizers, fuzz, fake Xen against the peer, guests on real Xen"
	@echo "make unit         unit tests only (seconds)"
	@echo "make board        the binary on fake Xen, compared with the peer"
	@echo "make fuzz         each fuzz target for FUZZ_SECONDS (default 10; FUZZ_SEED= varies it)"
	@echo "make box          real Xen in a box: boots, installation, disks, media, network, xl commands, screenshots"
	@echo "make box-all      the long ones, too: each installation, 100 MB over each network card, each screen mode, X (four hours)"
	@echo "make bench        hvm-dm beside the peer, one table"
	@echo "make install      DESTDIR=$(DESTDIR) PREFIX=$(PREFIX)"
	@echo "make setup        install the Debian packages that are needed"
	@echo "make clean"

setup:
	@./setup.sh

$(B)/hvm-dm: $(DM_OBJ) $(LIB_OBJ)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/tests/unit/test_%: $(B)/tests/unit/test_%.o $(UNIT_SUP:%.c=$(B)/%.o) $(LIB_OBJ)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -lcmocka

$(B)/tests/unit/xen/test_%: $(B)/tests/unit/xen/test_%.o $(XEN_SUP:%.c=$(B)/%.o)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(WRAP) -o $@ $^ $(PKG_LIBS) -lcmocka
$(B)/tests/unit/xen/test_qdisk_ring $(B)/san/xen/test_qdisk_ring: WRAP := -Wl,--wrap=loop_work_waits

# The same tests under ASan and UBSan share the fuzzers' objects.
$(B)/fuzz/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CLANG) -std=c11 $(WARN) $(CPPFLAGS) $(PKG_CFLAGS) -pthread $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<

$(B)/tests/fuzz/fuzz_%: $(B)/fuzz/tests/fuzz/fuzz_%.o $(FUZZ_LIB_OBJ)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer -pthread -o $@ $^ $(PKG_LIBS)

$(B)/tests/fuzz/fuzz_ioreq $(B)/tests/fuzz/fuzz_qdisk: $(B)/tests/fuzz/fuzz_%: $(B)/fuzz/tests/fuzz/fuzz_%.o \
		$(XEN_SUP:%.c=$(B)/fuzz/%.o)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(FUZZ_FLAGS) $(FUZZ_LDFLAGS) -fsanitize=fuzzer -pthread -o $@ $^ $(PKG_LIBS)
$(B)/tests/fuzz/fuzz_qdisk: FUZZ_LDFLAGS := -Wl,--wrap=block_open

$(B)/san/test_%: $(B)/fuzz/tests/unit/test_%.o $(UNIT_SUP:%.c=$(B)/fuzz/%.o) $(LIB_SRC:%.c=$(B)/fuzz/%.o)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(FUZZ_FLAGS) -pthread -o $@ $^ $(PKG_LIBS) -lcmocka

$(B)/san/xen/test_%: $(B)/fuzz/tests/unit/xen/test_%.o $(XEN_SUP:%.c=$(B)/fuzz/%.o)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(FUZZ_FLAGS) $(WRAP) -pthread -o $@ $^ $(PKG_LIBS) -lcmocka

-include tests/fakexen/fakexen.mk

unit: $(UNIT)
	@tests/run-unit $(UNIT)

sanitize: $(UNIT:$(B)/tests/unit/%=$(B)/san/%)
	@tests/run-unit $^

FUZZ_SECONDS ?= 10
FUZZ_SEED ?= 1
fuzz: $(FUZZ)
	@FUZZ_SEED=$(FUZZ_SEED) tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ)

box: $(B)/hvm-dm
	@tests/box/run $(B)/box

box-all: $(B)/hvm-dm
	@tests/box/run $(B)/box --all

clang-check:
	@$(MAKE) --no-print-directory B=$(B)/clang CC=$(CLANG) CFLAGS="-O1" $(B)/clang/hvm-dm

check:
	@tests/check

bench:
	@tests/bench/run

demo-install:
	@FORMAT="$(FORMAT)" BUS="$(BUS)" PV="$(PV)" DISK="$(DISK)" DM="$(DM)" INSTALL=1 box/demo

demo:
	@ISO="$(ISO)" DISK="$(DISK)" CFG="$(CFG)" VGA="$(VGA)" DM="$(DM)" box/demo

install: $(B)/hvm-dm
	install -d $(DESTDIR)$(LIBEXECDIR)
	install -m 755 $(B)/hvm-dm $(DESTDIR)$(LIBEXECDIR)/hvm-dm

clean:
	rm -rf $(B)

-include $(shell find $(B) -name '*.d' 2>/dev/null)
