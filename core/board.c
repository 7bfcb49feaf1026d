/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/board.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/pci.h"

enum { NAME_MAX_LEN = 32, SCI_IRQ = 9 };

static void isa_irq_set(void *opaque, unsigned n, bool level)
{
    struct board *b = opaque;

    platform_isa_irq(b->plat, n, level);
}

int board_init(struct board *b, struct loop *loop, struct platform *plat, struct guestmem *mem)
{
    memset(b, 0, sizeof(*b));
    b->loop = loop;
    b->plat = plat;
    b->mem = mem;
    for (unsigned i = 0; i < 16; i++) {
        b->isa_irq[i] =
            (struct irq_line){.set = isa_irq_set, .opaque = b, .n = i, .always = i == SCI_IRQ};
    }
    b->bus = bus_create(plat);
    b->pci = pci_bus_create();
    if (b->bus == NULL || b->pci == NULL) {
        board_fini(b);
        return -ENOMEM;
    }
    return 0;
}

void board_fini(struct board *b)
{
    /* The list is in creation order; destroying from its end is quadratic in twenty devices. */
    while (b->devices != NULL) {
        struct device_entry **e = &b->devices;
        struct device_entry *last;

        while ((*e)->next != NULL) {
            e = &(*e)->next;
        }
        last = *e;
        *e = NULL;
        last->ops->destroy(last->dev);
        free(last);
    }
    pci_bus_destroy(b->pci);
    bus_destroy(b->bus);
    b->pci = NULL;
    b->bus = NULL;
}

static struct device_entry *entry_create(const struct device_ops *ops, void *dev)
{
    struct device_entry *e = calloc(1, sizeof(*e));

    if (e != NULL) {
        e->ops = ops;
        e->dev = dev;
    }
    return e;
}

static void entry_append(struct board *b, struct device_entry *e)
{
    struct device_entry **p = &b->devices;

    while (*p != NULL) {
        p = &(*p)->next;
    }
    *p = e;
}

int board_add_device(struct board *b, const struct device_ops *ops, void *dev)
{
    return board_add_pair(b, ops, dev, NULL, NULL);
}

int board_add_pair(struct board *b, const struct device_ops *ops, void *dev,
                   const struct device_ops *ops2, void *dev2)
{
    struct device_entry *e = entry_create(ops, dev);
    struct device_entry *e2 = ops2 != NULL ? entry_create(ops2, dev2) : NULL;

    if (e == NULL || (ops2 != NULL && e2 == NULL)) {
        free(e);
        free(e2);
        return -ENOMEM;
    }
    entry_append(b, e);
    ops->reset(dev);
    if (e2 != NULL) {
        e->pair = true;
        entry_append(b, e2);
        ops2->reset(dev2);
    }
    return 0;
}

/* Takes the entry at *p off the list and destroys its device. */
static void entry_remove(struct device_entry **p)
{
    struct device_entry *e = *p;

    *p = e->next;
    e->ops->destroy(e->dev);
    free(e);
}

void board_remove_device(struct board *b, const void *dev)
{
    struct device_entry **p = &b->devices;

    while (*p != NULL && (*p)->dev != dev) {
        p = &(*p)->next;
    }
    if (*p == NULL) {
        return;
    }
    if ((*p)->pair) { /* the second one goes first, as at the end of the board */
        entry_remove(&(*p)->next);
    }
    entry_remove(p);
}

void board_reset(struct board *b)
{
    for (struct device_entry *e = b->devices; e != NULL; e = e->next) {
        e->ops->reset(e->dev);
    }
}

/* ---- saved state: one record {name[32], instance, version, length, payload} per device ---- */

/* The device's number among those of its kind: it can change when one before it is removed. */
static uint32_t entry_number(const struct board *b, const struct device_entry *e)
{
    uint32_t n = 0;

    for (const struct device_entry *o = b->devices; o != e; o = o->next) {
        n += strcmp(o->ops->name, e->ops->name) == 0;
    }
    return n;
}

static void record_header(struct save_stream *s, char name[NAME_MAX_LEN], uint32_t *instance,
                          uint32_t *version, uint32_t *length)
{
    save_bytes(s, name, NAME_MAX_LEN);
    save_u32(s, instance);
    save_u32(s, version);
    save_u32(s, length);
}

int board_save(struct board *b, struct save_stream *s)
{
    for (struct device_entry *e = b->devices; e != NULL && s->error == 0; e = e->next) {
        char name[NAME_MAX_LEN] = "";
        uint32_t instance = entry_number(b, e);
        uint32_t version = e->ops->version;
        uint32_t length;
        struct save_stream body;
        int ret;

        save_init(&body);
        ret = e->ops->state(e->dev, &body);
        if (ret == 0) {
            memcpy(name, e->ops->name, strnlen(e->ops->name, NAME_MAX_LEN - 1));
            length = (uint32_t)body.len;
            record_header(s, name, &instance, &version, &length);
            save_bytes(s, body.data, body.len);
        } else {
            s->error = ret;
        }
        save_free(&body);
    }
    return s->error;
}

/* Records come in the order of the devices: the same command line makes the same board. */
int board_load(struct board *b, struct save_stream *s)
{
    for (struct device_entry *e = b->devices; e != NULL; e = e->next) {
        char name[NAME_MAX_LEN];
        const uint32_t expected = entry_number(b, e);
        uint32_t instance = 0;
        uint32_t version = 0;
        uint32_t length = 0;
        struct save_stream body;
        int ret;

        record_header(s, name, &instance, &version, &length);
        if (s->error != 0 || length > s->len - s->pos) {
            log_msg("saved state: ends before the record of %s", e->ops->name);
            return -EINVAL;
        }
        name[NAME_MAX_LEN - 1] = '\0';
        if (strcmp(name, e->ops->name) != 0 || instance != expected) {
            log_msg("saved state: has another device where this guest has %s %u", e->ops->name,
                    expected);
            return -EINVAL;
        }
        if (version == 0 || version > e->ops->version) {
            log_msg("saved state: record of %s has version %u, this build knows %u", e->ops->name,
                    version, e->ops->version);
            return -EINVAL;
        }
        save_init_load(&body, s->data + s->pos, length);
        body.version = version;
        ret = e->ops->state(e->dev, &body);
        if (ret != 0 || body.error != 0 || body.pos != body.len) {
            log_msg("saved state: record of %s %u is not valid", e->ops->name, expected);
            return -EINVAL;
        }
        s->pos += length;
    }
    if (s->pos != s->len) {
        log_msg("saved state: has more devices than this guest");
        return -EINVAL;
    }
    return 0;
}
