/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "hw/fdc.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/board.h"
#include "core/log.h"

enum fdc_reg { /* 82077AA 2.1; offsets from port 0x3f0. SRA (0) is PS/2 only, 6 belongs to the IDE controller */
               FDC_SRB = 1,
               FDC_DOR = 2,
               FDC_TDR = 3,
               FDC_MSR = 4, /* read */
               FDC_DSR = 4, /* write */
               FDC_FIFO = 5,
               FDC_DIR = 7, /* read */
               FDC_CCR = 7, /* write */
};
enum { FDC_BASE = 0x3f0, FDC_IRQ = 6, FDC_DRIVES = 4, FDC_BUF = 16 };
enum dor_bit { DOR_RESET_N = 0x04, DOR_DMAGATE_N = 0x08 };
enum msr_bit { MSR_CMD_BUSY = 0x10, MSR_DIO = 0x40, MSR_RQM = 0x80 };
enum { DSR_SW_RESET = 0x80, DIR_DSK_CHG = 0x80, TDR_MASK = 0x03 };
enum st_bit {
    ST0_EQUIPMENT_CHECK = 0x10,
    ST0_SEEK_END = 0x20,
    ST0_ABNORMAL = 0x40,
    ST0_INVALID = 0x80,
    ST0_READY_CHANGED = 0xc0,
    ST1_MISSING_ADDRESS_MARK = 0x01,
    ST3_ALWAYS = 0x28,
};
enum {
    CONFIG_DEFAULT = 0x20 /* FIFO off, polling on */,
    CONFIG_LOCKED = 0x2f /* EFIFO, FIFOTHR: kept by LOCK */
};
enum fdc_phase { PHASE_COMMAND, PHASE_RESULT };

struct fdc_regs {
    uint8_t dor, tdr, rate;
    uint8_t specify[2];
    uint8_t config, pretrk;
    uint8_t perpendicular;
    uint8_t eot; /* of the last data command, for DUMPREG */
    bool locked;
    uint8_t pcn[FDC_DRIVES];
    uint8_t st0[FDC_DRIVES]; /* for SENSE INTERRUPT, where the drive's bit in done is set */
    uint8_t done;
    bool irq;
    uint8_t phase;
    uint8_t pos, len; /* bytes taken and expected, or given and to give */
    uint8_t buf[FDC_BUF];
};

struct fdc {
    struct fdc_regs r;
    struct {
        struct board *b;
        int region[2];
    } h;
};

static void fdc_irq(struct fdc *f, bool level)
{
    f->r.irq = level;
    irq_set(&f->h.b->isa_irq[FDC_IRQ], level && (f->r.dor & DOR_DMAGATE_N));
}

static void to_command(struct fdc *f)
{
    f->r.phase = PHASE_COMMAND;
    f->r.pos = f->r.len = 0;
}

static void to_result(struct fdc *f, const uint8_t *bytes, uint8_t len)
{
    memcpy(f->r.buf, bytes, len);
    f->r.phase = PHASE_RESULT;
    f->r.pos = 0;
    f->r.len = len;
}

static void result1(struct fdc *f, unsigned byte)
{
    to_result(f, &(uint8_t){(uint8_t)byte}, 1);
}

/* Software reset, 6.0 of the datasheet. Polling then finds that all four drives "changed": one
 * interrupt, four senses. */
static void fdc_soft_reset(struct fdc *f)
{
    f->r.config = f->r.locked ? f->r.config & CONFIG_LOCKED : CONFIG_DEFAULT;
    f->r.pretrk = f->r.locked ? f->r.pretrk : 0;
    f->r.perpendicular &= 0x3c; /* the drives' own bits stay */
    for (unsigned n = 0; n < FDC_DRIVES; n++) {
        f->r.pcn[n] = 0;
        f->r.st0[n] = (uint8_t)(ST0_READY_CHANGED | n);
    }
    f->r.done = 0x0f;
    to_command(f);
    fdc_irq(f, true);
}

/* ---- commands; parameters are in buf[1..] ---- */

/* DEVIATION: without index pulses the chip would wait for ever for its first sector; the error
 * comes at once instead. */
static void cmd_data(struct fdc *f)
{
    const uint8_t *p = f->r.buf;
    bool chrn = f->r.len == 9;
    uint8_t result[7] = {(uint8_t)(ST0_ABNORMAL | (p[1] & 7)),
                         ST1_MISSING_ADDRESS_MARK,
                         0,
                         chrn ? p[2] : 0,
                         chrn ? p[3] : 0,
                         chrn ? p[4] : 0,
                         chrn ? p[5] : 0};

    if (chrn) {
        f->r.eot = p[6];
    }
    to_result(f, result, sizeof(result));
    fdc_irq(f, true);
}

static void seek_end(struct fdc *f, unsigned drive, unsigned st0)
{
    f->r.st0[drive] = (uint8_t)(st0 | drive);
    f->r.done |= (uint8_t)(1 << drive);
    to_command(f);
    fdc_irq(f, true);
}

/* 79 step pulses, and never a track 0 signal. */
static void cmd_recalibrate(struct fdc *f)
{
    unsigned drive = f->r.buf[1] & 3;

    f->r.pcn[drive] = 0;
    seek_end(f, drive, ST0_ABNORMAL | ST0_SEEK_END | ST0_EQUIPMENT_CHECK);
}

static void cmd_seek(struct fdc *f)
{
    unsigned drive = f->r.buf[1] & 3;

    f->r.pcn[drive] = f->r.buf[2];
    seek_end(f, drive, ST0_SEEK_END);
}

static void cmd_relative_seek(struct fdc *f)
{
    unsigned drive = f->r.buf[1] & 3;
    bool inwards = f->r.buf[0] & 0x40;

    f->r.pcn[drive] =
        (uint8_t)(inwards ? f->r.pcn[drive] + f->r.buf[2] : f->r.pcn[drive] - f->r.buf[2]);
    seek_end(f, drive, ST0_SEEK_END);
}

static void cmd_sense_interrupt(struct fdc *f)
{
    fdc_irq(f, false);
    for (unsigned n = 0; n < FDC_DRIVES; n++) {
        if (f->r.done & 1 << n) {
            f->r.done &= (uint8_t) ~(1 << n);
            to_result(f, (uint8_t[]){f->r.st0[n], f->r.pcn[n]}, 2);
            return;
        }
    }
    result1(f, ST0_INVALID);
}

static void cmd_sense_drive(struct fdc *f)
{
    result1(f, ST3_ALWAYS | (f->r.buf[1] & 7u));
}

static void cmd_specify(struct fdc *f)
{
    memcpy(f->r.specify, &f->r.buf[1], 2);
    to_command(f);
}

static void cmd_configure(struct fdc *f)
{
    f->r.config = f->r.buf[2] & 0x7f;
    f->r.pretrk = f->r.buf[3];
    to_command(f);
}

static void cmd_perpendicular(struct fdc *f)
{
    uint8_t v = f->r.buf[1];

    /* OW (bit 7) guards the drives' bits. */
    f->r.perpendicular = v & 0x80 ? v & 0x3f : (uint8_t)((f->r.perpendicular & 0x3c) | (v & 0x03));
    to_command(f);
}

static void cmd_lock(struct fdc *f)
{
    f->r.locked = f->r.buf[0] & 0x80;
    result1(f, f->r.locked ? 0x10 : 0);
}

static void cmd_dumpreg(struct fdc *f)
{
    const struct fdc_regs *r = &f->r;
    uint8_t result[10] = {r->pcn[0],     r->pcn[1],
                          r->pcn[2],     r->pcn[3],
                          r->specify[0], r->specify[1],
                          r->eot,        (uint8_t)((r->locked ? 0x80 : 0) | r->perpendicular),
                          r->config,     r->pretrk};

    to_result(f, result, sizeof(result));
}

static void cmd_version(struct fdc *f)
{
    result1(f, 0x90);
}

static void cmd_part_id(struct fdc *f)
{
    result1(f, 0x41);
}

static const struct fdc_command {
    uint8_t mask, opcode; /* first byte, without MT, MFM and SK where the command has them */
    uint8_t params;
    void (*run)(struct fdc *f);
} fdc_commands[] = {
    /* 82077AA table 5-1; an opcode that is not here is answered with ST0_INVALID */
    {0x1f, 0x06, 8, cmd_data}, /* READ DATA */
    {0x1f, 0x0c, 8, cmd_data}, /* READ DELETED DATA */
    {0x3f, 0x05, 8, cmd_data}, /* WRITE DATA */
    {0x3f, 0x09, 8, cmd_data}, /* WRITE DELETED DATA */
    {0x9f, 0x02, 8, cmd_data}, /* READ TRACK */
    {0x1f, 0x16, 8, cmd_data}, /* VERIFY */
    {0x1f, 0x11, 8, cmd_data}, /* SCAN EQUAL */
    {0x1f, 0x19, 8, cmd_data}, /* SCAN LOW OR EQUAL */
    {0x1f, 0x1d, 8, cmd_data}, /* SCAN HIGH OR EQUAL */
    {0xbf, 0x0a, 1, cmd_data}, /* READ ID */
    {0xbf, 0x0d, 5, cmd_data}, /* FORMAT TRACK */
    {0xff, 0x07, 1, cmd_recalibrate}, {0xff, 0x08, 0, cmd_sense_interrupt},
    {0xff, 0x03, 2, cmd_specify},     {0xff, 0x04, 1, cmd_sense_drive},
    {0xff, 0x0f, 2, cmd_seek},        {0xbf, 0x8f, 2, cmd_relative_seek},
    {0xff, 0x13, 3, cmd_configure},   {0xff, 0x0e, 0, cmd_dumpreg},
    {0xff, 0x10, 0, cmd_version},     {0xff, 0x12, 1, cmd_perpendicular},
    {0x7f, 0x14, 0, cmd_lock},        {0xff, 0x18, 0, cmd_part_id},
};

static const struct fdc_command *find_command(uint8_t opcode)
{
    for (size_t i = 0; i < sizeof(fdc_commands) / sizeof(fdc_commands[0]); i++) {
        if ((opcode & fdc_commands[i].mask) == fdc_commands[i].opcode) {
            return &fdc_commands[i];
        }
    }
    return NULL;
}

static void fifo_write(struct fdc *f, uint8_t value)
{
    const struct fdc_command *c;

    if (!(f->r.dor & DOR_RESET_N) || f->r.phase != PHASE_COMMAND || f->r.pos >= FDC_BUF) {
        return;
    }
    f->r.buf[f->r.pos++] = value;
    c = find_command(f->r.buf[0]);
    if (!c) {
        result1(f, ST0_INVALID);
        return;
    }
    f->r.len = (uint8_t)(1 + c->params);
    if (f->r.pos == f->r.len) {
        trace("fdc", "command", "%#x", f->r.buf[0]);
        c->run(f);
    }
}

static uint8_t fifo_read(struct fdc *f)
{
    uint8_t v;

    if (f->r.phase != PHASE_RESULT || f->r.pos >= FDC_BUF) {
        return 0;
    }
    fdc_irq(f, false);
    v = f->r.buf[f->r.pos++];
    if (f->r.pos >= f->r.len) {
        to_command(f);
    }
    return v;
}

static uint8_t main_status(const struct fdc *f)
{
    if (!(f->r.dor & DOR_RESET_N)) {
        return 0;
    }
    if (f->r.phase == PHASE_RESULT) {
        return MSR_RQM | MSR_DIO | MSR_CMD_BUSY;
    }
    return f->r.pos ? MSR_RQM | MSR_CMD_BUSY : MSR_RQM;
}

static uint8_t reg_read(struct fdc *f, unsigned reg)
{
    switch (reg) {
    case FDC_SRB:
        return (uint8_t)(0xc0 | (f->r.dor & 1) << 5 | (f->r.dor >> 4 & 3));
    case FDC_DOR:
        return f->r.dor;
    case FDC_TDR:
        return f->r.tdr;
    case FDC_MSR:
        return main_status(f);
    case FDC_FIFO:
        return fifo_read(f);
    case FDC_DIR:
        return DIR_DSK_CHG; /* no medium */
    default:
        return 0xff;
    }
}

static void dor_write(struct fdc *f, uint8_t value)
{
    uint8_t old = f->r.dor;

    f->r.dor = value;
    if (!(value & DOR_RESET_N)) {
        f->r.done = 0;
        to_command(f);
        fdc_irq(f, false);
    } else if (!(old & DOR_RESET_N)) {
        fdc_soft_reset(f);
    } else {
        fdc_irq(f, f->r.irq); /* DMAGATE# may have changed */
    }
}

static void reg_write(struct fdc *f, unsigned reg, uint8_t value)
{
    switch (reg) {
    case FDC_DOR:
        dor_write(f, value);
        break;
    case FDC_TDR:
        f->r.tdr = value & TDR_MASK;
        break;
    case FDC_DSR:
        f->r.rate = value & 3;
        if ((value & DSR_SW_RESET) && (f->r.dor & DOR_RESET_N)) {
            fdc_soft_reset(f);
        }
        break;
    case FDC_FIFO:
        fifo_write(f, value);
        break;
    case FDC_CCR:
        f->r.rate = value & 3;
        break;
    default:
        break;
    }
}

static uint64_t fdc_read(void *dev, uint64_t offset, unsigned size)
{
    (void)size;
    return reg_read(dev, (unsigned)offset + FDC_SRB);
}

static void fdc_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    (void)size;
    reg_write(dev, (unsigned)offset + FDC_SRB, (uint8_t)value);
}

static uint64_t dir_read(void *dev, uint64_t offset, unsigned size)
{
    (void)offset, (void)size;
    return reg_read(dev, FDC_DIR);
}

static void ccr_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    (void)offset, (void)size;
    reg_write(dev, FDC_CCR, (uint8_t)value);
}

static const struct io_ops fdc_ops = {.read = fdc_read, .write = fdc_write, .max_size = 1};
static const struct io_ops dir_ops = {.read = dir_read, .write = ccr_write, .max_size = 1};

static void fdc_reset(void *dev)
{
    struct fdc *f = dev;

    /* DEVIATION: the chip starts held in reset (DOR 0); firmware of this board finds it running. */
    f->r = (struct fdc_regs){.dor = DOR_RESET_N | DOR_DMAGATE_N, .config = CONFIG_DEFAULT};
    fdc_irq(f, false);
}

static int fdc_state(void *dev, struct save_stream *s)
{
    struct fdc *f = dev;
    struct fdc_regs r = f->r;

    save_u8(s, &r.dor);
    save_u8(s, &r.tdr);
    save_u8(s, &r.rate);
    save_bytes(s, r.specify, sizeof(r.specify));
    save_u8(s, &r.config);
    save_u8(s, &r.pretrk);
    save_u8(s, &r.perpendicular);
    save_u8(s, &r.eot);
    save_bool(s, &r.locked);
    save_bytes(s, r.pcn, sizeof(r.pcn));
    save_bytes(s, r.st0, sizeof(r.st0));
    save_u8(s, &r.done);
    save_bool(s, &r.irq);
    save_u8(s, &r.phase);
    save_u8(s, &r.pos);
    save_u8(s, &r.len);
    save_bytes(s, r.buf, sizeof(r.buf));
    if (s->loading) {
        if (s->error || r.phase > PHASE_RESULT || r.len > FDC_BUF ||
            (r.len ? r.pos >= r.len : r.pos != 0) || (r.phase == PHASE_RESULT && r.len == 0) ||
            r.done > 0x0f || r.tdr > TDR_MASK || r.rate > 3) {
            return -EINVAL;
        }
        f->r = r;
        fdc_irq(f, r.irq);
    }
    return s->error;
}

static void fdc_destroy(void *dev)
{
    struct fdc *f = dev;

    bus_remove(f->h.b->bus, f->h.region[0]);
    bus_remove(f->h.b->bus, f->h.region[1]);
    free(f);
}

static const struct device_ops fdc_device_ops = {
    .name = "fdc", .version = 1, .reset = fdc_reset, .state = fdc_state, .destroy = fdc_destroy};

int fdc_create(struct board *b)
{
    struct fdc *f = calloc(1, sizeof(*f));
    int rc;

    if (!f) {
        return -ENOMEM;
    }
    f->h.b = b;
    rc = f->h.region[0] = bus_add(b->bus, BUS_PORT, FDC_BASE + FDC_SRB, 5, &fdc_ops, f, "fdc");
    if (rc > 0) {
        rc = f->h.region[1] =
            bus_add(b->bus, BUS_PORT, FDC_BASE + FDC_DIR, 1, &dir_ops, f, "fdc-dir");
    }
    if (rc > 0) {
        rc = board_add_device(b, &fdc_device_ops, f);
    }
    if (rc < 0) {
        fdc_destroy(f);
        return rc;
    }
    return 0;
}
