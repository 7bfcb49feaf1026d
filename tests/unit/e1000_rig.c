/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/e1000_rig.h"

#include <stdlib.h>
#include <string.h>

/* Fuzz targets link this too, so there is no cmocka here. */
static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

const uint8_t e1k_mac[6] = {0x00, 0x16, 0x3e, 0x00, 0x00, 0x01};

uint32_t e1k_rd(struct e1k *g, uint32_t reg)
{
    return (uint32_t)harness_read(g->h, BAR + reg, 4);
}

void e1k_wr(struct e1k *g, uint32_t reg, uint32_t v)
{
    harness_write(g->h, BAR + reg, 4, v);
}

bool e1k_irq(struct e1k *g)
{
    return g->h->plat.intx[SLOT][0];
}

void e1k_run(struct e1k *g)
{
    harness_step(g->h, 0);
    harness_step(g->h, 0);
}

void e1k_map(struct harness *h)
{
    harness_pci_write(h, DEVFN, PCI_BAR0, 4, (uint32_t)BAR);
    harness_pci_write(h, DEVFN, PCI_BAR0 + 4, 4, IO);
    harness_pci_write(h, DEVFN, PCI_COMMAND, 2,
                      PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void e1k_make(struct e1k *g, bool offloads)
{
    struct e1000_config cfg = {.devfn = DEVFN};

    memcpy(cfg.mac, e1k_mac, 6);
    g->h = harness_create();
    g->n = net_fake_create(g->h->loop, offloads);
    g->tx_tail = 0;
    must(e1000_create(&g->h->board, &cfg, g->n->net) == 0);
    e1k_map(g->h);
}

void e1k_unmake(struct e1k *g)
{
    struct harness *h = g->h;

    board_fini(&h->board);
    net_fake_destroy(g->n);
    must(board_init(&h->board, h->loop, &h->plat, (struct guestmem *)(void *)&h->plat) == 0);
    harness_destroy(h);
}

static struct e1k the_rig;

int e1k_setup(void **state)
{
    e1k_make(&the_rig, true);
    *state = &the_rig;
    return 0;
}

int e1k_setup_plain(void **state)
{
    e1k_make(&the_rig, false);
    *state = &the_rig;
    return 0;
}

int e1k_teardown(void **state)
{
    e1k_unmake(*state);
    return 0;
}

void e1k_set64(struct e1k *g, uint32_t gpa, uint64_t v)
{
    memcpy(g->h->plat.ram + gpa, &v, 8);
}

uint64_t e1k_get64(struct e1k *g, uint32_t gpa)
{
    uint64_t v;

    memcpy(&v, g->h->plat.ram + gpa, 8);
    return v;
}

void e1k_start_tx(struct e1k *g)
{
    e1k_wr(g, E1000_TDBAL, TX_RING);
    e1k_wr(g, E1000_TDLEN, RING * 16);
    e1k_wr(g, E1000_TDH, 0);
    e1k_wr(g, E1000_TDT, 0);
    e1k_wr(g, E1000_TCTL, TCTL_EN | TCTL_PSP);
    g->tx_tail = 0;
}

/* RING - 1 buffers for the card. */
void e1k_start_rx(struct e1k *g, uint32_t rctl)
{
    for (uint32_t i = 0; i < RING; i++) {
        e1k_set64(g, RX_RING + 16 * i, RX_BUF + 0x4000 * i);
        e1k_set64(g, RX_RING + 16 * i + 8, 0);
    }
    e1k_wr(g, E1000_RDBAL, RX_RING);
    e1k_wr(g, E1000_RDLEN, RING * 16);
    e1k_wr(g, E1000_RDH, 0);
    e1k_wr(g, E1000_RDT, RING - 1);
    e1k_wr(g, E1000_RCTL, RCTL_EN | rctl);
}

/* Puts one descriptor into the ring; the caller writes TDT. */
void e1k_put(struct e1k *g, uint64_t addr, uint64_t second)
{
    e1k_set64(g, TX_RING + 16 * g->tx_tail, addr);
    e1k_set64(g, TX_RING + 16 * g->tx_tail + 8, second);
    g->tx_tail = (g->tx_tail + 1) % RING;
}

void e1k_put_legacy(struct e1k *g, uint64_t addr, unsigned len, unsigned cmd)
{
    e1k_put(g, addr, (uint64_t)len | (uint64_t)cmd << 24);
}

void e1k_put_data(struct e1k *g, uint64_t addr, unsigned len, unsigned cmd, unsigned popts)
{
    e1k_put(g, addr,
            (uint64_t)len | 1u << 20 | (uint64_t)(cmd | DEXT) << 24 | (uint64_t)popts << 40);
}

void e1k_put_context(struct e1k *g, unsigned ipcss, unsigned ipcse, unsigned tucss, unsigned tucso,
                     unsigned tucmd, unsigned hdrlen, unsigned mss)
{
    e1k_put(g,
            ipcss | (uint64_t)(ipcss + 10) << 8 | (uint64_t)ipcse << 16 | (uint64_t)tucss << 32 |
                (uint64_t)tucso << 40,
            (uint64_t)(tucmd | DEXT) << 24 | (uint64_t)hdrlen << 40 | (uint64_t)mss << 48);
}

void e1k_go(struct e1k *g)
{
    e1k_wr(g, E1000_TDT, g->tx_tail);
    e1k_run(g);
}

uint8_t e1k_tx_status(struct e1k *g, unsigned i)
{
    return g->h->plat.ram[TX_RING + 16 * i + 12];
}

/* A frame to dst with a pattern; len >= 14. */
void e1k_fill(uint8_t *p, size_t len, const uint8_t *dst)
{
    for (size_t i = 0; i < len; i++) {
        p[i] = (uint8_t)(i * 7 + 1);
    }
    memcpy(p, dst, 6);
    p[12] = 0x12;
    p[13] = 0x34;
}

uint16_t e1k_be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

uint32_t e1k_be32(const uint8_t *p)
{
    return (uint32_t)e1k_be16(p) << 16 | e1k_be16(p + 2);
}

uint32_t e1k_sum16(const uint8_t *p, size_t len, uint32_t sum)
{
    for (size_t i = 0; i < len; i++) {
        sum += (i & 1) != 0 ? p[i] : (uint32_t)p[i] << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

/* Ethernet, IPv4, TCP and payload. Checksums right when `complete`, otherwise as drivers leave
 * them: IP 0, TCP the pseudo header's without (tso) or with the length. */
void e1k_tcp4(uint8_t *p, size_t payload, bool complete, bool tso)
{
    static const uint8_t head[54] = {
        0,    0x16, 0x3e, 0, 0,    1, 2, 0, 0,  0, 0,    1,    8,  0, 0x45, 0, 0,    0,
        0x12, 0xff, 0x40, 0, 64,   6, 0, 0, 10, 0, 0,    1,    10, 0, 0,    2, 0x10, 0,
        0,    80,   0,    0, 0x10, 0, 0, 0, 0,  9, 0x50, 0x19, 1,  0, 0,    0, 0,    0};
    uint32_t sum;

    memcpy(p, head, sizeof(head));
    for (size_t i = 0; i < payload; i++) {
        p[54 + i] = (uint8_t)(i ^ i >> 8);
    }
    p[16] = (uint8_t)((payload + 40) >> 8);
    p[17] = (uint8_t)(payload + 40);
    sum = e1k_sum16(p + 26, 8, 6 + (tso ? 0 : (uint32_t)payload + 20));
    if (tso) {
        p[16] = p[17] = 0;
    }
    if (complete) {
        uint32_t ip = ~e1k_sum16(p + 14, 20, 0);

        p[24] = (uint8_t)(ip >> 8);
        p[25] = (uint8_t)ip;
        sum = ~e1k_sum16(p + 34, payload + 20, sum);
    }
    p[50] = (uint8_t)(sum >> 8);
    p[51] = (uint8_t)sum;
}

bool e1k_tcp4_good(const uint8_t *p, size_t len)
{
    return e1k_sum16(p + 14, 20, 0) == 0xffff && e1k_be16(p + 16) == len - 14 &&
           e1k_sum16(p + 34, len - 34, e1k_sum16(p + 26, 8, 6 + (uint32_t)len - 34)) == 0xffff;
}

const struct net_fake_frame *e1k_sent(struct e1k *g, unsigned i)
{
    const struct net_fake_frame *f = net_fake_sent(g->n, i);

    must(f != NULL);
    return f;
}

void e1k_feed(struct e1k *g, const uint8_t *frame, size_t len)
{
    net_fake_receive(g->n, frame, len, NULL);
    e1k_run(g);
}

/* Second half of RX descriptor i: length, checksum, status, errors, special. */
uint64_t e1k_rx_desc(struct e1k *g, unsigned i)
{
    return e1k_get64(g, RX_RING + 16 * i + 8);
}

unsigned e1k_rx_status(struct e1k *g, unsigned i)
{
    return (unsigned)(e1k_rx_desc(g, i) >> 32 & 0xff);
}

unsigned e1k_rx_errors(struct e1k *g, unsigned i)
{
    return (unsigned)(e1k_rx_desc(g, i) >> 40 & 0xff);
}

unsigned e1k_rx_len(struct e1k *g, unsigned i)
{
    return (unsigned)(e1k_rx_desc(g, i) & 0xffff);
}

void e1k_phy_wr(struct e1k *g, unsigned reg, unsigned v)
{
    e1k_wr(g, E1000_MDIC, 1u << 26 | 1u << 21 | reg << 16 | v);
    must(e1k_rd(g, E1000_MDIC) == (0x14200000 | reg << 16 | v));
}
