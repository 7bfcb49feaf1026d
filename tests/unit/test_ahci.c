/* SPDX-License-Identifier: GPL-2.0-or-later */
/* AHCI: registers, interrupts, plain and queued commands, errors, resets in the middle, saved state. */
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

#include "tests/unit/ahci_rig.h"

#define OK             (ATA_DRDY | ATA_DSC)
#define ERR_TFD(error) ((uint32_t)(ATA_DRDY | ATA_ERR | (error) << 8))
#define SIGNATURE      0x0150u

static int setup(void **state)
{
    *state = arig_create(A_DISK_SECTORS);
    return 0;
}

static int teardown(void **state)
{
    arig_destroy(*state);
    return 0;
}

static uint8_t *ram(struct arig *r, uint64_t at)
{
    return r->h->plat.ram + at;
}

static void expect_pattern(const uint8_t *p, uint64_t offset, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] != block_fake_byte(offset + i)) {
            fail_msg("byte %zu", i);
        }
    }
}

static bool intx(struct arig *r)
{
    return r->h->plat.intx[4][0];
}

/* ---- PCI function and registers ---- */

static void config_space(void **state)
{
    struct arig *r = *state;
    static const struct {
        unsigned reg;
        uint32_t ones, zeros;
    } masks[] = {
        {0x24, 0xfffff000, 0}, {0x20, 0xffffffe1, 1}, {0x80, 0x0081a805, 0x0080a805},
        {0x84, 0xfffffffc, 0}, {0x88, 0xffffffff, 0}, {0xa8, 0x00100012, 0x00100012},
        {0xac, 0x48, 0x48},    {0x10, 0, 0},          {0x90, 0xffffffff, 0},
    };
    harness_pci_write(r->h, A_DEVFN, PCI_COMMAND, 2, 0);
    assert_int_equal(harness_pci_read(r->h, A_DEVFN, 0, 4), 0x29228086);
    assert_int_equal(harness_pci_read(r->h, A_DEVFN, 8, 4), 0x01060102);
    assert_int_equal(harness_pci_read(r->h, A_DEVFN, 4, 4), 0x00100000);
    assert_int_equal(harness_pci_read(r->h, A_DEVFN, 0x2c, 4), 0x11001af4);
    assert_int_equal(harness_pci_read(r->h, A_DEVFN, 0x34, 1), 0x80);
    assert_int_equal(harness_pci_read(r->h, A_DEVFN, 0x3c, 2), 0x0100);
    for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        harness_pci_write(r->h, A_DEVFN, masks[i].reg, 4, 0xffffffff);
        assert_int_equal(harness_pci_read(r->h, A_DEVFN, masks[i].reg, 4), masks[i].ones);
        harness_pci_write(r->h, A_DEVFN, masks[i].reg, 4, 0);
        assert_int_equal(harness_pci_read(r->h, A_DEVFN, masks[i].reg, 4), masks[i].zeros);
    }
}

static void register_table(void **state)
{
    struct arig *r = *state;
    static const struct {
        unsigned reg;
        uint32_t reset, ones, zeros;
    } regs[] = {
        {AHCI_CAP, 0xc0141f05, 0xc0141f05, 0xc0141f05},
        {AHCI_IS, 0, 0, 0},
        {AHCI_PI, 0x3f, 0x3f, 0x3f},
        {AHCI_VS, 0x10000, 0x10000, 0x10000},
        {0x14, 0, 0, 0}, /* coalescing is not advertised */
        {0x24, 0, 0, 0},
        {0x130 - 0x30 + PX_CLB, 0, 0xfffffc00, 0},
        {0x100 + PX_CLBU, 0, 0xffffffff, 0},
        {0x100 + PX_FB, 0, 0xffffff00, 0},
        {0x100 + PX_FBU, 0, 0xffffffff, 0},
        {0x100 + PX_IS, 0, 0, 0},
        {0x100 + PX_IE, 0, 0xfdc000ff, 0},
        {0x100 + PX_TFD, 0x7f, 0x7f, 0x7f},
        {0x100 + PX_SIG, 0xffffffff, 0xffffffff, 0xffffffff},
        {0x100 + PX_SSTS, 0x113, 0x113, 0x113},
        {0x200 + PX_SSTS, 0, 0, 0}, /* port 2: no drive */
        {0x100 + PX_SERR, 0, 0, 0},
        {0x100 + PX_SACT, 0, 0, 0}, /* ST is clear */
        {0x100 + PX_CI, 0, 0, 0},
        {0x100 + 0x3c, 0, 0, 0},
        {0x100 + 0x70, 0, 0, 0},
        {0x400 - 0x80 + PX_CMD, 6, 0x0f000006, 6}, /* but for ST and FRE */
        {0x800, 0, 0, 0},
    };
    board_reset(&r->h->board);
    harness_pci_write(r->h, A_DEVFN, PCI_BAR0 + 20, 4, A_ABAR);
    harness_pci_write(r->h, A_DEVFN, PCI_COMMAND, 2, 6);
    assert_int_equal(aget(r, AHCI_GHC), GHC_AE);
    for (size_t i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
        assert_int_equal(aget(r, regs[i].reg), regs[i].reset);
        aput(r, regs[i].reg, regs[i].reg % 0x80 == PX_CMD ? 0xffffffee : 0xffffffff);
        assert_int_equal(aget(r, regs[i].reg), regs[i].ones);
        aput(r, regs[i].reg, regs[i].reg % 0x80 == PX_CMD ? 6 : 0);
        assert_int_equal(aget(r, regs[i].reg), regs[i].zeros);
    }
    pput(r, 0, PX_SCTL, 0xfffff3f3);
    assert_int_equal(pget(r, 0, PX_SCTL), 0x3f3);
}

static void widths_and_index_data(void **state)
{
    struct arig *r = *state;
    assert_int_equal(harness_read(r->h, A_ABAR + 2, 2), 0xc014);
    assert_int_equal(harness_read(r->h, A_ABAR + 3, 1), 0xc0);
    assert_int_equal(harness_read(r->h, A_ABAR + 0x0c, 8), 0x000100000000003f);
    harness_write(r->h, A_ABAR + 0x300 + PX_CLB, 8, 0x1122334455667788);
    assert_int_equal(aget(r, 0x300 + PX_CLB), 0x55667400);
    assert_int_equal(aget(r, 0x300 + PX_CLBU), 0x11223344);
    harness_write(r->h, A_ABAR + 0x300 + PX_CLBU + 1, 1, 0xaa);
    assert_int_equal(aget(r, 0x300 + PX_CLBU), 0x1122aa44);
    harness_out(r->h, A_IDP + 0x10, 4, 0xffff0304); /* index: 12 bits, a multiple of 4 */
    assert_int_equal(harness_in(r->h, A_IDP + 0x10, 4), 0x304);
    assert_int_equal(harness_in(r->h, A_IDP + 0x14, 4), 0x1122aa44);
    harness_out(r->h, A_IDP + 0x14, 4, 7);
    assert_int_equal(aget(r, 0x300 + PX_CLBU), 7);
    assert_int_equal(harness_in(r->h, A_IDP, 4), 0);
}

static void signature(void **state)
{
    struct arig *r = *state;
    assert_int_equal(pget(r, 0, PX_SIG), 0x00000101);
    assert_int_equal(pget(r, 0, PX_TFD), SIGNATURE);
    assert_int_equal(pget(r, 1, PX_SIG), 0xeb140101);
    assert_int_equal(fis_of(r, 0, 0x40)[0], 0x34);
    assert_int_equal(fis_of(r, 0, 0x40)[1], 0); /* no interrupt */
    assert_int_equal(pget(r, 0, PX_CMD) & (CMD_CR | CMD_FR), CMD_CR | CMD_FR);
    assert_int_equal(pget(r, 2, PX_SIG), 0xffffffff);
    pput(r, 0, PX_CMD, 6 | CMD_FRE);
    assert_int_equal(pget(r, 0, PX_CMD), 6 | CMD_FRE | CMD_FR);
    pput(r, 0, PX_CMD, 6);
    assert_int_equal(pget(r, 0, PX_CMD), 6);
}

/* ---- interrupts ---- */

static void interrupt_levels(void **state)
{
    struct arig *r = *state;
    const struct prd prd = {A_DATA, 512};
    put_command(r, 0, 0, 0xec, 0, 0, 0, &prd, 1);
    assert_int_equal(go(r, 0, 1), IS_PSS);
    assert_int_equal(aget(r, AHCI_IS), 0); /* not enabled in PxIE */
    assert_false(intx(r));
    pput(r, 0, PX_IE, IS_PSS);
    assert_int_equal(aget(r, AHCI_IS), 1);
    assert_true(intx(r));
    aput(r, AHCI_GHC, GHC_AE);
    assert_false(intx(r));
    aput(r, AHCI_GHC, GHC_AE | GHC_IE);
    assert_true(intx(r));
    aput(r, AHCI_IS, 1); /* the cause is still there */
    assert_int_equal(aget(r, AHCI_IS), 1);
    pput(r, 0, PX_IS, IS_DHRS);
    assert_int_equal(pget(r, 0, PX_IS), IS_PSS);
    pput(r, 0, PX_IS, IS_PSS);
    assert_int_equal(pget(r, 0, PX_IS), 0);
    assert_int_equal(aget(r, AHCI_IS), 1); /* latched */
    assert_true(intx(r));
    aput(r, AHCI_IS, 1);
    assert_int_equal(aget(r, AHCI_IS), 0);
    assert_false(intx(r));
}

static void messages(void **state)
{
    struct arig *r = *state;
    const struct prd prd = {A_DATA, 512};
    harness_pci_write(r->h, A_DEVFN, 0x84, 4, 0xfee01000);
    harness_pci_write(r->h, A_DEVFN, 0x88, 4, 0x12);
    harness_pci_write(r->h, A_DEVFN, 0x8c, 2, 0x4051);
    harness_pci_write(r->h, A_DEVFN, 0x82, 2, 1);
    pput(r, 0, PX_IE, ~0u);
    pput(r, 1, PX_IE, ~0u);
    put_command(r, 0, 0, 0xec, 0, 0, 0, &prd, 1);
    (void)go(r, 0, 1);
    assert_int_equal(r->h->plat.msi_count, 1);
    assert_int_equal(r->h->plat.msi[0].addr, 0x12fee01000);
    assert_int_equal(r->h->plat.msi[0].data, 0x4051);
    assert_false(intx(r));
    (void)go(r, 0, 1); /* PxIS was cleared and set, IS not: nothing new */
    assert_int_equal(r->h->plat.msi_count, 1);
    put_command(r, 1, 0, 0xa1, 0, 0, 0, &prd, 1);
    (void)go(r, 1, 1); /* another port's bit */
    assert_int_equal(r->h->plat.msi_count, 2);
    pput(r, 0, PX_IS, ~0u);
    aput(r, AHCI_IS, 1); /* not all were cleared */
    assert_int_equal(r->h->plat.msi_count, 3);
    pput(r, 1, PX_IS, ~0u);
    aput(r, AHCI_IS, 2);
    assert_int_equal(aget(r, AHCI_IS), 0);
    assert_int_equal(r->h->plat.msi_count, 3);
    assert_true(harness_save_load_save(r->h));
    assert_int_equal(r->h->plat.msi_count, 3);
    harness_pci_write(r->h, A_DEVFN, 0x82, 2, 0); /* off: the line again */
    (void)go(r, 0, 1);
    assert_int_equal(r->h->plat.msi_count, 3);
    assert_true(intx(r));
    harness_pci_write(r->h, A_DEVFN, 0x82, 2, 1);
    assert_false(intx(r));
}

/* ---- plain commands ---- */

static void identify(void **state)
{
    struct arig *r = *state;
    const struct prd prd = {A_DATA, 512};
    put_command(r, 0, 3, 0xec, 0, 0, 0, &prd, 1);
    pput(r, 0, PX_CI, 8);
    assert_int_equal(pget(r, 0, PX_CI), 8); /* the write itself does nothing yet */
    settle(r);
    assert_int_equal(pget(r, 0, PX_CI), 0);
    assert_int_equal(pget(r, 0, PX_TFD), OK);
    assert_int_equal(prdbc_of(r, 0, 3), 512);
    assert_int_equal(pci_get16(ram(r, A_DATA), 75 * 2), 31);
    assert_int_equal(pci_get16(ram(r, A_DATA), 76 * 2), 0x100);
    const uint8_t *fis = fis_of(r, 0, 0x20);
    assert_int_equal(fis[0], 0x5f);
    assert_int_equal(fis[1], 0x60); /* to the host, interrupt */
    assert_int_equal(fis[2], OK | ATA_DRQ);
    assert_int_equal(fis[15], OK);
    assert_int_equal(pci_get16(fis, 16), 512);
}

static void dma_read_and_write(void **state)
{
    struct arig *r = *state;
    const struct prd prd[] = {{A_DATA + 1, 513}, {A_DATA + 0x1000, 1}, {A_DATA + 0x2003, 3582}};
    put_command(r, 0, 0, A_READ_DMA_EXT, 77, 8, 0, prd, 3);
    assert_int_equal(go(r, 0, 1), IS_DHRS);
    assert_int_equal(prdbc_of(r, 0, 0), 4096);
    expect_pattern(ram(r, A_DATA + 1), 77 * 512, 513);
    expect_pattern(ram(r, A_DATA + 0x1000), 77 * 512 + 513, 1);
    expect_pattern(ram(r, A_DATA + 0x2003), 77 * 512 + 514, 3582);
    assert_int_equal(*ram(r, A_DATA), 0);
    assert_int_equal(*ram(r, A_DATA + 0x1001), 0);
    assert_int_equal(block_fake_log(r->disk)->reads, 1);
    assert_int_equal(block_fake_log(r->disk)->last_iovcnt, 3);
    const uint8_t *fis = fis_of(r, 0, 0x40);
    assert_int_equal(fis[0], 0x34);
    assert_int_equal(fis[1], 0x40);
    assert_int_equal(fis[2], OK);

    put_command(r, 0, 1, A_WRITE_DMA_EXT, 1000, 8, 0, prd, 3);
    assert_int_equal(go(r, 0, 2), IS_DHRS);
    assert_memory_equal(block_fake_data(r->disk) + 1000 * 512, block_fake_data(r->disk) + 77 * 512,
                        4096);
    expect_pattern(block_fake_data(r->disk) + 1008 * 512, 1008 * 512, 512);
}

static void large_transfer(void **state)
{
    struct arig *r = *state;
    enum { SECTORS = 12288 };
    const struct prd prd[] = {{A_DATA, 4 << 20}, {A_DATA + (4 << 20), 2 << 20}};
    put_command(r, 0, 0, A_READ_DMA_EXT, 100, SECTORS, 0, prd, 2);
    pput(r, 0, PX_CI, 1);
    unsigned turns = 0;
    while (pget(r, 0, PX_CI) != 0 && turns < 100) {
        loop_poll(r->h->loop, 0);
        turns++;
    }
    assert_true(turns > 3 && turns < 100); /* bounded work per turn */
    assert_int_equal(prdbc_of(r, 0, 0), SECTORS * 512);
    expect_pattern(ram(r, A_DATA), 100 * 512, SECTORS * 512);
}

/* More pieces per sector than an image request can carry. */
static void tiny_pieces(void **state)
{
    struct arig *r = *state;
    enum { N = 235 };
    struct prd prd[N];
    for (unsigned i = 0; i < N; i++) {
        prd[i] = (struct prd){A_DATA + 8 * i, i == N - 1 ? 1024 - 3 * (N - 1) : 3};
    }
    for (unsigned queued = 0; queued < 2; queued++) {
        memset(ram(r, A_DATA), 0, 0x2000);
        if (queued) {
            put_queued(r, 0, false, 9, 2, prd, N);
            assert_int_equal(go_queued(r, 1), IS_SDBS);
        } else {
            put_command(r, 0, 0, A_READ_DMA_EXT, 9, 2, 0, prd, N);
            assert_int_equal(go(r, 0, 1), IS_DHRS);
        }
        for (unsigned i = 0; i < N; i++) {
            expect_pattern(ram(r, prd[i].addr), 9 * 512 + 3 * i, prd[i].len);
            assert_true(i == N - 1 || *ram(r, prd[i].addr + 3) == 0);
        }
        if (queued) {
            put_queued(r, 0, true, 30, 2, prd, N);
            assert_int_equal(go_queued(r, 1), IS_SDBS);
        } else {
            put_command(r, 0, 0, A_WRITE_DMA_EXT, 20, 2, 0, prd, N);
            assert_int_equal(go(r, 0, 1), IS_DHRS);
        }
        assert_memory_equal(block_fake_data(r->disk) + (queued ? 30 : 20) * 512,
                            block_fake_data(r->disk) + 9 * 512, 1024);
    }
}

static void pio_out_blocks(void **state)
{
    struct arig *r = *state;
    const struct prd prd = {A_DATA, 4 * 512};
    for (unsigned i = 0; i < 4 * 512; i++) {
        *ram(r, A_DATA + i) = (uint8_t)(i * 7);
    }
    put_command(r, 0, 0, 0x34, 40, 4, 0, &prd, 1);
    assert_int_equal(go(r, 0, 1), IS_PSS | IS_DHRS);
    assert_memory_equal(block_fake_data(r->disk) + 40 * 512, ram(r, A_DATA), 4 * 512);
    put_command(r, 0, 0, 0x24, 40, 4, 0, &(struct prd){A_DATA + 0x1000, 4 * 512}, 1);
    assert_int_equal(go(r, 0, 1), IS_PSS);
    assert_memory_equal(ram(r, A_DATA), ram(r, A_DATA + 0x1000), 4 * 512);
    assert_int_equal(prdbc_of(r, 0, 0), 4 * 512);
}

/* Lists that end too early, in all directions and forms. */
static void short_lists(void **state)
{
    struct arig *r = *state;
    static const struct {
        uint8_t command;
        unsigned n;
        uint32_t is;
    } rows[] = {
        {A_READ_DMA_EXT, 1, IS_OFS},
        {A_READ_DMA_EXT, 0, IS_OFS},
        {0x24, 1, IS_OFS},
        {0x24, 0, IS_OFS},
        {A_WRITE_DMA_EXT, 1, 0},
        {A_WRITE_DMA_EXT, 0, 0},
        {0x34, 1, 0},
        {0x34, 0, 0},
        {0xec, 0, IS_OFS},
    };
    const struct prd prd = {A_DATA, 700};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        put_command(r, 0, 0, rows[i].command, 40, 4, 0, &prd, rows[i].n);
        uint32_t is = go(r, 0, 1);
        assert_int_equal(is & (IS_OFS | IS_TFES), rows[i].is | IS_TFES);
        assert_int_equal(pget(r, 0, PX_CI), 1);
        assert_int_equal(pget(r, 0, PX_TFD), ERR_TFD(ATA_ABRT));
        port_restart(r, 0);
    }
    expect_pattern(block_fake_data(r->disk) + 41 * 512, 41 * 512, 3 * 512);
    put_command(r, 0, 0, 0xec, 0, 0, 0, &(struct prd){A_DATA, 512}, 1);
    assert_int_equal(go(r, 0, 1), IS_PSS);
}

static void plain_errors(void **state)
{
    struct arig *r = *state;
    const struct prd prd = {A_DATA, 4096};
    put_command(r, 0, 0, A_READ_DMA_EXT, A_DISK_SECTORS, 8, 0, &prd, 1);
    put_command(r, 0, 1, 0xe7, 0, 0, 0, NULL, 0);
    assert_int_equal(go(r, 0, 1), IS_DHRS | IS_TFES);
    assert_int_equal(pget(r, 0, PX_TFD), ERR_TFD(ATA_IDNF));
    assert_int_equal(go(r, 0, 2), 0); /* nothing is fetched until ST was cleared */
    assert_int_equal(pget(r, 0, PX_CI), 3);
    port_restart(r, 0);
    assert_int_equal(pget(r, 0, PX_CI), 0);
    assert_int_equal(go(r, 0, 2), IS_DHRS);

    block_fake_fail(r->disk, BLOCK_READ, 103 * 512, -EIO);
    put_command(r, 0, 0, A_READ_DMA_EXT, 100, 8, 0, &prd, 1);
    assert_int_equal(go(r, 0, 1), IS_DHRS | IS_TFES);
    assert_int_equal(pget(r, 0, PX_TFD), ERR_TFD(ATA_UNC));
    assert_int_equal(fis_of(r, 0, 0x40)[4], 103);
    expect_pattern(ram(r, A_DATA), 100 * 512, 3 * 512);
    port_restart(r, 0);
    put_command(r, 0, 0, 0x00, 0, 0, 0, NULL, 0);
    assert_int_equal(go(r, 0, 1), IS_DHRS | IS_TFES);
    assert_int_equal(pget(r, 0, PX_TFD), ERR_TFD(ATA_ABRT));
}

static void slots_in_turn(void **state)
{
    struct arig *r = *state;
    for (unsigned i = 0; i < 32; i++) {
        put_command(r, 0, i, A_READ_DMA_EXT, i, 1, 0, &(struct prd){A_DATA + 512 * i, 512}, 1);
    }
    block_fake_hold(r->disk, true);
    pput(r, 0, PX_CI, ~0u);
    settle(r);
    assert_int_equal(block_fake_waiting(r->disk), 1); /* one plain command at a time */
    assert_int_equal(pget(r, 0, PX_TFD) & ATA_BSY, ATA_BSY);
    block_fake_hold(r->disk, false);
    (void)block_fake_run(r->disk, 1);
    settle(r);
    assert_int_equal(pget(r, 0, PX_CI), 0);
    expect_pattern(ram(r, A_DATA), 0, 32 * 512);
}

static void bad_fises(void **state)
{
    struct arig *r = *state;
    static const struct {
        unsigned at;
        uint8_t value;
        uint32_t is;
        bool header;
    } rows[] = {
        {0, 0x34, IS_IFS, false}, {0, 0, IS_IFS, false},   {1, 0x81, 0, false},
        {0, 0, IS_IFS, true},     {0, 0x01, IS_IFS, true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        put_command(r, 0, 0, 0xe7, 0, 0, 0, NULL, 0);
        (rows[i].header ? ram(r, A_PORT) : table_of(r, 0, 0))[rows[i].at] = rows[i].value;
        assert_int_equal(go(r, 0, 1), rows[i].is);
        assert_int_equal(pget(r, 0, PX_CI), 1);
        port_restart(r, 0);
    }
    put_command(r, 0, 0, 0xe7, 0, 0, 0, NULL, 0);
    assert_int_equal(go(r, 0, 1), IS_DHRS);
}

/* Lists, tables and data at addresses that are no RAM. */
static void nowhere(void **state)
{
    struct arig *r = *state;
    static const uint64_t places[] = {0xa0000, A_ABAR, 0xfffffffffffffff0, HARNESS_RAM_SIZE - 256};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        put_queued(r, 0, false, 3, 8, &(struct prd){places[i], 4096}, 1);
        assert_int_equal(go_queued(r, 1), IS_SDBS);
        put_queued(r, 0, true, 3, 8, &(struct prd){places[i], 4096}, 1);
        assert_int_equal(go_queued(r, 1), IS_SDBS);
        put_command(r, 0, 0, 0x24, 3, 8, 0, &(struct prd){places[i], 4096}, 1);
        assert_int_equal(go(r, 0, 1), IS_PSS);
        pci_set32(ram(r, A_PORT), 8, (uint32_t)places[i] & ~0x7fu);
        pci_set32(ram(r, A_PORT), 12, (uint32_t)(places[i] >> 32));
        (void)go(r, 0, 1);
        port_restart(r, 0);
        pput(r, 0, PX_FB, (uint32_t)places[i]);
        pput(r, 0, PX_FBU, (uint32_t)(places[i] >> 32));
        put_command(r, 0, 0, 0xe7, 0, 0, 0, NULL, 0);
        assert_int_equal(go(r, 0, 1), IS_DHRS);
        pput(r, 0, PX_CLB, (uint32_t)places[i]);
        pput(r, 0, PX_CLBU, (uint32_t)(places[i] >> 32));
        (void)go(r, 0, ~0u);
        pput(r, 0, PX_CLB, A_PORT);
        pput(r, 0, PX_CLBU, 0);
        port_restart(r, 0);
    }
    assert_int_equal(aget(r, AHCI_CAP), 0xc0141f05); /* DMA does not reach our registers */
}

static void bus_master_off(void **state)
{
    struct arig *r = *state;
    put_queued(r, 0, false, 3, 8, NULL, 0);
    harness_pci_write(r->h, A_DEVFN, PCI_COMMAND, 2, 3);
    assert_int_equal(go_queued(r, 1), 0);
    assert_int_equal(pget(r, 0, PX_CI), 1);
    harness_pci_write(r->h, A_DEVFN, PCI_COMMAND, 2, 7);
    settle(r);
    assert_int_equal(pget(r, 0, PX_CI) | pget(r, 0, PX_SACT), 0);
}

static void packets(void **state)
{
    struct arig *r = *state;
    const struct prd prd = {A_DATA, 4096};
    put_command(r, 1, 0, 0xa0, 36 << 8, 0, 0, &prd, 1);
    put_cdb(r, 1, 0, (const uint8_t[12]){0x12, 0, 0, 0, 36});
    assert_int_equal(go(r, 1, 1), IS_PSS | IS_DHRS);
    assert_int_equal(prdbc_of(r, 1, 0), 36);
    assert_memory_equal(ram(r, A_DATA + 8), "QEMU    QEMU DVD", 16);
    put_command(r, 1, 0, 0xa0, 0, 0, 0, NULL, 0); /* unit attention, maybe, and its end */
    for (unsigned i = 0; i < 2; i++) {
        if ((go(r, 1, 1) & IS_TFES) != 0) {
            port_restart(r, 1);
            put_command(r, 1, 0, 0xa0, 18 << 8, 0, 0, &prd, 1);
            put_cdb(r, 1, 0, (const uint8_t[12]){0x03, 0, 0, 0, 18});
            assert_int_equal(go(r, 1, 1), IS_PSS | IS_DHRS);
            put_command(r, 1, 0, 0xa0, 0, 0, 0, NULL, 0);
        }
    }
    put_command(r, 1, 0, 0xa0, 0, 0, 1, &prd, 1);
    put_cdb(r, 1, 0, (const uint8_t[12]){0x28, 0, 0, 0, 0, 5, 0, 0, 2});
    assert_int_equal(go(r, 1, 1), IS_DHRS);
    expect_pattern(ram(r, A_DATA), 5 * 2048, 4096);
    put_command(r, 1, 0, 0xa0, 0x800 << 8, 0, 0, &prd, 1);
    put_cdb(r, 1, 0, (const uint8_t[12]){0x28, 0, 0, 0, 0, 9, 0, 0, 2});
    assert_int_equal(go(r, 1, 1), IS_PSS | IS_DHRS);
    expect_pattern(ram(r, A_DATA), 9 * 2048, 4096);
    put_command(r, 1, 0, 0xa0, 0, 0, 1, &prd, 1); /* beyond the end */
    put_cdb(r, 1, 0, (const uint8_t[12]){0x28, 0, 0, 0, 9, 9, 0, 0, 2});
    assert_int_equal(go(r, 1, 1), IS_DHRS | IS_TFES);
    port_restart(r, 1);
    put_command(r, 1, 0, A_READ_Q, 0, 0, 8, &prd, 1); /* no queue in a CD drive */
    assert_int_equal(go(r, 1, 1), IS_DHRS | IS_TFES);
}

/* ---- queued commands ---- */

static void queue_of_32(void **state)
{
    struct arig *r = *state;
    for (unsigned i = 0; i < 32; i++) {
        put_queued(r, i, (i & 1) != 0, i * 20, 8, NULL, 0);
        memset(ram(r, A_DATA + 65536 * i), (int)i, 4096);
    }
    block_fake_hold(r->disk, true);
    pput(r, 0, PX_IE, IS_SDBS);
    assert_int_equal(go_queued(r, ~0u), 0);
    assert_int_equal(block_fake_waiting(r->disk), 32); /* really at once */
    assert_int_equal(pget(r, 0, PX_CI), 0);
    assert_int_equal(pget(r, 0, PX_SACT), ~0u);
    assert_int_equal(pget(r, 0, PX_TFD), OK); /* not busy: taken */
    assert_int_equal(fis_of(r, 0, 0x40)[1], 0);
    (void)block_fake_run(r->disk, 5);
    assert_false(intx(r));
    settle(r);
    assert_true(intx(r)); /* one FIS and one interrupt for the five */
    assert_int_equal(pci_get32(fis_of(r, 0, 0x58), 4), pget(r, 0, PX_SACT) ^ ~0u);
    assert_int_equal(__builtin_popcount(pget(r, 0, PX_SACT)), 27);
    (void)block_fake_run(r->disk, 27);
    settle(r);
    assert_int_equal(pget(r, 0, PX_SACT), 0);
    for (unsigned i = 0; i < 32; i++) {
        if ((i & 1) == 0) {
            expect_pattern(ram(r, A_DATA + 65536 * i), i * 20 * 512, 4096);
        } else {
            for (unsigned n = 0; n < 4096; n++) {
                assert_int_equal(block_fake_data(r->disk)[i * 20 * 512 + n], i);
            }
        }
    }
}

static void out_of_order(void **state)
{
    struct arig *r = *state;
    const struct prd big = {A_DATA + (1 << 20), 2 * ATA_DMA_CHUNK};
    put_queued(r, 4, false, 0, 2 * ATA_DMA_CHUNK / 512, &big, 1); /* two image requests */
    put_queued(r, 5, false, 3000, 8, NULL, 0);
    block_fake_hold(r->disk, true);
    (void)go_queued(r, 0x30);
    assert_int_equal(block_fake_waiting(r->disk), 2);
    (void)block_fake_run(r->disk, 2);
    settle(r);
    assert_int_equal(pget(r, 0, PX_SACT), 0x10); /* the second is done first */
    assert_int_equal(pci_get32(fis_of(r, 0, 0x58), 4), 0x20);
    put_queued(r, 5, false, 3000, 8, NULL, 0); /* its slot is free again */
    (void)go_queued(r, 0x20);
    block_fake_hold(r->disk, false);
    (void)block_fake_run(r->disk, 10);
    settle(r);
    assert_int_equal(pget(r, 0, PX_SACT), 0);
    expect_pattern(ram(r, A_DATA + (1 << 20)), 0, 2 * ATA_DMA_CHUNK);
}

static void queued_fua_and_counts(void **state)
{
    struct arig *r = *state;
    put_queued(r, 0, true, 0, 8, NULL, 0);
    (void)go_queued(r, 1);
    assert_int_equal(block_fake_log(r->disk)->fua, 0);
    table_of(r, 0, 0)[7] |= 0x80;
    (void)go_queued(r, 1);
    assert_int_equal(block_fake_log(r->disk)->fua, 1);
    put_command(r, 0, 0, 0xef, 0, 0, 0x82, NULL, 0); /* write cache off: every write is stable */
    assert_int_equal(go(r, 0, 1), IS_DHRS);
    put_queued(r, 0, true, 0, 8, NULL, 0);
    (void)go_queued(r, 1);
    assert_int_equal(block_fake_log(r->disk)->fua, 2);
    put_queued(r, 0, false, 0, 65536, NULL, 0); /* 0 is 65536: more than the disk has */
    assert_int_equal(go_queued(r, 1), IS_SDBS | IS_TFES);
    assert_int_equal(pget(r, 0, PX_TFD), ERR_TFD(ATA_IDNF));
}

/* Reads page 10h into A_DATA + 32 MiB's end of RAM region. */
static const uint8_t *read_log(struct arig *r)
{
    static uint8_t log[512];
    const struct prd prd = {0x300000, 512};
    uint8_t sum = 0;
    put_command(r, 0, 31, 0x2f, 0x10, 1, 0, &prd, 1);
    assert_int_equal(go(r, 0, 1u << 31), IS_PSS);
    memcpy(log, ram(r, 0x300000), 512);
    for (unsigned i = 0; i < 512; i++) {
        sum = (uint8_t)(sum + log[i]);
    }
    assert_int_equal(sum, 0);
    return log;
}

static void queue_error(void **state)
{
    struct arig *r = *state;
    for (unsigned i = 0; i < 4; i++) {
        put_queued(r, i, false, 100 * i, 8, NULL, 0);
    }
    block_fake_fail(r->disk, BLOCK_READ, 203 * 512, -EIO);
    block_fake_hold(r->disk, true);
    (void)go_queued(r, 0xf);
    (void)block_fake_run(r->disk, 3); /* 0 and 1 end well, 2 is tried again sector by sector */
    settle(r);
    assert_int_equal(pget(r, 0, PX_SACT), 0xc);
    (void)block_fake_run(r->disk, 1); /* 3 */
    settle(r);
    for (unsigned i = 0; i < 4; i++) { /* sectors 200 to 203 of 2 */
        put_queued(r, 0, false, 0, 8, NULL, 0);
        pput(r, 0, PX_SACT, 1);
        pput(r, 0, PX_CI, 1);
        settle(r);
        (void)block_fake_run(r->disk, i < 3 ? 2 : 1);
        settle(r);
    }
    assert_int_equal(pget(r, 0, PX_IS) & IS_TFES, IS_TFES);
    assert_int_equal(pget(r, 0, PX_TFD), ERR_TFD(ATA_UNC));
    assert_int_equal(pget(r, 0, PX_SACT) & ~1u, 4); /* the failed one stays */
    assert_int_equal(fis_of(r, 0, 0x58)[2], 0x41);
    assert_int_equal(pci_get32(fis_of(r, 0, 0x58), 4), 0);
    expect_pattern(ram(r, A_DATA + 0x20000), 200 * 512, 3 * 512);
    (void)block_fake_run(r->disk, 10);
    settle(r);
    block_fake_hold(r->disk, false);
    port_restart(r, 0);
    assert_int_equal(pget(r, 0, PX_SACT), 0);

    put_queued(r, 1, false, 0, 8, NULL, 0); /* nothing but the log until it has been read */
    assert_int_equal(go_queued(r, 2), IS_DHRS | IS_TFES);
    port_restart(r, 0);
    const uint8_t *log = read_log(r);
    assert_int_equal(log[0], 2);
    assert_int_equal(log[2], 0x41);
    assert_int_equal(log[3], ATA_UNC);
    assert_int_equal(log[4], 203);
    assert_int_equal(go_queued(r, 2), IS_SDBS);
}

static void queue_refusals(void **state)
{
    struct arig *r = *state;
    static const struct {
        unsigned at;
        uint8_t value, error;
    } rows[] = {{12, 5 << 3, ATA_ABRT}, {7, 0, ATA_ABRT}, {9, 1, ATA_IDNF}, {10, 0xff, ATA_IDNF}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        put_queued(r, 6, false, 1, 8, NULL, 0);
        table_of(r, 0, 6)[rows[i].at] = rows[i].value;
        assert_int_equal(go_queued(r, 0x40), IS_SDBS | IS_TFES);
        assert_int_equal(pget(r, 0, PX_TFD), ERR_TFD(rows[i].error));
        port_restart(r, 0);
        assert_int_equal(read_log(r)[0], 6);
    }
    put_queued(r, 6, false, 1, 8, &(struct prd){A_DATA, 1000}, 1); /* short list */
    assert_int_equal(go_queued(r, 0x40), IS_SDBS | IS_TFES | IS_OFS);
    port_restart(r, 0);
    assert_int_equal(read_log(r)[0], 6);

    block_fake_hold(r->disk, true); /* a plain command among queued ones */
    put_queued(r, 6, false, 1, 8, NULL, 0);
    put_command(r, 0, 7, 0xe7, 0, 0, 0, NULL, 0);
    (void)go_queued(r, 0x40);
    assert_int_equal(go(r, 0, 0x80), IS_DHRS | IS_TFES);
    block_fake_hold(r->disk, false);
    (void)block_fake_run(r->disk, 9);
    settle(r);
    assert_int_equal(pget(r, 0, PX_SACT), 0x40);
    port_restart(r, 0);
    assert_int_equal(read_log(r)[0], 0x80);
    put_command(r, 0, 0, 0x2f, 0x00, 1, 0, &(struct prd){A_DATA, 512}, 1);
    assert_int_equal(go(r, 0, 1), IS_PSS);
    assert_int_equal(*ram(r, A_DATA + 0x20), 1);
    put_command(r, 0, 0, 0x2f, 0x11, 1, 0, &(struct prd){A_DATA, 512}, 1);
    assert_int_equal(go(r, 0, 1), IS_DHRS | IS_TFES);
}

/* A tag given out twice: nothing of the first command may change while its request is in flight. */
static void tag_in_use(void **state)
{
    struct arig *r = *state;
    block_fake_hold(r->disk, true);
    put_queued(r, 4, false, 0, 16, NULL, 0);
    (void)go_queued(r, 0x10);
    assert_int_equal(block_fake_waiting(r->disk), 1);
    put_queued(r, 4, true, 100, 1, NULL, 0);
    assert_int_equal(go_queued(r, 0x10), IS_DHRS | IS_TFES);
    assert_int_equal(pget(r, 0, PX_TFD), ERR_TFD(ATA_ABRT));
    assert_true(harness_save_load_save(r->h)); /* waits for the request */
    block_fake_hold(r->disk, false);
    settle(r);
    assert_int_equal(block_fake_waiting(r->disk), 0);
    assert_int_equal(pget(r, 0, PX_SACT), 0x10);
    expect_pattern(block_fake_data(r->disk), 0, 101 * 512);
    port_restart(r, 0);
    assert_int_equal(read_log(r)[0], 0x80);
    put_queued(r, 4, false, 3, 8, NULL, 0);
    assert_int_equal(go_queued(r, 0x10), IS_SDBS);
}

static void descriptor_interrupt(void **state)
{
    struct arig *r = *state;
    put_queued(r, 0, false, 1, 8, NULL, 0);
    table_of(r, 0, 0)[0x80 + 15] |= 0x80;
    assert_int_equal(go_queued(r, 1), IS_SDBS | IS_DPS);
    put_command(r, 0, 0, A_READ_DMA_EXT, 0, 8, 0, &(struct prd){A_DATA, 4096}, 1);
    table_of(r, 0, 0)[0x80 + 15] |= 0x80;
    assert_int_equal(go(r, 0, 1), IS_DHRS | IS_DPS);
}

/* ---- resets in the middle ---- */

/* 32 requests in the air, of a queue or (one) of a plain command. */
static void fly(struct arig *r, bool queued)
{
    block_fake_hold(r->disk, true);
    for (unsigned i = 0; i < 32; i++) {
        if (queued) {
            put_queued(r, i, false, 64 * i, 8, NULL, 0);
        } else {
            put_command(r, 0, i, A_READ_DMA_EXT, 0, 8, 0, &(struct prd){A_DATA, 4096}, 1);
        }
    }
    (void)(queued ? go_queued(r, ~0u) : go(r, 0, ~0u));
    assert_int_equal(block_fake_waiting(r->disk), queued ? 32 : 1);
}

static void land(struct arig *r)
{
    block_fake_hold(r->disk, false);
    (void)block_fake_run(r->disk, 64);
    settle(r);
    assert_int_equal(r->h->plat.holds, 0);
}

static void works(struct arig *r)
{
    put_queued(r, 9, false, 11, 8, NULL, 0);
    assert_int_equal(go_queued(r, 0x200), IS_SDBS);
    put_command(r, 0, 2, A_READ_DMA_EXT, 12, 8, 0, &(struct prd){A_DATA, 4096}, 1);
    assert_int_equal(go(r, 0, 4), IS_DHRS);
    expect_pattern(ram(r, A_DATA), 12 * 512, 4096);
    assert_int_equal(pget(r, 0, PX_CI) | pget(r, 0, PX_SACT), 0);
}

static void stop_in_flight(void **state)
{
    struct arig *r = *state;
    fly(r, true);
    pput(r, 0, PX_CMD, 6 | CMD_FRE);
    assert_int_equal(pget(r, 0, PX_CMD) & CMD_CR, CMD_CR); /* until memory is safe */
    assert_int_equal(pget(r, 0, PX_CI) | pget(r, 0, PX_SACT), 0);
    (void)block_fake_run(r->disk, 31);
    settle(r);
    assert_int_equal(pget(r, 0, PX_CMD) & CMD_CR, CMD_CR);
    /* A guest that does not wait gets nothing started before the last one has landed. */
    pput(r, 0, PX_CMD, 6 | CMD_FRE | CMD_ST);
    put_queued(r, 31, false, 5, 8, NULL, 0);
    assert_int_equal(go_queued(r, 1u << 31), 0);
    assert_int_equal(block_fake_waiting(r->disk), 1);
    land(r);
    assert_int_equal(pget(r, 0, PX_SACT), 0);
    expect_pattern(ram(r, A_DATA + 31 * 65536), 5 * 512, 4096);
    works(r);
    fly(r, true);
    pput(r, 0, PX_CMD, 6 | CMD_FRE);
    land(r);
    assert_int_equal(pget(r, 0, PX_CMD) & CMD_CR, 0);
    assert_int_equal(pget(r, 0, PX_IS), 0); /* no answer to any */
    port_restart(r, 0);
    works(r);
}

static void stop_plain(void **state)
{
    struct arig *r = *state;
    fly(r, false);
    pput(r, 0, PX_CMD, 6 | CMD_FRE);
    assert_int_equal(pget(r, 0, PX_CMD) & CMD_CR, CMD_CR);
    assert_int_equal(pget(r, 0, PX_TFD) & ATA_BSY, ATA_BSY);
    land(r);
    assert_int_equal(pget(r, 0, PX_CMD) & CMD_CR, 0);
    assert_int_equal(pget(r, 0, PX_TFD), OK); /* the drive has done with it */
    port_restart(r, 0);
    works(r);
}

static void comreset_in_flight(void **state)
{
    struct arig *r = *state;
    for (unsigned queued = 0; queued < 2; queued++) {
        fly(r, queued);
        pput(r, 0, PX_CMD, 6 | CMD_FRE);
        pput(r, 0, PX_SCTL, 0x301);
        assert_int_equal(pget(r, 0, PX_SSTS), 0);
        assert_int_equal(pget(r, 0, PX_TFD), 0x7f);
        pput(r, 0, PX_SCTL, 0x300);
        assert_int_equal(pget(r, 0, PX_SSTS), 0x113);
        assert_int_equal(pget(r, 0, PX_TFD), ATA_BSY);
        assert_int_equal(pget(r, 0, PX_IS), IS_PCS | IS_PRCS);
        settle(r);
        assert_int_equal(pget(r, 0, PX_TFD), ATA_BSY);
        land(r);
        assert_int_equal(pget(r, 0, PX_TFD), SIGNATURE);
        pput(r, 0, PX_SERR, ~0u);
        assert_int_equal(pget(r, 0, PX_IS), 0);
        port_restart(r, 0);
        works(r);
    }
    pput(r, 0, PX_SCTL, 0x304);
    assert_int_equal(pget(r, 0, PX_SSTS), 4);
    put_command(r, 0, 0, 0xe7, 0, 0, 0, NULL, 0);
    assert_int_equal(go(r, 0, 1) & IS_DHRS, 0);
    pput(r, 0, PX_SCTL, 0x300);
    pput(r, 0, PX_SERR, ~0u);
    port_restart(r, 0);
    works(r);
}

static void hba_reset_in_flight(void **state)
{
    struct arig *r = *state;
    for (unsigned queued = 0; queued < 2; queued++) {
        fly(r, queued);
        pput(r, 0, PX_IE, ~0u);
        aput(r, AHCI_GHC, GHC_AE | GHC_IE | GHC_HR);
        assert_int_equal(aget(r, AHCI_GHC), GHC_AE | GHC_HR);
        assert_int_equal(pget(r, 0, PX_IE), 0);
        assert_int_equal(pget(r, 0, PX_CLB), A_PORT); /* kept */
        assert_int_equal(pget(r, 0, PX_CMD), 6);
        land(r);
        assert_int_equal(aget(r, AHCI_GHC), GHC_AE);
        aput(r, AHCI_GHC, GHC_AE | GHC_IE);
        port_start(r, 0);
        works(r);
    }
    aput(r, AHCI_GHC, GHC_AE | GHC_HR); /* at once when nothing flies */
    assert_int_equal(aget(r, AHCI_GHC), GHC_AE);
}

static void software_reset(void **state)
{
    struct arig *r = *state;
    for (unsigned in_flight = 0; in_flight < 2; in_flight++) {
        if (in_flight) {
            fly(r, true);
            port_restart(r, 0);
        }
        put_command(r, 0, 0, 0, 0, 0, 0, NULL, 0);
        table_of(r, 0, 0)[1] = 0;
        table_of(r, 0, 0)[15] = 4;
        put_command(r, 0, 1, 0, 0, 0, 0, NULL, 0);
        table_of(r, 0, 1)[1] = 0;
        assert_int_equal(go(r, 0, 1), 0);
        if (in_flight) {
            assert_int_equal(pget(r, 0, PX_CI), 1); /* waits, like all */
            land(r);
        }
        assert_int_equal(pget(r, 0, PX_CI), 0);
        memset(fis_of(r, 0, 0x40), 0, 20);
        assert_int_equal(go(r, 0, 2), 0);
        assert_int_equal(pget(r, 0, PX_TFD), SIGNATURE);
        assert_int_equal(fis_of(r, 0, 0x40)[0], 0x34);
        works(r);
    }
}

static void board_reset_in_flight(void **state)
{
    struct arig *r = *state;
    fly(r, true);
    board_reset(&r->h->board);
    assert_int_equal(block_fake_waiting(r->disk), 0);
    assert_int_equal(r->h->plat.holds, 0);
    assert_false(intx(r));
    land(r);
    harness_pci_write(r->h, A_DEVFN, PCI_BAR0 + 20, 4, A_ABAR);
    harness_pci_write(r->h, A_DEVFN, PCI_COMMAND, 2, 7);
    port_start(r, 0);
    works(r);
}

static void destroy_in_flight(void **state)
{
    fly(*state, true); /* teardown does the rest */
}

static void unplug(void **state)
{
    struct arig *r = *state;
    struct ide_drive_info info;
    fly(r, true);
    pput(r, 0, PX_IE, ~0u);
    ahci_unplug(r->ahci, true);
    assert_true(ahci_info(r->ahci, 0, &info));
    assert_int_equal(block_fake_waiting(r->disk), 32);
    ahci_unplug(r->ahci, false);
    assert_int_equal(block_fake_waiting(r->disk), 0);
    assert_true(block_fake_log(r->disk)->syncs > 0); /* flushed */
    assert_false(ahci_info(r->ahci, 0, &info));
    assert_true(ahci_info(r->ahci, 1, &info)); /* the CD drive stays */
    assert_int_equal(pget(r, 0, PX_SSTS), 0);
    assert_int_equal(pget(r, 0, PX_SIG), 0xffffffff);
    assert_int_equal(pget(r, 0, PX_IS), IS_PCS | IS_PRCS);
    assert_true(intx(r));
    port_restart(r, 0);
    put_command(r, 0, 0, 0xec, 0, 0, 0, NULL, 0);
    (void)go(r, 0, 1);
    assert_int_equal(pget(r, 0, PX_CI), 1);
    ahci_unplug(r->ahci, false);
    assert_true(harness_save_load_save(r->h));
    struct arig *other = arig_create(A_DISK_SECTORS);
    assert_true(harness_transfer(r->h, other->h)); /* unplugs there, too */
    assert_false(ahci_info(other->ahci, 0, &info));
    arig_destroy(other);
}

/* ---- saved state ---- */

static void save_in_flight(void **state)
{
    struct arig *r = *state;
    struct arig *other = arig_create(A_DISK_SECTORS);
    const struct prd big = {A_DATA, 3 * ATA_DMA_CHUNK};
    fly(r, true);
    (void)block_fake_run(r->disk, 3); /* done, not yet reported */
    assert_true(harness_transfer(r->h, other->h));
    memcpy(other->h->plat.ram, r->h->plat.ram, 0x9f000);
    settle(other);
    assert_int_equal(pget(other, 0, PX_SACT), 0);
    assert_int_equal(pget(other, 0, PX_IS), IS_SDBS);
    land(r);
    works(other);

    block_fake_hold(r->disk, true); /* transfers of several requests, in the middle */
    put_queued(r, 0, false, 0, 3 * ATA_DMA_CHUNK / 512, &big, 1);
    (void)go_queued(r, 1);
    (void)block_fake_run(r->disk, 1);
    settle(r);
    assert_int_equal(block_fake_waiting(r->disk), 1);
    memcpy(other->h->plat.ram + A_PORT, r->h->plat.ram + A_PORT, A_PORT_BYTES);
    assert_true(harness_transfer(r->h, other->h));
    settle(other);
    assert_int_equal(pget(other, 0, PX_SACT), 0);
    /* What was in flight ended in r's memory. */
    expect_pattern(ram(other, A_DATA + 2 * ATA_DMA_CHUNK), 2 * ATA_DMA_CHUNK, ATA_DMA_CHUNK);
    works(other);
    land(r);
    settle(r);

    fly(r, false);
    memcpy(other->h->plat.ram + A_PORT, r->h->plat.ram + A_PORT, A_PORT_BYTES);
    assert_true(harness_transfer(r->h, other->h));
    settle(other);
    assert_int_equal(pget(other, 0, PX_CI), 0);
    land(r);
    assert_int_equal(pget(r, 0, PX_CI), 0);
    arig_destroy(other);
}

/* Every byte of the record changed in some ways: refused or harmless. */
static void hostile_state(void **state)
{
    struct arig *r = *state;
    struct save_stream s;
    int quiet = open("/dev/null", O_WRONLY), err = dup(2);
    unsigned taken = 0, refused = 0;
    fly(r, true);
    save_init(&s);
    assert_int_equal(board_save(&r->h->board, &s), 0);
    land(r);
    dup2(quiet, 2); /* each refusal is logged */
    for (size_t at = 0; at < s.len; at++) {
        static const uint8_t values[] = {0x00, 0x01, 0x7f, 0xff};
        uint8_t old = s.data[at];
        for (size_t i = 0; i < sizeof(values); i++) {
            struct save_stream in;
            s.data[at] = values[i];
            save_init_load(&in, s.data, s.len);
            if (board_load(&r->h->board, &in) != 0) {
                refused++;
            } else {
                taken++;
                harness_pci_write(r->h, A_DEVFN, PCI_COMMAND, 2, 7);
                for (unsigned turn = 0; turn < 3; turn++) {
                    loop_poll(r->h->loop, 0);
                }
            }
        }
        s.data[at] = old;
    }
    dup2(err, 2);
    close(quiet);
    close(err);
    save_free(&s);
    assert_int_equal(r->h->plat.holds, 0);
    assert_true(taken > 100 && refused > 100);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(config_space),
        TEST(register_table),
        TEST(widths_and_index_data),
        TEST(signature),
        TEST(interrupt_levels),
        TEST(messages),
        TEST(identify),
        TEST(dma_read_and_write),
        TEST(large_transfer),
        TEST(tiny_pieces),
        TEST(pio_out_blocks),
        TEST(short_lists),
        TEST(plain_errors),
        TEST(slots_in_turn),
        TEST(bad_fises),
        TEST(nowhere),
        TEST(bus_master_off),
        TEST(packets),
        TEST(queue_of_32),
        TEST(out_of_order),
        TEST(queued_fua_and_counts),
        TEST(queue_error),
        TEST(queue_refusals),
        TEST(tag_in_use),
        TEST(descriptor_interrupt),
        TEST(stop_in_flight),
        TEST(stop_plain),
        TEST(comreset_in_flight),
        TEST(hba_reset_in_flight),
        TEST(software_reset),
        TEST(board_reset_in_flight),
        TEST(destroy_in_flight),
        TEST(unplug),
        TEST(save_in_flight),
        TEST(hostile_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
