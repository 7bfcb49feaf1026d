/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Realtek RTL8139C+ Fast Ethernet controller: C mode (ring buffer, four transmit descriptors) and
 * C+ mode (descriptor rings, checksums, large send, VLAN tags). Sources: RTL8139C(L)+ data sheet
 * 1.6, RTL8139 programming guide 0.1.
 */
#include <stddef.h>
#include <stdint.h>

#include "core/board.h"
#include "net/net.h"

struct rtl8139_config {
    uint8_t devfn;
    uint8_t mac[6];
    const uint8_t *rom; /* option ROM (borrowed), or NULL */
    size_t rom_len;
};

/* Creates the card. net (borrowed; NULL: no cable) must outlive it, or be taken away with
 * pci_unplug() and net_detach(). 0, or -errno with the board unchanged. */
int rtl8139_create(struct board *b, const struct rtl8139_config *cfg, struct net *net);
