/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packet capture in libpcap's classic format: a header, then {seconds, microseconds, stored,
 * original length} and the bytes of each frame. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "net/net_int.h"

enum { PCAP_MAGIC = 0xa1b2c3d4, PCAP_ETHERNET = 1 };

struct pcap {
    int fd; /* -1 after an error */
};

struct pcap *pcap_open(const char *path)
{
    const uint32_t header[6] = {PCAP_MAGIC, 2 | 4 << 16, 0, 0, NET_FRAME_MAX, PCAP_ETHERNET};
    struct pcap *p = malloc(sizeof(*p));

    if (p == NULL) {
        return NULL;
    }
    p->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (p->fd < 0) {
        free(p);
        return NULL;
    }
    if (write(p->fd, header, sizeof(header)) != (ssize_t)sizeof(header)) {
        int saved = errno != 0 ? errno : EIO;

        pcap_close(p);
        errno = saved;
        return NULL;
    }
    return p;
}

void pcap_write(struct pcap *p, const struct iovec *iov, int iovcnt)
{
    struct iovec out[NET_IOV_MAX + 1];
    struct timespec now;
    uint32_t record[4];
    size_t len = 0;

    if (p->fd < 0) {
        return;
    }
    for (int i = 0; i < iovcnt; i++) {
        out[i + 1] = iov[i];
        len += iov[i].iov_len;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    record[0] = (uint32_t)now.tv_sec;
    record[1] = (uint32_t)(now.tv_nsec / 1000);
    record[2] = record[3] = (uint32_t)len;
    out[0] = (struct iovec){.iov_base = record, .iov_len = sizeof(record)};
    if (writev(p->fd, out, iovcnt + 1) != (ssize_t)(len + sizeof(record))) {
        log_msg("packet capture ends: %s", strerror(errno));
        close(p->fd);
        p->fd = -1;
    }
}

void pcap_close(struct pcap *p)
{
    if (p != NULL) {
        if (p->fd >= 0) {
            close(p->fd);
        }
        free(p);
    }
}
