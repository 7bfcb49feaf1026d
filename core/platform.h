/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What the board asks of the hypervisor. Implemented by ioreq/ on Xen's libraries; unit tests and
 * fuzz targets link tests/unit/platform_fake.c instead. Loop thread only. Failures of calls without
 * a result are logged (bounded) by the implementation; a dying domain is not an error.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct platform;

/* Interrupts (contract hypervisor.md 2.3). Use struct irq_line in devices, these are what the lines
 * end in. */
void platform_isa_irq(struct platform *p, unsigned irq, bool level); /* irq 0..15 */
void platform_pci_intx(struct platform *p, unsigned slot, unsigned pin,
                       bool level); /* slot 0..31, pin 0..3 */
void platform_pci_link(struct platform *p, unsigned link,
                       unsigned irq); /* link 0..3, irq 0 = off */
void platform_msi(struct platform *p, uint64_t addr, uint32_t data);

/* Ranges the hypervisor is to send us; `last` is inclusive. 0 or -errno. */
int platform_map_range(struct platform *p, bool mmio, uint64_t first, uint64_t last);
void platform_unmap_range(struct platform *p, bool mmio, uint64_t first, uint64_t last);
int platform_map_pci(struct platform *p, unsigned devfn);
void platform_unmap_pci(struct platform *p, unsigned devfn);

/* Ends the domain's run. The guest may go on for a moment. Only the first call counts. */
enum platform_shutdown { PLATFORM_POWEROFF, PLATFORM_REBOOT, PLATFORM_CRASH };
void platform_shutdown(struct platform *p, enum platform_shutdown reason);

/* HVM_PARAM_ACPI_S_STATE: 3 on entering S3, 0 on leaving it. Takes effect after the current request
 * has been answered. */
void platform_acpi_s_state(struct platform *p, unsigned state);

/* Makes n guest pages from gfn read-only for the guest, or writable again. 0 or -errno. */
int platform_set_readonly(struct platform *p, uint64_t gfn, unsigned n, bool readonly);

/*
 * Guest memory made by us (VRAM): allocated once, mapped once, moved in the guest's address space
 * with its BAR. Accesses of the guest to it never trap.
 */
struct vram;
#define VRAM_UNPLACED UINT64_MAX
/* size_bytes: a multiple of 4 KiB, fixed at start. NULL with errno on failure. */
struct vram *platform_vram_create(struct platform *p, size_t size_bytes);
uint8_t *vram_data(struct vram *v); /* valid until destroy, any thread may read */
size_t vram_size(const struct vram *v);
/* Puts the VRAM at guest physical address gpa (page aligned) or takes it out (VRAM_UNPLACED). 0 or
 * -errno. Refused with
 * -EBUSY where guest RAM may be. */
int vram_place(struct vram *v, uint64_t gpa);
/* Sets a bit in bitmap (LSB first, one per 4 KiB page from first_page) for each page that the GUEST
 * wrote since the last call, by itself or through strings and DMA; not for what the adapter wrote
 * through vram_data(). Only for [first_page, first_page + n). All ones on the first call, after a
 * move and when the hypervisor cannot tell. */
void vram_dirty(struct vram *v, unsigned first_page, unsigned n, uint8_t *bitmap);
/* Stops dirty tracking (no viewer): it costs the guest page faults. */
void vram_dirty_stop(struct vram *v);
void vram_destroy(struct vram *v);
