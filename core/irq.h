/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * An interrupt line as a value object: the device sets a level, the line remembers it and passes on
 * changes only. Xen counts nothing for us: each pass is a hypercall, so an unchanged level must
 * cost nothing. IRQ 9 is the exception (`always`): Xen's own PM1 logic drives the same bit and can
 * drop our level (contract hypervisor.md 2.2).
 */
#include <stdbool.h>

struct irq_line {
    void (*set)(void *opaque, unsigned n, bool level);
    void *opaque;
    unsigned n;
    bool level;
    bool always;
};

static inline void irq_set(struct irq_line *line, bool level)
{
    if (line->level == level && !(line->always && level)) {
        return;
    }
    line->level = level;
    line->set(line->opaque, line->n, level);
}

/* A falling and rising edge when the line is up already, a rising edge otherwise. */
static inline void irq_pulse(struct irq_line *line)
{
    irq_set(line, false);
    irq_set(line, true);
}
