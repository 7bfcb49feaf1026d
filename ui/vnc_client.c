/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One VNC client: cutting its bytes into messages, keyboard and pointer, and its output queue. RFB
 * 3.8 (RFC 6143) and, of the community RFB specification, QEMU extended key events, pointer motion
 * change and LED state (in VMware's form, too). See vnc_int.h
 * for how libvncserver is kept from blocking.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/log.h"
#include "ui/input.h"
#include "ui/vnc_int.h"

enum {
    CUT_TEXT_MAX = 16 << 20, /* bytes; skipped, never stored */
    REPLY_MAX = 16 << 10,    /* bytes of answers that may wait before input is left unread */
    REGION_MAX_RECTS = 16,   /* of what a client asks for; beyond it is their bounding box */
};
static const uint64_t first_ns = 100000000ull;     /* for a browser to say GET */
static const uint64_t version_ns = 10000000000ull; /* from connect to the client's version */
static const uint64_t resized_ns = 100000000ull;
static const uint64_t handshake_ns = 120000000000ull; /* a person types a password meanwhile */
static const uint64_t picture_ns = 500000000ull;      /* ClientInit waits for the first picture */
static const uint64_t stall_limit_ns = 15000000000ull;
static const uint64_t closing_ns = 2000000000ull;

enum message { /* RFC 6143, 7.5; 255: community specification */
               MSG_SET_PIXEL_FORMAT = 0,
               MSG_SET_ENCODINGS = 2,
               MSG_UPDATE_REQUEST = 3,
               MSG_KEY = 4,
               MSG_POINTER = 5,
               MSG_CUT_TEXT = 6,
               MSG_QEMU = 255,
};
enum {
    ENCODING_QEMU_MOTION = -257,
    ENCODING_QEMU_EXT_KEY = -258,
    ENCODING_QEMU_LEDS = -261,
    ENCODING_VMWARE_LEDS = 0x574d5668,
    RELATIVE_ZERO = 0x7fff, /* no movement, in a pointer event after a motion change */
};

/* What libvncserver hears of; the rest of its encodings and extensions stay off. Inclusive ranges.
 * */
static const struct {
    int32_t first, last;
} encodings[] = {
    {0, 1},       /* Raw, CopyRect */
    {5, 5},       /* Hextile */
    {7, 7},       /* Tight */
    {16, 16},     /* ZRLE */
    {-224, -223}, /* LastRect, DesktopSize */
    {-32, -23},   /* JPEG quality */
    {-256, -247}, /* compression level */
    {-512, -412}, /* fine JPEG quality */
    {-768, -763}, /* JPEG subsampling */
};

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static void put_be16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* ---- output ---- */

void vnc_client_close(struct vnc_client *c)
{
    if (!c->closing) {
        c->closing = true;
        c->deadline_ns = vnc_now_ns() + closing_ns;
        vnc_ws_close(c, WS_CLOSE_NORMAL);
    }
}

bool vnc_client_unsent(const struct vnc_client *c)
{
    return c->out_pos < c->out_len || vnc_ws_unsent(c);
}

void vnc_client_discard(struct vnc_client *c)
{
    c->out_len = c->out_pos;
    if (c->ws != NULL) {
        c->ws->head_len = c->ws->head_pos = 0;
        c->ws->frame_left = 0;
        c->ws->pong = false;
        c->ws->close_sent = true;
    }
}

/* Queues an answer. */
static void reply(struct vnc_client *c, const void *data, size_t len)
{
    if (len == 0) {
        return;
    }
    if (pwrite(c->out_fd, data, len, c->out_len) != (ssize_t)len) {
        vnc_client_close(c);
        return;
    }
    c->out_len += (off_t)len;
    c->reply_bytes += len;
}

/* Queues an update of one empty rectangle: what pseudo-encodings say, with 0..4 more bytes. */
static void reply_pseudo(struct vnc_client *c, int32_t encoding, unsigned x, const uint8_t *payload,
                         size_t len)
{
    uint8_t m[16 + 4] = {0, 0, 0, 1};

    put_be16(m + 4, x);
    put_be16(m + 12, (uint32_t)encoding >> 16);
    put_be16(m + 14, (uint32_t)encoding & 0xffff);
    if (len > 0) {
        memcpy(m + 16, payload, len);
    }
    reply(c, m, 16 + len);
}

/* Tells what the client wants to know of the guest's keyboard and pointer. Only when nothing else
 * waits: a guest that changes its lights all the time does not fill the queue. */
static void tell_input(struct vnc_client *c)
{
    const struct vnc_ui *ui = c->ui;
    const uint8_t leds[4] = {0, 0, 0, (uint8_t)ui->leds}; /* same bit order: Scroll, Num, Caps */

    if (c->motion_change && c->told_absolute != (int)ui->absolute) {
        c->told_absolute = ui->absolute;
        c->relative = !ui->absolute;
        reply_pseudo(c, ENCODING_QEMU_MOTION, ui->absolute, NULL, 0);
    }
    if (c->led_encoding != 0 && c->told_leds != (int)ui->leds) {
        size_t len = c->led_encoding == ENCODING_QEMU_LEDS ? 1 : 4;

        c->told_leds = (int)ui->leds;
        reply_pseudo(c, c->led_encoding, 0, leds + 4 - len, len);
    }
}

/* Sends a piece: bytes sent, 0: there is nothing; -1: errno. */
static ssize_t send_piece(struct vnc_client *c)
{
    off_t left = c->out_len - c->out_pos;

    if (c->ws != NULL) {
        return vnc_ws_send(c);
    }
    return left == 0 ? 0
                     : sendfile(c->fd, c->out_fd, &c->out_pos,
                                (size_t)(left < VNC_SEND_CHUNK ? left : VNC_SEND_CHUNK));
}

/* Sends what the socket takes. */
static void flush(struct vnc_client *c)
{
    bool progress = false;

    while (vnc_client_unsent(c)) {
        ssize_t n = send_piece(c);

        if (n > 0) {
            progress = true;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else {
            if (n < 0 && errno != EAGAIN) {
                vnc_client_close(c);
                vnc_client_discard(c);
            }
            break;
        }
    }
    if (c->out_pos == c->out_len) {
        if (c->out_len != 0) {
            /* The socket may still refer to these pages: give them up, never write them again. */
            (void)!ftruncate(c->out_fd, 0);
        }
        c->out_pos = c->out_len = 0;
        c->reply_bytes = 0;
    }
    if (!vnc_client_unsent(c)) {
        c->stall_ns = 0;
    } else if (progress || c->stall_ns == 0) {
        c->stall_ns = vnc_now_ns() + stall_limit_ns;
    }
}

/* Takes n bytes off the front. Returns how many pieces are left. */
static int consume(struct iovec **iov, int pieces, size_t n)
{
    while (pieces > 0 && n >= (*iov)->iov_len) {
        n -= (*iov)->iov_len;
        ++*iov;
        pieces--;
    }
    if (pieces > 0) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
        (*iov)->iov_len -= n;
    }
    return pieces;
}

void vnc_client_send(struct vnc_client *c, struct iovec *iov, int n, bool more)
{
    if (!vnc_client_unsent(c) && c->ws == NULL) {
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};
        ssize_t sent = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0));

        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            vnc_client_close(c);
            vnc_client_discard(c);
            return;
        }
        n = consume(&iov, n, sent > 0 ? (size_t)sent : 0);
    }
    while (n > 0) {
        ssize_t queued = pwritev(c->out_fd, iov, n, c->out_len);

        if (queued <= 0) {
            vnc_client_close(c);
            return;
        }
        c->out_len += queued;
        n = consume(&iov, n, (size_t)queued);
    }
}

/* ---- libvncserver ---- */

static bool lib_alive(const struct vnc_client *c)
{
    return c->rfb != NULL && c->rfb->sock != RFB_INVALID_SOCKET;
}

/* The library makes its challenge, the last bytes of the answer in at..end, from random() seeded
 * with the time: put a real one there. */
static bool fresh_challenge(struct vnc_client *c, off_t at, off_t end)
{
    uint8_t *challenge = c->rfb->authChallenge;

    return end - at >= CHALLENGESIZE && getrandom(challenge, CHALLENGESIZE, 0) == CHALLENGESIZE &&
           pwrite(c->ui->scratch_fd, challenge, CHALLENGESIZE, end - CHALLENGESIZE) ==
               CHALLENGESIZE;
}

static void size_told(struct vnc_client *c)
{
    c->told_width = c->ui->screen->width;
    c->told_height = c->ui->screen->height;
}

/* Has the library handle one whole message and queues what it answers. */
static void lib_message(struct vnc_client *c, const uint8_t *msg, size_t len)
{
    int scratch = c->ui->scratch_fd;
    uint8_t buf[2048];
    off_t at = (off_t)len, end;
    bool handshake;

    if (!lib_alive(c)) {
        vnc_client_close(c);
        return;
    }
    if (ftruncate(scratch, 0) != 0 || pwrite(scratch, msg, len, 0) != (ssize_t)len ||
        lseek(scratch, 0, SEEK_SET) != 0 || dup2(scratch, c->rfb->sock) < 0) {
        vnc_client_close(c);
        return;
    }
    handshake = c->rfb->state != RFB_AUTHENTICATION;
    rfbProcessClientMessage(c->rfb);
    if (c->told_width == 0 && c->rfb->state == RFB_NORMAL) {
        size_told(c); /* ServerInit */
    }
    end = lseek(scratch, 0, SEEK_CUR);
    if (end < at ||
        (handshake && c->rfb->state == RFB_AUTHENTICATION && !fresh_challenge(c, at, end))) {
        vnc_client_close(c);
    }
    while (at < end && !c->closing) {
        ssize_t n =
            pread(scratch, buf,
                  (size_t)(end - at < (off_t)sizeof(buf) ? end - at : (off_t)sizeof(buf)), at);

        if (n <= 0) {
            vnc_client_close(c);
            break;
        }
        reply(c, buf, (size_t)n);
        at += n;
    }
    if (!lib_alive(c) || dup2(c->out_fd, c->rfb->sock) < 0) {
        vnc_client_close(c);
    }
}

/* The library's side of a client whose version message has come. The library sends its banner into
 * a socket that nobody reads (ours went out long ago) and looks for a WebSocket there, which the
 * version message makes it stop at once. */
static bool lib_attach(struct vnc_client *c, const uint8_t *version)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        return false;
    }
    /* It keeps its descriptors in an fd_set, although nothing here has it use that. */
    if (pair[1] >= FD_SETSIZE || write(pair[0], version, VNC_VERSION_LEN) != VNC_VERSION_LEN) {
        close(pair[1]);
    } else {
        rfbLogProc err = rfbErr;

        rfbErr = rfbLog; /* it complains that this is not a TCP socket */
        c->rfb = rfbNewClient(c->ui->screen, pair[1]);
        rfbErr = err;
    }
    close(pair[0]);
    return lib_alive(c);
}

/* ---- pointer ---- */

static unsigned buttons(uint8_t mask)
{
    /* RFC 6143 7.5.5: left, middle, right, then the wheel as buttons 4 and 5; the eighth is "back".
     * */
    return (mask & 1 ? INPUT_BUTTON_LEFT : 0u) | (mask & 2 ? INPUT_BUTTON_MIDDLE : 0u) |
           (mask & 4 ? INPUT_BUTTON_RIGHT : 0u) | (mask & 0x80 ? INPUT_BUTTON_SIDE : 0u);
}

/* A position, 0..32767, or movement in pixels. */
static void send_pointer(struct vnc_client *c, uint8_t mask, bool relative, int x, int y)
{
    uint8_t pressed = mask & (uint8_t)~c->mask;
    const struct input_event ev = {
        .type = relative ? INPUT_EVENT_RELATIVE : INPUT_EVENT_ABSOLUTE,
        .x = x,
        .y = y,
        .dz = (pressed & 0x10 ? 1 : 0) - (pressed & 0x08 ? 1 : 0),
        .buttons = buttons(mask),
    };

    c->mask = mask;
    if (!relative) {
        c->x = x;
        c->y = y;
    }
    input_post(c->ui->v->input, &ev);
    vnc_ui_kick(c->ui);
}

/* Nothing stays pressed when a client goes. */
static void release_all(struct vnc_client *c)
{
    vnc_keys_release_all(c);
    if (buttons(c->mask) != 0) {
        send_pointer(c, 0, c->relative, c->relative ? 0 : c->x, c->relative ? 0 : c->y);
    }
}

/* ---- messages; each handler returns how many bytes it took, 0: the message is not complete, -1:
 * drop the client ---- */

static bool format_ok(const uint8_t *f)
{
    unsigned bpp = f[0];

    if (bpp != 8 && bpp != 16 && bpp != 32) {
        return false;
    }
    if (f[3] == 0) {
        return bpp == 8;
    }
    for (int i = 0; i < 3; i++) {
        uint64_t max = be16(f + 4 + 2 * i);
        unsigned shift = f[10 + i];

        if (max == 0 || (max & (max + 1)) != 0 || shift >= bpp || (max << shift) >> bpp != 0) {
            return false;
        }
    }
    return true;
}

static int on_pixel_format(struct vnc_client *c, const uint8_t *m, size_t len)
{
    if (len < 20) {
        return 0;
    }
    if (!format_ok(m + 4)) {
        return -1;
    }
    lib_message(c, m, 20);
    return 20;
}

static bool encoding_allowed(int32_t e)
{
    for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++) {
        if (e >= encodings[i].first && e <= encodings[i].last) {
            return true;
        }
    }
    return false;
}

static int on_encodings(struct vnc_client *c, const uint8_t *m, size_t len)
{
    uint8_t filtered[4 + 4 * VNC_MAX_ENCODINGS];
    size_t n, kept = 0, total;
    bool ext_keys = false, motion_change = false;
    int32_t leds = 0;

    if (len < 4) {
        return 0;
    }
    n = be16(m + 2);
    total = 4 + 4 * n;
    if (n > VNC_MAX_ENCODINGS) {
        return -1;
    }
    if (len < total) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        int32_t e = (int32_t)be32(m + 4 + 4 * i);

        ext_keys |= e == ENCODING_QEMU_EXT_KEY;
        motion_change |= e == ENCODING_QEMU_MOTION;
        if (leds == 0 && (e == ENCODING_QEMU_LEDS || e == ENCODING_VMWARE_LEDS)) {
            leds = e;
        }
        if (encoding_allowed(e)) {
            memcpy(filtered + 4 + 4 * kept++, m + 4 + 4 * i, 4);
        }
    }
    filtered[0] = MSG_SET_ENCODINGS;
    filtered[1] = 0;
    put_be16(filtered + 2, (unsigned)kept);
    lib_message(c, filtered, 4 + 4 * kept);
    if (!c->closing && c->rfb->useNewFBSize) {
        /* The size may have changed since ServerInit told it. If not, it is not told again: that
         * would use up the client's request, and gtk-vnc makes no other before it has seen a
         * picture. */
        c->rfb->newFBSizePending =
            c->told_width != c->ui->screen->width || c->told_height != c->ui->screen->height
                ? TRUE
                : FALSE;
    }
    if (ext_keys && !c->ext_keys) {
        reply_pseudo(c, ENCODING_QEMU_EXT_KEY, 0, NULL, 0);
    }
    c->ext_keys = ext_keys;
    if (!motion_change || !c->motion_change) {
        c->motion_change = motion_change;
        c->relative = false;
        c->told_absolute = -1;
    }
    if (leds != c->led_encoding) {
        c->led_encoding = leds;
        c->told_leds = -1;
    }
    return (int)total;
}

void vnc_bound_region(sraRegionPtr *region, unsigned long max)
{
    if (sraRgnCountRects(*region) > max) {
        sraRegionPtr box = sraRgnBBox(*region);

        sraRgnDestroy(*region);
        *region = box;
    }
}

static int on_update_request(struct vnc_client *c, const uint8_t *m, size_t len)
{
    struct rect r;
    sraRegionPtr region;

    if (len < 10) {
        return 0;
    }
    if (!lib_alive(c)) {
        return -1;
    }
    r = (struct rect){be16(m + 2), be16(m + 4), be16(m + 6), be16(m + 8)};
    c->owes_all |=
        m[1] == 0 && r.x == 0 && r.y == 0 && r.w >= c->told_width && r.h >= c->told_height;
    if (!rect_clip(&r, c->ui->screen->width, c->ui->screen->height)) {
        /* Asked by the size before a change: it still has to hear of the new one. */
        r = (struct rect){0, 0, 1, 1};
    }
    region = sraRgnCreateRect(r.x, r.y, r.x + r.w, r.y + r.h);
    sraRgnOr(c->rfb->requestedRegion, region);
    vnc_bound_region(&c->rfb->requestedRegion, REGION_MAX_RECTS);
    if (m[1] == 0) {
        sraRgnOr(c->rfb->modifiedRegion, region);
        vnc_bound_region(&c->rfb->modifiedRegion, REGION_MAX_RECTS);
        sraRgnOr(c->owed, region);
        vnc_bound_region(&c->owed, REGION_MAX_RECTS);
        vnc_ui_kick(c->ui);
    }
    sraRgnDestroy(region);
    c->rfb->readyForSetColourMapEntries = TRUE;
    if (atomic_load(&c->ui->v->parked) && !c->fresh) {
        c->fresh = true;
        c->fresh_after = atomic_load(&c->ui->v->refreshes) + 1;
        atomic_store(&c->ui->v->await, true);
    }
    c->wait_ns = 0;
    return 10;
}

static int on_key(struct vnc_client *c, const uint8_t *m, size_t len)
{
    if (len < 8) {
        return 0;
    }
    vnc_keys_symbol(c, be32(m + 4), m[1] != 0);
    return 8;
}

static int on_pointer(struct vnc_client *c, const uint8_t *m, size_t len)
{
    if (len < 6) {
        return 0;
    }
    if (c->relative) {
        send_pointer(c, m[1], true, be16(m + 2) - RELATIVE_ZERO, be16(m + 4) - RELATIVE_ZERO);
    } else {
        send_pointer(c, m[1], false, input_position(be16(m + 2), c->ui->screen->width),
                     input_position(be16(m + 4), c->ui->screen->height));
    }
    return 6;
}

static int on_cut_text(struct vnc_client *c, const uint8_t *m, size_t len)
{
    if (len < 8) {
        return 0;
    }
    if (be32(m + 4) > CUT_TEXT_MAX) {
        return -1;
    }
    c->skip = be32(m + 4);
    return 8;
}

static int on_qemu(struct vnc_client *c, const uint8_t *m, size_t len)
{
    uint32_t code;

    if (len < 2) {
        return 0;
    }
    if (m[1] != 0 || !c->ext_keys) { /* 0: extended key event; nothing else was offered */
        return -1;
    }
    if (len < 12) {
        return 0;
    }
    code = be32(m + 8);
    if (code == 0) {
        vnc_keys_symbol(c, be32(m + 4), be16(m + 2) != 0);
    } else {
        vnc_keys_raw(c, code, be32(m + 4), be16(m + 2) != 0);
    }
    return 12;
}

static int on_normal(struct vnc_client *c, const uint8_t *m, size_t len)
{
    static const struct {
        uint8_t type;
        int (*fn)(struct vnc_client *c, const uint8_t *m, size_t len);
    } handlers[] = {
        {MSG_SET_PIXEL_FORMAT, on_pixel_format},
        {MSG_SET_ENCODINGS, on_encodings},
        {MSG_UPDATE_REQUEST, on_update_request},
        {MSG_KEY, on_key},
        {MSG_POINTER, on_pointer},
        {MSG_CUT_TEXT, on_cut_text},
        {MSG_QEMU, on_qemu},
    };

    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
        if (handlers[i].type == m[0]) {
            return handlers[i].fn(c, m, len);
        }
    }
    return -1;
}

static int on_version(struct vnc_client *c, const uint8_t *m, size_t len)
{
    if (len < VNC_VERSION_LEN) {
        /* The first bytes are enough to send away what does not speak RFB. */
        return memcmp(m, "RFB 003.", len < 8 ? len : 8) == 0 ? 0 : -1;
    }
    if (memcmp(m, "RFB 003.", 8) != 0 || m[11] != '\n' || !lib_attach(c, m)) {
        return -1;
    }
    c->stage = VNC_HANDSHAKE;
    c->deadline_ns = vnc_now_ns() + handshake_ns;
    lib_message(c, m, VNC_VERSION_LEN);
    return VNC_VERSION_LEN;
}

void vnc_client_greet(struct vnc_client *c)
{
    c->stage = VNC_WAIT_VERSION;
    c->deadline_ns = c->since_ns + version_ns;
    reply(c, "RFB 003.008\n", VNC_VERSION_LEN);
}

/* The first bytes: plain RFB, or a browser. */
static int on_first(struct vnc_client *c, const uint8_t *m, size_t len)
{
    if (memcmp(m, "GET ", len < 4 ? len : 4) != 0) {
        vnc_client_greet(c);
        return on_version(c, m, len);
    }
    c->deadline_ns = c->since_ns + version_ns;
    if (len < 4) {
        return 0;
    }
    c->ws = calloc(1, sizeof(*c->ws));
    if (c->ws == NULL) {
        return -1;
    }
    c->stage = VNC_WAIT_UPGRADE;
    return vnc_ws_request(c, m, len);
}

/* ClientInit: held until there is a picture, so that ServerInit tells its real size. */
static int on_client_init(struct vnc_client *c, const uint8_t *m)
{
    uint8_t shared = m[0] != 0;

    if (!shared && c->ui->v->cfg.share == VNC_SHARE_FORCE_SHARED) {
        return -1;
    }
    if (c->stage == VNC_HANDSHAKE) {
        c->stage = VNC_WAIT_PICTURE;
        c->deadline_ns = vnc_now_ns() + picture_ns;
    }
    if (c->ui->pixels == NULL && c->deadline_ns != 0) {
        return 0;
    }
    if (c->ui->v->cfg.share == VNC_SHARE_IGNORE) {
        shared = 1;
    }
    c->stage = VNC_NORMAL;
    c->deadline_ns = 0;
    lib_message(c, &shared, 1);
    return 1;
}

static int on_handshake(struct vnc_client *c, const uint8_t *m, size_t len)
{
    if (!lib_alive(c)) {
        return -1;
    }
    switch ((int)c->rfb->state) {
    case RFB_SECURITY_TYPE:
        lib_message(c, m, 1);
        return 1;
    case RFB_AUTHENTICATION:
        if (len < CHALLENGESIZE) {
            return 0;
        }
        lib_message(c, m, CHALLENGESIZE);
        return CHALLENGESIZE;
    case RFB_INITIALISATION:
        return on_client_init(c, m);
    case RFB_NORMAL: /* a viewer whose version (3.889) implies ClientInit: the library has answered it already */
        c->stage = VNC_NORMAL;
        c->deadline_ns = 0;
        return on_normal(c, m, len);
    default:
        return -1;
    }
}

void vnc_client_process(struct vnc_client *c)
{
    size_t at = 0;

    while (!c->closing && c->reply_bytes < REPLY_MAX) {
        size_t len = c->in_len - at;
        const uint8_t *m = c->in + at;
        int n;

        if (c->skip > 0 && len > 0) {
            size_t cut = len < c->skip ? len : c->skip;

            c->skip -= (uint32_t)cut;
            at += cut;
            continue;
        }
        if (len == 0) {
            break;
        }
        n = c->stage == VNC_NORMAL         ? on_normal(c, m, len)
            : c->stage == VNC_WAIT_FIRST   ? on_first(c, m, len)
            : c->stage == VNC_WAIT_UPGRADE ? vnc_ws_request(c, m, len)
            : c->stage == VNC_WAIT_VERSION ? on_version(c, m, len)
                                           : on_handshake(c, m, len);
        if (n < 0) {
            static struct log_limit limit;

            log_limited(&limit,
                        "VNC: client dropped for what it sent (message %u, %zu bytes, stage %d)",
                        m[0], len, (int)c->stage);
            vnc_client_close(c);
        }
        if (n <= 0) {
            break;
        }
        at += (size_t)n;
    }
    memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
}

bool vnc_client_wants_input(const struct vnc_client *c)
{
    return !c->closing && c->in_len < sizeof(c->in) && c->reply_bytes < REPLY_MAX;
}

void vnc_client_readable(struct vnc_client *c)
{
    bool frames = c->ws != NULL && c->ws->open;
    uint8_t raw[VNC_IN_BYTES];
    ssize_t n;

    if (!vnc_client_wants_input(c)) {
        return;
    }
    n = recv(c->fd, frames ? raw : c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
    if (n > 0) {
        if (frames) {
            vnc_ws_input(c, raw, (size_t)n);
        } else {
            c->in_len += (size_t)n;
        }
        vnc_client_process(c);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        vnc_client_close(c);
        vnc_client_discard(c);
    }
}

/* Whether an update is wanted and there is something to tell. */
static bool update_due(const struct vnc_client *c)
{
    const struct _rfbClientRec *r = c->rfb;

    return !c->fresh && c->ui->pixels != NULL && !sraRgnEmpty(r->requestedRegion) &&
           c->wait_ns == 0 &&
           (!sraRgnEmpty(r->modifiedRegion) || c->copy.to.h > 0 || r->newFBSizePending);
}

bool vnc_client_wants_picture(const struct vnc_client *c)
{
    return !c->closing && (c->stage == VNC_WAIT_PICTURE ||
                           (c->stage == VNC_NORMAL && c->rfb != NULL && !vnc_client_unsent(c) &&
                            !sraRgnEmpty(c->rfb->requestedRegion)));
}

/* After an update: the request counts as answered, whatever part of it one slice was. sent: there was
 * one. */
static void still_owed(struct vnc_client *c, bool resized, bool sent)
{
    if (resized && c->owes_all) {
        sraRegionPtr all = sraRgnCreateRect(0, 0, c->told_width, c->told_height);

        sraRgnOr(c->rfb->modifiedRegion, all);
        sraRgnOr(c->owed, all);
        sraRgnDestroy(all);
    }
    sraRgnAnd(c->owed, c->rfb->modifiedRegion);
    sraRgnOr(c->rfb->requestedRegion, c->owed);
    c->owes_all &= !sraRgnEmpty(c->owed);
    /* Most clients that hear of a new size ask again, and are to get one picture, not two. */
    c->wait_ns = resized && !sraRgnEmpty(c->owed) ? vnc_now_ns() + resized_ns : 0;
    c->more = sent && !sraRgnEmpty(c->owed);
}

static void encode(struct vnc_client *c)
{
    rfbScreenInfoPtr s = c->ui->screen;
    int slices = s->progressiveSliceHeight > 0 ? s->height / s->progressiveSliceHeight + 2 : 1;
    bool resized, sent = false;

    if (lseek(c->out_fd, 0, SEEK_SET) != 0) {
        vnc_client_close(c);
        return;
    }
    resized = c->rfb->newFBSizePending;
    /* A slice may lie outside what the client asked for: go on to the next then. */
    while (slices-- > 0 && lib_alive(c) && update_due(c) && !sent) {
        if (vnc_direct_can(c)) {
            sent = vnc_direct_update(c);
            break;
        }
        vnc_scroll_cancel(c); /* it has asked for another encoding */
        if (c->rfb->newFBSizePending) {
            size_told(c);
        }
        rfbUpdateClient(c->rfb);
        c->out_len = lseek(c->out_fd, 0, SEEK_CUR);
        sent = c->out_len > 0;
    }
    if (lib_alive(c)) {
        still_owed(c, resized, sent);
    }
}

void vnc_client_push(struct vnc_client *c)
{
    if (c->rfb != NULL && !lib_alive(c)) {
        vnc_client_close(
            c); /* the library let go of it: failed authentication, or another client wanted to be alone */
    }
    c->wait_ns = c->wait_ns > vnc_now_ns() ? c->wait_ns : 0;
    c->more = c->wait_ns != 0;
    flush(c);
    if (c->in_len > 0 && c->out_len == 0 && !c->closing) {
        vnc_client_process(c); /* was put off while answers waited */
    }
    if (c->stage == VNC_NORMAL && !c->closing && c->out_len == 0) {
        tell_input(c);
    }
    c->fresh = c->fresh && (int)(c->ui->refreshes - c->fresh_after) < 0;
    if (c->stage == VNC_NORMAL && !c->closing && c->out_len == 0 && update_due(c)) {
        encode(c);
    }
    flush(c);
}

/* ---- life ---- */

/* Takes fd in any case. NULL: no memory or descriptors. */
struct vnc_client *vnc_client_create(struct vnc_ui *ui, int slot, int fd)
{
    struct vnc_client *c = calloc(1, sizeof(*c));

    if (ui->scratch_fd < 0) {
        ui->scratch_fd = memfd_create("vnc-message", MFD_CLOEXEC);
    }
    if (c == NULL || ui->scratch_fd < 0 || (c->owed = sraRgnCreate()) == NULL ||
        (c->out_fd = memfd_create("vnc-output", MFD_CLOEXEC)) < 0) {
        if (c != NULL && c->owed != NULL) {
            sraRgnDestroy(c->owed);
        }
        free(c);
        close(fd);
        return NULL;
    }
    c->ui = ui;
    c->slot = slot;
    c->fd = fd;
    c->since_ns = vnc_now_ns();
    c->deadline_ns = c->since_ns + first_ns;
    return c;
}

void vnc_client_destroy(struct vnc_client *c)
{
    release_all(c);
    if (c->rfb != NULL) {
        if (lib_alive(c)) {
            rfbCloseClient(c->rfb);
        }
        rfbClientConnectionGone(c->rfb);
    }
    sraRgnDestroy(c->owed);
    close(c->out_fd);
    close(c->fd);
    free(c->ws);
    free(c);
}
