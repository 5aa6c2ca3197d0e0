// SPDX-License-Identifier: Apache-2.0
// Images: the pause image, archives in DATA/agent/images, and the list for the Node's status.
#include "kubelet/kubelet_int.h"
#include "kubelet/oci_archive.h"
#include "kubelet/pause_blob.h"
#include "object/json.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { IMPORT_TIMEOUT_MS = 600000, MAX_STATUS_IMAGES = 50, SETTLE_MS = 1000, RETRY_MS = 60000 };

struct kl_images {
    struct kl_kubelet *k;
    uv_fs_event_t *watch;
    struct kl_timer scan, list;
    bool busy, again, listing;
    struct kl_job job;
    struct kl_map done; // archive's path → "size:mtime" imported
    struct kl_buf status;
    bool loaded;          // what an earlier start imported
    int imported, failed; // by the last job
};

static int import_archive(const struct kl_kubelet_conf *c, const char *path, struct kl_error *err)
{
    const char *const argv[] = {"ctr",
                                "--address",
                                c->socket,
                                "--namespace",
                                "k8s.io",
                                "images",
                                "import",
                                "--snapshotter",
                                kl_containerd_snapshotter(c),
                                path,
                                NULL};
    return kl_run(argv, KL_STR(""), NULL, IMPORT_TIMEOUT_MS, err);
}

int kl_images_import_pause(const struct kl_kubelet_conf *c, struct kl_error *err)
{
    const struct kl_oci_entry entry = {
        "pause", 0755, NULL, {(const char *)kl_pause_blob, kl_pause_blob_bytes}};
    const char *const entrypoint[] = {"/pause", NULL};
    const struct kl_oci_image image = {KL_PAUSE_IMAGE, &entry, 1, entrypoint, NULL, NULL};
    struct kl_path path;
    struct kl_buf b;
    kl_buf_init(&b, 1024 * 1024);
    int r = kl_oci_archive(&b, &image, err);
    if (!r && !kl_path_set(&path, "%s/pause.tar", c->containerd_dir))
        r = kl_error_set(err, KL_ELIMIT, "data directory's path is too long");
    if (!r)
        r = kl_fs_mkdirs(c->containerd_dir, 0700, err);
    if (!r)
        r = kl_fs_write_atomic(path.s, kl_buf_str(&b), 0600, err);
    if (!r)
        r = import_archive(c, path.s, err);
    kl_buf_fini(&b);
    return r;
}

// ---- archives, on a worker; the map is the job's while it runs

// "STAMP PATH" lines beside the images that they speak of: who loses one loses the other.
static bool done_path(const struct kl_images *im, struct kl_path *p)
{
    return kl_path_set(p, "%s/root/imported", im->k->conf.containerd_dir);
}

static void set_done(struct kl_images *im, struct kl_str path, struct kl_str stamp)
{
    void *old = NULL;
    char *copy = kl_strdup(stamp);
    if (kl_map_set(&im->done, path, copy, &old))
        free(copy);
    free(old);
}

static void load_done(struct kl_images *im)
{
    struct kl_path p;
    struct kl_buf b;
    if (im->loaded || !im->k->conf.own_containerd)
        return;
    im->loaded = true;
    kl_buf_init(&b, 1024 * 1024);
    if (done_path(im, &p) && !kl_fs_read(p.s, &b, NULL)) {
        struct kl_str rest = kl_buf_str(&b), line;
        while (kl_str_split(&rest, '\n', &line)) {
            ptrdiff_t at = kl_str_chr(line, ' ');
            if (at > 0)
                set_done(im, kl_str_from(line, (size_t)at + 1),
                         (struct kl_str){line.p, (size_t)at});
        }
    }
    kl_buf_fini(&b);
}

static void store_done(struct kl_images *im)
{
    struct kl_path p;
    struct kl_buf b;
    struct kl_error err;
    if (!im->k->conf.own_containerd || !done_path(im, &p))
        return;
    kl_buf_init(&b, 1024 * 1024);
    KL_MAP_EACH (&im->done, e) {
        kl_buf_printf(&b, "%s %.*s\n", (const char *)e->value, KL_PRI(e->key));
    }
    if (b.err || kl_fs_write_atomic(p.s, kl_buf_str(&b), 0600, &err))
        kl_log(KL_LOG_WARN, "kubelet", "image archives will be imported again: %s",
               b.err ? kl_err_text(b.err) : err.msg);
    kl_buf_fini(&b);
}

static void import_all(struct kl_job *job)
{
    struct kl_images *im = KL_CONTAINER_OF(job, struct kl_images, job);
    const char *dir = im->k->conf.images_dir;
    im->imported = im->failed = 0;
    load_done(im);
    kl_fs_mkdirs(dir, 0755, NULL);
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        struct kl_path p;
        struct stat st;
        struct kl_error err;
        char stamp[80];
        struct kl_str name = kl_str(e->d_name);
        if (!kl_str_ends(name, KL_STR(".tar")) || !kl_path_set(&p, "%s/%s", dir, e->d_name) ||
            stat(p.s, &st))
            continue;
        snprintf(stamp, sizeof(stamp), "%lld:%lld.%09ld", (long long)st.st_size,
                 (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
        char *known = kl_map_get(&im->done, kl_str(p.s));
        if (known && !strcmp(known, stamp))
            continue;
        if (import_archive(&im->k->conf, p.s, &err)) {
            kl_log(KL_LOG_ERROR, "kubelet", "image archive %s: %s", p.s, err.msg);
            im->failed++; // the runtime may have died meanwhile
            continue;
        }
        kl_log(KL_LOG_INFO, "kubelet", "imported image archive %s", p.s);
        im->imported++;
        set_done(im, kl_str(p.s), kl_str(stamp));
    }
    if (d)
        closedir(d);
    if (im->imported)
        store_done(im);
}

static void list_images(struct kl_images *im);

static void import_done(struct kl_job *job)
{
    struct kl_images *im = KL_CONTAINER_OF(job, struct kl_images, job);
    struct kl_kubelet *k = im->k;
    im->busy = false;
    if (!k->stopping) {
        if (im->again)
            kl_timer_after(k->timers, &im->scan, SETTLE_MS);
        else if (im->failed)
            kl_timer_after(k->timers, &im->scan, RETRY_MS);
        if (im->imported)
            kl_timer_after(k->timers, &im->list, SETTLE_MS);
    }
    im->again = false;
    kl_kubelet_release(k);
}

static void on_scan(struct kl_timer *t)
{
    struct kl_images *im = KL_CONTAINER_OF(t, struct kl_images, scan);
    if (!kl_runtime_is_up(im->k->runtime) || im->k->stopping)
        return;
    if (im->busy) {
        im->again = true;
        return;
    }
    im->busy = true;
    im->job.work = import_all;
    im->job.done = import_done;
    kl_kubelet_hold(im->k);
    kl_pool_submit(im->k->pool, &im->job);
}

static void on_fs_event(uv_fs_event_t *h, const char *name, int events, int status)
{
    struct kl_images *im = h->data;
    kl_timer_after(im->k->timers, &im->scan, SETTLE_MS); // a file still being written moves it on
}

// ---- the list

static int by_size(const void *a, const void *b)
{
    const struct kl_cri_image *x = a, *y = b;
    return (x->size < y->size) - (x->size > y->size);
}

static void on_images(void *arg, enum kl_grpc_code code, const void *reply,
                      const struct kl_error *err)
{
    struct kl_images *im = arg;
    struct kl_kubelet *k = im->k;
    const struct kl_cri_list_images_response *r = reply;
    im->listing = false;
    if (!code) {
        // The largest first, as upstream reports them.
        qsort(r->images, r->n_images, sizeof(*r->images), by_size);
        kl_buf_clear(&im->status);
        kl_buf_putc(&im->status, '[');
        for (size_t i = 0; i < r->n_images && i < MAX_STATUS_IMAGES; i++) {
            const struct kl_cri_image *img = &r->images[i];
            bool first = true;
            kl_buf_printf(&im->status, "%s{\"names\":[", i ? "," : "");
            for (size_t j = 0; j < img->n_repo_digests; j++, first = false) {
                kl_buf_puts(&im->status, first ? KL_STR("") : KL_STR(","));
                kl_json_write_string(&im->status, img->repo_digests[j]);
            }
            for (size_t j = 0; j < img->n_repo_tags; j++, first = false) {
                kl_buf_puts(&im->status, first ? KL_STR("") : KL_STR(","));
                kl_json_write_string(&im->status, img->repo_tags[j]);
            }
            kl_buf_printf(&im->status, "],\"sizeBytes\":%lld}", (long long)img->size);
        }
        kl_buf_putc(&im->status, ']');
        if (!k->stopping)
            kl_node_refresh(k->node);
    }
    kl_kubelet_release(k);
}

static void list_images(struct kl_images *im)
{
    if (im->listing || !kl_runtime_is_up(im->k->runtime) || im->k->stopping)
        return;
    struct kl_cri_list_images_request req = {0};
    im->listing = true;
    kl_kubelet_hold(im->k);
    kl_cri_start(im->k->cri, KL_CRI_LIST_IMAGES, &req, 60000, on_images, im, NULL);
}

static void on_list(struct kl_timer *t)
{
    list_images(KL_CONTAINER_OF(t, struct kl_images, list));
}

void kl_images_changed(struct kl_images *im)
{
    kl_timer_after(im->k->timers, &im->list, SETTLE_MS);
}

struct kl_str kl_images_status_json(const struct kl_images *im)
{
    return im->status.n && !im->status.err ? kl_buf_str(&im->status) : KL_STR("[]");
}

void kl_images_runtime_up(struct kl_images *im)
{
    kl_timer_after(im->k->timers, &im->scan, 0);
    kl_timer_after(im->k->timers, &im->list, 0);
}

static void free_handle(uv_handle_t *h)
{
    free(h);
}

int kl_images_new(struct kl_kubelet *k, struct kl_images **ret, struct kl_error *err)
{
    struct kl_images *im = calloc(1, sizeof(*im));
    uv_fs_event_t *w = calloc(1, sizeof(*w));
    if (!im || !w) {
        free(im);
        free(w);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    im->k = k;
    im->scan.cb = on_scan;
    im->list.cb = on_list;
    kl_map_init(&im->done);
    kl_buf_init(&im->status, 1024 * 1024);
    kl_fs_mkdirs(k->conf.images_dir, 0755, NULL);
    uv_fs_event_init(kl_loop_uv(k->loop), w);
    w->data = im;
    im->watch = w;
    uv_fs_event_start(w, on_fs_event, k->conf.images_dir, 0);
    *ret = im;
    return 0;
}

void kl_images_free(struct kl_images *im)
{
    if (!im)
        return;
    kl_timer_cancel(im->k->timers, &im->scan);
    kl_timer_cancel(im->k->timers, &im->list);
    uv_fs_event_stop(im->watch);
    uv_close((uv_handle_t *)im->watch, free_handle);
    KL_MAP_EACH (&im->done, e) {
        free(e->value);
    }
    kl_map_fini(&im->done);
    kl_buf_fini(&im->status);
    free(im);
}
