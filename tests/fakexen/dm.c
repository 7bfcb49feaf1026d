/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device model process: started as libxl starts it, watched until it ends. */
#include "fakexen.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t pid;
static _Atomic bool dead;
static int wait_status;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gone = PTHREAD_COND_INITIALIZER;

static void *reaper(void *arg)
{
    int status = 0;

    (void)arg;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    pthread_mutex_lock(&lock);
    wait_status = status;
    atomic_store(&dead, true);
    pthread_cond_broadcast(&gone);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void child(char *const argv[])
{
    char domid[16];
    int null = open("/dev/null", O_RDONLY);

    sigset_t none;

    /* Our handlers must not run here: they would end the parent. */
    for (int sig = 1; sig < 32; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    if (null >= 0)
        dup2(null, 0);
    if (fx_cfg.log_path) {
        int log = open(fx_cfg.log_path, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (log >= 0) {
            dup2(log, 1);
            dup2(log, 2);
        }
    }
    snprintf(domid, sizeof(domid), "%u", fx_cfg.domid);
    setenv("XEN_DOMAIN_ID", domid, 1);
    setenv("XEN_QEMU_CONSOLE_LIMIT", "1048576", 0);
    setenv("LD_PRELOAD", fx_cfg.preload, 1);
    setenv("FAKEXEN", fx_cfg.control_path, 1);
    /* A sanitizer's runtime objects to not being first; ours replaces nothing it looks at. */
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0:detect_leaks=0", 0);
    atomic_store(&fx_sh->exec_ns, fx_now_ns());
    execvp(argv[0], argv);
    fprintf(stderr, "fakexen: cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

void fx_dm_spawn(char *const argv[])
{
    pthread_t t;
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid = fork();
    if (pid < 0) {
        perror("fakexen: fork");
        exit(1);
    }
    if (pid == 0)
        child(argv);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (pthread_create(&t, NULL, reaper, NULL) != 0)
        exit(1);
    pthread_detach(t);
}

pid_t fx_dm_pid(void)
{
    return pid;
}

bool fx_dm_dead(int *status)
{
    if (!atomic_load(&dead))
        return false;
    *status = wait_status;
    return true;
}

bool fx_dm_wait(uint32_t ms, int *status)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_mutex_lock(&lock);
    while (!atomic_load(&dead))
        if (pthread_cond_timedwait(&gone, &lock, &until) != 0)
            break;
    pthread_mutex_unlock(&lock);
    return fx_dm_dead(status);
}

void fx_dm_describe(char *text, size_t len)
{
    int status;

    if (!fx_dm_dead(&status))
        snprintf(text, len, "running");
    else if (WIFEXITED(status))
        snprintf(text, len, "exited %d", WEXITSTATUS(status));
    else
        snprintf(text, len, "killed by signal %d", WTERMSIG(status));
}
