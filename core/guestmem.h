/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * DMA access to guest RAM. Mapped in large pieces on first use and kept; dropped when Xen says
 * INVALIDATE. Addresses are hostile: whatever is not RAM reads as ones and ignores writes. DMA
 * never reaches a device region. Spans come from ioreq/guestmem.c; unit tests link a flat array
 * (tests/unit/platform_fake.c). Loop thread only.
 */
#include <stddef.h>
#include <stdint.h>

struct guestmem;

void guestmem_read(struct guestmem *m, uint64_t gpa, void *buf, size_t len);
void guestmem_write(struct guestmem *m, uint64_t gpa, const void *buf, size_t len);

/* The longest host-contiguous piece of RAM at gpa, at most len bytes: *got its length (>= 1). NULL
 * if the page at gpa is not RAM (*got: bytes to the end of that page, at most len). The pointer is
 * good until the handler returns, or, between guestmem_hold() and guestmem_release(), until the
 * release. The guest may write to it at any time. */
void *guestmem_span(struct guestmem *m, uint64_t gpa, size_t len, size_t *got);

/* Keeps spans valid across loop turns for asynchronous I/O. Calls nest. */
void guestmem_hold(struct guestmem *m);
void guestmem_release(struct guestmem *m);

/* Says that [gpa, gpa+len) was written through a span (guestmem_write() does it itself): for
 * log-dirty migration. */
void guestmem_dirtied(struct guestmem *m, uint64_t gpa, size_t len);
