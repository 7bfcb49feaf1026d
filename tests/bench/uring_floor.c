/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The floor of the storage benchmarks: a process that does nothing but read or write a file through
 * io_uring, with the memory, the positions and the requests in flight that the device model has in
 * the same row.
 *
 *   uring_floor FILE r|w BYTES PART PIECE TURNS [direct] [cold] < POSITIONS
 *
 * A request of BYTES bytes is given to the kernel as parts of PART bytes, all of them at once, each
 * with pieces of PIECE bytes; the next one follows when all have come back. The memory is a shared
 * mapping of a memfd, as guest RAM is, pinned to the CPU that the device model has. Standard input:
 * the byte offsets of requests, one a line; all of them are done TURNS times, after two times that
 * are not counted. cold: once, after the file has been dropped from the page cache. Answer: one line,
 * med= and mean= ns per request, cpu= ns per request of this process.
 */
#include <fcntl.h>
#include <liburing.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PARTS_MAX = 64, PIECES_MAX = 64, POSITIONS_MAX = 4096, WARM_TURNS = 2 };

struct floor {
    struct io_uring ring;
    int fd;
    bool write;
    unsigned bytes, part, piece;
    uint8_t *memory;
    struct iovec iov[PARTS_MAX][PIECES_MAX];
};

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

static void submit_part(struct floor *f, unsigned i, unsigned len, uint64_t at)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&f->ring);
    unsigned n = 0;

    for (unsigned done = 0; done < len; n++) {
        unsigned size = f->piece < len - done ? f->piece : len - done;
        f->iov[i][n] = (struct iovec){f->memory + (size_t)i * f->part + done, size};
        done += size;
    }
    if (n == 1 && f->write) {
        io_uring_prep_write(sqe, f->fd, f->iov[i][0].iov_base, len, at);
    } else if (n == 1) {
        io_uring_prep_read(sqe, f->fd, f->iov[i][0].iov_base, len, at);
    } else if (f->write) {
        io_uring_prep_writev(sqe, f->fd, f->iov[i], n, at);
    } else {
        io_uring_prep_readv(sqe, f->fd, f->iov[i], n, at);
    }
    io_uring_sqe_set_data64(sqe, len);
}

static void request(struct floor *f, uint64_t at)
{
    struct io_uring_cqe *cqe;
    unsigned parts = 0;

    for (unsigned done = 0; done < f->bytes; done += f->part, parts++) {
        submit_part(f, parts, f->part < f->bytes - done ? f->part : f->bytes - done, at + done);
    }
    if (io_uring_submit_and_wait(&f->ring, parts) < 0) {
        die("io_uring_submit_and_wait");
    }
    for (; parts > 0; parts--) {
        if (io_uring_wait_cqe(&f->ring, &cqe) != 0 || cqe->res != (int)cqe->user_data) {
            fprintf(stderr, "uring_floor: short transfer\n");
            exit(1);
        }
        io_uring_cqe_seen(&f->ring, cqe);
    }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Does all requests `turns` times and prints what they took. */
static void measure(struct floor *f, const uint64_t *at, unsigned count, unsigned turns, bool cold)
{
    uint64_t n = (uint64_t)count * turns, *took = calloc(n, sizeof(*took)), sum = 0;

    if (took == NULL) {
        die("calloc");
    }
    for (unsigned i = 0; !cold && i < count * WARM_TURNS; i++) {
        request(f, at[i % count]);
    }
    uint64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t start = now_ns(CLOCK_MONOTONIC);
        request(f, at[i % count]);
        took[i] = now_ns(CLOCK_MONOTONIC) - start;
        sum += took[i];
    }
    cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    qsort(took, n, sizeof(took[0]), by_value);
    printf("med=%llu mean=%llu cpu=%llu\n", (unsigned long long)took[n / 2],
           (unsigned long long)(sum / n), (unsigned long long)(cpu / n));
    free(took);
}

/* Memory as a guest's, all of it touched. */
static uint8_t *guest_memory(size_t len)
{
    int fd = memfd_create("floor", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)len) != 0) {
        die("memfd_create");
    }
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        die("mmap");
    }
    memset(p, 0x5a, len);
    close(fd);
    return p;
}

int main(int argc, char **argv)
{
    static struct floor f;
    static uint64_t at[POSITIONS_MAX];
    bool direct = false, cold = false;
    unsigned count = 0;
    cpu_set_t cpu;
    if (argc < 7) {
        fprintf(stderr, "usage: uring_floor FILE r|w BYTES PART PIECE TURNS [direct] [cold]\n");
        return 2;
    }
    for (int i = 7; i < argc; i++) {
        direct |= strcmp(argv[i], "direct") == 0;
        cold |= strcmp(argv[i], "cold") == 0;
    }
    f.write = argv[2][0] == 'w';
    f.bytes = (unsigned)strtoul(argv[3], NULL, 0);
    f.part = (unsigned)strtoul(argv[4], NULL, 0);
    f.piece = (unsigned)strtoul(argv[5], NULL, 0);
    unsigned turns = (unsigned)strtoul(argv[6], NULL, 0);
    unsigned long long position;
    while (count < POSITIONS_MAX && scanf("%llu", &position) == 1) {
        at[count++] = position;
    }
    if (f.bytes == 0 || f.piece == 0 || f.part < f.piece || turns == 0 || count == 0 ||
        (f.bytes + f.part - 1) / f.part > PARTS_MAX || f.part > f.piece * PIECES_MAX) {
        fprintf(stderr, "uring_floor: wrong sizes\n");
        return 2;
    }
    CPU_ZERO(&cpu);
    CPU_SET(0, &cpu);
    f.fd = open(argv[1], O_RDWR | (direct ? O_DIRECT : 0));
    if (f.fd < 0 || sched_setaffinity(0, sizeof(cpu), &cpu) != 0) {
        die(argv[1]);
    }
    f.memory = guest_memory((size_t)f.bytes + f.part);
    if (io_uring_queue_init(PARTS_MAX, &f.ring, 0) != 0) {
        die("io_uring_queue_init");
    }
    measure(&f, at, count, turns, cold);
    return 0;
}
