// SPDX-License-Identifier: Apache-2.0
#include "cli/etcd_cluster.h"
#include "base/log.h"
#include "store/peer/peers.h"
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// ---- who

static const char *token_of(const struct kl_etcd_flags *f)
{
    return f->initial_token ? f->initial_token : "etcd-cluster";
}

static uint64_t make_id(const char *token, const char *text)
{
    unsigned char md[SHA256_DIGEST_LENGTH];
    char all[1024];
    int n = snprintf(all, sizeof all, "%s %s", token, text);
    SHA256((const unsigned char *)all, n < (int)sizeof all ? (size_t)n : sizeof all, md);
    uint64_t id = 0;
    for (int i = 0; i < 8; i++)
        id = id << 8 | md[i];
    return id >> 1 | 1; // as every server's: positive
}

static int add_member(struct kl_etcd_cluster *c, const struct kl_etcd_flags *f, struct kl_arena *a,
                      const char *item, struct kl_error *err)
{
    const char *eq = strchr(item, '=');
    struct kl_etcd_member_url *m = &c->member[c->n];
    int n = 0;
    if (!eq || eq == item || c->n == KL_ETCD_MEMBERS_MAX)
        return kl_error_set(err, KL_EINVALID,
                            "--initial-cluster: %s: NAME=URL is expected, %d times at most", item,
                            KL_ETCD_MEMBERS_MAX);
    m->name = kl_arena_dup(a, (struct kl_str){item, (size_t)(eq - item)}).p;
    int rc = kl_etcd_urls(a, eq + 1, &m->url, 1, &n, err);
    if (rc)
        return kl_error_wrap(err, "--initial-cluster");
    if (!m->name || n != 1 || m->url.port < 1 || !*m->url.host)
        return kl_error_set(err, KL_EINVALID,
                            "--initial-cluster: %s: an address and a port are needed", item);
    snprintf(m->address, sizeof m->address, strchr(m->url.host, ':') ? "[%s]:%d" : "%s:%d",
             m->url.host, m->url.port);
    for (int i = 0; i < c->n; i++)
        if (!strcmp(c->member[i].name, m->name) || !strcmp(c->member[i].address, m->address))
            return kl_error_set(err, KL_EINVALID,
                                "--initial-cluster: %s: each member has one name and one URL",
                                item);
    m->id = make_id(c->token, m->address);
    c->n++;
    return 0;
}

int kl_etcd_cluster_read(struct kl_etcd_cluster *c, struct kl_etcd_flags *f, struct kl_arena *a,
                         struct kl_error *err)
{
    const char *list = f->initial_cluster ? f->initial_cluster : "";
    bool raft = f->datastore && !strncmp(f->datastore, "raft://", 7);
    // One member alone needs no raft, unless it is asked for: others may join it later.
    if (!*list || (f->datastore ? !raft : !strchr(list, ',')))
        return 0;
    c->token = token_of(f);
    while (*list) {
        size_t len = strcspn(list, ",");
        const char *item = kl_arena_dup(a, (struct kl_str){list, len}).p;
        int rc = item ? len ? add_member(c, f, a, item, err) : 0
                      : kl_error_set(err, KL_ENOMEM, "out of memory");
        if (rc)
            return rc;
        list += len + (list[len] == ',');
    }
    c->self = -1;
    for (int i = 0; i < c->n; i++) {
        if (!strcmp(c->member[i].name, f->name))
            c->self = i;
        if (strcmp(c->member[i].name, c->member[c->first].name) < 0)
            c->first = i;
    }
    if (c->self < 0)
        return kl_error_set(err, KL_EINVALID,
                            "couldn't find local name \"%s\" in the initial cluster configuration",
                            f->name);
    c->id = c->member[c->self].id;
    return 0;
}

// ---- opening

uint64_t kl_etcd_cluster_member_id(void *cluster, const char *address)
{
    return make_id(((const struct kl_etcd_cluster *)cluster)->token, address);
}

const char *kl_etcd_cluster_member_name(void *cluster, uint64_t id)
{
    const struct kl_etcd_cluster *c = cluster;
    for (int i = 0; i < c->n; i++)
        if (c->member[i].id == id)
            return c->member[i].name;
    return "";
}

static int got_state(void *arg, const void *data, size_t n)
{
    *(bool *)arg = true;
    return KL_ECANCELED; // that it has one is enough
}

// The first of the others that has the cluster's data; -1: none has, or none is there.
static int find_state(struct kl_etcd_cluster *c)
{
    for (int i = 0; i < c->n; i++) {
        struct kl_error ignored;
        bool there = false;
        if (i != c->self)
            kl_peers_fetch(c->peers, c->member[i].id, "raft-state", got_state, &there, &ignored);
        if (there)
            return i;
    }
    return -1;
}

// An empty directory whose cluster goes on without it must not begin another one.
static int look_for_others(struct kl_etcd_cluster *c, struct kl_error *err)
{
    int i = find_state(c);
    if (i < 0)
        return 0;
    return kl_error_set(err, KL_EEXISTS,
                        "member %016llx has already been bootstrapped: %s has the cluster's "
                        "data; --initial-cluster-state existing joins it",
                        (unsigned long long)c->id, c->member[i].name);
}

static int open_peers(struct kl_etcd_cluster *c, const struct kl_etcd_flags *f,
                      struct kl_error *err)
{
    struct kl_etcd_url at = c->member[c->self].url;
    struct kl_arena a;
    int n = 1, rc = 0;
    kl_arena_init(&a, 1 << 20);
    if (f->listen_peer)
        rc = kl_etcd_urls(&a, f->listen_peer, &at, 1, &n, err);
    struct kl_peers_options o = {.id = c->id,
                                 .cluster_id = make_id(c->token, "cluster"),
                                 .listen_address = at.host,
                                 .listen_port = at.port,
                                 .advertise_address = c->member[c->self].address,
                                 .ca.file = f->peer_ca_file,
                                 .cert.file = f->peer_cert_file,
                                 .key.file = f->peer_key_file,
                                 .unnamed = true,
                                 .insecure_loopback = !at.tls};
    c->plain = !at.tls;
    if (!rc && at.tls && (!f->peer_ca_file || !f->peer_cert_file || !f->peer_key_file))
        rc = kl_error_set(err, KL_EINVALID,
                          "members trust each other by certificates: --peer-cert-file, "
                          "--peer-key-file and --peer-trusted-ca-file are needed for %s",
                          at.text);
    for (int i = 0; i < c->n && !rc && !at.tls; i++)
        if (c->member[i].url.tls || strncmp(c->member[i].address, "127.", 4))
            rc = kl_error_set(err, KL_EINVALID,
                              "%s: without TLS members are on 127.0.0.1 only, all of them",
                              c->member[i].url.text);
    if (!rc)
        rc = kl_peers_open(&o, &c->peers, err);
    kl_arena_fini(&a);
    return rc;
}

int kl_etcd_cluster_open(struct kl_etcd_cluster *c, const struct kl_etcd_flags *f,
                         struct kl_store_options *so, struct kl_error *err)
{
    char state[4200], dir[4096];
    const char *from = f->datastore + strlen("raft://");
    bool existing = f->initial_state && !strcmp(f->initial_state, "existing");
    if (!c->n)
        return 0;
    snprintf(dir, sizeof dir, "%.*s", (int)strcspn(from, "?"), from);
    snprintf(state, sizeof state, "%s/state.db", dir);
    snprintf(c->mark, sizeof c->mark, "%s/forming", dir);
    bool fresh = access(state, F_OK) != 0;
    int rc = kl_raft_give_server_id(dir, c->id, err);
    if (rc || (rc = open_peers(c, f, err)))
        return rc;
    so->peers = c->peers;
    c->forms = !access(c->mark, F_OK);
    for (int i = 0; i < c->n && (fresh || c->forms); i++)
        kl_peers_set(c->peers, c->member[i].id, c->member[i].address);
    if (!fresh)
        return 0;
    if (existing && c->n == 1)
        return kl_error_set(err, KL_EINVALID,
                            "--initial-cluster-state existing: --initial-cluster names no member "
                            "but this one");
    if (existing || c->self != c->first) {
        int who = existing ? find_state(c) : c->first;
        if (who < 0) // it may come yet
            who = c->self != c->first ? c->first : c->self == 0;
        so->raft_join = true;
        so->raft_from = c->member[who].id;
        return 0;
    }
    if ((rc = look_for_others(c, err)))
        return rc;
    int fd = open(c->mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return kl_error_errno(err, errno, "open %s", c->mark);
    close(fd);
    c->forms = true;
    return 0;
}

// ---- forming

static void add_next(struct kl_etcd_cluster *c);

static void on_added(struct kl_raft_change *r)
{
    struct kl_etcd_cluster *c = KL_CONTAINER_OF(r, struct kl_etcd_cluster, change);
    if (r->code == KL_ECANCELED)
        return;
    if (r->code) // there is no leader, or another change is under way
        kl_log(KL_LOG_WARN, "etcd", "member=%s is not added yet: %s", c->member[c->at].name,
               r->err.msg);
    else
        c->at++;
    add_next(c);
}

static void add_next(struct kl_etcd_cluster *c)
{
    c->at += c->at == c->self;
    if (c->at == c->n) {
        unlink(c->mark);
        return;
    }
    struct kl_loop *loop = c->change.loop;
    c->change = (struct kl_raft_change){
        .op = KL_RAFT_ADD, .id = c->member[c->at].id, .cb = on_added, .loop = loop};
    snprintf(c->change.address, sizeof c->change.address, "%.255s", c->member[c->at].address);
    kl_raft_change(c->store, &c->change, NULL);
}

void kl_etcd_cluster_form(struct kl_etcd_cluster *c, struct kl_store *s, struct kl_loop *loop)
{
    c->store = s;
    c->change.loop = loop;
    if (c->forms)
        add_next(c);
}

void kl_etcd_cluster_close(struct kl_etcd_cluster *c)
{
    kl_peers_close(c->peers);
    c->peers = NULL;
}
