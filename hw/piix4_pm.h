/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include <stdbool.h>

struct board;

struct piix4_pm_config {
    bool com1, com2, lpt1; /* devices that exist: firmware reads this in registers 0x5f and 0x67 */
    bool
        sci_fixed; /* SCI_EN is up from reset and port 0xb2 leaves it alone (machine "pc"); else 0xb2 sets it ("xenfv") */
    /* The guest asked for a sleep state; called after PM1a_CNT was stored and before Xen is told.
     * May be NULL. state: 3 (S3) or 5 (power off). */
    void (*sleep)(void *opaque, unsigned state);
    void *opaque;
};

/* Creates the 82371AB power management function 00:01.3, its PM register block (which moves with
 * PMBA) and the APM ports 0xb2/0xb3. Xen itself answers PM1a_EVT and the timer once hvmloader has
 * set the block up. 0, or -errno with the board unchanged. Source: Intel 82371AB (PIIX4) datasheet,
 * function 3. */
int piix4_pm_create(struct board *b, const struct piix4_pm_config *cfg);
