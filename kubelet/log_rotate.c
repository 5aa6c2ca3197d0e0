// SPDX-License-Identifier: Apache-2.0
// Rotation of container logs (pkg/kubelet/logs): a log over the limit is renamed with a timestamp
// and the runtime told to open it anew; the newest few are kept, uncompressed.
#include "kubelet/log_rotate.h"
#include "kubelet/pods_int.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CHECK_MS = 10000, MAX_BYTES = 10 * 1024 * 1024, MAX_FILES = 5, MAX_ROTATED = 64 };

struct kl_log_rotate {
    struct kl_kubelet *k;
    struct kl_timer timer;
    int under_way; // checks; while there are any, none is added
};

struct rotation {
    struct kl_job job;
    struct kl_kubelet *k;
    char *path, *id, *renamed;
    bool rotated;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Files "N.log.TIMESTAMP" but for the newest `keep`; the names sort by age.
static void remove_rotated(const char *path, int keep)
{
    struct kl_path dir, p;
    char *names[MAX_ROTATED];
    int n = 0;
    kl_path_set(&dir, "%s", path);
    char *base = strrchr(dir.s, '/');
    if (!base)
        return;
    *base++ = 0;
    size_t len = strlen(base);
    DIR *d = opendir(dir.s);
    for (struct dirent *e; d && n < MAX_ROTATED && (e = readdir(d));)
        if (!strncmp(e->d_name, base, len) && e->d_name[len] == '.')
            names[n++] = kl_strdup(kl_str(e->d_name));
    if (d)
        closedir(d);
    qsort(names, (size_t)n, sizeof(names[0]), by_name);
    for (int i = 0; i < n; i++) {
        if (i < n - keep && kl_path_set(&p, "%s/%s", dir.s, names[i]))
            kl_fs_remove_tree(p.s, NULL);
        free(names[i]);
    }
}

void kl_logs_remove(const char *path)
{
    remove_rotated(path, 0);
    unlink(path);
}

static void rotate(struct kl_job *job)
{
    struct rotation *r = KL_CONTAINER_OF(job, struct rotation, job);
    struct stat st;
    struct tm tm;
    char stamp[32];
    time_t now = time(NULL);
    if (stat(r->path, &st)) {
        // Renamed by a rotation that did not come to its end: the runtime makes it anew.
        r->rotated = errno == ENOENT;
        return;
    }
    if (st.st_size < MAX_BYTES)
        return;
    gmtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", &tm);
    r->renamed = kl_asprintf("%s.%s", r->path, stamp);
    r->rotated = rename(r->path, r->renamed) == 0;
    if (r->rotated)
        remove_rotated(r->path, MAX_FILES - 1); // the log itself is one of them
}

static void free_rotation(struct rotation *r)
{
    struct kl_kubelet *k = r->k;
    k->log_rotate->under_way--;
    free(r->path);
    free(r->id);
    free(r->renamed);
    free(r);
    kl_kubelet_release(k);
}

static void on_reopened(void *arg, enum kl_grpc_code code, const void *reply,
                        const struct kl_error *err)
{
    struct rotation *r = arg;
    // Still writing to the renamed file: it gets its name back, nothing is lost.
    if (code && r->renamed && code != KL_GRPC_NOT_FOUND && !kl_fs_exists(r->path) &&
        rename(r->renamed, r->path))
        kl_log(KL_LOG_WARN, "kubelet", "log %s: rotation failed: %s", r->path, err->msg);
    free_rotation(r);
}

static void rotated(struct kl_job *job)
{
    struct rotation *r = KL_CONTAINER_OF(job, struct rotation, job);
    if (!r->rotated) {
        free_rotation(r);
        return;
    }
    struct kl_cri_reopen_container_log_request req = {.container_id = kl_str(r->id)};
    kl_cri_start(r->k->cri, KL_CRI_REOPEN_CONTAINER_LOG, &req, 10000, on_reopened, r, NULL);
}

static void on_timer(struct kl_timer *t)
{
    struct kl_log_rotate *lr = KL_CONTAINER_OF(t, struct kl_log_rotate, timer);
    struct kl_kubelet *k = lr->k;
    if (k->stopping)
        return;
    kl_timer_after(k->timers, &lr->timer, CHECK_MS);
    if (!kl_runtime_is_up(k->runtime) || lr->under_way)
        return;
    KL_MAP_EACH (&k->pods->by_uid, e) {
        struct kl_pod *p = e->value;
        for (struct kl_ctr *c = p->rt.ctrs; c; c = c->next) {
            if (c->state != KL_CTR_RUNNING || !c->log_path)
                continue;
            struct rotation *r = calloc(1, sizeof(*r));
            if (!r)
                return;
            *r = (struct rotation){.job = {.work = rotate, .done = rotated}, .k = k};
            r->path = kl_strdup(kl_str(c->log_path));
            r->id = kl_strdup(kl_str(c->id));
            lr->under_way++;
            kl_kubelet_hold(k);
            kl_pool_submit(k->pool, &r->job);
        }
    }
}

struct kl_log_rotate *kl_log_rotate_new(struct kl_kubelet *k)
{
    struct kl_log_rotate *lr = calloc(1, sizeof(*lr));
    if (!lr)
        return NULL;
    lr->k = k;
    lr->timer.cb = on_timer;
    kl_timer_after(k->timers, &lr->timer, CHECK_MS);
    return lr;
}

void kl_log_rotate_free(struct kl_log_rotate *lr)
{
    if (!lr)
        return;
    kl_timer_cancel(lr->k->timers, &lr->timer);
    free(lr);
}
