/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * CD media at run time: the QMP commands eject, blockdev-change-medium, blockdev-open-tray,
 * blockdev-close-tray and blockdev-remove-medium, and the event DEVICE_TRAY_MOVED. The one part of
 * the monitor that knows drives (hw/piix_ide.h). Toolstack contract 5, cd-insert and cd-eject. Loop
 * thread only.
 */
#include <stdbool.h>

#include "block/block.h"
#include "hw/piix_ide.h"
#include "monitor/qmp.h"

struct qmp_media_drive {
    /* Set by the owner. */
    bool present, cdrom;
    const char *device;    /* id of the drive, "ide-5632" */
    const char *qdev;      /* id of the device: libxl's "id" argument */
    const char *path;      /* of the first medium, or NULL */
    const char *format;    /* of the first medium */
    struct block **medium; /* where the owner keeps the medium and closes it at the end */
    /* Ours. */
    char *new_path, *new_format; /* of a later medium */
    bool changed;
    struct block_stats gone;  /* counts of media that have left */
    struct block_stats total; /* what qmp_media_describe() lends */
};

struct qmp_media {
    struct qmp *q;
    struct loop *loop;
    struct piix_ide *ide;
    struct qmp_media_drive drives[IDE_DRIVES]; /* by index in struct piix_ide */
};

/* Adds the commands to q; loop, ide and what the drives point to are borrowed and outlive q's last
 * command. 0 or -ENOSPC. */
int qmp_media_init(struct qmp_media *m, struct qmp *q, struct loop *loop, struct piix_ide *ide);
/* Frees what belongs to m; the media stay their owner's. After qmp_destroy(). */
void qmp_media_fini(struct qmp_media *m);
/* Fills in what query-block and query-blockstats show of drive `index`: tray, medium and counts,
 * over all its media. Strings live until the medium changes. */
void qmp_media_describe(struct qmp_media *m, unsigned index, struct qmp_block *out);
