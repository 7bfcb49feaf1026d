/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VNC through WebSocket, on the same port, as noVNC speaks it: binary messages, whose borders mean
 * nothing. Input is decoded while it is read; output gets heads of frames while it is sent.
 */
#include <errno.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "core/log.h"
#include "ui/vnc_int.h"

int vnc_ws_request(struct vnc_client *c, const uint8_t *m, size_t len)
{
    struct vnc_ws *ws = c->ws;
    int status;
    size_t taken = ws_handshake_feed(&ws->request, m, len, &status);

    if (status == 0) {
        return (int)taken;
    }
    /* Any page that the user of a browser on this host happens to open could reach the port: without
     * a password only pages that come from the address they connect to may. */
    if (status == 101 && !c->ui->v->cfg.password && ws_is_cross_site(&ws->request)) {
        static struct log_limit limit;

        log_limited(&limit, "VNC: WebSocket refused: a page from another site, and no password");
        status = 403;
    }
    if (status == 101 && taken < len) {
        return -1; /* it has to wait for our answer */
    }
    ws->head_len = ws_handshake_answer(&ws->request, status, (char *)ws->head);
    ws->head_pos = 0;
    if (status != 101) {
        vnc_client_close(c);
        return (int)len;
    }
    ws->open = true;
    vnc_client_greet(c);
    return (int)taken;
}

void vnc_ws_close(struct vnc_client *c, int code)
{
    if (c->ws != NULL && c->ws->open && c->ws->close_code == 0) {
        c->ws->close_code = code;
    }
}

void vnc_ws_input(struct vnc_client *c, const uint8_t *raw, size_t len)
{
    struct vnc_ws *ws = c->ws;
    size_t at = 0;

    while (at < len && !c->closing) {
        enum ws_event event;
        size_t got;
        int code;

        at += ws_decode(&ws->decoder, raw + at, len - at, c->in + c->in_len, &got, &event, &code);
        c->in_len += got;
        if (event == WS_EVENT_PING) {
            ws->pong = true; /* of several only the newest needs an answer (RFC 6455, 5.5.3) */
            ws->pong_len = ws->decoder.control_len;
            memcpy(ws->pong_payload, ws->decoder.control, ws->pong_len);
        } else if (event != WS_EVENT_NONE) {
            vnc_ws_close(c, event == WS_EVENT_CLOSE ? WS_CLOSE_NORMAL : code);
            vnc_client_close(c);
        }
    }
}

/* Fills head with what comes next; between frames. */
static void next_head(struct vnc_client *c)
{
    struct vnc_ws *ws = c->ws;

    ws->head_pos = ws->head_len = 0;
    if (ws->pong) {
        ws->head_len = ws_head(ws->head, WS_PONG, ws->pong_len);
        memcpy(ws->head + ws->head_len, ws->pong_payload, ws->pong_len);
        ws->head_len += ws->pong_len;
        ws->pong = false;
    } else if (c->out_pos < c->out_len) {
        ws->frame_left = c->out_len - c->out_pos;
        ws->head_len = ws_head(ws->head, WS_BINARY, (uint64_t)ws->frame_left);
    } else if (ws->close_code != 0 && !ws->close_sent) {
        ws->head_len = ws_head(ws->head, WS_CLOSE, 2);
        ws->head[ws->head_len++] = (uint8_t)(ws->close_code >> 8);
        ws->head[ws->head_len++] = (uint8_t)ws->close_code;
        ws->close_sent = true;
    }
}

bool vnc_ws_unsent(const struct vnc_client *c)
{
    const struct vnc_ws *ws = c->ws;

    return ws != NULL &&
           (ws->head_pos < ws->head_len || ws->pong || (ws->close_code != 0 && !ws->close_sent));
}

ssize_t vnc_ws_send(struct vnc_client *c)
{
    struct vnc_ws *ws = c->ws;
    ssize_t n;

    if (ws->head_pos == ws->head_len && ws->frame_left == 0) {
        next_head(c);
    }
    if (ws->head_pos < ws->head_len) {
        bool more = ws->frame_left > 0;

        n = send(c->fd, ws->head + ws->head_pos, ws->head_len - ws->head_pos,
                 MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0));
        ws->head_pos += n > 0 ? (size_t)n : 0;
        return n;
    }
    if (ws->frame_left == 0) {
        return 0;
    }
    n = sendfile(c->fd, c->out_fd, &c->out_pos,
                 (size_t)(ws->frame_left < VNC_SEND_CHUNK ? ws->frame_left : VNC_SEND_CHUNK));
    ws->frame_left -= n > 0 ? n : 0;
    return n;
}
