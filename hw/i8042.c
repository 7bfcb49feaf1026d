/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 8042 keyboard controller with auxiliary port. Sources: IBM PS/2 Hardware Interface Technical
 * Reference, "Keyboard and Auxiliary Device Controller"; Intel UPI-42 data sheet.
 *
 * One output buffer serves controller, keyboard and mouse; it is filled when it is empty, in the
 * order controller's answer, keyboard's answer, mouse, scan codes. A byte that was fetched stays
 * readable until the next one comes.
 */
#include "hw/i8042.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/board.h"
#include "core/log.h"
#include "hw/ps2.h"

enum i8042_status {                            /* port 0x64, read */
                    I8042_STR_OBF = 0x01,      /* output buffer full */
                    I8042_STR_SYS = 0x04,      /* system flag: self test passed */
                    I8042_STR_CMD = 0x08,      /* the last write went to 0x64 */
                    I8042_STR_UNLOCKED = 0x10, /* keyboard lock open */
                    I8042_STR_AUX = 0x20,      /* the output buffer holds a mouse byte */
};

enum i8042_command_byte { /* RAM byte 0 */
                          I8042_CCB_KBD_INT = 0x01,
                          I8042_CCB_AUX_INT = 0x02,
                          I8042_CCB_KBD_DISABLE = 0x10,
                          I8042_CCB_AUX_DISABLE = 0x20,
                          I8042_CCB_TRANSLATE = 0x40,
};

enum i8042_output_port {
    I8042_OUT_RESET = 0x01, /* active low */
    I8042_OUT_A20 = 0x02,
    I8042_OUT_IRQ1 = 0x10,
    I8042_OUT_IRQ12 = 0x20,
    I8042_OUT_POWER_ON = 0xcf, /* A20 open: it cannot be masked under Xen anyway */
};

enum i8042_command {                             /* port 0x64, write */
                     I8042_CMD_READ_RAM = 0x20,  /* ..0x3f */
                     I8042_CMD_WRITE_RAM = 0x60, /* ..0x7f, one argument */
                     I8042_CMD_TEST_PASSWORD = 0xa4,
                     I8042_CMD_AUX_DISABLE = 0xa7,
                     I8042_CMD_AUX_ENABLE = 0xa8,
                     I8042_CMD_AUX_TEST = 0xa9,
                     I8042_CMD_SELF_TEST = 0xaa,
                     I8042_CMD_KBD_TEST = 0xab,
                     I8042_CMD_KBD_DISABLE = 0xad,
                     I8042_CMD_KBD_ENABLE = 0xae,
                     I8042_CMD_READ_INPUT = 0xc0,
                     I8042_CMD_READ_OUTPUT = 0xd0,
                     I8042_CMD_WRITE_OUTPUT = 0xd1, /* these four take one argument */
                     I8042_CMD_WRITE_KBD_BUF = 0xd2,
                     I8042_CMD_WRITE_AUX_BUF = 0xd3,
                     I8042_CMD_WRITE_AUX = 0xd4,
                     I8042_CMD_A20_OFF = 0xdd,
                     I8042_CMD_A20_ON = 0xdf,
                     I8042_CMD_READ_TEST = 0xe0,
                     I8042_CMD_PULSE = 0xf0, /* ..0xff: a zero bit pulls that output line low */
};

enum { SRC_NONE, SRC_CONTROLLER, SRC_REPLY, SRC_SCANCODE, SRC_AUX, SRC_LAST = SRC_AUX };

/*
 * Scan codes follow each other no faster than this. On the wire one takes a millisecond, and DOS
 * programs that hook the interrupt, read the port and pass on to the BIOS count on reading the same
 * byte twice.
 */
#define SCANCODE_GAP_NS 500000u

struct i8042_regs {
    uint8_t ram[32]; /* [0] is the command byte */
    uint8_t out;     /* output buffer */
    uint8_t src;     /* who filled it: SRC_*, SRC_NONE: it has been read */
    bool out_is_aux;
    uint8_t answer; /* controller's answer that waits for the output buffer */
    bool answer_full, answer_is_aux;
    uint8_t command; /* that waits for its argument, 0: none */
    bool last_was_command;
    bool self_tested;
    uint8_t output_port; /* as written; the interrupt bits are live */
    bool break_prefix;   /* translation has swallowed an F0 */
};

struct i8042 {
    struct i8042_regs r;
    struct ps2_kbd kbd;
    struct ps2_mouse mouse;
    struct {
        struct board *board;
        struct input *input;
        struct timer gap; /* armed only while a scan code waits */
        uint64_t scancode_ns;
        int region[2];
    } h;
};

/* Set 2 -> set 1 for codes below 0x80; of the others only F7 and SysRq change. (PS/2 reference,
 * "Scan code translation") */
static const uint8_t translation[128] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
};

static uint8_t translate(uint8_t code)
{
    return code < 0x80 ? translation[code] : code == 0x83 ? 0x41 : code == 0x84 ? 0x54 : code;
}

static void update_irq(struct i8042 *s)
{
    struct irq_line *irq = s->h.board->isa_irq;
    bool full = s->r.src != SRC_NONE;

    /* Disabling the keyboard holds its interrupt too: a driver that does so to ask the controller
     * something would see its own handler take the answer. */
    irq_set(&irq[1],
            full && !s->r.out_is_aux &&
                (s->r.ram[0] & (I8042_CCB_KBD_INT | I8042_CCB_KBD_DISABLE)) == I8042_CCB_KBD_INT);
    irq_set(&irq[12], full && s->r.out_is_aux && (s->r.ram[0] & I8042_CCB_AUX_INT));
}

static void fill(struct i8042 *s, uint8_t src, uint8_t value, bool is_aux)
{
    s->r.out = value;
    s->r.src = src;
    s->r.out_is_aux = is_aux;
}

/* One scan code, if translation leaves one. */
static void fill_scancode(struct i8042 *s)
{
    uint8_t v = ps2_kbd_read(&s->kbd);

    if (s->r.ram[0] & I8042_CCB_TRANSLATE) {
        if (v == 0xf0) {
            s->r.break_prefix = true;
            return;
        }
        v = translate(v);
        if (s->r.break_prefix) {
            v |= 0x80;
        }
    }
    s->r.break_prefix = false;
    fill(s, SRC_SCANCODE, v, false);
}

/* Fills the output buffer if it is empty and something waits. */
static void pump(struct i8042 *s)
{
    bool kbd_on = !(s->r.ram[0] & I8042_CCB_KBD_DISABLE);
    bool aux_on = !(s->r.ram[0] & I8042_CCB_AUX_DISABLE);

    if (s->r.src != SRC_NONE) {
        return;
    }
    if (s->r.answer_full) {
        s->r.answer_full = false;
        fill(s, SRC_CONTROLLER, s->r.answer, s->r.answer_is_aux);
    } else if (kbd_on && ps2_kbd_has_reply(&s->kbd)) {
        uint8_t v = ps2_kbd_read(&s->kbd);

        fill(s, SRC_REPLY, s->r.ram[0] & I8042_CCB_TRANSLATE ? translate(v) : v, false);
    } else if (aux_on && ps2_mouse_has_data(&s->mouse)) {
        fill(s, SRC_AUX, ps2_mouse_read(&s->mouse), true);
    } else if (kbd_on && ps2_kbd_has_scancode(&s->kbd)) {
        if (loop_now(s->h.board->loop, LOOP_VIRTUAL) < s->h.scancode_ns) {
            timer_set(&s->h.gap, s->h.scancode_ns);
            return;
        }
        /* at most the two bytes of "F0 code": a device queue holds 16 */
        while (s->r.src == SRC_NONE && ps2_kbd_has_scancode(&s->kbd)) {
            fill_scancode(s);
        }
    }
}

static void pump_and_signal(void *opaque)
{
    struct i8042 *s = opaque;

    pump(s);
    update_irq(s);
}

static void answer(struct i8042 *s, uint8_t value, bool is_aux)
{
    s->r.answer = value;
    s->r.answer_is_aux = is_aux;
    s->r.answer_full = true;
}

static void reset_guest(struct i8042 *s)
{
    platform_shutdown(s->h.board->plat, PLATFORM_REBOOT);
}

static uint8_t output_port(const struct i8042 *s)
{
    bool full = s->r.src != SRC_NONE;

    return (uint8_t)((s->r.output_port & ~(I8042_OUT_IRQ1 | I8042_OUT_IRQ12)) |
                     (full && !s->r.out_is_aux ? I8042_OUT_IRQ1 : 0) |
                     (full && s->r.out_is_aux ? I8042_OUT_IRQ12 : 0));
}

static void write_ram(struct i8042 *s, unsigned index, uint8_t v)
{
    s->r.ram[index & 31] = v;
}

static void set_ccb(struct i8042 *s, uint8_t set, uint8_t clear)
{
    s->r.ram[0] = (uint8_t)((s->r.ram[0] & ~clear) | set);
}

static void command(struct i8042 *s, uint8_t v)
{
    struct i8042_regs *r = &s->r;

    r->command = 0;
    if (v >= I8042_CMD_PULSE) {
        /* DEVIATION: a pulse on A20 has no effect, it would be 6 us long. */
        if (!(v & I8042_OUT_RESET)) {
            reset_guest(s);
        }
        return;
    }
    if ((v & 0xe0) == I8042_CMD_READ_RAM) {
        answer(s, r->ram[v & 31], false);
        return;
    }
    if ((v & 0xe0) == I8042_CMD_WRITE_RAM) {
        r->command = v;
        return;
    }
    switch (v) {
    case I8042_CMD_TEST_PASSWORD:
        answer(s, 0xf1, false); /* none installed */
        break;
    case I8042_CMD_AUX_DISABLE:
        set_ccb(s, I8042_CCB_AUX_DISABLE, 0);
        break;
    case I8042_CMD_AUX_ENABLE:
        set_ccb(s, 0, I8042_CCB_AUX_DISABLE);
        break;
    case I8042_CMD_KBD_DISABLE:
        set_ccb(s, I8042_CCB_KBD_DISABLE, 0);
        break;
    case I8042_CMD_KBD_ENABLE:
        set_ccb(s, 0, I8042_CCB_KBD_DISABLE);
        break;
    case I8042_CMD_AUX_TEST:
    case I8042_CMD_KBD_TEST:
        answer(s, 0x00, false); /* clock and data lines are fine */
        break;
    case I8042_CMD_SELF_TEST:
        r->self_tested = true;
        answer(s, 0x55, false);
        break;
    case I8042_CMD_READ_INPUT:
        answer(s, 0x80, false); /* keyboard not locked */
        break;
    case I8042_CMD_READ_OUTPUT:
        answer(s, output_port(s), false);
        break;
    case I8042_CMD_WRITE_OUTPUT:
    case I8042_CMD_WRITE_KBD_BUF:
    case I8042_CMD_WRITE_AUX_BUF:
    case I8042_CMD_WRITE_AUX:
        r->command = v;
        break;
    case I8042_CMD_A20_OFF:
    case I8042_CMD_A20_ON:
        r->output_port = (uint8_t)((r->output_port & ~I8042_OUT_A20) |
                                   (v == I8042_CMD_A20_ON ? I8042_OUT_A20 : 0));
        break;
    case I8042_CMD_READ_TEST: /* the two clock lines: low when disabled */
        answer(s,
               (uint8_t)((r->ram[0] & I8042_CCB_KBD_DISABLE ? 0 : 1) |
                         (r->ram[0] & I8042_CCB_AUX_DISABLE ? 0 : 2)),
               false);
        break;
    default:
        trace("i8042", "unknown-command", "%02x", v);
        break;
    }
}

static void data(struct i8042 *s, uint8_t v)
{
    struct i8042_regs *r = &s->r;
    uint8_t cmd = r->command;

    r->command = 0;
    switch (cmd) {
    case I8042_CMD_WRITE_OUTPUT:
        r->output_port = v | I8042_OUT_RESET;
        if (!(v & I8042_OUT_RESET)) {
            reset_guest(s);
        }
        break;
    case I8042_CMD_WRITE_KBD_BUF:
        answer(s, v, false);
        break;
    case I8042_CMD_WRITE_AUX_BUF:
        answer(s, v, true);
        break;
    case I8042_CMD_WRITE_AUX: /* sending to a device starts its clock */
        set_ccb(s, 0, I8042_CCB_AUX_DISABLE);
        ps2_mouse_write(&s->mouse, v);
        break;
    case 0:
        set_ccb(s, 0, I8042_CCB_KBD_DISABLE);
        ps2_kbd_write(&s->kbd, v);
        break;
    default: /* I8042_CMD_WRITE_RAM + index: command() lets nothing else through */
        write_ram(s, cmd & 31, v);
        break;
    }
}

static uint64_t data_read(void *dev, uint64_t offset, unsigned size)
{
    struct i8042 *s = dev;
    uint8_t v = s->r.out;

    (void)offset;
    (void)size;
    if (s->r.src == SRC_NONE) {
        return v;
    }
    if (s->r.src == SRC_SCANCODE) {
        s->h.scancode_ns = loop_now(s->h.board->loop, LOOP_VIRTUAL) + SCANCODE_GAP_NS;
    }
    s->r.src = SRC_NONE;
    update_irq(
        s); /* the line falls between two bytes: the interrupt controller is edge triggered */
    pump_and_signal(s);
    return v;
}

static void data_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *s = dev;

    (void)offset;
    (void)size;
    s->r.last_was_command = false;
    data(s, (uint8_t)value);
    pump_and_signal(s);
}

static uint64_t status_read(void *dev, uint64_t offset, unsigned size)
{
    const struct i8042_regs *r = &((struct i8042 *)dev)->r;

    (void)offset;
    (void)size;
    /* DEVIATION: the system flag is not copied from the command byte but stays once the self test
     * has passed, because SeaBIOS writes command bytes without it: an operating system would find a
     * controller that looks untested. */
    return (uint64_t)(I8042_STR_UNLOCKED | (r->src != SRC_NONE ? I8042_STR_OBF : 0) |
                      (r->src != SRC_NONE && r->out_is_aux ? I8042_STR_AUX : 0) |
                      (r->self_tested ? I8042_STR_SYS : 0) |
                      (r->last_was_command ? I8042_STR_CMD : 0));
}

static void command_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *s = dev;

    (void)offset;
    (void)size;
    s->r.last_was_command = true;
    command(s, (uint8_t)value);
    pump_and_signal(s);
}

static void i8042_reset(void *dev)
{
    struct i8042 *s = dev;

    memset(&s->r, 0, sizeof(s->r));
    s->r.ram[0] = I8042_CCB_KBD_INT | I8042_CCB_AUX_INT;
    s->r.last_was_command = true;
    s->r.output_port = I8042_OUT_POWER_ON;
    s->h.scancode_ns = 0;
    timer_cancel(&s->h.gap);
    ps2_kbd_reset(&s->kbd);
    ps2_mouse_reset(&s->mouse);
    update_irq(s);
}

static int i8042_state(void *dev, struct save_stream *st)
{
    struct i8042 *s = dev;
    struct i8042_regs r = s->r;
    struct ps2_kbd_regs kbd = s->kbd.r;
    struct ps2_mouse_regs mouse = s->mouse.r;

    save_bytes(st, r.ram, sizeof(r.ram));
    save_u8(st, &r.out);
    save_u8(st, &r.src);
    save_bool(st, &r.out_is_aux);
    save_u8(st, &r.answer);
    save_bool(st, &r.answer_full);
    save_bool(st, &r.answer_is_aux);
    save_u8(st, &r.command);
    save_bool(st, &r.last_was_command);
    save_bool(st, &r.self_tested);
    save_u8(st, &r.output_port);
    save_bool(st, &r.break_prefix);
    bool ok = ps2_kbd_state(&kbd, st);
    ok = ps2_mouse_state(&mouse, st) && ok;
    if (st->loading) {
        bool takes_argument =
            (r.command & 0xe0) == I8042_CMD_WRITE_RAM ||
            (r.command >= I8042_CMD_WRITE_OUTPUT && r.command <= I8042_CMD_WRITE_AUX);

        if (st->error || !ok || r.src > SRC_LAST || (r.command && !takes_argument)) {
            return -EINVAL;
        }
        s->r = r;
        s->kbd.r = kbd;
        s->mouse.r = mouse;
        ps2_kbd_loaded(&s->kbd);
        ps2_mouse_loaded(&s->mouse);
        s->h.scancode_ns = 0;
        update_irq(s);
        if (s->r.src == SRC_NONE && ps2_kbd_has_scancode(&s->kbd)) {
            timer_set(&s->h.gap, loop_now(s->h.board->loop, LOOP_VIRTUAL) + SCANCODE_GAP_NS);
        }
    }
    return st->error;
}

static void i8042_destroy(void *dev)
{
    struct i8042 *s = dev;

    for (unsigned i = 0; i < 2; i++) {
        if (s->h.region[i] > 0) {
            bus_remove(s->h.board->bus, s->h.region[i]);
        }
    }
    timer_cancel(&s->h.gap);
    ps2_kbd_fini(&s->kbd);
    ps2_mouse_fini(&s->mouse, s->h.input);
    free(s);
}

static const struct io_ops data_port = {.read = data_read, .write = data_write, .max_size = 1};
static const struct io_ops command_port = {
    .read = status_read, .write = command_write, .max_size = 1};

static const struct device_ops i8042_ops = {
    .name = "i8042",
    .version = 1,
    .reset = i8042_reset,
    .state = i8042_state,
    .destroy = i8042_destroy,
};

int i8042_create(struct board *b, struct input *in)
{
    struct i8042 *s = calloc(1, sizeof(*s));
    int r;

    if (!s) {
        return -ENOMEM;
    }
    s->h.board = b;
    s->h.input = in;
    timer_init(&s->h.gap, b->loop, LOOP_VIRTUAL, pump_and_signal, s);
    r = ps2_kbd_init(&s->kbd, in, pump_and_signal, s);
    if (!r) {
        r = ps2_mouse_init(&s->mouse, b->loop, in, pump_and_signal, s);
    }
    if (!r) {
        r = s->h.region[0] = bus_add(b->bus, BUS_PORT, 0x60, 1, &data_port, s, "i8042-data");
    }
    if (r >= 0) {
        r = s->h.region[1] = bus_add(b->bus, BUS_PORT, 0x64, 1, &command_port, s, "i8042-command");
    }
    if (r >= 0) {
        r = board_add_device(b, &i8042_ops, s);
    }
    if (r < 0) {
        i8042_destroy(s);
        return r;
    }
    return 0;
}
