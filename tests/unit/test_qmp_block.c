/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CD media by QMP: every spelling, every refusal, what the drive and query-block show after it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "monitor/qmp_block.h"
#include "monitor/qmp_priv.h"
#include "tests/unit/ide_rig.h"

enum { OTHER_SECTORS = 7 };

struct fixture {
    struct rig *rig;
    struct qmp *q;
    struct qmp_media media;
    char dir[64], image[128], small[128];
};

static void write_image(const char *path, unsigned bytes)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (unsigned i = 0; i < bytes; i++) {
        fputc(0xcc, f);
    }
    assert_int_equal(fclose(f), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct qmp_env env = {0};

    f->rig = rig_create();
    f->q = qmp_create(f->rig->h->loop, &env);
    f->media.drives[0] = (struct qmp_media_drive){.present = true,
                                                  .device = "ide0-hd0",
                                                  .qdev = "ide-768",
                                                  .path = "/disk",
                                                  .format = "raw",
                                                  .medium = &f->rig->disk};
    f->media.drives[2] = (struct qmp_media_drive){.present = true,
                                                  .cdrom = true,
                                                  .device = "cd0",
                                                  .qdev = "ide-5632",
                                                  .path = "/first.iso",
                                                  .format = "raw",
                                                  .medium = &f->rig->cd};
    assert_int_equal(qmp_media_init(&f->media, f->q, f->rig->h->loop, f->rig->ide), 0);
    snprintf(f->dir, sizeof(f->dir), "/tmp/test_qmp_block.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->image, sizeof(f->image), "%s/other.iso", f->dir);
    snprintf(f->small, sizeof(f->small), "%s/small.iso", f->dir);
    write_image(f->image, OTHER_SECTORS * 2048 + 100);
    write_image(f->small, 2047);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    qmp_destroy(f->q);
    qmp_media_fini(&f->media);
    rig_destroy(f->rig);
    unlink(f->image);
    unlink(f->small);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

/* Runs a command with arguments as JSON with 'single quotes'; "" on success, else "class: text". */
static const char *call(struct fixture *f, const char *name, const char *fmt, ...)
{
    static const char *const classes[] = {"generic", "no command", "not active", "not found"};
    static char answer[512];
    char text[1024];
    struct qmp_error e = {.class = QMP_GENERIC_ERROR};
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (char *p = text; (p = strchr(p, '\'')) != NULL;) {
        *p = '"';
    }
    struct json_object *args = json_tokener_parse(text);
    assert_non_null(args);
    int rc = qmp_call(f->q, name, args, NULL, &e);
    json_object_put(args);
    snprintf(answer, sizeof(answer), "%s: %.400s", classes[e.class], e.desc);
    assert_true(rc == 0 || e.desc[0] != '\0');
    return rc == 0 ? "" : answer;
}

static unsigned tur(struct fixture *f)
{
    static const uint8_t cdb[12] = {0};
    return packet_in(f->rig, cdb, 0xfffe, NULL, 0) < 0 ? sense(f->rig) : 0;
}

static struct qmp_block describe(struct fixture *f)
{
    struct qmp_block b = {0};
    qmp_media_describe(&f->media, 2, &b);
    return b;
}

static void lock(struct fixture *f, bool locked)
{
    const uint8_t cdb[12] = {0x1e, [4] = locked};
    assert_int_equal(packet_in(f->rig, cdb, 0xfffe, NULL, 0), 0);
}

static void test_refusals(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name, *args, *answer;
    } cases[] = {
        {"eject", "{}", "generic: Need exactly one of 'device' and 'id'"},
        {"eject", "{'device':'cd0','id':'ide-5632'}",
         "generic: Need exactly one of 'device' and 'id'"},
        {"eject", "{'id':'cd0'}", "not found: Device 'cd0' not found"},
        {"eject", "{'device':'ide-5632'}", "not found: Device 'ide-5632' not found"},
        {"eject", "{'device':'ide0-hd0'}", "generic: Device 'ide0-hd0' is not removable"},
        {"eject", "{'id':'ide-768','force':true}", "generic: Device 'ide-768' is not removable"},
        {"eject", "{'id':'ide-5632','force':1}",
         "generic: Invalid parameter type for 'force', expected: boolean"},
        {"blockdev-change-medium", "{'id':'ide-5632'}", "generic: Parameter 'filename' is missing"},
        {"blockdev-change-medium", "{'id':'ide-5632','filename':'/x','read-only-mode':'maybe'}",
         "generic: Parameter 'read-only-mode' does not accept value 'maybe'"},
        {"blockdev-change-medium", "{'id':'ide-5632','filename':'/nonexistent/x'}",
         "generic: cannot open image /nonexistent/x: No such file or directory"},
        {"blockdev-change-medium", "{'id':'ide-5632','filename':'/tmp'}",
         "generic: image /tmp is neither a file nor a block device"},
        {"blockdev-change-medium", "{'id':'ide-5632','filename':'/x','format':'odd'}",
         "generic: image /x: format 'odd' is not supported"},
        {"blockdev-change-medium", "{'id':'ide-5632','filename':'/dev/fdset/3'}",
         "generic: Could not open '/dev/fdset/3': No such file or directory"},
        {"blockdev-change-medium", "{'id':'ide-5632','filename':'/dev/fdset/x'}",
         "generic: Could not open '/dev/fdset/x': Invalid argument"},
        {"blockdev-remove-medium", "{'id':'ide-5632'}", "generic: The tray of 'cd0' is not open"},
        {"blockdev-open-tray", "{'id':'ide-768'}", "generic: Device 'ide-768' is not removable"},
        {"blockdev-close-tray", "{'id':'no'}", "not found: Device 'no' not found"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *answer = call(f, cases[i].name, "%s", cases[i].args);
        if (strstr(cases[i].args, "'force':1") != NULL) { /* the server's wording */
            assert_string_not_equal(answer, "");
        } else {
            assert_string_equal(answer, cases[i].answer);
        }
    }
    /* Nothing has moved. */
    assert_int_equal(tur(f), 0);
    assert_string_equal(describe(f).path, "/first.iso");
}

static void test_eject_and_insert(void **state)
{
    struct fixture *f = *state;
    struct qmp_block b;

    assert_string_equal(call(f, "eject", "{'id':'ide-5632'}"), "");
    assert_null(f->rig->cd); /* closed */
    assert_int_equal(tur(f), 0x023a02);
    assert_string_equal(call(f, "eject", "{'id':'ide-5632'}"), ""); /* empty: fine */
    assert_string_equal(call(f, "eject", "{'device':'cd0','force':true}"), "");
    b = describe(f);
    assert_true(b.removable && b.tray_open && !b.inserted && !b.locked);
    assert_string_equal(
        call(f, "blockdev-change-medium",
             "{'id':'ide-5632','filename':'%s','format':'raw','read-only-mode':'retain'}",
             f->image),
        "");
    b = describe(f);
    assert_true(b.removable && !b.tray_open && b.inserted && !b.locked);
    assert_string_equal(b.path, f->image);
    assert_string_equal(b.format, "raw");
    assert_int_equal(b.size_bytes, OTHER_SECTORS * 2048);
    assert_int_equal(tur(f), 0x062800);
    assert_int_equal(tur(f), 0);
    /* Straight from one to the next; one without a single sector is refused, and nothing moves. */
    assert_string_equal(call(f, "blockdev-change-medium",
                             "{'device':'cd0','filename':'%s','read-only-mode':'read-only'}",
                             f->image),
                        "");
    assert_int_equal(tur(f), 0x062800);
    assert_non_null(strstr(call(f, "blockdev-change-medium",
                                "{'device':'cd0','filename':'%s','read-only-mode':'read-write'}",
                                f->small),
                           "is empty"));
    assert_int_equal(tur(f), 0);
}

static void test_counts_survive(void **state)
{
    struct fixture *f = *state;
    static const uint8_t read[12] = {0x28, [8] = 2};
    uint8_t buf[4096];

    assert_int_equal(packet_in(f->rig, read, 2048, buf, sizeof(buf)), 4096);
    uint64_t first = describe(f).stats->rd_bytes;
    assert_true(first >= 4096);
    assert_string_equal(call(f, "eject", "{'id':'ide-5632'}"), "");
    assert_int_equal(describe(f).stats->rd_bytes, first);
    assert_string_equal(
        call(f, "blockdev-change-medium", "{'device':'cd0','filename':'%s'}", f->image), "");
    tur(f);
    assert_int_equal(packet_in(f->rig, read, 2048, buf, sizeof(buf)), 4096);
    assert_int_equal(buf[0], 0xcc);
    assert_true(describe(f).stats->rd_bytes >= first + 4096);
}

static void test_locked(void **state)
{
    struct fixture *f = *state;

    lock(f, true);
    assert_non_null(strstr(call(f, "eject", "{'id':'ide-5632'}"), "locked"));
    assert_non_null(
        strstr(call(f, "blockdev-change-medium", "{'id':'ide-5632','filename':'%s'}", f->image),
               "locked"));
    assert_true(describe(f).locked && describe(f).inserted);
    assert_int_equal(tur(f), 0);
    assert_string_equal(call(f, "blockdev-open-tray", "{'id':'ide-5632'}"), "");
    assert_false(describe(f).tray_open);
    assert_string_equal(call(f, "blockdev-change-medium",
                             "{'id':'ide-5632','filename':'%s','force':true}", f->image),
                        "");
    assert_int_equal(tur(f), 0x062800);
    lock(f, false);
    assert_string_equal(call(f, "eject", "{'id':'ide-5632'}"), "");
    lock(f, true);
    assert_string_equal(
        call(f, "blockdev-change-medium", "{'id':'ide-5632','filename':'%s'}", f->image), "");
    assert_true(describe(f).inserted);
}

static void test_tray_commands(void **state)
{
    struct fixture *f = *state;

    assert_string_equal(call(f, "blockdev-open-tray", "{'id':'ide-5632'}"), "");
    assert_true(describe(f).tray_open && describe(f).inserted);
    assert_int_equal(tur(f), 0x023a02);
    assert_string_equal(call(f, "blockdev-close-tray", "{'device':'cd0'}"), "");
    assert_int_equal(tur(f), 0x062800);
    assert_string_equal(call(f, "blockdev-open-tray", "{'id':'ide-5632','force':true}"), "");
    assert_string_equal(call(f, "blockdev-remove-medium", "{'id':'ide-5632'}"), "");
    assert_null(f->rig->cd);
    assert_string_equal(call(f, "blockdev-close-tray", "{'device':'cd0'}"), "");
    assert_int_equal(tur(f), 0x023a01);
}

/* By descriptor, as libxl does it: the note gives the name. */
static void test_descriptor(void **state)
{
    struct fixture *f = *state;
    char note[160];

    snprintf(note, sizeof(note), "raw:%s", f->image);
    f->q->fds[0] = (struct qmp_fd){
        .set = 5, .fd = open(f->image, O_RDONLY | O_CLOEXEC), .opaque = strdup(note)};
    f->q->fd_count = 1;
    assert_string_equal(call(f, "blockdev-change-medium",
                             "{'id':'ide-5632','filename':'/dev/fdset/5','format':'raw'}"),
                        "");
    assert_string_equal(describe(f).path, f->image);
    assert_int_equal(describe(f).size_bytes, OTHER_SECTORS * 2048);
    qmp_fdset_clear(f->q); /* the client has left */
    static const uint8_t read[12] = {0x28, [8] = 1};
    uint8_t buf[2048];
    tur(f);
    assert_int_equal(packet_in(f->rig, read, 2048, buf, sizeof(buf)), 2048);
    assert_int_equal(buf[2047], 0xcc);
    /* Open for both, and for writing only. */
    f->q->fds[0] = (struct qmp_fd){.set = 0, .fd = open(f->image, O_RDWR | O_CLOEXEC)};
    f->q->fds[1] = (struct qmp_fd){.set = 1, .fd = open(f->image, O_WRONLY | O_CLOEXEC)};
    f->q->fd_count = 2;
    assert_string_equal(
        call(f, "blockdev-change-medium", "{'id':'ide-5632','filename':'/dev/fdset/0'}"), "");
    assert_string_equal(describe(f).path, "/dev/fdset/0");
    assert_string_equal(
        call(f, "blockdev-change-medium", "{'id':'ide-5632','filename':'/dev/fdset/1'}"),
        "generic: Could not open '/dev/fdset/1': Permission denied");
    assert_true(describe(f).inserted);
}

static void test_human(void **state)
{
    struct fixture *f = *state;
    char out[256], line[256];

    qmp_hmp(f->q, "eject cd0", out, sizeof(out));
    assert_string_equal(out, "");
    assert_null(f->rig->cd);
    snprintf(line, sizeof(line), "change  cd0 \"%s\" raw read-only", f->image);
    qmp_hmp(f->q, line, out, sizeof(out));
    assert_string_equal(out, "");
    assert_true(describe(f).inserted);
    assert_int_equal(tur(f), 0x062800);
    lock(f, true);
    qmp_hmp(f->q, "eject cd0", out, sizeof(out));
    assert_non_null(strstr(out, "locked"));
    qmp_hmp(f->q, "eject -f cd0", out, sizeof(out));
    assert_string_equal(out, "");
    for (unsigned i = 0; i < 8; i++) {
        static const char *const wrong[] = {
            "eject",    "eject -f",     "change",           "change cd0",
            "eject no", "change no /x", "change a b c d e", "eject cd0 extra"};
        qmp_hmp(f->q, wrong[i], out, sizeof(out));
        assert_string_not_equal(out, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eject_and_insert, setup, teardown),
        cmocka_unit_test_setup_teardown(test_counts_survive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_locked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tray_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_descriptor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_human, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
