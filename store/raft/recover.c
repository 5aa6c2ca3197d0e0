// SPDX-License-Identifier: Apache-2.0
// While no server runs: the identity, and a cluster of one from what one server has.
#include "store/raft/raft_int.h"
#include "store/store_int.h"
#include "store/transfer/access.h"
#include "base/fault.h"
#include "base/rand.h"
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REVISIONS_UP = 1000000 };

static int find_id(const char *dir, uint64_t given, uint64_t *ret_id, struct kl_error *err)
{
    char path[4096], tmp[4096], text[32] = "";
    snprintf(path, sizeof(path), "%s/server-id", dir);
    snprintf(tmp, sizeof(tmp), "%s/server-id.new", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, text, sizeof(text) - 1);
        close(fd);
        char *end;
        errno = 0;
        uint64_t id = n > 0 ? strtoull(text, &end, 16) : 0;
        if (n <= 0 || errno || !id)
            return kl_error_set(err, KL_ECORRUPT, "datastore %s is damaged: not a server's id",
                                path);
        *ret_id = id;
        return 0;
    }
    if (errno != ENOENT)
        return kl_error_errno(err, errno, "datastore %s", path);
    if (mkdir(dir, 0700) && errno != EEXIST)
        return kl_error_errno(err, errno, "datastore directory %s", dir);
    uint64_t id = given ? given : kl_rand_u64() >> 1 | 1;
    int n = snprintf(text, sizeof(text), "%016llx\n", (unsigned long long)id);
    fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int e = fd < 0 ? errno : write(fd, text, (size_t)n) != n || fsync(fd) ? errno ? errno : EIO : 0;
    if (fd >= 0)
        close(fd);
    if (!e && rename(tmp, path))
        e = errno;
    fd = e ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!e && (fd < 0 || (fsync(fd) && errno != EINVAL)))
        e = errno;
    if (fd >= 0)
        close(fd);
    if (e)
        return kl_error_errno(err, e, "datastore %s", path);
    *ret_id = id;
    return 0;
}

int kl_raft_server_id(const char *dir, uint64_t *ret_id, struct kl_error *err)
{
    return find_id(dir, 0, ret_id, err);
}

int kl_raft_give_server_id(const char *dir, uint64_t id, struct kl_error *err)
{
    uint64_t found;
    int e = find_id(dir, id, &found, err);
    if (!e && found != id)
        e = kl_error_set(err, KL_ECONFLICT, "datastore %s is of server %016llx, not %016llx", dir,
                         (unsigned long long)found, (unsigned long long)id);
    return e;
}

// ---- a server that was removed: a file "removed" ----

void kl_raft_mark_removed(const char *dir)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/removed", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return; // the others will not talk to it anyway
    fsync(fd);
    close(fd);
}

// ---- a recovery that was cut: a file "recovering", locked while it goes on ----

static int mark_recovering(const char *dir, int *ret_fd, struct kl_error *err)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/recovering", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int at = fd < 0 ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int e = fd < 0 || flock(fd, LOCK_EX) || fsync(fd) || at < 0 || (fsync(at) && errno != EINVAL)
                ? kl_error_errno(err, errno, "datastore %s", path)
                : 0;
    if (at >= 0)
        close(at);
    if (e && fd >= 0)
        close(fd);
    *ret_fd = e ? -1 : fd;
    return e;
}

// Nobody but who recovers opens it meanwhile: the directory is locked.
static bool is_cut(const char *dir)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/recovering", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool cut = fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB);
    if (fd >= 0)
        close(fd);
    return cut;
}

int kl_raft_check_removed(const char *dir, struct kl_error *err)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/removed", dir);
    if (is_cut(dir))
        return kl_error_set(err, KL_EFORBIDDEN,
                            "datastore %s: its recovery was cut: run kinglet recover again", dir);
    return access(path, F_OK)
               ? 0
               : kl_error_set(err, KL_EFORBIDDEN,
                              "datastore %s: this server was removed from its cluster; with an "
                              "empty data directory it can join again",
                              dir);
}

// ---- the only voter ----

static int become_alone(const char *dir, struct kl_error *err)
{
    struct kl_raft_log *l = NULL;
    struct kl_raft_found f;
    int e = kl_raft_log_open(dir, &kl_raft_fs_disk, &l, &f, err);
    if (!e && (!f.any || (!f.nentries && !f.has_manifest)))
        e = kl_error_set(err, KL_ENOTFOUND, "raft log %s: there is nothing to recover from", dir);
    if (!e) // for those who open it without peers
        e = kl_raft_give_server_id(dir, f.meta.server_id, err);
    struct raft_configuration c;
    struct raft_buffer b = {0};
    char address[24];
    raft_configuration_init(&c);
    snprintf(address, sizeof(address), "%016llx", (unsigned long long)f.meta.server_id);
    if (!e && (raft_configuration_add(&c, f.meta.server_id, address, RAFT_VOTER) ||
               raft_configuration_encode(&c, &b)))
        e = kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!e) {
        // A term that nobody has seen: what the others may still write is of an older one.
        struct kl_raft_meta m = f.meta;
        m.term += 1000;
        m.vote = 0;
        m.muted = false;
        e = kl_raft_log_set_meta(l, &m, err);
        struct kl_raft_entry en = {f.first_index + f.nentries, m.term, RAFT_CHANGE, b.base, b.len};
        if (!e)
            e = kl_raft_log_append(l, &en, 1, err);
    }
    char path[4096];
    snprintf(path, sizeof(path), "%s/reseed", dir);
    if (!e)
        unlink(path); // there is nobody left to fetch from
    snprintf(path, sizeof(path), "%s/removed", dir);
    if (!e)
        unlink(path); // it was asked for
    raft_free(b.base);
    raft_configuration_close(&c);
    if (l)
        kl_raft_found_fini(&f);
    kl_raft_log_close(l);
    return e;
}

// ---- all of the log in the state, and the jump ----

struct flush {
    struct kl_task task;
    sem_t done;
};

static void run_flush(struct kl_task *t)
{
    sem_post(&KL_CONTAINER_OF(t, struct flush, task)->done);
}

// Everything that the log holds is applied, and in the file.
static int write_all(struct kl_store *s, struct kl_error *err)
{
    struct kl_raft *r = kl_raft_of(s->backend);
    struct flush f = {.task.run = run_flush};
    struct kl_access a;
    kl_rev rev;
    int e = kl_access_open(&a, s, err);
    if (e)
        return e;
    e = kl_access_head(&a, &rev, err);
    kl_access_close(&a);
    if (e)
        return e;
    sem_init(&f.done, 0, 0);
    kl_loop_post(r->sq.loop, &f.task); // behind what is to be written
    while (sem_wait(&f.done) && errno == EINTR)
        ;
    sem_destroy(&f.done);
    return atomic_load(&r->lag)
               ? kl_error_set(err, KL_ENOSPC, "datastore %s: no space left on device", r->dir)
               : 0;
}

static int apply_log(const char *url, struct kl_error *err)
{
    static const struct kl_store_options still = {.read_only = true};
    struct kl_store *s;
    int e = kl_store_open(url, &still, &s, err);
    if (e)
        return e;
    e = write_all(s, err);
    kl_store_stop(s);
    return e;
}

// What somebody may have seen of the lost writes lies below.
static int jump(const char *url, struct kl_error *err)
{
    static const struct kl_store_options still = {.read_only = true};
    char sql[256];
    struct kl_store *s;
    int e = kl_store_make(url, &still, &s, err);
    if (e)
        return e;
    struct kl_raft *r = kl_raft_of(s->backend);
    kl_rev rev = r->rev + REVISIONS_UP;
    snprintf(sql, sizeof(sql),
             "UPDATE kv_meta SET rev = %lld, compact_rev = %lld, epoch = epoch + 1,"
             " history_id = %lld WHERE k = 1",
             (long long)rev, (long long)rev, (long long)(kl_rand_u64() >> 1 | 1));
    e = kl_sq_exec(s->backend, sql, err);
    kl_fault_crash("raft.recover.jumped");
    if (!e)
        e = kl_raft_state_snapshot(s->backend, rev, err);
    kl_store_unmake(s);
    return e;
}

int kl_raft_recover(const char *dir, struct kl_error *err)
{
    char path[4096], url[4096];
    int mark = -1, lock, e = kl_raft_dir_lock(dir, &lock, err);
    if (e)
        return e;
    snprintf(path, sizeof(path), "%s/recovering", dir);
    bool again = !access(path, F_OK);
    e = mark_recovering(dir, &mark, err);
    kl_fault_crash("raft.recover.marked");
    if (!e)
        e = become_alone(dir, err);
    close(lock);
    if (mark < 0)
        return e;
    if (e && !again)
        unlink(path); // nothing was changed
    if (!e && snprintf(url, sizeof(url), "raft://%s", dir) >= (int)sizeof(url))
        e = kl_error_set(err, KL_EINVALID, "datastore %s: too long a path", dir);
    kl_fault_crash("raft.recover.alone");
    if (!e)
        e = apply_log(url, err);
    if (!e)
        e = jump(url, err);
    kl_fault_crash("raft.recover.done");
    if (!e && unlink(path))
        e = kl_error_errno(err, errno, "datastore %s", path);
    close(mark);
    return e;
}
