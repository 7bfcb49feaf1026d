/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small drivers for network cards, as the vCPU of a guest runs them: nic.c measures with them,
 * nic_drivers.c has them. Their register accesses are those of Linux's e1000, 8139cp and 8139too,
 * in the same order and number: these are what a device model is slow or fast at.
 */
#pragma once

#include "fakexen.h"

enum { /* where things are in guest memory; 32 MiB are used */
    NIC_TX_RING = 0x1000000,
    NIC_RX_RING = 0x1002000,
    NIC_RX_AREA = 0x1010000, /* C mode: ring of 64 KiB and what runs over its end */
    NIC_RX_BUF = 0x1100000,  /* 2 KiB each */
    NIC_TX_BUF = 0x1200000,
    NIC_TX_STEP = 0x11000,   /* a frame of 64 KiB and its header */
    NIC_TX_BUFS = 16,
    NIC_MSS = 1448,
    NIC_HEADERS = 66,        /* Ethernet, IPv4, TCP with time stamps */
    NIC_TSO_PIECE = 4096,
};

enum nic_offload { NIC_PLAIN, NIC_CSUM, NIC_TSO };

struct nic {
    const struct nic_driver *driver;
    struct fx_vcpu *vcpu;
    uint64_t bar;       /* guest physical */
    uint32_t slot;      /* PCI */
    uint64_t tx_put, tx_done;      /* frames */
    uint64_t rx_frames, rx_bytes;
    unsigned tx_next, tx_clean, rx_next; /* ring positions */
    unsigned tx_descs;  /* in use */
    uint64_t interrupts;
    char error[160];    /* not empty: an access failed */
};

struct nic_driver {
    const char *name;
    unsigned window; /* frames that may be on their way to the guest: more would be dropped */
    void (*start)(struct nic *n);
    /* Room for one more frame of that kind? */
    bool (*room)(const struct nic *n, enum nic_offload how);
    /* Puts a frame of len bytes (with headers) into the ring. */
    void (*put)(struct nic *n, size_t len, enum nic_offload how);
    /* Tells the card. */
    void (*bell)(struct nic *n);
    /* The interrupt handler, and what it leads to. */
    void (*interrupt)(struct nic *n);
};

const struct nic_driver *nic_find_driver(const char *name);

/* Writes the headers of frame buffer i (and a frame of len bytes): what goes on the wire. */
void nic_fill(uint64_t gpa, size_t len, enum nic_offload how);
