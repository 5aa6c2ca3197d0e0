// SPDX-License-Identifier: Apache-2.0
// Maintenance.Snapshot: a snapshot file of ours (store/transfer/snapshot.h) as a stream. A thread
// writes it to a temporary file that has no name any more, and then reads it piece by piece as the
// connection takes it.
//
// As etcd's it ends with the SHA-256 of all before it, and the length before that is a multiple of
// 512, by which etcdctl knows that the digest is there. So the file's own digest is left out, zeros
// fill the gap, and the new digest stands where the old one stood: `kinglet snapshot restore` reads
// what `etcdctl snapshot save` saved.
#include "store/etcd/maintenance_int.h"
#include "store/transfer/snapshot.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHA_BYTES = 32, UNIT = 512 };

enum step { STEP_IDLE, STEP_READ, STEP_STOP };

struct job {
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_etcd *e;
    struct kl_loop *loop;
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    enum step step;           // under mu
    struct kl_source *source; // under mu while it is written
    struct kl_task told;      // a piece is there, or the thread has ended
    bool telling, over;       // under mu: told is on its way; nothing more comes

    // The thread's until it tells, then the loop's until the next step.
    int fd;
    int64_t left; // of the padded stream without its digest
    int64_t file; // of the file
    EVP_MD_CTX *md;
    struct kl_bytes *piece;
    bool ended;
    int code;
    struct kl_error err;
};

// ---- the thread

static void tell(struct job *j, bool over)
{
    pthread_mutex_lock(&j->mu);
    j->over = over;
    if (!j->telling)
        kl_loop_post(j->loop, &j->told);
    j->telling = true;
    pthread_mutex_unlock(&j->mu);
}

static enum step next_step(struct job *j)
{
    pthread_mutex_lock(&j->mu);
    while (j->step == STEP_IDLE)
        pthread_cond_wait(&j->cond, &j->mu);
    enum step s = j->step;
    if (s == STEP_READ)
        j->step = STEP_IDLE;
    pthread_mutex_unlock(&j->mu);
    return s;
}

static void set_source(struct job *j, struct kl_source *s)
{
    pthread_mutex_lock(&j->mu);
    j->source = s;
    if (s && j->step == STEP_STOP)
        kl_store_source_cancel(s);
    pthread_mutex_unlock(&j->mu);
}

static int write_file(struct job *j, const char *path)
{
    struct kl_source_from from = {0};
    struct kl_snapshot_info info;
    struct kl_source *src;
    int rc = kl_store_source_new(j->e->store, &from, &src, &j->err);
    if (rc)
        return rc;
    set_source(j, src);
    rc = kl_snapshot_write(path, src, &info, &j->err);
    set_source(j, NULL);
    src->close(src);
    if (rc)
        return rc;
    j->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (j->fd < 0)
        rc = kl_error_errno(&j->err, errno, "snapshot %s", path);
    unlink(path);
    j->file = info.bytes - SHA_BYTES;
    j->left = (j->file + UNIT - 1) / UNIT * UNIT;
    return rc;
}

static int make_file(struct job *j)
{
    char dir[3900], path[4096];
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof(dir), "%s/kinglet-snapshot-XXXXXX", tmp && tmp[0] == '/' ? tmp : "/tmp");
    if (!mkdtemp(dir))
        return kl_error_errno(&j->err, errno, "snapshot in %s", dir);
    snprintf(path, sizeof(path), "%s/snapshot", dir);
    int rc = write_file(j, path);
    rmdir(dir);
    return rc;
}

// One piece of the file, zeros behind it, and last the digest.
static int read_piece(struct job *j)
{
    unsigned char sha[SHA_BYTES];
    int64_t chunk = (int64_t)j->e->o.max_snapshot_chunk_bytes;
    size_t n = (size_t)(j->left < chunk ? j->left : chunk), at = 0;
    if (!n) {
        j->ended = true;
        j->piece = EVP_DigestFinal_ex(j->md, sha, NULL)
                       ? kl_bytes_new((struct kl_str){(char *)sha, SHA_BYTES})
                       : NULL;
        return j->piece ? 0 : KL_ENOMEM;
    }
    j->piece = kl_bytes_alloc(n);
    if (!j->piece)
        return KL_ENOMEM;
    while (at < n && j->file > 0) {
        ssize_t k = read(j->fd, j->piece->p + at, (int64_t)(n - at) < j->file ? n - at : j->file);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return kl_error_errno(&j->err, k ? errno : EIO, "snapshot's temporary file");
        at += (size_t)k;
        j->file -= k;
    }
    memset(j->piece->p + at, 0, n - at);
    j->left -= (int64_t)n;
    return EVP_DigestUpdate(j->md, j->piece->p, n) ? 0 : KL_ENOMEM;
}

static void *run_job(void *arg)
{
    struct job *j = arg;
    j->code = make_file(j);
    while (!j->code && !j->ended && next_step(j) == STEP_READ) {
        j->code = read_piece(j);
        if (!j->code && !j->ended)
            tell(j, false);
    }
    tell(j, true);
    return NULL;
}

// ---- the loop

static void free_job(struct job *j)
{
    atomic_store(&j->e->snapshotting, false);
    pthread_join(j->thread, NULL);
    if (j->fd >= 0)
        close(j->fd);
    EVP_MD_CTX_free(j->md);
    kl_bytes_unref(j->piece);
    pthread_cond_destroy(&j->cond);
    pthread_mutex_destroy(&j->mu);
    kl_grpc_rpc_set_data(j->rpc, NULL);
    kl_grpc_rpc_unref(j->rpc);
    free(j);
}

// Without a header, as etcd does.
static void send_piece(struct job *j)
{
    struct kl_etcd_snapshot_response r = {.remaining_bytes = (uint64_t)j->left,
                                          .blob = kl_bytes_str(j->piece),
                                          .version = KL_STR(KL_ETCD_CLUSTER_VERSION)};
    kl_etcd_send(j->rpc, &kl_etcd_snapshot_response_desc, &r);
    kl_bytes_unref(j->piece);
    j->piece = NULL;
}

static void on_told(struct kl_task *t)
{
    struct job *j = KL_CONTAINER_OF(t, struct job, told);
    bool closed = kl_grpc_rpc_closed(j->rpc);
    pthread_mutex_lock(&j->mu);
    bool over = j->over;
    j->telling = false;
    pthread_mutex_unlock(&j->mu);
    if (closed && !over)
        return; // the thread was told to stop
    if (j->code && !closed)
        kl_etcd_fail(j->rpc, j->code, &j->err);
    else if (j->piece && !closed)
        send_piece(j);
    if (!over) {
        kl_grpc_rpc_want_send(j->rpc);
        return;
    }
    kl_grpc_rpc_finish(j->rpc, KL_GRPC_OK, NULL);
    free_job(j);
}

static void set_step(struct job *j, enum step step)
{
    pthread_mutex_lock(&j->mu);
    if (j->step != STEP_STOP)
        j->step = step;
    if (step == STEP_STOP && j->source)
        kl_store_source_cancel(j->source);
    pthread_cond_signal(&j->cond);
    pthread_mutex_unlock(&j->mu);
}

void kl_etcd_snapshot_ready(struct kl_grpc_rpc *c)
{
    struct job *j = kl_grpc_rpc_data(c);
    if (j)
        set_step(j, STEP_READ);
}

void kl_etcd_snapshot_close(struct kl_grpc_rpc *c)
{
    struct job *j = kl_grpc_rpc_data(c);
    if (j)
        set_step(j, STEP_STOP);
}

void kl_etcd_snapshot(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd *e = kl_etcd_of(c);
    if (atomic_exchange(&e->snapshotting, true)) {
        kl_etcd_fail(c, KL_ETOOMANY, NULL);
        return;
    }
    struct job *j = calloc(1, sizeof(*j));
    if (j) {
        j->rpc = c;
        j->e = e;
        j->loop = kl_grpc_rpc_loop(c);
        j->fd = -1;
        j->step = STEP_READ;
        j->told.run = on_told;
        j->md = EVP_MD_CTX_new();
        pthread_mutex_init(&j->mu, NULL);
        pthread_cond_init(&j->cond, NULL);
    }
    if (!j || !j->md || !EVP_DigestInit_ex(j->md, EVP_sha256(), NULL) ||
        pthread_create(&j->thread, NULL, run_job, j)) {
        if (j) {
            EVP_MD_CTX_free(j->md);
            pthread_cond_destroy(&j->cond);
            pthread_mutex_destroy(&j->mu);
        }
        free(j);
        atomic_store(&e->snapshotting, false);
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return;
    }
    kl_grpc_rpc_ref(c);
    kl_grpc_rpc_set_data(c, j);
}
