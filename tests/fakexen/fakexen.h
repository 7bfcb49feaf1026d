/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fake hypervisor process: one HVM domain whose vCPUs do what the lines of a qtest client say.
 *
 * Threads: one per client connection (each drives one vCPU at a time), one per xenstore
 * connection, one that waits for the device model. fx_shared.h says how its struct is protected.
 */
#pragma once

#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#include "fx_shared.h"

struct fx_config {
    const char *qtest_path;   /* unix socket of the text protocol */
    const char *control_path; /* unix socket of libfakexen, given to the device model */
    const char *log_path;     /* the device model's stdout and stderr; NULL: ours */
    const char *preload;      /* libfakexen.so */
    uint32_t domid, vcpus, mem_mib, video_mib;
    uint32_t timeout_ms; /* for one answer of the device model */
    const char *at_running[4]; /* sockets to connect to when "running" is written */
};

extern struct fx_config fx_cfg;
extern struct fx_shared *fx_sh;
extern uint8_t *fx_machine; /* machine memory, by frame */
extern int fx_shared_fd, fx_machine_fd;

/* ---- domain.c ---- */

/* Makes the shared state and the domain's memory as libxl and libxc leave them (toolstack contract
 * 1.10). Exits with a message when that fails. */
void fx_domain_create(void);

/* Where a guest physical address is in our mapping, or NULL for a hole. Valid to the page end. */
uint8_t *fx_ram(uint64_t gpa);

/* True if a guest write to gpa is dropped (read-only RAM). */
bool fx_ram_readonly(uint64_t gpa);

/* Notes a guest write for dirty tracking. */
void fx_ram_dirty(uint64_t gpa);

/* Removes n pages from gfn on, as a ballooning guest does. Returns how many were populated. */
uint32_t fx_balloon(uint64_t gfn, uint32_t n);

/* Puts fresh pages at gfn. Returns how many could be added. */
uint32_t fx_populate_range(uint64_t gfn, uint32_t n);

/* ---- xenstore.c ---- */

/* Serves one xenstore connection in its own thread. Takes both descriptors. */
void fx_xs_serve(int request_fd, int watch_fd);

/* Reads a node. Returns a malloc'ed, NUL-terminated value, or NULL if absent. */
char *fx_xs_get(const char *path, uint32_t *len);

/* Writes a node (and its parents) and fires the watches. */
void fx_xs_set(const char *path, const char *value, size_t len);

/* Removes a node and its children. Returns false if there is none. */
bool fx_xs_remove(const char *path);

/* What was found when the device model wrote "running", before its write was answered: one word per
 * --at-running path ("ok" or an errno name), then the servers that were enabled. */
const char *fx_at_running(void);

/* Appends the whole tree as text lines. */
void fx_xs_dump(FILE *out);

/* ---- dm.c: the device model process ---- */

/* Starts the device model with argv (NULL-terminated). Exits with a message on failure. */
void fx_dm_spawn(char *const argv[]);
pid_t fx_dm_pid(void);
/* True once the device model is gone; *status is then its wait status. */
bool fx_dm_dead(int *status);
/* Waits until it is gone, at most ms milliseconds. Returns fx_dm_dead. */
bool fx_dm_wait(uint32_t ms, int *status);
/* Puts "exited N" or "killed by signal N" or "running" into text. */
void fx_dm_describe(char *text, size_t len);

/* ---- ioreq.c: the vCPU's side of an ioreq, as xen/common/ioreq.c and hvm/emulate.c ---- */

enum fx_by { FX_BY_XEN, FX_BY_DM, FX_BY_NOBODY, FX_BY_RING };

struct fx_access {
    uint64_t addr;    /* port or guest physical address */
    uint32_t size;    /* bytes per item: 1, 2, 4, 8 */
    uint32_t count;   /* items */
    bool read, df, is_ptr;
    uint64_t data;    /* value, or guest physical address if is_ptr */
    enum fx_by by;    /* out: who answered (the last part of it) */
    char error[160];  /* out: why it failed */
};

/* State of one vCPU as its client sees it. */
struct fx_vcpu {
    uint32_t id;
    bool spin;        /* look at the page instead of sleeping */
    uint32_t shutdown_seen; /* shutdown calls when the last answer came */
    uint64_t answer_ns;     /* what the last round trip took */
};

/* Port I/O, split as Xen splits it. On success a->data holds what a plain read got.
 * Returns false, with a->error set, if Xen would have crashed the domain or nobody answered. */
bool fx_pio(struct fx_vcpu *v, struct fx_access *a);

/* The same for memory: a hole is an MMIO request, RAM is accessed in place. is_ptr: REP MOVS
 * between addr (MMIO) and data (RAM); count > 1 without is_ptr: REP STOS. */
bool fx_mmio(struct fx_vcpu *v, struct fx_access *a);

/* Sends req (state and vp_eport are filled in) to a server as it stands, without any check.
 * *data receives the answer. */
bool fx_ioreq_raw(struct fx_vcpu *v, uint32_t server, struct ioreq *req, uint64_t *data,
                  char *error, size_t error_len);

/* Puts one entry into the server's buffered ring. size 1, 2, 4 or 8. Returns false if the ring is
 * full or the server has none. */
bool fx_ioreq_buffered(uint32_t server, uint8_t type, bool read, uint32_t addr, uint32_t size,
                       uint64_t data);

/* A port of the guest's own that the device model may bind: its number, 0 if there is none left. */
uint32_t fx_port_new(void);
/* The guest raises it. False: no such port. */
bool fx_port_notify(uint32_t port);

/* INVALIDATE to every enabled server, from this vCPU. */
bool fx_invalidate(struct fx_vcpu *v, char *error, size_t error_len);

/* TIMEOFFSET broadcast. Returns how many rings took it. */
uint32_t fx_timeoffset(int64_t seconds);

/* ---- garbage.c ---- */

/* Random accesses for ms milliseconds. Returns how many; error is "" or what went wrong. */
uint64_t fx_garbage(struct fx_vcpu *v, uint64_t ms, uint64_t seed, char *error, size_t error_len);

/* ---- inxen.c: devices that Xen itself emulates (hypervisor contract 2.1) ---- */

/* One port access. Returns true if an in-Xen device claims it; *value is read or written. */
bool fx_inxen_pio(uint32_t port, uint32_t size, bool read, uint64_t *value);
/* One memory access to the local APIC, the IOAPIC or the HPET. */
bool fx_inxen_mmio(uint64_t addr, uint32_t size, bool read, uint64_t *value);
/* What was written to port 0xe9 so far; malloc'ed. */
char *fx_inxen_console(void);

/* ---- qtest.c, bench.c ---- */

struct fx_client {
    int fd;
    FILE *in;
    struct fx_vcpu vcpu;
    bool irq_intercept;
    uint32_t irq_tail; /* of fx_shared.irq_log */
    char **script;     /* lines recorded between "bench record" and "bench end" */
    size_t script_len;
    bool recording;
};

/* Serves one text client until it closes. Takes fd. */
void fx_qtest_serve(int fd);

/* Carries out one line; the answer (without newline) goes to out. */
void fx_qtest_line(struct fx_client *c, char *line, FILE *out);

/* The "bench" command, words after it. */
void fx_bench(struct fx_client *c, char *args, FILE *out);

/* CPU time of the device model so far. */
uint64_t fx_dm_cpu_ns(void);
/* nic.c; w: the command's words. */
void fx_bench_nic(struct fx_client *c, char **w, int words, FILE *out);
void fx_bench_tap(char **w, int words, FILE *out);

/* Asks main to end. */
void fx_quit(void);

uint64_t fx_now_ns(void);
