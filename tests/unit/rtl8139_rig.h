/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* An RTL8139C+ on a test board with a link in memory, and what drivers do with it. */
#include "hw/rtl8139.h"
#include "tests/unit/harness.h"
#include "tests/unit/net_fake.h"

enum {
    SLOT = 4,
    DEVFN = SLOT << 3,
    IO = 0xc000,
    RING = 0x10000,
    TX_RING = 0x20000,
    TXH_RING = 0x21000,
    RX_RING = 0x22000,
    BUF = 0x100000
};
enum {
    IDR0 = 0x00,
    MAR0 = 0x08,
    TSD0 = 0x10,
    TSAD0 = 0x20,
    RBSTART = 0x30,
    CR = 0x37,
    CAPR = 0x38,
    CBR = 0x3a,
    IMR = 0x3c,
    ISR = 0x3e,
    TCR = 0x40,
    RCR = 0x44,
    TCTR = 0x48,
    MPC = 0x4c,
    EECR = 0x50,
    CONFIG1 = 0x52,
    TIMERINT = 0x54,
    MSR = 0x58,
    TSAD = 0x60,
    BMCR = 0x62,
    BMSR = 0x64,
    TPPOLL = 0xd9,
    CPCR = 0xe0,
    RDSAR = 0xe4
};
enum { TE = 4, RE = 8, RST = 0x10 };
enum { ROK = 1, TOK = 4, RDU = 0x10, PUN = 0x20, TDU = 0x80, SWINT = 0x100, TIMEOUT = 0x4000 };
#define OWN 0x80000000u
#define EOR 0x40000000u
#define FS  0x20000000u
#define LS  0x10000000u

struct rtl_rig {
    struct harness *h;
    struct net_fake *net;
};

#define OURS  "\x00\x16\x3e\x12\x34\x56"
#define BCAST "\xff\xff\xff\xff\xff\xff"

/* Register access through ports. */
void rtl_wr(struct rtl_rig *r, unsigned reg, unsigned size, uint32_t v);
uint32_t rtl_rd(struct rtl_rig *r, unsigned reg, unsigned size);
/* 32 bits of guest memory. */
uint32_t rtl_mem32(struct rtl_rig *r, uint32_t at);
void rtl_set32(struct rtl_rig *r, uint32_t at, uint32_t v);
bool rtl_irq(struct rtl_rig *r);
/* A card on a board; offloads: of the back end, see net_fake_create(). rtl_end() destroys it. */
struct rtl_rig *rtl_begin_with(bool offloads);
struct rtl_rig *rtl_begin(void);
void rtl_end(struct rtl_rig *r);
/* A frame of no known protocol with a pattern that depends on seed. */
void rtl_fill(uint8_t *frame, size_t len, const char *dst, unsigned seed);
/* TCP over IPv4, 54 bytes of headers; sums: both right. */
void rtl_fill_tcp(uint8_t *frame, size_t len, bool sums);
/* IPv4's and TCP's or UDP's. */
bool rtl_sums_right(const uint8_t *frame, size_t len);
uint32_t rtl_slow_crc(const uint8_t *p, size_t len);
void rtl_rx_on(struct rtl_rig *r, uint32_t rcr);
/* Writes a C+ descriptor. */
void rtl_desc(struct rtl_rig *r, uint32_t ring, unsigned i, uint32_t dw0, uint32_t dw1,
              uint32_t buf);
void rtl_cplus_on(struct rtl_rig *r, uint16_t cpcr);
