// SPDX-License-Identifier: Apache-2.0
// What every service needs to answer: headers, key-values, errors.
#include "store/etcd/etcd_int.h"

enum { MAX_ANSWER = 64 << 20 }; // of what is encoded by table

// ---- ResponseHeader

void kl_etcd_header_init(struct kl_etcd *e)
{
    char *p = kl_proto_put_int(e->header_ids, 1, (int64_t)e->cluster_id);
    p = kl_proto_put_int(p, 2, (int64_t)e->member_id);
    e->header_ids_n = (size_t)(p - e->header_ids);
}

static size_t header_body_size(const struct kl_etcd *e, kl_rev rev, uint64_t term)
{
    return e->header_ids_n + kl_proto_int_size(rev) + kl_proto_int_size((int64_t)term);
}

size_t kl_etcd_header_size(const struct kl_etcd *e, kl_rev rev)
{
    uint64_t term = atomic_load_explicit(&e->raft_term, memory_order_relaxed);
    return 2 + header_body_size(e, rev, term);
}

char *kl_etcd_put_header(const struct kl_etcd *e, char *p, kl_rev rev)
{
    uint64_t term = atomic_load_explicit(&e->raft_term, memory_order_relaxed);
    *p++ = 1 << 3 | 2;
    *p++ = (char)header_body_size(e, rev, term);
    memcpy(p, e->header_ids, e->header_ids_n);
    p = kl_proto_put_int(p + e->header_ids_n, 3, rev);
    return kl_proto_put_int(p, 4, (int64_t)term);
}

struct kl_etcd_response_header kl_etcd_header(const struct kl_etcd *e, kl_rev rev)
{
    return (struct kl_etcd_response_header){
        .cluster_id = e->cluster_id,
        .member_id = e->member_id,
        .revision = rev,
        .raft_term = atomic_load_explicit(&e->raft_term, memory_order_relaxed),
    };
}

// ---- KeyValue

size_t kl_etcd_kv_size(const struct kl_kv *kv, bool keys_only)
{
    size_t n = kl_proto_string_size(kv->key_len) + kl_proto_int_size(kv->mod_rev);
    if (kv->deleted)
        return n;
    return n + kl_proto_int_size(kv->create_rev) + kl_proto_int_size(kv->version) +
           kl_proto_int_size(kv->lease) + (keys_only ? 0 : kl_proto_string_size(kl_kv_value(kv).n));
}

size_t kl_etcd_kv_field_size(const struct kl_kv *kv, bool keys_only)
{
    return kl_proto_message_size(kl_etcd_kv_size(kv, keys_only));
}

// Up to where the value's n bytes follow.
static char *put_kv_head(char *p, int field, const struct kl_kv *kv, size_t size, size_t n)
{
    p = kl_proto_put_head(p, field, size);
    p = kl_proto_put_string(p, 1, kl_kv_key(kv));
    if (kv->deleted)
        return kl_proto_put_int(p, 3, kv->mod_rev);
    p = kl_proto_put_int(p, 2, kv->create_rev);
    p = kl_proto_put_int(p, 3, kv->mod_rev);
    p = kl_proto_put_int(p, 4, kv->version);
    return n ? kl_proto_put_head(p, 5, n) : p;
}

static char *put_kv_tail(char *p, const struct kl_kv *kv)
{
    return kv->deleted ? p : kl_proto_put_int(p, 6, kv->lease);
}

char *kl_etcd_put_whole_kv(char *p, int field, const struct kl_kv *kv)
{
    struct kl_str value = kv->deleted ? KL_STR("") : kl_kv_value(kv);
    p = put_kv_head(p, field, kv, kl_etcd_kv_size(kv, false), value.n);
    if (value.n)
        memcpy(p, value.p, value.n);
    return put_kv_tail(p + value.n, kv);
}

void kl_etcd_put_kv(struct kl_grpc_out *o, int field, const struct kl_kv *kv, bool keys_only)
{
    struct kl_str value = keys_only || kv->deleted ? KL_STR("") : kl_kv_value(kv);
    size_t size = kl_etcd_kv_size(kv, keys_only), room = size + 16;
    bool by_reference = value.n >= KL_ETCD_COPY_MAX;
    char *start = kl_grpc_out_room(o, by_reference ? room - value.n : room);
    if (!start)
        return;
    char *p = put_kv_head(start, field, kv, size, value.n);
    if (by_reference) {
        kl_grpc_out_wrote(o, (size_t)(p - start));
        kl_grpc_out_bytes(o, kv->value, 0, value.n);
        start = p = kl_grpc_out_room(o, 11);
        if (!p)
            return;
    } else if (value.n) {
        memcpy(p, value.p, value.n);
        p += value.n;
    }
    p = put_kv_tail(p, kv);
    kl_grpc_out_wrote(o, (size_t)(p - start));
}

void kl_etcd_put_full_header(struct kl_grpc_out *o, const struct kl_etcd *e, kl_rev rev)
{
    char *p = kl_grpc_out_room(o, KL_ETCD_HEADER_MAX + 2);
    if (p)
        kl_grpc_out_wrote(o, (size_t)(kl_etcd_put_header(e, p, rev) - p));
}

// ---- by table

void *kl_etcd_decode(struct kl_grpc_rpc *c, const struct kl_proto_desc *d, struct kl_str msg)
{
    void *ret;
    struct kl_error err;
    int rc = kl_proto_decode(kl_grpc_rpc_arena(c), d, msg, &ret, &err);
    if (!rc)
        return ret;
    kl_grpc_rpc_finish(c, rc == KL_ENOMEM ? KL_GRPC_RESOURCE_EXHAUSTED : KL_GRPC_INTERNAL,
                       "grpc: error unmarshalling request: malformed message");
    return NULL;
}

static int encode(struct kl_grpc_out *o, const struct kl_proto_desc *d, const void *msg)
{
    struct kl_buf b;
    kl_buf_init(&b, MAX_ANSWER);
    kl_proto_encode(&b, d, msg);
    kl_grpc_out_init(o, b.n);
    kl_grpc_out_put(o, b.p, b.n);
    int rc = b.err;
    kl_buf_fini(&b);
    return rc;
}

int kl_etcd_send(struct kl_grpc_rpc *c, const struct kl_proto_desc *d, const void *msg)
{
    struct kl_grpc_out o;
    int rc = encode(&o, d, msg);
    if (!rc)
        return kl_grpc_rpc_send(c, &o);
    kl_grpc_out_fini(&o);
    kl_etcd_fail(c, rc, NULL);
    return rc;
}

void kl_etcd_reply(struct kl_grpc_rpc *c, const struct kl_proto_desc *d, const void *msg)
{
    struct kl_grpc_out o;
    int rc = encode(&o, d, msg);
    if (!rc) {
        kl_grpc_rpc_reply(c, &o);
        return;
    }
    kl_grpc_out_fini(&o);
    kl_etcd_fail(c, rc, NULL);
}

// ---- errors (api/v3/v3rpc/rpctypes/error.go)

static const struct {
    int code;
    enum kl_grpc_code grpc;
    const char *message;
    bool always; // whatever the store says
} errors[] = {
    {KL_EBADREQUEST, KL_GRPC_INVALID_ARGUMENT, "etcdserver: bad request", false},
    {KL_ENOTFOUND, KL_GRPC_NOT_FOUND, "etcdserver: requested lease not found", false},
    {KL_EEXISTS, KL_GRPC_FAILED_PRECONDITION, "etcdserver: lease already exists", false},
    {KL_EINVALID, KL_GRPC_OUT_OF_RANGE, "etcdserver: too large lease TTL", false},
    {KL_ETOOLARGE, KL_GRPC_INVALID_ARGUMENT, "etcdserver: request is too large", true},
    {KL_ENOSPC, KL_GRPC_RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", true},
    {KL_ETOOMANY, KL_GRPC_RESOURCE_EXHAUSTED, "etcdserver: too many requests", true},
    {KL_ECOMPACTED, KL_GRPC_OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted",
     true},
    {KL_EFUTUREREV, KL_GRPC_OUT_OF_RANGE,
     "etcdserver: mvcc: required revision is a future revision", true},
    {KL_ECANCELED, KL_GRPC_UNAVAILABLE, "etcdserver: server stopped", true},
    {KL_EUNAVAILABLE, KL_GRPC_UNAVAILABLE, "etcdserver: server stopped", false},
    {KL_ETIMEOUT, KL_GRPC_UNAVAILABLE, "etcdserver: request timed out", true},
    {KL_EMAYBE, KL_GRPC_UNAVAILABLE, "etcdserver: request timed out", true},
    {KL_ECORRUPT, KL_GRPC_DATA_LOSS, "etcdserver: corrupt cluster", true},
    {KL_ENOMEM, KL_GRPC_RESOURCE_EXHAUSTED, "etcdserver: out of memory", true},
};

void kl_etcd_fail_grpc(struct kl_grpc_rpc *c, enum kl_grpc_code code, const char *message)
{
    kl_grpc_rpc_finish(c, code, message);
}

static const char *text_of(size_t i, int code, const struct kl_error *err)
{
    const char *said = err && err->code == code ? err->msg : "";
    bool theirs = !errors[i].always && kl_str_starts(kl_str(said), KL_STR("etcdserver: "));
    return theirs ? said : errors[i].message;
}

static size_t find_error(int code)
{
    size_t i = 0;
    while (i < KL_COUNT(errors) && errors[i].code != code)
        i++;
    return i;
}

const char *kl_etcd_error_text(int code, const struct kl_error *err)
{
    size_t i = find_error(code);
    if (i < KL_COUNT(errors))
        return text_of(i, code, err);
    return err && err->code == code && err->msg[0] ? err->msg : kl_err_text(code);
}

void kl_etcd_fail(struct kl_grpc_rpc *c, int code, const struct kl_error *err)
{
    size_t i = find_error(code);
    kl_grpc_rpc_finish(c, i < KL_COUNT(errors) ? errors[i].grpc : KL_GRPC_UNKNOWN,
                       kl_etcd_error_text(code, err));
}
