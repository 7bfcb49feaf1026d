/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>

enum { GUARD_BYTES = 1 << 16, RECORD_HEADER = 32 + 3 * 4 };

uint8_t *harness_pages(size_t bytes)
{
    uint8_t *p = mmap(NULL, bytes + 2 * GUARD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED || mprotect(p + GUARD_BYTES, bytes, PROT_READ | PROT_WRITE) != 0) {
        abort();
    }
    return p + GUARD_BYTES;
}

void harness_pages_free(uint8_t *pages, size_t bytes)
{
    munmap(pages - GUARD_BYTES, bytes + 2 * GUARD_BYTES);
}

struct harness *harness_create(void)
{
    struct harness *h = calloc(1, sizeof(*h));

    if (h == NULL || (h->loop = loop_create(true)) == NULL) {
        abort();
    }
    h->plat.ram = harness_pages(HARNESS_RAM_SIZE);
    h->plat.shutdown_reason = -1;
    if (board_init(&h->board, h->loop, &h->plat, (struct guestmem *)(void *)&h->plat) != 0) {
        abort();
    }
    return h;
}

void harness_destroy(struct harness *h)
{
    board_fini(&h->board);
    loop_destroy(h->loop);
    harness_pages_free(h->plat.ram, HARNESS_RAM_SIZE);
    free(h);
}

uint32_t harness_in(struct harness *h, uint16_t port, unsigned size)
{
    return (uint32_t)bus_read(h->board.bus, BUS_PORT, port, size);
}

void harness_out(struct harness *h, uint16_t port, unsigned size, uint32_t value)
{
    bus_write(h->board.bus, BUS_PORT, port, size, value);
}

uint64_t harness_read(struct harness *h, uint64_t gpa, unsigned size)
{
    return bus_read(h->board.bus, BUS_MMIO, gpa, size);
}

void harness_write(struct harness *h, uint64_t gpa, unsigned size, uint64_t value)
{
    bus_write(h->board.bus, BUS_MMIO, gpa, size, value);
}

uint32_t harness_pci_read(struct harness *h, uint8_t devfn, unsigned reg, unsigned size)
{
    return pci_config_read(h->board.pci, devfn, reg, size);
}

void harness_pci_write(struct harness *h, uint8_t devfn, unsigned reg, unsigned size, uint32_t value)
{
    pci_config_write(h->board.pci, devfn, reg, size, value);
}

void harness_step(struct harness *h, uint64_t ns)
{
    loop_advance(h->loop, ns);
    loop_poll(h->loop, 0);
}

/* Says which device's record byte `at` of a saved board lies in: name, instance, version, length, body (core/board.c). */
static void report_difference(const uint8_t *data, size_t len, size_t at)
{
    size_t pos = 0;

    while (pos + RECORD_HEADER <= len) {
        uint32_t body;

        memcpy(&body, data + pos + RECORD_HEADER - 4, sizeof(body));
        if (at < pos + RECORD_HEADER + body) {
            fprintf(stderr, "harness: %.32s differs after load, byte %zd of %u of its state\n", (const char *)data + pos,
                    (ssize_t)(at - pos) - RECORD_HEADER, body);
            return;
        }
        pos += RECORD_HEADER + body;
    }
    fprintf(stderr, "harness: saved state differs in length\n");
}

bool harness_transfer(struct harness *from, struct harness *to)
{
    struct save_stream first;
    struct save_stream in;
    struct save_stream second;
    bool equal;

    save_init(&first);
    save_init(&second);
    equal = board_save(&from->board, &first) == 0;
    save_init_load(&in, first.data, first.len);
    equal = equal && board_load(&to->board, &in) == 0;
    equal = equal && board_save(&to->board, &second) == 0;
    if (!equal) {
        fprintf(stderr, "harness: state refused\n");
    } else {
        size_t at = 0;

        while (at < first.len && at < second.len && first.data[at] == second.data[at]) {
            at++;
        }
        equal = at == first.len && at == second.len;
        if (!equal) {
            report_difference(first.data, first.len, at);
        }
    }
    save_free(&first);
    save_free(&second);
    return equal;
}

bool harness_save_load_save(struct harness *h)
{
    return harness_transfer(h, h);
}

bool harness_spoil_state(struct harness *h, unsigned bit_step, void (*live)(int n))
{
    struct save_stream s;
    unsigned accepted = 0;
    bool good;

    save_init(&s);
    good = board_save(&h->board, &s) == 0;
    for (size_t i = RECORD_HEADER; good && i < s.len; i++) {
        for (unsigned bit = 0; good && bit < 8; bit += bit_step) {
            struct save_stream in;

            s.data[i] ^= (uint8_t)(1u << bit);
            save_init_load(&in, s.data, s.len);
            if (board_load(&h->board, &in) == 0) {
                accepted++;
                live((int)i);
                good = harness_save_load_save(h);
            }
            s.data[i] ^= (uint8_t)(1u << bit);
        }
    }
    save_free(&s);
    return good && accepted > 0;
}
