/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* An 82540EM on a test board with a link in memory, its rings, and what drivers do with them. */
#include "core/pci.h"
#include "hw/e1000_int.h"
#include "tests/unit/harness.h"
#include "tests/unit/net_fake.h"

enum {
    SLOT = 4,
    DEVFN = PCI_DEVFN(SLOT, 0),
    IO = 0xc000,
    TX_RING = 0x100000,
    RX_RING = 0x110000,
    RX_BUF = 0x200000, /* 16 KiB each */
    TX_BUF = 0x400000,
    RING = 16, /* descriptors */
    MS = 1000000,
};
#define BAR UINT64_C(0xf0000000)

struct e1k {
    struct harness *h;
    struct net_fake *n;
    unsigned tx_tail;
};

enum { EOP = 1, IFCS = 2, IC = 4, TSE = 4, RS = 8, DEXT = 0x20, VLE = 0x40, IDE = 0x80 };

extern const uint8_t e1k_mac[6];

uint32_t e1k_rd(struct e1k *g, uint32_t reg);
void e1k_wr(struct e1k *g, uint32_t reg, uint32_t v);
bool e1k_irq(struct e1k *g);
/* Bottom halves and watches, twice: what they schedule as well. */
void e1k_run(struct e1k *g);
/* BARs and decoding, as after a reset. */
void e1k_map(struct harness *h);
/* offloads: of the back end, see net_fake_create(). */
void e1k_make(struct e1k *g, bool offloads);
void e1k_unmake(struct e1k *g);
int e1k_setup(void **state);
int e1k_setup_plain(void **state);
int e1k_teardown(void **state);
void e1k_set64(struct e1k *g, uint32_t gpa, uint64_t v);
uint64_t e1k_get64(struct e1k *g, uint32_t gpa);
void e1k_start_tx(struct e1k *g);
/* RING - 1 buffers for the card. */
void e1k_start_rx(struct e1k *g, uint32_t rctl);
/* Puts one descriptor into the ring; the caller writes TDT. */
void e1k_put(struct e1k *g, uint64_t addr, uint64_t second);
void e1k_put_legacy(struct e1k *g, uint64_t addr, unsigned len, unsigned cmd);
void e1k_put_data(struct e1k *g, uint64_t addr, unsigned len, unsigned cmd, unsigned popts);
void e1k_put_context(struct e1k *g, unsigned ipcss, unsigned ipcse, unsigned tucss, unsigned tucso,
                     unsigned tucmd, unsigned hdrlen, unsigned mss);
/* Rings the doorbell and lets the card work. */
void e1k_go(struct e1k *g);
uint8_t e1k_tx_status(struct e1k *g, unsigned i);
/* A frame to dst with a pattern; len >= 14. */
void e1k_fill(uint8_t *p, size_t len, const uint8_t *dst);
uint16_t e1k_be16(const uint8_t *p);
uint32_t e1k_be32(const uint8_t *p);
uint32_t e1k_sum16(const uint8_t *p, size_t len, uint32_t sum);
/* Ethernet, IPv4, TCP and payload. Checksums right when `complete`, otherwise as drivers leave
 * them: IP 0, TCP the pseudo header's without (tso) or with the length. */
void e1k_tcp4(uint8_t *p, size_t payload, bool complete, bool tso);
bool e1k_tcp4_good(const uint8_t *p, size_t len);
/* Frame number i that was sent; must be there. */
const struct net_fake_frame *e1k_sent(struct e1k *g, unsigned i);
/* A frame from the host. */
void e1k_feed(struct e1k *g, const uint8_t *frame, size_t len);
/* Second half of RX descriptor i: length, checksum, status, errors, special. */
uint64_t e1k_rx_desc(struct e1k *g, unsigned i);
unsigned e1k_rx_status(struct e1k *g, unsigned i);
unsigned e1k_rx_errors(struct e1k *g, unsigned i);
unsigned e1k_rx_len(struct e1k *g, unsigned i);
void e1k_phy_wr(struct e1k *g, unsigned reg, unsigned v);
