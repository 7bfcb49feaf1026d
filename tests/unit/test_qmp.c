/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The QMP server over real unix sockets on a real loop, with a client that works like libxl, libxenstat or an enemy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "block/block.h"
#include "core/loop.h"
#include "monitor/qmp.h"

struct fixture {
    struct loop *loop;
    struct qmp *q;
    char dir[64];
    char path[96];
    const char *status;
    char password[64];
    int password_calls;
    bool vnc_off, password_refused, stop_refused, quit;
    struct block_stats stats;
    int custom_calls;
};

static const char *env_status(void *opaque)
{
    return ((struct fixture *)opaque)->status;
}

static int env_cont(void *opaque, char *err, size_t errlen)
{
    (void)err, (void)errlen;
    ((struct fixture *)opaque)->status = "running";
    return 0;
}

static int env_stop(void *opaque, char *err, size_t errlen)
{
    struct fixture *f = opaque;

    if (f->stop_refused) {
        snprintf(err, errlen, "cannot stop now");
        return -EBUSY;
    }
    f->status = "paused";
    return 0;
}

static void env_quit(void *opaque)
{
    ((struct fixture *)opaque)->quit = true;
}

static void env_vnc_info(void *opaque, struct qmp_vnc *out)
{
    struct fixture *f = opaque;

    out->enabled = !f->vnc_off;
    out->host = "127.0.0.1";
    out->service = "5903";
    out->family = "ipv4";
    out->auth = "vnc";
}

static int env_vnc_set_password(void *opaque, const char *password, char *err, size_t errlen)
{
    struct fixture *f = opaque;

    if (f->password_refused) {
        snprintf(err, errlen, "Could not set password");
        return -EINVAL;
    }
    snprintf(f->password, sizeof(f->password), "%s", password);
    f->password_calls++;
    return 0;
}

static bool env_chardev(void *opaque, unsigned i, struct qmp_chardev *out)
{
    (void)opaque;
    *out = i == 0 ? (struct qmp_chardev){"serial0", "pty:/dev/pts/7", true}
                  : (struct qmp_chardev){"serial1",
                                         "file:/a\xff"
                                         "b",
                                         true};
    return i < 2;
}

static bool env_block(void *opaque, unsigned i, struct qmp_block *out)
{
    struct fixture *f = opaque;

    if (i == 0) {
        *out = (struct qmp_block){.device = "ide-768",
                                  .qdev = "ide-768",
                                  .inserted = true,
                                  .path = "/images/disk.img",
                                  .format = "raw",
                                  .size_bytes = 1 << 20,
                                  .stats = &f->stats};
    } else {
        *out = (struct qmp_block){.device = "ide-5632", .qdev = "ide-5632", .removable = true};
    }
    return i < 2;
}

static int custom(struct qmp *q, void *opaque, struct json_object *args, struct json_object **result,
                  struct qmp_error *e)
{
    struct fixture *f = opaque;

    (void)q;
    f->custom_calls++;
    if (qmp_arg_bool(args, "fail", false)) {
        return qmp_fail(e, QMP_DEVICE_NOT_FOUND, "Device '%s' not found", qmp_arg_string(args, "id", ""));
    }
    *result = json_object_new_int64(qmp_arg_int(args, "n", -7));
    return 0;
}

static const struct qmp_command custom_commands[] = {
    {"custom", "id:s,fail:b?,n:i?", custom},
    {"custom-open", "id:s,*", custom},
    {NULL, NULL, NULL},
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char err[256];
    struct qmp_env env = {
        .opaque = f,
        .name = "guest, one",
        .vcpus_online = 2,
        .vcpus_max = 3,
        .status = env_status,
        .cont = env_cont,
        .stop = env_stop,
        .quit = env_quit,
        .vnc_info = env_vnc_info,
        .vnc_set_password = env_vnc_set_password,
        .chardev = env_chardev,
        .block = env_block,
    };

    f->status = "prelaunch";
    f->stats = (struct block_stats){.rd_bytes = 1024, .wr_bytes = 2048, .rd_operations = 3, .wr_operations = 4};
    f->loop = loop_create(false);
    f->q = qmp_create(f->loop, &env);
    assert_non_null(f->q);
    snprintf(f->dir, sizeof(f->dir), "/tmp/test_qmp.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/qmp", f->dir);
    assert_int_equal(qmp_add_commands(f->q, custom_commands, f), 0);
    assert_int_equal(qmp_listen_path(f->q, "libxl-cmd", f->path, err, sizeof(err)), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    qmp_destroy(f->q);
    loop_destroy(f->loop);
    assert_int_not_equal(access(f->path, F_OK), 0);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

static void turn(struct fixture *f)
{
    for (int i = 0; i < 6; i++) {
        loop_poll(f->loop, 0);
    }
}

static int dial(struct fixture *f, const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    turn(f);
    return fd;
}

/* All that has come, as text; static buffer. */
static const char *hear(struct fixture *f, int fd)
{
    static char text[400000];
    size_t n = 0;

    for (int quiet = 0; quiet < 3;) {
        ssize_t got;

        loop_poll(f->loop, 0);
        got = recv(fd, text + n, sizeof(text) - 1 - n, MSG_DONTWAIT);
        if (got > 0) {
            n += (size_t)got;
        } else {
            quiet++;
        }
    }
    text[n] = '\0';
    return text;
}

static const char *ask(struct fixture *f, int fd, const char *request)
{
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    return hear(f, fd);
}

static void assert_prefix(const char *text, const char *prefix)
{
    char start[256];

    snprintf(start, sizeof(start), "%.*s", (int)strlen(prefix), text);
    assert_string_equal(start, prefix);
}

static int open_session(struct fixture *f)
{
    int fd = dial(f, f->path);

    hear(f, fd);
    assert_string_equal(ask(f, fd, "{\"execute\":\"qmp_capabilities\"}"), "{\"return\":{}}\r\n");
    return fd;
}

static bool closed(struct fixture *f, int fd)
{
    char c;
    ssize_t n;

    turn(f);
    do {
        n = recv(fd, &c, 1, MSG_DONTWAIT);
    } while (n > 0);
    return n == 0 || (errno != EAGAIN);
}

static void test_greeting_and_negotiation(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f, f->path);
    struct json_object *greeting = json_tokener_parse(hear(f, fd));
    struct json_object *at;

    assert_true(json_object_object_get_ex(greeting, "QMP", &at));
    assert_true(json_object_object_get_ex(at, "version", &at));
    assert_true(json_object_object_get_ex(at, "qemu", &at));
    assert_int_equal(qmp_arg_int(at, "major", 0), 7);
    assert_int_equal(qmp_arg_int(at, "minor", 0), 2);
    assert_int_equal(qmp_arg_int(at, "micro", -1), 0);
    json_object_put(greeting);
    assert_string_equal(ask(f, fd, "{\"execute\":\"query-status\",\"id\":1}\r\n"),
                        "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"Expecting capabilities negotiation with "
                        "'qmp_capabilities'\"},\"id\":1}\r\n");
    assert_string_equal(ask(f, fd, "{\"execute\":\"qmp_capabilities\",\"id\":2020372737}\r\n"),
                        "{\"return\":{},\"id\":2020372737}\r\n");
    assert_string_equal(
        ask(f, fd, "{\"execute\":\"qmp_capabilities\"}\r\n"),
        "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"Capabilities negotiation is already complete, "
        "command ignored\"}}\r\n");
    close(fd);
}

/* One exchange per row, all on one negotiated connection. */
static const struct {
    const char *request, *reply;
} exchanges[] = {
    {"{\"execute\":\"query-status\"}",
     "{\"return\":{\"status\":\"prelaunch\",\"singlestep\":false,\"running\":false}}"},
    {"{\"execute\":\"query-name\"}", "{\"return\":{\"name\":\"guest, one\"}}"},
    {"{\"execute\":\"query-vnc\",\"id\":3}", "{\"return\":{\"enabled\":true,\"host\":\"127.0.0.1\",\"service\":"
                                             "\"5903\",\"family\":\"ipv4\",\"auth\":\"vnc\"},\"id\":3}"},
    {"{\"execute\":\"query-blockstats\"}",
     "{\"return\":[{\"device\":\"ide-768\",\"qdev\":\"ide-768\",\"stats\":{\"rd_bytes\":1024,\"wr_bytes\":2048,\"rd_"
     "operations\":3,"
     "\"wr_operations\":4,\"flush_operations\":0}},{\"device\":\"ide-5632\",\"qdev\":\"ide-5632\",\"stats\":{\"rd_"
     "bytes\":0,"
     "\"wr_bytes\":0,\"rd_operations\":0,\"wr_operations\":0,\"flush_operations\":0}}]}"},
    {"{\"execute\":\"query-block\"}",
     "{\"return\":[{\"device\":\"ide-768\",\"qdev\":\"ide-768\",\"type\":\"unknown\",\"removable\":false,\"locked\":"
     "false,\"inserted\":{"
     "\"file\":\"/images/disk.img\",\"drv\":\"raw\",\"ro\":false,\"encrypted\":false,\"image\":{\"filename\":\"/images/"
     "disk.img\","
     "\"format\":\"raw\",\"virtual-size\":1048576}}},{\"device\":\"ide-5632\",\"qdev\":\"ide-5632\",\"type\":"
     "\"unknown\",\"removable\":"
     "true,\"locked\":false,\"tray_open\":false}]}"},
    {"{\"execute\":\"query-fdsets\"}", "{\"return\":[]}"},
    /* Ids of any kind come back as they are. */
    {"{\"execute\":\"query-fdsets\",\"id\":\"a\\\"b/c\"}", "{\"return\":[],\"id\":\"a\\\"b/c\"}"},
    {"{\"execute\":\"query-fdsets\",\"id\":-9223372036854775808}", "{\"return\":[],\"id\":-9223372036854775808}"},
    {"{\"execute\":\"query-fdsets\",\"id\":18446744073709551615}", "{\"return\":[],\"id\":18446744073709551615}"},
    {"{\"execute\":\"query-fdsets\",\"id\":null}", "{\"return\":[],\"id\":null}"},
    {"{\"execute\":\"nonsense\",\"id\":null}",
     "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"The command nonsense has not been found\"},\"id\":null}"},
    {"{\"execute\":\"query-fdsets\",\"id\":1.50}", "{\"return\":[],\"id\":1.50}"},
    {"{\"execute\":\"query-fdsets\",\"id\":[1,{\"x\":null},true]}", "{\"return\":[],\"id\":[1,{\"x\":null},true]}"},
    /* What is wrong is said, with the id. */
    {"{\"execute\":\"nonsense\",\"id\":4}",
     "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"The command nonsense has not been found\"},\"id\":4}"},
    {"{\"execute\":\"query-kvm\"}",
     "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"The command query-kvm has not been found\"}}"},
    {"{\"execute\":\"system_powerdown\"}",
     "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"The command system_powerdown has not been found\"}}"},
    {"{\"id\":5}", "{\"error\":{\"class\":\"GenericError\",\"desc\":\"QMP input lacks member 'execute'\"},\"id\":5}"},
    {"{\"execute\":5,\"id\":5}",
     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"QMP input member 'execute' must be a string\"},\"id\":5}"},
    {"{\"execute\":\"query-name\\u0000x\"}",
     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"QMP input member 'execute' must be a string\"}}"},
    {"{\"exec-oob\":\"query-name\"}",
     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"QMP input member 'exec-oob' is unexpected\"}}"},
    {"{\"execute\":\"query-name\",\"arguments\":[]}",
     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"QMP input member 'arguments' must be an object\"}}"},
    {"{\"execute\":\"query-name\",\"arguments\":{\"a\":1}}",
     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"Parameter 'a' is unexpected\"}}"},
    {"{\"execute\":\"change-vnc-password\"}",
     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"Parameter 'password' is missing\"}}"},
    {"{\"execute\":\"change-vnc-password\",\"arguments\":{\"password\":7}}",
     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"Invalid parameter type for 'password', expected: string\"}}"},
    {"[1]", "{\"error\":{\"class\":\"GenericError\",\"desc\":\"QMP input must be a JSON object\"}}"},
    {"null ", "{\"error\":{\"class\":\"GenericError\",\"desc\":\"QMP input must be a JSON object\"}}"},
    {"17 ", "{\"error\":{\"class\":\"GenericError\",\"desc\":\"QMP input must be a JSON object\"}}"},
    {"\"text\"", "{\"error\":{\"class\":\"GenericError\",\"desc\":\"QMP input must be a JSON object\"}}"},
    {"{\"execute\":\"set_password\",\"arguments\":{\"protocol\":\"spice\",\"password\":\"x\"}}",
     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"Parameter 'protocol' must be 'vnc'\"}}"},
    {"{\"execute\":\"add-fd\"}",
     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"No file descriptor supplied via SCM_RIGHTS\"}}"},
    {"{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":9}}",
     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"File descriptor named 'fdset-id:9' not found\"}}"},
    {"{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"info version\"}}", NULL},
    {"{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"info status\"}}",
     "{\"return\":\"VM status: paused (prelaunch)\\r\\n\"}"},
    {"{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"info block\"}}",
     "{\"return\":\"ide-768: /images/disk.img (raw)\\r\\nide-5632: [not inserted]\\r\\n\"}"},
    {"{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"frob 'x'\"}}",
     "{\"return\":\"unknown command: 'frob 'x''\\r\\n\"}"},
    /* Commands of another module. */
    {"{\"execute\":\"custom\",\"arguments\":{\"id\":\"a\"}}", "{\"return\":-7}"},
    {"{\"execute\":\"custom\",\"arguments\":{\"id\":\"a\",\"n\":12}}", "{\"return\":12}"},
    {"{\"execute\":\"custom\",\"arguments\":{\"n\":12}}",
     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"Parameter 'id' is missing\"}}"},
    {"{\"execute\":\"custom\",\"arguments\":{\"id\":\"hdz\",\"fail\":true}}",
     "{\"error\":{\"class\":\"DeviceNotFound\",\"desc\":\"Device 'hdz' not found\"}}"},
    {"{\"execute\":\"custom-open\",\"arguments\":{\"id\":\"a\",\"anything\":[1]}}", "{\"return\":-7}"},
    {"{\"execute\":\"custom-open\",\"arguments\":{\"anything\":[1]}}",
     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"Parameter 'id' is missing\"}}"},
};

static void test_exchanges(void **state)
{
    struct fixture *f = *state;
    int fd = open_session(f);

    for (size_t i = 0; i < sizeof(exchanges) / sizeof(exchanges[0]); i++) {
        const char *reply = ask(f, fd, exchanges[i].request);

        if (exchanges[i].reply) {
            char expected[4096];

            snprintf(expected, sizeof(expected), "%s\r\n", exchanges[i].reply);
            assert_string_equal(reply, expected);
        } else {
            assert_non_null(strstr(reply, "{\"return\":\"7.2.0 (hvm-dm "));
        }
    }
    close(fd);
}

static void test_chardevs_and_cpus(void **state)
{
    struct fixture *f = *state;
    int fd = open_session(f);
    char expected[512];
    struct json_object *reply, *list;

    snprintf(expected, sizeof(expected),
             "{\"return\":[{\"label\":\"libxl-cmd\",\"filename\":\"unix:%s,server=on\",\"frontend-open\":true},"
             "{\"label\":\"serial0\",\"filename\":\"pty:/dev/pts/7\",\"frontend-open\":true},"
             "{\"label\":\"serial1\",\"filename\":\"file:/a?b\",\"frontend-open\":true}]}\r\n",
             f->path);
    assert_string_equal(ask(f, fd, "{\"execute\":\"query-chardev\"}"), expected);

    reply = json_tokener_parse(ask(f, fd, "{\"execute\":\"query-cpus-fast\"}"));
    assert_true(json_object_object_get_ex(reply, "return", &list));
    assert_int_equal(json_object_array_length(list), 2);
    assert_int_equal(qmp_arg_int(json_object_array_get_idx(list, 1), "cpu-index", -1), 1);
    json_object_put(reply);
    reply = json_tokener_parse(ask(f, fd, "{\"execute\":\"query-hotpluggable-cpus\"}"));
    assert_true(json_object_object_get_ex(reply, "return", &list));
    assert_int_equal(json_object_array_length(list), 3);
    assert_non_null(qmp_arg_string(json_object_array_get_idx(list, 0), "type", NULL));
    json_object_put(reply);
    reply = json_tokener_parse(ask(f, fd, "{\"execute\":\"query-commands\"}"));
    assert_true(json_object_object_get_ex(reply, "return", &list));
    assert_string_equal(qmp_arg_string(json_object_array_get_idx(list, 0), "name", ""), "add-fd");
    assert_true(json_object_array_length(list) > 20);
    json_object_put(reply);
    close(fd);
}

static void test_run_state(void **state)
{
    struct fixture *f = *state;
    int fd = open_session(f);
    const char *text = ask(f, fd, "{\"execute\":\"cont\",\"id\":1}");

    /* The event first, then the reply; both whole lines. */
    assert_prefix(text, "{\"event\":\"RESUME\",\"timestamp\":{\"seconds\":");
    assert_non_null(strstr(text, "}}\r\n{\"return\":{},\"id\":1}\r\n"));
    assert_string_equal(f->status, "running");
    assert_string_equal(ask(f, fd, "{\"execute\":\"cont\",\"id\":2}"), "{\"return\":{},\"id\":2}\r\n");
    assert_non_null(strstr(ask(f, fd, "{\"execute\":\"stop\",\"id\":3}"), "{\"event\":\"STOP\""));
    assert_string_equal(ask(f, fd, "{\"execute\":\"query-status\"}"),
                        "{\"return\":{\"status\":\"paused\",\"singlestep\":false,\"running\":false}}\r\n");
    f->stop_refused = true;
    assert_string_equal(ask(f, fd, "{\"execute\":\"stop\"}"),
                        "{\"error\":{\"class\":\"GenericError\",\"desc\":\"cannot stop now\"}}\r\n");
    assert_false(f->quit);
    assert_string_equal(ask(f, fd, "{\"execute\":\"quit\"}"), "{\"return\":{}}\r\n");
    assert_true(f->quit);
    close(fd);
}

static void test_passwords(void **state)
{
    struct fixture *f = *state;
    int fd = open_session(f);

    assert_string_equal(ask(f, fd, "{\"execute\":\"change-vnc-password\",\"arguments\":{\"password\":\"s3cret\"}}"),
                        "{\"return\":{}}\r\n");
    assert_string_equal(f->password, "s3cret");
    assert_string_equal(
        ask(f, fd, "{\"execute\":\"set_password\",\"arguments\":{\"protocol\":\"vnc\",\"password\":\"two\"}}"),
        "{\"return\":{}}\r\n");
    assert_string_equal(f->password, "two");
    f->password_refused = true;
    assert_string_equal(ask(f, fd, "{\"execute\":\"change-vnc-password\",\"arguments\":{\"password\":\"x\"}}"),
                        "{\"error\":{\"class\":\"GenericError\",\"desc\":\"Could not set password\"}}\r\n");
    assert_int_equal(f->password_calls, 2);
    f->vnc_off = true;
    assert_string_equal(ask(f, fd, "{\"execute\":\"query-vnc\"}"), "{\"return\":{\"enabled\":false}}\r\n");
    close(fd);
}

/* Any fragmentation of the input gives the same output, also inside a UTF-8 character. */
static void test_fragments(void **state)
{
    struct fixture *f = *state;
    static const char requests[] =
        "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-name\",\"id\":\"\xc3\xa4\xe2\x82\xac\"}\r\n\r\n"
        "  {\"execute\":\"query-fdsets\"}\xff{\"execute\":\"query-name\"}";
    static const char replies[] =
        "{\"return\":{}}\r\n{\"return\":{\"name\":\"guest, one\"},\"id\":\"\xc3\xa4\xe2\x82\xac\"}\r\n"
        "{\"return\":[]}\r\n{\"return\":{\"name\":\"guest, one\"}}\r\n";

    for (size_t piece = 1; piece < sizeof(requests); piece++) {
        int fd = dial(f, f->path);
        char all[1024] = "";

        hear(f, fd);
        for (size_t at = 0; at < sizeof(requests) - 1; at += piece) {
            size_t n = sizeof(requests) - 1 - at;

            n = n > piece ? piece : n;
            assert_int_equal(send(fd, requests + at, n, MSG_NOSIGNAL), n);
            strcat(all, hear(f, fd));
        }
        assert_string_equal(all, replies);
        close(fd);
        turn(f);
    }
}

/* Garbage gives one error and is thrown away up to the line's end; what follows works. */
static void test_garbage(void **state)
{
    static const char *const garbage[] = {
        "hello {\"execute\":\"quit\"}\n",
        "{\"execute\":\"query-name\",,}\n",
        "}\n",
        "{'execute':'quit'}\n",
        "{\"a\":nope,\"b\":{\"execute\":\"quit\"}}\n",
        "{\"execute\":\"\x01\"}\n",
        "{\"id\":\"\xc3(\"}\n",
        ",\n",
        "{\"a\" \"b\"}\n",
        "{\"id\":\"\xed\xa0\x80\"}\n",
        "{\"id\":\"\xf5\x80\x80\x80\"}\n",
        "/* c */ {}\n",
        "[1 2]\n",
    };
    struct fixture *f = *state;
    int fd = open_session(f);

    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
        const char *reply = ask(f, fd, garbage[i]);

        assert_prefix(reply, "{\"error\":{\"class\":\"GenericError\",\"desc\":\"JSON parse error, ");
        assert_ptr_equal(strstr(reply, "\r\n") + 2, reply + strlen(reply));
        assert_string_equal(ask(f, fd, "{\"execute\":\"query-fdsets\"}\r\n"), "{\"return\":[]}\r\n");
    }
    assert_false(f->quit);
    /* A NUL byte, and garbage without a line end that 0xff ends. */
    assert_int_equal(send(fd, "{\0}\n", 4, 0), 4);
    assert_prefix(hear(f, fd), "{\"error\":");
    assert_int_equal(send(fd, "\0\0\0\n", 4, 0), 4);
    assert_prefix(hear(f, fd), "{\"error\":");
    assert_prefix(ask(f, fd, "\x01\n"), "{\"error\":");
    assert_prefix(ask(f, fd, "xyz"), "{\"error\":");
    assert_string_equal(ask(f, fd, "more\xff{\"execute\":\"query-fdsets\"}"), "{\"return\":[]}\r\n");
    close(fd);
}

/* Sends until the peer closes or all is sent; the peer's answers are thrown away but for the last text. */
static void pour(struct fixture *f, int fd, const char *text, size_t len, size_t times)
{
    for (size_t i = 0; i < times; i++) {
        for (size_t at = 0; at < len;) {
            ssize_t n = send(fd, text + at, len - at, MSG_NOSIGNAL | MSG_DONTWAIT);

            if (n > 0) {
                at += (size_t)n;
            } else if (errno != EAGAIN) {
                return;
            }
            loop_poll(f->loop, 0);
        }
    }
}

static void test_limits(void **state)
{
    static char spaces[4096];
    struct fixture *f = *state;
    int fd = open_session(f);

    /* Larger than 1 MiB. */
    memset(spaces, 'x', sizeof(spaces));
    ask(f, fd, "{\"id\":\"");
    pour(f, fd, spaces, sizeof(spaces), 257);
    assert_string_equal(hear(f, fd),
                        "{\"error\":{\"class\":\"GenericError\",\"desc\":\"the request is larger than 1 MiB\"}}\r\n");
    assert_true(closed(f, fd));
    close(fd);

    /* 64 levels are fine, one more is not. */
    fd = open_session(f);
    {
        char deep[256] = "{\"id\":";

        memset(deep + 6, '[', 62);
        memset(deep + 68, ']', 62);
        strcpy(deep + 130, "}");
        assert_non_null(strstr(ask(f, fd, deep), "lacks member 'execute'"));
        memset(deep + 6, '[', 80);
        deep[86] = '\0';
        assert_string_equal(
            ask(f, fd, deep),
            "{\"error\":{\"class\":\"GenericError\",\"desc\":\"the request is nested deeper than 64 levels\"}}\r\n");
    }
    assert_true(closed(f, fd));
    close(fd);

    /* Small in bytes but a lot of values. */
    fd = open_session(f);
    for (size_t i = 0; i + 2 < sizeof(spaces); i += 3) {
        memcpy(spaces + i, "[],", 3);
    }
    ask(f, fd, "{\"id\":[");
    pour(f, fd, spaces, sizeof(spaces) / 3 * 3, 30);
    assert_string_equal(hear(f, fd),
                        "{\"error\":{\"class\":\"GenericError\",\"desc\":\"the request has too many values\"}}\r\n");
    assert_true(closed(f, fd));
    close(fd);
}

/* A client that asks and does not read: it is no longer read from, and gets everything in order once it reads. */
static void test_slow_reader(void **state)
{
    struct fixture *f = *state;
    int fd = open_session(f);
    size_t sent = 0, replies = 0;
    char text[8192];
    ssize_t n;

    while (sent < 100000) {
        n = send(fd, "{\"execute\":\"query-commands\"}\n", 29, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            turn(f);
            n = send(fd, "{\"execute\":\"query-commands\"}\n", 29, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n < 0) {
                break; /* the server has stopped reading */
            }
        }
        assert_int_equal(n, 29);
        sent++;
        loop_poll(f->loop, 0);
    }
    assert_true(sent < 100000);
    for (int quiet = 0; quiet < 5;) {
        loop_poll(f->loop, 0);
        n = recv(fd, text, sizeof(text), MSG_DONTWAIT);
        quiet = n > 0 ? 0 : quiet + 1;
        for (ssize_t i = 0; i < n; i++) {
            replies += text[i] == '\n';
        }
    }
    assert_int_equal(replies, sent);
    close(fd);
}

/* Events for a client that never reads end the connection at the bound, not our memory. */
static void test_event_overflow(void **state)
{
    struct fixture *f = *state;
    int fd = open_session(f);
    char data[2048] = "{\"x\":\"";

    memset(data + 6, 'y', 2000);
    strcpy(data + 2006, "\"}");
    for (int i = 0; i < 2000; i++) {
        qmp_event(f->q, "TEST", data);
        loop_poll(f->loop, 0);
    }
    assert_true(closed(f, fd));
    close(fd);
    fd = open_session(f); /* and the next client is served */
    qmp_event(f->q, "TEST", NULL);
    assert_prefix(hear(f, fd), "{\"event\":\"TEST\",\"timestamp\":{\"seconds\":");
    close(fd);
}

static void test_one_client_at_a_time(void **state)
{
    struct fixture *f = *state;
    int first = open_session(f);
    int second = dial(f, f->path);
    int third = dial(f, f->path);

    assert_string_equal(hear(f, second), "");
    assert_string_equal(ask(f, first, "{\"execute\":\"query-fdsets\"}"), "{\"return\":[]}\r\n");
    close(first);
    turn(f);
    assert_prefix(hear(f, second), "{\"QMP\":");
    assert_string_equal(hear(f, third), "");
    /* The new connection starts from nothing. */
    assert_non_null(strstr(ask(f, second, "{\"execute\":\"query-fdsets\"}"), "Expecting capabilities negotiation"));
    close(second);
    turn(f);
    assert_prefix(hear(f, third), "{\"QMP\":");
    close(third);
}

static void send_fd(int sock, const char *text, size_t len, int fd)
{
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = len};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(int));
    assert_int_equal(sendmsg(sock, &mh, 0), len);
}

static unsigned open_fds(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < 256; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

static void test_fd_sets(void **state)
{
    struct fixture *f = *state;
    unsigned before = open_fds();
    int sock = open_session(f);
    int rd = open("/dev/null", O_RDONLY), wr = open("/dev/null", O_WRONLY);
    const char *text;
    int fd;

    /* As libxl: the descriptor comes with the first byte, the rest later. */
    send_fd(sock, "{", 1, rd);
    turn(f);
    text = ask(f, sock, "\"execute\":\"add-fd\",\"id\":1,\"arguments\":{\"opaque\":\"raw:/a.iso\"}}\r\n");
    assert_prefix(text, "{\"return\":{\"fdset-id\":0,\"fd\":");
    send_fd(sock, "{", 1, wr);
    text = ask(f, sock, "\"execute\":\"add-fd\"}");
    assert_prefix(text, "{\"return\":{\"fdset-id\":1,\"fd\":");
    send_fd(sock, "{", 1, wr);
    text = ask(f, sock, "\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":0}}");
    assert_prefix(text, "{\"return\":{\"fdset-id\":0,\"fd\":");
    send_fd(sock, "{", 1, wr);
    assert_non_null(strstr(ask(f, sock, "\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":-1}}"), "non-negative"));
    assert_non_null(strstr(ask(f, sock, "{\"execute\":\"query-fdsets\"}"), "\"opaque\":\"raw:/a.iso\""));

    fd = qmp_fdset_dup(f->q, "/dev/fdset/0", O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
    fd = qmp_fdset_dup(f->q, "/dev/fdset/0", O_WRONLY);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_WRONLY);
    close(fd);
    assert_int_equal(qmp_fdset_dup(f->q, "/dev/fdset/0", O_RDWR), -EACCES);
    assert_int_equal(qmp_fdset_dup(f->q, "/dev/fdset/7", O_RDONLY), -ENOENT);
    assert_int_equal(qmp_fdset_dup(f->q, "/dev/fdset/", O_RDONLY), -EINVAL);
    assert_int_equal(qmp_fdset_dup(f->q, "/dev/fdset/0x", O_RDONLY), -EINVAL);
    assert_int_equal(qmp_fdset_dup(f->q, "/dev/fdset/-1", O_RDONLY), -EINVAL);
    assert_int_equal(qmp_fdset_dup(f->q, "/etc/passwd", O_RDONLY), -EINVAL);
    assert_int_equal(qmp_fdset_dup(f->q, "/dev/fdset/99999999999999999999", O_RDONLY), -EINVAL);

    assert_string_equal(ask(f, sock, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":1}}"),
                        "{\"return\":{}}\r\n");
    assert_int_equal(qmp_fdset_dup(f->q, "/dev/fdset/1", O_WRONLY), -ENOENT);

    /* Everything goes with the last client: sets, and descriptors that nothing took; more than the server keeps are
     * closed at once. */
    for (int i = 0; i < 40; i++) {
        send_fd(sock, " ", 1, rd);
        turn(f);
    }
    close(sock);
    turn(f);
    assert_int_equal(qmp_fdset_dup(f->q, "/dev/fdset/0", O_RDONLY), -ENOENT);
    close(rd);
    close(wr);
    assert_int_equal(open_fds(), before);
}

static void test_fd_set_bound(void **state)
{
    struct fixture *f = *state;
    unsigned before = open_fds();
    int sock = open_session(f);
    int rd = open("/dev/null", O_RDONLY);
    unsigned sets = 0;

    for (int i = 0; i < QMP_MAX_FDS + 8; i++) {
        send_fd(sock, "{", 1, rd);
        sets += strstr(ask(f, sock, "\"execute\":\"add-fd\"}"), "\"return\"") != NULL;
    }
    assert_int_equal(sets, QMP_MAX_FDS);
    close(sock);
    turn(f);
    close(rd);
    assert_int_equal(open_fds(), before);
}

static void test_listen_errors(void **state)
{
    struct fixture *f = *state;
    char err[256], path[256];
    int fd;
    struct stat st;

    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    snprintf(path, sizeof(path), "%s/file", f->dir);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    close(fd);
    assert_int_equal(qmp_listen_path(f->q, "x", path, err, sizeof(err)), -EEXIST);
    assert_non_null(strstr(err, "exists and is not a socket"));
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
    snprintf(path, sizeof(path), "%s/no/such", f->dir);
    assert_int_equal(qmp_listen_path(f->q, "x", path, err, sizeof(err)), -ENOENT);
    assert_non_null(strstr(err, path));
    memset(path, 'a', 200);
    path[200] = '\0';
    assert_int_equal(qmp_listen_path(f->q, "x", path, err, sizeof(err)), -ENAMETOOLONG);
    fd = open("/dev/null", O_RDONLY);
    assert_int_equal(qmp_listen_fd(f->q, "x", fd, err, sizeof(err)), -EINVAL);
    assert_non_null(strstr(err, "is not a listening socket"));
    close(fd);
    assert_int_equal(qmp_listen_fd(f->q, "x", 9999, err, sizeof(err)), -EINVAL);
}

/* A socket that libxl made; a stale file is replaced; a file that somebody put in our place stays. */
static void test_listen_fd_and_stale(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char err[256];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int client;

    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/second", f->dir);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    close(fd); /* leaves a stale file */
    assert_int_equal(qmp_listen_path(f->q, "second", sa.sun_path, err, sizeof(err)), 0);
    unlink(sa.sun_path);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(qmp_listen_fd(f->q, "third", fd, err, sizeof(err)), 0);
    client = dial(f, sa.sun_path);
    assert_prefix(hear(f, client), "{\"QMP\":");
    close(client);
    qmp_destroy(f->q);
    f->q = NULL;
    assert_int_equal(access(sa.sun_path, F_OK), 0); /* not the file that "second" made */
    assert_int_equal(unlink(sa.sun_path), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_greeting_and_negotiation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exchanges, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chardevs_and_cpus, setup, teardown),
        cmocka_unit_test_setup_teardown(test_run_state, setup, teardown),
        cmocka_unit_test_setup_teardown(test_passwords, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fragments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_event_overflow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_client_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fd_sets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fd_set_bound, setup, teardown),
        cmocka_unit_test_setup_teardown(test_listen_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_listen_fd_and_stale, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
