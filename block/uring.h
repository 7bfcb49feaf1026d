/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * An io_uring of a loop thread: requests are gathered during a turn of the loop and handed to the
 * kernel together; completions come back through a watch. At most URING_DEPTH requests are with the
 * kernel, so its queues cannot overflow. Loop thread only.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum { URING_DEPTH = 64 };

struct loop;
struct uring;

/* done(arg, cookie, result) is called once for each request: a count of bytes or -errno. -ECANCELED
 * and -EAGAIN: the kernel did not carry it out, do it in another way. It may start requests, reap, destroy.
 * 0, or -errno when the kernel has no io_uring for us (ENOSYS, EPERM, ENOMEM, ...). */
int uring_create(struct uring **out, struct loop *loop,
                 void (*done)(void *arg, void *cookie, int result), void *arg);
/* Nothing may be in flight. NULL is fine. May be called in done(). */
void uring_destroy(struct uring *u);

/* These start a request; false: no room now (or, uring_broken(), ever again). iov has cnt entries; a
 * single one is copied, several must stay until the completion. rw_flags: RWF_*. */
bool uring_readv(struct uring *u, int fd, const struct iovec *iov, int cnt, uint64_t offset_bytes,
                 void *cookie);
bool uring_writev(struct uring *u, int fd, const struct iovec *iov, int cnt, uint64_t offset_bytes,
                  int rw_flags, void *cookie);
bool uring_fdatasync(struct uring *u, int fd, void *cookie);
/* fallocate() that punches a hole and keeps the size. */
bool uring_punch(struct uring *u, int fd, uint64_t offset_bytes, uint64_t length_bytes,
                 void *cookie);

/* Hands over what was started, now instead of at the end of the turn. */
void uring_submit(struct uring *u);
/* The kernel has refused to take requests; what it had refused ended with -ECANCELED. */
bool uring_broken(const struct uring *u);

/* Number of requests started and not done. */
unsigned uring_in_flight(const struct uring *u);
/* Readable when a request is done. Not to be read. */
int uring_fd(const struct uring *u);
/* Calls done() for every request that is done. For waiting outside the loop, after uring_submit().
 */
void uring_reap(struct uring *u);
