/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "monitor/qmp_screen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "monitor/qmp_priv.h"
#include "ui/screenshot.h"

static int save(struct qmp *q, struct display *d, const char *name, enum screenshot_format format)
{
    int fd, rc;
    FILE *f;

    if (strncmp(name, "/dev/fdset/", strlen("/dev/fdset/")) != 0) {
        return screenshot_save(d, name, format);
    }
    fd = qmp_fdset_dup(q, name, O_WRONLY);
    if (fd < 0) {
        fd = qmp_fdset_dup(q, name, O_RDWR);
    }
    f = fd < 0 ? NULL : fdopen(fd, "w");
    if (f == NULL) {
        rc = fd < 0 ? fd : -errno;
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    rc = screenshot_write(d, f, format);
    if (fclose(f) != 0 && rc == 0) {
        rc = -errno;
    }
    return rc;
}

static int cmd_screendump(struct qmp *q, void *opaque, struct json_object *args,
                          struct json_object **result, struct qmp_error *e)
{
    const char *name = qmp_arg_string(args, "filename", "");
    const char *format = qmp_arg_string(args, "format", "ppm");
    bool png = strcmp(format, "png") == 0;
    int rc;

    (void)result;
    if (!png && strcmp(format, "ppm") != 0) {
        return qmp_fail(e, QMP_GENERIC_ERROR,
                        "Parameter 'format' does not accept value '%.50s'; it is ppm or png",
                        format);
    }
    rc = save(q, opaque, name, png ? SCREENSHOT_PNG : SCREENSHOT_PPM);
    if (rc < 0) {
        return qmp_fail(e, QMP_GENERIC_ERROR, "failed to open or write file '%.150s': %s", name,
                        strerror(-rc));
    }
    return 0;
}

static const struct qmp_command commands[] = {
    {"screendump", "filename:s,format:s?", cmd_screendump},
    {NULL, NULL, NULL},
};

int qmp_screen_init(struct qmp *q, struct display *display)
{
    return qmp_add_commands(q, commands, display);
}
