/* SPDX-License-Identifier: GPL-2.0-or-later */
/* core/platform.h and core/guestmem.h on struct platform of harness.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/harness.h"

struct vram {
    struct platform *plat;
    uint8_t *data;
    size_t size;
    uint64_t gpa;
    bool tracking;
};

void platform_isa_irq(struct platform *p, unsigned irq, bool level)
{
    if (irq >= 16 || irq == 0 || irq == 8) {
        abort(); /* the PIT's and the RTC's lines belong to Xen */
    }
    p->isa_rises[irq] += level && !p->isa[irq];
    p->isa[irq] = level;
}

void platform_pci_intx(struct platform *p, unsigned slot, unsigned pin, bool level)
{
    if (slot > 31 || pin > 3) {
        abort();
    }
    p->intx[slot][pin] = level;
}

void platform_pci_link(struct platform *p, unsigned link, unsigned irq)
{
    if (link > 3 || irq > 15) {
        abort();
    }
    p->pci_link[link] = irq;
}

void platform_msi(struct platform *p, uint64_t addr, uint32_t data)
{
    unsigned i = p->msi_count++ % HARNESS_MSI_LOG;

    p->msi[i].addr = addr;
    p->msi[i].data = data;
}

int platform_map_range(struct platform *p, bool mmio, uint64_t first, uint64_t last)
{
    (void)mmio, (void)first, (void)last;
    p->map_calls++;
    return 0;
}

void platform_unmap_range(struct platform *p, bool mmio, uint64_t first, uint64_t last)
{
    (void)mmio, (void)first, (void)last;
    p->unmap_calls++;
}

int platform_map_pci(struct platform *p, unsigned devfn)
{
    (void)p, (void)devfn;
    return 0;
}

void platform_unmap_pci(struct platform *p, unsigned devfn)
{
    (void)p, (void)devfn;
}

void platform_shutdown(struct platform *p, enum platform_shutdown reason)
{
    if (p->shutdown_reason < 0) {
        p->shutdown_reason = (int)reason;
    }
}

void platform_acpi_s_state(struct platform *p, unsigned state)
{
    p->s_state = state;
}

int platform_set_readonly(struct platform *p, uint64_t gfn, unsigned n, bool readonly)
{
    p->last_readonly.gfn = gfn;
    p->last_readonly.n = n;
    p->last_readonly.readonly = readonly;
    return 0;
}

/* ---- VRAM: guest writes go straight to vram_data() in tests, so every page counts as written ---- */

struct vram *platform_vram_create(struct platform *p, size_t size_bytes)
{
    struct vram *v = calloc(1, sizeof(*v));

    if (v == NULL) {
        return NULL;
    }
    v->data = harness_pages(size_bytes);
    v->plat = p;
    v->size = size_bytes;
    v->gpa = VRAM_UNPLACED;
    return v;
}

uint8_t *vram_data(struct vram *v)
{
    return v->data;
}

size_t vram_size(const struct vram *v)
{
    return v->size;
}

int vram_place(struct vram *v, uint64_t gpa)
{
    if (v->plat->fail_vram_place) {
        return -EBUSY;
    }
    v->gpa = v->plat->vram_gpa = gpa;
    v->tracking = false;
    return 0;
}

void vram_dirty(struct vram *v, unsigned first_page, unsigned n, uint8_t *bitmap)
{
    (void)first_page;
    memset(bitmap, v->plat->vram_untouched ? 0 : 0xff, (n + 7) / 8);
    v->tracking = true;
}

void vram_dirty_stop(struct vram *v)
{
    v->tracking = false;
}

void vram_destroy(struct vram *v)
{
    if (v != NULL) {
        harness_pages_free(v->data, v->size);
        free(v);
    }
}

/* ---- guest memory: struct guestmem is the platform's RAM ---- */

static struct platform *platform_of(struct guestmem *m)
{
    return (struct platform *)(void *)m;
}

/* Bytes from gpa to the end of the kind of memory it is in, at most len; *ram says which kind. */
static size_t run_at(uint64_t gpa, size_t len, bool *ram)
{
    uint64_t end;

    *ram = gpa < 0xa0000 || (gpa >= 0xc0000 && gpa < HARNESS_RAM_SIZE);
    end = gpa < 0xa0000            ? 0xa0000
          : gpa < 0xc0000          ? 0xc0000
          : gpa < HARNESS_RAM_SIZE ? HARNESS_RAM_SIZE
                                   : (gpa | 0xfff) + 1;
    if (end != 0 && end - gpa < len) {
        len = (size_t)(end - gpa);
    }
    return len;
}

void *guestmem_span(struct guestmem *m, uint64_t gpa, size_t len, size_t *got)
{
    bool ram;

    *got = run_at(gpa, len, &ram);
    if (!ram) {
        uint64_t page_left = 4096 - (gpa & 4095);

        *got = *got < page_left ? *got : (size_t)page_left;
        return NULL;
    }
    return platform_of(m)->ram + gpa;
}

void guestmem_hold(struct guestmem *m)
{
    platform_of(m)->holds++;
}

void guestmem_release(struct guestmem *m)
{
    if (platform_of(m)->holds-- == 0) {
        abort(); /* a release without a hold is a bug in the device under test */
    }
}

void guestmem_dirtied(struct guestmem *m, uint64_t gpa, size_t len)
{
    (void)m, (void)gpa, (void)len;
}
