/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/stdvga.h"

#include <errno.h>

#include "tests/unit/vga_help.h"

enum { LFB = 0xe0000000, MMIO = 0xe8000000, VRAM = 16 << 20 };

static void dispi_w(struct harness *h, uint16_t index, uint16_t val)
{
    harness_out(h, 0x1ce, 2, index);
    harness_out(h, 0x1cf, 2, val);
}

static uint16_t dispi_r(struct harness *h, uint16_t index)
{
    harness_out(h, 0x1ce, 2, index);
    return (uint16_t)harness_in(h, 0x1cf, 2);
}

static void set_vbe(struct harness *h, uint16_t x, uint16_t y, uint16_t bpp, uint16_t flags)
{
    dispi_w(h, DISPI_ENABLE, 0);
    dispi_w(h, DISPI_XRES, x);
    dispi_w(h, DISPI_YRES, y);
    dispi_w(h, DISPI_BPP, bpp);
    dispi_w(h, DISPI_ENABLE, (uint16_t)(DISPI_ENABLED | DISPI_LFB_ENABLED | flags));
    harness_out(h, 0x3c2, 1, 0x67);
    harness_in(h, 0x3da, 1);
    harness_out(h, 0x3c0, 1, 0x20);
}

static int setup(void **state)
{
    *state = screen_create(stdvga_create, VRAM);
    return 0;
}

static int teardown(void **state)
{
    screen_destroy(*state);
    return 0;
}

static void test_identity(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t dev = PCI_DEVFN(3, 0);

    assert_int_equal(harness_pci_read(h, dev, 0, 4), 0x11111234);
    assert_int_equal(harness_pci_read(h, dev, 8, 4), 0x03000002);
    assert_int_equal(harness_pci_read(h, dev, 0x2c, 4), 0x11001af4);
    assert_int_equal(harness_pci_read(h, dev, 4, 2), 0);
    harness_pci_write(h, dev, 0x10, 4, 0xffffffff);
    assert_int_equal(harness_pci_read(h, dev, 0x10, 4), (uint32_t)-VRAM | 8);
    harness_pci_write(h, dev, 0x18, 4, 0xffffffff);
    assert_int_equal(harness_pci_read(h, dev, 0x18, 4), 0xfffff000);
    harness_pci_write(h, dev, 0x14, 4, 0xffffffff);
    assert_int_equal(harness_pci_read(h, dev, 0x14, 4), 0);
    assert_int_equal(harness_pci_read(h, dev, PCI_INTERRUPT_PIN, 1), 0);
}

static void test_vram_sizes(void **state)
{
    static const struct {
        uint32_t bytes, bar;
        uint16_t units;
    } sizes[] = {
        {1000, 1 << 20, 16}, {12 << 20, 16 << 20, 192}, {64 << 20, 64 << 20, 1024}, {255u << 20, 64 << 20, 1024}};

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct screen *s = screen_create(stdvga_create, sizes[i].bytes);

        assert_int_equal(dispi_r(s->h, DISPI_VIDEO_MEMORY_64K), sizes[i].units);
        harness_pci_write(s->h, PCI_DEVFN(3, 0), 0x10, 4, 0xffffffff);
        assert_int_equal(harness_pci_read(s->h, PCI_DEVFN(3, 0), 0x10, 4), (0 - sizes[i].bar) | 8);
        screen_destroy(s);
    }
}

static void test_rom(void **state)
{
    struct harness *h = harness_create();
    static uint8_t rom[5000];
    struct vga_config cfg = {.devfn = PCI_DEVFN(2, 0), .vram_bytes = 4 << 20, .rom = rom, .rom_len = sizeof(rom)};

    (void)state;
    rom[0] = 0x55;
    rom[4999] = 0xaa;
    assert_int_equal(stdvga_create(&h->board, &cfg, NULL), 0);
    assert_int_equal(stdvga_create(&h->board, &cfg, NULL),
                     -EEXIST); /* ports and slot are taken, nothing is left behind */
    harness_pci_write(h, PCI_DEVFN(2, 0), 0x30, 4, 0xfffffffe);
    assert_int_equal(harness_pci_read(h, PCI_DEVFN(2, 0), 0x30, 4), 0xffffe000);
    harness_pci_write(h, PCI_DEVFN(2, 0), 0x30, 4, 0xe0000001);
    harness_pci_write(h, PCI_DEVFN(2, 0), 4, 2, 2);
    assert_int_equal(harness_read(h, 0xe0000000, 1), 0x55);
    assert_int_equal(harness_read(h, 0xe0001387, 1), 0xaa);
    harness_destroy(h);
}

static void test_dispi_registers(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    assert_int_equal(dispi_r(h, DISPI_ID), 0xb0c5);
    for (uint16_t id = 0xb0c0; id <= 0xb0c5; id++) {
        dispi_w(h, DISPI_ID, id);
        assert_int_equal(dispi_r(h, DISPI_ID), id);
    }
    dispi_w(h, DISPI_ID, 0xb0c6);
    dispi_w(h, DISPI_ID, 0x1234);
    assert_int_equal(dispi_r(h, DISPI_ID), 0xb0c5);
    assert_int_equal(dispi_r(h, DISPI_VIDEO_MEMORY_64K), 256);
    dispi_w(h, DISPI_VIDEO_MEMORY_64K, 1);
    assert_int_equal(dispi_r(h, DISPI_VIDEO_MEMORY_64K), 256);
    dispi_w(h, DISPI_ENABLE, DISPI_GETCAPS);
    assert_int_equal(dispi_r(h, DISPI_XRES), 16000);
    assert_int_equal(dispi_r(h, DISPI_YRES), 12000);
    assert_int_equal(dispi_r(h, DISPI_BPP), 32);
    dispi_w(h, DISPI_ENABLE, 0);
    assert_int_equal(dispi_r(h, DISPI_XRES), 0);
    assert_int_equal(dispi_r(h, 99), 0);
    assert_int_equal(harness_in(h, 0x1ce, 1), 0xff); /* words only */
    harness_out(h, 0x1d0, 2, 7);
    assert_int_equal(harness_in(h, 0x1d0, 2), 0);
}

static void test_sizes(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;

    set_vbe(h, 1366, 768, 32, 0);
    assert_int_equal(dispi_r(h, DISPI_XRES), 1366);
    assert_int_equal(dispi_r(h, DISPI_VIRT_WIDTH), 1366);
    assert_int_equal(dispi_r(h, DISPI_VIRT_HEIGHT), VRAM / (1366 * 4));
    set_vbe(h, 0, 0, 7, 0); /* becomes something that can be shown */
    assert_int_equal(dispi_r(h, DISPI_XRES), 1);
    assert_int_equal(dispi_r(h, DISPI_YRES), 1);
    assert_int_equal(dispi_r(h, DISPI_BPP), 8);
    set_vbe(h, 3000, 3000, 32, 0); /* too large: the lines that fit */
    assert_int_equal(dispi_r(h, DISPI_YRES), VRAM / 12000);
    set_vbe(h, 0xffff, 0xffff, 32, 0);
    assert_int_equal(dispi_r(h, DISPI_XRES), 16000);
    assert_int_equal(dispi_r(h, DISPI_YRES), VRAM / 64000);
    set_vbe(h, 637, 480, 4, 0);
    assert_int_equal(dispi_r(h, DISPI_XRES), 632);
    /* A byte offset that is no whole line, as the Linux driver programs it, stays. */
    set_vbe(h, 800, 600, 32, 0);
    dispi_w(h, DISPI_X_OFFSET, 700);
    dispi_w(h, DISPI_Y_OFFSET, 600);
    assert_int_equal(dispi_r(h, DISPI_X_OFFSET), 700);
    assert_int_equal(dispi_r(h, DISPI_Y_OFFSET), 600);
    dispi_w(h, DISPI_Y_OFFSET, VRAM / 3200 - 599); /* one line too far */
    assert_int_equal(dispi_r(h, DISPI_Y_OFFSET), 0);
}

static void test_clear(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t *mem = vga_memory(h);

    memset(mem, 0x5a, VRAM);
    set_vbe(h, 640, 480, 16, DISPI_NOCLEARMEM);
    assert_int_equal(mem[0], 0x5a);
    set_vbe(h, 640, 480, 16, 0);
    assert_int_equal(mem[0], 0);
    assert_int_equal(mem[640 * 480 * 2 - 1], 0);
    assert_int_equal(mem[640 * 480 * 2], 0x5a);
    mem[0] = 1;
    dispi_w(h, DISPI_ENABLE, DISPI_ENABLED | DISPI_LFB_ENABLED); /* was on: nothing is cleared */
    assert_int_equal(mem[0], 1);
}

static void test_banks(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t *mem = vga_memory(h);

    set_vbe(h, 1024, 768, 32, 0);
    dispi_w(h, DISPI_BANK, 5);
    harness_write(h, 0xa1234, 4, 0xdeadbeef);
    assert_memory_equal(mem + 0x51234, "\xef\xbe\xad\xde", 4);
    assert_int_equal(harness_read(h, 0xa1236, 2), 0xdead);
    dispi_w(h, DISPI_BANK, 0x105); /* wraps at the memory's 256 banks */
    assert_int_equal(dispi_r(h, DISPI_BANK), 5);
    dispi_w(h, DISPI_BANK, 0xff);
    harness_write(h, 0xafffc, 8, 0x1122334455667788); /* beyond the window nothing */
    assert_int_equal(mem[VRAM - 1], 0x55);
    dispi_w(h, DISPI_ENABLE, 0);
    assert_int_equal(harness_read(h, 0xa1234, 1), mem[0x1234 & ~3u]); /* bank 0, and planes again */
}

static void test_mmio(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t edid[128];
    unsigned sum = 0;

    map_bar(h, 2, MMIO);
    for (unsigned i = 0; i < 128; i++) {
        edid[i] = (uint8_t)harness_read(h, MMIO + i, 1);
        sum += edid[i];
    }
    assert_int_equal(sum & 0xff, 0);
    assert_memory_equal(edid, "\0\xff\xff\xff\xff\xff\xff\0", 8);
    assert_int_equal(edid[18] << 8 | edid[19], 0x104);
    assert_int_equal(edid[126], 0);
    assert_int_equal(edid[56] | (edid[58] & 0xf0) << 4, 1024); /* preferred timing */
    assert_int_equal(edid[59] | (edid[61] & 0xf0) << 4, 768);
    assert_int_equal(harness_read(h, MMIO + 0x80, 4), 0xffffffff);
    /* VGA ports, in bytes and pairs */
    harness_write(h, MMIO + 0x404, 2, 0x0302);
    assert_int_equal(reg_r(h, 0x3c4, 2), 3);
    assert_int_equal(harness_read(h, MMIO + 0x404, 2), 0x0302);
    /* DISPI */
    harness_write(h, MMIO + 0x502, 2, 800);
    harness_write(h, MMIO + 0x504, 4, 16u << 16 | 600);
    assert_int_equal(dispi_r(h, DISPI_XRES), 800);
    assert_int_equal(dispi_r(h, DISPI_YRES), 600);
    assert_int_equal(dispi_r(h, DISPI_BPP), 16);
    assert_int_equal(harness_read(h, MMIO + 0x500, 2), 0xb0c5);
    harness_write(h, MMIO + 0x503, 1, 0xff); /* no half registers */
    assert_int_equal(dispi_r(h, DISPI_XRES), 800);
    /* frame buffer byte order */
    assert_int_equal(harness_read(h, MMIO + 0x600, 4), 8);
    assert_int_equal(harness_read(h, MMIO + 0x604, 4), 0x1e1e1e1e);
    assert_int_equal(harness_read(h, MMIO + 0xffd, 4) & 0xffffff, 0xffffff);
}

static void test_depths(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;
    uint8_t *mem = vga_memory(h);
    static const struct {
        uint16_t bpp;
        const char *pixel;
        uint8_t bytes;
        uint32_t want;
    } depths[] = {
        {15, "\x00\x7c", 2, 0xff0000}, {15, "\x10\x42", 2, 0x848484},     {16, "\xe0\x07", 2, 0x00ff00},
        {16, "\x10\x84", 2, 0x848284}, {24, "\x33\x22\x11", 3, 0x112233}, {32, "\x33\x22\x11\xff", 4, 0x112233},
        {8, "\x99", 1, 0xff00ff},
    };

    for (unsigned i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        set_vbe(h, 1366, 768, depths[i].bpp, 0);
        dac_w(h, 0x99, 63, 0, 63);
        memcpy(mem + (700 * 1366 + 1365) * depths[i].bytes, depths[i].pixel, depths[i].bytes);
        screen_look(s);
        assert_int_equal(display_width(s->d), 1366);
        assert_int_equal(display_height(s->d), 768);
        assert_int_equal(pixel(s, 1365, 700), depths[i].want);
        assert_int_equal(pixel(s, 1364, 700), 0);
    }
}

static void test_8bit_dac(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;

    set_vbe(h, 640, 480, 8, DISPI_8BIT_DAC);
    dac_w(h, 0, 0x81, 0x42, 0x01);
    screen_look(s);
    assert_int_equal(pixel(s, 0, 0), 0x814201);
    dispi_w(h, DISPI_ENABLE, DISPI_ENABLED | DISPI_LFB_ENABLED);
    screen_look(s);
    assert_int_equal(pixel(s, 0, 0), 0x040804);
}

static void test_planar_vbe(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;

    set_mode(h, &mode_12);
    set_vbe(h, 800, 600, 4, 0);
    seq_w(h, 2, 8);
    seq_w(h, 4, 6);
    harness_write(h, 0xa0000 + 100 * 599 + 1, 1, 0x80); /* 100 bytes a line */
    screen_look(s);
    assert_int_equal(display_width(s->d), 800);
    assert_int_equal(pixel(s, 8, 599), dac_color(0x38));
    assert_int_equal(pixel(s, 9, 599), dac_color(0));
    dispi_w(h, DISPI_VIRT_WIDTH, 1024);
    dispi_w(h, DISPI_X_OFFSET, 13);
    harness_write(h, 0xa0000 + 128 * 2 + 2, 1, 0x01); /* x = 23 */
    screen_look(s);
    assert_int_equal(pixel(s, 10, 2), dac_color(0x38));
}

static void test_panning_and_dirty_rows(void **state)
{
    struct screen *s = *state;
    struct harness *h = s->h;
    uint32_t *mem = (uint32_t *)(void *)vga_memory(h);

    map_bar(h, 0, LFB);
    set_vbe(h, 640, 480, 32, 0);
    dispi_w(h, DISPI_VIRT_WIDTH, 1000);
    screen_look(s);
    mem[50 * 1000 + 20] = 0x123456;
    mem[50 * 1000 + 700] = 0x999999; /* outside */
    screen_look(s);
    assert_int_equal(pixel(s, 20, 50), 0x123456);
    assert_int_equal(s->updates, 1);
    assert_int_equal(s->x, 20);
    assert_int_equal(s->x1, 21);
    assert_int_equal(s->y, 50);
    assert_int_equal(s->y1, 51);
    dispi_w(h, DISPI_X_OFFSET, 300);
    dispi_w(h, DISPI_Y_OFFSET, 40);
    screen_look(s);
    assert_int_equal(pixel(s, 400, 10), 0x999999);
    screen_look(s);
    assert_int_equal(s->updates, 0);
}

/* Where the hypervisor will not have the memory, accesses come to us. */
static void test_lfb_not_placed(void **state)
{
    struct harness *h = ((struct screen *)*state)->h;
    uint8_t block[32] = {1, 2, 3};

    h->plat.fail_vram_place = true;
    map_bar(h, 0, LFB);
    harness_write(h, LFB + 0x100, 8, 0x1122334455667788);
    assert_int_equal(harness_read(h, LFB + 0x104, 4), 0x11223344);
    bus_write_rep(h->board.bus, BUS_MMIO, LFB + VRAM - 32, 4, block, 8);
    assert_int_equal(vga_memory(h)[VRAM - 31], 2);
}

static void test_save(void **state)
{
    struct screen *s = *state;
    struct screen *to = screen_create(stdvga_create, VRAM);
    struct save_stream st;

    set_vbe(s->h, 1366, 768, 24, DISPI_8BIT_DAC);
    dispi_w(s->h, DISPI_Y_OFFSET, 3);
    dispi_w(s->h, DISPI_BANK, 9);
    assert_true(harness_save_load_save(s->h));
    assert_true(harness_transfer(s->h, to->h));
    assert_int_equal(dispi_r(to->h, DISPI_XRES), 1366);
    vga_memory(to->h)[1366 * 3 * 3] = 0x77;
    harness_write(to->h, 0xa0000, 1, 0x66);
    assert_int_equal(vga_memory(to->h)[9 << 16], 0x66);
    screen_look(to);
    assert_int_equal(pixel(to, 0, 0), 0x77);
    /* Every byte of the record flipped: refused or taken, never out of bounds. */
    set_vbe(s->h, 64, 64, 24, 0);
    save_init(&st);
    assert_int_equal(board_save(&s->h->board, &st), 0);
    for (size_t i = 0; i < st.len; i += 1 + i % 3) {
        struct save_stream in;

        st.data[i] ^= 0xff;
        save_init_load(&in, st.data, st.len);
        if (board_load(&to->h->board, &in) == 0) {
            screen_look(to);
            harness_write(to->h, 0xa0000, 8, 0);
        }
        st.data[i] ^= 0xff;
    }
    save_free(&st);
    screen_destroy(to);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_identity),       T(test_vram_sizes), T(test_rom),        T(test_dispi_registers),
        T(test_sizes),          T(test_clear),      T(test_banks),      T(test_mmio),
        T(test_depths),         T(test_8bit_dac),   T(test_planar_vbe), T(test_panning_and_dirty_rows),
        T(test_lfb_not_placed), T(test_save),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
