/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A boot program that shows every video mode: it sets each BIOS mode (00h-07h, 0Dh-13h), the two
 * other text fonts, and each mode of the VBE mode list, banked and linear, draws a pattern, says so
 * in one line on COM1 and waits for a byte there. Real mode with 4 GiB segments ("unreal"), so that
 * the linear memory is in reach.
 *
 *   mode 118 vbe linear w=1024 h=768 bpp=32 model=6 pitch=4096 dac=6 rgb=8@16,8@8,8@0 seed=57
 *   text 03 bios cols=80 rows=25 cell=16 seed=3
 *   fail 118 vbe linear status=014f
 *   gallery done
 *
 * The pattern, as a function of the pixel's column x and row y (tests/box/gallery.py has it again):
 *   all ones in the outermost columns and rows
 *   bars in rows 8 to 8 + h/8: with up to 4 bits a pixel all colours, 16 pixels each; with 8 bits
 *     all, 4 pixels each; else the eight corners of the colour cube, 16 pixels each
 *   elsewhere C(x + seed) ^ T(y), with which each pixel tells where it is: column_value() and
 *     row_value()
 * Text: cell i is character i + seed with attribute 5i + 3(i / 256), modulo 256.
 */
#include <stdint.h>

enum {
    COM1 = 0x3f8,
    ATTRIBUTE = 0x3c0,
    MISC_WRITE = 0x3c2,
    SEQUENCER = 0x3c4,
    DAC_WRITE_INDEX = 0x3c8,
    DAC_DATA = 0x3c9,
    MISC_READ = 0x3cc,
    VBE_OK = 0x4f,
    /* Where the BIOS keeps the text geometry. */
    BDA_COLUMNS = 0x44a,
    BDA_LAST_ROW = 0x484,
    BDA_CELL_HEIGHT = 0x485,
    /* Buffers of 64 KiB each. */
    COLUMNS = 0x20000,
    BARS = 0x30000,
    EDGES = 0x40000,
    ROW = 0x50000,
    PLANE = 0x4000, /* from one plane to the next in a buffer */
    /* VBE's memory models */
    TEXT = 0,
    CGA = 1,
    PLANAR = 3,
    PACKED = 4,
    DIRECT = 6,
    UNITS = 12, /* bytes after which every depth's pixels repeat */
};

struct registers {
    uint32_t eax, ebx, ecx, edx, edi;
};

/* What is drawn, and where. */
struct mode {
    uint16_t number;
    uint8_t vbe, linear;
    uint8_t model, bpp;
    uint16_t width, height;
    uint32_t pitch;
    uint32_t memory;                 /* of the first byte, or of the window */
    uint32_t window_size, positions; /* bytes; steps from one window position to the next */
    uint8_t size[3], shift[3];       /* red, green, blue of a pixel */
    uint8_t dac;
};

struct vbe_info {
    char signature[4];
    uint16_t version;
    uint32_t vendor;
    uint32_t capabilities;
    uint16_t list_offset, list_segment;
    uint8_t rest[512 - 18];
} __attribute__((packed));

struct vbe_mode_info {
    uint16_t attributes;
    uint8_t window_a, window_b;
    uint16_t granularity_kb, size_kb, segment_a, segment_b;
    uint32_t function;
    uint16_t pitch, width, height;
    uint8_t cell_width, cell_height, planes, bpp, banks, model, bank_size, pages, one;
    struct {
        uint8_t size, shift;
    } colour[4];
    uint8_t direct_info;
    uint32_t base;
    uint8_t unused[6];
    uint16_t linear_pitch;
    uint8_t rest[256 - 52];
} __attribute__((packed));

static const struct mode bios_modes[] = {
    {.number = 0x00, .model = TEXT},
    {.number = 0x01, .model = TEXT},
    {.number = 0x02, .model = TEXT},
    {.number = 0x03, .model = TEXT},
    {.number = 0x04, .model = CGA, .bpp = 2, .width = 320, .height = 200, .pitch = 80},
    {.number = 0x05, .model = CGA, .bpp = 2, .width = 320, .height = 200, .pitch = 80},
    {.number = 0x06, .model = CGA, .bpp = 1, .width = 640, .height = 200, .pitch = 80},
    {.number = 0x07, .model = TEXT},
    {.number = 0x0d, .model = PLANAR, .bpp = 4, .width = 320, .height = 200, .pitch = 40},
    {.number = 0x0e, .model = PLANAR, .bpp = 4, .width = 640, .height = 200, .pitch = 80},
    {.number = 0x0f, .model = PLANAR, .bpp = 1, .width = 640, .height = 350, .pitch = 80},
    {.number = 0x10, .model = PLANAR, .bpp = 4, .width = 640, .height = 350, .pitch = 80},
    {.number = 0x11, .model = PLANAR, .bpp = 1, .width = 640, .height = 480, .pitch = 80},
    {.number = 0x12, .model = PLANAR, .bpp = 4, .width = 640, .height = 480, .pitch = 80},
    {.number = 0x13, .model = PACKED, .bpp = 8, .width = 320, .height = 200, .pitch = 320},
};

static struct vbe_info vbe;
static struct vbe_mode_info info;
static uint16_t vbe_list[256];
static uint16_t sequence;
static uint32_t position; /* of the window */

/* start.S */
void gallery(void);
__attribute__((regparm(1))) void call_bios(struct registers *r);
void flatten(void);

static void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static uint8_t inb(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

/* String instructions, because the device model gets each of them as one request. */
static void outs(uint16_t port, const uint8_t *data, uint32_t n)
{
    __asm__ volatile("addr32 rep outsb" : "+S"(data), "+c"(n) : "d"(port) : "memory");
}

static void copy(uint32_t to, uint32_t from, uint32_t n)
{
    uint32_t words = n / 4;

    n %= 4;
    __asm__ volatile("addr32 rep movsl" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("addr32 rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static void clear(uint32_t to, uint32_t n)
{
    n /= 4;
    __asm__ volatile("addr32 rep stosl" : "+D"(to), "+c"(n) : "a"(0) : "memory");
}

/* A video BIOS call; AX afterwards. Segments are flat again. */
static uint16_t bios(uint16_t ax, uint16_t bx, uint16_t cx, uint16_t dx, void *di)
{
    struct registers r = {ax, bx, cx, dx, (uint32_t)di};

    call_bios(&r);
    flatten();
    return (uint16_t)r.eax;
}

/* ---- serial line ---- */

static void say_char(char c)
{
    while (!(inb(COM1 + 5) & 0x20)) {
    }
    outb(COM1, (uint8_t)c);
}

static void say(const char *s)
{
    while (*s != 0) {
        say_char(*s++);
    }
}

static void say_hex(uint32_t v, int digits)
{
    while (digits-- > 0) {
        say_char("0123456789abcdef"[v >> 4 * digits & 15]);
    }
}

static void say_number(const char *name, uint32_t v)
{
    char digits[12];
    int n = 0;

    say(name);
    do {
        digits[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0);
    while (n > 0) {
        say_char(digits[--n]);
    }
}

static void serial_init(void)
{
    outb(COM1 + 1, 0); /* no interrupts */
    outb(COM1 + 3, 0x80);
    outb(COM1, 1); /* 115200, 8n1 */
    outb(COM1 + 1, 0);
    outb(COM1 + 3, 3);
    outb(COM1 + 2, 7);
    outb(COM1 + 4, 3);
}

/* Looks for a byte 18 times a second: whoever takes the picture needs the CPU. */
static void wait_for_byte(void)
{
    while (!(inb(COM1 + 5) & 1)) {
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    }
    (void)inb(COM1);
    flatten();
}

/* The first words of a line: what the mode is and how it was set. */
static void say_mode(const char *what, const struct mode *m)
{
    say(what);
    say_char(' ');
    say_hex(m->number, m->vbe ? 3 : 2);
    say(m->vbe ? " vbe" : " bios");
    say(m->linear ? " linear" : m->vbe ? " banked" : "");
}

/* ---- colours ---- */

/* Entry i of the palette: a 3-3-2 colour cube with 8 bits a pixel; black and white by turns with
 * one; else intensity, red, green, blue. */
static void load_dac(const struct mode *m)
{
    static uint8_t dac[768];
    uint8_t *p = dac;

    for (unsigned i = 0; i < 256; i++) {
        if (m->dac == 8) {
            *p++ = (uint8_t)((i >> 5) * 36 + 3);
            *p++ = (uint8_t)((i >> 2 & 7) * 36 + 3);
            *p++ = (uint8_t)((i & 3) * 85);
        } else if (m->bpp == 8) {
            *p++ = (uint8_t)((i >> 5) * 9);
            *p++ = (uint8_t)((i >> 2 & 7) * 9);
            *p++ = (uint8_t)((i & 3) * 21);
        } else if (m->bpp == 1) {
            for (unsigned k = 0; k < 3; k++) {
                *p++ = i & 1 ? 63 : 0;
            }
        } else {
            for (unsigned bit = 4; bit != 0; bit >>= 1) {
                *p++ = (uint8_t)((i & bit ? 42 : 0) + (i & 8 ? 21 : 0));
            }
        }
    }
    outb(DAC_WRITE_INDEX, 0);
    outs(DAC_DATA, dac, sizeof(dac));
}

static void put_attribute(uint8_t index, uint8_t value)
{
    (void)inb(inb(MISC_READ) & 1 ? 0x3da : 0x3ba); /* the next byte is an index */
    outb(ATTRIBUTE, index);
    outb(ATTRIBUTE, value);
}

/* Attribute i is DAC entry i. What else the attribute controller does is as the BIOS has it; but in
 * mode 7 SeaBIOS cannot tell the controller index from value, because it reads the wrong status
 * port, and leaves nonsense and a dark screen. */
static void load_attributes(const struct mode *m)
{
    static const uint8_t mode7[] = {0x06, 0x00, 0x0f, 0x08, 0x00}; /* 10h-14h; no blinking */

    for (uint8_t i = 0; i < 16; i++) {
        put_attribute(i, i);
    }
    for (uint8_t i = 0; i < sizeof(mode7) && m->number == 7; i++) {
        put_attribute((uint8_t)(0x10 + i), mode7[i]);
    }
    outb(ATTRIBUTE, 0x20); /* the palette is complete: show it */
}

/* ---- the pattern ---- */

/* All digits of `bits` bits, exclusively ored. */
static uint32_t fold(uint32_t v, unsigned bits)
{
    uint32_t sum = 0;

    for (; v != 0; v >>= bits) {
        sum ^= v;
    }
    return sum & ((1u << bits) - 1);
}

static uint32_t column_value(const struct mode *m, uint32_t x)
{
    x += sequence;
    return m->bpp <= 8    ? fold(x, m->bpp)
           : m->bpp <= 16 ? x & 0xffff
                          : (x & 0xff) | (x >> 8 & 15) << 20;
}

static uint32_t row_value(const struct mode *m, uint32_t y)
{
    return m->bpp <= 8    ? fold(y, m->bpp)
           : m->bpp <= 16 ? y << 5 & 0xffff
                          : (y & 0xff) << 8 | (y >> 8 & 15) << 16;
}

static uint32_t bar_value(const struct mode *m, uint32_t x)
{
    uint32_t v = 0;

    if (m->bpp <= 4) {
        return x >> 4 & ((1u << m->bpp) - 1);
    }
    if (m->bpp == 8) {
        return x >> 2 & 0xff;
    }
    for (unsigned k = 0; k < 3; k++) {
        v |= x >> 4 & 4u >> k ? ((1u << m->size[k]) - 1) << m->shift[k] : 0;
    }
    return v;
}

/* Puts a pixel into a buffer that is all zeros there. */
static void put_pixel(const struct mode *m, uint32_t buffer, uint32_t x, uint32_t v)
{
    volatile uint8_t *b = (volatile uint8_t *)buffer;

    if (m->model == PLANAR && m->bpp == 4) {
        for (unsigned p = 0; p < 4; p++) {
            b[p * PLANE + x / 8] |= (uint8_t)((v >> p & 1) << (7 - x % 8));
        }
    } else if (m->bpp < 8) {
        unsigned n = 8u / m->bpp;

        b[x / n] |= (uint8_t)((v & ((1u << m->bpp) - 1)) << (n - 1 - x % n) * m->bpp);
    } else {
        unsigned bytes = (m->bpp + 7u) / 8;

        for (unsigned i = 0; i < bytes; i++) {
            b[x * bytes + i] = (uint8_t)(v >> 8 * i);
        }
    }
}

/* ROW becomes the row: n bytes of (columns ^ the row's value) | edges. */
static void make_row(const struct mode *m, uint32_t y, unsigned plane, uint32_t n)
{
    const volatile uint32_t *column = (const volatile uint32_t *)(COLUMNS + plane * PLANE);
    const volatile uint32_t *edge = (const volatile uint32_t *)(EDGES + plane * PLANE);
    volatile uint32_t *out = (volatile uint32_t *)ROW;
    uint32_t v = row_value(m, y);
    uint32_t t[UNITS / 4];
    uint8_t *bytes = (uint8_t *)t;

    for (unsigned i = 0; i < UNITS; i++) {
        switch (m->bpp) {
        case 1:
            bytes[i] = (uint8_t)(v * 0xff);
            break;
        case 2:
            bytes[i] = (uint8_t)(v * 0x55);
            break;
        case 4:
            bytes[i] = v >> plane & 1 ? 0xff : 0;
            break;
        default:
            bytes[i] = (uint8_t)(v >> 8 * (i % ((m->bpp + 7u) / 8)));
        }
    }
    for (uint32_t i = 0; i < (n + 3) / 4; i += 3) {
        out[i] = (column[i] ^ t[0]) | edge[i];
        out[i + 1] = (column[i + 1] ^ t[1]) | edge[i + 1];
        out[i + 2] = (column[i + 2] ^ t[2]) | edge[i + 2];
    }
}

/* n bytes to where the mode's memory has them. */
static void put_bytes(const struct mode *m, uint32_t offset, uint32_t from, uint32_t n)
{
    if (m->window_size == 0) {
        copy(m->memory + offset, from, n);
        return;
    }
    while (n != 0) {
        uint32_t wanted = offset / m->window_size * m->positions;
        uint32_t rest = m->window_size - offset % m->window_size;
        uint32_t now = n < rest ? n : rest;

        if (wanted != position) {
            bios(0x4f05, 0, 0, (uint16_t)wanted, 0);
            position = wanted;
        }
        copy(m->memory + offset % m->window_size, from, now);
        offset += now;
        from += now;
        n -= now;
    }
}

static void draw_plane(const struct mode *m, unsigned plane)
{
    uint32_t n = (m->width * m->bpp + 7u) / 8;

    if (m->bpp >= 15) {
        n = m->width * ((m->bpp + 7u) / 8);
    } else if (m->model == PLANAR) {
        n = (m->width + 7u) / 8;
    }
    for (uint32_t y = 0; y < m->height; y++) {
        uint32_t offset = m->model == CGA ? (y & 1) * 0x2000 + y / 2 * m->pitch : y * m->pitch;
        uint32_t from = ROW;

        if (y == 0 || y + 1 == m->height) {
            for (uint32_t i = 0; i < n; i++) {
                ((volatile uint8_t *)ROW)[i] = 0xff;
            }
        } else if (y >= 8 && y < 8u + m->height / 8) {
            from = BARS + plane * PLANE;
        } else {
            make_row(m, y, plane, n);
        }
        put_bytes(m, offset, from, n);
    }
}

static void draw(const struct mode *m)
{
    static const uint32_t buffers[] = {COLUMNS, BARS, EDGES};

    position = 0; /* where setting a mode puts the window */
    for (unsigned i = 0; i < 3; i++) {
        clear(buffers[i], 0x10000);
    }
    for (uint32_t x = 0; x < m->width; x++) {
        uint32_t edge = x == 0 || x + 1 == m->width ? UINT32_MAX : 0;

        put_pixel(m, COLUMNS, x, column_value(m, x));
        put_pixel(m, BARS, x, bar_value(m, x) | edge);
        put_pixel(m, EDGES, x, edge);
    }
    if (m->model != PLANAR) {
        draw_plane(m, 0);
        return;
    }
    for (unsigned p = 0; p < (m->bpp == 1 ? 1 : 4); p++) {
        outb(SEQUENCER, 2);
        outb(SEQUENCER + 1, m->bpp == 1 ? 0x0f : (uint8_t)(1u << p));
        draw_plane(m, p);
    }
    outb(SEQUENCER + 1, 0x0f);
}

static void draw_text(const struct mode *m)
{
    static uint16_t cells[132 * 60];
    uint32_t columns = *(volatile uint16_t *)BDA_COLUMNS;
    uint32_t rows = *(volatile uint8_t *)BDA_LAST_ROW + 2u; /* a part of the next may show */
    uint32_t n = columns * rows;

    n = n < sizeof(cells) / 2 ? n : sizeof(cells) / 2;
    for (uint32_t i = 0; i < n; i++) {
        cells[i] = (uint16_t)(((5 * i + 3 * (i >> 8)) & 0xff) << 8 | ((i + sequence) & 0xff));
    }
    copy(m->number == 7 ? 0xb0000 : 0xb8000, (uint32_t)cells, n * 2);
}

/* The mode is set: draws, reports, waits. */
static void show(const struct mode *m)
{
    sequence++;
    if (m->model == TEXT) {
        bios(0x1003, 0, 0, 0, 0);      /* intensity, no blinking */
        bios(0x0100, 0, 0x2000, 0, 0); /* no cursor */
    }
    if (m->bpp <= 4) {
        load_attributes(m);
    }
    if (m->bpp <= 8) {
        load_dac(m);
    }
    if (m->model == TEXT) {
        draw_text(m);
        say_mode("text", m);
        say_number(" cols=", *(volatile uint16_t *)BDA_COLUMNS);
        say_number(" rows=", *(volatile uint8_t *)BDA_LAST_ROW + 1u);
        say_number(" cell=", *(volatile uint16_t *)BDA_CELL_HEIGHT);
    } else {
        draw(m);
        say_mode("mode", m);
        say_number(" w=", m->width);
        say_number(" h=", m->height);
        say_number(" bpp=", m->bpp);
        say_number(" model=", m->model);
        say_number(" pitch=", m->pitch);
        say_number(" dac=", m->dac);
        for (unsigned k = 0; k < 3; k++) {
            say_number(k == 0 ? " rgb=" : ",", m->size[k]);
            say_number("@", m->shift[k]);
        }
    }
    say_number(" seed=", sequence);
    say("\r\n");
    wait_for_byte();
}

/* SeaBIOS sets the CRTC before the register that says at which ports it is (3BXh in mode 7, else
 * 3DXh): from or to mode 7 it would keep the old mode's timing. */
static void choose_crtc(uint16_t number)
{
    outb(MISC_WRITE, (uint8_t)((inb(MISC_READ) & 0xfe) | (number == 7 ? 0 : 1)));
}

static void show_bios_modes(void)
{
    for (unsigned i = 0; i < sizeof(bios_modes) / sizeof(*bios_modes); i++) {
        struct mode m = bios_modes[i];

        m.memory = m.model == CGA ? 0xb8000 : 0xa0000;
        m.dac = 6;
        choose_crtc(m.number);
        bios(m.number, 0, 0, 0, 0);
        show(&m);
        if (m.number == 3 || m.number == 7) {
            bios(0x1111, 0, 0, 0, 0); /* 8x14 */
            show(&m);
            bios(0x1112, 0, 0, 0, 0); /* 8x8 */
            show(&m);
        }
    }
}

static void show_vbe_mode(uint16_t number, int linear)
{
    struct mode m = {.number = number,
                     .vbe = 1,
                     .linear = (uint8_t)linear,
                     .model = info.model,
                     .bpp = info.bpp,
                     .width = info.width,
                     .height = info.height,
                     .pitch = linear && info.linear_pitch != 0 ? info.linear_pitch : info.pitch,
                     .memory = linear ? info.base : (uint32_t)info.segment_a << 4,
                     .dac = 6};
    uint16_t status;

    for (unsigned k = 0; k < 3; k++) {
        m.size[k] = info.colour[k].size;
        m.shift[k] = info.colour[k].shift;
    }
    if (!linear && (m.model >= PLANAR) && info.granularity_kb != 0) {
        m.window_size = info.size_kb * 1024u;
        m.positions = info.size_kb / info.granularity_kb;
    }
    if (m.model == TEXT) {
        m.bpp = 0;
    }
    choose_crtc(number);
    status = bios(0x4f02, (uint16_t)(number | (linear ? 0x4000 : 0)), 0, 0, 0);
    if (status != VBE_OK) {
        say_mode("fail", &m);
        say(" status=");
        say_hex(status, 4);
        say("\r\n");
        return;
    }
    /* The linear picture of 256 colours has the wide palette where there is one. */
    if (linear && m.bpp == 8 && (vbe.capabilities & 1) && bios(0x4f08, 0x0800, 0, 0, 0) == VBE_OK) {
        m.dac = 8;
    }
    show(&m);
}

static void show_vbe_modes(void)
{
    const volatile uint16_t *list;
    unsigned n = 0;

    vbe.signature[0] = 'V';
    vbe.signature[1] = 'B';
    vbe.signature[2] = 'E';
    vbe.signature[3] = '2';
    if (bios(0x4f00, 0, 0, 0, &vbe) != VBE_OK) {
        say("fail: no VBE\r\n");
        return;
    }
    list = (const volatile uint16_t *)((uint32_t)vbe.list_segment * 16 + vbe.list_offset);
    while (n < sizeof(vbe_list) / 2 &&
           list[n] != 0xffff) { /* it may be in the block that is overwritten */
        vbe_list[n] = list[n];
        n++;
    }
    for (unsigned i = 0; i < n; i++) {
        clear((uint32_t)&info, sizeof(info));
        if (bios(0x4f01, 0, vbe_list[i], 0, &info) != VBE_OK || !(info.attributes & 1)) {
            continue; /* not with this memory */
        }
        if (!(info.attributes & 0x40)) {
            show_vbe_mode(vbe_list[i], 0);
        }
        if (info.attributes & 0x80) {
            show_vbe_mode(vbe_list[i], 1);
        }
    }
}

void gallery(void)
{
    flatten();
    serial_init();
    say("\r\ngallery\r\n");
    show_bios_modes();
    show_vbe_modes();
    choose_crtc(3);
    bios(3, 0, 0, 0, 0);
    say("gallery done\r\n");
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}
