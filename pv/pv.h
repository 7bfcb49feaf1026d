/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Backends for the guest's PV drivers: the disks that the toolstack lists under
 * backend/qdisk/<domid> in xenstore (blkif), on the same images as the emulated drives. Loop thread
 * only. Nothing of it runs unless xenstore or a frontend says so. An image is opened when a frontend
 * connects, not before: until then an emulated drive has it alone. What frontends put into rings
 * and xenstore is hostile: at worst their own disk answers with errors or is closed.
 */
#include <stdbool.h>
#include <stddef.h>

struct block;
struct loop;
struct pv;

/* Starts to serve the disks of domain domid (relative xenstore paths: those of our own domain).
 * NULL and a line in err on failure. */
struct pv *pv_create(struct loop *loop, int domid, char *err, size_t errlen);

/* Ends all connections: waits for requests in flight, closes the images. The domain may be gone
 * already. NULL is fine. */
void pv_destroy(struct pv *pv);

/* QMP stop/cont. On stopping, what is in flight is finished and answered; nothing new is taken. */
void pv_set_running(struct pv *pv, bool running);

/* A disk as query-block shows it. Strings live until the loop's next turn. */
struct pv_disk {
    const char *name;          /* "qdisk-51712" */
    const char *path, *format; /* as in xenstore; path "" for an empty CD drive */
    bool cdrom, readonly;
    const struct block *block; /* NULL: no frontend is connected, or no medium */
};
/* Fills disk i; false when there is none. */
bool pv_disk(const struct pv *pv, unsigned i, struct pv_disk *out);
