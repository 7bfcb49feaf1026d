/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The text protocol: QEMU's qtest commands, each carried out as a vCPU would, and "xen ..." for
 * what only a hypervisor can do. One line in, one "OK ...", "FAIL ..." or "ERR ..." line out; lines
 * that start with "# " or "IRQ " may come before it.
 */
#include "fakexen.h"

#include <ctype.h>
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WORDS = 24, MAX_BLOCK = 1 << 24 };

struct words {
    int n;
    char *w[MAX_WORDS];
};

static void split(char *line, struct words *ws)
{
    char *save = NULL;

    ws->n = 0;
    for (char *t = strtok_r(line, " \t\r\n", &save); t && ws->n < MAX_WORDS;
         t = strtok_r(NULL, " \t\r\n", &save))
        ws->w[ws->n++] = t;
}

/* Word i as a number; 0 if there is none. Negative numbers wrap. */
static uint64_t num(const struct words *ws, int i)
{
    return i < ws->n ? strtoull(ws->w[i], NULL, 0) : 0;
}

static bool is(const struct words *ws, int i, const char *text)
{
    return i < ws->n && !strcmp(ws->w[i], text);
}

static const char *by_name(enum fx_by by)
{
    static const char *const names[] = { "xen", "dm", "nobody", "ring" };

    return names[by];
}

/* ---- qtest proper ---- */

static uint32_t suffix_size(char c)
{
    return c == 'b' ? 1 : c == 'w' ? 2 : c == 'l' ? 4 : c == 'q' ? 8 : 0;
}

/* inb inw inl outb outw outl, readb..readq, writeb..writeq. Returns false if it is none of them. */
static bool single(struct fx_client *c, struct words *ws, FILE *out)
{
    const char *w = ws->w[0];
    size_t len = strlen(w);
    bool port = (!strncmp(w, "in", 2) && len == 3) || (!strncmp(w, "out", 3) && len == 4);
    bool mem = (!strncmp(w, "read", 4) && len == 5) || (!strncmp(w, "write", 5) && len == 6);
    struct fx_access a = { .count = 1, .size = suffix_size(w[len - 1]) };

    if ((!port && !mem) || !a.size || (port && a.size == 8))
        return false;
    a.read = w[0] == 'i' || w[0] == 'r';
    a.addr = num(ws, 1);
    a.data = num(ws, 2);
    if (ws->n != (a.read ? 2 : 3)) {
        fprintf(out, "ERR %s: wrong number of arguments", w);
    } else if (!(port ? fx_pio(&c->vcpu, &a) : fx_mmio(&c->vcpu, &a))) {
        fprintf(out, "FAIL %s", a.error);
    } else if (a.read) {
        fprintf(out, port ? "OK 0x%04lx" : "OK 0x%016lx", a.data);
    } else {
        fprintf(out, "OK");
    }
    return true;
}

/* Moves len bytes between buf and guest memory, in pieces of up to 8 bytes where it is not RAM. */
static bool block(struct fx_client *c, uint64_t addr, uint8_t *buf, uint64_t len, bool read,
                  char *error, size_t error_len)
{
    while (len) {
        uint8_t *ram = fx_ram(addr);
        uint64_t n = ram ? FX_PAGE - addr % FX_PAGE : 8 - addr % 8;

        n = n < len ? n : len;
        if (ram && read) {
            memcpy(buf, ram, n);
        } else if (ram) {
            if (!fx_ram_readonly(addr))
                memcpy(ram, buf, n);
            fx_ram_dirty(addr);
        } else {
            struct fx_access a = { .addr = addr, .count = 1, .read = read, .size = 1 };

            while (a.size * 2 <= n)
                a.size *= 2;
            n = a.size;
            memcpy(&a.data, buf, n);
            if (!fx_mmio(&c->vcpu, &a)) {
                snprintf(error, error_len, "%s", a.error);
                return false;
            }
            memcpy(buf, &a.data, n);
        }
        addr += n;
        buf += n;
        len -= n;
    }
    return true;
}

static const char b64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void put_b64(FILE *out, const uint8_t *p, uint64_t len)
{
    for (uint64_t i = 0; i < len; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < len ? (uint32_t)p[i + 1] << 8 : 0) |
                     (i + 2 < len ? p[i + 2] : 0);
        fputc(b64[v >> 18 & 63], out);
        fputc(b64[v >> 12 & 63], out);
        fputc(i + 1 < len ? b64[v >> 6 & 63] : '=', out);
        fputc(i + 2 < len ? b64[v & 63] : '=', out);
    }
}

static uint64_t get_b64(const char *s, uint8_t *out, uint64_t max)
{
    uint32_t v = 0, bits = 0;
    uint64_t n = 0;

    for (; *s && *s != '=' && n < max; s++) {
        const char *p = strchr(b64, *s);
        if (!p)
            break;
        v = v << 6 | (uint32_t)(p - b64);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[n++] = (uint8_t)(v >> bits);
        }
    }
    return n;
}

static void get_hex(const char *s, uint8_t *out, uint64_t max)
{
    if (s[0] == '0' && s[1] == 'x')
        s += 2;
    for (uint64_t i = 0; i < max && isxdigit((unsigned char)s[0]) && isxdigit((unsigned char)s[1]);
         i++, s += 2) {
        char two[3] = { s[0], s[1], '\0' };
        out[i] = (uint8_t)strtoul(two, NULL, 16);
    }
}

/* read, write, memset, b64read, b64write. Returns false if it is none of them. */
static bool memory(struct fx_client *c, struct words *ws, FILE *out)
{
    const char *w = ws->w[0];
    bool b64form = !strncmp(w, "b64", 3);
    const char *kind = b64form ? w + 3 : w;
    bool read = !strcmp(kind, "read");
    uint64_t addr = num(ws, 1), len = num(ws, 2);
    char error[160];

    if (!read && strcmp(kind, "write") && strcmp(w, "memset"))
        return false;
    if (ws->n != (read ? 3 : 4) || len > MAX_BLOCK) {
        fprintf(out, "ERR %s: wrong arguments", w);
        return true;
    }
    uint8_t *buf = calloc(1, len + 1);
    if (!buf)
        abort();
    if (!strcmp(w, "memset"))
        memset(buf, (int)num(ws, 3), len);
    else if (!read && b64form)
        get_b64(ws->w[3], buf, len);
    else if (!read)
        get_hex(ws->w[3], buf, len);
    if (!block(c, addr, buf, len, read, error, sizeof(error))) {
        fprintf(out, "FAIL %s", error);
    } else if (!read) {
        fprintf(out, "OK");
    } else if (b64form) {
        fprintf(out, "OK ");
        put_b64(out, buf, len);
    } else {
        fprintf(out, "OK 0x");
        for (uint64_t i = 0; i < len; i++)
            fprintf(out, "%02x", buf[i]);
    }
    free(buf);
    return true;
}

static void sleep_ns(uint64_t ns)
{
    struct timespec t = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };

    nanosleep(&t, NULL);
}

/* ---- xen ... : requests ---- */

static void finish(FILE *out, bool ok, const struct fx_access *a)
{
    if (ok)
        fprintf(out, "OK by=%s", by_name(a->by));
    else
        fprintf(out, "FAIL %s", a->error);
}

/* xen insb|insw|insl|outsb|outsw|outsl PORT GPA COUNT [df] */
static void x_string_pio(struct fx_client *c, struct words *ws, FILE *out)
{
    const char *w = ws->w[1];
    struct fx_access a = { .read = w[0] == 'i', .size = suffix_size(w[strlen(w) - 1]),
                           .addr = num(ws, 2), .data = num(ws, 3), .count = (uint32_t)num(ws, 4),
                           .df = is(ws, 5, "df"), .is_ptr = true };

    finish(out, fx_pio(&c->vcpu, &a), &a);
}

/* xen movs SIZE r|w MMIO GPA COUNT [df] */
static void x_movs(struct fx_client *c, struct words *ws, FILE *out)
{
    struct fx_access a = { .size = (uint32_t)num(ws, 2), .read = is(ws, 3, "r"),
                           .addr = num(ws, 4), .data = num(ws, 5), .count = (uint32_t)num(ws, 6),
                           .df = is(ws, 7, "df"), .is_ptr = true };

    finish(out, fx_mmio(&c->vcpu, &a), &a);
}

/* xen stos SIZE ADDR VALUE COUNT [df] */
static void x_stos(struct fx_client *c, struct words *ws, FILE *out)
{
    struct fx_access a = { .size = (uint32_t)num(ws, 2), .addr = num(ws, 3), .data = num(ws, 4),
                           .count = (uint32_t)num(ws, 5), .df = is(ws, 6, "df") };

    finish(out, fx_mmio(&c->vcpu, &a), &a);
}

/* xen raw_ioreq SERVER TYPE r|w ADDR DATA SIZE COUNT PTR DF */
static void x_raw(struct fx_client *c, struct words *ws, FILE *out)
{
    struct ioreq req = { .type = (uint8_t)num(ws, 3), .dir = is(ws, 4, "r"), .addr = num(ws, 5),
                         .data = num(ws, 6), .size = (uint32_t)num(ws, 7),
                         .count = (uint32_t)num(ws, 8), .data_is_ptr = num(ws, 9) & 1,
                         .df = num(ws, 10) & 1 };
    uint64_t data = 0;
    char error[160];

    if (ws->n != 11)
        fprintf(out, "ERR raw_ioreq SERVER TYPE r|w ADDR DATA SIZE COUNT PTR DF");
    else if (fx_ioreq_raw(&c->vcpu, (uint32_t)num(ws, 2), &req, &data, error, sizeof(error)))
        fprintf(out, "OK 0x%016lx", data);
    else
        fprintf(out, "FAIL %s", error);
}

/* xen ring SERVER TYPE ADDR SIZE DATA */
static void x_ring(struct fx_client *c, struct words *ws, FILE *out)
{
    (void)c;
    if (fx_ioreq_buffered((uint32_t)num(ws, 2) % FX_MAX_SERVERS, (uint8_t)num(ws, 3), false,
                          (uint32_t)num(ws, 4), (uint32_t)num(ws, 5), num(ws, 6)))
        fprintf(out, "OK");
    else
        fprintf(out, "FAIL ring full or absent");
}

static void x_invalidate(struct fx_client *c, struct words *ws, FILE *out)
{
    char error[160];

    (void)ws;
    if (fx_invalidate(&c->vcpu, error, sizeof(error)))
        fprintf(out, "OK");
    else
        fprintf(out, "FAIL %s", error);
}

static void x_timeoffset(struct fx_client *c, struct words *ws, FILE *out)
{
    (void)c;
    fprintf(out, "OK %u", fx_timeoffset(ws->n > 2 ? strtoll(ws->w[2], NULL, 0) : 0));
}

/* xen balloon GFN N: the guest gives pages back, then INVALIDATE as at the end of its hypercall */
static void x_balloon(struct fx_client *c, struct words *ws, FILE *out)
{
    uint32_t n = fx_balloon(num(ws, 2), (uint32_t)num(ws, 3));
    char error[160];

    if (n && !fx_invalidate(&c->vcpu, error, sizeof(error)))
        fprintf(out, "FAIL %s", error);
    else
        fprintf(out, "OK %u", n);
}

static void x_populate(struct fx_client *c, struct words *ws, FILE *out)
{
    (void)c;
    fprintf(out, "OK %u", fx_populate_range(num(ws, 2), (uint32_t)num(ws, 3)));
}

/* xen garbage MS SEED */
static void x_garbage(struct fx_client *c, struct words *ws, FILE *out)
{
    char error[320];
    uint64_t n = fx_garbage(&c->vcpu, num(ws, 2), num(ws, 3), error, sizeof(error));

    if (error[0])
        fprintf(out, "FAIL %s", error);
    else
        fprintf(out, "OK %lu", n);
}

/* ---- xen ... : waiting ---- */

/* Waits until *word has bit `bit` at `level`, sleeping or, with spin, looking. */
static bool wait_level(_Atomic uint32_t *word, uint32_t bit, bool level, uint64_t ms, bool spin)
{
    static const struct timespec slice = { 0, 10000000 };
    uint64_t deadline = fx_now_ns() + ms * 1000000;
    bool ok;

    while (spin) {
        for (int i = 0; i < 1000; i++) {
            if ((atomic_load(word) >> bit & 1) == level)
                return true;
            __builtin_ia32_pause();
        }
        if (fx_now_ns() > deadline)
            return false;
    }
    atomic_fetch_add(&fx_sh->irq_waiters, 1);
    for (;;) {
        uint32_t seq = atomic_load(&fx_sh->irq_seq);

        ok = (atomic_load(word) >> bit & 1) == level;
        if (ok || fx_now_ns() > deadline)
            break;
        syscall(SYS_futex, &fx_sh->irq_seq, FUTEX_WAIT, seq, &slice, NULL, 0);
    }
    atomic_fetch_sub(&fx_sh->irq_waiters, 1);
    return ok;
}

/* xen wait_isa LINE LEVEL MS */
static void x_wait_isa(struct fx_client *c, struct words *ws, FILE *out)
{
    if (wait_level(&fx_sh->isa_level, (uint32_t)num(ws, 2) & 15, num(ws, 3) != 0, num(ws, 4),
                   c->vcpu.spin))
        fprintf(out, "OK");
    else
        fprintf(out, "FAIL timeout");
}

/* xen wait_intx DEV PIN LEVEL MS */
static void x_wait_intx(struct fx_client *c, struct words *ws, FILE *out)
{
    if (wait_level(&fx_sh->intx_level[num(ws, 2) & 31], (uint32_t)num(ws, 3) & 3,
                   num(ws, 4) != 0, num(ws, 5), c->vcpu.spin))
        fprintf(out, "OK");
    else
        fprintf(out, "FAIL timeout");
}

/* xen wait_xs PATH VALUE MS */
static void x_wait_xs(struct fx_client *c, struct words *ws, FILE *out)
{
    uint64_t deadline = fx_now_ns() + num(ws, 4) * 1000000;
    int status;

    (void)c;
    for (;;) {
        char *value = ws->n > 4 ? fx_xs_get(ws->w[2], NULL) : NULL;
        bool ok = value && !strcmp(value, ws->w[3]);

        free(value);
        if (ok) {
            fprintf(out, "OK");
            return;
        }
        if (fx_dm_dead(&status)) {
            char how[64];
            fx_dm_describe(how, sizeof(how));
            fprintf(out, "FAIL device model %s", how);
            return;
        }
        if (fx_now_ns() > deadline) {
            fprintf(out, "FAIL timeout");
            return;
        }
        sleep_ns(200000);
    }
}

/* xen poll inb|inw|inl PORT MASK VALUE MS: reads until (port & MASK) == VALUE */
static void x_poll(struct fx_client *c, struct words *ws, FILE *out)
{
    uint64_t deadline = fx_now_ns() + num(ws, 6) * 1000000, reads = 0;
    struct fx_access a;

    if (ws->n != 7 || strlen(ws->w[2]) != 3) {
        fprintf(out, "ERR poll inb|inw|inl PORT MASK VALUE MS");
        return;
    }
    do {
        a = (struct fx_access){ .addr = num(ws, 3), .size = suffix_size(ws->w[2][2]), .count = 1,
                                .read = true };
        if (!fx_pio(&c->vcpu, &a)) {
            fprintf(out, "FAIL %s", a.error);
            return;
        }
        reads++;
        if ((a.data & num(ws, 4)) == num(ws, 5)) {
            fprintf(out, "OK 0x%04lx reads=%lu", a.data, reads);
            return;
        }
    } while (fx_now_ns() < deadline);
    fprintf(out, "FAIL timeout, last value 0x%04lx", a.data);
}

/* ---- xen ... : state ---- */

static void x_irqs(struct fx_client *c, struct words *ws, FILE *out)
{
    (void)c;
    (void)ws;
    fx_lock(fx_sh);
    fprintf(out, "OK isa=0x%04x intx=", atomic_load(&fx_sh->isa_level));
    const char *comma = "";
    for (uint32_t d = 0; d < 32; d++)
        for (uint32_t p = 0; p < 4; p++)
            if (atomic_load(&fx_sh->intx_level[d]) >> p & 1) {
                fprintf(out, "%s%02x.%c", comma, d, (char)('A' + p));
                comma = ",";
            }
    fprintf(out, " links=%u,%u,%u,%u msi=%u", fx_sh->link_route[0], fx_sh->link_route[1],
            fx_sh->link_route[2], fx_sh->link_route[3], fx_sh->msi_head);
    if (fx_sh->msi_head) {
        struct fx_msi *m = &fx_sh->msi_log[(fx_sh->msi_head - 1) % FX_MSI_LOG];
        fprintf(out, " last_msi=0x%lx:0x%x", m->addr, m->data);
    }
    fx_unlock(fx_sh);
}

static void x_ranges(struct fx_client *c, struct words *ws, FILE *out)
{
    static const char *const names[] = { "port", "mmio", "pci" };

    (void)c;
    (void)ws;
    fx_lock(fx_sh);
    for (uint32_t i = 0; i < FX_MAX_SERVERS; i++) {
        struct fx_server *s = &fx_sh->server[i];

        if (!s->in_use)
            continue;
        fprintf(out, "# server %u enabled=%d bufioreq=%d\n", i, s->enabled, s->bufmode);
        for (uint32_t t = 0; t < 3; t++)
            for (uint32_t j = 0; j < s->set[t].n; j++)
                fprintf(out, "# %s 0x%04lx-0x%04lx\n", names[t], s->set[t].r[j].start,
                        s->set[t].r[j].end);
    }
    fx_unlock(fx_sh);
    fprintf(out, "OK");
}

static void x_counts(struct fx_client *c, struct words *ws, FILE *out)
{
    static const char *const names[FX_OP_COUNT] = {
        "isa_irq", "pci_intx", "link_route", "msi", "map_range", "unmap_range", "map_pci",
        "unmap_pci", "relocate", "pin", "track_dirty", "modified", "mem_type", "shutdown",
        "foreign_map", "notify", "pending", "unmask", "other" };

    (void)c;
    (void)ws;
    fprintf(out, "OK");
    for (int i = 0; i < FX_OP_COUNT; i++)
        fprintf(out, " %s=%lu", names[i], atomic_load(&fx_sh->count[i]));
}

static void x_shutdown(struct fx_client *c, struct words *ws, FILE *out)
{
    (void)ws;
    fprintf(out, "OK reason=%d calls=%u calls_at_answer=%u", atomic_load(&fx_sh->shutdown_reason),
            atomic_load(&fx_sh->shutdown_calls), c->vcpu.shutdown_seen);
}

static void x_last(struct fx_client *c, struct words *ws, FILE *out)
{
    (void)ws;
    fprintf(out, "OK ns=%lu", c->vcpu.answer_ns);
}

/* xen mem: allowance; xen mem GFN: what is there */
static void x_mem(struct fx_client *c, struct words *ws, FILE *out)
{
    (void)c;
    uint64_t gfn = num(ws, 2);

    if (ws->n > 2 && gfn < FX_P2M_GFNS)
        fprintf(out, "OK frame=%d type=%u", (int)fx_sh->p2m[gfn] - 1, fx_sh->mem_type[gfn]);
    else
        fprintf(out, "OK tot_pages=%u max_pages=%u max_gfn=0x%lx pins=%u", fx_sh->tot_pages,
                fx_sh->max_pages, fx_sh->max_gfn, fx_sh->n_pins);
}

/* xen modified FIRST N: how many of the pages the device model reported; clears them */
static void x_modified(struct fx_client *c, struct words *ws, FILE *out)
{
    uint32_t found = 0;

    (void)c;
    for (uint64_t g = num(ws, 2); g < num(ws, 2) + num(ws, 3) && g < FX_P2M_GFNS; g++)
        found += atomic_exchange(&fx_sh->modified[g], 0);
    fprintf(out, "OK %u", found);
}

/* xen copy DST SRC BYTES [ROWS DST_PITCH SRC_PITCH]: what a guest's memmove does; both are RAM (video memory is) */
static void x_copy(struct fx_client *c, struct words *ws, FILE *out)
{
    uint64_t bytes = num(ws, 4), rows = ws->n > 5 ? num(ws, 5) : 1;
    char error[160];
    uint8_t *buf = bytes && bytes <= MAX_BLOCK ? malloc(bytes) : NULL;

    if (!buf || (ws->n != 5 && ws->n != 8)) {
        fprintf(out, "ERR copy: wrong arguments");
        free(buf);
        return;
    }
    for (uint64_t i = 0; i < rows; i++) {
        if (!block(c, num(ws, 3) + i * num(ws, 7), buf, bytes, true, error, sizeof(error)) ||
            !block(c, num(ws, 2) + i * num(ws, 6), buf, bytes, false, error, sizeof(error))) {
            fprintf(out, "FAIL %s", error);
            free(buf);
            return;
        }
    }
    fprintf(out, "OK");
    free(buf);
}

/* xen dirty [enodata 0|1]: what is tracked; makes tracking fail as during a migration */
static void x_dirty(struct fx_client *c, struct words *ws, FILE *out)
{
    (void)c;
    if (is(ws, 2, "enodata"))
        atomic_store(&fx_sh->dirty_enodata, (uint32_t)num(ws, 3));
    fprintf(out, "OK first=0x%lx pages=%u", fx_sh->dirty_first, fx_sh->dirty_nr);
}

/* xen param INDEX [VALUE] */
static void x_param(struct fx_client *c, struct words *ws, FILE *out)
{
    uint64_t i = num(ws, 2) & 63;

    (void)c;
    if (ws->n > 3)
        fx_sh->hvm_param[i] = num(ws, 3);
    fprintf(out, "OK 0x%lx", fx_sh->hvm_param[i]);
}

static void x_xs_read(struct fx_client *c, struct words *ws, FILE *out)
{
    char *value = ws->n > 2 ? fx_xs_get(ws->w[2], NULL) : NULL;

    (void)c;
    if (value)
        fprintf(out, "OK %s", value);
    else
        fprintf(out, "FAIL no such node");
    free(value);
}

static void x_xs_write(struct fx_client *c, struct words *ws, FILE *out)
{
    (void)c;
    if (ws->n < 4) {
        fprintf(out, "ERR xs_write PATH VALUE");
        return;
    }
    fx_xs_set(ws->w[2], ws->w[3], strlen(ws->w[3]));
    fprintf(out, "OK");
}

static void x_xs_rm(struct fx_client *c, struct words *ws, FILE *out)
{
    (void)c;
    fprintf(out, ws->n > 2 && fx_xs_remove(ws->w[2]) ? "OK" : "FAIL no such node");
}

/* Event channels of the guest's own, for PV frontends: a new one; an event for the device model; wait until it has
 * raised COUNT in all. */
static void x_port_new(struct fx_client *c, struct words *ws, FILE *out)
{
    (void)c;
    (void)ws;
    fprintf(out, "OK %u", fx_port_new());
}

static void x_port_raise(struct fx_client *c, struct words *ws, FILE *out)
{
    (void)c;
    fprintf(out, fx_port_notify((uint32_t)num(ws, 2)) ? "OK" : "FAIL no such port");
}

static void x_port_wait(struct fx_client *c, struct words *ws, FILE *out)
{
    uint64_t port = num(ws, 2), deadline = fx_now_ns() + num(ws, 4) * 1000000;

    if (port >= FX_PORTS) {
        fprintf(out, "FAIL no such port");
        return;
    }
    while (atomic_load(&fx_sh->xen_port[port].notified) < num(ws, 3)) {
        if (fx_now_ns() > deadline) {
            fprintf(out, "FAIL timeout, %u events", atomic_load(&fx_sh->xen_port[port].notified));
            return;
        }
        if (c->vcpu.spin)
            __builtin_ia32_pause();
        else
            usleep(200);
    }
    fprintf(out, "OK %u", atomic_load(&fx_sh->xen_port[port].notified));
}

/* xen wait_mem GPA VALUE MS: until the 32-bit word there is VALUE */
static void x_wait_mem(struct fx_client *c, struct words *ws, FILE *out)
{
    uint64_t gpa = num(ws, 2), deadline = fx_now_ns() + num(ws, 4) * 1000000;
    const _Atomic uint32_t *word = (const _Atomic uint32_t *)(void *)fx_ram(gpa & ~3ull);

    while (word && atomic_load(word) != (uint32_t)num(ws, 3)) {
        if (fx_now_ns() > deadline) {
            fprintf(out, "FAIL timeout, value %#x", atomic_load(word));
            return;
        }
        if (c->vcpu.spin)
            __builtin_ia32_pause();
        else
            usleep(50);
    }
    fprintf(out, word ? "OK" : "FAIL no RAM there");
}

/* xen ring_push GPA PROD PORT: a frontend shows the backend the requests up to PROD in the shared ring at
 * GPA (xen/io/ring.h), and raises PORT only if the backend has asked to be told of one of them. */
static void x_ring_push(struct fx_client *c, struct words *ws, FILE *out)
{
    _Atomic uint32_t *ring = (_Atomic uint32_t *)(void *)fx_ram(num(ws, 2) & ~3ull);
    uint32_t prod = (uint32_t)num(ws, 3), old, event;

    (void)c;
    if (!ring) {
        fprintf(out, "FAIL no RAM there");
        return;
    }
    old = atomic_load(&ring[0]);
    atomic_store(&ring[0], prod);
    event = atomic_load(&ring[1]); /* both in this order: the backend writes it, then looks again */
    bool told = prod - event >= prod - old || fx_port_notify((uint32_t)num(ws, 4));
    fprintf(out, told ? "OK" : "FAIL no such port");
}

static void x_xs_dump(struct fx_client *c, struct words *ws, FILE *out)
{
    char *text = NULL, *save = NULL;
    size_t len;
    FILE *mem = open_memstream(&text, &len);

    (void)c;
    (void)ws;
    if (!mem)
        abort();
    fx_xs_dump(mem);
    fclose(mem);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        fprintf(out, "# %s\n", line);
    free(text);
    fprintf(out, "OK");
}

static void x_console(struct fx_client *c, struct words *ws, FILE *out)
{
    char *text = fx_inxen_console(), *save = NULL;

    (void)c;
    (void)ws;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        fprintf(out, "# %s\n", line);
    free(text);
    fprintf(out, "OK");
}

/* ---- xen ... : the process ---- */

static void x_dm(struct fx_client *c, struct words *ws, FILE *out)
{
    char how[64];

    (void)c;
    (void)ws;
    fx_dm_describe(how, sizeof(how));
    fprintf(out, "OK pid=%d %s", (int)fx_dm_pid(), how);
}

static void x_kill(struct fx_client *c, struct words *ws, FILE *out)
{
    int status;

    (void)c;
    if (fx_dm_dead(&status) || kill(fx_dm_pid(), (int)num(ws, 2)) < 0)
        fprintf(out, "FAIL no process");
    else
        fprintf(out, "OK");
}

static void x_wait_exit(struct fx_client *c, struct words *ws, FILE *out)
{
    char how[64];
    int status;

    (void)c;
    bool gone = fx_dm_wait((uint32_t)num(ws, 2), &status);
    fx_dm_describe(how, sizeof(how));
    fprintf(out, "%s %s", gone ? "OK" : "FAIL", how);
}

static void x_start_time(struct fx_client *c, struct words *ws, FILE *out)
{
    uint64_t running = atomic_load(&fx_sh->running_ns);

    (void)c;
    (void)ws;
    if (running)
        fprintf(out, "OK %lu", running - atomic_load(&fx_sh->exec_ns));
    else
        fprintf(out, "FAIL not running yet");
}

static void x_at_running(struct fx_client *c, struct words *ws, FILE *out)
{
    (void)c;
    (void)ws;
    fprintf(out, "OK %s", fx_at_running());
}

static void x_vcpu(struct fx_client *c, struct words *ws, FILE *out)
{
    if (num(ws, 2) >= fx_sh->nr_vcpus) {
        fprintf(out, "FAIL no such vCPU");
        return;
    }
    c->vcpu.id = (uint32_t)num(ws, 2);
    fprintf(out, "OK");
}

static void x_spin(struct fx_client *c, struct words *ws, FILE *out)
{
    c->vcpu.spin = num(ws, 2) != 0;
    fprintf(out, "OK");
}

static void x_quit(struct fx_client *c, struct words *ws, FILE *out)
{
    (void)c;
    (void)ws;
    fprintf(out, "OK");
    fx_quit();
}

static const struct {
    const char *name;
    void (*fn)(struct fx_client *c, struct words *ws, FILE *out);
} xen_commands[] = {
    { "insb", x_string_pio },   { "insw", x_string_pio },    { "insl", x_string_pio },
    { "outsb", x_string_pio },  { "outsw", x_string_pio },   { "outsl", x_string_pio },
    { "movs", x_movs },         { "stos", x_stos },          { "raw_ioreq", x_raw },
    { "ring", x_ring },         { "invalidate", x_invalidate }, { "timeoffset", x_timeoffset },
    { "garbage", x_garbage },   { "balloon", x_balloon },    { "populate", x_populate },
    { "wait_isa", x_wait_isa }, { "wait_intx", x_wait_intx }, { "wait_xs", x_wait_xs },
    { "poll", x_poll },         { "at_running", x_at_running },
    { "irqs", x_irqs },         { "ranges", x_ranges },      { "counts", x_counts },
    { "shutdown", x_shutdown }, { "last", x_last },          { "mem", x_mem },
    { "modified", x_modified }, { "dirty", x_dirty },        { "param", x_param },
    { "xs_read", x_xs_read },   { "xs_write", x_xs_write },  { "xs_rm", x_xs_rm },
    { "xs_dump", x_xs_dump },   { "console", x_console },    { "dm", x_dm },
    { "kill", x_kill },         { "wait_exit", x_wait_exit }, { "start_time", x_start_time },
    { "vcpu", x_vcpu },         { "spin", x_spin },          { "quit", x_quit },
    { "port_new", x_port_new }, { "port_raise", x_port_raise }, { "port_wait", x_port_wait },
    { "ring_push", x_ring_push }, { "wait_mem", x_wait_mem },   { "copy", x_copy },
};

static void xen_command(struct fx_client *c, struct words *ws, FILE *out)
{
    for (size_t i = 0; i < sizeof(xen_commands) / sizeof(xen_commands[0]); i++)
        if (is(ws, 1, xen_commands[i].name)) {
            xen_commands[i].fn(c, ws, out);
            return;
        }
    fprintf(out, "ERR unknown xen command");
}

/* Reports the level changes since the last line, as qtest does with irq_intercept_in. */
static void irq_lines(struct fx_client *c, FILE *out)
{
    fx_lock(fx_sh);
    if (fx_sh->irq_head - c->irq_tail > FX_IRQ_LOG)
        c->irq_tail = fx_sh->irq_head - FX_IRQ_LOG;
    for (; c->irq_tail != fx_sh->irq_head; c->irq_tail++) {
        struct fx_irq_event *e = &fx_sh->irq_log[c->irq_tail % FX_IRQ_LOG];
        uint32_t dev = e->line >> 2, pin = e->line & 3u, line = e->line;

        if (e->kind == 'P')
            line = ((dev * 4 + dev / 8 + pin) & 31) + 16;
        if (c->irq_intercept)
            fprintf(out, "IRQ %s %u\n", e->level ? "raise" : "lower", line);
    }
    fx_unlock(fx_sh);
}

static void command(struct fx_client *c, struct words *ws, FILE *out)
{
    const char *w = ws->w[0];

    if (single(c, ws, out) || memory(c, ws, out))
        return;
    if (!strcmp(w, "xen")) {
        xen_command(c, ws, out);
    } else if (!strcmp(w, "clock_step")) {
        sleep_ns(num(ws, 1));
        fprintf(out, "OK %lu", fx_now_ns());
    } else if (!strcmp(w, "irq_intercept_in")) {
        c->irq_intercept = true;
        c->irq_tail = fx_sh->irq_head;
        fprintf(out, "OK");
    } else if (!strcmp(w, "endianness")) {
        fprintf(out, "OK little");
    } else {
        fprintf(out, "ERR unknown command %s", w);
    }
}

void fx_qtest_line(struct fx_client *c, char *line, FILE *out)
{
    struct words ws;
    char *text = NULL;
    size_t len = 0;

    if (!strncmp(line, "bench ", 6)) {
        fx_bench(c, line + 6, out);
        return;
    }
    split(line, &ws);
    if (!ws.n || ws.w[0][0] == '#')
        return;
    FILE *answer = open_memstream(&text, &len);
    if (!answer)
        abort();
    command(c, &ws, answer);
    fclose(answer);
    irq_lines(c, out);
    fputs(text, out);
    free(text);
}

void fx_qtest_serve(int fd)
{
    struct fx_client c = { .fd = fd, .in = fdopen(fd, "r") };
    FILE *out = fdopen(dup(fd), "w");
    char *line = NULL;
    size_t room = 0;

    while (c.in && out && getline(&line, &room, c.in) > 0) {
        if (line[0] == '#' || line[strspn(line, " \t\r\n")] == '\0')
            continue;
        if (c.recording && strncmp(line, "bench ", 6)) {
            c.script = realloc(c.script, (c.script_len + 1) * sizeof(char *));
            if (!c.script)
                abort();
            c.script[c.script_len++] = strdup(line);
            continue;
        }
        fx_qtest_line(&c, line, out);
        fputc('\n', out);
        if (fflush(out) != 0)
            break;
    }
    free(line);
    for (size_t i = 0; i < c.script_len; i++)
        free(c.script[i]);
    free(c.script);
    if (out)
        fclose(out);
    if (c.in)
        fclose(c.in);
}
