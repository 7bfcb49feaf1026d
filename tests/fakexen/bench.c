/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Time measurement where no socket is in the way:
 *   bench pin none|same|other      where this vCPU and the device model run
 *   bench inb|inw|inl|readb.. ADDR N     plain reads
 *   bench outb.. ADDR VALUE N            plain writes
 *   bench insw PORT GPA WORDS N          REP INSW (also insb, insl)
 *   bench record ... bench end           records lines
 *   bench run N                          carries out the recorded lines N times; if some of them
 *                                        start with @, only these are timed, and all_med=,
 *                                        all_mean= are those of all lines. A line "lap" ends a
 *                                        turn, so that a record can hold several different ones
 *   bench nic ..., bench tap ...         see nic.c
 * Answer: OK n= min= med= p99= mean= (ns per turn) cpu= (device model CPU ns per turn)
 *         ctxsw= (its context switches per turn)
 */
#include "fakexen.h"

#include <dirent.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_TURNS = 2000000 };

struct usage {
    uint64_t cpu_ns, switches;
};

/* Sums a figure over the device model's threads. */
static struct usage dm_usage(void)
{
    struct usage u = { 0, 0 };
    char path[300], line[256];
    struct dirent *e;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)fx_dm_pid());
    DIR *d = opendir(path);
    while (d && (e = readdir(d))) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", (int)fx_dm_pid(), e->d_name);
        FILE *f = fopen(path, "r");
        uint64_t ns = 0;
        if (f && fscanf(f, "%lu", &ns) == 1)
            u.cpu_ns += ns;
        if (f)
            fclose(f);
        snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)fx_dm_pid(), e->d_name);
        f = fopen(path, "r");
        while (f && fgets(line, sizeof(line), f)) {
            char *p = strstr(line, "voluntary_ctxt_switches:");
            if (p)
                u.switches += strtoull(p + 24, NULL, 10);
        }
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return u;
}

uint64_t fx_dm_cpu_ns(void)
{
    return dm_usage().cpu_ns;
}

static void pin(const char *how, FILE *out)
{
    cpu_set_t mine, theirs;
    char path[64];
    struct dirent *e;

    CPU_ZERO(&mine);
    CPU_ZERO(&theirs);
    if (!strcmp(how, "same")) {
        CPU_SET(0, &mine);
        CPU_SET(0, &theirs);
    } else if (!strcmp(how, "other")) {
        CPU_SET(1, &mine);
        CPU_SET(0, &theirs);
    } else {
        memset(&mine, 0xff, sizeof(mine));
        memset(&theirs, 0xff, sizeof(theirs));
    }
    bool ok = sched_setaffinity(0, sizeof(mine), &mine) == 0;
    snprintf(path, sizeof(path), "/proc/%d/task", (int)fx_dm_pid());
    DIR *d = opendir(path);
    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.' &&
            sched_setaffinity(atoi(e->d_name), sizeof(theirs), &theirs) != 0)
            ok = false;
    if (d)
        closedir(d);
    fprintf(out, ok ? "OK" : "FAIL sched_setaffinity");
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void report(uint64_t *ns, uint64_t n, struct usage before, FILE *out)
{
    struct usage after = dm_usage();
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++)
        sum += ns[i];
    qsort(ns, n, sizeof(ns[0]), compare);
    fprintf(out, "OK n=%lu min=%lu med=%lu p99=%lu mean=%lu cpu=%lu ctxsw=%.2f", n, ns[0],
            ns[n / 2], ns[n * 99 / 100], sum / n, (after.cpu_ns - before.cpu_ns) / n,
            (double)(after.switches - before.switches) / (double)n);
}

/* Turns that one run of the record holds: its laps, at least 1. */
static uint64_t laps(const struct fx_client *c)
{
    uint64_t n = 0;

    for (size_t j = 0; j < c->script_len; j++)
        n += !strncmp(c->script[j], "lap", 3);
    return n ? n : 1;
}

/* Carries out one recorded line. Returns the ns it took, or -1 with what went wrong in out. */
static int64_t run_line(struct fx_client *c, const char *recorded, FILE *out)
{
    char *text = NULL, line[4096];
    size_t len = 0;
    FILE *answer = open_memstream(&text, &len);

    if (!answer)
        abort();
    snprintf(line, sizeof(line), "%s", recorded + (recorded[0] == '@'));
    uint64_t start = fx_now_ns();
    fx_qtest_line(c, line, answer);
    int64_t took = (int64_t)(fx_now_ns() - start);
    fclose(answer);
    if (!strncmp(text, "FAIL", 4) || !strncmp(text, "ERR", 3)) {
        fprintf(out, "FAIL \"%.40s\": %s", recorded, text);
        took = -1;
    }
    free(text);
    return took;
}

/* Runs the recorded lines n times. ns has n * laps() entries for marked lines, then as many for all. */
static void run(struct fx_client *c, uint64_t n, uint64_t *ns, FILE *out)
{
    struct usage before = dm_usage();
    uint64_t turn = 0, all = n * laps(c), sum = 0, *total = ns + all;
    bool marked = false;

    for (size_t j = 0; j < c->script_len; j++)
        marked = marked || c->script[j][0] == '@';
    for (uint64_t i = 0; i < n; i++) {
        for (size_t j = 0; j < c->script_len; j++) {
            if (!strncmp(c->script[j], "lap", 3)) {
                turn++;
                continue;
            }
            int64_t took = run_line(c, c->script[j], out);
            if (took < 0)
                return;
            if (turn < all)
                total[turn] += (uint64_t)took;
            if (turn < all && (c->script[j][0] == '@' || !marked))
                ns[turn] += (uint64_t)took;
        }
        turn = (i + 1) * laps(c);
    }
    report(ns, all, before, out);
    if (marked) {
        for (uint64_t i = 0; i < all; i++)
            sum += total[i];
        qsort(total, all, sizeof(total[0]), compare);
        fprintf(out, " all_med=%lu all_mean=%lu", total[all / 2], sum / all);
    }
}

/* One kind of access, n times. */
static void repeat(struct fx_client *c, const struct fx_access *what, bool mmio, uint64_t n,
                   uint64_t *ns, FILE *out)
{
    struct usage before = dm_usage();

    for (uint64_t i = 0; i < n; i++) {
        struct fx_access a = *what;
        uint64_t start = fx_now_ns();

        if (!(mmio ? fx_mmio(&c->vcpu, &a) : fx_pio(&c->vcpu, &a))) {
            fprintf(out, "FAIL %s", a.error);
            return;
        }
        ns[i] = fx_now_ns() - start;
    }
    report(ns, n, before, out);
}

void fx_bench(struct fx_client *c, char *args, FILE *out)
{
    char *w[12] = { 0 }, *save = NULL;
    int n = 0;

    for (char *t = strtok_r(args, " \t\r\n", &save); t && n < 12;
         t = strtok_r(NULL, " \t\r\n", &save))
        w[n++] = t;
    if (n == 2 && !strcmp(w[0], "pin")) {
        pin(w[1], out);
        return;
    }
    if (n == 1 && (!strcmp(w[0], "record") || !strcmp(w[0], "end"))) {
        c->recording = w[0][0] == 'r';
        for (size_t i = 0; c->recording && i < c->script_len; i++)
            free(c->script[i]);
        if (c->recording)
            c->script_len = 0;
        fprintf(out, "OK");
        return;
    }
    if (n > 0 && !strcmp(w[0], "nic")) {
        fx_bench_nic(c, w, n, out);
        return;
    }
    if (n > 0 && !strcmp(w[0], "tap")) {
        fx_bench_tap(w, n, out);
        return;
    }
    uint64_t turns = n ? strtoull(w[n - 1], NULL, 0) : 0;
    if (n < 2 || !turns || turns > MAX_TURNS) {
        fprintf(out, "ERR bench: wrong arguments");
        return;
    }
    uint64_t *ns = calloc(turns * laps(c) * 2, sizeof(*ns));
    if (!ns)
        abort();
    size_t len = strlen(w[0]);
    char last = w[0][len - 1];
    bool mmio = !strncmp(w[0], "read", 4) || !strncmp(w[0], "write", 5);
    struct fx_access a = { .addr = strtoull(w[1], NULL, 0), .count = 1,
                           .size = last == 'b' ? 1 : last == 'w' ? 2 : last == 'l' ? 4 : 8,
                           .read = w[0][0] == 'i' || w[0][0] == 'r' };
    if (!strcmp(w[0], "run")) {
        run(c, turns, ns, out);
    } else if (n == 5 && !strncmp(w[0], "ins", 3)) {
        a.is_ptr = true;
        a.data = strtoull(w[2], NULL, 0);
        a.count = (uint32_t)strtoul(w[3], NULL, 0);
        repeat(c, &a, false, turns, ns, out);
    } else if (n == (a.read ? 3 : 4)) {
        a.data = a.read ? 0 : strtoull(w[2], NULL, 0);
        repeat(c, &a, mmio, turns, ns, out);
    } else {
        fprintf(out, "ERR bench: wrong arguments");
    }
    free(ns);
}
