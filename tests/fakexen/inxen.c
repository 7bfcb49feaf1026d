/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The devices that Xen keeps for itself, as far as a device model can notice: which accesses they
 * claim, and simple register behaviour. They raise no interrupts.
 */
#include "fakexen.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct {
    pthread_mutex_t lock;
    uint8_t imr[2], elcr[2], speaker, rtc_index, rtc[14];
    uint16_t pm1_status, pm1_enable;
    uint32_t ioapic_index, ioapic[0x100], lapic[0x400], hpet[0x100];
    char *console;
    size_t console_len;
} x = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool ones(uint32_t size, bool read, uint64_t *value)
{
    if (read)
        *value = size == 8 ? UINT64_MAX : (1ull << (8 * size)) - 1;
    return true;
}

static bool pic(uint32_t port, uint32_t size, bool read, uint64_t *value)
{
    uint32_t chip = port >> 7 & 1;

    if (size != 1)
        return ones(size, read, value);
    if (port & 1) {
        if (read)
            *value = x.imr[chip];
        else
            x.imr[chip] = (uint8_t)*value;
    } else if (read) {
        *value = atomic_load(&fx_sh->isa_level) >> (8 * chip) & 0xff;
    }
    return true;
}

static bool speaker(uint32_t size, bool read, uint64_t *value)
{
    if (size != 1)
        return ones(size, read, value);
    if (!read) {
        x.speaker = (uint8_t)*value & 3;
    } else {
        x.speaker ^= 0x10; /* refresh toggle */
        *value = x.speaker;
    }
    return true;
}

/* Claims index writes below 14 and data accesses while such an index is selected. */
static bool rtc(uint32_t port, uint32_t size, bool read, uint64_t *value)
{
    if (size != 1)
        return false;
    if (port == 0x70) {
        if (read)
            return ones(1, true, value);
        x.rtc_index = (uint8_t)*value & 0x7f;
        return x.rtc_index < 14;
    }
    if (x.rtc_index >= 14)
        return false;
    if (read)
        *value = x.rtc_index == 13 ? 0x80 : x.rtc[x.rtc_index];
    else
        x.rtc[x.rtc_index] = (uint8_t)*value;
    return true;
}

static bool pm_event(uint32_t offset, uint32_t size, bool read, uint64_t *value)
{
    uint32_t all = x.pm1_status | (uint32_t)x.pm1_enable << 16;

    for (uint32_t i = 0; i < size; i++) {
        uint32_t byte = offset + i, shift = byte % 2 * 8;
        uint8_t in = (uint8_t)(*value >> (8 * i));

        if (read)
            continue;
        if (byte < 2)
            x.pm1_status = (uint16_t)(x.pm1_status & ~((uint32_t)in << shift));
        else
            x.pm1_enable = (uint16_t)((x.pm1_enable & ~(0xffu << shift)) | (uint32_t)in << shift);
    }
    if (read)
        *value = all >> (8 * offset) & (size == 4 ? UINT32_MAX : (1u << (8 * size)) - 1);
    return true;
}

static bool pm_timer(uint32_t offset, uint32_t size, bool read, uint64_t *value)
{
    if (size != 4 || offset)
        return ones(size, read, value);
    if (read)
        *value = (uint32_t)(fx_now_ns() / 1000 * 3579545 / 1000000);
    return true;
}

static bool console(uint32_t size, bool read, uint64_t *value)
{
    if (read || size != 1)
        return false;
    if (x.console_len < 1 << 20) {
        char *p = realloc(x.console, x.console_len + 2);
        if (!p)
            return true;
        x.console = p;
        x.console[x.console_len++] = (char)*value;
        x.console[x.console_len] = '\0';
    }
    return true;
}

char *fx_inxen_console(void)
{
    pthread_mutex_lock(&x.lock);
    char *copy = strdup(x.console ? x.console : "");
    pthread_mutex_unlock(&x.lock);
    return copy;
}

/* True if [port, port + size) is inside [first, last]. */
static bool in(uint32_t port, uint32_t size, uint32_t first, uint32_t last)
{
    return port >= first && port + size - 1 <= last;
}

static bool claim_pio(uint32_t port, uint32_t size, bool read, uint64_t *value)
{
    bool v1 = fx_sh->hvm_param[HVM_PARAM_ACPI_IOPORTS_LOCATION] == 1;
    uint32_t evt = v1 ? ACPI_PM1A_EVT_BLK_ADDRESS_V1 : ACPI_PM1A_EVT_BLK_ADDRESS_V0;
    uint32_t tmr = v1 ? ACPI_PM_TMR_BLK_ADDRESS_V1 : ACPI_PM_TMR_BLK_ADDRESS_V0;

    if (in(port, size, 0x20, 0x21) || in(port, size, 0xa0, 0xa1))
        return pic(port, size, read, value);
    if (in(port, size, 0x4d0, 0x4d1)) {
        if (size != 1)
            return ones(size, read, value);
        if (read)
            *value = x.elcr[port & 1];
        else
            x.elcr[port & 1] = (uint8_t)*value;
        return true;
    }
    if (in(port, size, 0x40, 0x43)) {
        if (read)
            *value = size == 1 ? (fx_now_ns() / 838) & 0xff : 0xffff;
        return true;
    }
    if (in(port, size, 0x61, 0x61))
        return speaker(size, read, value);
    if (in(port, size, 0x70, 0x71))
        return rtc(port, size, read, value);
    if (in(port, size, evt, evt + 3))
        return pm_event(port - evt, size, read, value);
    if (in(port, size, tmr, tmr + 3))
        return pm_timer(port - tmr, size, read, value);
    if (in(port, size, 0xe9, 0xe9))
        return console(size, read, value);
    return false;
}

bool fx_inxen_pio(uint32_t port, uint32_t size, bool read, uint64_t *value)
{
    pthread_mutex_lock(&x.lock);
    bool claimed = claim_pio(port, size, read, value);
    pthread_mutex_unlock(&x.lock);
    return claimed;
}

static void reg32(uint32_t *reg, bool read, uint64_t *value)
{
    if (read)
        *value = *reg;
    else
        *reg = (uint32_t)*value;
}

static bool claim_mmio(uint64_t addr, bool read, uint64_t *value)
{
    if (addr >= 0xfec00000 && addr < 0xfec00100) {
        if ((addr & 0xff) == 0x00)
            reg32(&x.ioapic_index, read, value);
        else if ((addr & 0xff) == 0x10)
            reg32(&x.ioapic[x.ioapic_index & 0xff], read, value);
        else if (read)
            *value = 0;
        return true;
    }
    if (addr >= 0xfee00000 && addr < 0xfee01000) {
        reg32(&x.lapic[(addr & 0xfff) / 4], read, value);
        return true;
    }
    if (addr >= 0xfed00000 && addr < 0xfed00400) {
        reg32(&x.hpet[(addr & 0x3ff) / 4], read, value);
        return true;
    }
    return false;
}

bool fx_inxen_mmio(uint64_t addr, uint32_t size, bool read, uint64_t *value)
{
    (void)size;
    pthread_mutex_lock(&x.lock);
    bool claimed = claim_mmio(addr, read, value);
    pthread_mutex_unlock(&x.lock);
    return claimed;
}
