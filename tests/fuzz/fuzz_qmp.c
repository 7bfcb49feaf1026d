/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The QMP server against a hostile client. The first byte chooses the fragmentation and whether to negotiate first; the
 * rest is what the client sends; there is a USB bus to plug things into. Whatever it is, every line of output must be a
 * JSON object that another parser accepts.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/loop.h"
#include "core/options.h"
#include "hw/acpi_gpe.h"
#include "hw/board_usb.h"
#include "monitor/qmp.h"
#include "monitor/qmp_usb.h"
#include "tests/unit/harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *env_status(void *opaque)
{
    return *(const char **)opaque;
}

static int env_cont(void *opaque, char *err, size_t errlen)
{
    (void)err, (void)errlen;
    *(const char **)opaque = "running";
    return 0;
}

static int env_stop(void *opaque, char *err, size_t errlen)
{
    (void)err, (void)errlen;
    *(const char **)opaque = "paused";
    return 0;
}

static void env_quit(void *opaque)
{
    (void)opaque;
}

static void env_vnc_info(void *opaque, struct qmp_vnc *out)
{
    (void)opaque, (void)out;
}

static int env_vnc_set_password(void *opaque, const char *password, char *err, size_t errlen)
{
    (void)opaque;
    snprintf(err, errlen, "no: %s", password);
    return -1;
}

static bool env_chardev(void *opaque, unsigned i, struct qmp_chardev *out)
{
    (void)opaque;
    *out = (struct qmp_chardev){"serial0", "pty:/dev/pts/\xff", true};
    return i == 0;
}

static bool env_block(void *opaque, unsigned i, struct qmp_block *out)
{
    (void)opaque;
    *out = (struct qmp_block){.device = "ide-768", .qdev = "ide-768", .inserted = true, .path = "/a", .format = "raw"};
    return i == 0;
}

/* An abstract socket: nothing on disk, one per process. */
static int listen_abstract(struct sockaddr_un *sa, socklen_t *len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    *sa = (struct sockaddr_un){.sun_family = AF_UNIX};
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                       (size_t)snprintf(sa->sun_path + 1, sizeof(sa->sun_path) - 1, "hvm-dm-fuzz-%d", (int)getpid()));
    if (fd < 0 || bind(fd, (struct sockaddr *)sa, *len) < 0 || listen(fd, 4) < 0) {
        abort();
    }
    return fd;
}

struct output {
    char text[1 << 16];
    size_t len;
    bool overflow; /* more than fits: no longer checked */
};

static void drain(struct loop *loop, int fd, struct output *out)
{
    for (int quiet = 0; quiet < 2;) {
        ssize_t n;

        loop_poll(loop, 0);
        if (out->len == sizeof(out->text)) {
            out->len = 0;
            out->overflow = true;
        }
        n = recv(fd, out->text + out->len, sizeof(out->text) - out->len, MSG_DONTWAIT);
        if (n > 0) {
            out->len += (size_t)n;
        } else {
            quiet++;
        }
    }
}

static void check_output(const struct output *out)
{
    struct json_tokener *tok = json_tokener_new_ex(100);
    size_t at = 0;

    json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    while (!out->overflow && at < out->len) {
        const char *end = memmem(out->text + at, out->len - at, "\r\n", 2);
        struct json_object *line;

        if (!end) {
            abort();
        }
        line = json_tokener_parse_ex(tok, out->text + at, (int)(end - out->text - (ssize_t)at));
        if (!json_object_is_type(line, json_type_object)) {
            abort();
        }
        json_object_put(line);
        json_tokener_reset(tok);
        at = (size_t)(end - out->text) + 2;
    }
    json_tokener_free(tok);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct output out;
    const char *status = "prelaunch";
    struct qmp_env env = {
        &status,     "n\xc3",  1, 2, env_status, env_cont, env_stop, env_quit, env_vnc_info, env_vnc_set_password,
        env_chardev, env_block};
    static const struct options o = {.usb = true};
    const struct acpi_gpe_config gpe_cfg = {.vcpus_online = 1, .removable_slots = ~3u};
    struct harness *h = harness_create();
    struct loop *loop = h->loop;
    struct qmp *q = qmp_create(loop, &env);
    struct acpi_gpe *gpe;
    struct board_usb *usb;
    struct sockaddr_un sa;
    socklen_t len;
    char err[128];
    size_t piece;
    int fd;

    if (acpi_gpe_create(&h->board, &gpe_cfg, &gpe) != 0 ||
        board_usb_create(&h->board, &o, NULL, gpe, &usb, err, sizeof(err)) != 0 || qmp_usb_init(q, usb) != 0) {
        abort();
    }
    if (size < 1 || qmp_listen_fd(q, "fuzz", listen_abstract(&sa, &len), err, sizeof(err)) < 0) {
        qmp_destroy(q);
        harness_destroy(h);
        return 0;
    }
    out.len = 0;
    out.overflow = false;
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&sa, len) < 0) {
        abort();
    }
    drain(loop, fd, &out);
    if (data[0] & 0x80 && send(fd, "{\"execute\":\"qmp_capabilities\"}", 30, MSG_NOSIGNAL) == 30) {
        drain(loop, fd, &out);
    }
    piece = (data[0] & 0x7f) + 1u;
    for (size_t at = 1; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;

        if (send(fd, data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
            break;
        }
        drain(loop, fd, &out);
    }
    check_output(&out);
    close(fd);
    loop_poll(loop, 0);
    qmp_destroy(q);
    harness_destroy(h);
    return 0;
}
