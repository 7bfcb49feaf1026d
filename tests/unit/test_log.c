/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/log.h"

static char out[1 << 21];

/* Runs fn in a child whose stderr is a file, since the volume bound is for the life of a process. Returns what it wrote. */
static const char *run(void (*fn)(void))
{
    int fd = memfd_create("log", 0);
    ssize_t n;
    int status;
    pid_t pid;

    assert_true(fd >= 0);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fd, STDERR_FILENO);
        log_init();
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    n = pread(fd, out, sizeof(out) - 1, 0);
    assert_true(n >= 0);
    out[n] = '\0';
    close(fd);
    return out;
}

static unsigned lines(const char *text)
{
    unsigned n = 0;

    for (; *text; text++) {
        n += *text == '\n';
    }
    return n;
}

static void say(void)
{
    log_msg("disk %s: %d", "hda", 5);
}

static void test_message(void **state)
{
    (void)state;
    assert_string_equal(run(say), "hvm-dm: disk hda: 5\n");
}

static void say_lines(void)
{
    log_msg("cannot open %s", "/a\nb\x1b[2J\x7f\xc3\xa9");
}

/* Paths and names of peers cannot make a second line or move the terminal's cursor. */
static void test_one_line(void **state)
{
    (void)state;
    assert_string_equal(run(say_lines), "hvm-dm: cannot open /a?b?[2J?\xc3\xa9\n");
}

static void say_long(void)
{
    static char big[5000];

    memset(big, 'x', sizeof(big) - 1);
    log_msg("%s", big);
}

static void test_long_line_is_cut_and_ended(void **state)
{
    const char *text = run(say_long);

    (void)state;
    assert_int_equal(lines(text), 1);
    assert_true(strlen(text) <= 1024);
    assert_int_equal(text[strlen(text) - 1], '\n');
}

static void flood(void)
{
    for (unsigned i = 0; i < 5000; i++) {
        log_msg("line %u", i);
    }
}

static void test_volume_is_bounded(void **state)
{
    const char *text;

    (void)state;
    setenv("XEN_QEMU_CONSOLE_LIMIT", "2000", 1);
    text = run(flood);
    unsetenv("XEN_QEMU_CONSOLE_LIMIT");
    assert_true(strlen(text) <= 2000);
    assert_true(strlen(text) > 1500);
    assert_non_null(strstr(text, "limit reached"));
    assert_null(strstr(text, "line 4999"));
    assert_string_equal(strstr(text, "hvm-dm: log limit"), "hvm-dm: log limit reached, the rest is dropped\n");
}

static void test_default_volume(void **state)
{
    (void)state;
    assert_non_null(strstr(run(flood), "line 4999"));
}

static void test_volume_without_limit(void **state)
{
    (void)state;
    setenv("XEN_QEMU_CONSOLE_LIMIT", "0", 1);
    assert_non_null(strstr(run(flood), "line 4999"));
    setenv("XEN_QEMU_CONSOLE_LIMIT", "12x", 1); /* not a number: the default stays */
    assert_non_null(strstr(run(flood), "line 4999"));
    unsetenv("XEN_QEMU_CONSOLE_LIMIT");
}

static void repeat(void)
{
    static struct log_limit limit, other;

    for (unsigned i = 0; i < 1000; i++) {
        log_limited(&limit, "again %u", i);
    }
    log_limited(&other, "other");
}

static void test_rate_limit(void **state)
{
    const char *text = run(repeat);

    (void)state;
    assert_in_range(lines(text), 2, 20);
    assert_non_null(strstr(text, "again 0\n"));
    assert_null(strstr(text, "again 999"));
    assert_non_null(strstr(text, "other\n"));
}

static void guest_text(void)
{
    static struct log_limit limit;

    log_guest(&limit, "serial", "a\x1b[2J\n\xff%s\0z", 10);
}

static void test_guest_text_is_printable(void **state)
{
    (void)state;
    assert_string_equal(run(guest_text), "hvm-dm: serial: a?[2J??%s?\n");
}

static void guest_long(void)
{
    static struct log_limit limit;
    static char big[100000];

    memset(big, '\n', sizeof(big));
    log_guest(&limit, "log", big, sizeof(big));
}

static void test_guest_text_is_short(void **state)
{
    const char *text = run(guest_long);

    (void)state;
    assert_int_equal(lines(text), 1);
    assert_true(strlen(text) <= 1024);
}

static void traces(void)
{
    trace("uart", "write", "%d", 1);
    trace("ide", "command", "%#x", 0xec);
    trace("ua", "write", "%d", 3);
}

static void test_trace(void **state)
{
    (void)state;
    assert_string_equal(run(traces), "");
    setenv("HVM_DM_TRACE", "ide,vga", 1);
    assert_string_equal(run(traces), "hvm-dm: ide command: 0xec\n");
    setenv("HVM_DM_TRACE", "all", 1);
    assert_int_equal(lines(run(traces)), 3);
    unsetenv("HVM_DM_TRACE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message),
        cmocka_unit_test(test_one_line),
        cmocka_unit_test(test_long_line_is_cut_and_ended),
        cmocka_unit_test(test_volume_is_bounded),
        cmocka_unit_test(test_default_volume),
        cmocka_unit_test(test_volume_without_limit),
        cmocka_unit_test(test_rate_limit),
        cmocka_unit_test(test_guest_text_is_printable),
        cmocka_unit_test(test_guest_text_is_short),
        cmocka_unit_test(test_trace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
