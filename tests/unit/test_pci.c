/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/harness.h"

enum { VRAM = 64 << 10, VRAM_BAR = 128 << 10, ROM_LEN = 5000 };

/* A function with an I/O, a memory, a VRAM and a ROM BAR. */
struct sample {
    struct pci_device pd;
    struct harness *h;
    struct vram *vram;
    uint8_t reg;
    uint64_t moved[PCI_REGIONS]; /* what bar_moved said last */
    unsigned moves;
    unsigned written_reg, written_size, writes;
    bool *destroyed;
};

static uint8_t rom[ROM_LEN];

static uint64_t sample_read(void *dev, uint64_t offset, unsigned size)
{
    const struct sample *s = dev;

    (void)size;
    return 0x1000u * s->reg + offset;
}

static void sample_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct sample *s = dev;

    (void)offset, (void)size;
    s->reg = (uint8_t)value;
}

static const struct io_ops sample_io = {.read = sample_read, .write = sample_write, .max_size = 4};

static void sample_reset(void *dev)
{
    struct sample *s = dev;

    s->reg = 1;
}

static int sample_state(void *dev, struct save_stream *st)
{
    struct sample *s = dev;
    uint8_t reg = s->reg;

    save_u8(st, &reg);
    if (st->loading && !st->error) {
        s->reg = reg;
    }
    return st->error;
}

static void sample_destroy(void *dev)
{
    struct sample *s = dev;

    assert_false(s->pd.present); /* the function has left the bus before its device goes */
    vram_destroy(s->vram);
    if (s->destroyed) {
        *s->destroyed = true;
    }
    free(s);
}

static void sample_config_written(void *dev, unsigned reg, unsigned size)
{
    struct sample *s = dev;

    s->written_reg = reg;
    s->written_size = size;
    s->writes++;
}

static void sample_bar_moved(void *dev, unsigned n, uint64_t addr)
{
    struct sample *s = dev;

    s->moved[n] = addr;
    s->moves++;
}

static const struct pci_device_ops sample_ops = {
    .base = {.name = "sample",
             .version = 1,
             .reset = sample_reset,
             .state = sample_state,
             .destroy = sample_destroy},
    .config_written = sample_config_written,
    .bar_moved = sample_bar_moved,
};

static const struct pci_config_id sample_id = {
    .vendor = 0x1234,
    .device = 0x5678,
    .class_device = 0x0280,
    .subsystem_vendor = 0xaaaa,
    .subsystem = 0xbbbb,
    .prog_if = 0x12,
    .revision = 0x34,
    .interrupt_pin = 2,
};

static struct sample *sample_new(struct harness *h, uint8_t devfn)
{
    struct sample *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    s->h = h;
    s->vram = platform_vram_create(&h->plat, VRAM);
    assert_non_null(s->vram);
    pci_init(&s->pd, &h->board, &sample_ops, s, devfn, &sample_id);
    pci_add_bar(&s->pd, 0, PCI_BAR_IO, 0x20, &sample_io);
    pci_add_bar(&s->pd, 1, PCI_BAR_MEM, 0x1000, &sample_io);
    pci_add_vram_bar(&s->pd, 2, VRAM_BAR, s->vram, &sample_io);
    pci_set_rom(&s->pd, rom, sizeof(rom));
    return s;
}

static struct sample *sample_add(struct harness *h, uint8_t devfn)
{
    struct sample *s = sample_new(h, devfn);

    assert_int_equal(pci_finish(&s->pd), 0);
    return s;
}

static struct harness *h;
static struct sample *s;
enum { DEVFN = PCI_DEVFN(4, 0) };

static uint32_t rd(unsigned reg, unsigned size)
{
    return harness_pci_read(h, DEVFN, reg, size);
}

static void wr(unsigned reg, unsigned size, uint32_t value)
{
    harness_pci_write(h, DEVFN, reg, size, value);
}

static int setup(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ROM_LEN; i++) {
        rom[i] = (uint8_t)(i * 7 + 1);
    }
    h = harness_create();
    s = sample_add(h, DEVFN);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    harness_destroy(h);
    return 0;
}

/* Places all BARs and turns decoding on. */
static void place(void)
{
    wr(PCI_BAR0, 4, 0xc000);
    wr(PCI_BAR0 + 4, 4, 0xf1000000);
    wr(PCI_BAR0 + 8, 4, 0xf2000000);
    wr(PCI_ROM_ADDRESS, 4, 0xf3000001);
    wr(PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
}

static void test_identity(void **state)
{
    static const struct {
        unsigned reg, size;
        uint32_t value;
    } table[] = {
        {PCI_VENDOR_ID, 4, 0x56781234},   {PCI_COMMAND, 4, 0},          {PCI_REVISION_ID, 4, 0x02801234},
        {PCI_CLASS_DEVICE, 2, 0x0280},    {PCI_CACHE_LINE_SIZE, 4, 0},  {PCI_SUBSYSTEM_VENDOR_ID, 4, 0xbbbbaaaa},
        {PCI_CAPABILITY_LIST, 4, 0},      {PCI_INTERRUPT_LINE, 4, 0x0200}, {PCI_PROG_IF, 1, 0x12},
        {PCI_BAR0, 4, 1},                 {PCI_BAR0 + 4, 4, 0},         {PCI_BAR0 + 8, 4, 8},
        {PCI_BAR0 + 12, 4, 0},            {PCI_ROM_ADDRESS, 4, 0},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_int_equal(rd(table[i].reg, table[i].size), table[i].value);
    }
    assert_int_equal(s->reg, 1); /* the device was reset too */
}

/* Every byte of the header: which bits can be set, which cleared. */
static void test_write_masks(void **state)
{
    static const struct {
        unsigned reg;
        uint32_t mask;
    } writable[] = {
        {PCI_COMMAND, 0x0507},          {PCI_CACHE_LINE_SIZE, 0xff},     {PCI_BAR0, 0xffffffe0},
        {PCI_BAR0 + 4, 0xfffff000},     {PCI_BAR0 + 8, 0xfffe0000},      {PCI_ROM_ADDRESS, 0xffffe001},
        {PCI_INTERRUPT_LINE, 0xff},
    };
    uint8_t before[256];

    (void)state;
    for (unsigned reg = 0; reg < 256; reg++) {
        before[reg] = (uint8_t)rd(reg, 1);
    }
    for (unsigned reg = 0; reg < 0x40; reg += 4) {
        uint32_t mask = 0, ones, zeroes;

        for (unsigned i = 0; i < sizeof(writable) / sizeof(writable[0]); i++) {
            mask |= writable[i].reg == reg ? writable[i].mask : 0;
        }
        wr(reg, 4, 0xffffffff);
        ones = rd(reg, 4);
        wr(reg, 4, 0);
        zeroes = rd(reg, 4);
        assert_int_equal(ones ^ zeroes, mask);
        assert_int_equal(zeroes & ~mask, pci_get32(before, reg) & ~mask);
    }
}

static void test_sizing(void **state)
{
    (void)state;
    place();
    for (unsigned i = 0; i < 2; i++) { /* with decoding on, and off */
        wr(PCI_BAR0, 4, 0xffffffff);
        wr(PCI_BAR0 + 4, 4, 0xffffffff);
        wr(PCI_BAR0 + 8, 4, 0xffffffff);
        wr(PCI_BAR0 + 12, 4, 0xffffffff);
        wr(PCI_ROM_ADDRESS, 4, 0xfffffffe);
        assert_int_equal(rd(PCI_BAR0, 4), 0xffffffe1);
        assert_int_equal(rd(PCI_BAR0 + 4, 4), 0xfffff000);
        assert_int_equal(rd(PCI_BAR0 + 8, 4), 0xfffe0008);
        assert_int_equal(rd(PCI_BAR0 + 12, 4), 0);
        assert_int_equal(rd(PCI_ROM_ADDRESS, 4), 0xffffe000); /* 5000 bytes in an 8 KiB BAR */
        for (unsigned n = 0; n < PCI_REGIONS; n++) {
            assert_true(s->pd.bars[n].addr == UINT64_MAX);
        }
        wr(PCI_COMMAND, 2, 0);
    }
}

static void test_decode(void **state)
{
    (void)state;
    wr(PCI_BAR0, 4, 0xc000);
    wr(PCI_BAR0 + 4, 4, 0xf1000000);
    assert_int_equal(harness_in(h, 0xc000, 1), 0xff);
    assert_int_equal(s->moves, 0);
    wr(PCI_COMMAND, 1, PCI_COMMAND_IO);
    assert_int_equal(harness_in(h, 0xc005, 2), 0x1005);
    assert_int_equal(harness_in(h, 0xc01f, 1), 0x1f);
    assert_int_equal(harness_in(h, 0xc020, 1), 0xff);
    assert_int_equal(harness_read(h, 0xf1000000, 4), 0xffffffff);
    assert_true(s->moved[0] == 0xc000);
    wr(PCI_COMMAND, 1, PCI_COMMAND_MEMORY);
    assert_true(s->moved[0] == UINT64_MAX);
    assert_true(s->moved[1] == 0xf1000000);
    assert_int_equal(harness_in(h, 0xc000, 1), 0xff);
    assert_int_equal(harness_read(h, 0xf1000ffc, 4), 0x1ffc);
    harness_write(h, 0xf1000000, 1, 3);
    assert_int_equal(harness_read(h, 0xf1000000, 4), 0x3000);
    wr(PCI_COMMAND, 1, 0);
    assert_int_equal(harness_read(h, 0xf1000000, 4), 0xffffffff);
}

static void test_move(void **state)
{
    (void)state;
    place();
    wr(PCI_BAR0 + 4, 4, 0xf1800000);
    assert_int_equal(harness_read(h, 0xf1000000, 4), 0xffffffff);
    assert_int_equal(harness_read(h, 0xf1800004, 4), 0x1004);
    /* In pieces, as a guest may: between them the BAR is elsewhere. */
    wr(PCI_BAR0 + 6, 2, 0xf100);
    assert_int_equal(harness_read(h, 0xf1000004, 4), 0x1004);
    wr(PCI_BAR0 + 7, 1, 0xf4);
    assert_int_equal(harness_read(h, 0xf4000004, 4), 0x1004);
    s->moves = 0;
    wr(PCI_BAR0 + 4, 4, 0xf4000fff); /* the same place: bits below the size do not exist */
    assert_int_equal(s->moves, 0);
    /* A dword write across two BARs. */
    wr(PCI_BAR0 + 2, 4, 0x50000000);
    assert_int_equal(rd(PCI_BAR0 + 4, 4), 0xf4005000);
    assert_int_equal(harness_read(h, 0xf4005004, 4), 0x1004);
}

static void test_no_address(void **state)
{
    (void)state;
    place();
    wr(PCI_BAR0, 4, 0);
    wr(PCI_BAR0 + 4, 4, 0);
    assert_int_equal(harness_in(h, 0, 1), 0xff);
    assert_int_equal(harness_read(h, 0, 1), 0xff);
    wr(PCI_BAR0, 4, 0x10000); /* ports end at 64 K */
    assert_true(s->pd.bars[0].addr == UINT64_MAX);
    wr(PCI_BAR0, 4, 0xffe0);
    assert_int_equal(harness_in(h, 0xffff, 1), 0x1f);
}

static void test_swap_inside_a_function(void **state)
{
    (void)state;
    place();
    wr(PCI_COMMAND, 2, 0);
    wr(PCI_BAR0 + 4, 4, 0xf2000000);
    wr(PCI_BAR0 + 8, 4, 0xf1000000);
    wr(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    assert_true(s->moved[1] == 0xf2000000);
    assert_true(s->moved[2] == 0xf1000000);
}

/* The first owner keeps the addresses; the other gets its BAR when it is written again. */
static void test_overlap(void **state)
{
    struct sample *o = sample_add(h, PCI_DEVFN(5, 0));

    (void)state;
    place();
    s->reg = 2;
    harness_pci_write(h, PCI_DEVFN(5, 0), PCI_BAR0 + 4, 4, 0xf1000000);
    harness_pci_write(h, PCI_DEVFN(5, 0), PCI_BAR0, 4, 0xc010);
    harness_pci_write(h, PCI_DEVFN(5, 0), PCI_COMMAND, 2, 3);
    assert_true(o->pd.bars[1].addr == UINT64_MAX);
    assert_int_equal(harness_read(h, 0xf1000000, 4), 0x2000);
    assert_int_equal(harness_in(h, 0xc010, 1), 0x10);
    wr(PCI_COMMAND, 2, 0); /* the other one has waited for that */
    assert_int_equal(harness_read(h, 0xf1000000, 4), 0x1000);
    assert_true(o->moved[1] == 0xf1000000);
    wr(PCI_COMMAND, 2, 3);
    assert_int_equal(harness_read(h, 0xf1000000, 4), 0x1000);
    /* Two that change places, one after the other and decoding all the while. */
    harness_pci_write(h, PCI_DEVFN(5, 0), PCI_BAR0 + 4, 4, 0xf1001000);
    assert_int_equal(harness_read(h, 0xf1000000, 4), 0x2000);
    wr(PCI_BAR0 + 4, 4, 0xf1001000);
    harness_pci_write(h, PCI_DEVFN(5, 0), PCI_BAR0 + 4, 4, 0xf1000000);
    assert_int_equal(harness_read(h, 0xf1000000, 4), 0x1000);
    assert_int_equal(harness_read(h, 0xf1001000, 4), 0x2000);
    pci_unplug(&o->pd);
    wr(PCI_BAR0 + 4, 4, 0xf1000000);
    assert_int_equal(harness_read(h, 0xf1000000, 4), 0x2000);
}

static void test_rom(void **state)
{
    uint8_t buf[2048];

    (void)state;
    place();
    assert_int_equal(harness_read(h, 0xf3000000, 1), rom[0]);
    assert_int_equal(harness_read(h, 0xf3000003, 2), rom[3] | rom[4] << 8);
    harness_write(h, 0xf3000000, 4, 0);
    assert_int_equal(harness_read(h, 0xf3000000, 1), rom[0]);
    assert_true(harness_read(h, 0xf3000000 + ROM_LEN - 2, 4) ==
                (uint64_t)(rom[ROM_LEN - 2] | rom[ROM_LEN - 1] << 8)); /* zeroes follow */
    assert_int_equal(harness_read(h, 0xf3001fff, 1), 0);
    bus_read_rep(h->board.bus, BUS_MMIO, 0xf3000800, 4, buf, 512);
    assert_memory_equal(buf, rom + 0x800, sizeof(buf));
    memset(buf, 0xee, sizeof(buf));
    bus_read_rep(h->board.bus, BUS_MMIO, 0xf3001000, 4, buf, 512);
    assert_memory_equal(buf, rom + 0x1000, ROM_LEN - 0x1000);
    for (unsigned i = ROM_LEN - 0x1000; i < sizeof(buf); i++) {
        assert_int_equal(buf[i], 0);
    }
    bus_read_rep(h->board.bus, BUS_MMIO, 0xf3001ff8, 4, buf, 4);
    assert_memory_equal(buf, "\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 16);
    /* The enable bit decodes it, together with COMMAND. */
    wr(PCI_ROM_ADDRESS, 1, 0);
    assert_int_equal(harness_read(h, 0xf3000000, 1), 0xff);
    wr(PCI_ROM_ADDRESS, 1, 1);
    assert_int_equal(harness_read(h, 0xf3000000, 1), rom[0]);
    wr(PCI_COMMAND, 1, PCI_COMMAND_IO);
    assert_int_equal(harness_read(h, 0xf3000000, 1), 0xff);
    assert_int_equal(rd(PCI_ROM_ADDRESS, 4), 0xf3000001);
}

static void test_vram_bar(void **state)
{
    (void)state;
    place();
    assert_true(s->moved[2] == 0xf2000000);
    assert_int_equal(harness_read(h, 0xf2000000 + VRAM, 4), 0x1000 + VRAM); /* past the vram the handlers answer */
    pci_vram_trap(&s->pd, 2, true);
    pci_vram_trap(&s->pd, 2, true);
    assert_int_equal(harness_read(h, 0xf2000010, 4), 0x1010);
    pci_vram_trap(&s->pd, 2, false);
    h->plat.fail_vram_place = true; /* a BAR over guest RAM: logged, and the device still works */
    wr(PCI_BAR0 + 8, 4, 0x00100000);
    assert_int_equal(rd(PCI_BAR0 + 8, 4), 0x00100008);
    h->plat.fail_vram_place = false;
    wr(PCI_BAR0 + 8, 4, 0xf2000000);
    assert_true(s->moved[2] == 0xf2000000);
}

/* Decoding off leaves the memory where it is, since it usually comes on again at once; whoever needs the place gets it. */
static void test_vram_lingers(void **state)
{
    (void)state;
    place();
    assert_true(h->plat.vram_gpa == 0xf2000000);
    wr(PCI_COMMAND, 2, PCI_COMMAND_IO);
    assert_true(h->plat.vram_gpa == 0xf2000000);
    wr(PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    assert_true(h->plat.vram_gpa == 0xf2000000);
    wr(PCI_COMMAND, 2, 0);
    wr(PCI_BAR0 + 8, 4, 0xf4000000);
    wr(PCI_BAR0 + 4, 4, 0xf2001000); /* BAR 1 over what stayed behind */
    assert_true(h->plat.vram_gpa == 0xf2000000);
    wr(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    assert_true(h->plat.vram_gpa == 0xf4000000);
    wr(PCI_COMMAND, 2, 0);
    wr(PCI_BAR0 + 8, 4, 0xffff0000); /* not an address: BAR 2 decodes no more */
    wr(PCI_BAR0 + 4, 4, 0xf4000000);
    wr(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    assert_true(h->plat.vram_gpa == VRAM_UNPLACED);
    assert_int_equal(harness_read(h, 0xf4000004, 4), 0x1004);
}

static void test_intx(void **state)
{
    const bool *line = &h->plat.intx[4][1];

    (void)state;
    pci_set_intx(&s->pd, true);
    assert_true(*line);
    assert_int_equal(rd(PCI_STATUS, 1) & 8, 8);
    wr(PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
    assert_false(*line);
    assert_int_equal(rd(PCI_STATUS, 1) & 8, 8); /* pending all the same */
    wr(PCI_STATUS, 2, 0xffff);
    assert_int_equal(rd(PCI_STATUS, 1) & 8, 8);
    wr(PCI_COMMAND, 2, 0);
    assert_true(*line);
    pci_set_intx(&s->pd, false);
    assert_false(*line);
    assert_int_equal(rd(PCI_STATUS, 1) & 8, 0);
    pci_set_intx(&s->pd, true);
    board_reset(&h->board);
    assert_false(*line);
    pci_set_intx(&s->pd, true);
    pci_unplug(&s->pd);
    assert_false(*line);
    pci_set_intx(&s->pd, false);
    pci_set_intx(&s->pd, true); /* a device that does not know yet */
    assert_false(*line);
}

static void test_config_edges(void **state)
{
    (void)state;
    wr(0xfc, 4, 0x44332211);
    assert_int_equal(rd(0xfc, 4), 0x44332211);
    assert_int_equal(rd(0xfe, 4), 0xffff4433); /* past the end: ones */
    assert_int_equal(rd(0xff, 2), 0xff44);
    assert_int_equal(rd(0x100, 4), 0xffffffff);
    assert_int_equal(rd(0xfff, 4), 0xffffffff);
    wr(0xff, 4, 0x00000099);
    assert_int_equal(rd(0xfc, 4), 0x99332211);
    assert_int_equal(s->written_reg, 0xff);
    assert_int_equal(s->written_size, 1);
    s->writes = 0;
    wr(0x100, 4, 0);
    wr(0xfff, 4, 0);
    assert_int_equal(s->writes, 0);
    assert_int_equal(rd(PCI_VENDOR_ID, 4), 0x56781234);
    wr(0x41, 2, 0xbbaa);
    assert_int_equal(rd(0x40, 4), 0x00bbaa00);
    assert_int_equal(rd(0x3f, 4), 0xbbaa0000);
    assert_int_equal(s->written_reg, 0x41);
    assert_int_equal(s->written_size, 2);
    /* No function there. */
    assert_int_equal(harness_pci_read(h, PCI_DEVFN(4, 1), 0, 4), 0xffffffff);
    assert_int_equal(harness_pci_read(h, PCI_DEVFN(31, 7), 0xff, 1), 0xff);
    harness_pci_write(h, PCI_DEVFN(31, 7), 0, 4, 0);
}

static void test_w1c(void **state)
{
    (void)state;
    s->pd.config[PCI_STATUS + 1] |= 0x31;
    wr(PCI_STATUS, 2, 0x1000);
    assert_int_equal(rd(PCI_STATUS, 2), 0x2100);
    wr(PCI_COMMAND, 4, 0x20000002);
    assert_int_equal(rd(PCI_COMMAND, 4), 0x01000002);
}

static void test_slots(void **state)
{
    struct sample *second = sample_new(h, DEVFN);
    struct sample *fn1;
    struct pci_config_id id = sample_id;

    (void)state;
    assert_int_equal(pci_finish(&second->pd), -EEXIST);
    vram_destroy(second->vram);
    free(second);
    assert_ptr_equal(pci_find(h->board.pci, DEVFN), &s->pd);
    assert_null(pci_find(h->board.pci, PCI_DEVFN(4, 1)));
    assert_int_equal(pci_free_slot(h->board.pci, 4), 5);
    assert_int_equal(pci_free_slot(h->board.pci, 1), 1);
    fn1 = sample_add(h, PCI_DEVFN(5, 7)); /* a slot with any function is taken */
    assert_int_equal(pci_free_slot(h->board.pci, 4), 6);
    for (unsigned slot = 6; slot < 32; slot++) {
        sample_add(h, PCI_DEVFN(slot, 0));
    }
    assert_int_equal(pci_free_slot(h->board.pci, 4), -ENOSPC);
    assert_int_equal(harness_pci_read(h, PCI_DEVFN(5, 7), PCI_HEADER_TYPE, 1), 0);
    pci_unplug(&fn1->pd);
    assert_int_equal(pci_free_slot(h->board.pci, 4), 5);
    id.multifunction = true;
    second = calloc(1, sizeof(*second));
    assert_non_null(second);
    pci_init(&second->pd, &h->board, &sample_ops, second, PCI_DEVFN(5, 0), &id);
    assert_int_equal(pci_finish(&second->pd), 0);
    assert_int_equal(harness_pci_read(h, PCI_DEVFN(5, 0), PCI_HEADER_TYPE, 1), 0x80);
}

static void test_unplug(void **state)
{
    (void)state;
    place();
    pci_unplug(&s->pd);
    pci_unplug(&s->pd);
    assert_int_equal(rd(0, 4), 0xffffffff);
    assert_int_equal(harness_in(h, 0xc000, 1), 0xff);
    assert_int_equal(harness_read(h, 0xf1000000, 1), 0xff);
    assert_int_equal(harness_read(h, 0xf3000000, 1), 0xff);
    assert_true(s->moved[0] == UINT64_MAX);
    assert_true(s->moved[2] == UINT64_MAX);
    wr(PCI_COMMAND, 2, 3);
    board_reset(&h->board); /* does not bring it back */
    assert_int_equal(rd(0, 4), 0xffffffff);
    assert_true(s->pd.bars[0].addr == UINT64_MAX);
}

static void test_reset(void **state)
{
    (void)state;
    place();
    wr(0x40, 4, 0x12345678);
    s->writes = 0;
    board_reset(&h->board);
    assert_int_equal(rd(PCI_COMMAND, 2), 0);
    assert_int_equal(rd(PCI_BAR0, 4), 1);
    assert_int_equal(rd(PCI_ROM_ADDRESS, 4), 0);
    assert_int_equal(rd(0x40, 4), 0);
    assert_int_equal(harness_in(h, 0xc000, 1), 0xff);
    assert_int_equal(s->writes, 1); /* the device can follow its configuration */
    assert_int_equal(s->written_reg, 0);
    assert_int_equal(s->written_size, 256);
}

static void test_save(void **state)
{
    struct harness *other = harness_create();
    struct sample *o = sample_add(other, DEVFN);

    (void)state;
    place();
    wr(0x44, 4, 0xcafebabe);
    s->reg = 9;
    pci_set_intx(&s->pd, true);
    assert_true(harness_save_load_save(h));
    assert_true(harness_transfer(h, other));
    assert_int_equal(harness_pci_read(other, DEVFN, 0x44, 4), 0xcafebabe);
    assert_int_equal(harness_in(other, 0xc004, 2), 0x9004);
    assert_int_equal(harness_read(other, 0xf3000001, 1), rom[1]);
    assert_true(o->moved[2] == 0xf2000000);
    assert_true(other->plat.intx[4][1]);
    assert_int_equal(o->written_size, 256);
    pci_unplug(&s->pd);
    assert_true(harness_transfer(h, other));
    assert_int_equal(harness_pci_read(other, DEVFN, 0, 4), 0xffffffff);
    assert_false(other->plat.intx[4][1]);
    harness_destroy(other);
}

/* Saved state is hostile: fixed bits of the header stay ours, another function is refused, every cut too. */
static void test_bad_state(void **state)
{
    struct save_stream st, in;

    (void)state;
    place();
    save_init(&st);
    assert_int_equal(board_save(&h->board, &st), 0);
    for (size_t len = 0; len < st.len; len += 37) {
        save_init_load(&in, st.data, len);
        assert_int_not_equal(board_load(&h->board, &in), 0);
    }
    for (size_t i = 0; i + 4 < st.len; i++) { /* wherever the ID stands in the stream */
        if (memcmp(st.data + i, "\x34\x12\x78\x56", 4) == 0) {
            st.data[i + PCI_INTERRUPT_PIN] = 9;
            st.data[i + PCI_HEADER_TYPE] = 0xff;
            st.data[i + PCI_BAR0] = 0xff;
            save_init_load(&in, st.data, st.len);
            assert_int_equal(board_load(&h->board, &in), 0);
            assert_int_equal(rd(PCI_INTERRUPT_PIN, 1), 2);
            assert_int_equal(rd(PCI_HEADER_TYPE, 1), 0);
            assert_int_equal(rd(PCI_BAR0, 1), 0xe1);
            st.data[i] = 0x35;
            save_init_load(&in, st.data, st.len);
            assert_int_not_equal(board_load(&h->board, &in), 0);
            break;
        }
        assert_true(i + 5 < st.len);
    }
    save_free(&st);
}

static void test_destroy_order(void **state)
{
    struct harness *other = harness_create();
    bool destroyed = false;

    (void)state;
    sample_add(other, DEVFN)->destroyed = &destroyed;
    harness_destroy(other);
    assert_true(destroyed);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_identity),
        TEST(test_write_masks),
        TEST(test_sizing),
        TEST(test_decode),
        TEST(test_move),
        TEST(test_no_address),
        TEST(test_swap_inside_a_function),
        TEST(test_overlap),
        TEST(test_rom),
        TEST(test_vram_bar),
        TEST(test_vram_lingers),
        TEST(test_intx),
        TEST(test_config_edges),
        TEST(test_w1c),
        TEST(test_slots),
        TEST(test_unplug),
        TEST(test_reset),
        TEST(test_save),
        TEST(test_bad_state),
        TEST(test_destroy_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
