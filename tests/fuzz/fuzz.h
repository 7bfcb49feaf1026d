/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Operation programs for device fuzzing: the input bytes decode to port, MMIO and configuration accesses (single and block), RAM
 * fills, clock steps, resets, save+load, and the target's own events. A target file is
 *
 *     static void setup(struct harness *h) { uart_create(&h->board, ...); }
 *     static const struct fuzz_range ports[] = { { 0x3f8, 8 }, { 0 } };
 *     FUZZ_DEVICE(.setup = setup, .ports = ports)
 *
 * Each input runs on a fresh board, so a crash reproduces from its input alone. Bounded: at most FUZZ_MAX_OPS operations.
 */
#include "tests/unit/harness.h"

enum { FUZZ_MAX_OPS = 2000 };

struct input;

struct fuzz_range {
    uint64_t base;
    uint32_t len; /* 0 ends the table */
};

struct fuzz_device {
    void (*setup)(struct harness *h);
    const struct fuzz_range *ports; /* may be NULL */
    const struct fuzz_range *mmio;
    const uint8_t *devfns; /* PCI functions whose config space is fuzzed, 0xff ends; BARs found there are fuzzed at their current address */
    /* Optional: the target's own event (packet in, key, medium change) from up to 8 bytes of input. */
    void (*event)(struct harness *h, const uint8_t bytes[8]);
    /* Optional: called after each operation; may check invariants (abort() = finding). */
    void (*check)(struct harness *h);
    /* Optional: frees what setup() made outside the board, after the board is gone. */
    void (*teardown)(void);
};

/* An input router that goes after the devices and before the loop: as a device that was created first. */
struct input *fuzz_input(struct harness *h);

int fuzz_run(const struct fuzz_device *dev, const uint8_t *data, size_t size);

#define FUZZ_DEVICE(...)                                                                           \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);                                  \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)                                   \
    {                                                                                              \
        static const struct fuzz_device device = {__VA_ARGS__};                                    \
        return fuzz_run(&device, data, size);                                                      \
    }
