// SPDX-License-Identifier: Apache-2.0
// While no server runs: the identity, and a cluster of one from what one server has.
#include "store/raft/raft_int.h"
#include "base/rand.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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

int kl_raft_check_removed(const char *dir, struct kl_error *err)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/removed", dir);
    return access(path, F_OK)
               ? 0
               : kl_error_set(err, KL_EFORBIDDEN,
                              "datastore %s: this server was removed from its cluster; with an "
                              "empty data directory it can join again",
                              dir);
}

int kl_raft_recover(const char *dir, struct kl_error *err)
{
    int lock, e = kl_raft_dir_lock(dir, &lock, err);
    if (e)
        return e;
    struct kl_raft_log *l = NULL;
    struct kl_raft_found f;
    e = kl_raft_log_open(dir, &kl_raft_fs_disk, &l, &f, err);
    if (!e && (!f.any || (!f.nentries && !f.has_manifest)))
        e = kl_error_set(err, KL_ENOTFOUND, "raft log %s: there is nothing to recover from", dir);
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
    close(lock);
    return e;
}
