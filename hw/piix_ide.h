/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * PIIX3 IDE function (82371SB datasheet, 5.0 and 7.7): two channels at the legacy ports with up to
 * four drives, bus master DMA in BAR 4, interrupts on ISA lines 14 and 15. Loop thread only.
 */
#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"
#include "core/board.h"

enum { IDE_DRIVES = 4 };

struct ide_drive_config {
    bool present, cdrom, readonly;
    struct block *medium; /* borrowed; NULL: empty CD drive */
    const char *serial;   /* NULL: QM00001.. by index */
    unsigned index;       /* 0..3: primary master, slave, secondary master, slave */
    char id[32];          /* of the drive in QMP, e.g. "ide-5632" */
};

/* What the monitor shows of a drive. */
struct ide_drive_info {
    bool present, cdrom, tray_open, locked;
    struct block *medium; /* NULL: none */
    const char *id;
    uint16_t cylinders; /* disks: geometry, for CMOS */
    uint8_t heads, sectors;
};

struct piix_ide;
struct ata_config;

/* What a drive says of itself: the peer's identities, so that an installed guest finds the drives
 * it knows. number: of the serial number when dc has none. 0; -EINVAL: a disk without a medium. */
int ide_drive_identity(const struct ide_drive_config *dc, unsigned number, struct ata_config *cfg);

/* Creates the function at devfn. drives[i] describes drive i (drives[i].index == i when present).
 * Borrows the media: they must outlive the board or be taken out first. 0 or -errno; -EINVAL: a
 * disk without a medium. */
int piix_ide_create(struct board *b, uint8_t devfn,
                    const struct ide_drive_config drives[IDE_DRIVES], struct piix_ide **out);

/* Drive 0..3. False when there is no such drive. */
bool piix_ide_info(const struct piix_ide *ide, unsigned drive, struct ide_drive_info *info);
/* The drive with this QMP id, or -ENODEV. */
int piix_ide_find(const struct piix_ide *ide, const char *id);

/* Puts a medium (borrowed) into a CD drive and closes the tray: the guest sees a unit attention and
 * a media event. NULL takes it out and leaves the tray as it is. Waits for a request in flight on
 * the old medium, which the caller may close afterwards. 0 or -ENODEV (no CD drive). */
int piix_ide_set_medium(struct piix_ide *ide, unsigned drive, struct block *medium);
/* Opens the tray and takes the medium out (the caller closes it); fine for an empty drive. When the
 * guest has locked the tray: -EBUSY and the guest gets an eject request, unless force. -ENODEV: no
 * CD drive. */
int piix_ide_eject(struct piix_ide *ide, unsigned drive, bool force);
/* Opens or closes the tray of a CD drive, medium and all. As piix_ide_eject() when the guest has
 * locked it. */
int piix_ide_move_tray(struct piix_ide *ide, unsigned drive, bool open, bool force);
/* fn(opaque, drive, open) is called when a tray moves, by the guest or by the functions above. */
void piix_ide_on_tray(struct piix_ide *ide, void (*fn)(void *opaque, unsigned drive, bool open),
                      void *opaque);

/* PV unplug protocol: flushes and detaches every disk, but for drive 0 when keep_primary_master; CD
 * drives and the controller stay, and are reset. The callers of piix_ide_create() may then close
 * the disks' images. */
void piix_ide_unplug(struct piix_ide *ide, bool keep_primary_master);
