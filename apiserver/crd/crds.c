// SPDX-License-Identifier: Apache-2.0
// A loop's definitions: a map by name that follows the store. It is brought up to date whenever it
// is asked, so that what a view has is served, and by the watch, so that open watches end in time.
#include "apiserver/crd/crd.h"
#include "base/log.h"
#include "store/watch.h"
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

enum { EVENTS = 32, NAME_MAX_BYTES = 512 };

struct entry {
    struct kl_kv *kv; // referenced; it holds `crd`
    const struct kl_crd *crd;
};

struct kl_crds {
    struct kl_api_loop *al;
    struct kl_map by_name;
    struct kl_watch watch;
    struct kl_crd_user *users;
    bool watching, following;
};

// ---- users

void kl_crd_use(struct kl_api_loop *al, struct kl_crd_user *u)
{
    u->next = al->crds->users;
    u->pprev = &al->crds->users;
    if (u->next)
        u->next->pprev = &u->next;
    al->crds->users = u;
}

void kl_crd_leave(struct kl_crd_user *u)
{
    if (!u->pprev)
        return;
    *u->pprev = u->next;
    if (u->next)
        u->next->pprev = u->pprev;
    u->pprev = NULL;
}

// Each is told after it has left, and may let others of them leave: from the start again each time.
static void tell(struct kl_crds *c, struct kl_str name)
{
    for (struct kl_crd_user *u = c->users; u;) {
        if (!kl_str_eqz(name, u->family->name)) {
            u = u->next;
            continue;
        }
        kl_crd_leave(u);
        u->changed(u);
        u = c->users;
    }
}

// ---- following the store

static struct kl_str name_of(const struct kl_kv *kv)
{
    return kl_str_from(kl_kv_key(kv), sizeof KL_CRD_PREFIX - 1);
}

static void drop(struct kl_crds *c, struct kl_str name)
{
    struct entry *e = kl_map_get(&c->by_name, name);
    if (!e)
        return;
    tell(c, name);
    kl_map_del(&c->by_name, name);
    kl_kv_unref(e->kv);
    free(e);
}

static void put(struct kl_crds *c, struct kl_kv *kv)
{
    struct kl_str name = name_of(kv);
    struct entry *e = kl_map_get(&c->by_name, name);
    struct kl_error err = {0};
    const struct kl_crd *crd = kl_crd_of(kv, e ? e->crd : NULL, &err);
    if (!crd) {
        kl_log(KL_LOG_ERROR, "crd", "definition=%.*s cannot be served: %s", KL_PRI(name), err.msg);
        drop(c, name);
        return;
    }
    if (!e) {
        if (!(e = calloc(1, sizeof *e)) || kl_map_set(&c->by_name, name, e, NULL)) {
            kl_log(KL_LOG_ERROR, "crd", "definition=%.*s cannot be served: out of memory",
                   KL_PRI(name));
            free(e);
            return;
        }
    } else {
        if (!kl_crd_same(e->crd, crd))
            tell(c, name);
        kl_kv_unref(e->kv);
    }
    e->kv = kl_kv_ref(kv);
    e->crd = crd;
}

static void look(struct kl_crds *c, struct kl_kv *kv)
{
    if (c->al->srv->crd_controller && c->al == &c->al->srv->loops[0])
        kl_crd_controller_look(c->al->srv->crd_controller, name_of(kv));
}

// All as it is in the view: at the start, and when the watch has lost its place.
static int list(struct kl_crds *c, struct kl_error *err)
{
    struct kl_view *v = kl_reader_view(c->al->reader);
    struct kl_str prefix = KL_STR(KL_CRD_PREFIX);
    char mem[sizeof KL_CRD_PREFIX];
    struct kl_str end = kl_prefix_end(prefix, mem);
    struct kl_iter it;
    struct kl_kv *kv;
    KL_MAP_EACH (&c->by_name, e) {
        char key[NAME_MAX_BYTES];
        int n = snprintf(key, sizeof key, KL_CRD_PREFIX "%.*s", KL_PRI(e->key));
        if (!kl_view_get(v, (struct kl_str){key, (size_t)n}))
            drop(c, e->key);
    }
    kl_iter_init(&it, v, prefix, end);
    while ((kv = kl_iter_next(&it))) {
        put(c, kv);
        look(c, kv);
    }
    int rc = kl_watch_start(&c->watch, c->al->reader, prefix, end, kl_view_rev(v) + 1, err);
    c->watching = !rc;
    return rc;
}

static void follow(struct kl_crds *c)
{
    struct kl_event events[EVENTS];
    struct kl_error err = {0};
    int n;
    if (c->following)
        return;
    c->following = true;
    if (!c->watching && list(c, &err))
        kl_log(KL_LOG_ERROR, "crd", "cannot follow definitions: %s", err.msg);
    while (c->watching && (n = kl_watch_next(&c->watch, events, EVENTS))) {
        for (int i = 0; i < n; i++) {
            if (events[i].kv->deleted)
                drop(c, name_of(events[i].kv));
            else
                put(c, events[i].kv);
            look(c, events[i].kv);
        }
        if (n > 0)
            continue;
        kl_watch_stop(&c->watch); // compacted away: the state itself then
        c->watching = false;
        if (list(c, &err))
            kl_log(KL_LOG_ERROR, "crd", "cannot follow definitions: %s", err.msg);
    }
    c->following = false;
}

static void wake(struct kl_watch *w)
{
    follow(KL_CONTAINER_OF(w, struct kl_crds, watch));
}

int kl_crds_start(struct kl_api_loop *al, struct kl_error *err)
{
    struct kl_crds *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    c->al = al;
    c->watch.wake = wake;
    kl_map_init(&c->by_name);
    al->crds = c;
    return list(c, err);
}

void kl_crds_stop(struct kl_api_loop *al)
{
    struct kl_crds *c = al->crds;
    if (!c)
        return;
    kl_watch_stop(&c->watch);
    while (c->users)
        kl_crd_leave(c->users);
    KL_MAP_EACH (&c->by_name, e) {
        struct entry *x = e->value;
        kl_kv_unref(x->kv);
        free(x);
    }
    kl_map_fini(&c->by_name);
    free(c);
    al->crds = NULL;
}

// ---- questions

const struct kl_crd *kl_crds_get(struct kl_api_loop *al, struct kl_str name, struct kl_kv **ret_kv)
{
    follow(al->crds);
    struct entry *e = kl_map_get(&al->crds->by_name, name);
    if (!e)
        return NULL;
    *ret_kv = e->kv;
    return e->crd;
}

bool kl_crds_next(struct kl_api_loop *al, size_t *it, struct kl_kv **ret_kv,
                  const struct kl_crd **ret_crd)
{
    if (!*it)
        follow(al->crds);
    struct kl_map_entry *m = kl_map_next(&al->crds->by_name, it);
    if (!m)
        return false;
    struct entry *e = m->value;
    *ret_kv = e->kv;
    *ret_crd = e->crd;
    return true;
}

const struct kl_resource *kl_crd_find(struct kl_api_loop *al, struct kl_str group,
                                      struct kl_str version, struct kl_str plural,
                                      struct kl_custom_family **ret_family, struct kl_error *err)
{
    char name[NAME_MAX_BYTES];
    struct kl_kv *kv;
    if (!al->crds || !group.n || plural.n + group.n + 1 > sizeof name)
        return NULL;
    memcpy(name, plural.p, plural.n);
    name[plural.n] = '.';
    memcpy(name + plural.n + 1, group.p, group.n);
    const struct kl_crd *crd = kl_crds_get(al, (struct kl_str){name, plural.n + 1 + group.n}, &kv);
    const struct kl_resource *plain =
        crd && crd->served ? kl_custom_row(crd->plain, version) : NULL;
    if (!plain || !plain->custom->served || !kl_str_eqz(plural, plain->plural))
        return NULL;
    struct kl_custom_family *f = kl_crd_compiled(crd, kv, err);
    const struct kl_resource *res = f ? kl_custom_row(f, version) : NULL;
    if (!res) {
        if (f)
            kl_error_set(err, KL_EINTERNAL, "definition without its version");
        kl_custom_family_unref(f);
        return NULL;
    }
    *ret_family = f;
    return res;
}

int kl_crd_resolve(struct kl_req *r)
{
    struct kl_req_info *i = &r->info;
    struct kl_error err = {0};
    const struct kl_resource *res =
        kl_crd_find(r->al, i->group, i->version, i->plural, &r->family, &err);
    if (!res && err.code) {
        kl_log(KL_LOG_ERROR, "crd", "%.*s.%.*s: %s", KL_PRI(i->plural), KL_PRI(i->group), err.msg);
        kl_fail_internal(r, "error resolving resource");
        return err.code;
    }
    if (!res)
        return 0;
    if (res->custom->warning)
        kl_req_warn(r, kl_arena_dup(r->arena, kl_str(res->custom->warning))); // outlives the row
    i->res = res;
    i->subres = i->sub.n ? kl_resource_sub(res, i->sub) : NULL;
    return 0;
}

int kl_crd_again(struct kl_req *r)
{
    struct kl_req_info *i = &r->info;
    struct kl_custom_family *was = r->family, *is = NULL;
    struct kl_error err = {0};
    if (!was)
        return 0;
    const struct kl_resource *res = kl_crd_find(r->al, i->group, i->version, i->plural, &is, &err);
    if (!res && err.code) {
        kl_log(KL_LOG_ERROR, "crd", "%s: %s", was->name, err.msg);
        kl_fail_internal(r, "error resolving resource");
        return err.code;
    }
    if (is != was) {
        i->res = res;
        i->subres = res && i->sub.n ? kl_resource_sub(res, i->sub) : NULL;
        r->family = kl_custom_family_ref(is);
        kl_custom_family_unref(was);
    }
    kl_custom_family_unref(is);
    return 0;
}

bool kl_crd_terminating(struct kl_api_loop *al, const struct kl_custom_family *f)
{
    struct kl_kv *kv;
    const struct kl_crd *crd = kl_crds_get(al, kl_str(f->name), &kv);
    return !crd || crd->terminating;
}

// ---- rows in order

static int compare_rows(const void *a, const void *b)
{
    const struct kl_resource *x = ((const struct kl_crd_row *)a)->res;
    const struct kl_resource *y = ((const struct kl_crd_row *)b)->res;
    int c = strcmp(x->group, y->group);
    c = c ? c : kl_version_compare(y->version, x->version);
    return c ? c : strcmp(x->plural, y->plural);
}

struct kl_crd_row *kl_crds_rows(struct kl_api_loop *al, struct kl_arena *a, struct kl_str group,
                                size_t *ret_n)
{
    struct kl_kv *kv;
    const struct kl_crd *crd;
    size_t it = 0, n = 0, at = 0;
    *ret_n = 0;
    while (al->crds && kl_crds_next(al, &it, &kv, &crd))
        if (crd->established && crd->plain &&
            (!group.p || kl_str_eqz(group, crd->plain->rows[0].group)))
            n += crd->plain->nrows;
    struct kl_crd_row *rows = n ? kl_arena_alloc(a, n * sizeof *rows) : NULL;
    for (it = 0; rows && kl_crds_next(al, &it, &kv, &crd);) {
        if (!crd->established || !crd->plain ||
            (group.p && !kl_str_eqz(group, crd->plain->rows[0].group)))
            continue;
        for (uint16_t i = 0; i < crd->plain->nrows && at < n; i++)
            if (crd->plain->rows[i].custom->served)
                rows[at++] = (struct kl_crd_row){&crd->plain->rows[i], kv, crd};
    }
    if (at)
        qsort(rows, at, sizeof *rows, compare_rows);
    *ret_n = at;
    return rows;
}

const char *kl_crd_storage_hash(const struct kl_custom_family *f, char buf[16])
{
    unsigned char sum[SHA256_DIGEST_LENGTH];
    char text[1024];
    const struct kl_resource *s = f->storage;
    int n = snprintf(text, sizeof text, "%s/%s/%s", s->group, s->version, s->kind);
    SHA256((const unsigned char *)text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1, sum);
    EVP_EncodeBlock((unsigned char *)buf, sum, 8);
    return buf;
}
