/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PIIX3 IDE: configuration space, bus master registers, scatter-gather, resets in the middle,
 * unplug. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/pci.h"
#include "tests/unit/ide_rig.h"

enum { LIST = 0x1000, DATA = 0x100000, READ_DMA = 0xc8, WRITE_DMA = 0xca, ACTIVE = 1, INT = 4 };

static int setup(void **state)
{
    *state = rig_create();
    return 0;
}

static int teardown(void **state)
{
    rig_destroy(*state);
    return 0;
}

static void expect_pattern(const uint8_t *p, uint64_t offset, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(p[i], block_fake_byte(offset + i));
    }
}

static void config_space(void **state)
{
    struct rig *r = *state;
    assert_int_equal(harness_pci_read(r->h, RIG_DEVFN, 0, 4), 0x70108086);
    assert_int_equal(harness_pci_read(r->h, RIG_DEVFN, 8, 4), 0x01018000);
    assert_int_equal(harness_pci_read(r->h, RIG_DEVFN, PCI_INTERRUPT_PIN, 1),
                     0); /* ISA lines, no INTx */
    harness_pci_write(r->h, RIG_DEVFN, 0x20, 4, 0xffffffff);
    assert_int_equal(harness_pci_read(r->h, RIG_DEVFN, 0x20, 4), 0xfffffff1);
    for (unsigned reg = 0x10; reg < 0x20; reg += 4) { /* the other BARs do not exist */
        harness_pci_write(r->h, RIG_DEVFN, reg, 4, 0xffffffff);
        assert_int_equal(harness_pci_read(r->h, RIG_DEVFN, reg, 4), 0);
    }
    harness_pci_write(r->h, RIG_DEVFN, 0x40, 4, 0xa307a307); /* timings keep what is written */
    assert_int_equal(harness_pci_read(r->h, RIG_DEVFN, 0x40, 4), 0xa307a307);
}

static void bus_master_registers(void **state)
{
    struct rig *r = *state;
    for (unsigned ch = 0; ch < 2; ch++) {
        unsigned base = BM_BASE + 8 * ch;
        assert_int_equal(in8(r, base), 0);
        assert_int_equal(in8(r, base + 2), 0);
        assert_int_equal(harness_in(r->h, (uint16_t)(base + 4), 4), 0);
        out8(r, base, 0xf8); /* direction only */
        assert_int_equal(in8(r, base), 0x08);
        out8(r, base + 2, 0xff); /* two writable bits, the rest is status */
        assert_int_equal(in8(r, base + 2), 0x60);
        out8(r, base + 2, 0x20);
        assert_int_equal(in8(r, base + 2), 0x20);
        harness_out(r->h, (uint16_t)(base + 4), 4, 0xffffffff);
        assert_int_equal(harness_in(r->h, (uint16_t)(base + 4), 4), 0xfffffffc);
        harness_out(r->h, (uint16_t)(base + 5), 1, 0x12);
        harness_out(r->h, (uint16_t)(base + 6), 2, 0x5634);
        assert_int_equal(harness_in(r->h, (uint16_t)(base + 4), 4), 0x563412fc);
        out8(r, base, 1);
        assert_int_equal(in8(r, base + 2) & ACTIVE, ACTIVE);
        out8(r, base, 0);
        assert_int_equal(in8(r, base + 2) & ACTIVE, 0);
    }
    assert_int_equal(harness_in(r->h, BM_BASE, 4), 0x00200000);
}

static void read_dma(void **state)
{
    struct rig *r = *state;
    prd(r, LIST, DATA, 0x1000, false);
    prd(r, LIST + 8, DATA + 0x5000, 0x800, false);
    prd(r, LIST + 16, DATA + 0x2002, 0x1000 - 0x800, true); /* not aligned to a sector */
    ata28(r, PRIMARY, READ_DMA, 77, 16);
    assert_int_equal(block_fake_log(r->disk)->reads, 0); /* nothing moves before START */
    bm_start(r, 0, LIST, true);
    assert_int_equal(bm_status(r, 0), 0x61);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    assert_int_equal(bm_status(r, 0), 0x64); /* the list is used up: not active */
    assert_true(r->h->plat.isa[14]);
    out8(r, BM_BASE + 2, 0x64); /* drivers clear both */
    assert_int_equal(in8(r, PRIMARY + 7), ATA_DRDY | ATA_DSC);
    assert_false(r->h->plat.isa[14]);
    assert_int_equal(bm_status(r, 0), 0x60);
    expect_pattern(r->h->plat.ram + DATA, 77 * 512, 0x1000);
    expect_pattern(r->h->plat.ram + DATA + 0x5000, 77 * 512 + 0x1000, 0x800);
    expect_pattern(r->h->plat.ram + DATA + 0x2002, 77 * 512 + 0x1800, 0x800);
    assert_int_equal(r->h->plat.ram[DATA + 0x2001], 0);
    assert_int_equal(r->h->plat.ram[DATA + 0x2802], 0);
    assert_int_equal(block_fake_log(r->disk)->reads, 1); /* one request, straight into guest RAM */
    assert_int_equal(block_fake_log(r->disk)->last_iovcnt, 3);
    assert_int_equal(r->h->plat.holds, 0);
}

static void start_before_command(void **state)
{
    struct rig *r = *state;
    prd(r, LIST, DATA, 0x400, true);
    bm_start(r, 0, LIST, true);
    ata28(r, PRIMARY, READ_DMA, 3, 2);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    expect_pattern(r->h->plat.ram + DATA, 3 * 512, 0x400);
}

static void write_dma(void **state)
{
    struct rig *r = *state;
    for (unsigned i = 0; i < 0x2000; i++) {
        r->h->plat.ram[DATA + i] = (uint8_t)(i * 3 + 5);
    }
    prd(r, LIST, DATA, 0x2000, true);
    ata48(r, PRIMARY, 0x35, 1000, 16);
    bm_start(r, 0, LIST, false);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    assert_memory_equal(block_fake_data(r->disk) + 1000 * 512, r->h->plat.ram + DATA, 0x2000);
    expect_pattern(block_fake_data(r->disk) + 999 * 512, 999 * 512, 512);
    expect_pattern(block_fake_data(r->disk) + 1016 * 512, 1016 * 512, 512);
}

static void count_zero_is_64k_and_merging(void **state)
{
    struct rig *r = *state;
    prd(r, LIST, DATA, 65536, false);
    prd(r, LIST + 8, DATA + 65536, 65536, true);
    ata28(r, PRIMARY, READ_DMA, 0, 256);
    bm_start(r, 0, LIST, true);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    expect_pattern(r->h->plat.ram + DATA, 0, 131072);
    assert_int_equal(block_fake_log(r->disk)->last_iovcnt, 1); /* neighbours become one piece */
    assert_int_equal(block_fake_log(r->disk)->last_length, 131072);
}

/* The write that starts a transfer is answered before anything moves: the guest computes meanwhile. */
static void start_is_answered_first(void **state)
{
    struct rig *r = *state;
    prd(r, LIST, DATA, 0x2000, true);
    for (unsigned write = 0; write < 2; write++) {
        const struct block_fake_log *log = block_fake_log(r->disk);
        ata28(r, PRIMARY, write ? WRITE_DMA : READ_DMA, 64, 16);
        bm_start(r, 0, LIST, !write);
        assert_int_equal(log->reads, write);
        assert_int_equal(log->writes, 0);
        assert_int_equal(bm_status(r, 0), 0x61);
        assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
        assert_int_equal(log->reads, 1);
        assert_int_equal(log->writes, write);
        out8(r, BM_BASE + 2, 0x64);
        bm_stop(r, 0);
    }
}

/* 1 MiB is one request where the guest's memory is in one piece, and one for 64 pages where no two
 * of them are neighbours. */
static void few_requests(void **state)
{
    struct rig *r = *state;
    for (unsigned i = 0; i < 16; i++) {
        prd(r, LIST + 8 * i, DATA + 65536 * i, 65536, i == 15);
    }
    ata48(r, PRIMARY, 0x25, 100, 2048);
    bm_start(r, 0, LIST, true);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    assert_int_equal(block_fake_log(r->disk)->reads, 1);
    assert_int_equal(block_fake_log(r->disk)->last_length, 1 << 20);
    expect_pattern(r->h->plat.ram + DATA, 100 * 512, 1 << 20);
    bm_stop(r, 0);
    for (unsigned i = 0; i < 256; i++) {
        prd(r, LIST + 8 * i, DATA + 8192 * i, 4096, i == 255);
    }
    ata48(r, PRIMARY, 0x25, 200, 2048);
    bm_start(r, 0, LIST, true);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    assert_int_equal(block_fake_log(r->disk)->reads, 1 + 256 / BLOCK_IOV_MAX);
    for (unsigned i = 0; i < 256; i++) {
        expect_pattern(r->h->plat.ram + DATA + 8192 * i, 200 * 512 + 4096 * i, 4096);
    }
}

static void large_transfer(void **state)
{
    struct rig *r = *state;
    enum { SECTORS = 12288, BYTES = SECTORS * 512 }; /* 6 MiB: over the budget of one turn */
    for (unsigned i = 0; i < BYTES / 65536; i++) {
        prd(r, LIST + 8 * i, DATA + 65536 * i, 65536, i + 1 == BYTES / 65536);
    }
    ata48(r, PRIMARY, 0x25, 100, SECTORS);
    bm_start(r, 0, LIST, true);
    unsigned turns = 0;
    while ((in8(r, PRIMARY_CONTROL) & ATA_BSY) != 0 && turns < 100) {
        loop_poll(r->h->loop, 0);
        turns++;
    }
    assert_true(turns > 3 && turns < 100);
    expect_pattern(r->h->plat.ram + DATA, 100 * 512, BYTES);
    assert_int_equal(r->h->plat.holds, 0);
}

/* More pieces per sector than an image request can carry: 2 bytes each. */
static void tiny_pieces(void **state)
{
    struct rig *r = *state;
    enum { N = 3 * 256 };
    for (unsigned i = 0; i < N; i++) {
        prd(r, LIST + 8 * i, DATA + 4 * i, 2, i == N - 1);
    }
    ata28(r, PRIMARY, READ_DMA, 9, 3);
    bm_start(r, 0, LIST, true);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    assert_int_equal(bm_status(r, 0), 0x64);
    for (unsigned i = 0; i < N; i++) {
        expect_pattern(r->h->plat.ram + DATA + 4 * i, 9 * 512 + 2 * i, 2);
        assert_int_equal(r->h->plat.ram[DATA + 4 * i + 2], 0);
    }
    bm_stop(r, 0);
    ata28(r, PRIMARY, WRITE_DMA, 30, 3);
    bm_start(r, 0, LIST, false);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    assert_memory_equal(block_fake_data(r->disk) + 30 * 512, block_fake_data(r->disk) + 9 * 512,
                        3 * 512);
    assert_int_equal(r->h->plat.holds, 0);
}

/* What can go wrong sector by sector: the image fails, the list ends. */
static void tiny_pieces_errors(void **state)
{
    struct rig *r = *state;
    static const struct {
        uint8_t command, status;
        unsigned pieces;
        int error;
    } rows[] = {
        { READ_DMA, ATA_DRDY | ATA_ERR, 600, -EIO },
        { READ_DMA, ATA_DRDY | ATA_DSC, 600, 0 },
        { WRITE_DMA, ATA_DRDY | ATA_ERR, 600, -EIO },
        { WRITE_DMA, ATA_DRDY | ATA_DSC, 600, 0 },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned k = 0; k < rows[i].pieces; k++) {
            prd(r, LIST + 8 * k, DATA + 4 * k, 2, k == rows[i].pieces - 1);
        }
        block_fake_fail(r->disk, rows[i].command == READ_DMA ? BLOCK_READ : BLOCK_WRITE, 6 * 512,
                        rows[i].error);
        ata28(r, PRIMARY, rows[i].command, 5, 3); /* needs 768 pieces */
        bm_start(r, 0, LIST, rows[i].command == READ_DMA);
        assert_int_equal(rig_wait(r, PRIMARY), rows[i].status);
        if (rows[i].error != 0) {
            assert_int_equal(in8(r, PRIMARY + 3), 6); /* exactly this sector */
        } else {
            assert_int_equal(bm_status(r, 0) & (ACTIVE | INT), 0);
        }
        assert_int_equal(in8(r, PRIMARY + 7), rows[i].status);
        assert_int_equal(r->h->plat.holds, 0);
        bm_stop(r, 0);
        out8(r, BM_BASE + 2, INT);
    }
    /* The same for raw CD sectors and replies. */
    block_fake_fail(r->cd, BLOCK_READ, 7 * 2048, -EIO);
    prd(r, LIST, DATA, 3000, true);
    packet(r, SECONDARY, (const uint8_t[12]){ 0xbe, 0, 0, 0, 0, 6, 0, 0, 2, 0xf8 }, 0, 1);
    bm_start(r, 1, LIST, true);
    assert_int_equal(rig_wait(r, SECONDARY), ATA_DRDY | ATA_ERR);
    bm_stop(r, 1);
    assert_int_equal(sense(r), 0x031100);
    block_fake_fail(r->cd, BLOCK_READ, 0, 0);
    packet(r, SECONDARY, (const uint8_t[12]){ 0xbe, 0, 0, 0, 0, 6, 0, 0, 2, 0xf8 }, 0, 1);
    bm_start(r, 1, LIST, true); /* 3000 bytes of 4704 */
    assert_int_equal(rig_wait(r, SECONDARY), ATA_DRDY | ATA_DSC);
    assert_int_equal(bm_status(r, 1) & ACTIVE, 0);
    bm_stop(r, 1);
    prd(r, LIST, DATA, 20, true);
    packet(r, SECONDARY, (const uint8_t[12]){ 0x12, 0, 0, 0, 36 }, 0, 1);
    bm_start(r, 1, LIST, true);
    assert_int_equal(rig_wait(r, SECONDARY), ATA_DRDY | ATA_DSC);
    assert_int_equal(bm_status(r, 1) & ACTIVE, 0);
}

/* 65 pieces of 1000 bytes: the 64 that fit end inside a sector. */
static void ragged_pieces(void **state)
{
    struct rig *r = *state;
    enum { N = 132, BYTES = N * 1000 - N * 1000 % 512 };
    for (unsigned i = 0; i < N; i++) {
        prd(r, LIST + 8 * i, DATA + 2000 * i, 1000, i == N - 1);
    }
    ata28(r, PRIMARY, READ_DMA, 1, BYTES / 512 > 256 ? 0 : BYTES / 512);
    bm_start(r, 0, LIST, true);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    unsigned total = BYTES / 512 > 256 ? 131072 : BYTES;
    for (unsigned i = 0; i * 1000 < total; i++) {
        unsigned n = total - i * 1000 < 1000 ? total - i * 1000 : 1000;
        expect_pattern(r->h->plat.ram + DATA + 2000 * i, 512 + 1000 * i, n);
    }
}

static void short_list(void **state)
{
    struct rig *r = *state;
    prd(r, LIST, DATA, 0x400 + 2, true);
    ata28(r, PRIMARY, READ_DMA, 5, 8);
    bm_start(r, 0, LIST, true);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    assert_int_equal(bm_status(r, 0), 0x60); /* neither active nor interrupt */
    assert_false(r->h->plat.isa[14]);
    expect_pattern(r->h->plat.ram + DATA, 5 * 512, 0x400);
    assert_int_equal(r->h->plat.holds, 0);
    out8(r, PRIMARY + 7, 0xe7); /* the drive takes commands */
    assert_int_equal(in8(r, PRIMARY + 7), ATA_DRDY | ATA_DSC);
}

static void long_list(void **state)
{
    struct rig *r = *state;
    prd(r, LIST, DATA, 0x1000, true);
    ata28(r, PRIMARY, READ_DMA, 5, 4);
    bm_start(r, 0, LIST, true);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    assert_int_equal(bm_status(r, 0), 0x65); /* interrupt, and still active */
    expect_pattern(r->h->plat.ram + DATA, 5 * 512, 4 * 512);
    assert_int_equal(r->h->plat.ram[DATA + 4 * 512], 0);
    bm_stop(r, 0);
    assert_int_equal(bm_status(r, 0), 0x64);
}

static void hostile_addresses(void **state)
{
    struct rig *r = *state;
    /* The VGA hole, past the end of RAM, the top of the address space, the list itself. */
    prd(r, LIST, 0xa0000, 0x2000, false);
    prd(r, LIST + 8, HARNESS_RAM_SIZE - 0x200, 0x400, false);
    prd(r, LIST + 16, 0xfffffe00, 0x1000, false);
    prd(r, LIST + 24, LIST, 0x1000, false);
    prd(r, LIST + 32, DATA, 0x1000, true);
    ata28(r, PRIMARY, READ_DMA, 5, 0x28);
    bm_start(r, 0, LIST, true);
    uint8_t status = rig_wait(r, PRIMARY);
    assert_true((status & ATA_BSY) == 0);
    expect_pattern(r->h->plat.ram + HARNESS_RAM_SIZE - 0x200, 5 * 512 + 0x2000, 0x200);
    assert_int_equal(r->h->plat.holds, 0);
    bm_stop(r, 0);
    /* Writes from nowhere are ones. */
    out8(r, PRIMARY_CONTROL, 4);
    out8(r, PRIMARY_CONTROL, 0);
    prd(r, LIST, 0xa0000, 0x200, true);
    ata28(r, PRIMARY, WRITE_DMA, 40, 1);
    bm_start(r, 0, LIST, false);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    assert_int_equal(block_fake_data(r->disk)[40 * 512], 0xff);
    assert_int_equal(block_fake_data(r->disk)[40 * 512 + 511], 0xff);
    /* A list outside RAM: descriptors of ones. */
    ata28(r, PRIMARY, READ_DMA, 5, 4);
    bm_start(r, 0, 0xfffffffc, true);
    (void)rig_wait(r, PRIMARY);
    assert_int_equal(r->h->plat.holds, 0);
}

static void reset_in_flight(void **state)
{
    struct rig *r = *state;
    block_fake_hold(r->disk, true);
    prd(r, LIST, DATA, 0x1000, true);
    ata28(r, PRIMARY, READ_DMA, 5, 8);
    bm_start(r, 0, LIST, true);
    harness_step(r->h, 1000);
    assert_int_equal(block_fake_waiting(r->disk), 1);
    assert_int_equal(r->h->plat.holds, 1); /* guest memory stays mapped under the request */
    bm_stop(r, 0);
    out8(r, PRIMARY_CONTROL, 4);
    out8(r, PRIMARY_CONTROL, 0);
    assert_int_equal(in8(r, PRIMARY + 7), ATA_BSY); /* until the request is over */
    assert_int_equal(r->h->plat.holds, 1);
    block_fake_run(r->disk, 1);
    assert_int_equal(r->h->plat.holds, 0);
    assert_int_equal(in8(r, PRIMARY + 7), ATA_DRDY | ATA_DSC);
    assert_false(r->h->plat.isa[14]);
    assert_int_equal(bm_status(r, 0) & (ACTIVE | INT), 0);
    block_fake_hold(r->disk, false);
    ata28(r, PRIMARY, READ_DMA, 5, 8);
    bm_start(r, 0, LIST, true);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    expect_pattern(r->h->plat.ram + DATA, 5 * 512, 0x1000);
}

static void stop_in_flight(void **state)
{
    struct rig *r = *state;
    block_fake_hold(r->disk, true);
    for (unsigned i = 0; i < 128; i++) { /* two requests of 64 pieces each */
        prd(r, LIST + 8 * i, DATA + 0x1000 * i, 512, i == 127);
    }
    ata28(r, PRIMARY, READ_DMA, 5, 128);
    bm_start(r, 0, LIST, true);
    harness_step(r->h, 1000);
    assert_int_equal(block_fake_waiting(r->disk), 1);
    bm_stop(r, 0);
    block_fake_run(r->disk, 1);
    harness_step(r->h, 1000);
    assert_int_equal(block_fake_waiting(r->disk), 0); /* no further piece moves */
    assert_false(r->h->plat.isa[14]);
    assert_int_equal(in8(r, PRIMARY_CONTROL) & ATA_BSY,
                     ATA_BSY); /* the drive waits for its reset */
    assert_int_equal(r->h->plat.ram[DATA + 0x1000 * 64], 0);
    out8(r, PRIMARY_CONTROL, 4);
    out8(r, PRIMARY_CONTROL, 0);
    assert_int_equal(in8(r, PRIMARY + 7), ATA_DRDY | ATA_DSC);
    assert_int_equal(r->h->plat.holds, 0);
}

static void board_reset_in_flight(void **state)
{
    struct rig *r = *state;
    block_fake_hold(r->disk, true);
    block_fake_hold(r->cd, true);
    prd(r, LIST, DATA, 0x1000, true);
    ata28(r, PRIMARY, READ_DMA, 5, 8);
    bm_start(r, 0, LIST, true);
    packet(r, SECONDARY, (const uint8_t[12]){ 0x28, 0, 0, 0, 0, 3, 0, 0, 1 }, 2048, 0);
    harness_step(r->h, 1000);
    board_reset(&r->h->board);
    assert_int_equal(block_fake_waiting(r->disk), 0);
    assert_int_equal(block_fake_waiting(r->cd), 0);
    assert_int_equal(r->h->plat.holds, 0);
    assert_int_equal(in8(r, PRIMARY + 7), ATA_DRDY | ATA_DSC);
    assert_false(r->h->plat.isa[14]);
    assert_false(r->h->plat.isa[15]);
}

static void destroy_in_flight(void **state)
{
    struct rig *r = rig_create();
    (void)state;
    block_fake_hold(r->disk, true);
    prd(r, LIST, DATA, 0x1000, true);
    ata28(r, PRIMARY, READ_DMA, 5, 8);
    bm_start(r, 0, LIST, true);
    harness_step(r->h, 1000);
    assert_int_equal(block_fake_waiting(r->disk), 1);
    rig_destroy(r);
}

static void dma_error(void **state)
{
    struct rig *r = *state;
    block_fake_fail(r->disk, BLOCK_READ, 7 * 512, -EIO);
    prd(r, LIST, DATA, 0x1000, true);
    ata28(r, PRIMARY, READ_DMA, 5, 8);
    bm_start(r, 0, LIST, true);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_ERR);
    assert_int_equal(in8(r, PRIMARY + 1), ATA_UNC);
    assert_int_equal(in8(r, PRIMARY + 3), 7); /* exactly this sector, what is before it has arrived */
    expect_pattern(r->h->plat.ram + DATA, 5 * 512, 2 * 512);
    assert_int_equal(r->h->plat.ram[DATA + 2 * 512], 0);
    assert_true(r->h->plat.isa[14]);
    assert_int_equal(r->h->plat.holds, 0);
    block_fake_fail(r->disk, BLOCK_WRITE, 7 * 512, -ENOSPC);
    bm_stop(r, 0);
    ata28(r, PRIMARY, WRITE_DMA, 5, 8);
    bm_start(r, 0, LIST, false);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_ERR);
    assert_int_equal(in8(r, PRIMARY + 1), ATA_ABRT);
    bm_stop(r, 0);
    block_fake_fail(r->disk, BLOCK_WRITE, 0, 0);
    ata28(r, PRIMARY, WRITE_DMA, 5, 8);
    bm_start(r, 0, LIST, false);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
}

static void trim(void **state)
{
    struct rig *r = *state;
    uint8_t *list = r->h->plat.ram + DATA;
    static const struct {
        uint32_t lba;
        uint16_t count;
    } ranges[] = { { 10, 5 }, { 0, 0 }, { 100, 1 }, { 16383, 1 } };
    for (unsigned i = 0; i < 4; i++) {
        pci_set32(list + 8 * i, 0, ranges[i].lba);
        pci_set32(list + 8 * i, 4, (uint32_t)ranges[i].count << 16);
    }
    prd(r, LIST, DATA, 512, true);
    out8(r, PRIMARY + 1, 1);
    out8(r, PRIMARY + 2, 0);
    out8(r, PRIMARY + 2, 1);
    out8(r, PRIMARY + 7, 0x06);
    assert_true(harness_save_load_save(r->h));
    bm_start(r, 0, LIST, false);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    assert_int_equal(block_fake_log(r->disk)->discards, 3);
    assert_int_equal(block_fake_data(r->disk)[10 * 512 + 1], 0);
    assert_int_equal(block_fake_data(r->disk)[14 * 512 + 511], 0);
    expect_pattern(block_fake_data(r->disk) + 15 * 512, 15 * 512, 512);
    bm_stop(r, 0);
    pci_set32(list, 0, RIG_DISK_SECTORS); /* past the end */
    out8(r, PRIMARY + 1, 1);
    out8(r, PRIMARY + 2, 0);
    out8(r, PRIMARY + 2, 1);
    out8(r, PRIMARY + 7, 0x06);
    bm_start(r, 0, LIST, false);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_ERR);
}

static void trim_saved_in_the_middle(void **state)
{
    struct rig *r = *state, *to = rig_create();
    for (unsigned i = 0; i < 4; i++) {
        pci_set32(r->h->plat.ram + DATA + 8 * i, 0, 100 * i);
        pci_set32(r->h->plat.ram + DATA + 8 * i, 4, 1u << 16);
    }
    prd(r, LIST, DATA, 512, true);
    out8(r, PRIMARY + 1, 1);
    out8(r, PRIMARY + 2, 0);
    out8(r, PRIMARY + 2, 1);
    block_fake_hold(r->disk, true);
    out8(r, PRIMARY + 7, 0x06);
    bm_start(r, 0, LIST, false);
    harness_step(r->h, 1000);
    assert_int_equal(block_fake_waiting(r->disk), 1);
    assert_true(harness_transfer(r->h, to->h));
    assert_int_equal(rig_wait(to, PRIMARY), ATA_DRDY | ATA_DSC);
    assert_int_equal(block_fake_log(r->disk)->discards + block_fake_log(to->disk)->discards, 4);
    assert_int_equal(block_fake_log(to->disk)->discards, 3);
    /* An error ends it. */
    block_fake_hold(r->disk, false);
    block_fake_fail(r->disk, BLOCK_DISCARD, 300 * 512, -EIO);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_ERR);
    rig_destroy(to);
}

static void bus_mastering_off(void **state)
{
    struct rig *r = *state;
    harness_pci_write(r->h, RIG_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO);
    prd(r, LIST, DATA, 0x400, true);
    ata28(r, PRIMARY, READ_DMA, 5, 2);
    bm_start(r, 0, LIST, true);
    harness_step(r->h, 1000000);
    assert_int_equal(r->h->plat.ram[DATA + 1], 0);
    assert_int_equal(in8(r, PRIMARY_CONTROL) & ATA_BSY, ATA_BSY);
    harness_pci_write(r->h, RIG_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    assert_int_equal(rig_wait(r, PRIMARY), ATA_DRDY | ATA_DSC);
    expect_pattern(r->h->plat.ram + DATA, 5 * 512, 0x400);
}

static void unplug(void **state)
{
    struct rig *r = *state;
    struct ide_drive_info info;
    piix_ide_unplug(r->ide, true);
    assert_true(piix_ide_info(r->ide, 0, &info)); /* primary master kept */
    block_fake_hold(r->disk, true);
    prd(r, LIST, DATA, 0x1000, true);
    ata28(r, PRIMARY, WRITE_DMA, 5, 8);
    bm_start(r, 0, LIST, false);
    harness_step(r->h, 1000);
    piix_ide_unplug(r->ide, false);
    assert_int_equal(block_fake_waiting(r->disk), 0);
    assert_true(block_fake_log(r->disk)->syncs > 0);
    assert_int_equal(r->h->plat.holds, 0);
    assert_false(piix_ide_info(r->ide, 0, &info));
    assert_int_equal(in8(r, PRIMARY + 7), 0);
    assert_int_equal(in8(r, PRIMARY + 4), 0); /* the cable is empty */
    out8(r, PRIMARY + 7, 0xec);
    assert_int_equal(in8(r, PRIMARY + 7), 0);
    assert_true(piix_ide_info(r->ide, 2, &info)); /* CD drives stay */
    assert_true(info.cdrom);
    assert_int_equal(harness_pci_read(r->h, RIG_DEVFN, 0, 4), 0x70108086);
    assert_true(harness_save_load_save(r->h));
    board_reset(&r->h->board); /* not undone */
    assert_int_equal(in8(r, PRIMARY + 7), 0);
}

static void save_unplugged(void **state)
{
    struct rig *from = *state, *to = rig_create();
    struct ide_drive_info info;
    piix_ide_unplug(from->ide, false);
    assert_true(harness_transfer(from->h, to->h));
    assert_false(piix_ide_info(to->ide, 0, &info));
    rig_destroy(to);
}

static void save_in_the_middle(void **state)
{
    struct rig *r = *state, *to = rig_create();
    prd(r, LIST, DATA, 0x1000, true);
    prd(to, LIST, DATA, 0x1000, true);
    ata28(r, PRIMARY, READ_DMA, 5, 8);
    out8(r, PRIMARY_CONTROL, 0);
    assert_true(harness_transfer(r->h, to->h)); /* waits for START */
    bm_start(to, 0, LIST, true);
    assert_int_equal(rig_wait(to, PRIMARY), ATA_DRDY | ATA_DSC);
    expect_pattern(to->h->plat.ram + DATA, 5 * 512, 0x1000);
    bm_stop(to, 0);
    bm_start(r, 0, LIST, true);
    assert_true(harness_transfer(r->h, to->h)); /* started, the loop has not run yet */
    assert_int_equal(rig_wait(to, PRIMARY), ATA_DRDY | ATA_DSC);
    assert_true(to->h->plat.isa[14]);
    rig_destroy(to);
}

static void refused(void **state)
{
    (void)state;
    struct harness *h = harness_create();
    struct piix_ide *ide = NULL;
    const struct ide_drive_config drives[IDE_DRIVES] = {
        { .present = true }
    }; /* a disk without an image */
    assert_int_equal(piix_ide_create(&h->board, RIG_DEVFN, drives, &ide), -EINVAL);
    const struct ide_drive_config none[IDE_DRIVES] = { { .present = false } };
    assert_int_equal(piix_ide_create(&h->board, RIG_DEVFN, none, &ide), 0);
    assert_int_equal(harness_in(h, PRIMARY + 7, 1), 0);
    struct piix_ide *second = NULL; /* the ports are taken, the first goes on */
    assert_true(piix_ide_create(&h->board, PCI_DEVFN(2, 1), none, &second) < 0);
    assert_int_equal(harness_in(h, PRIMARY_CONTROL, 1), 0);
    harness_destroy(h);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(config_space),
        T(bus_master_registers),
        T(read_dma),
        T(start_before_command),
        T(write_dma),
        T(count_zero_is_64k_and_merging),
        T(start_is_answered_first),
        T(few_requests),
        T(large_transfer),
        T(tiny_pieces),
        T(tiny_pieces_errors),
        T(ragged_pieces),
        T(short_list),
        T(long_list),
        T(hostile_addresses),
        T(reset_in_flight),
        T(stop_in_flight),
        T(board_reset_in_flight),
        cmocka_unit_test(destroy_in_flight),
        T(dma_error),
        T(trim),
        T(trim_saved_in_the_middle),
        T(bus_mastering_off),
        T(unplug),
        T(save_unplugged),
        T(save_in_the_middle),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
