/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nic.h"

#include <string.h>

/* ---- access ---- */

static uint32_t rd(struct nic *n, uint32_t reg, uint32_t size)
{
    struct fx_access a = { .addr = n->bar + reg, .size = size, .count = 1, .read = true };

    if (!fx_mmio(n->vcpu, &a) && n->error[0] == '\0')
        snprintf(n->error, sizeof(n->error), "%.150s", a.error);
    return (uint32_t)a.data;
}

static void wr(struct nic *n, uint32_t reg, uint32_t size, uint32_t value)
{
    struct fx_access a = { .addr = n->bar + reg, .size = size, .count = 1, .data = value };

    if (!fx_mmio(n->vcpu, &a) && n->error[0] == '\0')
        snprintf(n->error, sizeof(n->error), "%.150s", a.error);
}

static uint64_t load64(uint64_t gpa)
{
    return __atomic_load_n((uint64_t *)(void *)fx_ram(gpa), __ATOMIC_ACQUIRE);
}

static void store64(uint64_t gpa, uint64_t value)
{
    __atomic_store_n((uint64_t *)(void *)fx_ram(gpa), value, __ATOMIC_RELEASE);
}

static uint32_t load32(uint64_t gpa)
{
    return __atomic_load_n((uint32_t *)(void *)fx_ram(gpa), __ATOMIC_ACQUIRE);
}

static void store32(uint64_t gpa, uint32_t value)
{
    __atomic_store_n((uint32_t *)(void *)fx_ram(gpa), value, __ATOMIC_RELEASE);
}

static uint64_t tx_buffer(uint64_t frame)
{
    return NIC_TX_BUF + frame % NIC_TX_BUFS * NIC_TX_STEP;
}

static unsigned pieces(size_t len, enum nic_offload how)
{
    return how != NIC_TSO ? 1
                          : 1 + (unsigned)((len - NIC_HEADERS + NIC_TSO_PIECE - 1) / NIC_TSO_PIECE);
}

/* ---- 82540EM, as Linux's e1000 ---- */

enum {
    E_RING = 256, E_STATUS = 8, E_ICR = 0xc0, E_ITR = 0xc4, E_IMS = 0xd0, E_IMC = 0xd8,
    E_RCTL = 0x100, E_TCTL = 0x400, E_RDBAL = 0x2800, E_RDLEN = 0x2808, E_RDH = 0x2810,
    E_RDT = 0x2818, E_RADV = 0x282c, E_TDBAL = 0x3800, E_TDLEN = 0x3808, E_TDH = 0x3810,
    E_TDT = 0x3818, E_TIDV = 0x3820, E_TADV = 0x382c, E_RXCSUM = 0x5000,
    E_INTS = 0x9d, /* RXT0, RXDMT0, RXSEQ, LSC, TXDW */
    E_BUDGET = 64, E_REFILL = 16,
};

static void e1000_start(struct nic *n)
{
    static const uint32_t setup[][2] = {
        { E_IMC, 0xffffffff }, { E_RCTL, 0 }, { E_TCTL, 0 },
        { E_TDBAL, NIC_TX_RING }, { E_TDBAL + 4, 0 }, { E_TDLEN, E_RING * 16 }, { E_TDH, 0 },
        { E_TDT, 0 }, { E_TIDV, 8 }, { E_TADV, 32 }, { E_RDBAL, NIC_RX_RING }, { E_RDBAL + 4, 0 },
        { E_RDLEN, E_RING * 16 }, { E_RDH, 0 }, { E_RDT, 0 }, { E_RADV, 8 }, { E_ITR, 195 },
        { E_RXCSUM, 0x300 }, { E_TCTL, 0x0103f0fa }, { E_RCTL, 0x8002 }, { E_RDT, E_RING - 1 },
        { E_IMS, E_INTS },
    };

    for (unsigned i = 0; i < E_RING; i++) {
        store64(NIC_RX_RING + 16 * i, NIC_RX_BUF + 2048 * i);
        store64(NIC_RX_RING + 16 * i + 8, 0);
    }
    for (size_t i = 0; i < sizeof(setup) / sizeof(setup[0]); i++)
        wr(n, setup[i][0], 4, setup[i][1]);
    rd(n, E_ICR, 4);
}

static bool e1000_room(const struct nic *n, enum nic_offload how)
{
    return E_RING - 1 - n->tx_descs >= (how == NIC_PLAIN ? 1u : how == NIC_CSUM ? 2u : 20u);
}

static void e1000_desc(struct nic *n, uint64_t addr, uint64_t rest)
{
    store64(NIC_TX_RING + 16 * n->tx_next, addr);
    store64(NIC_TX_RING + 16 * n->tx_next + 8, rest);
    n->tx_next = (n->tx_next + 1) % E_RING;
    n->tx_descs++;
}

static void e1000_put(struct nic *n, size_t len, enum nic_offload how)
{
    uint64_t last = (uint64_t)0x8b << 24; /* EOP, IFCS, RS, IDE */
    uint64_t buf = tx_buffer(n->tx_put++);

    if (how == NIC_PLAIN) {
        e1000_desc(n, buf, len | last);
        return;
    }
    bool tso = how == NIC_TSO;
    uint64_t data = (uint64_t)1 << 20 | (uint64_t)0x20 << 24 | (uint64_t)tso << 26 |
                    (uint64_t)3 << 40;

    e1000_desc(n, 14 | 24 << 8 | 33 << 16 | (uint64_t)34 << 32 | (uint64_t)50 << 40,
               (tso ? len - NIC_HEADERS : 0) | (uint64_t)(0x23 | tso << 2) << 24 |
                   (tso ? (uint64_t)NIC_HEADERS << 40 | (uint64_t)NIC_MSS << 48 : 0));
    if (!tso) {
        e1000_desc(n, buf, len | data | last);
        return;
    }
    e1000_desc(n, buf, NIC_HEADERS | data);
    for (size_t at = NIC_HEADERS; at < len; at += NIC_TSO_PIECE) {
        size_t piece = len - at < NIC_TSO_PIECE ? len - at : NIC_TSO_PIECE;

        e1000_desc(n, buf + 0x1000 + at - NIC_HEADERS,
                   piece | data | (at + piece == len ? last : 0));
    }
}

static void e1000_bell(struct nic *n)
{
    wr(n, E_TDT, 4, n->tx_next);
}

/* Up to the last descriptor that is done: only ends of frames have RS. */
static void e1000_clean_tx(struct nic *n)
{
    unsigned i = n->tx_clean;

    for (unsigned left = n->tx_descs, seen = 1; left > 0; left--, seen++) {
        uint64_t rest = load64(NIC_TX_RING + 16 * i + 8);

        i = (i + 1) % E_RING;
        if ((rest >> 24 & 1) == 0 || ((rest >> 20 & 15) == 0 && (rest >> 29 & 1) != 0))
            continue;
        if ((rest >> 32 & 1) == 0)
            break;
        n->tx_done++;
        n->tx_descs -= seen;
        n->tx_clean = i;
        seen = 0;
    }
}

static unsigned e1000_clean_rx(struct nic *n)
{
    unsigned work = 0;

    for (; work < E_BUDGET; work++) {
        uint64_t at = NIC_RX_RING + 16 * n->rx_next;
        uint64_t rest = load64(at + 8);

        if ((rest >> 32 & 1) == 0)
            break;
        n->rx_frames += rest >> 33 & 1;
        n->rx_bytes += (rest & 0xffff) - 4;
        store64(at, NIC_RX_BUF + 2048 * n->rx_next);
        store64(at + 8, 0);
        if (n->rx_next % E_REFILL == E_REFILL - 1)
            wr(n, E_RDT, 4, n->rx_next);
        n->rx_next = (n->rx_next + 1) % E_RING;
    }
    return work;
}

static void e1000_interrupt(struct nic *n)
{
    if (rd(n, E_ICR, 4) == 0)
        return;
    wr(n, E_IMC, 4, 0xffffffff);
    rd(n, E_STATUS, 4);
    do
        e1000_clean_tx(n);
    while (e1000_clean_rx(n) == E_BUDGET);
    wr(n, E_IMS, 4, E_INTS);
    rd(n, E_STATUS, 4);
}

/* ---- RTL8139C+, as Linux's 8139cp ---- */

enum {
    R_IDR = 0, R_TSD = 0x10, R_TSAD = 0x20, R_RBSTART = 0x30, R_CR = 0x37, R_CAPR = 0x38,
    R_IMR = 0x3c, R_ISR = 0x3e, R_TCR = 0x40, R_RCR = 0x44, R_9346 = 0x50, R_TPPOLL = 0xd9,
    R_CPCR = 0xe0, R_RDSAR = 0xe4, R_RING = 64, R_RXBITS = 0x51, R_TXBITS = 0x8c,
    R_OWN_SHIFT = 31, R_BUDGET = 64,
};

static void rtl_common(struct nic *n, uint16_t cpcr)
{
    wr(n, R_CR, 1, 0x10);
    while ((rd(n, R_CR, 1) & 0x10) != 0 && n->error[0] == '\0') {
    }
    if (cpcr != 0) /* 8139too does not touch it, and on the peer any write means C+ */
        wr(n, R_CPCR, 2, cpcr);
    wr(n, R_CR, 1, 0x0c);
    wr(n, R_TCR, 4, 0x03000600);
}

static uint32_t cp_eor(unsigned i)
{
    return i == R_RING - 1 ? 1u << 30 : 0;
}

static void cp_arm(unsigned i)
{
    store64(NIC_RX_RING + 16 * i + 8, NIC_RX_BUF + 2048 * i);
    store32(NIC_RX_RING + 16 * i + 4, 0);
    store32(NIC_RX_RING + 16 * i, 1u << R_OWN_SHIFT | cp_eor(i) | 1536);
}

static void cp_start(struct nic *n)
{
    for (unsigned i = 0; i < R_RING; i++) {
        cp_arm(i);
        store32(NIC_TX_RING + 16 * i, cp_eor(i));
    }
    rtl_common(n, 0x2b); /* both rings, PCI multiple read/write, receive checksum */
    wr(n, R_RDSAR, 4, NIC_RX_RING);
    wr(n, R_RDSAR + 4, 4, 0);
    wr(n, R_TSAD, 4, NIC_TX_RING);
    wr(n, R_TSAD + 4, 4, 0);
    wr(n, R_RCR, 4, 0xe70e);
    wr(n, R_CR, 1, 0x0c);
    wr(n, R_IMR, 2, R_RXBITS | R_TXBITS);
}

static bool cp_room(const struct nic *n, enum nic_offload how)
{
    return R_RING - 1 - n->tx_descs >= (how == NIC_TSO ? 18u : 1u);
}

static void cp_put(struct nic *n, size_t len, enum nic_offload how)
{
    uint64_t buf = tx_buffer(n->tx_put++);
    uint32_t flags = how == NIC_PLAIN  ? 0
                     : how == NIC_CSUM ? 5u << 16
                                       : 1u << 27 | (uint32_t)NIC_MSS << 16;
    unsigned count = pieces(len, how), first = n->tx_next;
    uint32_t word[20];
    size_t at = 0;

    for (unsigned k = 0; k < count; k++) {
        unsigned i = (first + k) % R_RING;
        size_t most = how != NIC_TSO ? len : k == 0 ? NIC_HEADERS : NIC_TSO_PIECE;
        size_t piece = len - at < most ? len - at : most;

        store64(NIC_TX_RING + 16 * i + 8, k == 0 ? buf : buf + 0x1000 + at - NIC_HEADERS);
        store32(NIC_TX_RING + 16 * i + 4, 0);
        word[k] = 1u << R_OWN_SHIFT | cp_eor(i) | (k == 0 ? 1u << 29 : 0) |
                  (k == count - 1 ? 1u << 28 : 0) | flags | (uint32_t)piece;
        at += piece;
    }
    for (unsigned k = count; k-- > 0;)
        store32(NIC_TX_RING + 16 * ((first + k) % R_RING), word[k]);
    n->tx_next = (first + count) % R_RING;
    n->tx_descs += count;
}

static void cp_bell(struct nic *n)
{
    wr(n, R_TPPOLL, 1, 0x40);
}

static void cp_clean_tx(struct nic *n)
{
    while (n->tx_descs > 0) {
        uint32_t word = load32(NIC_TX_RING + 16 * n->tx_clean);

        if (word >> R_OWN_SHIFT)
            break;
        n->tx_done += word >> 28 & 1;
        n->tx_clean = (n->tx_clean + 1) % R_RING;
        n->tx_descs--;
    }
}

static void cp_interrupt(struct nic *n)
{
    uint32_t status = rd(n, R_ISR, 2);
    unsigned work;

    if (status == 0)
        return;
    wr(n, R_ISR, 2, status & ~(uint32_t)R_RXBITS);
    if ((status & R_RXBITS) != 0) {
        wr(n, R_IMR, 2, R_TXBITS);
        rd(n, R_IMR, 2);
    }
    if ((status & R_TXBITS) != 0)
        cp_clean_tx(n);
    if ((status & R_RXBITS) == 0)
        return;
    do {
        wr(n, R_ISR, 2, R_RXBITS);
        for (work = 0; work < R_BUDGET; work++) {
            uint32_t word = load32(NIC_RX_RING + 16 * n->rx_next);

            if (word >> R_OWN_SHIFT)
                break;
            n->rx_frames += word >> 28 & 1;
            n->rx_bytes += (word & 0x1fff) - 4;
            cp_arm(n->rx_next);
            n->rx_next = (n->rx_next + 1) % R_RING;
        }
    } while (work == R_BUDGET);
    wr(n, R_IMR, 2, R_RXBITS | R_TXBITS);
    rd(n, R_IMR, 2);
}

/* ---- RTL8139 in C mode, as Linux's 8139too ---- */

enum { C_RING_BYTES = 32768, C_TX = 4 };

static void c_start(struct nic *n)
{
    rtl_common(n, 0);
    wr(n, R_RCR, 4, 0xf78e); /* 32 KiB, frames run over the end */
    wr(n, R_RBSTART, 4, NIC_RX_AREA);
    for (unsigned i = 0; i < C_TX; i++)
        wr(n, R_TSAD + 4 * i, 4, (uint32_t)tx_buffer(i));
    wr(n, R_CR, 1, 0x0c);
    wr(n, R_CAPR, 2, 0xfff0); /* the peer forgets about frames from before the reset otherwise */
    wr(n, R_IMR, 2, R_RXBITS | R_TXBITS);
    n->rx_next = 0; /* bytes */
}

static bool c_room(const struct nic *n, enum nic_offload how)
{
    return how == NIC_PLAIN && n->tx_descs < C_TX;
}

static void c_put(struct nic *n, size_t len, enum nic_offload how)
{
    (void)how;
    wr(n, R_TSD + 4 * n->tx_next, 4, 0x30000 | (uint32_t)len);
    rd(n, R_TSD + 4 * n->tx_next, 4);
    n->tx_next = (n->tx_next + 1) % C_TX;
    n->tx_descs++;
    n->tx_put++;
}

static void c_bell(struct nic *n)
{
    (void)n; /* each frame is its own */
}

static void c_clean_tx(struct nic *n)
{
    while (n->tx_descs > 0 && (rd(n, R_TSD + 4 * n->tx_clean, 4) & 0x8000) != 0) {
        n->tx_clean = (n->tx_clean + 1) % C_TX;
        n->tx_descs--;
        n->tx_done++;
    }
}

static void c_receive(struct nic *n)
{
    /* No budget: what 8139too leaves behind at the end of its own stays until the next frame. */
    while ((rd(n, R_CR, 1) & 1) == 0 && n->error[0] == '\0') {
        uint32_t len = load32(NIC_RX_AREA + n->rx_next) >> 16;

        if (len < 64 || len > 1600) { /* lost the thread */
            snprintf(n->error, sizeof(n->error), "C ring: length %u at %#x", len, n->rx_next);
            return;
        }
        n->rx_frames++;
        n->rx_bytes += len - 4;
        n->rx_next = (n->rx_next + len + 4 + 3) / 4 * 4 % C_RING_BYTES;
        wr(n, R_CAPR, 2, (n->rx_next - 16) & 0xffff);
        if ((rd(n, R_ISR, 2) & R_RXBITS) != 0) {
            wr(n, R_ISR, 2, R_RXBITS);
            rd(n, R_ISR, 2);
        }
    }
}

static void c_interrupt(struct nic *n)
{
    uint32_t status = rd(n, R_ISR, 2);

    if (status == 0)
        return;
    if ((status & ~(uint32_t)R_RXBITS) != 0)
        wr(n, R_ISR, 2, status & ~(uint32_t)R_RXBITS);
    if ((status & R_RXBITS) != 0) {
        wr(n, R_IMR, 2, R_TXBITS);
        rd(n, R_IMR, 2);
    }
    if ((status & R_TXBITS) != 0)
        c_clean_tx(n);
    if ((status & R_RXBITS) == 0)
        return;
    if ((rd(n, R_ISR, 2) & R_RXBITS) != 0)
        c_receive(n);
    wr(n, R_IMR, 2, R_RXBITS | R_TXBITS);
    rd(n, R_IMR, 2);
}

static const struct nic_driver drivers[] = {
    { "e1000", 240, e1000_start, e1000_room, e1000_put, e1000_bell, e1000_interrupt },
    { "rtl8139", R_RING - 4, cp_start, cp_room, cp_put, cp_bell, cp_interrupt },
    { "rtl8139c", 240, c_start, c_room, c_put, c_bell, c_interrupt },
};

const struct nic_driver *nic_find_driver(const char *name)
{
    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
        if (!strcmp(drivers[i].name, name))
            return &drivers[i];
    return NULL;
}
