/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Intel 82540EM Gigabit Ethernet controller (libxl: model=e1000) with its M88E1000 PHY and a
 * 64-word EEPROM. Source for all of it: "PCI/PCI-X Family of Gigabit Ethernet Controllers Software
 * Developer's Manual" (8254x), called SDM in comments. Loop thread only.
 */
#include <stddef.h>
#include <stdint.h>

struct board;
struct net;

struct e1000_config {
    uint8_t devfn;
    uint8_t mac[6];     /* what the EEPROM says */
    const uint8_t *rom; /* borrowed; boot ROM, or NULL */
    size_t rom_len;
};

/* Creates the function at cfg->devfn. net (borrowed, must outlive the board) may be NULL: a card
 * without a cable. 0, or -errno with the board unchanged. */
int e1000_create(struct board *b, const struct e1000_config *cfg, struct net *net);
