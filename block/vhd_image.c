/* SPDX-License-Identifier: GPL-2.0-or-later */
/* VHD: footers, header, block allocation table and parents when an image is opened. */
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/vhd.h"
#include "core/log.h"

enum {
    BLOCKS_MAX = 4 << 20, /* 16 MiB of BAT: 2 TiB, the most a BAT reaches, in blocks of 512 KiB */
    READ_BYTES = 1 << 20,
    LOCATOR_MAX = 4096, /* bytes of a parent's name that are looked at */
};

#define MAX_GEOMETRY_BYTES (65535ull * 16 * 255 * VHD_SECTOR)

#define refuse(err, errlen, v, ...) refuse_at((err), (errlen), (v)->block->name, __VA_ARGS__)

static int refuse_at(char *err, size_t errlen, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static int refuse_at(char *err, size_t errlen, const char *name, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    snprintf(err, errlen, "image %s: %s", name, text);
    return -EINVAL;
}

struct wait {
    bool done;
    int error;
};

static void request_done(struct block_request *req, int error)
{
    struct wait *w = req->opaque;

    w->done = true;
    w->error = error;
}

/* Does a request on the file and blocks until it is done. The whole range must be in the file. 0 or -errno. */
static int request(struct vhd *v, enum block_op op, uint64_t pos, void *buf, size_t len)
{
    uint64_t size = v->block->file->size_bytes;
    struct wait w = {false, 0};
    struct iovec iov = {buf, len};
    struct block_request req = {.op = op,
                                .offset_bytes = pos,
                                .length_bytes = len,
                                .iov = &iov,
                                .iovcnt = len != 0,
                                .done = request_done,
                                .opaque = &w};

    if (pos > size || len > size - pos) {
        return -EIO;
    }
    block_submit(v->block->file, &req);
    while (!w.done) {
        block_wait(v->block->file);
    }
    return w.error;
}

static int read_file(struct vhd *v, uint64_t pos, void *buf, size_t len)
{
    return request(v, BLOCK_READ, pos, buf, len);
}

/* The ones' complement of the sum of all bytes but those of the checksum itself. */
static bool checksum_good(const uint8_t *p, size_t len, size_t at)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < len; i++) {
        sum += i >= at && i < at + 4 ? 0u : p[i];
    }
    return ~sum == vhd_get32(p + at);
}

static bool footer_good(const uint8_t *f)
{
    uint32_t type = vhd_get32(f + VHD_FOOTER_TYPE);

    return memcmp(f, "conectix", 8) == 0 && type >= VHD_FIXED && type <= VHD_DIFFERENCING &&
           checksum_good(f, VHD_SECTOR, VHD_FOOTER_CHECKSUM);
}

/*
 * Finds the footer. The one at the end says whether the image is fixed, because what comes first
 * in a fixed image is the guest's sector 0: a guest could write the footer of a differencing image
 * there and name a parent. For other images the copy at the front is what counts: nobody moves it,
 * while the last footer may be missing when somebody was killed while the file grew.
 */
static int find_footer(struct vhd *v, char *err, size_t errlen)
{
    uint64_t size = v->block->file->size_bytes;
    uint8_t first[VHD_SECTOR], last[VHD_SECTOR];
    bool have_first, have_last;
    int rc;

    if (size < VHD_SECTOR - 1) {
        return refuse(err, errlen, v, "not a VHD: too short for a footer");
    }
    /* Products before Virtual PC 2004 wrote a footer of 511 bytes. Its last byte is reserved, 0. */
    memset(last, 0, sizeof(last));
    v->footer_pos = (size - (VHD_SECTOR - 1)) / VHD_SECTOR * VHD_SECTOR;
    rc = read_file(v, v->footer_pos, last,
                   size - v->footer_pos < VHD_SECTOR ? VHD_SECTOR - 1 : VHD_SECTOR);
    if (rc == 0 && size >= VHD_SECTOR) {
        rc = read_file(v, 0, first, VHD_SECTOR);
    }
    if (rc < 0) {
        return refuse(err, errlen, v, "cannot read the VHD footer: %s", strerror(-rc));
    }
    have_last = footer_good(last);
    have_first =
        size >= VHD_SECTOR && footer_good(first) && vhd_get32(first + VHD_FOOTER_TYPE) != VHD_FIXED;
    if (have_last && (!have_first || vhd_get32(last + VHD_FOOTER_TYPE) == VHD_FIXED)) {
        memcpy(v->footer, last, VHD_SECTOR);
    } else if (have_first) {
        memcpy(v->footer, first, VHD_SECTOR);
    } else if (memcmp(last, "conectix", 8) == 0) {
        return refuse(err, errlen, v, "the VHD footer is corrupt (type or checksum)");
    } else {
        return refuse(err, errlen, v, "not a VHD: there is no footer at its end");
    }
    if (!have_last) {
        v->footer_pos = 0;
    }
    v->no_first = !have_first;
    return 0;
}

/*
 * While a file grows its last footer is on the way to the new end, and only the copy at the front tells what
 * the image is. An image whose copy is spoilt gets one before it is written to, or a kill could cost it.
 */
static int mend_first_footer(struct vhd *v, char *err, size_t errlen)
{
    int rc = request(v, BLOCK_WRITE, 0, v->footer, VHD_SECTOR);

    if (rc == 0) {
        rc = request(v, BLOCK_FLUSH, 0, NULL, 0);
    }
    if (rc < 0) {
        return refuse(err, errlen, v,
                      "cannot write the copy of the VHD footer that is missing at its front: %s",
                      strerror(-rc));
    }
    log_msg(
        "image %s: the copy of the VHD footer at its front was spoilt and has been written again",
        v->block->name);
    return 0;
}

/*
 * The size that the guest sees. Virtual PC showed its guests exactly cylinders * heads * sectors,
 * which is less than the current size; Hyper-V and later products show the current size and fill
 * the geometry in as well as it goes. So the creator decides, and the table is the one that
 * `qemu-img info` (7.2) turns out to use when it is shown images of each: a disk must not change
 * its size because another program serves it. A geometry at its limit cannot tell the size at all.
 */
static uint64_t disk_size(const uint8_t *f)
{
    static const char by_size[][4] = {
        {'w', 'i', 'n', ' '},  /* Hyper-V */
        {'d', '2', 'v', ' '},  /* Disk2vhd */
        {'q', 'e', 'm', '2'},  /* qemu-img with force_size */
        {'t', 'a', 'p', '\0'}, /* blktap, XenServer */
        {'C', 'T', 'X', 'S'},  /* XenConverter */
    };
    uint64_t current = vhd_get64(f + VHD_FOOTER_CURRENT_SIZE);
    uint64_t geometry = (uint64_t)(f[VHD_FOOTER_CYLINDERS] << 8 | f[VHD_FOOTER_CYLINDERS + 1]) *
                        f[VHD_FOOTER_HEADS] * f[VHD_FOOTER_SECTORS] * VHD_SECTOR;

    current -= current % VHD_SECTOR;
    for (size_t i = 0; i < sizeof(by_size) / sizeof(by_size[0]); i++) {
        if (memcmp(f + VHD_FOOTER_CREATOR, by_size[i], 4) == 0) {
            return current;
        }
    }
    return geometry == 0 || geometry >= MAX_GEOMETRY_BYTES || geometry > current ? current
                                                                                 : geometry;
}

static int check_fixed(struct vhd *v, char *err, size_t errlen)
{
    if (v->footer_pos == 0 || v->block->size_bytes > v->footer_pos) {
        return refuse(err, errlen, v, "the VHD is shorter than its footer says (%llu bytes)",
                      (unsigned long long)v->block->size_bytes);
    }
    return 0;
}

static int check_header(struct vhd *v, uint8_t *header, char *err, size_t errlen)
{
    uint64_t pos = vhd_get64(v->footer + VHD_FOOTER_DATA_OFFSET);
    uint64_t size = v->block->file->size_bytes;
    uint64_t entries, needed;
    int rc;

    if (pos < VHD_SECTOR || pos > size || size - pos < VHD_HEADER_BYTES) {
        return refuse(err, errlen, v, "the VHD header lies outside the file");
    }
    rc = read_file(v, pos, header, VHD_HEADER_BYTES);
    if (rc < 0) {
        return refuse(err, errlen, v, "cannot read the VHD header: %s", strerror(-rc));
    }
    if (memcmp(header, "cxsparse", 8) != 0 ||
        !checksum_good(header, VHD_HEADER_BYTES, VHD_HEADER_CHECKSUM)) {
        return refuse(err, errlen, v, "the VHD header is corrupt (cookie or checksum)");
    }
    if (vhd_get32(header + VHD_HEADER_VERSION) >> 16 != 1) {
        return refuse(err, errlen, v, "VHD header version %#x is not supported",
                      vhd_get32(header + VHD_HEADER_VERSION));
    }
    v->block_bytes = vhd_get32(header + VHD_HEADER_BLOCK_SIZE);
    v->table_pos = vhd_get64(header + VHD_HEADER_TABLE_OFFSET);
    entries = vhd_get32(header + VHD_HEADER_TABLE_ENTRIES);
    if (v->block_bytes < VHD_SECTOR || (v->block_bytes & (v->block_bytes - 1)) != 0) {
        return refuse(err, errlen, v, "the VHD block size %u is not a power of two of sectors",
                      v->block_bytes);
    }
    v->bitmap_bytes = (uint32_t)vhd_round_up(v->block_bytes / VHD_SECTOR, VHD_SECTOR * 8) / 8;
    needed = (v->block->size_bytes + v->block_bytes - 1) / v->block_bytes;
    if (needed > entries) {
        return refuse(err, errlen, v, "the VHD block table has %llu entries, its size needs %llu",
                      (unsigned long long)entries, (unsigned long long)needed);
    }
    if (needed > BLOCKS_MAX) {
        return refuse(err, errlen, v, "the VHD has %llu blocks; %d are supported",
                      (unsigned long long)needed, (int)BLOCKS_MAX);
    }
    v->blocks = (uint32_t)needed;
    if (v->table_pos < VHD_SECTOR || v->table_pos > size || size - v->table_pos < needed * 4 ||
        (v->table_pos < pos + VHD_HEADER_BYTES && pos < v->table_pos + needed * 4)) {
        return refuse(err, errlen, v, "the VHD block table lies outside the file or in the header");
    }
    return 0;
}

static int compare_sectors(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* Blocks must lie in the file, behind header and table, and apart. */
static int check_blocks(struct vhd *v, uint64_t header_pos, char *err, size_t errlen)
{
    uint64_t size = v->block->file->size_bytes, table_end = v->table_pos + (uint64_t)v->blocks * 4;
    uint64_t whole = (uint64_t)v->bitmap_bytes + v->block_bytes;
    uint32_t *sorted = malloc((size_t)v->blocks * sizeof(*sorted));
    size_t n = 0;
    int rc = 0;

    if (sorted == NULL) {
        return refuse(err, errlen, v, "out of memory");
    }
    for (uint32_t i = 0; i < v->blocks && rc == 0; i++) {
        uint64_t pos;

        if (v->bat[i] == VHD_NO_BLOCK) {
            continue;
        }
        sorted[n] = be32toh(v->bat[i]);
        pos = (uint64_t)sorted[n++] * VHD_SECTOR;
        if (pos > size || whole > size - pos) {
            rc = refuse(err, errlen, v, "VHD block %u lies outside the file (cut off?)", i);
        } else if (pos < VHD_SECTOR || (pos < table_end && v->table_pos < pos + whole) ||
                   (pos < header_pos + VHD_HEADER_BYTES && header_pos < pos + whole)) {
            rc = refuse(err, errlen, v, "VHD block %u lies on the header or block table", i);
        }
    }
    qsort(sorted, n, sizeof(*sorted), compare_sectors);
    for (size_t i = 1; i < n && rc == 0; i++) {
        if ((uint64_t)(sorted[i] - sorted[i - 1]) * VHD_SECTOR < whole) {
            rc = refuse(err, errlen, v, "two VHD blocks overlap at sector %u", sorted[i]);
        }
    }
    free(sorted);
    return rc;
}

static int read_table(struct vhd *v, char *err, size_t errlen)
{
    size_t bytes = (size_t)v->blocks * 4;
    int rc;

    v->bat = malloc(bytes);
    v->bat_dirty = calloc(1, bytes / VHD_SECTOR / 8 + 1);
    v->cache = calloc((size_t)VHD_CACHE_SETS * VHD_CACHE_WAYS, sizeof(*v->cache));
    if (v->bat == NULL || v->bat_dirty == NULL || v->cache == NULL) {
        return refuse(err, errlen, v, "out of memory");
    }
    for (size_t pos = 0; pos < bytes; pos += READ_BYTES) {
        size_t n = bytes - pos < READ_BYTES ? bytes - pos : READ_BYTES;

        rc = read_file(v, v->table_pos + pos, (uint8_t *)v->bat + pos, n);
        if (rc < 0) {
            return refuse(err, errlen, v, "cannot read the VHD block table: %s", strerror(-rc));
        }
    }
    return check_blocks(v, vhd_get64(v->footer + VHD_FOOTER_DATA_OFFSET), err, errlen);
}

/*
 * Where new blocks go. In a file that grows: behind its end, old footer included, where there is
 * nothing but zeros, whatever has been left of blocks that somebody allocated and did not get to
 * enter into the BAT. In a device or on the network: behind all that is used, over whatever is there.
 */
static void place_new_blocks(struct vhd *v, const uint8_t *header)
{
    uint64_t size = v->block->file->size_bytes, whole = (uint64_t)v->bitmap_bytes + v->block_bytes;
    uint64_t end = vhd_get64(v->footer + VHD_FOOTER_DATA_OFFSET) + VHD_HEADER_BYTES;
    uint64_t table_end = v->table_pos + (uint64_t)vhd_get32(header + VHD_HEADER_TABLE_ENTRIES) * 4;

    if (v->block->file->growable) {
        v->next_pos = size;
        return;
    }
    end = table_end > end ? table_end : end;
    for (unsigned i = 0; i < VHD_LOCATORS; i++) {
        const uint8_t *l = header + VHD_HEADER_LOCATORS + (size_t)i * VHD_LOCATOR_BYTES;
        uint64_t pos = vhd_get64(l + VHD_LOCATOR_OFFSET);
        uint32_t bytes = vhd_get32(l + VHD_LOCATOR_LENGTH);

        if (vhd_get32(l) != 0 && pos < size && bytes <= size - pos && pos + bytes > end) {
            end = pos + bytes;
        }
    }
    for (uint32_t i = 0; i < v->blocks; i++) {
        uint64_t pos = (uint64_t)be32toh(v->bat[i]) * VHD_SECTOR + whole;

        if (v->bat[i] != VHD_NO_BLOCK && pos > end) {
            end = pos;
        }
    }
    v->next_pos = end;
    v->unclean_end = size;
}

/* ---- parents ---- */

/* Appends a code point; false when the text is full. */
static bool put_utf8(char *out, size_t len, size_t *n, uint32_t c)
{
    unsigned bytes = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};

    if (len - *n <= bytes) {
        return false;
    }
    out[*n] = (char)(lead[bytes] | c >> 6 * (bytes - 1));
    for (unsigned i = 1; i < bytes; i++) {
        out[*n + i] = (char)(0x80 | (c >> 6 * (bytes - 1 - i) & 0x3f));
    }
    *n += bytes;
    return true;
}

/* UTF-16 up to its NUL or end into UTF-8. False: not text, or too long. */
static bool from_utf16(const uint8_t *in, size_t bytes, bool big, char *out, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i + 1 < bytes; i += 2) {
        uint32_t c = big ? (uint32_t)in[i] << 8 | in[i + 1] : (uint32_t)in[i + 1] << 8 | in[i];

        if (c == 0) {
            break;
        }
        if (c >= 0xd800 && c < 0xdc00 && i + 3 < bytes) {
            uint32_t low =
                big ? (uint32_t)in[i + 2] << 8 | in[i + 3] : (uint32_t)in[i + 3] << 8 | in[i + 2];

            if (low < 0xdc00 || low > 0xdfff) {
                return false;
            }
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            i += 2;
        } else if (c >= 0xd800 && c < 0xe000) {
            return false;
        }
        if (c < 0x20 || !put_utf8(out, len, &n, c)) {
            return false;
        }
    }
    out[n] = '\0';
    return n > 0;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

/* The path of a "file:" URL (RFC 2396), %XX decoded. A path that starts with ./ or ../ is taken as
 * relative: vhd-util writes "file://./parent.vhd". */
static bool from_url(const uint8_t *in, size_t bytes, char *out, size_t len)
{
    char url[LOCATOR_MAX + 1];
    const char *p = url;
    size_t n = 0;

    memcpy(url, in, bytes);
    url[bytes] = '\0';
    if (strncmp(p, "file:", 5) == 0) {
        p += 5;
        if (strncmp(p, "//", 2) == 0) {
            p += 2;
            if (*p != '.') {
                p = strchr(p, '/'); /* behind the host */
            }
        }
    }
    for (; p != NULL && *p != '\0' && n + 1 < len; p++) {
        char c = *p;

        if (c == '%' && hex_digit(p[1]) >= 0 && hex_digit(p[2]) >= 0) {
            c = (char)(hex_digit(p[1]) << 4 | hex_digit(p[2]));
            p += 2;
        }
        if ((uint8_t)c < 0x20) {
            return false;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return n > 0 && (p == NULL || *p == '\0');
}

struct search {
    struct vhd *v;
    const struct block_config *cfg;
    const uint8_t *uuid;
    char *err; /* why the first one that exists was not taken, or why the parent does not open */
    size_t errlen;
    bool tried;
    bool over; /* the parent has been found, it opens or does not */
};

/* Whether path is a VHD with the UUID that is searched; if not, why. */
static bool right_uuid(const struct search *s, const char *path, char *err, size_t errlen)
{
    const struct block_config cfg = {.path = path, .fd = -1, .readonly = true};
    struct block *file = block_open(s->v->block->loop, &cfg, err, errlen);
    char name[PATH_MAX];
    struct block b = {.file = file, .name = name};
    struct vhd v = {.block = &b};
    bool right;

    if (file == NULL) {
        return false;
    }
    snprintf(name, sizeof(name), "%s", path);
    right = find_footer(&v, err, errlen) == 0;
    if (right && memcmp(v.footer + VHD_FOOTER_UUID, s->uuid, 16) != 0) {
        snprintf(err, errlen, "image %s: its parent %s is another image (UUID)", s->v->block->name,
                 path);
        right = false;
    }
    block_close(file);
    return right;
}

/* Tries to open path as the parent. The UUID decides before anything else is opened: an image whose
 * many locators lead to itself or its like must not multiply. True: the search is over. */
static bool try_path(struct search *s, const char *path)
{
    const struct block_config cfg = {
        .path = path, .format = "vpc", .fd = -1, .readonly = true, .depth = s->cfg->depth + 1};
    char err[512];

    if (access(path, F_OK) != 0) {
        return false;
    }
    if (!right_uuid(s, path, err, sizeof(err))) {
        if (!s->tried) {
            snprintf(s->err, s->errlen, "%s", err);
            s->tried = true;
        }
        return false;
    }
    s->v->parent = block_open(s->v->block->loop, &cfg, s->err, s->errlen);
    s->tried = s->over = true;
    return true;
}

/*
 * Tries a parent's name: relative to the folder of the image, its last part in that folder (images
 * are moved together, and a Windows path means nothing here), then as an absolute path. Every path
 * tried starts with / or the image's folder, so that an image cannot name a network target.
 */
static bool try_name(struct search *s, char *name)
{
    char path[PATH_MAX];
    const char *image = s->cfg->path, *slash = image != NULL ? strrchr(image, '/') : NULL;
    const char *last;
    int folder = slash != NULL ? (int)(slash - image + 1) : 0;

    if (strchr(name, '/') == NULL) { /* a Windows path, or a plain name */
        for (char *p = name; *p != '\0'; p++) {
            *p = *p == '\\' ? '/' : *p;
        }
    }
    last = strrchr(name, '/');
    last = last != NULL ? last + 1 : name;
    if (*last == '\0') {
        return false;
    }
    if (image != NULL) {
        const char *prefix = folder > 0 ? image : "./";
        int prefix_len = folder > 0 ? folder : 2;

        if (name[0] != '/' &&
            snprintf(path, sizeof(path), "%.*s%s", prefix_len, prefix, name) < (int)sizeof(path) &&
            try_path(s, path)) {
            return true;
        }
        if (snprintf(path, sizeof(path), "%.*s%s", prefix_len, prefix, last) < (int)sizeof(path) &&
            try_path(s, path)) {
            return true;
        }
    }
    return name[0] == '/' && try_path(s, name);
}

/* Tries what the parent locators of one platform say. */
static bool try_locators(struct search *s, const uint8_t *header, const char *code)
{
    uint8_t raw[LOCATOR_MAX];
    char name[LOCATOR_MAX * 2];

    for (unsigned i = 0; i < VHD_LOCATORS; i++) {
        const uint8_t *l = header + VHD_HEADER_LOCATORS + (size_t)i * VHD_LOCATOR_BYTES;
        uint32_t bytes = vhd_get32(l + VHD_LOCATOR_LENGTH);

        if (memcmp(l + VHD_LOCATOR_CODE, code, 4) != 0 || bytes == 0 || bytes > sizeof(raw) ||
            read_file(s->v, vhd_get64(l + VHD_LOCATOR_OFFSET), raw, bytes) < 0) {
            continue;
        }
        if ((code[0] == 'W' ? from_utf16(raw, bytes, false, name, sizeof(name))
                            : from_url(raw, bytes, name, sizeof(name))) &&
            try_name(s, name)) {
            return true;
        }
    }
    return false;
}

static int open_parent(struct vhd *v, const struct block_config *cfg, const uint8_t *header,
                       char *err, size_t errlen)
{
    static const char *const codes[] = {"W2ru", "MacX", "W2ku"};
    struct search s = {
        .v = v, .cfg = cfg, .uuid = header + VHD_HEADER_PARENT_UUID, .err = err, .errlen = errlen};
    char name[VHD_NAME_BYTES * 2] = "", shown[VHD_NAME_BYTES * 2];

    if (v->block->file->backend == &block_nbd) {
        return refuse(err, errlen, v, "a differencing VHD must be a local file");
    }
    (void)from_utf16(header + VHD_HEADER_PARENT_NAME, VHD_NAME_BYTES, true, name, sizeof(name));
    memcpy(shown, name, sizeof(shown));
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (try_locators(&s, header, codes[i])) {
            break;
        }
    }
    if (!s.over && name[0] != '\0') {
        (void)try_name(&s, name);
    }
    if (v->parent != NULL) {
        return 0;
    }
    if (!s.tried) {
        return refuse(err, errlen, v, "its parent image '%.150s' is not there", shown);
    }
    return -EINVAL;
}

int vhd_read_image(struct vhd *v, const struct block_config *cfg, char *err, size_t errlen)
{
    uint8_t header[VHD_HEADER_BYTES];
    int rc = find_footer(v, err, errlen);

    if (rc < 0) {
        return rc;
    }
    if (vhd_get32(v->footer + VHD_FOOTER_VERSION) >> 16 != 1) {
        return refuse(err, errlen, v, "VHD version %#x is not supported",
                      vhd_get32(v->footer + VHD_FOOTER_VERSION));
    }
    v->type = (enum vhd_type)vhd_get32(v->footer + VHD_FOOTER_TYPE);
    v->block->size_bytes = disk_size(v->footer);
    if (v->block->size_bytes == 0) {
        return refuse(err, errlen, v, "the VHD is empty");
    }
    if (v->type == VHD_FIXED) {
        return check_fixed(v, err, errlen);
    }
    rc = check_header(v, header, err, errlen);
    if (rc == 0) {
        rc = read_table(v, err, errlen);
    }
    if (rc == 0) {
        place_new_blocks(v, header);
    }
    if (rc == 0 && v->type == VHD_DIFFERENCING) {
        rc = open_parent(v, cfg, header, err, errlen);
    }
    if (rc == 0 && v->no_first && !v->block->readonly) {
        rc = mend_first_footer(v, err, errlen);
    }
    return rc;
}

void vhd_free(struct vhd *v)
{
    block_close(v->parent);
    free(v->bat);
    free(v->bat_dirty);
    free(v->cache);
    free(v);
}
