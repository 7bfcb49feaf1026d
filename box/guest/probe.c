/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest program of the test CD.
 *   probe ports N                 median time of N reads of some I/O ports, as the guest sees it
 *   probe garbage SECS SEED ALL   random writes to the board's ports, PCI registers and memory BARs
 *   probe disk DEVICE read|write seq|random BYTES SECS   requests of that size, one at a time, past the guest's page cache
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <glob.h>
#include <linux/cdrom.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Prints "PORT median_ns min_ns" for each port; 0x5f0 belongs to nobody, so Xen itself answers it. */
static int ports(size_t n)
{
    static const uint16_t list[] = {0x1f7, 0x64, 0x3fd, 0x3da, 0x5f0};
    uint64_t *t = calloc(n, sizeof(*t));

    if (!t || n == 0)
        return 1;
    for (size_t p = 0; p < sizeof(list) / sizeof(*list); p++) {
        for (size_t i = 0; i < n; i++) {
            uint64_t start = now_ns();

            (void)inb(list[p]);
            t[i] = now_ns() - start;
        }
        qsort(t, n, sizeof(*t), by_value);
        printf("0x%x %llu %llu\n", list[p], (unsigned long long)t[n / 2], (unsigned long long)t[0]);
    }
    free(t);
    return 0;
}

static uint64_t seed;

static uint32_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 16);
}

struct range {
    uint16_t first, count;
};

/* Fixed ports of the board; the relocatable ones are found in sysfs. */
static const struct range fixed[] = {
    {0x00, 0x10}, {0x60, 1}, {0x64, 1}, {0x80, 0x10}, {0x92, 1}, {0xb2, 2}, {0xc0, 0x20}, {0x170, 8}, {0x376, 1},
    {0x1f0, 8}, {0x3f6, 1}, {0x2e8, 8}, {0x3b0, 0x10}, {0x3c0, 0x20}, {0x3f8, 8}, {0x4d0, 2}, {0x510, 12},
    {0x11, 3}, {0xb000, 0x40}, {0xb100, 0x10}, {0xafe0, 8}, {0xae00, 0x20}, {0xcf8, 8}, {0x402, 1}, {0xe9, 1},
};

/* What would end the test rather than test: resets, power-off, unplug, the line we report on. */
static int ends_the_guest(uint16_t port, uint32_t value)
{
    return (port == 0x64 && (value & 0xf0) == 0xf0) || (port == 0x92 && (value & 1)) || port == 0xcf9 ||
           (port == 0xcf8 || port == 0xcfa || port == 0xcfb) || (port >= 0xb000 && port <= 0xb005) || port == 0x10 || port == 0xb2 ||
           (port >= 0x3f8 && port <= 0x3ff);
}

static void write_port(uint16_t port, int all)
{
    uint32_t value = rnd();
    unsigned size = rnd() % 3;

    if (!all && (ends_the_guest(port, value) || (size && ends_the_guest((uint16_t)(port & ~3u), value))))
        return;
    if (rnd() % 4 == 0) {
        (void)(size == 0 ? inb(port) : size == 1 ? inw(port) : inl(port));
        return;
    }
    if (size == 0)
        outb((uint8_t)value, port);
    else if (size == 1)
        outw((uint16_t)value, port);
    else
        outl(value, port);
    if (rnd() % 64 == 0) {
        static uint16_t block[512];

        if (rnd() & 1)
            insw(port, block, rnd() % 512);
        else
            outsw(port, block, rnd() % 512);
    }
}

static void write_config(int all)
{
    uint32_t reg = rnd() % 64 * 4, dev = rnd() % 8, fn = rnd() % 4;

    /* BARs, command and bridge windows only on demand: with them most guests die in the first second. */
    if (!all && (reg == 4 || (reg >= 0x10 && reg < 0x28) || reg == 0x30 || (dev == 1 && fn == 3)))
        return;
    outl(0x80000000u | dev << 11 | fn << 8 | reg, 0xcf8);
    if (rnd() & 1)
        outl(rnd(), 0xcfc);
    else
        outb((uint8_t)rnd(), (uint16_t)(0xcfc + rnd() % 4));
}

struct bar {
    volatile uint8_t *mem;
    size_t size;
    uint16_t port;
    uint16_t ports;
};

static size_t find_bars(struct bar *bars, size_t max)
{
    size_t n = 0;
    glob_t g;

    if (glob("/sys/bus/pci/devices/*/resource[0-6]", 0, NULL, &g) != 0)
        return 0;
    for (size_t i = 0; i < g.gl_pathc && n < max; i++) {
        char *name = g.gl_pathv[i], list[256];
        unsigned index = (unsigned)(name[strlen(name) - 1] - '0');
        unsigned long long start = 0, end = 0, flags = 0;
        struct stat st;
        FILE *f;
        int fd;

        snprintf(list, sizeof(list), "%.*s", (int)strlen(name) - 1, name);
        f = fopen(list, "r");
        for (unsigned line = 0; f && line <= index; line++)
            if (fscanf(f, "%llx %llx %llx", &start, &end, &flags) != 3)
                flags = 0;
        if (f)
            fclose(f);
        if (flags & 0x100) {
            bars[n].port = (uint16_t)start;
            bars[n++].ports = (uint16_t)(end - start + 1);
        } else if ((flags & 0x200) && index < 6 && (fd = open(name, O_RDWR)) >= 0 && fstat(fd, &st) == 0) {
            void *m = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

            close(fd);
            if (m != MAP_FAILED) {
                bars[n].mem = m;
                bars[n++].size = (size_t)st.st_size;
            }
        }
    }
    globfree(&g);
    return n;
}

static void write_bar(const struct bar *b, int all)
{
    if (b->ports) {
        write_port((uint16_t)(b->port + rnd() % b->ports), all);
    } else if (b->size) {
        size_t at = (((size_t)rnd() << 8) ^ rnd()) % b->size;

        if (rnd() & 1)
            b->mem[at] = (uint8_t)rnd();
        else
            *(volatile uint32_t *)(b->mem + (at & ~(size_t)3)) = rnd();
    }
}

static int garbage(unsigned secs, uint64_t start_seed, int all)
{
    static struct bar bars[32];
    size_t n = find_bars(bars, 32);
    uint64_t end = now_ns() + (uint64_t)secs * 1000000000u;
    uint64_t writes = 0;

    seed = start_seed * 0x9e3779b97f4a7c15u + 1;
    printf("GUEST: garbage: %zu BARs, seed %llu\n", n, (unsigned long long)start_seed);
    fflush(stdout);
    /* VGA's legacy window */
    int fd = open("/dev/mem", O_RDWR);
    void *vga = fd < 0 ? MAP_FAILED : mmap(NULL, 0x20000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0xa0000);

    while (now_ns() < end) {
        for (int i = 0; i < 200; i++, writes++) {
            const struct range *r = &fixed[rnd() % (sizeof(fixed) / sizeof(*fixed))];

            switch (rnd() % 8) {
            case 0: write_config(all); break;
            case 1: if (n) write_bar(&bars[rnd() % n], all); break;
            case 2: if (vga != MAP_FAILED) ((volatile uint8_t *)vga)[rnd() % 0x20000] = (uint8_t)rnd(); break;
            default: write_port((uint16_t)(r->first + rnd() % r->count), all);
            }
        }
    }
    printf("GUEST: garbage ends, %llu accesses\n", (unsigned long long)writes);
    return 0;
}

/* Opens or closes a CD drive's tray, as eject(1) does; busybox has none here. */
static int tray(const char *device, int request)
{
    int fd = open(device, O_RDONLY | O_NONBLOCK);
    if (fd < 0 || (request == CDROMEJECT && ioctl(fd, CDROM_LOCKDOOR, 0) != 0) || ioctl(fd, request, 0) != 0) {
        perror(device);
        return 1;
    }
    return close(fd);
}

/* Prints "disk: N requests in NS ns". */
static int disk(const char *device, int write, int random, size_t bytes, unsigned secs)
{
    uint64_t size = 0, count = 0, start, now;
    void *buf = NULL;
    int fd = open(device, (write ? O_RDWR : O_RDONLY) | O_DIRECT);

    if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) != 0 || bytes == 0 || size < bytes || posix_memalign(&buf, 4096, bytes) != 0) {
        perror(device);
        return 1;
    }
    memset(buf, 0x5a, bytes);
    seed = 88172645463325252ull;
    for (start = now = now_ns(); now - start < (uint64_t)secs * 1000000000u; count++, now = now_ns()) {
        uint64_t at = (random ? rnd() : count) % (size / bytes) * bytes;
        ssize_t n = write ? pwrite(fd, buf, bytes, (off_t)at) : pread(fd, buf, bytes, (off_t)at);

        if (n != (ssize_t)bytes) {
            perror(device);
            return 1;
        }
    }
    printf("disk: %llu requests in %llu ns\n", (unsigned long long)count, (unsigned long long)(now - start));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 7 && strcmp(argv[1], "disk") == 0)
        return disk(argv[2], strcmp(argv[3], "write") == 0, strcmp(argv[4], "random") == 0, strtoul(argv[5], NULL, 0),
                    (unsigned)strtoul(argv[6], NULL, 0));
    if (argc == 3 && strcmp(argv[1], "eject") == 0)
        return tray(argv[2], CDROMEJECT);
    if (argc == 3 && strcmp(argv[1], "load") == 0)
        return tray(argv[2], CDROMCLOSETRAY);
    if (iopl(3) != 0) {
        perror("iopl");
        return 1;
    }
    if (argc == 3 && strcmp(argv[1], "ports") == 0)
        return ports(strtoul(argv[2], NULL, 0));
    if (argc == 5 && strcmp(argv[1], "garbage") == 0)
        return garbage((unsigned)strtoul(argv[2], NULL, 0), strtoull(argv[3], NULL, 0), atoi(argv[4]));
    fprintf(stderr, "usage: probe ports N | probe garbage SECS SEED ALL | probe eject|load DEVICE | "
                    "probe disk DEVICE read|write seq|random BYTES SECS\n");
    return 1;
}
