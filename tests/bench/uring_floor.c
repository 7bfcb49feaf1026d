/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The floor of the storage benchmarks: a process that does nothing but read or write a file through
 * io_uring, one request at a time, as a drive without command queueing does.
 *
 *   uring_floor FILE r|w seq|rand BYTES_PER_REQUEST REQUESTS [direct] [cold]
 *
 * cold: the file is dropped from the page cache first. Answer: one line, ns= per request, cpu= ns
 * per request of this process.
 */
#include <fcntl.h>
#include <liburing.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int one(struct io_uring *ring, int fd, bool write, void *buf, unsigned bytes, uint64_t at)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    struct io_uring_cqe *cqe;
    if (write) {
        io_uring_prep_write(sqe, fd, buf, bytes, at);
    } else {
        io_uring_prep_read(sqe, fd, buf, bytes, at);
    }
    if (io_uring_submit_and_wait(ring, 1) < 0 || io_uring_peek_cqe(ring, &cqe) != 0) {
        return -1;
    }
    int res = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    return res;
}

int main(int argc, char **argv)
{
    bool direct = false, cold = false;
    struct io_uring ring;
    struct stat st;
    void *buf;
    if (argc < 6) {
        fprintf(stderr, "usage: uring_floor FILE r|w seq|rand BYTES REQUESTS [direct] [cold]\n");
        return 2;
    }
    for (int i = 6; i < argc; i++) {
        direct |= strcmp(argv[i], "direct") == 0;
        cold |= strcmp(argv[i], "cold") == 0;
    }
    bool write = argv[2][0] == 'w', seq = argv[3][0] == 's';
    unsigned bytes = (unsigned)strtoul(argv[4], NULL, 0), n = (unsigned)strtoul(argv[5], NULL, 0);
    int fd = open(argv[1], O_RDWR | (direct ? O_DIRECT : 0));
    if (fd < 0 || fstat(fd, &st) != 0) {
        die(argv[1]);
    }
    if (bytes == 0 || n == 0 || (uint64_t)st.st_size < bytes ||
        posix_memalign(&buf, 4096, bytes) != 0) {
        fprintf(stderr, "uring_floor: wrong sizes\n");
        return 2;
    }
    memset(buf, 0x5a, bytes);
    if (cold && (fsync(fd) != 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)) {
        die("posix_fadvise");
    }
    if (io_uring_queue_init(8, &ring, 0) != 0) {
        die("io_uring_queue_init");
    }
    uint64_t slots = (uint64_t)st.st_size / bytes, x = 88172645463325252ull;
    uint64_t start = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (unsigned i = 0; i < n; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        uint64_t at = (seq ? i % slots : x % slots) * bytes;
        if (one(&ring, fd, write, buf, bytes, at) != (int)bytes) {
            die("short transfer");
        }
    }
    printf("ns=%llu cpu=%llu\n", (unsigned long long)(now_ns(CLOCK_MONOTONIC) - start) / n,
           (unsigned long long)(now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu) / n);
    return 0;
}
