// SPDX-License-Identifier: Apache-2.0
#include "store/transfer/snapshot.h"
#include "base/fault.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { CHUNK = 64 << 10, LEVEL = 3, MAGIC_BYTES = 8, SHA_BYTES = 32 };
static const char magic[] = "KLSNAP1\n";

// ---- writing ----

struct writer {
    const char *path;
    int fd;
    EVP_MD_CTX *md;
    z_stream z;
    bool deflating;
    struct kl_buf rows;
    unsigned char out[CHUNK];
};

static int write_all(struct writer *w, const void *data, size_t n, struct kl_error *err)
{
    const char *p = data;
    if (w->md && !EVP_DigestUpdate(w->md, p, n))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    while (n) {
        kl_fault_crash("snapshot.write");
        ssize_t k = write(w->fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return kl_error_errno(err, errno, "snapshot %s", w->path);
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

static int compress_rows(struct writer *w, int flush, struct kl_error *err)
{
    w->z.next_in = (unsigned char *)w->rows.p;
    w->z.avail_in = (unsigned)w->rows.n;
    int rc, r = 0;
    do {
        w->z.next_out = w->out;
        w->z.avail_out = CHUNK;
        rc = deflate(&w->z, flush);
        if (rc == Z_STREAM_ERROR)
            return kl_error_set(err, KL_EINTERNAL, "snapshot %s: zlib", w->path);
        r = write_all(w, w->out, CHUNK - w->z.avail_out, err);
    } while (!r && (w->z.avail_in || (flush == Z_FINISH && rc != Z_STREAM_END)));
    kl_buf_clear(&w->rows);
    return r;
}

static int write_records(struct writer *w, struct kl_source *src, struct kl_snapshot_info *info,
                         struct kl_error *err)
{
    struct kl_record rec;
    int r;
    do {
        r = src->next(src, &rec, err);
        if (r)
            return r;
        if (rec.kind == KL_RECORD_FAIL)
            return kl_record_error(&rec, err);
        if (rec.kind == KL_RECORD_HEADER) {
            info->rev = rec.header.rev;
            info->wall_ms = rec.header.wall_ms;
            info->keys = rec.header.keys;
            info->cluster_id = rec.header.cluster_id;
            memcpy(info->backend, rec.header.backend, sizeof(info->backend));
        }
        if (kl_record_encode(&w->rows, &rec))
            return kl_error_set(err, w->rows.err, "snapshot %s: a record is too large", w->path);
        bool end = rec.kind == KL_RECORD_END;
        if (w->rows.n >= CHUNK || end)
            r = compress_rows(w, end ? Z_FINISH : Z_NO_FLUSH, err);
    } while (!r && rec.kind != KL_RECORD_END);
    return r;
}

static int begin_writer(struct writer *w, struct kl_error *err)
{
    kl_buf_init(&w->rows, KL_RECORD_MAX + CHUNK);
    w->md = EVP_MD_CTX_new();
    if (!w->md || !EVP_DigestInit_ex(w->md, EVP_sha256(), NULL) ||
        deflateInit(&w->z, LEVEL) != Z_OK)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    w->deflating = true;
    return write_all(w, magic, MAGIC_BYTES, err);
}

static int end_writer(struct writer *w, struct kl_error *err)
{
    unsigned char sha[SHA_BYTES];
    if (!EVP_DigestFinal_ex(w->md, sha, NULL))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    EVP_MD_CTX_free(w->md);
    w->md = NULL;
    int r = write_all(w, sha, SHA_BYTES, err);
    kl_fault_crash("snapshot.sync");
    if (!r && fsync(w->fd))
        r = kl_error_errno(err, errno, "snapshot %s", w->path);
    return r;
}

static int sync_parent(const char *path)
{
    char dir[4096];
    snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = 0;
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int e = fd < 0 || fsync(fd) ? errno : 0;
    if (fd >= 0)
        close(fd);
    return e == EINVAL ? 0 : e;
}

int kl_snapshot_write(const char *path, struct kl_source *src, struct kl_snapshot_info *ret,
                      struct kl_error *err)
{
    char tmp[4096];
    struct kl_snapshot_info info = {0};
    struct writer *w = calloc(1, sizeof(*w));
    if (!w)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    w->path = path;
    snprintf(tmp, sizeof(tmp), "%s.tmp", path);
    w->fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r = w->fd < 0 ? kl_error_errno(err, errno, "snapshot %s", tmp) : begin_writer(w, err);
    if (!r)
        r = write_records(w, src, &info, err);
    if (!r)
        r = end_writer(w, err);
    struct stat st;
    if (!r && !fstat(w->fd, &st))
        info.bytes = st.st_size;
    if (w->fd >= 0)
        close(w->fd);
    if (!r && !access(path, F_OK))
        r = kl_error_set(err, KL_EEXISTS, "snapshot %s: exists already", path);
    kl_fault_crash("snapshot.rename");
    if (!r && rename(tmp, path))
        r = kl_error_errno(err, errno, "snapshot %s", path);
    kl_fault_crash("snapshot.named");
    int e = r ? 0 : sync_parent(path);
    if (e)
        r = kl_error_errno(err, e, "directory of snapshot %s", path);
    if (r)
        unlink(tmp);
    if (w->deflating)
        deflateEnd(&w->z);
    EVP_MD_CTX_free(w->md);
    kl_buf_fini(&w->rows);
    free(w);
    if (r)
        return r;
    const char *slash = strrchr(path, '/');
    snprintf(info.name, sizeof(info.name), "%.*s", KL_SNAPSHOT_NAME_MAX, slash ? slash + 1 : path);
    *ret = info;
    return 0;
}

// ---- reading ----

struct reader {
    struct kl_source source;
    char *path;
    int fd;
    int64_t left; // compressed bytes before the digest
    z_stream z;
    bool inflating, inflated, ended;
    struct kl_buf rows; // inflated, not decoded
    size_t used;        // of rows, by the record given out last
    int64_t nrows;
    unsigned char in[CHUNK];
};

static int damaged(struct reader *r, struct kl_error *err, const char *why)
{
    return kl_error_set(err, KL_ECORRUPT, "snapshot %s is damaged: %s", r->path, why);
}

static ssize_t read_some(struct reader *r, void *p, size_t n)
{
    ssize_t k;
    do
        k = read(r->fd, p, n);
    while (k < 0 && errno == EINTR);
    return k;
}

static int read_exactly(struct reader *r, void *p, size_t n, struct kl_error *err)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = read_some(r, (char *)p + at, n - at);
        if (k < 0)
            return kl_error_errno(err, errno, "snapshot %s", r->path);
        if (!k)
            return damaged(r, err, "it ends early");
        at += (size_t)k;
    }
    return 0;
}

static int check_digest(struct reader *r, struct kl_error *err)
{
    unsigned char want[SHA_BYTES], have[SHA_BYTES];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    int rc = !md || !EVP_DigestInit_ex(md, EVP_sha256(), NULL) ||
                     !EVP_DigestUpdate(md, magic, MAGIC_BYTES)
                 ? kl_error_set(err, KL_ENOMEM, "out of memory")
                 : 0;
    for (int64_t left = r->left; !rc && left;) {
        size_t n = left < CHUNK ? (size_t)left : CHUNK;
        rc = read_exactly(r, r->in, n, err);
        if (!rc && !EVP_DigestUpdate(md, r->in, n))
            rc = kl_error_set(err, KL_ENOMEM, "out of memory");
        left -= (int64_t)n;
    }
    if (!rc)
        rc = read_exactly(r, want, SHA_BYTES, err);
    if (!rc && !EVP_DigestFinal_ex(md, have, NULL))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!rc && memcmp(want, have, SHA_BYTES) != 0)
        rc = damaged(r, err, "its digest does not match");
    EVP_MD_CTX_free(md);
    if (!rc && lseek(r->fd, MAGIC_BYTES, SEEK_SET) < 0)
        rc = kl_error_errno(err, errno, "snapshot %s", r->path);
    return rc;
}

static int inflate_more(struct reader *r, struct kl_error *err)
{
    if (r->inflated)
        return damaged(r, err, "it has no end");
    if (kl_buf_reserve(&r->rows, CHUNK))
        return r->rows.err == KL_ELIMIT ? damaged(r, err, "a record is too large")
                                        : kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!r->z.avail_in) {
        size_t n = r->left < CHUNK ? (size_t)r->left : CHUNK;
        if (!n)
            return damaged(r, err, "it ends early");
        int rc = read_exactly(r, r->in, n, err);
        if (rc)
            return rc;
        r->left -= (int64_t)n;
        r->z.next_in = r->in;
        r->z.avail_in = (unsigned)n;
    }
    r->z.next_out = (unsigned char *)r->rows.p + r->rows.n;
    r->z.avail_out = CHUNK;
    int rc = inflate(&r->z, Z_NO_FLUSH);
    if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
        return rc == Z_MEM_ERROR ? kl_error_set(err, KL_ENOMEM, "out of memory")
                                 : damaged(r, err, "it cannot be decompressed");
    r->rows.n += CHUNK - r->z.avail_out;
    r->inflated = rc == Z_STREAM_END;
    return 0;
}

static int next_record(struct kl_source *source, struct kl_record *ret, struct kl_error *err)
{
    struct reader *r = KL_CONTAINER_OF(source, struct reader, source);
    if (r->ended)
        return KL_EEOF;
    for (;;) {
        struct kl_str in = {r->rows.p + r->used, r->rows.n - r->used};
        struct kl_error why;
        int rc = r->rows.n > r->used ? kl_record_decode(&in, ret, &why) : KL_EAGAIN;
        if (rc == KL_EAGAIN) {
            kl_buf_consume(&r->rows, r->used);
            r->used = 0;
            if ((rc = inflate_more(r, err)))
                return rc;
            continue;
        }
        if (rc == KL_EUNSUPPORTED)
            return kl_error_set(err, rc, "snapshot %s has %s", r->path, why.msg);
        if (rc)
            return damaged(r, err, why.msg);
        r->used = r->rows.n - in.n;
        r->nrows += ret->kind == KL_RECORD_ROW;
        r->ended = ret->kind == KL_RECORD_END;
        if (r->ended && ret->end.rows != r->nrows)
            return damaged(r, err, "rows are missing");
        return 0;
    }
}

static void close_reader(struct kl_source *source)
{
    struct reader *r = KL_CONTAINER_OF(source, struct reader, source);
    if (r->inflating)
        inflateEnd(&r->z);
    if (r->fd >= 0)
        close(r->fd);
    kl_buf_fini(&r->rows);
    free(r->path);
    free(r);
}

static int open_reader(const char *path, struct reader **ret, int64_t *ret_bytes,
                       struct kl_error *err)
{
    struct reader *r = calloc(1, sizeof(*r));
    if (!r)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    r->source = (struct kl_source){next_record, close_reader};
    r->fd = -1;
    kl_buf_init(&r->rows, KL_RECORD_MAX + 4 * CHUNK);
    r->path = strdup(path);
    if (!r->path || inflateInit(&r->z) != Z_OK) {
        close_reader(&r->source);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    r->inflating = true;
    struct stat st;
    char head[MAGIC_BYTES];
    int rc = 0;
    r->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0 || fstat(r->fd, &st))
        rc = kl_error_errno(err, errno, "snapshot %s", path);
    else if (!S_ISREG(st.st_mode))
        rc = kl_error_set(err, KL_EINVALID, "snapshot %s is not a regular file", path);
    else if (st.st_size < MAGIC_BYTES + SHA_BYTES)
        rc = damaged(r, err, "it ends early");
    else
        rc = read_exactly(r, head, MAGIC_BYTES, err);
    if (!rc && memcmp(head, magic, MAGIC_BYTES) != 0)
        rc = kl_error_set(err, KL_EINVALID, "%s is not a snapshot of kinglet", path);
    if (rc) {
        close_reader(&r->source);
        return rc;
    }
    r->left = st.st_size - MAGIC_BYTES - SHA_BYTES;
    if (ret_bytes)
        *ret_bytes = st.st_size;
    *ret = r;
    return 0;
}

int kl_snapshot_read(const char *path, struct kl_source **ret_s, struct kl_error *err)
{
    struct reader *r;
    int rc = open_reader(path, &r, NULL, err);
    if (rc)
        return rc;
    rc = check_digest(r, err);
    if (rc)
        close_reader(&r->source);
    else
        *ret_s = &r->source;
    return rc;
}

int kl_snapshot_peek(const char *path, struct kl_snapshot_info *ret, struct kl_error *err)
{
    struct reader *r;
    struct kl_record rec;
    struct kl_snapshot_info info = {0};
    int rc = open_reader(path, &r, &info.bytes, err);
    if (rc)
        return rc;
    rc = next_record(&r->source, &rec, err);
    if (!rc && rec.kind != KL_RECORD_HEADER)
        rc = damaged(r, err, "it does not begin with its header");
    close_reader(&r->source);
    if (rc)
        return rc;
    const char *slash = strrchr(path, '/');
    snprintf(info.name, sizeof(info.name), "%.*s", KL_SNAPSHOT_NAME_MAX, slash ? slash + 1 : path);
    info.rev = rec.header.rev;
    info.wall_ms = rec.header.wall_ms;
    info.keys = rec.header.keys;
    info.cluster_id = rec.header.cluster_id;
    memcpy(info.backend, rec.header.backend, sizeof(info.backend));
    *ret = info;
    return 0;
}
