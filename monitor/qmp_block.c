/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CD media at run time; see qmp_block.h. */
#include "monitor/qmp_block.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "monitor/qmp_priv.h"

static struct qmp_media_drive *find(struct qmp_media *m, struct json_object *args, unsigned *index,
                                    struct qmp_error *e)
{
    const char *device = qmp_arg_string(args, "device", NULL);
    const char *id = qmp_arg_string(args, "id", NULL);
    const char *name = device != NULL ? device : id;

    if ((device == NULL) == (id == NULL)) {
        qmp_fail(e, QMP_GENERIC_ERROR, "Need exactly one of 'device' and 'id'");
        return NULL;
    }
    for (unsigned i = 0; i < IDE_DRIVES; i++) {
        struct qmp_media_drive *d = &m->drives[i];

        if (!d->present || strcmp(device != NULL ? d->device : d->qdev, name) != 0) {
            continue;
        }
        if (!d->cdrom) {
            qmp_fail(e, QMP_GENERIC_ERROR, "Device '%.100s' is not removable", name);
            return NULL;
        }
        *index = i;
        return d;
    }
    qmp_fail(e, QMP_DEVICE_NOT_FOUND, "Device '%.100s' not found", name);
    return NULL;
}

static void add_stats(struct block_stats *sum, const struct block_stats *s)
{
    sum->rd_bytes += s->rd_bytes;
    sum->wr_bytes += s->wr_bytes;
    sum->rd_operations += s->rd_operations;
    sum->wr_operations += s->wr_operations;
    sum->flush_operations += s->flush_operations;
}

/* The drive has let go of its medium: close it and remember its counts. */
static void forget_medium(struct qmp_media_drive *d)
{
    if (*d->medium != NULL) {
        add_stats(&d->gone, block_get_stats(*d->medium));
        block_close(*d->medium);
        *d->medium = NULL;
    }
    free(d->new_path);
    free(d->new_format);
    d->new_path = d->new_format = NULL;
    d->changed = true;
}

static int eject(struct qmp_media *m, unsigned index, bool force, struct qmp_error *e)
{
    struct qmp_media_drive *d = &m->drives[index];

    if (piix_ide_eject(m->ide, index, force) == -EBUSY) {
        return qmp_fail(e, QMP_GENERIC_ERROR,
                        "The guest has locked the tray of '%.100s'; it has been asked to eject: "
                        "try again when it has, or use force",
                        d->device);
    }
    forget_medium(d);
    return 0;
}

static int cmd_eject(struct qmp *q, void *opaque, struct json_object *args,
                     struct json_object **result, struct qmp_error *e)
{
    unsigned index;

    (void)q, (void)result;
    if (find(opaque, args, &index, e) == NULL) {
        return -1;
    }
    return eject(opaque, index, qmp_arg_bool(args, "force", false), e);
}

/* The image's own name behind "/dev/fdset/N": libxl notes it as "FORMAT:PATH" with the descriptor,
 * and libxenstat compares it with the PV node's. */
static const char *shown_path(struct qmp *q, const char *filename, const char *format)
{
    const char *note = qmp_fdset_opaque(q, filename);
    size_t n = strlen(format);

    if (note != NULL && strncmp(note, format, n) == 0 && note[n] == ':' && note[n + 1] != '\0') {
        return note + n + 1;
    }
    return filename;
}

/* Opens the image for a CD drive, read-only always: the drive cannot write. */
static struct block *open_medium(struct qmp_media *m, const char *filename, const char *format,
                                 const char *name, struct qmp_error *e)
{
    struct block_config cfg = {
        .path = name, .format = format, .fd = -1, .readonly = true, .cdrom = true};

    if (strncmp(filename, "/dev/fdset/", strlen("/dev/fdset/")) == 0) {
        cfg.fd = qmp_fdset_dup(m->q, filename, O_RDONLY);
        if (cfg.fd == -EACCES) {
            cfg.fd = qmp_fdset_dup(m->q, filename, O_RDWR);
        }
        if (cfg.fd < 0) {
            qmp_fail(e, QMP_GENERIC_ERROR, "Could not open '%.100s': %s", filename,
                     strerror(-cfg.fd));
            return NULL;
        }
    }
    e->class = QMP_GENERIC_ERROR;
    struct block *b = block_open(m->loop, &cfg, e->desc, sizeof(e->desc));
    if (b == NULL && cfg.fd >= 0) {
        close(cfg.fd);
    }
    return b;
}

static int cmd_change(struct qmp *q, void *opaque, struct json_object *args,
                      struct json_object **result, struct qmp_error *e)
{
    struct qmp_media *m = opaque;
    const char *filename = qmp_arg_string(args, "filename", "");
    const char *format = qmp_arg_string(args, "format", "raw"); /* never probed */
    const char *mode = qmp_arg_string(args, "read-only-mode", "retain");
    unsigned index;
    struct qmp_media_drive *d = find(m, args, &index, e);

    (void)result;
    if (d == NULL) {
        return -1;
    }
    if (strcmp(mode, "retain") != 0 && strcmp(mode, "read-only") != 0 &&
        strcmp(mode, "read-write") != 0) {
        return qmp_fail(e, QMP_GENERIC_ERROR,
                        "Parameter 'read-only-mode' does not accept value '%.100s'", mode);
    }
    const char *name = shown_path(q, filename, format);
    struct block *medium = open_medium(m, filename, format, name, e);
    if (medium == NULL) {
        return -1;
    }
    char *new_path = strdup(name), *new_format = strdup(format);
    int rc = new_path == NULL || new_format == NULL
                 ? qmp_fail(e, QMP_GENERIC_ERROR, "out of memory")
                 : eject(m, index, qmp_arg_bool(args, "force", false), e);
    if (rc < 0) {
        free(new_path);
        free(new_format);
        block_close(medium);
        return -1;
    }
    d->new_path = new_path;
    d->new_format = new_format;
    *d->medium = medium;
    (void)piix_ide_set_medium(m->ide, index, medium);
    return 0;
}

static int cmd_open_tray(struct qmp *q, void *opaque, struct json_object *args,
                         struct json_object **result, struct qmp_error *e)
{
    struct qmp_media *m = opaque;
    unsigned index;

    (void)q, (void)result;
    if (find(m, args, &index, e) == NULL) {
        return -1;
    }
    /* A locked tray is not an error here: the guest is asked, an event tells when it has opened. */
    (void)piix_ide_move_tray(m->ide, index, true, qmp_arg_bool(args, "force", false));
    return 0;
}

static int cmd_close_tray(struct qmp *q, void *opaque, struct json_object *args,
                          struct json_object **result, struct qmp_error *e)
{
    struct qmp_media *m = opaque;
    unsigned index;

    (void)q, (void)result;
    if (find(m, args, &index, e) == NULL) {
        return -1;
    }
    (void)piix_ide_move_tray(m->ide, index, false, false);
    return 0;
}

static int cmd_remove(struct qmp *q, void *opaque, struct json_object *args,
                      struct json_object **result, struct qmp_error *e)
{
    struct qmp_media *m = opaque;
    struct ide_drive_info info;
    unsigned index;
    struct qmp_media_drive *d = find(m, args, &index, e);

    (void)q, (void)result;
    if (d == NULL) {
        return -1;
    }
    if (piix_ide_info(m->ide, index, &info) && !info.tray_open) {
        return qmp_fail(e, QMP_GENERIC_ERROR, "The tray of '%.100s' is not open", d->device);
    }
    (void)piix_ide_set_medium(m->ide, index, NULL);
    forget_medium(d);
    return 0;
}

static const struct qmp_command commands[] = {
    {"eject", "device:s?,id:s?,force:b?", cmd_eject},
    {"blockdev-change-medium", "device:s?,id:s?,filename:s,format:s?,read-only-mode:s?,force:b?",
     cmd_change},
    {"blockdev-open-tray", "device:s?,id:s?,force:b?", cmd_open_tray},
    {"blockdev-close-tray", "device:s?,id:s?", cmd_close_tray},
    {"blockdev-remove-medium", "device:s?,id:s?", cmd_remove},
    {NULL, NULL, NULL},
};

/* The guest or a command has moved a tray. */
static void tray_moved(void *opaque, unsigned drive, bool open)
{
    struct qmp_media *m = opaque;
    struct json_object *data = json_object_new_object();

    json_object_object_add(data, "device", qmp_text(m->drives[drive].device));
    json_object_object_add(data, "id", qmp_text(m->drives[drive].qdev));
    json_object_object_add(data, "tray-open", json_object_new_boolean(open));
    qmp_event(m->q, "DEVICE_TRAY_MOVED", json_object_to_json_string(data));
    json_object_put(data);
}

int qmp_media_init(struct qmp_media *m, struct qmp *q, struct loop *loop, struct piix_ide *ide)
{
    m->q = q;
    m->loop = loop;
    m->ide = ide;
    piix_ide_on_tray(ide, tray_moved, m);
    return qmp_add_commands(q, commands, m);
}

void qmp_media_fini(struct qmp_media *m)
{
    if (m->ide != NULL) {
        piix_ide_on_tray(m->ide, NULL, NULL);
    }
    for (unsigned i = 0; i < IDE_DRIVES; i++) {
        free(m->drives[i].new_path);
        free(m->drives[i].new_format);
    }
    memset(m, 0, sizeof(*m));
}

void qmp_media_describe(struct qmp_media *m, unsigned index, struct qmp_block *out)
{
    struct qmp_media_drive *d = &m->drives[index];
    struct ide_drive_info info = {0};

    (void)piix_ide_info(m->ide, index, &info);
    out->removable = d->cdrom;
    out->locked = info.locked;
    out->tray_open = info.tray_open;
    out->inserted = info.medium != NULL;
    out->path = d->changed ? d->new_path : d->path;
    out->format = d->changed ? d->new_format : d->format;
    out->size_bytes = info.medium != NULL ? block_size_bytes(info.medium) : 0;
    d->total = d->gone;
    if (info.medium != NULL) {
        add_stats(&d->total, block_get_stats(info.medium));
    }
    out->stats = &d->total;
}
