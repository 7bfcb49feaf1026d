/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * ICH9 SATA controller in AHCI mode (8086:2922; Intel ICH9 datasheet chapter 15, AHCI 1.3.1): six
 * ports with a hard disk or a CD drive each, 32 command slots, queued commands, registers in BAR 5
 * and through an index/data pair in BAR 4, INTA or one MSI. xl: hdtype="ahci". Loop thread only.
 */
#include <stdbool.h>
#include <stdint.h>

#include "hw/piix_ide.h" /* what a drive is, and what the monitor shows of it */

enum { AHCI_PORTS = 6 };

struct ahci;

/* Creates the controller at devfn; drives[i] is at port i (drives[i].index == i when present).
 * Borrows the media: they must outlive the board or be taken out first. 0 or -errno; -EINVAL: a
 * disk without a medium. */
int ahci_create(struct board *b, uint8_t devfn, const struct ide_drive_config drives[AHCI_PORTS],
                struct ahci **out);

/* Drive at port 0..5. False when there is no such drive. */
bool ahci_info(const struct ahci *a, unsigned drive, struct ide_drive_info *info);

/* PV unplug protocol: flushes and detaches every disk, but for the one at port 0 when keep_first;
 * to the guest, their cables are pulled. The caller may then close the disks' images. */
void ahci_unplug(struct ahci *a, bool keep_first);
