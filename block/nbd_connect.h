/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Connections to NBD servers: where to, and the handshake. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/nbd_lib.h"

/* A target, taken apart; the strings are in one allocation. */
struct nbd_target {
    char *uri;         /* nbd://..., nbd+unix://..., else: */
    char *socket;      /* nbd:unix:PATH, else: */
    char *host, *port; /* nbd:HOST:PORT; HOST may be in brackets */
    char *export_name; /* "" is the server's default */
    char *text;
};

/* 0, or -errno with a one-line reason (without the target). */
int nbd_target_parse(struct nbd_target *t, const char *path, char *err, size_t errlen);
void nbd_target_free(struct nbd_target *t);

/* What a server offers. */
struct nbd_offer {
    uint64_t size_bytes;
    uint32_t min_bytes; /* a power of two: requests are whole ones of it, aligned */
    uint32_t max_bytes; /* a multiple of min_bytes */
    bool readonly, can_flush, can_fua, can_trim;
};

/* Connects and negotiates; blocks, at most timeout_ms and what resolving the name takes. NULL with a
 * one-line reason in err. Any thread. */
struct nbd_handle *nbd_connect(const struct nbd_lib *lib, const struct nbd_target *t,
                               unsigned timeout_ms, struct nbd_offer *offer, char *err,
                               size_t errlen);

/* nbd_connect() in a thread of its own, which outlives its owner if need be. */
struct nbd_attempt;

/* NULL when there is no thread or memory. */
struct nbd_attempt *nbd_attempt_start(const struct nbd_lib *lib, const char *path,
                                      unsigned timeout_ms);
/* Readable when the attempt is over. */
int nbd_attempt_fd(const struct nbd_attempt *a);
/* Only when it is over: the result, as of nbd_connect(). */
struct nbd_handle *nbd_attempt_take(struct nbd_attempt *a, struct nbd_offer *offer, char *err,
                                    size_t errlen);
/* At any time; NULL is fine. Does not wait. */
void nbd_attempt_drop(struct nbd_attempt *a);

/* CLOCK_MONOTONIC. */
uint64_t nbd_now_ns(void);
