/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of guest memory access that is the same on Xen and in tests: copies, made of spans. */
#include "core/guestmem.h"

#include <stdint.h>
#include <string.h>

void guestmem_read(struct guestmem *m, uint64_t gpa, void *buf, size_t len)
{
    uint8_t *out = buf;

    while (len > 0) {
        size_t n;
        const uint8_t *p = guestmem_span(m, gpa, len, &n);

        if (p != NULL) {
            memcpy(out, p, n);
        } else {
            memset(out, 0xff, n);
        }
        out += n;
        gpa += n;
        len -= n;
    }
}

void guestmem_write(struct guestmem *m, uint64_t gpa, const void *buf, size_t len)
{
    const uint8_t *in = buf;

    guestmem_dirtied(m, gpa, len);
    while (len > 0) {
        size_t n;
        uint8_t *p = guestmem_span(m, gpa, len, &n);

        if (p != NULL) {
            memcpy(p, in, n);
        }
        in += n;
        gpa += n;
        len -= n;
    }
}
