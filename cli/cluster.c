// SPDX-License-Identifier: Apache-2.0
#include "cli/cluster.h"
#include "cli/join.h"
#include "apiserver/roster.h"
#include "base/log.h"
#include "base/rand.h"
#include "store/peer/peers.h"
#include "store/raft/members.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PATH = 4096, MAX_PLACE = MAX_PATH + 80, LOOK_AGAIN_S = 5 };

// ---- what kind of datastore

static bool has_scheme(const char *url, const char *scheme)
{
    struct kl_str u = kl_str(url);
    if (kl_str_starts(u, KL_STR("faulty+")))
        u = kl_str_from(u, 7);
    return kl_str_starts(u, kl_str(scheme));
}

// A database that other servers may open too: they are peers.
static bool is_database(const char *url)
{
    return has_scheme(url, "postgres://") || has_scheme(url, "postgresql://") ||
           has_scheme(url, "mysql://") || has_scheme(url, "mariadb://");
}

static bool is_private(const char *url)
{
    return has_scheme(url, "memory://");
}

// ---- the id

// "MACHINE:DIR": where this server runs, as far as another start can be told from another server.
static void describe_place(const char *data_dir, char *ret, size_t n)
{
    char machine[64] = "";
    int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, machine, sizeof machine - 1);
    struct kl_str id = kl_str_trim((struct kl_str){machine, got > 0 ? (size_t)got : 0});
    if (fd >= 0)
        close(fd);
    if (!id.n && !gethostname(machine, sizeof machine - 1))
        id = kl_str(machine);
    snprintf(ret, n, "%.*s:%s", KL_PRI(id), data_dir);
}

// server/id: the id, and on a second line the place it was last used at. Holds a lock on the file
// as long as the server lives: one server for a data directory. *ret_moved: it was never used here,
// so that another server may run with it (a copied directory).
static int open_id(const char *data_dir, int *ret_fd, uint64_t *ret_id, bool *ret_moved,
                   struct kl_error *err)
{
    char path[MAX_PATH], text[MAX_PLACE + 32] = "", place[MAX_PLACE], *end;
    if (snprintf(path, sizeof path, "%s/server/id", data_dir) >= (int)sizeof path)
        return kl_error_set(err, KL_EINVALID, "%s: name too long", data_dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return kl_error_errno(err, errno, "open %s", path);
    ssize_t n = 0;
    int rc = 0;
    if (flock(fd, LOCK_EX | LOCK_NB))
        rc = errno == EWOULDBLOCK
                 ? kl_error_set(err, KL_EEXISTS, "another kinglet server runs on %s", data_dir)
                 : kl_error_errno(err, errno, "lock %s", path);
    else if ((n = read(fd, text, sizeof text - 1)) < 0)
        rc = kl_error_errno(err, errno, "read %s", path);
    uint64_t id = rc ? 0 : strtoull(text, &end, 16);
    if (!rc && !n) {
        while (!id)
            id = kl_rand_u64() >> 1; // a database's integers are signed
    } else if (!rc && (!id || end - text != 16)) {
        rc = kl_error_set(err, KL_ECORRUPT, "%s: 16 hexadecimal digits are expected", path);
    }
    if (rc) {
        close(fd);
        return rc;
    }
    describe_place(data_dir, place, sizeof place);
    struct kl_str known = n > 17 ? kl_str_trim(kl_str(text + 17)) : KL_STR("");
    *ret_moved = !kl_str_eqz(known, place);
    *ret_fd = fd;
    *ret_id = id;
    return 0;
}

// The id is this place's from now on.
static int keep_id(const char *data_dir, int fd, uint64_t id, struct kl_error *err)
{
    char text[MAX_PLACE + 32], place[MAX_PLACE];
    describe_place(data_dir, place, sizeof place);
    int n = snprintf(text, sizeof text, "%016llx\n%s\n", (unsigned long long)id, place);
    if (pwrite(fd, text, (size_t)n, 0) != n || ftruncate(fd, n) || fsync(fd))
        return kl_error_errno(err, errno, "write %s/server/id", data_dir);
    return 0;
}

static int claim_place(const struct kl_cluster_options *o, struct kl_cluster *c,
                       struct kl_error *err)
{
    char place[MAX_PLACE];
    if (!c->id)
        return 0;
    describe_place(o->pki.data_dir, place, sizeof place);
    return kl_roster_claim(c->store, c->id, place, &c->roster, err);
}

// ---- the steps

static int open_peers(const struct kl_cluster_options *o, struct kl_cluster *c,
                      struct kl_error *err)
{
    char advertise[300];
    const char *host = o->peer_advertise;
    struct kl_peers_options po = {.id = c->id,
                                  .cluster_id = c->pki->cluster_id,
                                  .listen_address = o->peer_address,
                                  .listen_port = o->peer_port,
                                  .ca.pem = c->pki->peer_ca,
                                  .cert.pem = c->pki->peer_cert,
                                  .key.pem = c->pki->peer_key};
    if (host && snprintf(advertise, sizeof advertise, "%s", host) < (int)sizeof advertise)
        po.advertise_address = advertise;
    return kl_peers_open(&po, &c->peers, err);
}

static bool has_identity(const char *data_dir)
{
    struct kl_buf b;
    struct kl_error ignored;
    kl_buf_init(&b, KL_IDENTITY_MAX_BYTES);
    bool there = !kl_identity_pack(data_dir, &b, &ignored);
    if (b.p)
        explicit_bzero(b.p, b.n);
    kl_buf_fini(&b);
    return there;
}

static int open_store(const struct kl_cluster_options *o, struct kl_cluster *c,
                      const struct kl_store_options *so, struct kl_error *err)
{
    return kl_store_open(o->datastore, so, &c->store, err);
}

// The certificates with what the data directory has; the datastore is asked later.
static int open_local(const struct kl_cluster_options *o, struct kl_cluster *c,
                      struct kl_error *err)
{
    struct kl_pki_options p = o->pki;
    p.server_id = c->id;
    // A token is looked at only with the datastore, so that a wrong one changes nothing.
    if (has_identity(p.data_dir))
        p.token = NULL;
    return kl_pki_open(&p, &c->pki, err);
}

static int check_identity(const struct kl_cluster_options *o, struct kl_cluster *c,
                          struct kl_error *err)
{
    struct kl_pki_options p = o->pki;
    struct kl_pki *fresh;
    p.server_id = c->id;
    int rc = kl_identity_open(&p, is_private(o->datastore) ? NULL : c->store, &fresh, err);
    if (rc)
        return rc;
    kl_pki_free(c->pki);
    c->pki = fresh;
    return 0;
}

static void *publish_main(void *arg)
{
    struct kl_cluster *c = arg;
    struct kl_error err;
    if (kl_identity_publish(c->data_dir, c->pki, c->store, &err)) // the next start tries again
        kl_log(KL_LOG_WARN, "server", "%s", err.msg);
    return NULL;
}

static int open_alone(const struct kl_cluster_options *o, struct kl_cluster *c,
                      struct kl_error *err)
{
    bool publish = false;
    int rc = open_store(o, c, &o->store, err);
    if (rc || is_private(o->datastore) || kl_store_is_shared(c->store))
        return rc ? rc : check_identity(o, c, err);
    rc = kl_identity_open_alone(&o->pki, c->store, &c->pki, &publish, err);
    if (rc || !publish)
        return rc;
    if (!(c->data_dir = strdup(o->pki.data_dir)))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    rc = pthread_create(&c->publisher, NULL, publish_main, c);
    c->publishing = !rc;
    return rc ? kl_error_errno(err, rc, "start thread") : 0;
}

static int look_once(const struct kl_cluster_options *o, struct kl_cluster *c, struct kl_error *err)
{
    int rc = open_store(o, c, &o->store, err);
    if (!rc)
        rc = check_identity(o, c, err);
    if (!rc)
        rc = claim_place(o, c, err);
    if (!rc)
        rc = keep_id(o->pki.data_dir, c->lock_fd, c->id, err);
    kl_roster_release(c->roster);
    c->roster = NULL;
    if (c->store)
        kl_store_stop(c->store);
    c->store = NULL;
    return rc;
}

// Who has moved a data directory waits until the server at the old place is known to be dead. The
// store is not open meanwhile: without peers it would end leases that the others keep alive.
static int look_first(const struct kl_cluster_options *o, struct kl_cluster *c,
                      struct kl_error *err)
{
    struct timespec pause = {LOOK_AGAIN_S, 0};
    int rc = look_once(o, c, err);
    for (int s = 0; rc == KL_EEXISTS && s < KL_ROSTER_TTL_S + LOOK_AGAIN_S; s += LOOK_AGAIN_S) {
        nanosleep(&pause, NULL);
        rc = look_once(o, c, err);
    }
    return rc;
}

// A server whose directory was moved after it was killed is still listed at its old place, as long
// as its lease lives.
static int claim_patiently(const struct kl_cluster_options *o, struct kl_cluster *c,
                           struct kl_error *err)
{
    struct timespec pause = {1, 0};
    int rc = claim_place(o, c, err);
    for (int s = 0; rc == KL_EEXISTS && s < KL_ROSTER_TTL_S + LOOK_AGAIN_S; s++) {
        nanosleep(&pause, NULL);
        rc = claim_place(o, c, err);
    }
    return rc;
}

static int open_database(const struct kl_cluster_options *o, struct kl_cluster *c,
                         struct kl_error *err)
{
    struct kl_store_options so = o->store;
    bool moved;
    int rc = open_id(o->pki.data_dir, &c->lock_fd, &c->id, &moved, err);
    if (!rc)
        rc =
            moved || !has_identity(o->pki.data_dir) ? look_first(o, c, err) : open_local(o, c, err);
    if (rc || (rc = open_peers(o, c, err)))
        return rc;
    so.peers = c->peers;
    if ((rc = open_store(o, c, &so, err)))
        return rc;
    return check_identity(o, c, err);
}

static int join_raft(const struct kl_cluster_options *o, struct kl_cluster *c,
                     struct kl_store_options *so, struct kl_error *err)
{
    struct kl_raft_member m[KL_RAFT_MEMBERS_MAX];
    struct kl_join j = {.url = o->server, .token = o->pki.token, .data_dir = o->pki.data_dir};
    size_t n = 0;
    int rc =
        kl_join_members(&j, c->id, kl_peers_address(c->peers), m, KL_RAFT_MEMBERS_MAX, &n, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < n; i++)
        kl_peers_set(c->peers, m[i].id, m[i].address);
    so->raft_join = true;
    so->raft_from = n ? m[0].id : 0;
    return 0;
}

static bool raft_is_new(const char *dir)
{
    char path[MAX_PATH + sizeof "/state.db"];
    snprintf(path, sizeof path, "%s/state.db", dir);
    return access(path, F_OK) != 0;
}

static int open_raft(const struct kl_cluster_options *o, struct kl_cluster *c, struct kl_error *err)
{
    struct kl_store_options so = o->store;
    char dir[MAX_PATH];
    const char *rest = strstr(o->datastore, "raft://") + 7;
    snprintf(dir, sizeof dir, "%.*s", (int)strcspn(rest, "?"), rest);
    bool join = o->server && raft_is_new(dir);
    int rc = 0;
    if (join && !has_identity(o->pki.data_dir)) {
        struct kl_join j = {.url = o->server, .token = o->pki.token, .data_dir = o->pki.data_dir};
        rc = kl_join_identity(&j, err);
    }
    if (rc || (rc = kl_raft_server_id(dir, &c->id, err)) || (rc = open_local(o, c, err)) ||
        (rc = open_peers(o, c, err)))
        return rc;
    so.peers = c->peers;
    if (join && (rc = join_raft(o, c, &so, err)))
        return rc;
    if ((rc = open_store(o, c, &so, err)))
        return rc;
    rc = check_identity(o, c, err);
    if (rc == KL_EUNAVAILABLE) { // no majority yet: what is on the disk was the cluster's before
        kl_log(KL_LOG_WARN, "server", "%s", err->msg);
        rc = 0;
    }
    return rc;
}

int kl_cluster_open(const struct kl_cluster_options *o, struct kl_cluster *ret,
                    struct kl_error *err)
{
    *ret = (struct kl_cluster){.lock_fd = -1};
    int rc = has_scheme(o->datastore, "raft://") ? open_raft(o, ret, err)
             : is_database(o->datastore)         ? open_database(o, ret, err)
                                                 : open_alone(o, ret, err);
    if (!rc)
        rc = claim_patiently(o, ret, err);
    if (rc) {
        kl_cluster_close(ret);
        kl_cluster_free(ret);
    }
    return rc;
}

void kl_cluster_close(struct kl_cluster *c)
{
    if (c->publishing)
        pthread_join(c->publisher, NULL);
    c->publishing = false;
    kl_roster_release(c->roster);
    c->roster = NULL;
    if (c->store)
        kl_store_stop(c->store);
    c->store = NULL;
    kl_peers_close(c->peers);
    c->peers = NULL;
}

void kl_cluster_free(struct kl_cluster *c)
{
    kl_pki_free(c->pki);
    c->pki = NULL;
    free(c->data_dir);
    c->data_dir = NULL;
    if (c->lock_fd >= 0)
        close(c->lock_fd);
    c->lock_fd = -1;
}
