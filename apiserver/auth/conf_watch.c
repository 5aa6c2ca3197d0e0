// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/conf_watch.h"
#include "apiserver/auth/authn_int.h"
#include "apiserver/self.h"
#include "base/clock.h"
#include "base/log.h"
#include <openssl/sha.h>
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

// A bit for each file.
static unsigned changes(struct kl_conf_watch *w)
{
    unsigned which = 0;
    for (int i = 0; i < FILES; i++) {
        struct stat st;
        if (!w->file[i] || stat(w->file[i], &st))
            continue;
        int64_t t = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
        if (t != w->seen[i].mtime_ns || st.st_size != w->seen[i].size ||
            (int64_t)st.st_ino != w->seen[i].inode) {
            which |= 1u << i;
            w->seen[i].mtime_ns = t;
            w->seen[i].size = st.st_size;
            w->seen[i].inode = (int64_t)st.st_ino;
        }
    }
    return which;
}

static void count(struct kl_authn *n, unsigned which, bool done)
{
    for (int i = 0; i < FILES; i++) {
        if (!(which >> i & 1))
            continue;
        atomic_fetch_add_explicit(&n->reloads[i][done].n, 1, memory_order_relaxed);
        atomic_store_explicit(&n->reloads[i][done].last_ms, kl_wall_ms(), memory_order_relaxed);
    }
}

static void look(uv_timer_t *t)
{
    struct kl_conf_watch *w = t->data;
    struct kl_error err = {0};
    unsigned which = changes(w);
    if (!which)
        return;
    bool done = !kl_authn_load_conf(w->authn, &err);
    count(w->authn, which, done);
    if (!done)
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
    changes(w); // what it is now
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

static void put_id_hash(struct kl_buf *b)
{
    char id[KL_SELF_ID_SIZE];
    unsigned char hash[SHA256_DIGEST_LENGTH];
    kl_self_id(id);
    SHA256((const unsigned char *)id, strlen(id), hash);
    kl_buf_puts(b, KL_STR("sha256:"));
    for (size_t i = 0; i < sizeof hash; i++)
        kl_buf_printf(b, "%02x", hash[i]);
}

void kl_conf_watch_metrics(const struct kl_authn *n, struct kl_buf *b)
{
    static const char *const subjects[FILES] = {"authentication", "authorization"};
    static const char *const statuses[] = {"failure", "success"};
    static const struct {
        const char *name, *kind, *help;
    } metrics[] = {
        {"reloads_total", "counter", "Total number of automatic reloads"},
        {"reload_last_timestamp_seconds", "gauge", "Timestamp of the last automatic reload"}};
    for (size_t m = 0; m < KL_COUNT(metrics); m++)
        for (int i = 0; i < FILES; i++) {
            bool any = false;
            for (int done = 0; done < 2; done++) {
                const struct kl_conf_reloads *r = &n->reloads[i][done];
                long long times = atomic_load_explicit(&r->n, memory_order_relaxed);
                long long last_ms = atomic_load_explicit(&r->last_ms, memory_order_relaxed);
                if (!times)
                    continue;
                if (!any)
                    kl_buf_printf(b,
                                  "# HELP apiserver_%s_config_controller_automatic_%s [BETA] %s of "
                                  "%s configuration split by status and apiserver identity.\n"
                                  "# TYPE apiserver_%s_config_controller_automatic_%s %s\n",
                                  subjects[i], metrics[m].name, metrics[m].help, subjects[i],
                                  subjects[i], metrics[m].name, metrics[m].kind);
                any = true;
                kl_buf_printf(b, "apiserver_%s_config_controller_automatic_%s{apiserver_id_hash=\"",
                              subjects[i], metrics[m].name);
                put_id_hash(b);
                kl_buf_printf(b, "\",status=\"%s\"} ", statuses[done]);
                if (m)
                    kl_buf_printf(b, "%.3f\n", (double)last_ms / 1000);
                else
                    kl_buf_printf(b, "%lld\n", times);
            }
        }
}
