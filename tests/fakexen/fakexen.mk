# SPDX-License-Identifier: GPL-2.0-or-later
# The fake hypervisor and the tests on it. Included by the top Makefile; also works alone, from the
# top folder: make -f tests/fakexen/fakexen.mk
FAKEXEN_BUILD ?= build/tests/fakexen
CC ?= gcc
CFLAGS ?= -O2 -g

FAKEXEN_CFLAGS := -std=c11 -D_GNU_SOURCE -Itests/fakexen -pthread -MMD -MP -Wall -Wextra -Werror \
	-Wconversion -Wimplicit-fallthrough -Wvla -Wshadow
FAKEXEN_LIB_OBJS := $(patsubst %,$(FAKEXEN_BUILD)/%.pic.o, \
	lib_core lib_dm lib_evtchn lib_mem lib_call lib_xs lib_gnttab rangeset)
FAKEXEN_OBJS := $(patsubst %,$(FAKEXEN_BUILD)/%.o, \
	main domain xenstore dm ioreq inxen garbage qtest bench nic nic_drivers rangeset)
FAKEXEN_TARGETS := $(FAKEXEN_BUILD)/libfakexen.so $(FAKEXEN_BUILD)/fakexen \
	$(FAKEXEN_BUILD)/floor_dm

.PHONY: fakexen board
fakexen: $(FAKEXEN_TARGETS)

# The binary on the fake hypervisor, beside the peer. BOARD= picks tests by name.
board: build/hvm-dm $(FAKEXEN_TARGETS)
	@tests/board/run '$(BOARD)'

# A sanitizer build of the program under test must not change these: the preloaded library has to
# load into any process.
FAKEXEN_FILTERED = $(filter-out -fsanitize% -fno-sanitize% -std=% -D_GNU_SOURCE,$(CFLAGS))

$(FAKEXEN_BUILD)/%.pic.o: tests/fakexen/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(FAKEXEN_CFLAGS) $(FAKEXEN_FILTERED) -fPIC -c $< -o $@

$(FAKEXEN_BUILD)/%.o: tests/fakexen/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(FAKEXEN_CFLAGS) $(FAKEXEN_FILTERED) -c $< -o $@

$(FAKEXEN_BUILD)/libfakexen.so: $(FAKEXEN_LIB_OBJS) tests/fakexen/exports.map
	$(Q)$(CC) -shared -pthread -Wl,-soname,libfakexen.so \
		-Wl,--version-script=tests/fakexen/exports.map -o $@ $(FAKEXEN_LIB_OBJS)

$(FAKEXEN_BUILD)/fakexen: $(FAKEXEN_OBJS)
	$(Q)$(CC) -pthread -o $@ $(FAKEXEN_OBJS)

$(FAKEXEN_BUILD)/floor_dm: $(FAKEXEN_BUILD)/floor_dm.o
	$(Q)$(CC) -pthread -o $@ $< -lxendevicemodel -lxenforeignmemory -lxenevtchn -lxenstore

-include $(wildcard $(FAKEXEN_BUILD)/*.d)
