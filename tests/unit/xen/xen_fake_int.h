/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the files of the fake share. */
#include "tests/unit/xen/xen_fake.h"

/* 0, or -1 with errno when the test wants the call to fail. */
int xf_may(enum xf_call call);
void *xf_open_handle(void);
int xf_close_handle(void);

void xf_store_create(void);
void xf_store_destroy(void);
