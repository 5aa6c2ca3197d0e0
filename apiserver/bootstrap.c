// SPDX-License-Identifier: Apache-2.0
// Compares the well-known objects with the newest view and writes what is missing or wrong: one
// transaction each, all submitted at once, so that the committer makes one batch of them. At a
// restart this reads only. What fails is tried again, all of it, a second later.
#include "apiserver/allocate/allocate.h"
#include "apiserver/bootstrap_int.h"
#include "apiserver/encryption/encryption.h"
#include "apiserver/strategy.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "object/defaults.h"
#include <stdlib.h>

enum { RETRY_MS = 1000 };

struct item {
    struct kl_txn txn;
    struct kl_compare cmp[2];
    struct kl_op put[2]; // the object, and what it claims
    struct boot *boot;
    struct kl_object *object; // as written, for the roles and bindings that are read at once
};

struct boot {
    struct kl_apiserver *s;
    void (*done)(void *arg);
    void *arg;
    struct kl_arena arena;
    bool endpoints_only, flow_control_only;
    uv_timer_t retry;
    size_t waiting; // transactions on their way, and one while they are being made
    size_t written;
    struct kl_error err; // the first that failed
    int64_t began_ms;
};

static void run(struct boot *b);

static void on_retry(uv_timer_t *t)
{
    struct boot *b = t->data;
    if (!atomic_load(&b->s->stopping))
        run(b);
}

static void on_closed(uv_handle_t *h)
{
    struct boot *b = h->data;
    kl_arena_fini(&b->arena);
    free(b);
}

static void end(struct boot *b)
{
    if (b->err.code) {
        kl_log(KL_LOG_WARN, "bootstrap", "cannot write well-known objects, trying again: %s",
               b->err.msg);
        uv_timer_start(&b->retry, on_retry, RETRY_MS, 0);
        return;
    }
    kl_log(KL_LOG_DEBUG, "bootstrap", "done written=%zu ms=%lld", b->written,
           (long long)(kl_mono_ms() - b->began_ms));
    void (*done)(void *) = b->done;
    void *arg = b->arg;
    uv_close((uv_handle_t *)&b->retry, on_closed);
    done(arg);
}

static void drop(struct boot *b)
{
    if (!--b->waiting)
        end(b);
}

static void note(struct boot *b, const struct kl_error *err)
{
    if (!b->err.code)
        b->err = *err;
}

static void on_written(struct kl_txn *t)
{
    struct item *i = KL_CONTAINER_OF(t, struct item, txn);
    struct boot *b = i->boot;
    if (t->code) {
        if (!t->err.code)
            kl_error_set(&t->err, t->code, "%s", kl_err_text(t->code));
        note(b, &t->err);
    } else if (t->body.succeeded) {
        b->written++;
        struct kl_object *o =
            i->object ? kl_object_with_rv(i->object, i->put[0].kv->mod_rev) : NULL;
        if (o)
            kl_cache_attach_object(i->put[0].kv, o);
    } else if (i->put[1].value) { // or somebody claimed something else
        kl_error_set(&t->err, KL_ECONFLICT, "what is to be claimed has changed");
        note(b, &t->err);
    } // else another server was quicker: its object is as good
    kl_object_unref(i->object);
    kl_bytes_unref(i->put[0].value);
    kl_bytes_unref(i->put[1].value);
    kl_txn_fini(t);
    drop(b);
}

// What is written with an object; `value` is taken.
struct claim {
    struct kl_str key;
    kl_rev was;
    struct kl_bytes *value; // NULL: nothing
};

static int submit(struct boot *b, const struct kl_resource *res, struct kl_str key, kl_rev was,
                  const struct kl_value *draft, bool keep, struct claim claim, struct kl_error *err)
{
    struct item *i = KL_ARENA_NEW(&b->arena, struct item);
    struct kl_object *o = i ? kl_object_freeze(res->type, draft) : NULL;
    struct kl_bytes *bytes =
        o ? kl_encryption_encode(b->s->o.encryption, res, key, o, NULL, err) : NULL;
    if (!bytes) {
        kl_object_unref(o);
        kl_bytes_unref(claim.value);
        return err->code ? err->code : kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    unsigned n = claim.value ? 2 : 1;
    i->boot = b;
    i->object = keep ? o : NULL;
    if (!keep)
        kl_object_unref(o);
    i->cmp[0] = (struct kl_compare){
        .key = key, .target = KL_COMPARE_MOD, .result = KL_COMPARE_EQ, .num = was};
    i->put[0] = (struct kl_op){.kind = KL_OP_PUT, .key = key, .value = bytes};
    i->cmp[1] = (struct kl_compare){
        .key = claim.key, .target = KL_COMPARE_MOD, .result = KL_COMPARE_EQ, .num = claim.was};
    i->put[1] = (struct kl_op){.kind = KL_OP_PUT, .key = claim.key, .value = claim.value};
    i->txn = (struct kl_txn){.cb = on_written};
    i->txn.body =
        (struct kl_txn_body){.compares = i->cmp, .ncompares = n, .then = i->put, .nthen = n};
    int rc = kl_store_submit(b->s->o.store, &i->txn, err);
    if (rc) {
        kl_object_unref(i->object);
        kl_bytes_unref(bytes);
        kl_bytes_unref(claim.value);
        return rc;
    }
    b->waiting++;
    return 0;
}

// What the registry sets on create.
static int stamp(struct boot *b, const struct kl_resource *res, struct kl_value *draft)
{
    struct kl_arena *a = &b->arena;
    int64_t now_us = kl_wall_ms() / 1000 * 1000000;
    char *uid = kl_arena_alloc(a, 37);
    struct kl_value *meta = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
    if (!uid || !meta)
        return KL_ENOMEM;
    kl_uuid(uid);
    int rc = kl_set(a, meta, KL_F_uid, kl_stringz(uid));
    if (!rc)
        rc = kl_set(a, meta, KL_F_creationTimestamp, kl_time(now_us));
    if (!rc && kl_strategy_of(res)->flags & KL_STRAT_GENERATION)
        rc = kl_set(a, meta, KL_F_generation, kl_int(1));
    if (rc || !kl_len(kl_path(draft, KL_F_status, KL_F_conditions)))
        return rc;
    struct kl_value *status = kl_edit(a, draft, KL_F_status, KL_STRUCT);
    struct kl_value *list = status ? kl_edit(a, status, KL_F_conditions, KL_ARRAY) : NULL;
    for (size_t i = 0; list && i < list->n && !rc; i++) {
        struct kl_value *c = kl_edit_at(a, list, i);
        rc = c ? kl_set(a, c, KL_F_lastTransitionTime, kl_time(now_us)) : KL_ENOMEM;
    }
    return list ? rc : KL_ENOMEM;
}

static int grow_generation(struct boot *b, const struct kl_resource *res, struct kl_value *draft)
{
    if (!(kl_strategy_of(res)->flags & KL_STRAT_GENERATION))
        return 0;
    int64_t was = kl_int_at(draft, 0, KL_F_metadata, KL_F_generation);
    struct kl_value *meta = kl_edit(&b->arena, draft, KL_F_metadata, KL_STRUCT);
    return meta ? kl_set(&b->arena, meta, KL_F_generation, kl_int(was + 1)) : KL_ENOMEM;
}

static int renew(struct boot *b, const struct kl_bootstrap_row *row, const struct kl_resource *res,
                 struct kl_str key, struct kl_kv *kv, struct kl_value *wanted, bool keep,
                 struct kl_error *err)
{
    struct kl_object *stored = kl_cache_object(kv, res, err);
    struct kl_object *want = stored ? kl_object_freeze(res->type, wanted) : NULL;
    if (!want)
        return stored ? kl_error_set(err, KL_ENOMEM, "out of memory") : err->code;
    struct kl_value draft = kl_object_draft(stored);
    bool anew;
    int rc = kl_bootstrap_merge(&b->arena, row->mode, &draft, &want->root, &anew);
    if (rc > 0) {
        struct kl_value *use = anew ? wanted : &draft;
        struct kl_value *meta = kl_edit(&b->arena, use, KL_F_metadata, KL_STRUCT);
        rc = meta ? kl_unset(&b->arena, meta, KL_F_resourceVersion) : KL_ENOMEM;
        if (!rc)
            rc = anew ? stamp(b, res, use) : grow_generation(b, res, use);
        if (!rc)
            rc = submit(b, res, key, kv->mod_rev, use, keep, (struct claim){0}, err);
    }
    kl_object_unref(want);
    return rc == KL_ENOMEM ? kl_error_set(err, rc, "out of memory") : rc;
}

// The node port of the kubernetes Service, when it is made with one.
static int claim_port(struct boot *b, const struct kl_value *service, struct claim *ret,
                      struct kl_error *err)
{
    const struct kl_value *ports = kl_path(service, KL_F_spec, KL_F_ports);
    int64_t port = kl_int_at(kl_at(ports, 0), 0, KL_F_nodePort);
    struct kl_port_range range = kl_node_ports(b->s);
    if (!port)
        return 0;
    struct kl_kv *kv = kl_view_get(kl_reader_view(b->s->loops[0].reader), KL_NODE_PORTS_KEY);
    uint8_t *bits = kl_arena_zalloc(&b->arena, kl_port_bytes(&range));
    if (!bits)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!kl_port_range_has(&range, port))
        return kl_error_set(err, KL_EINVALID, "the node port %lld is not in the valid range",
                            (long long)port);
    if (kv && kl_ports_read(kl_kv_value(kv), &range, bits) < 0)
        return kl_error_set(err, KL_ECORRUPT, "the record of node ports is damaged");
    uint8_t *byte = &bits[(port - range.first) / 8], bit = (uint8_t)(1 << (port - range.first) % 8);
    if (*byte & bit)
        return kl_error_set(err, KL_EINVALID, "the node port %lld is already allocated",
                            (long long)port);
    *byte |= bit;
    *ret = (struct claim){KL_NODE_PORTS_KEY, kv ? kv->mod_rev : 0, kl_ports_write(&range, bits)};
    return ret->value ? 0 : kl_error_set(err, KL_ENOMEM, "out of memory");
}

static int ensure(struct boot *b, const struct kl_bootstrap_row *row, struct kl_error *err)
{
    const struct kl_resource *res = kl_resource_storage(kl_res(row->res));
    struct kl_value draft;
    bool keep = row->mode == KL_BOOT_ROLE || row->mode == KL_BOOT_BINDING;
    int rc = kl_json_decode(&b->arena, res->type, kl_str(row->json), NULL, &draft, err);
    if (rc)
        return rc;
    struct kl_str key =
        kl_object_key(&b->arena, res, kl_meta_namespace(&draft), kl_meta_name(&draft));
    if (!key.p || kl_default_object(&b->arena, res->type, &draft))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    struct kl_kv *kv = kl_view_get(kl_reader_view(b->s->loops[0].reader), key);
    if (kv)
        return row->mode == KL_BOOT_CREATE ? 0 : renew(b, row, res, key, kv, &draft, keep, err);
    struct claim claim = {.value = NULL};
    if (stamp(b, res, &draft))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    if (row->mode == KL_BOOT_SERVICE && (rc = claim_port(b, &draft, &claim, err))) {
        if (rc != KL_EINVALID)
            return rc;
        kl_log(KL_LOG_ERROR, "bootstrap", "the Service kubernetes is not made: %s", err->msg);
        return 0;
    }
    return submit(b, res, key, 0, &draft, keep, claim, err);
}

static void run(struct boot *b)
{
    struct kl_bootstrap_row own[KL_BOOT_MAX_OWN];
    kl_arena_reset(&b->arena);
    b->err.code = 0;
    b->written = 0;
    b->began_ms = kl_mono_ms();
    b->waiting = 1;
    size_t nown = b->flow_control_only ? 0
                  : b->endpoints_only  ? kl_bootstrap_endpoint_rows(b->s, &b->arena, own)
                                       : kl_bootstrap_own_rows(b->s, &b->arena, own);
    size_t nfixed = b->endpoints_only ? 0 : kl_bootstrap_nrows;
    for (size_t i = 0; i < nfixed + nown; i++) {
        const struct kl_bootstrap_row *row = i < nfixed ? &kl_bootstrap_rows[i] : &own[i - nfixed];
        struct kl_error err = {0};
        if (b->flow_control_only && row->mode != KL_BOOT_SPEC)
            continue;
        if (ensure(b, row, &err)) {
            kl_error_wrap(&err, "%s", kl_res(row->res)->plural);
            note(b, &err);
        }
    }
    drop(b);
}

enum part { EVERYTHING, ENDPOINTS, FLOW_CONTROL };

static void begin(struct kl_apiserver *s, enum part part, void (*done)(void *arg), void *arg)
{
    struct boot *b = calloc(1, sizeof *b);
    if (!b || uv_timer_init(kl_loop_uv(s->loops[0].loop), &b->retry)) {
        kl_log(KL_LOG_ERROR, "bootstrap", "out of memory");
        abort();
    }
    b->s = s;
    b->endpoints_only = part == ENDPOINTS;
    b->flow_control_only = part == FLOW_CONTROL;
    b->done = done;
    b->arg = arg;
    b->retry.data = b;
    kl_arena_init(&b->arena, KL_MAX_ARENA_BYTES);
    run(b);
}

void kl_bootstrap_start(struct kl_apiserver *s, void (*done)(void *arg), void *arg)
{
    begin(s, EVERYTHING, done, arg);
}

static void endpoints_done(void *arg)
{
    struct kl_apiserver *s = arg;
    bool again = s->endpoints_again;
    s->endpoints_busy = s->endpoints_again = false;
    if (again && !atomic_load(&s->stopping))
        kl_bootstrap_endpoints(s);
}

void kl_bootstrap_endpoints(struct kl_apiserver *s)
{
    s->endpoints_again = s->endpoints_busy;
    if (s->endpoints_busy)
        return;
    s->endpoints_busy = true;
    begin(s, ENDPOINTS, endpoints_done, s);
}

static void flow_control_done(void *arg)
{
    struct kl_apiserver *s = arg;
    s->flow_control_busy = false;
}

void kl_bootstrap_flow_control(struct kl_apiserver *s)
{
    if (s->flow_control_busy)
        return;
    s->flow_control_busy = true;
    begin(s, FLOW_CONTROL, flow_control_done, s);
}
