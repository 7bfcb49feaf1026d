/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line: the input is the arguments, separated by newlines. What is accepted must hold the promises of
 * core/options.h; what is refused must have a one-line message.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_ARGS = 128 };

static void require(bool fact)
{
    if (!fact) {
        abort();
    }
}

static void check_line(const char *err)
{
    require(err[0] != '\0');
    for (; *err; err++) {
        require((unsigned char)*err >= 0x20);
    }
}

static void check_accepted(const struct options *o)
{
    bool slots[256] = {[0] = true, [8] = true};

    require(o->domid >= 1 && o->domid <= 0x7fef && o->vcpus_online >= 1 && o->vcpus_online <= o->vcpus_max &&
            o->vcpus_max <= OPTIONS_MAX_VCPUS && o->mem_mib >= 1);
    require(strlen(o->boot_order) < sizeof(o->boot_order));
    for (unsigned i = 0; i < o->drive_count; i++) {
        const struct option_drive *d = &o->drives[i];

        require(d->id && d->drive_id && d->format && (d->path || d->cdrom));
        require(d->bus != OPTION_BUS_IDE || d->index < 4);
        require(d->bus != OPTION_BUS_AHCI || (d->index < 6 && o->ahci.present));
        for (unsigned j = 0; j < i; j++) {
            require(d->bus == OPTION_BUS_OTHER || d->bus != o->drives[j].bus || d->index != o->drives[j].index);
        }
    }
    for (unsigned i = 0; i < o->nic_count; i++) {
        require(!slots[o->nics[i].devfn] && o->nics[i].model);
        slots[o->nics[i].devfn] = true;
    }
    if (o->xen_platform) {
        require(!slots[o->xen_platform_devfn]);
        slots[o->xen_platform_devfn] = true;
    }
    if (o->vga.kind != OPTION_VGA_NONE) {
        require(!slots[o->vga.devfn] && o->vga.model);
    }
    for (unsigned i = 0; i < o->qmp_count; i++) {
        require(o->qmp[i].id && !o->qmp[i].path == (o->qmp[i].fd >= 0));
    }
    if (o->vnc.enabled) {
        require(!o->vnc.host == !!o->vnc.unix_path && o->vnc.display >= 0 && o->vnc.display <= 59635);
        require(o->vnc.to < 0 || o->vnc.to >= o->vnc.display);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char program[] = "hvm-dm";
    char *text = malloc(size + 1);
    char *argv[MAX_ARGS] = {program};
    char err[300] = "";
    struct options o;
    int argc = 1;
    int rc;

    memcpy(text, data, size);
    text[size] = '\0';
    for (char *at = text; at && argc < MAX_ARGS; argc++) {
        char *end = strchr(at, '\n');

        argv[argc] = at;
        at = end ? end + 1 : NULL;
        if (end) {
            *end = '\0';
        }
    }
    rc = options_parse(&o, argc, argv, err, sizeof(err));
    require(rc == 0 || rc == OPTIONS_HELP || rc == OPTIONS_VERSION || rc == -EINVAL);
    if (rc == 0) {
        require(err[0] == '\0');
        check_accepted(&o);
        rc = options_check_supported(&o, err, sizeof(err));
        require(rc == 0 || rc == -ENOTSUP);
        rc = rc == 0 ? 0 : -EINVAL;
    }
    if (rc == -EINVAL) {
        check_line(err);
    }
    options_free(&o);
    free(text);
    return 0;
}
