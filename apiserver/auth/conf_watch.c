// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/conf_watch.h"
#include "apiserver/auth/authn_int.h"
#include "base/log.h"
#include <stdlib.h>
#include <sys/stat.h>

// The directories are watched, not the files: editors and ConfigMap volumes put new files in their
// places. Some file systems tell nothing, so there is a look once a minute besides, as upstream.
enum { FILES = 2, SETTLE_MS = 50, LOOK_MS = 60 * 1000 };

struct kl_conf_watch {
    struct kl_authn *authn;
    const char *file[FILES];
    struct {
        int64_t mtime_ns, size, inode;
    } seen[FILES];
    uv_fs_event_t event[FILES];
    uv_timer_t timer;
    int handles;
};

static bool has_changed(struct kl_conf_watch *w)
{
    bool yes = false;
    for (int i = 0; i < FILES; i++) {
        struct stat st;
        if (!w->file[i] || stat(w->file[i], &st))
            continue;
        int64_t t = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
        if (t != w->seen[i].mtime_ns || st.st_size != w->seen[i].size ||
            (int64_t)st.st_ino != w->seen[i].inode) {
            yes = true;
            w->seen[i].mtime_ns = t;
            w->seen[i].size = st.st_size;
            w->seen[i].inode = (int64_t)st.st_ino;
        }
    }
    return yes;
}

static void look(uv_timer_t *t)
{
    struct kl_conf_watch *w = t->data;
    struct kl_error err = {0};
    if (!has_changed(w))
        return;
    if (kl_authn_load_conf(w->authn, &err))
        kl_log(KL_LOG_ERROR, "apiserver", "configuration of authentication not reloaded: %s",
               err.msg);
    else
        kl_log(KL_LOG_INFO, "apiserver", "configuration of authentication reloaded");
}

static void on_event(uv_fs_event_t *e, const char *name, int events, int status)
{
    struct kl_conf_watch *w = e->data;
    (void)name, (void)events, (void)status;
    uv_timer_start(&w->timer, look, SETTLE_MS, LOOK_MS); // several come for one change
}

static void on_closed(uv_handle_t *h)
{
    struct kl_conf_watch *w = h->data;
    if (!--w->handles)
        free(w);
}

static char *directory_of(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash ? strndup(file, slash == file ? 1 : (size_t)(slash - file)) : strdup(".");
}

int kl_conf_watch_start(struct kl_loop *loop, struct kl_authn *n, struct kl_conf_watch **ret,
                        struct kl_error *err)
{
    const char *const file[FILES] = {n->settings->authentication_config,
                                     n->settings->authorization_config};
    *ret = NULL;
    if (!file[0] && !file[1])
        return 0;
    struct kl_conf_watch *w = calloc(1, sizeof *w);
    if (!w)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    w->authn = n;
    uv_timer_init(kl_loop_uv(loop), &w->timer);
    w->timer.data = w;
    w->handles = 1;
    for (int i = 0; i < FILES; i++) {
        if (!(w->file[i] = file[i]))
            continue;
        char *dir = directory_of(file[i]);
        uv_fs_event_init(kl_loop_uv(loop), &w->event[i]);
        w->event[i].data = w;
        w->handles++;
        if (!dir || uv_fs_event_start(&w->event[i], on_event, dir, 0))
            kl_log(KL_LOG_WARN, "apiserver", "cannot watch file=%s: looked at once a minute",
                   file[i]);
        free(dir);
    }
    has_changed(w); // what it is now
    uv_timer_start(&w->timer, look, LOOK_MS, LOOK_MS);
    *ret = w;
    return 0;
}

void kl_conf_watch_stop(struct kl_conf_watch *w)
{
    if (!w)
        return;
    for (int i = 0; i < FILES; i++)
        if (w->file[i])
            uv_close((uv_handle_t *)&w->event[i], on_closed);
    uv_close((uv_handle_t *)&w->timer, on_closed);
}
