/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ATA disks on an IDE channel: task file, every command, PIO, resets, errors. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/pci.h"
#include "tests/unit/ide_rig.h"

static int setup(void **state)
{
    *state = rig_create();
    return 0;
}

static int setup_small(void **state)
{
    *state = rig_create_small();
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

static unsigned lba_regs(struct rig *r)
{
    return (unsigned)(in8(r, PRIMARY + 3) | in8(r, PRIMARY + 4) << 8 | in8(r, PRIMARY + 5) << 16 |
                      (in8(r, PRIMARY + 6) & 0x0f) << 24);
}

static void identify(struct rig *r, uint16_t base, uint8_t cmd, uint16_t *w)
{
    out8(r, base + 7u, cmd);
    assert_int_equal(rig_wait(r, base), ATA_DRDY | ATA_DSC | ATA_DRQ);
    pio_in(r, base, w, 512);
    assert_int_equal(rig_wait(r, base), ATA_DRDY | ATA_DSC);
}

static void reset_values(void **state)
{
    struct rig *r = *state;
    static const uint8_t disk[] = { 1, 1, 1, 0, 0, 0xa0, 0x50 },
                         none[] = { 1, 1, 1, 0xff, 0xff, 0xb0, 0 };
    static const uint8_t cd[] = { 1, 1, 1, 0x14, 0xeb, 0xa0, 0x00 };
    const struct {
        uint16_t base;
        uint8_t device;
        const uint8_t *want;
    } rows[] = { { PRIMARY, 0xa0, disk },
                 { PRIMARY, 0xb0, none },
                 { SECONDARY, 0xa0, cd },
                 { SECONDARY, 0xb0, none } };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        out8(r, rows[i].base + 6u, rows[i].device);
        for (unsigned reg = 1; reg <= 7; reg++) {
            assert_int_equal(in8(r, rows[i].base + reg), rows[i].want[reg - 1]);
        }
    }
    assert_int_equal(in8(r, PRIMARY_CONTROL), 0); /* the absent slave is selected */
    assert_false(r->h->plat.isa[14]);
    assert_false(r->h->plat.isa[15]);
}

static void task_file_latches(void **state)
{
    struct rig *r = *state;
    out8(r, PRIMARY + 2, 0x12);
    out8(r, PRIMARY + 2, 0x34);
    out8(r, PRIMARY + 3, 0x56);
    out8(r, PRIMARY + 3, 0x78);
    assert_int_equal(in8(r, PRIMARY + 2), 0x34);
    assert_int_equal(in8(r, PRIMARY + 3), 0x78);
    out8(r, PRIMARY_CONTROL, 0x80); /* HOB: previous contents */
    assert_int_equal(in8(r, PRIMARY + 2), 0x12);
    assert_int_equal(in8(r, PRIMARY + 3), 0x56);
    out8(r, PRIMARY + 4, 1); /* a write ends it */
    assert_int_equal(in8(r, PRIMARY + 2), 0x34);
    /* Both drives listen. */
    out8(r, PRIMARY + 6, 0xb0);
    assert_int_equal(in8(r, PRIMARY + 2), 0x34);
    assert_int_equal(in8(r, PRIMARY + 7), 0);
    /* Wide accesses to the registers are cut into bytes. */
    out8(r, PRIMARY + 6, 0xa0);
    harness_out(r->h, PRIMARY + 2, 2, 0xbeef);
    assert_int_equal(harness_in(r->h, PRIMARY + 2, 2), 0xbeef);
}

static void identify_words(void **state)
{
    struct rig *r = *state;
    uint16_t w[256];
    identify(r, PRIMARY, 0xec, w);
    /* clang-format off */
    static const uint16_t want[][2] = {
        { 0, 0x0040 }, { 1, RIG_DISK_SECTORS / 1008 }, { 3, 16 }, { 6, 63 }, { 10, 0x514d },
        { 12, 0x3030 }, { 13, 0x3120 },
        { 23, 0x322e }, { 27, 0x5145 }, { 47, 0x8010 }, { 49, 0x0b00 }, { 53, 7 }, { 55, 16 },
        { 56, 63 },
        { 59, 0x0110 }, { 60, RIG_DISK_SECTORS }, { 61, 0 }, { 63, 7 }, { 64, 3 }, { 80, 0xf0 },
        { 82, 0x4021 },
        { 83, 0x7400 }, { 85, 0x4021 }, { 88, 0x203f }, { 93, 0x6001 },
        { 100, RIG_DISK_SECTORS }, { 169, 1 },
    };
    /* clang-format on */
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        if (w[want[i][0]] != want[i][1]) {
            fail_msg("word %u: %#x, want %#x", want[i][0], w[want[i][0]], want[i][1]);
        }
    }
    identify(r, SECONDARY, 0xa1, w);
    assert_int_equal(w[0], 0x85c0);
    assert_int_equal(w[27], 0x5145);
    assert_int_equal(w[63], 7);
    assert_int_equal(w[88], 0x203f);
    /* The wrong identify is aborted; a CD drive says with its signature what it is. */
    out8(r, SECONDARY + 7, 0xec);
    assert_int_equal(in8(r, SECONDARY + 7), 0x41);
    assert_int_equal(in8(r, SECONDARY + 1), ATA_ABRT);
    assert_int_equal(in8(r, SECONDARY + 4), 0x14);
    assert_int_equal(in8(r, SECONDARY + 5), 0xeb);
    out8(r, PRIMARY + 7, 0xa1);
    assert_int_equal(in8(r, PRIMARY + 7), 0x41);
}

/* Every opcode on both kinds of drive: accepted, data, or aborted. The table is what ATA/ATAPI-6
 * and the IDENTIFY words promise. */
static void every_opcode(void **state)
{
    struct rig *r = *state;
    static const uint8_t disk_nodata[] = { 0x10, 0x27, 0x40, 0x41, 0x42, 0x70, 0x90, 0x91, 0x94,
                                           0x95, 0x96, 0x97, 0x98, 0x99, 0xc6, 0xe0, 0xe1, 0xe2,
                                           0xe3, 0xe5, 0xe6, 0xe7, 0xea, 0xf5, 0xf8 };
    static const uint8_t disk_drq[] = { 0x20, 0x21, 0x24, 0x29, 0x30, 0x31,
                                        0x34, 0x39, 0x3c, 0xc4, 0xc5, 0xec };
    static const uint8_t disk_dma[] = { 0x25, 0x35, 0xc8, 0xc9, 0xca, 0xcb };
    static const uint8_t cd_nodata[] = { 0xe0, 0xe1, 0xe5, 0xe6, 0xe7, 0x90 };
    static const uint8_t cd_drq[] = { 0xa0, 0xa1 };
    for (unsigned cd = 0; cd < 2; cd++) {
        uint16_t base = cd ? SECONDARY : PRIMARY;
        uint16_t control = cd ? SECONDARY_CONTROL : PRIMARY_CONTROL;
        for (unsigned op = 0; op < 256; op++) {
            out8(r, control, IDE_SRST);
            out8(r, control, 0);
            (void)rig_wait(r, base);
            bool drq = cd ? memchr(cd_drq, (int)op, sizeof(cd_drq)) != NULL
                          : memchr(disk_drq, (int)op, sizeof(disk_drq)) != NULL;
            bool ok = cd ? memchr(cd_nodata, (int)op, sizeof(cd_nodata)) != NULL
                         : memchr(disk_nodata, (int)op, sizeof(disk_nodata)) != NULL;
            bool dma = !cd && memchr(disk_dma, (int)op, sizeof(disk_dma)) != NULL;
            ata48(r, base, (uint8_t)op, 5, 1);
            if (dma) {
                assert_int_equal(in8(r, base + 7u) & ATA_BSY, ATA_BSY);
                continue;
            }
            uint8_t status = rig_wait(r, base);
            if (drq) {
                assert_int_equal(status, ATA_DRDY | ATA_DSC | ATA_DRQ);
            } else if (op == 0x08 && cd) { /* DEVICE RESET */
                assert_int_equal(status, 0);
            } else if (op == 0x90 && cd) {
                assert_int_equal(status, 0);
                assert_int_equal(in8(r, base + 1u), 1);
            } else if (ok) {
                assert_int_equal(status, ATA_DRDY | ATA_DSC);
            } else if (status != (ATA_DRDY | ATA_ERR) || in8(r, base + 1u) != ATA_ABRT) {
                fail_msg("%s opcode %#x: status %#x", cd ? "cd" : "disk", op, status);
            }
        }
    }
}

static void pio_read(void **state)
{
    struct rig *r = *state;
    uint8_t buf[3 * 512];
    ata28(r, PRIMARY, 0x20, 5, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(in8(r, PRIMARY_CONTROL), ATA_DRDY | ATA_DSC | ATA_DRQ);
        assert_true(r->h->plat.isa[14]);
        assert_int_equal(in8(r, PRIMARY + 7),
                         ATA_DRDY | ATA_DSC | ATA_DRQ); /* takes the interrupt */
        assert_false(r->h->plat.isa[14]);
        pio_in(r, PRIMARY, buf + 512 * i, 512);
    }
    assert_int_equal(in8(r, PRIMARY + 7), ATA_DRDY | ATA_DSC);
    assert_false(r->h->plat.isa[14]); /* no interrupt after the last block */
    assert_int_equal(r->h->plat.isa_rises[14], 3);
    expect_pattern(buf, 5 * 512, sizeof(buf));
    assert_int_equal(block_fake_log(r->disk)->reads, 1); /* read ahead in one request */
    assert_int_equal(lba_regs(r), 8);
    assert_int_equal(in8(r, PRIMARY + 2), 0);
}

static void pio_access_sizes(void **state)
{
    struct rig *r = *state;
    uint8_t buf[512];
    ata28(r, PRIMARY, 0x20, 7, 1);
    uint32_t v = harness_in(r->h, PRIMARY, 4);
    memcpy(buf, &v, 4);
    v = harness_in(r->h, PRIMARY, 2);
    memcpy(buf + 4, &v, 2);
    buf[6] = in8(r, PRIMARY); /* a byte access moves a word */
    buf[7] = block_fake_byte(7 * 512 + 7);
    bus_read_rep(r->h->board.bus, BUS_PORT, PRIMARY, 1, buf + 8, 4); /* bytes 8, 10, 12, 14 */
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(buf[8 + i], block_fake_byte(7 * 512 + 8 + 2 * i));
    }
    for (unsigned i = 8; i < 16; i++) {
        buf[i] = block_fake_byte(7 * 512 + i);
    }
    bus_read_rep(r->h->board.bus, BUS_PORT, PRIMARY, 4, buf + 16, 124);
    expect_pattern(buf, 7 * 512, 512);
    assert_int_equal(in8(r, PRIMARY + 7), ATA_DRDY | ATA_DSC);
    assert_int_equal(harness_in(r->h, PRIMARY, 2), 0); /* no DRQ */
    /* More items than the block has: the rest are zeros. */
    uint8_t big[1024];
    memset(big, 0xaa, sizeof(big));
    ata28(r, PRIMARY, 0x20, 9, 1);
    pio_in(r, PRIMARY, big, sizeof(big));
    expect_pattern(big, 9 * 512, 512);
    for (unsigned i = 512; i < 1024; i++) {
        assert_int_equal(big[i], 0);
    }
}

static void multiple(void **state)
{
    struct rig *r = *state;
    static uint8_t buf[40 * 512];
    ata28(r, PRIMARY, 0xc6, 0, 8);
    assert_int_equal(in8(r, PRIMARY + 7), 0x50);
    uint16_t w[256];
    identify(r, PRIMARY, 0xec, w);
    assert_int_equal(w[59], 0x0108);
    r->h->plat.isa_rises[14] = 0;
    ata28(r, PRIMARY, 0xc4, 100, 20); /* blocks of 8, 8, 4 */
    for (unsigned done = 0; done < 20;) {
        unsigned n = 20 - done < 8 ? 20 - done : 8;
        assert_int_equal(in8(r, PRIMARY + 7) & ATA_DRQ, ATA_DRQ);
        pio_in(r, PRIMARY, buf + done * 512, n * 512);
        done += n;
    }
    assert_int_equal(in8(r, PRIMARY + 7), 0x50);
    assert_int_equal(r->h->plat.isa_rises[14], 3);
    expect_pattern(buf, 100 * 512, 20 * 512);
    memset(buf, 0x5a, sizeof(buf));
    ata48(r, PRIMARY, 0x39, 200, 9); /* WRITE MULTIPLE EXT: 8, 1 */
    assert_int_equal(in8(r, PRIMARY + 7), 0x58);
    pio_out(r, PRIMARY, buf, 8 * 512);
    assert_int_equal(in8(r, PRIMARY + 7), 0x58);
    pio_out(r, PRIMARY, buf, 512);
    assert_int_equal(in8(r, PRIMARY + 7), 0x50);
    assert_memory_equal(block_fake_data(r->disk) + 200 * 512, buf, 9 * 512);
    expect_pattern(block_fake_data(r->disk) + 209 * 512, 209 * 512, 512);
    for (unsigned bad = 0; bad < 3; bad++) { /* not a power of two, too many */
        static const uint8_t counts[] = { 3, 32, 255 };
        ata28(r, PRIMARY, 0xc6, 0, counts[bad]);
        assert_int_equal(in8(r, PRIMARY + 7), 0x41);
    }
    ata28(r, PRIMARY, 0xc6, 0, 0); /* off */
    ata28(r, PRIMARY, 0xc4, 0, 1);
    assert_int_equal(in8(r, PRIMARY + 7), 0x41);
}

static void pio_write(void **state)
{
    struct rig *r = *state;
    uint8_t buf[2 * 512];
    for (unsigned i = 0; i < sizeof(buf); i++) {
        buf[i] = (uint8_t)(i * 7 + 1);
    }
    ata28(r, PRIMARY, 0x30, 50, 2);
    assert_false(r->h->plat.isa[14]); /* the first block is asked for without an interrupt */
    assert_int_equal(in8(r, PRIMARY + 7), 0x58);
    pio_out(r, PRIMARY, buf, 512);
    assert_true(r->h->plat.isa[14]);
    assert_int_equal(in8(r, PRIMARY + 7), 0x58);
    harness_out(r->h, PRIMARY, 4, pci_get32(buf, 512));
    pio_out(r, PRIMARY, buf + 516, 508);
    assert_int_equal(in8(r, PRIMARY + 7), 0x50);
    assert_memory_equal(block_fake_data(r->disk) + 50 * 512, buf, sizeof(buf));
    expect_pattern(block_fake_data(r->disk) + 49 * 512, 49 * 512, 512);
    expect_pattern(block_fake_data(r->disk) + 52 * 512, 52 * 512, 512);
}

static void counts_and_addresses(void **state)
{
    struct rig *r = *state;
    static uint8_t buf[256 * 512];
    ata28(r, PRIMARY, 0x20, 10, 256); /* register value 0 */
    for (unsigned i = 0; i < 256; i++) {
        pio_in(r, PRIMARY, buf + i * 512, 512);
    }
    assert_int_equal(in8(r, PRIMARY + 7), 0x50);
    expect_pattern(buf, 10 * 512, sizeof(buf));
    /* CHS: cylinder 2, head 3, sector 4. */
    out8(r, PRIMARY + 6, 0xa3);
    out8(r, PRIMARY + 2, 1);
    out8(r, PRIMARY + 3, 4);
    out8(r, PRIMARY + 4, 2);
    out8(r, PRIMARY + 5, 0);
    out8(r, PRIMARY + 7, 0x20);
    pio_in(r, PRIMARY, buf, 512);
    expect_pattern(buf, ((2u * 16 + 3) * 63 + 3) * 512, 512);
    /* After INITIALIZE DEVICE PARAMETERS with 8 heads of 32 sectors. */
    out8(r, PRIMARY + 6, 0xa7);
    out8(r, PRIMARY + 2, 32);
    out8(r, PRIMARY + 7, 0x91);
    assert_int_equal(in8(r, PRIMARY + 7), 0x50);
    out8(r, PRIMARY + 6, 0xa3);
    out8(r, PRIMARY + 2, 1);
    out8(r, PRIMARY + 3, 4);
    out8(r, PRIMARY + 4, 2);
    out8(r, PRIMARY + 5, 0);
    out8(r, PRIMARY + 7, 0x20);
    pio_in(r, PRIMARY, buf, 512);
    expect_pattern(buf, ((2u * 8 + 3) * 32 + 3) * 512, 512);
    /* Head 8 and sector 0 do not exist. */
    out8(r, PRIMARY + 6, 0xa8);
    out8(r, PRIMARY + 7, 0x20);
    assert_int_equal(in8(r, PRIMARY + 7), 0x41);
    assert_int_equal(in8(r, PRIMARY + 1), ATA_IDNF);
    out8(r, PRIMARY + 6, 0xa0);
    out8(r, PRIMARY + 3, 0);
    out8(r, PRIMARY + 7, 0x20);
    assert_int_equal(in8(r, PRIMARY + 1), ATA_IDNF);
    /* The last sector, and one past it. */
    ata28(r, PRIMARY, 0x20, RIG_DISK_SECTORS - 1, 1);
    pio_in(r, PRIMARY, buf, 512);
    expect_pattern(buf, (RIG_DISK_SECTORS - 1) * 512u, 512);
    ata28(r, PRIMARY, 0x20, RIG_DISK_SECTORS - 1, 2);
    assert_int_equal(in8(r, PRIMARY + 1), ATA_IDNF);
    ata48(r, PRIMARY, 0x24, 0xffffffffffffull, 65536);
    assert_int_equal(in8(r, PRIMARY + 1), ATA_IDNF);
    ata28(r, PRIMARY, 0xf8, 0, 0);
    assert_int_equal(lba_regs(r), RIG_DISK_SECTORS - 1);
    ata48(r, PRIMARY, 0x27, 0, 0);
    assert_int_equal(lba_regs(r) & 0xffffff, RIG_DISK_SECTORS - 1);
}

static void asynchronous(void **state)
{
    struct rig *r = *state;
    uint8_t buf[512];
    block_fake_hold(r->disk, true);
    ata28(r, PRIMARY, 0x20, 3, 1);
    assert_int_equal(in8(r, PRIMARY_CONTROL) & (ATA_BSY | ATA_DRQ), ATA_BSY);
    assert_false(r->h->plat.isa[14]);
    out8(r, PRIMARY + 2, 99); /* the registers are the drive's now */
    out8(r, PRIMARY + 7, 0xec);
    assert_int_equal(block_fake_waiting(r->disk), 1);
    assert_int_equal(block_fake_run(r->disk, 1), 1);
    assert_true(r->h->plat.isa[14]);
    assert_int_equal(in8(r, PRIMARY + 7), 0x58);
    pio_in(r, PRIMARY, buf, 512);
    expect_pattern(buf, 3 * 512, 512);
    out8(r, PRIMARY + 7, 0xe7); /* FLUSH waits for the image */
    assert_int_equal(in8(r, PRIMARY_CONTROL) & ATA_BSY, ATA_BSY);
    block_fake_run(r->disk, 1);
    assert_int_equal(in8(r, PRIMARY + 7), 0x50);
    assert_int_equal(block_fake_log(r->disk)->flushes, 1);
}

static void reset_during_request(void **state)
{
    struct rig *r = *state;
    uint8_t buf[512];
    block_fake_hold(r->disk, true);
    ata28(r, PRIMARY, 0x20, 3, 1);
    out8(r, PRIMARY_CONTROL, IDE_SRST);
    out8(r, PRIMARY_CONTROL, 0);
    assert_int_equal(in8(r, PRIMARY_CONTROL), ATA_BSY);
    out8(r, PRIMARY + 7, 0x20); /* ignored */
    assert_int_equal(block_fake_waiting(r->disk), 1);
    block_fake_run(r->disk, 1);
    assert_false(r->h->plat.isa[14]); /* finished into nowhere */
    assert_int_equal(in8(r, PRIMARY + 7), 0x50);
    assert_int_equal(in8(r, PRIMARY + 1), 1);
    assert_int_equal(in8(r, PRIMARY + 2), 1);
    block_fake_hold(r->disk, false);
    ata28(r, PRIMARY, 0x20, 3, 1);
    pio_in(r, PRIMARY, buf, 512);
    expect_pattern(buf, 3 * 512, 512);
}

static void reset_during_drq(void **state)
{
    struct rig *r = *state;
    ata28(r, PRIMARY, 0x20, 3, 4);
    (void)harness_in(r->h, PRIMARY, 2);
    out8(r, PRIMARY_CONTROL, IDE_SRST);
    assert_int_equal(in8(r, PRIMARY_CONTROL), ATA_BSY);
    assert_false(r->h->plat.isa[14]);
    out8(r, PRIMARY_CONTROL, 0);
    assert_int_equal(in8(r, PRIMARY + 7), 0x50);
    assert_int_equal(harness_in(r->h, PRIMARY, 2), 0);
}

static void interrupt_masking(void **state)
{
    struct rig *r = *state;
    out8(r, PRIMARY_CONTROL, 2); /* nIEN */
    ata28(r, PRIMARY, 0x20, 3, 1);
    assert_false(r->h->plat.isa[14]);
    assert_int_equal(bm_status(r, 0) & 4, 0);
    out8(r, PRIMARY_CONTROL, 0);
    assert_true(r->h->plat.isa[14]);
    out8(r, PRIMARY + 6, 0xb0); /* not while a drive has DRQ */
    assert_true(r->h->plat.isa[14]);
    assert_int_equal(in8(r, PRIMARY + 6), 0xe0);
    assert_int_equal(in8(r, PRIMARY_CONTROL), 0x58); /* alternate status keeps it */
    assert_true(r->h->plat.isa[14]);
    assert_int_equal(in8(r, PRIMARY + 7), 0x58);
    assert_false(r->h->plat.isa[14]);
    uint8_t buf[512];
    pio_in(r, PRIMARY, buf, 512);
    ata28(r, PRIMARY, 0x40, 3, 1);
    out8(r, PRIMARY + 6, 0xb0); /* the other drive has none */
    assert_false(r->h->plat.isa[14]);
    out8(r, PRIMARY + 6, 0xe0);
    assert_true(r->h->plat.isa[14]);
}

static void errors(void **state)
{
    struct rig *r = *state;
    uint8_t buf[8 * 512] = { 0 };
    block_fake_fail(r->disk, BLOCK_READ, 13 * 512 + 7, -EIO);
    ata28(r, PRIMARY, 0x20, 10, 8); /* three good sectors, then sector 13 */
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(in8(r, PRIMARY + 7), 0x58);
        pio_in(r, PRIMARY, buf, 512);
        expect_pattern(buf, (10 + i) * 512, 512);
    }
    assert_int_equal(in8(r, PRIMARY + 7), ATA_DRDY | ATA_ERR);
    assert_int_equal(in8(r, PRIMARY + 1), ATA_UNC);
    assert_int_equal(lba_regs(r), 13);
    block_fake_fail(r->disk, BLOCK_WRITE, 20 * 512, -ENOSPC);
    ata28(r, PRIMARY, 0x30, 20, 1);
    pio_out(r, PRIMARY, buf, 512);
    assert_int_equal(in8(r, PRIMARY + 7), ATA_DRDY | ATA_ERR);
    assert_int_equal(in8(r, PRIMARY + 1), ATA_ABRT);
    assert_int_equal(lba_regs(r), 20);
    block_fake_fail(r->disk, BLOCK_FLUSH, 0, -EIO);
    out8(r, PRIMARY + 7, 0xe7);
    assert_int_equal(in8(r, PRIMARY + 7), ATA_DRDY | ATA_ERR);
    block_fake_fail(r->disk, BLOCK_READ, 0, 0); /* the condition clears: the drive goes on */
    ata28(r, PRIMARY, 0x20, 13, 1);
    assert_int_equal(in8(r, PRIMARY + 7), 0x58);
}

static void set_features(void **state)
{
    struct rig *r = *state;
    static const struct {
        uint8_t feature, count;
        bool ok;
    } rows[] = {
        { 0x03, 0x00, true },  { 0x03, 0x01, true },  { 0x03, 0x0c, true }, { 0x03, 0x0d, false },
        { 0x03, 0x22, true },  { 0x03, 0x23, false }, { 0x03, 0x45, true }, { 0x03, 0x46, false },
        { 0x03, 0x80, false }, { 0x02, 0, true },     { 0x82, 0, true },    { 0xaa, 0, true },
        { 0x55, 0, true },     { 0x66, 0, true },     { 0xcc, 0, true },    { 0x10, 0, false },
        { 0x00, 0, false },    { 0xff, 0, false },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        out8(r, PRIMARY + 6, 0xe0);
        out8(r, PRIMARY + 1, rows[i].feature);
        out8(r, PRIMARY + 2, rows[i].count);
        out8(r, PRIMARY + 7, 0xef);
        assert_int_equal(in8(r, PRIMARY + 7), rows[i].ok ? 0x50 : 0x41);
    }
    uint16_t w[256];
    identify(r, PRIMARY, 0xec, w);
    assert_int_equal(w[88], 0x203f); /* the last one accepted: UDMA 5 */
    assert_int_equal(w[85], 0x4001); /* write cache off */
    uint8_t buf[512] = { 1 };
    ata28(r, PRIMARY, 0x30, 0, 1);
    pio_out(r, PRIMARY, buf, 512);
    assert_int_equal(block_fake_log(r->disk)->fua, 1); /* writes go through */
    out8(r, PRIMARY + 1, 0x03);
    out8(r, PRIMARY + 2, 0x21);
    out8(r, PRIMARY + 7, 0xef);
    identify(r, PRIMARY, 0xec, w);
    assert_int_equal(w[63], 0x0207);
    assert_int_equal(w[88], 0x003f);
}

static void power(void **state)
{
    struct rig *r = *state;
    out8(r, PRIMARY + 7, 0xe5);
    assert_int_equal(in8(r, PRIMARY + 2), 0xff);
    out8(r, PRIMARY + 7, 0xe0);
    assert_int_equal(block_fake_log(r->disk)->flushes, 1);
    out8(r, PRIMARY + 7, 0xe5);
    assert_int_equal(in8(r, PRIMARY + 2), 0x00);
    ata28(r, PRIMARY, 0x20, 0, 1);
    uint8_t buf[512];
    pio_in(r, PRIMARY, buf, 512);
    out8(r, PRIMARY + 7, 0xe5);
    assert_int_equal(in8(r, PRIMARY + 2), 0xff);
}

static void smart(void **state)
{
    struct rig *r = *state;
    static const struct {
        uint8_t sub, count, lba;
        uint8_t status;
    } rows[] = {
        { 0xd0, 0, 0, 0x58 }, { 0xd1, 0, 0, 0x58 }, { 0xd2, 0xf1, 0, 0x50 }, { 0xd3, 0, 0, 0x41 },
        { 0xd4, 0, 1, 0x50 }, { 0xd5, 1, 0, 0x41 }, { 0xd5, 1, 1, 0x58 },    { 0xd5, 1, 6, 0x58 },
        { 0xd5, 1, 9, 0x41 }, { 0xda, 0, 0, 0x50 }, { 0xd9, 0, 0, 0x50 },    { 0xd0, 0, 0, 0x41 },
        { 0xd8, 0, 0, 0x50 }, { 0xdf, 0, 0, 0x41 },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        out8(r, PRIMARY + 1, rows[i].sub);
        out8(r, PRIMARY + 2, rows[i].count);
        out8(r, PRIMARY + 3, rows[i].lba);
        out8(r, PRIMARY + 4, 0x4f);
        out8(r, PRIMARY + 5, 0xc2);
        out8(r, PRIMARY + 7, 0xb0);
        assert_int_equal(in8(r, PRIMARY + 7), rows[i].status);
        if (rows[i].status == 0x58) {
            uint8_t b[512], sum = 0;
            pio_in(r, PRIMARY, b, 512);
            for (unsigned k = 0; k < 512; k++) {
                sum = (uint8_t)(sum + b[k]);
            }
            assert_int_equal(sum, 0);
        }
    }
    out8(r, PRIMARY + 4, 0); /* without the key */
    out8(r, PRIMARY + 7, 0xb0);
    assert_int_equal(in8(r, PRIMARY + 7), 0x41);
}

static uint8_t smart_sub(struct rig *r, unsigned sub, unsigned low)
{
    out8(r, PRIMARY + 1, sub);
    out8(r, PRIMARY + 2, 1);
    out8(r, PRIMARY + 3, low);
    out8(r, PRIMARY + 4, 0x4f);
    out8(r, PRIMARY + 5, 0xc2);
    out8(r, PRIMARY + 7, 0xb0);
    return in8(r, PRIMARY + 7);
}

/* The self-test log holds the last 21 tests; the index names the newest. */
static void self_test_log(void **state)
{
    struct rig *r = *state;
    uint8_t b[512];
    for (unsigned n = 0; n <= 25; n++) {
        if (n > 0) {
            assert_int_equal(smart_sub(r, 0xd4, n % 3), 0x50);
        }
        assert_int_equal(smart_sub(r, 0xd5, 6), 0x58);
        pio_in(r, PRIMARY, b, 512);
        assert_int_equal(b[508], n == 0 ? 0 : (n - 1) % 21 + 1);
        for (unsigned i = 0; i < 21; i++) {
            const uint8_t *e = b + 2 + 24 * i;
            unsigned test = n > 21 && i < n - 21 ? i + 22 : i + 1;
            assert_int_equal(e[2], i < n ? 1 : 0);
            assert_int_equal(e[0], i < n ? test % 3 : 0);
        }
        assert_true(harness_save_load_save(r->h));
    }
    assert_int_equal(smart_sub(r, 0xd4, 3), 0x41);
    assert_int_equal(smart_sub(r, 0xd4, 0x81), 0x41);
}

/* SET FEATURES 66h: a soft reset keeps the settings; CCh: it does not. */
static void revert_at_reset(void **state)
{
    struct rig *r = *state;
    for (unsigned keep = 0; keep < 2; keep++) {
        out8(r, PRIMARY + 1, keep ? 0x66 : 0xcc);
        out8(r, PRIMARY + 7, 0xef);
        out8(r, PRIMARY + 2, 4);
        out8(r, PRIMARY + 7, 0xc6);
        out8(r, PRIMARY_CONTROL, IDE_SRST);
        out8(r, PRIMARY_CONTROL, 0);
        out8(r, PRIMARY + 7, 0xec);
        uint8_t b[512];
        pio_in(r, PRIMARY, b, 512);
        assert_int_equal(b[2 * 59], keep ? 4 : 16);
    }
}

static void diagnostic(void **state)
{
    struct rig *r = *state;
    out8(r, PRIMARY + 6, 0xb0); /* goes to both, drive 0 answers */
    out8(r, PRIMARY + 7, 0x90);
    assert_true(r->h->plat.isa[14]);
    assert_int_equal(in8(r, PRIMARY + 7), 0x50);
    assert_int_equal(in8(r, PRIMARY + 1), 1);
    assert_int_equal(in8(r, PRIMARY + 6), 0xa0);
}

static void slave_takes_no_command(void **state)
{
    struct rig *r = *state;
    out8(r, PRIMARY + 6, 0xf0);
    out8(r, PRIMARY + 7, 0xec);
    assert_int_equal(in8(r, PRIMARY + 7), 0);
    assert_false(r->h->plat.isa[14]);
}

static void save_in_the_middle(void **state)
{
    struct rig *r = *state;
    uint8_t buf[6 * 512];
    ata28(r, PRIMARY, 0x20, 40, 6);
    pio_in(r, PRIMARY, buf, 512 + 100);
    assert_true(harness_save_load_save(r->h));
    pio_in(r, PRIMARY, buf + 612, 412);
    pio_in(r, PRIMARY, buf + 1024, 4 * 512);
    assert_int_equal(in8(r, PRIMARY + 7), 0x50);
    expect_pattern(buf, 40 * 512, sizeof(buf));
    /* A request in flight ends before the state is taken. */
    block_fake_hold(r->disk, true);
    ata28(r, PRIMARY, 0x20, 60, 1);
    assert_true(harness_save_load_save(r->h));
    assert_int_equal(block_fake_waiting(r->disk), 0);
    assert_int_equal(in8(r, PRIMARY + 7), 0x58);
    pio_in(r, PRIMARY, buf, 512);
    expect_pattern(buf, 60 * 512, 512);
}

/* Hostile saved states: every byte of a state changed in turn is refused or leaves a board that
 * works on. */
static void hostile_state(void **state)
{
    static const uint8_t flips[] = { 0x01, 0x80, 0xff };
    struct rig *r = *state;
    struct save_stream s;
    int quiet = open("/dev/null", O_WRONLY), err = dup(2);
    unsigned taken = 0, refused = 0;
    ata28(r, PRIMARY, 0xc4, 40, 20);
    save_init(&s);
    assert_int_equal(board_save(&r->h->board, &s), 0);
    dup2(quiet, 2); /* each refusal is logged */
    size_t head = s.len < 900 ? s.len : 900;
    for (size_t i = 0; i < head; i++) {
        for (size_t k = 0; k < sizeof(flips); k++) {
            struct rig *other = rig_create_small();
            struct save_stream in;
            uint8_t buf[8192];
            s.data[i] ^= flips[k];
            save_init_load(&in, s.data, s.len);
            if (board_load(&other->h->board, &in) == 0) {
                taken++;
            } else {
                refused++;
            }
            s.data[i] ^= flips[k];
            pio_in(other, PRIMARY, buf, sizeof(buf));
            pio_out(other, PRIMARY, buf, sizeof(buf));
            pio_in(other, SECONDARY, buf, sizeof(buf));
            harness_step(other->h, 1000);
            rig_destroy(other);
        }
    }
    dup2(err, 2);
    close(quiet);
    close(err);
    save_free(&s);
    assert_true(taken > 100);
    assert_true(refused > 100);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(reset_values),
        T(task_file_latches),
        T(identify_words),
        T(every_opcode),
        T(pio_read),
        T(pio_access_sizes),
        T(multiple),
        T(pio_write),
        T(counts_and_addresses),
        T(asynchronous),
        T(reset_during_request),
        T(reset_during_drq),
        T(interrupt_masking),
        T(errors),
        T(set_features),
        T(power),
        T(smart),
        T(self_test_log),
        T(revert_at_reset),
        T(diagnostic),
        T(slave_takes_no_command),
        T(save_in_the_middle),
        cmocka_unit_test_setup_teardown(hostile_state, setup_small, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
