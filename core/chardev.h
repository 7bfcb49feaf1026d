/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Character back ends for serial ports: file, pty, tcp, unix, stdio, null (QEMU's -serial
 * spellings: "pty", "file:PATH", "tcp:HOST:PORT[,server[=on]][,nowait|wait=off]",
 * "unix:PATH[,server..]", "stdio", "null", "none"). Output is buffered in a bounded ring; a peer
 * that does not read makes chardev_write() take fewer bytes, never blocks. Loop thread only.
 */
#include <stddef.h>
#include <stdint.h>

struct loop;
struct chardev;

struct chardev_client {
    /* Bytes from outside; returns how many were taken, the rest is offered again after
     * chardev_accept_input(). */
    size_t (*receive)(void *opaque, const uint8_t *data, size_t len);
    /* There is room for output again after a short write. */
    void (*writable)(void *opaque);
};

/* Opens spec; label names it in QMP ("serial0"). NULL and a one-line reason in err that names the
 * spec. */
struct chardev *chardev_open(struct loop *loop, const char *label, const char *spec, char *err,
                             size_t errlen);
void chardev_close(struct chardev *c);
void chardev_set_client(struct chardev *c, const struct chardev_client *client, void *opaque);
/* Takes up to len bytes, returns how many; 0 when the peer stalls. With nobody connected everything
 * is taken and dropped. */
size_t chardev_write(struct chardev *c, const uint8_t *data, size_t len);
void chardev_accept_input(struct chardev *c);
const char *chardev_label(const struct chardev *c);
/* As query-chardev shows it: "pty:/dev/pts/3", "file:PATH", "unix:PATH,server=on", ... */
const char *chardev_filename(const struct chardev *c);
