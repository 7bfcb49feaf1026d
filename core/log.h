/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Log and trace. All output goes to stderr, which libxl points at the append-only
 * qemu-dm-<name>.log. The total volume of one process is bounded (XSA-180, XEN_QEMU_CONSOLE_LIMIT,
 * default 1 MiB): when the bound is reached one last line says so and everything after it is
 * dropped. Text that a guest controls goes through log_guest(), which also makes it printable. Any
 * thread may call these.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads XEN_QEMU_CONSOLE_LIMIT (bytes) and HVM_DM_TRACE (comma-separated device names or "all").
 * Call once, first. */
void log_init(void);

/* One line about the host or our configuration; "hvm-dm: " is put before it and a newline after it.
 * */
void log_msg(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Like log_msg() for messages that a guest or a peer can provoke: each struct log_limit lets
 * `burst` lines through, then one more every 10 s, and counts what it dropped. Define one static
 * limit per call site. */
struct log_limit {
    uint64_t next_ns;
    uint32_t used;
    uint32_t dropped;
};
void log_limited(struct log_limit *limit, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Logs len bytes of guest-made text as one rate-limited line "<who>: <text>"; bytes outside
 * 0x20..0x7e become '?'. */
void log_guest(struct log_limit *limit, const char *who, const char *text, size_t len);

/* Trace: off unless HVM_DM_TRACE names dev. `event` and the format are static text. */
extern bool log_trace_any;
void log_trace(const char *dev, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#define trace(dev, event, ...)                                                                     \
    do {                                                                                           \
        if (__builtin_expect(log_trace_any, 0)) {                                                  \
            log_trace(dev, event, __VA_ARGS__);                                                    \
        }                                                                                          \
    } while (0)
