/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/nbd_lib.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static struct nbd_lib lib;

static const struct {
    const char *name;
    size_t at;
} functions[] = {
#define F(name) {"nbd_" #name, offsetof(struct nbd_lib, name)},
    NBD_FUNCTIONS(F)
#undef F
};

const struct nbd_lib *nbd_lib_load(char *err, size_t errlen)
{
    static void *handle;

    if (handle != NULL) {
        return &lib;
    }
    void *so = dlopen("libnbd.so.0", RTLD_NOW | RTLD_LOCAL);
    if (so == NULL) {
        snprintf(err, errlen, "network targets need libnbd.so.0; install the package libnbd0");
        return NULL;
    }
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        void *p = dlsym(so, functions[i].name);

        if (p == NULL) {
            snprintf(err, errlen, "libnbd.so.0 has no %s; a newer package libnbd0 is needed",
                     functions[i].name);
            dlclose(so);
            return NULL;
        }
        memcpy((char *)&lib + functions[i].at, &p, sizeof(p));
    }
    handle = so;
    return &lib;
}
