/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ui/input.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/loop.h"

enum {
    MAX_DEVICES = 20, /* PS/2 and as many USB devices as the command line may name */
    MAX_WATCHERS = 4,
    QUEUE_LEN = 256, /* events; a viewer that fills it between two turns of the loop is flooding */
    DELTA_MAX = 1 << 16, /* merged deltas saturate here */
    ABS_MAX_POS = 32767,
};

struct device {
    const struct input_keyboard *kbd; /* exactly one of the two is set */
    const struct input_pointer *ptr;
    void *dev;
    bool inactive; /* there, but not driven by the guest */
};

struct watcher {
    void (*changed)(void *ui);
    void *ui;
};

/* What other threads write, under `lock`. */
struct queue {
    struct input_event ev[QUEUE_LEN];
    unsigned n;
    bool late_release[256]; /* releases that found the queue full: sent after it */
    bool any_late_release;
    bool late_pointer; /* so did a change of buttons: the newest one is sent after it */
    struct input_event last_pointer;
};

struct input {
    struct loop *loop;
    struct device devices[MAX_DEVICES]; /* in the order they were added; the last one wins */
    unsigned n_devices;
    unsigned leds;
    bool told_absolute; /* what the watchers know of input_has_absolute() */
    struct watcher watchers[MAX_WATCHERS];
    unsigned n_watchers;
    int width, height;
    bool have_pos; /* last_x/y hold the pixel of the last absolute event */
    int last_x, last_y;

    pthread_mutex_t lock;
    struct queue q;
    struct queue work; /* loop thread's copy while it delivers */
    int wake_fd;       /* eventfd, written when q turns non-empty */
    struct watch wake;
};

static int clamp(int v, int lo, int hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* ---- who is told ---- */

static void tell_watchers(struct input *in)
{
    for (unsigned i = 0; i < in->n_watchers; i++) {
        in->watchers[i].changed(in->watchers[i].ui);
    }
}

/* After the list of devices has changed. */
static void devices_changed(struct input *in)
{
    bool absolute = input_has_absolute(in);

    in->have_pos = false;
    if (absolute != in->told_absolute) {
        in->told_absolute = absolute;
        tell_watchers(in);
    }
}

int input_watch(struct input *in, void (*changed)(void *ui), void *ui)
{
    if (in->n_watchers == MAX_WATCHERS) {
        return -ENOSPC;
    }
    in->watchers[in->n_watchers++] = (struct watcher){changed, ui};
    return 0;
}

void input_unwatch(struct input *in, void *ui)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < in->n_watchers; i++) {
        if (in->watchers[i].ui != ui) {
            in->watchers[kept++] = in->watchers[i];
        }
    }
    in->n_watchers = kept;
}

/* ---- devices ---- */

static int add_device(struct input *in, struct device d)
{
    if (in->n_devices == MAX_DEVICES) {
        return -ENOSPC;
    }
    in->devices[in->n_devices++] = d;
    devices_changed(in);
    return 0;
}

int input_add_keyboard(struct input *in, const struct input_keyboard *kbd, void *dev)
{
    return add_device(in, (struct device){.kbd = kbd, .dev = dev});
}

int input_add_pointer(struct input *in, const struct input_pointer *ptr, void *dev)
{
    return add_device(in, (struct device){.ptr = ptr, .dev = dev});
}

void input_remove(struct input *in, void *dev)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < in->n_devices; i++) {
        if (in->devices[i].dev != dev) {
            in->devices[kept++] = in->devices[i];
        }
    }
    in->n_devices = kept;
    devices_changed(in);
}

static const struct device *find_keyboard(const struct input *in)
{
    for (unsigned i = in->n_devices; i-- > 0;) {
        if (in->devices[i].kbd && !in->devices[i].inactive) {
            return &in->devices[i];
        }
    }
    return NULL;
}

static const struct device *find_pointer(const struct input *in, bool absolute)
{
    for (unsigned i = in->n_devices; i-- > 0;) {
        const struct input_pointer *p = in->devices[i].ptr;

        if (p && !in->devices[i].inactive &&
            (absolute ? p->absolute != NULL : p->relative != NULL)) {
            return &in->devices[i];
        }
    }
    return NULL;
}

/* Where a viewer's pointer goes. */
static const struct device *pointer_route(const struct input *in)
{
    const struct device *d = find_pointer(in, true);

    return d ? d : find_pointer(in, false);
}

void input_set_active(struct input *in, const void *dev, bool active)
{
    const struct device *before = pointer_route(in);

    for (unsigned i = 0; i < in->n_devices; i++) {
        if (in->devices[i].dev == dev) {
            in->devices[i].inactive = !active;
        }
    }
    if (pointer_route(in) != before) {
        if (before && before->ptr->relative) {
            before->ptr->relative(before->dev, 0, 0, 0, 0); /* it will not see the release */
        }
        devices_changed(in);
    }
}

void input_set_leds(struct input *in, unsigned leds)
{
    if (leds != in->leds) {
        in->leds = leds;
        tell_watchers(in);
    }
}

unsigned input_leds(const struct input *in)
{
    return in->leds;
}

bool input_has_absolute(const struct input *in)
{
    return find_pointer(in, true) != NULL;
}

/* ---- viewers, loop thread ---- */

int input_position(int64_t pixel, int size)
{
    if (size < 2) {
        return 0;
    }
    pixel = pixel < 0 ? 0 : pixel > size - 1 ? size - 1 : pixel;
    /* Rounded up: libinput divides 32768 steps among the pixels and rounds down; the nearest step
     * would often belong to the pixel before. */
    return (int)((pixel * ABS_MAX_POS + size - 2) / (size - 1));
}

void input_set_size(struct input *in, int width, int height)
{
    in->width = clamp(width, 1, ABS_MAX_POS);
    in->height = clamp(height, 1, ABS_MAX_POS);
    in->have_pos = false; /* the old pixel has no meaning in the new picture */
}

static void send_absolute(struct input *in, const struct input_event *ev)
{
    int x = clamp(ev->x, 0, ABS_MAX_POS);
    int y = clamp(ev->y, 0, ABS_MAX_POS);
    const struct device *d = find_pointer(in, true);

    if (d) {
        d->ptr->absolute(d->dev, x, y, ev->dz, ev->buttons);
        return;
    }

    /* Rounded: a viewer made x out of a pixel, and that very pixel is wanted back. */
    int px = (x * (in->width - 1) + ABS_MAX_POS / 2) / ABS_MAX_POS;
    int py = (y * (in->height - 1) + ABS_MAX_POS / 2) / ABS_MAX_POS;
    int dx = in->have_pos ? px - in->last_x : 0;
    int dy = in->have_pos ? py - in->last_y : 0;

    in->have_pos = true;
    in->last_x = px;
    in->last_y = py;
    d = find_pointer(in, false);
    if (d) {
        d->ptr->relative(d->dev, dx, dy, ev->dz, ev->buttons);
    }
}

/* A release goes to every keyboard: the one that saw the press may not be the guest's choice any
 * more, and a release of what is not held means nothing. */
static void send_key(const struct input *in, const struct input_event *ev)
{
    const struct device *chosen = find_keyboard(in);

    for (unsigned i = 0; i < in->n_devices; i++) {
        const struct device *d = &in->devices[i];

        if (d->kbd && (!ev->down || d == chosen)) {
            d->kbd->key(d->dev, ev->key, ev->down);
        }
    }
}

void input_send(struct input *in, const struct input_event *ev)
{
    const struct device *d;

    switch (ev->type) {
    case INPUT_EVENT_KEY:
        if (ev->key & 0x7f) {
            send_key(in, ev);
        }
        break;
    case INPUT_EVENT_RELATIVE:
        d = find_pointer(in, false);
        if (d) {
            d->ptr->relative(d->dev, ev->x, ev->y, ev->dz, ev->buttons);
        }
        break;
    case INPUT_EVENT_ABSOLUTE:
        send_absolute(in, ev);
        break;
    default:
        break;
    }
}

/* ---- viewers, any thread ---- */

static int add_sat(int a, int b)
{
    return clamp(clamp(a, -DELTA_MAX, DELTA_MAX) + clamp(b, -DELTA_MAX, DELTA_MAX), -DELTA_MAX,
                 DELTA_MAX);
}

/* Folds ev into the newest queued event when both are moves with the same buttons. */
static bool queue_merge(struct queue *q, const struct input_event *ev)
{
    struct input_event *last = q->n ? &q->ev[q->n - 1] : NULL;

    if (!last || ev->type == INPUT_EVENT_KEY || last->type != ev->type ||
        last->buttons != ev->buttons) {
        return false;
    }
    /* The event that brought these buttons carries the place of the click: it stays as it is. */
    bool is_click = true;

    for (unsigned i = q->n - 1; i-- > 0;) {
        if (q->ev[i].type != INPUT_EVENT_KEY) {
            is_click = q->ev[i].buttons != last->buttons;
            break;
        }
    }
    if (is_click) {
        return false;
    }
    if (ev->type == INPUT_EVENT_RELATIVE) {
        last->x = add_sat(last->x, ev->x);
        last->y = add_sat(last->y, ev->y);
    } else {
        last->x = ev->x;
        last->y = ev->y;
    }
    last->dz = add_sat(last->dz, ev->dz);
    return true;
}

/* Makes room by dropping the oldest move (a pointer event that repeats the buttons of the one
 * before it). */
static bool queue_drop_move(struct queue *q)
{
    const struct input_event *prev = NULL;

    for (unsigned i = 0; i < q->n; i++) {
        const struct input_event *e = &q->ev[i];

        if (e->type == INPUT_EVENT_KEY) {
            continue;
        }
        if (prev && prev->buttons == e->buttons) {
            q->n--;
            memmove(&q->ev[i], &q->ev[i + 1], (q->n - i) * sizeof(q->ev[0]));
            return true;
        }
        prev = e;
    }
    return false;
}

static void queue_add(struct queue *q, const struct input_event *ev)
{
    /* Nothing may overtake what is kept back. */
    if (ev->type != INPUT_EVENT_KEY && q->late_pointer) {
        q->last_pointer = *ev;
        return;
    }
    if (ev->type == INPUT_EVENT_KEY && q->late_release[ev->key]) {
        return;
    }
    if (queue_merge(q, ev)) {
        return;
    }
    if (q->n < QUEUE_LEN || queue_drop_move(q)) {
        q->ev[q->n++] = *ev;
    } else if (ev->type != INPUT_EVENT_KEY) {
        q->late_pointer = true;
        q->last_pointer = *ev;
    } else if (!ev->down) {
        q->late_release[ev->key] = true;
        q->any_late_release = true;
    }
}

void input_post(struct input *in, const struct input_event *ev)
{
    pthread_mutex_lock(&in->lock);
    bool was_empty = in->q.n == 0;
    queue_add(&in->q, ev);
    pthread_mutex_unlock(&in->lock);

    if (was_empty) {
        uint64_t one = 1;
        ssize_t n = write(in->wake_fd, &one, sizeof(one));
        (void)
            n; /* cannot fail short of a counter overflow, which means that a wake-up is pending */
    }
}

static void drain(void *arg, uint32_t events)
{
    struct input *in = arg;
    uint64_t count;
    struct queue *q = &in->work;

    (void)events;
    ssize_t n = read(in->wake_fd, &count, sizeof(count));
    (void)n;
    pthread_mutex_lock(&in->lock);
    memcpy(q, &in->q, sizeof(*q));
    memset(&in->q, 0, sizeof(in->q));
    pthread_mutex_unlock(&in->lock);

    for (unsigned i = 0; i < q->n; i++) {
        input_send(in, &q->ev[i]);
    }
    for (unsigned key = 0; q->any_late_release && key < 256; key++) {
        if (q->late_release[key]) {
            input_send(in, &(struct input_event){.type = INPUT_EVENT_KEY, .key = (uint8_t)key});
        }
    }
    if (q->late_pointer) {
        input_send(in, &q->last_pointer);
    }
}

struct input *input_create(struct loop *loop)
{
    struct input *in = calloc(1, sizeof(*in));

    if (!in) {
        return NULL;
    }
    in->loop = loop;
    in->width = 640;
    in->height = 480;
    in->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (in->wake_fd < 0) {
        free(in);
        return NULL;
    }
    pthread_mutex_init(&in->lock, NULL);
    if (loop_watch(loop, &in->wake, in->wake_fd, EPOLLIN, drain, in) < 0) {
        close(in->wake_fd);
        free(in);
        return NULL;
    }
    return in;
}

void input_destroy(struct input *in)
{
    if (!in) {
        return;
    }
    loop_unwatch(&in->wake);
    close(in->wake_fd);
    pthread_mutex_destroy(&in->lock);
    free(in);
}
