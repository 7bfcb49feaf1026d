/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/eeprom93c46.h"

enum phase { PHASE_START, PHASE_COMMAND, PHASE_READ, PHASE_DATA, PHASE_DONE };
/* Two bits after the start bit; the extended ones take two address bits as well. */
enum {
    OP_EXTENDED = 0,
    OP_WRITE = 1,
    OP_READ = 2,
    OP_ERASE = 3,
    OP_EWDS = 4,
    OP_WRAL = 5,
    OP_ERAL = 6,
    OP_EWEN = 7
};
enum { COMMAND_BITS = 8, ADDR_MASK = EEPROM93C46_WORDS - 1 };

void eeprom93c46_reset(struct eeprom93c46 *e)
{
    e->shift = 0;
    e->phase = PHASE_START;
    e->bits = e->op = e->addr = 0;
    e->cs = e->sk = e->write_enabled = false;
    e->out = true;
}

static void command(struct eeprom93c46 *e)
{
    e->op = (uint8_t)(e->shift >> 6 & 3);
    e->addr = e->shift & ADDR_MASK;
    if (e->op == OP_EXTENDED) {
        e->op = (uint8_t)(OP_EWDS + (e->addr >> 4));
    }
    e->bits = 0;
    e->phase = PHASE_DONE;
    switch (e->op) {
    case OP_READ:
        e->shift = e->words[e->addr];
        e->out = false; /* a zero before the first data bit */
        e->phase = PHASE_READ;
        break;
    case OP_WRITE:
    case OP_WRAL:
        e->shift = 0;
        e->phase = PHASE_DATA;
        break;
    case OP_EWDS:
    case OP_EWEN:
        e->write_enabled = e->op == OP_EWEN;
        break;
    default:
        break;
    }
}

static void clock_rises(struct eeprom93c46 *e, bool di)
{
    switch ((enum phase)e->phase) {
    case PHASE_START:
        if (di) {
            e->phase = PHASE_COMMAND;
            e->bits = 0;
            e->shift = 0;
        }
        break;
    case PHASE_COMMAND:
        e->shift = (uint16_t)(e->shift << 1 | di);
        if (++e->bits == COMMAND_BITS) {
            command(e);
        }
        break;
    case PHASE_READ: /* goes on with the next word as long as the clock does */
        e->out = (e->shift & 0x8000) != 0;
        e->shift = (uint16_t)(e->shift << 1);
        if (++e->bits == 16) {
            e->bits = 0;
            e->addr = (e->addr + 1) & ADDR_MASK;
            e->shift = e->words[e->addr];
        }
        break;
    case PHASE_DATA:
        e->shift = (uint16_t)(e->shift << 1 | di);
        if (++e->bits == 16) {
            e->bits = 0;
            e->phase = PHASE_DONE;
        }
        break;
    case PHASE_DONE:
        break;
    }
}

/* Writing starts when CS falls after a complete command. */
static void select_falls(struct eeprom93c46 *e)
{
    bool all = e->op == OP_WRAL || e->op == OP_ERAL;
    bool erase = e->op == OP_ERASE || e->op == OP_ERAL;

    if (e->phase == PHASE_DONE && e->write_enabled && (all || erase || e->op == OP_WRITE)) {
        for (unsigned i = all ? 0 : e->addr; i <= (all ? ADDR_MASK : e->addr); i++) {
            e->words[i] = erase ? 0xffff : e->shift;
        }
    }
    e->phase = PHASE_START;
    e->out = true;
}

void eeprom93c46_drive(struct eeprom93c46 *e, bool cs, bool sk, bool di)
{
    if (e->cs && !cs) {
        select_falls(e);
    }
    if (cs && sk && !e->sk) {
        clock_rises(e, di);
    }
    e->cs = cs;
    e->sk = sk;
}

void eeprom93c46_state(struct eeprom93c46 *e, struct save_stream *s)
{
    for (unsigned i = 0; i < EEPROM93C46_WORDS; i++) {
        save_u16(s, &e->words[i]);
    }
    save_u16(s, &e->shift);
    save_u8(s, &e->phase);
    save_u8(s, &e->bits);
    save_u8(s, &e->op);
    save_u8(s, &e->addr);
    save_bool(s, &e->cs);
    save_bool(s, &e->sk);
    save_bool(s, &e->out);
    save_bool(s, &e->write_enabled);
    if (s->loading) {
        e->phase = e->phase > PHASE_DONE ? PHASE_DONE : e->phase;
        e->bits &= e->phase == PHASE_COMMAND ? COMMAND_BITS - 1 : 15;
        e->op &= 7;
        e->addr &= ADDR_MASK;
    }
}
