/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Xen's rangesets as ioreq servers use them: inclusive ranges, neighbours merge, 256 entries. */
#pragma once

#include "fx_shared.h"

/* True when any value of [start, end] is in the set. */
bool fx_rangeset_overlaps(const struct fx_rangeset *rs, uint64_t start, uint64_t end);

/* True when the whole of [start, end] is in the set. */
bool fx_rangeset_contains(const struct fx_rangeset *rs, uint64_t start, uint64_t end);

/* Adds [start, end], which must not overlap the set. Returns 0 or -ENOMEM when the set is full. */
int fx_rangeset_add(struct fx_rangeset *rs, uint64_t start, uint64_t end);

/* Removes [start, end], which must be contained. Returns 0 or -ENOMEM when a split does not fit. */
int fx_rangeset_remove(struct fx_rangeset *rs, uint64_t start, uint64_t end);
