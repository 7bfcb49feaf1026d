/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fakexen: a hypervisor for one domain without hardware, guest code or privilege. See README. */
#include "fakexen.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct fx_config fx_cfg = { .domid = 1, .vcpus = 1, .mem_mib = 64, .video_mib = 8,
                            .timeout_ms = 10000 };
int fx_evtchn_write_fd[FX_HANDLES];

static _Atomic uint32_t handles_used;
static int quit_pipe[2];
static pid_t main_pid;

uint64_t fx_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

void fx_quit(void)
{
    ssize_t n = write(quit_pipe[1], "q", 1);
    (void)n;
}

static void on_signal(int sig)
{
    (void)sig;
    fx_quit();
}

static int listen_at(const char *path, int type)
{
    struct sockaddr_un sun = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    if (fd < 0 || strlen(path) >= sizeof(sun.sun_path)) {
        fprintf(stderr, "fakexen: socket %s: too long or no socket\n", path);
        exit(1);
    }
    strcpy(sun.sun_path, path);
    unlink(path);
    if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 || listen(fd, 64) < 0) {
        fprintf(stderr, "fakexen: %s: %s\n", path, strerror(errno));
        exit(1);
    }
    return fd;
}

static void answer(int fd, struct fx_ctl_msg *msg, const int *fds, size_t n)
{
    struct iovec iov = { msg, sizeof(*msg) };
    union {
        struct cmsghdr hdr;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control = { 0 };
    struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (n) {
        hdr.msg_control = &control;
        hdr.msg_controllen = CMSG_SPACE(n * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&hdr);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n * sizeof(int));
    }
    sendmsg(fd, &hdr, MSG_NOSIGNAL);
}

/* Carries out one request of the library. */
static void control_request(int fd, struct fx_ctl_msg *msg)
{
    int fds[2], own[2] = { -1, -1 };

    msg->error = 0;
    switch (msg->op) {
    case FX_CTL_ATTACH:
        answer(fd, msg, (int[]){ fx_shared_fd, fx_machine_fd }, 2);
        return;
    case FX_CTL_EVTCHN:
        msg->value = atomic_fetch_add(&handles_used, 1);
        if (msg->value >= FX_HANDLES || pipe2(fds, O_CLOEXEC) < 0) {
            msg->error = EMFILE;
            break;
        }
        answer(fd, msg, fds, 2);
        close(fds[0]);
        fx_evtchn_write_fd[msg->value] = fds[1];
        return;
    case FX_CTL_EVTCHN_CLOSE:
        break;
    case FX_CTL_XS:
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0 ||
            socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, own) < 0) {
            msg->error = EMFILE;
            break;
        }
        answer(fd, msg, (int[]){ fds[0], own[0] }, 2);
        close(fds[0]);
        close(own[0]);
        fx_xs_serve(fds[1], own[1]);
        return;
    default:
        msg->error = ENOSYS;
    }
    answer(fd, msg, NULL, 0);
}

static void *control_thread(void *arg)
{
    int fd = (int)(intptr_t)arg;
    struct fx_ctl_msg msg;

    while (recv(fd, &msg, sizeof(msg), 0) == sizeof(msg))
        control_request(fd, &msg);
    close(fd);
    return NULL;
}

static void *client_thread(void *arg)
{
    fx_qtest_serve((int)(intptr_t)arg);
    return NULL;
}

static void accept_into(int listener, void *(*fn)(void *))
{
    pthread_t t;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    if (pthread_create(&t, NULL, fn, (void *)(intptr_t)fd) == 0)
        pthread_detach(t);
    else
        close(fd);
}

/* The nodes that libxl has written by the time it starts a device model. */
static void fill_xenstore(void)
{
    char path[128], value[32];

    snprintf(path, sizeof(path), "/local/domain/0/device-model/%u", fx_cfg.domid);
    fx_xs_set(path, "", 0);
    snprintf(path, sizeof(path), "/local/domain/%u/hvmloader/bios", fx_cfg.domid);
    fx_xs_set(path, "seabios", 7);
    snprintf(path, sizeof(path), "/local/domain/%u/hvmloader/allow-memory-relocate", fx_cfg.domid);
    fx_xs_set(path, "0", 1);
    snprintf(path, sizeof(path), "/local/domain/%u/platform/device-model", fx_cfg.domid);
    fx_xs_set(path, "qemu_xen", 8);
    snprintf(path, sizeof(path), "/local/domain/%u/platform/acpi", fx_cfg.domid);
    fx_xs_set(path, "1", 1);
    snprintf(path, sizeof(path), "/local/domain/%u/memory/videoram", fx_cfg.domid);
    snprintf(value, sizeof(value), "%u", fx_cfg.video_mib * 1024);
    fx_xs_set(path, value, strlen(value));
    /* libxl makes a PV keyboard for every HVM guest; 1: the backend has yet to appear */
    snprintf(path, sizeof(path), "/local/domain/0/backend/vkbd/%u/0/state", fx_cfg.domid);
    fx_xs_set(path, "1", 1);
    fx_xs_set("/local/domain/0/name", "Domain-0", 8);
    fx_xs_set("/local/domain/0/domid", "0", 1);
}

static void usage(void)
{
    fprintf(stderr,
            "usage: fakexen --qtest SOCKET --control SOCKET --preload LIBFAKEXEN.SO [options] --\n"
            "               DEVICE-MODEL ARGS...\n"
            "  --domid N        domain id (1)\n"
            "  --vcpus N        virtual CPUs (1)\n"
            "  --mem MIB        guest RAM without video memory (64)\n"
            "  --video MIB      video memory allowance (8)\n"
            "  --timeout MS     longest wait for one answer (10000)\n"
            "  --log FILE       device model's stdout and stderr\n"
            "  --at-running SOCKET  connect to it when \"running\" is written (up to 4 times)\n");
    exit(2);
}

static uint32_t number(const char *text, uint32_t max)
{
    char *end;
    unsigned long v = strtoul(text, &end, 0);

    if (*end || !*text || v > max)
        usage();
    return (uint32_t)v;
}

static void parse(int argc, char **argv)
{
    static const struct option options[] = {
        { "qtest", required_argument, NULL, 'q' },   { "control", required_argument, NULL, 'c' },
        { "preload", required_argument, NULL, 'p' }, { "domid", required_argument, NULL, 'd' },
        { "vcpus", required_argument, NULL, 'v' },   { "mem", required_argument, NULL, 'm' },
        { "video", required_argument, NULL, 'g' },   { "timeout", required_argument, NULL, 't' },
        { "log", required_argument, NULL, 'l' },     { "at-running", required_argument, NULL, 'r' },
        { NULL, 0, NULL, 0 }
    };
    int c, n_running = 0;

    while ((c = getopt_long(argc, argv, "+", options, NULL)) >= 0) {
        switch (c) {
        case 'q': fx_cfg.qtest_path = optarg; break;
        case 'c': fx_cfg.control_path = optarg; break;
        case 'p': fx_cfg.preload = optarg; break;
        case 'd': fx_cfg.domid = number(optarg, 32751); break;
        case 'v': fx_cfg.vcpus = number(optarg, FX_MAX_VCPUS); break;
        case 'm': fx_cfg.mem_mib = number(optarg, 12288); break;
        case 'g': fx_cfg.video_mib = number(optarg, 1024); break;
        case 't': fx_cfg.timeout_ms = number(optarg, 3600000); break;
        case 'l': fx_cfg.log_path = optarg; break;
        case 'r':
            if (n_running < 4)
                fx_cfg.at_running[n_running++] = optarg;
            break;
        default: usage();
        }
    }
    if (!fx_cfg.qtest_path || !fx_cfg.control_path || !fx_cfg.preload || !fx_cfg.vcpus ||
        optind >= argc)
        usage();
}

static void cleanup(void)
{
    if (getpid() != main_pid)
        return;
    unlink(fx_cfg.qtest_path);
    unlink(fx_cfg.control_path);
}

int main(int argc, char **argv)
{
    int status;

    parse(argc, argv);
    main_pid = getpid();
    if (pipe2(quit_pipe, O_CLOEXEC) < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGHUP, on_signal);
    fx_domain_create();
    fill_xenstore();
    int control = listen_at(fx_cfg.control_path, SOCK_SEQPACKET);
    int clients = listen_at(fx_cfg.qtest_path, SOCK_STREAM);
    atexit(cleanup);
    fx_dm_spawn(argv + optind);

    struct pollfd fds[3] = { { control, POLLIN, 0 }, { clients, POLLIN, 0 },
                             { quit_pipe[0], POLLIN, 0 } };
    for (;;) {
        if (poll(fds, 3, -1) < 0 && errno != EINTR)
            break;
        if (fds[0].revents)
            accept_into(control, control_thread);
        if (fds[1].revents)
            accept_into(clients, client_thread);
        if (fds[2].revents)
            break;
    }
    if (!fx_dm_dead(&status)) {
        kill(fx_dm_pid(), SIGKILL);
        fx_dm_wait(2000, &status);
    }
    return 0;
}
