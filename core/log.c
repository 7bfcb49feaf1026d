/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    LOG_LINE_MAX = 1024,
    LOG_DEFAULT_LIMIT = 1048576, /* bytes, libxl's default for XEN_QEMU_CONSOLE_LIMIT */
    LOG_RESERVE = 256,           /* kept for the last line */
    LIMIT_BURST = 5,
};
static const uint64_t limit_interval_ns = 10000000000ull;

bool log_trace_any;

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t log_left = LOG_DEFAULT_LIMIT;
static char log_trace_names[256];

void log_init(void)
{
    const char *limit = getenv("XEN_QEMU_CONSOLE_LIMIT");
    const char *names = getenv("HVM_DM_TRACE");

    if (limit != NULL && limit[0] != '\0') {
        char *end;
        unsigned long long v = strtoull(limit, &end, 10);

        /* 0 is the documented spelling of "no limit". */
        if (*end == '\0') {
            log_left = v == 0 ? UINT64_MAX : v;
        }
    }
    if (names != NULL && names[0] != '\0') {
        snprintf(log_trace_names, sizeof(log_trace_names), ",%s,", names);
        log_trace_any = true;
    }
}

/* Writes one whole line in one write(), so that lines of several threads do not mix. */
static void log_line(const char *prefix, const char *fmt, va_list ap)
{
    char buf[LOG_LINE_MAX];
    int n = snprintf(buf, sizeof(buf), "hvm-dm: %s", prefix);
    int m = vsnprintf(buf + n, sizeof(buf) - (size_t)n - 1, fmt, ap);
    size_t len;

    if (m < 0) {
        return;
    }
    len = strlen(buf);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)buf[i] < 0x20 || buf[i] == 0x7f) {
            buf[i] = '?'; /* one line stays one line, whatever a path or a peer's name holds */
        }
    }
    buf[len++] = '\n';
    pthread_mutex_lock(&log_lock);
    if (log_left <= len + LOG_RESERVE) {
        static const char last[] = "hvm-dm: log limit reached, the rest is dropped\n";

        if (log_left > 0) {
            log_left = 0;
            (void)!write(STDERR_FILENO, last, sizeof(last) - 1);
        }
    } else {
        log_left -= len;
        (void)!write(STDERR_FILENO, buf, len);
    }
    pthread_mutex_unlock(&log_lock);
}

void log_msg(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_line("", fmt, ap);
    va_end(ap);
}

/* Whether a line may pass now; *dropped gets the number suppressed since the last one. */
static bool limit_pass(struct log_limit *limit, uint32_t *dropped)
{
    struct timespec ts;
    uint64_t now;
    bool pass;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    now = (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
    pthread_mutex_lock(&log_lock);
    pass = limit->used < LIMIT_BURST || now >= limit->next_ns;
    if (pass) {
        limit->used++;
        limit->next_ns = now + limit_interval_ns;
        *dropped = limit->dropped;
        limit->dropped = 0;
    } else {
        limit->dropped++;
    }
    pthread_mutex_unlock(&log_lock);
    return pass;
}

void log_limited(struct log_limit *limit, const char *fmt, ...)
{
    char prefix[48] = "";
    uint32_t dropped;
    va_list ap;

    if (!limit_pass(limit, &dropped)) {
        return;
    }
    if (dropped > 0) {
        snprintf(prefix, sizeof(prefix), "(%u like this dropped) ", dropped);
    }
    va_start(ap, fmt);
    log_line(prefix, fmt, ap);
    va_end(ap);
}

void log_guest(struct log_limit *limit, const char *who, const char *text, size_t len)
{
    char clean[LOG_LINE_MAX / 2];
    size_t n = len < sizeof(clean) - 1 ? len : sizeof(clean) - 1;

    for (size_t i = 0; i < n; i++) {
        clean[i] = text[i] >= 0x20 && text[i] <= 0x7e ? text[i] : '?';
    }
    clean[n] = '\0';
    log_limited(limit, "%s: %s", who, clean);
}

void log_trace(const char *dev, const char *event, const char *fmt, ...)
{
    char name[64];
    char prefix[128];
    va_list ap;

    snprintf(name, sizeof(name), ",%s,", dev);
    if (strcmp(log_trace_names, ",all,") != 0 && strstr(log_trace_names, name) == NULL) {
        return;
    }
    snprintf(prefix, sizeof(prefix), "%s %s: ", dev, event);
    va_start(ap, fmt);
    log_line(prefix, fmt, ap);
    va_end(ap);
}
