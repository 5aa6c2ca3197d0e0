// SPDX-License-Identifier: Apache-2.0
// The log file. When it would grow above its size it becomes NAME-2006-01-02T15-04-05.000.EXT (UTC)
// and a new one begins; old ones go by number and age, and may be compressed: in a thread that the
// first rotation starts, so that the queue goes on being emptied meanwhile.
#include "apiserver/audit/audit_int.h"
#include "apiserver/pki_int.h"
#include "base/clock.h"
#include "base/log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum { PATH_BYTES = 4096, VECTORS = 64, STAMP_CHARS = 23, MAX_OLD = 10000 };

struct log {
    char path[PATH_BYTES];
    bool to_stdout, compress, said;
    int fd;
    int64_t size, max_size;
    int maxage_days, maxbackup;
    // the sweeper
    pthread_t sweeper;
    pthread_mutex_t mu;
    pthread_cond_t wake;
    bool has_sweeper, wanted;
    atomic_bool ending;
};

static int report(struct log *l, const char *what)
{
    if (!l->said)
        kl_log(KL_LOG_ERROR, "audit", "%s %s: %s", what, l->path, strerror(errno));
    l->said = true;
    return KL_EIO;
}

// "dir/", "audit", ".log" of dir/audit.log.
static void split(const struct log *l, struct kl_str *dir, struct kl_str *stem, struct kl_str *ext)
{
    const char *slash = strrchr(l->path, '/'), *base = slash ? slash + 1 : l->path;
    const char *dot = strrchr(base, '.');
    *dir = (struct kl_str){l->path, (size_t)(base - l->path)};
    *stem = dot ? (struct kl_str){base, (size_t)(dot - base)} : kl_str(base);
    *ext = kl_str(dot);
}

static int open_log(struct log *l)
{
    struct stat st;
    l->fd = open(l->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (l->fd < 0)
        return report(l, "open");
    l->size = fstat(l->fd, &st) ? 0 : st.st_size;
    return 0;
}

// What the end of the server interrupts is packed after the next rotation.
static bool pack(const struct log *l, const char *path)
{
    char to[2 * PATH_BYTES + 8], buf[16384];
    snprintf(to, sizeof to, "%s.gz", path);
    int in = open(path, O_RDONLY | O_CLOEXEC);
    int fd = in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    gzFile out = fd < 0 ? NULL : gzdopen(fd, "wb");
    bool ok = out != NULL;
    ssize_t n;
    while (ok && (n = read(in, buf, sizeof buf)) != 0)
        ok = n > 0 && !atomic_load(&l->ending) && gzwrite(out, buf, (unsigned)n) == (int)n;
    if (out)
        ok = gzclose(out) == Z_OK && ok;
    else if (fd >= 0)
        close(fd);
    if (in >= 0)
        close(in);
    unlink(ok ? path : to);
    return ok;
}

// Milliseconds since 1970 of NAME-STAMP.EXT[.gz]; -1: another file.
static int64_t stamp_of(const struct log *l, struct kl_str name)
{
    struct kl_str dir, stem, ext;
    struct tm tm = {0};
    split(l, &dir, &stem, &ext);
    if (kl_str_ends(name, KL_STR(".gz")))
        name.n -= 3;
    if (name.n != stem.n + 1 + STAMP_CHARS + ext.n || !kl_str_starts(name, stem) ||
        name.p[stem.n] != '-' || !kl_str_ends(name, ext))
        return -1;
    char text[STAMP_CHARS + 1];
    memcpy(text, name.p + stem.n + 1, STAMP_CHARS);
    text[STAMP_CHARS] = 0;
    const char *end = strptime(text, "%Y-%m-%dT%H-%M-%S", &tm);
    int64_t ms;
    if (!end || *end != '.' || !kl_str_to_i64(kl_str(end + 1), &ms))
        return -1;
    return (int64_t)timegm(&tm) * 1000 + ms;
}

struct old {
    int64_t ms;
    char *name;
};

static int newest_first(const void *a, const void *b)
{
    const struct old *x = a, *y = b;
    return (x->ms < y->ms) - (x->ms > y->ms);
}

// Removes what is too old or too many and packs one file. True: there may be more to pack.
static bool sweep(const struct log *l)
{
    struct kl_str dir, stem, ext;
    char where[PATH_BYTES], path[2 * PATH_BYTES];
    split(l, &dir, &stem, &ext);
    snprintf(where, sizeof where, "%.*s", (int)(dir.n ? dir.n : 1), dir.n ? dir.p : ".");
    DIR *d = opendir(where);
    struct old *all = calloc(MAX_OLD, sizeof(*all));
    size_t n = 0;
    for (struct dirent *e; d && all && n < MAX_OLD && (e = readdir(d));) {
        int64_t ms = stamp_of(l, kl_str(e->d_name));
        if (ms >= 0 && (all[n].name = strdup(e->d_name)))
            all[n++].ms = ms;
    }
    if (d)
        closedir(d);
    if (all)
        qsort(all, n, sizeof *all, newest_first);
    bool packed = false;
    int64_t oldest = kl_wall_ms() - (int64_t)l->maxage_days * 24 * 3600 * 1000;
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%.*s%s", KL_PRI(dir), all[i].name);
        if ((l->maxbackup > 0 && i >= (size_t)l->maxbackup) ||
            (l->maxage_days > 0 && all[i].ms < oldest))
            unlink(path);
        else if (l->compress && !packed && !kl_str_ends(kl_str(path), KL_STR(".gz")))
            packed = pack(l, path);
        free(all[i].name);
    }
    free(all);
    return packed;
}

static void *run_sweeper(void *arg)
{
    struct log *l = arg;
    pthread_mutex_lock(&l->mu);
    while (!atomic_load(&l->ending)) {
        if (!l->wanted) {
            pthread_cond_wait(&l->wake, &l->mu);
            continue;
        }
        l->wanted = false;
        pthread_mutex_unlock(&l->mu);
        bool more = sweep(l);
        pthread_mutex_lock(&l->mu);
        l->wanted |= more;
    }
    pthread_mutex_unlock(&l->mu);
    return NULL;
}

static void want_sweep(struct log *l)
{
    if (!l->has_sweeper && pthread_create(&l->sweeper, NULL, run_sweeper, l)) {
        kl_log(KL_LOG_ERROR, "audit", "%s: no thread to remove old files", l->path);
        return;
    }
    pthread_mutex_lock(&l->mu);
    l->has_sweeper = l->wanted = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->mu);
}

static int rotate(struct log *l)
{
    struct kl_str dir, stem, ext;
    char to[2 * PATH_BYTES], stamp[32];
    int64_t now = kl_wall_ms();
    time_t s = (time_t)(now / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H-%M-%S", &tm);
    split(l, &dir, &stem, &ext);
    snprintf(to, sizeof to, "%.*s%.*s-%s.%03d%.*s", KL_PRI(dir), KL_PRI(stem), stamp,
             (int)(now % 1000), KL_PRI(ext));
    close(l->fd);
    l->fd = -1;
    if (rename(l->path, to))
        return report(l, "rename");
    int rc = open_log(l);
    want_sweep(l);
    return rc;
}

static int put(struct log *l, struct iovec *v, int n)
{
    while (n) {
        ssize_t w = writev(l->fd, v, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return report(l, "write");
        l->size += w;
        while (n && (size_t)w >= v->iov_len) {
            w -= (ssize_t)v->iov_len;
            v++;
            n--;
        }
        if (n) {
            v->iov_base = (char *)v->iov_base + w;
            v->iov_len -= (size_t)w;
        }
    }
    l->said = false;
    return 0;
}

static int write_log(void *arg, struct kl_bytes *const *events, size_t n)
{
    struct log *l = arg;
    struct iovec v[VECTORS];
    int rc = 0;
    if (l->fd < 0 && (rc = open_log(l)))
        return rc;
    for (size_t i = 0; i < n && !rc;) {
        int k = 0;
        int64_t size = l->size;
        while (i < n && k < VECTORS) {
            if (l->max_size && size && size + events[i]->n > l->max_size)
                break;
            size += events[i]->n;
            v[k++] = (struct iovec){events[i]->p, events[i]->n};
            i++;
        }
        if (k)
            rc = put(l, v, k);
        if (!rc && i < n && l->max_size && l->size && l->size + events[i]->n > l->max_size)
            rc = rotate(l);
    }
    return rc;
}

static void free_log(void *arg)
{
    struct log *l = arg;
    pthread_mutex_lock(&l->mu);
    atomic_store(&l->ending, true);
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->mu);
    if (l->has_sweeper)
        pthread_join(l->sweeper, NULL);
    if (l->fd >= 0 && !l->to_stdout)
        close(l->fd);
    pthread_mutex_destroy(&l->mu);
    pthread_cond_destroy(&l->wake);
    free(l);
}

const struct kl_audit_sink_ops kl_audit_log_ops = {.write = write_log, .free = free_log};

int kl_audit_log_new(const struct kl_api_settings *o, void **ret, struct kl_error *err)
{
    struct log *l = calloc(1, sizeof *l);
    if (!l)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    pthread_mutex_init(&l->mu, NULL);
    pthread_cond_init(&l->wake, NULL);
    l->to_stdout = !strcmp(o->audit_log_path, "-");
    l->compress = o->audit_log_compress;
    l->max_size = l->to_stdout ? 0 : (int64_t)o->audit_log_maxsize_mb << 20;
    l->maxage_days = o->audit_log_maxage_days;
    l->maxbackup = o->audit_log_maxbackup;
    snprintf(l->path, sizeof l->path, "%s", o->audit_log_path);
    l->fd = STDOUT_FILENO;
    int rc = 0;
    if (!l->to_stdout) {
        struct kl_str dir, stem, ext;
        char where[PATH_BYTES];
        split(l, &dir, &stem, &ext);
        snprintf(where, sizeof where, "%.*s", KL_PRI(dir));
        if (dir.n > 1)
            rc = kl_file_make_dirs(where, 0700, err);
        if (!rc && open_log(l))
            rc = kl_error_errno(err, errno, "--audit-log-path %s", l->path);
    }
    if (rc)
        free_log(l);
    else
        *ret = l;
    return rc;
}
