/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* libnbd, loaded when the first network target is opened: linked, it would bring some twenty libraries
 * to every start. The members are its functions without "nbd_". */
#include <libnbd.h>
#include <stdbool.h>
#include <stddef.h>

#define NBD_FUNCTIONS(F)                                                                           \
    F(create)                                                                                      \
    F(close)                                                                                       \
    F(get_error)                                                                                   \
    F(set_export_name)                                                                             \
    F(supports_uri)                                                                                \
    F(aio_connect_uri)                                                                             \
    F(aio_connect_unix)                                                                            \
    F(aio_connect_tcp)                                                                             \
    F(poll)                                                                                        \
    F(aio_is_ready)                                                                                \
    F(aio_is_dead)                                                                                 \
    F(aio_is_closed)                                                                               \
    F(get_size)                                                                                    \
    F(get_block_size)                                                                              \
    F(is_read_only)                                                                                \
    F(can_flush)                                                                                   \
    F(can_fua)                                                                                     \
    F(can_trim)                                                                                    \
    F(aio_pread)                                                                                   \
    F(aio_pwrite)                                                                                  \
    F(aio_flush)                                                                                   \
    F(aio_trim)                                                                                    \
    F(aio_disconnect)                                                                              \
    F(aio_get_fd)                                                                                  \
    F(aio_get_direction)                                                                           \
    F(aio_notify_read)                                                                             \
    F(aio_notify_write)

struct nbd_lib {
#define F(name) __typeof__(&nbd_##name) name;
    NBD_FUNCTIONS(F)
#undef F
};

/* The library; NULL with a one-line reason (no file name in it) when it is missing or too old. */
const struct nbd_lib *nbd_lib_load(char *err, size_t errlen);
