/* SPDX-License-Identifier: GPL-2.0-or-later */
/* device_add, device_del and info usb, in QMP's and in people's spelling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"
#include "core/pci.h"
#include "hw/acpi_gpe.h"
#include "hw/board_usb.h"
#include "monitor/qmp_priv.h"
#include "monitor/qmp_usb.h"
#include "tests/unit/harness.h"

struct fixture {
    struct harness *h;
    struct options o;
    struct board_usb *usb;
    struct qmp *q;
};

static struct fixture *create(bool usb)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct acpi_gpe_config cfg = {.vcpus_online = 1, .removable_slots = ~3u};
    const struct qmp_env env = {0};
    struct acpi_gpe *gpe;
    char err[128];

    f->h = harness_create();
    f->o.usb = usb;
    assert_int_equal(acpi_gpe_create(&f->h->board, &cfg, &gpe), 0);
    assert_int_equal(board_usb_create(&f->h->board, &f->o, NULL, gpe, &f->usb, err, sizeof(err)),
                     0);
    f->q = qmp_create(f->h->loop, &env);
    assert_int_equal(qmp_usb_init(f->q, f->usb), 0);
    return f;
}

static void finish(struct fixture *f)
{
    qmp_destroy(f->q);
    harness_destroy(f->h);
    free(f);
}

/* Runs a command with arguments as JSON with 'single quotes'; "" on success, else "class: text". */
static const char *call(struct fixture *f, const char *name, const char *arguments)
{
    static const char *const classes[] = {"generic", "no command", "not active", "not found"};
    static char answer[512];
    char text[512];
    struct qmp_error e = {.class = QMP_GENERIC_ERROR};
    struct json_object *args;
    int rc;

    snprintf(text, sizeof(text), "%s", arguments);
    for (char *p = text; (p = strchr(p, '\'')) != NULL;) {
        *p = '"';
    }
    args = json_tokener_parse(text);
    assert_non_null(args);
    rc = qmp_call(f->q, name, args, NULL, &e);
    json_object_put(args);
    snprintf(answer, sizeof(answer), "%s: %.400s", classes[e.class], e.desc);
    assert_true(rc == 0 || e.desc[0] != '\0');
    return rc == 0 ? "" : answer;
}

static const char *hmp(struct fixture *f, const char *line)
{
    static char out[8192];

    qmp_hmp(f->q, line, out, sizeof(out));
    return out;
}

static void test_add(void **state)
{
    static const struct {
        const char *args, *answer;
    } cases[] = {
        {"{}", "generic: Parameter 'driver' is missing"},
        {"{'driver':5}", "generic: Invalid parameter type for 'driver', expected: string"},
        {"{'driver':'usb-frob'}",
         "generic: 'usb-frob' is not a valid device model name, or not one "
         "that can be added to a running guest"},
        {"{'driver':'e1000','id':'x'}",
         "generic: 'e1000' is not a valid device model name, or not one that can be added to a "
         "running guest"},
        {"{'driver':'usb-host','id':'xenusb-1-4','bus':'xenusb-0.0','port':'1','hostbus':'1',"
         "'hostaddr':'4'}",
         "generic: usb-host: passing through USB devices of the host is not supported"},
        {"{'driver':'xen-pci-passthrough','id':'pci-pt-00_02.0','hostaddr':'0000:00:02.0'}",
         "generic: xen-pci-passthrough: passing through PCI devices of the host is not supported"},
        {"{'driver':'qemu32-i386-cpu','id':'cpu-1','socket-id':1,'core-id':0,'thread-id':0}",
         "generic: qemu32-i386-cpu: CPUs cannot be added yet: start the guest with all of its "
         "vcpus="},
        {"{'driver':'usb-mouse','id':'1m'}", "generic: Parameter 'id' expects an identifier"},
        {"{'driver':'usb-mouse','id':''}", "generic: Parameter 'id' expects an identifier"},
        {"{'driver':'usb-mouse','id':'a b'}", "generic: Parameter 'id' expects an identifier"},
        {"{'driver':'usb-mouse','foo':3}", "generic: Property 'usb-mouse.foo' not found"},
        {"{'driver':'usb-mouse','addr':3}", "generic: Property 'usb-mouse.addr' not found"},
        {"{'driver':'piix3-usb-uhci','port':'1'}",
         "generic: Property 'piix3-usb-uhci.port' not found"},
        {"{'driver':'usb-mouse','port':true}",
         "generic: Invalid parameter type for 'port', expected: string"},
        {"{'driver':'usb-mouse','port':{}}",
         "generic: Invalid parameter type for 'port', expected: string"},
        {"{'driver':'usb-mouse','bus':'no.0'}", "generic: Bus 'no.0' not found"},
        {"{'driver':'usb-mouse','port':7}",
         "generic: usb port 7 (bus usb-bus.0) not found (in use?)"},
        {"{'driver':'piix3-usb-uhci','addr':'x'}",
         "generic: Parameter 'addr' expects SLOT or SLOT.FUNCTION in hexadecimal"},
        {"{'driver':'piix3-usb-uhci','addr':'20'}",
         "generic: Parameter 'addr' expects SLOT or SLOT.FUNCTION in hexadecimal"},
        {"{'driver':'piix3-usb-uhci','addr':'5.8'}",
         "generic: Parameter 'addr' expects SLOT or SLOT.FUNCTION in hexadecimal"},
        {"{'driver':'piix3-usb-uhci','addr':'5.1'}",
         "generic: PCI: slot 5 function 1 not available for piix3-usb-uhci"},
        {"{'driver':'nec-usb-xhci','p2':'0'}",
         "generic: Parameters 'p2' and 'p3' expect 1 to 15 ports"},
        {"{'driver':'nec-usb-xhci','p3':'16'}",
         "generic: Parameters 'p2' and 'p3' expect 1 to 15 ports"},
        {"{'driver':'nec-usb-xhci','p2':'4x'}",
         "generic: Parameters 'p2' and 'p3' expect 1 to 15 ports"},
        /* Numbers as strings and as integers. */
        {"{'driver':'usb-tablet','id':'t-1','bus':'usb-bus.0','port':'2'}", ""},
        {"{'driver':'usb-hub','id':'h_1','port':1}", ""},
        {"{'driver':'usb-kbd','id':'k.1','port':'1.3'}", ""},
        {"{'driver':'usb-kbd'}", ""},
        {"{'driver':'usb-kbd','id':'t-1'}", "generic: Duplicate device ID 't-1'"},
        {"{'driver':'piix3-usb-uhci','id':'xenusb-0'}", ""},
        {"{'driver':'piix3-usb-uhci','id':'xenusb-1','addr':'0x1f.0'}", ""},
        {"{'driver':'usb-mouse','id':'m','bus':'xenusb-1.0'}", ""},
        {"{'driver':'nec-usb-xhci','id':'xenusb-2','p2':'2','p3':'15'}", ""},
        {"{'driver':'usb-kbd','id':'k2','bus':'xenusb-2.0','port':'2'}", ""},
        {"{'driver':'usb-kbd','bus':'xenusb-2.0','port':'3'}",
         "generic: usb port 3 (bus xenusb-2.0) not found (in use?)"},
        {"{'driver':'usb-hub','bus':'xenusb-2.0'}",
         "generic: cannot plug usb-hub into bus xenusb-2.0: hubs are for full-speed buses"},
    };
    struct fixture *f = create(true);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_string_equal(call(f, "device_add", cases[i].args), cases[i].answer);
    }
    assert_int_equal(harness_pci_read(f->h, PCI_DEVFN(31, 0), 0, 4), 0x70208086);
    assert_string_equal(hmp(f, "info usb"),
                        "  Device 0.0, Port 2, Speed 12 Mb/s, Product QEMU USB Tablet, ID: t-1\r\n"
                        "  Device 0.0, Port 1, Speed 12 Mb/s, Product QEMU USB Hub, ID: h_1\r\n"
                        "  Device 0.0, Port 1.3, Speed 12 Mb/s, Product QEMU USB Keyboard, ID: "
                        "k.1\r\n"
                        "  Device 0.0, Port 1.1, Speed 12 Mb/s, Product QEMU USB Keyboard\r\n"
                        "  Device 2.0, Port 1, Speed 12 Mb/s, Product QEMU USB Mouse, ID: m\r\n"
                        "  Device 3.0, Port 2, Speed 480 Mb/s, Product QEMU USB Keyboard, ID: "
                        "k2\r\n");
    finish(f);
}

static void test_del(void **state)
{
    struct fixture *f = create(true);

    (void)state;
    f->o.nics[0].id = "nic0";
    f->o.nic_count = 1;
    assert_string_equal(call(f, "device_add", "{'driver':'usb-tablet','id':'t1'}"), "");
    assert_string_equal(call(f, "device_add", "{'driver':'piix3-usb-uhci','id':'xenusb-0'}"), "");
    assert_string_equal(call(f, "device_del", "{}"), "generic: Parameter 'id' is missing");
    assert_string_equal(call(f, "device_del", "{'id':'nope'}"),
                        "not found: Device 'nope' not found");
    assert_string_equal(call(f, "device_del", "{'id':''}"), "not found: Device '' not found");
    assert_string_equal(call(f, "device_del", "{'id':'nic0'}"),
                        "generic: Device 'nic0' cannot be removed at run time");
    assert_string_equal(call(f, "device_del", "{'id':'t1'}"), "");
    assert_string_equal(call(f, "device_del", "{'id':'t1'}"), "not found: Device 't1' not found");
    assert_string_equal(call(f, "device_del", "{'id':'xenusb-0'}"), "");
    assert_string_equal(call(f, "device_del", "{'id':'xenusb-0'}"), ""); /* still there */
    finish(f);
}

static void test_hmp(void **state)
{
    struct fixture *f = create(true);
    struct fixture *none = create(false);

    (void)state;
    assert_string_equal(hmp(none, "info usb"), "Error: USB support not enabled\r\n");
    assert_string_equal(hmp(none, "device_add usb-tablet"),
                        "Error: No 'usb-bus' bus found for device 'usb-tablet'\r\n");
    assert_string_equal(hmp(f, "info usb"), "");
    assert_string_equal(hmp(f, "device_add usb-tablet,id=t1,bus=usb-bus.0"), "");
    assert_string_equal(hmp(f, "device_add driver=usb-mouse,id=m1"), "");
    assert_string_equal(hmp(f, "device_add usb-mouse,id=m1"),
                        "Error: Duplicate device ID 'm1'\r\n");
    assert_string_equal(hmp(f, "device_add usb-mouse,id=m2,port=2.9"),
                        "Error: usb port 2.9 (bus usb-bus.0) not found (in use?)\r\n");
    assert_string_equal(hmp(f, "device_add usb-mouse,foo"),
                        "Error: Property 'usb-mouse.foo' not found\r\n");
    assert_string_equal(hmp(f, "device_add id=x"), "Error: Parameter 'driver' is missing\r\n");
    assert_string_equal(hmp(f, "device_add"), "device_add DRIVER[,KEY=VALUE...]\r\n");
    assert_string_equal(hmp(f, "device_add a b"), "device_add DRIVER[,KEY=VALUE...]\r\n");
    assert_string_equal(hmp(f, "device_del"), "device_del ID\r\n");
    assert_string_equal(hmp(f, "device_del t2"), "Error: Device 't2' not found\r\n");
    assert_string_equal(
        hmp(f, "info usb"),
        "  Device 0.0, Port 1, Speed 12 Mb/s, Product QEMU USB Tablet, ID: t1\r\n"
        "  Device 0.0, Port 2, Speed 12 Mb/s, Product QEMU USB Hub\r\n"
        "  Device 0.0, Port 2.1, Speed 12 Mb/s, Product QEMU USB Mouse, ID: m1\r\n");
    assert_string_equal(hmp(f, "device_del t1"), "");
    assert_string_equal(hmp(f, "device_del m1"), "");
    assert_string_equal(hmp(f, "info usb"),
                        "  Device 0.0, Port 2, Speed 12 Mb/s, Product QEMU USB Hub\r\n");
    finish(f);
    finish(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_del),
        cmocka_unit_test(test_hmp),
    };

    return cmocka_run_group_tests_name("qmp_usb", tests, NULL, NULL);
}
