/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A 93C46 serial EEPROM, 64 words of 16 bits, on four wires (Microchip 93C46B data sheet,
 * "Functional description"). Network cards keep their address in it. The writing time is not
 * modelled: a written word can be read at once.
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/save.h"

enum { EEPROM93C46_WORDS = 64 };

struct eeprom93c46 {
    uint16_t words[EEPROM93C46_WORDS];
    uint16_t shift; /* bits of the command, or data on its way in or out */
    uint8_t phase;  /* enum in the .c file */
    uint8_t bits;   /* of this phase done */
    uint8_t op, addr;
    bool cs, sk, out;
    bool write_enabled;
};

/* Power-on: everything but the words. */
void eeprom93c46_reset(struct eeprom93c46 *e);
/* Puts levels on the wires. */
void eeprom93c46_drive(struct eeprom93c46 *e, bool cs, bool sk, bool di);
/* The level on DO (high when nothing drives it). */
static inline bool eeprom93c46_out(const struct eeprom93c46 *e)
{
    return e->out;
}
/* Moves everything; loaded values are made valid. The caller checks s->error. */
void eeprom93c46_state(struct eeprom93c46 *e, struct save_stream *s);
