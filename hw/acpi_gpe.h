/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include <stdint.h>

struct board;
struct acpi_gpe;

struct acpi_gpe_config {
    unsigned vcpus_online; /* 1..128: vCPUs 0 .. n-1 are online at start */
    uint32_t
        removable_slots; /* bit per PCI slot whose _STA shows it to hot plug; empty slots keep their bit */
    /* The guest ejected a removable slot (_EJ0). May be NULL. */
    void (*eject)(void *opaque, unsigned slot);
    void *opaque;
};

/* Creates the GPE0 block (0xafe0-0xafe3), the PCI hot-plug registers (0xae00-0xae0f) and the vCPU
 * map (0xaf00-0xaf1f) that Xen's DSDT for qemu-xen names, and drives IRQ 9 (SCI). *out, if not
 * NULL, gets a handle that lives as long as the board. 0, or -errno with the board unchanged. */
int acpi_gpe_create(struct board *b, const struct acpi_gpe_config *cfg, struct acpi_gpe **out);

/* Shows vCPU n (0..127, others are ignored) as present and raises _E02. */
void acpi_gpe_cpu_online(struct acpi_gpe *g, unsigned n);
/* A function appeared in slot (1..31): raises _E01. */
void acpi_gpe_pci_added(struct acpi_gpe *g, unsigned slot);
/* Asks the guest to give up slot (1..31): raises _E01; the guest answers with the eject callback.
 * */
void acpi_gpe_pci_remove(struct acpi_gpe *g, unsigned slot);
/* Says whether slot may be hot-unplugged, when what sits in it changed. */
void acpi_gpe_set_removable(struct acpi_gpe *g, unsigned slot, int removable);
