/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rangeset.h"

#include <errno.h>
#include <string.h>

bool fx_rangeset_overlaps(const struct fx_rangeset *rs, uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < rs->n; i++)
        if (rs->r[i].start <= end && start <= rs->r[i].end)
            return true;
    return false;
}

bool fx_rangeset_contains(const struct fx_rangeset *rs, uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < rs->n; i++)
        if (rs->r[i].start <= start && end <= rs->r[i].end)
            return true;
    return false;
}

static void erase(struct fx_rangeset *rs, uint32_t i)
{
    rs->n--;
    memmove(&rs->r[i], &rs->r[i + 1], (rs->n - i) * sizeof(rs->r[0]));
}

int fx_rangeset_add(struct fx_rangeset *rs, uint64_t start, uint64_t end)
{
    uint32_t i = 0;

    while (i < rs->n && rs->r[i].end < start)
        i++;
    bool join_left = i > 0 && rs->r[i - 1].end + 1 == start;
    bool join_right = i < rs->n && end + 1 == rs->r[i].start;
    if (join_left && join_right) {
        rs->r[i - 1].end = rs->r[i].end;
        erase(rs, i);
    } else if (join_left) {
        rs->r[i - 1].end = end;
    } else if (join_right) {
        rs->r[i].start = start;
    } else {
        if (rs->n == FX_MAX_RANGES)
            return -ENOMEM;
        memmove(&rs->r[i + 1], &rs->r[i], (rs->n - i) * sizeof(rs->r[0]));
        rs->r[i] = (struct fx_range){ start, end };
        rs->n++;
    }
    return 0;
}

int fx_rangeset_remove(struct fx_rangeset *rs, uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < rs->n; i++) {
        struct fx_range old = rs->r[i];

        if (start < old.start || end > old.end)
            continue;
        if (start == old.start && end == old.end) {
            erase(rs, i);
        } else if (start == old.start) {
            rs->r[i].start = end + 1;
        } else if (end == old.end) {
            rs->r[i].end = start - 1;
        } else {
            if (rs->n == FX_MAX_RANGES)
                return -ENOMEM;
            memmove(&rs->r[i + 1], &rs->r[i], (rs->n - i) * sizeof(rs->r[0]));
            rs->n++;
            rs->r[i].end = start - 1;
            rs->r[i + 1].start = end + 1;
        }
        return 0;
    }
    return -ENOENT;
}
