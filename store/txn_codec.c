// SPDX-License-Identifier: Apache-2.0
#include "store/txn_codec.h"
#include <assert.h>
#include <stdlib.h>

enum { PUT_IGNORE_VALUE = 1, PUT_IGNORE_LEASE = 2, PUT_VALUE = 4, ASK_AGAIN = 1, TEXT_MAX = 1000 };

// ---- writing: the same walk counts (p NULL) and writes ----

struct out {
    char *p;
    size_t n;
};

static void put_int(struct out *o, uint64_t v, int bytes)
{
    for (int i = 0; o->p && i < bytes; i++)
        *o->p++ = (char)(v >> (8 * i));
    o->n += (size_t)bytes;
}

static void put_str(struct out *o, struct kl_str s)
{
    put_int(o, s.n, 4);
    if (o->p && s.n)
        o->p = (char *)memcpy(o->p, s.p, s.n) + s.n;
    o->n += s.n;
}

static void put_body(struct out *o, const struct kl_txn_body *body);

static void put_op(struct out *o, const struct kl_op *op)
{
    put_int(o, op->kind, 1);
    switch (op->kind) {
    case KL_OP_TXN:
        put_body(o, op->txn);
        break;
    case KL_OP_PUT:
        put_int(o,
                (op->ignore_value ? PUT_IGNORE_VALUE : 0) |
                    (op->ignore_lease ? PUT_IGNORE_LEASE : 0) | (op->value ? PUT_VALUE : 0),
                1);
        put_int(o, (uint64_t)op->lease, 8);
        put_str(o, op->key);
        if (op->value)
            put_str(o, kl_bytes_str(op->value));
        break;
    default:
        put_int(o, (uint64_t)op->limit, 8);
        put_int(o, (uint64_t)op->at_rev, 8);
        put_str(o, op->key);
        put_str(o, op->end);
    }
}

static void put_body(struct out *o, const struct kl_txn_body *body)
{
    put_int(o, body->ncompares, 2);
    put_int(o, body->nthen, 2);
    put_int(o, body->nels, 2);
    for (size_t i = 0; i < body->ncompares; i++) {
        const struct kl_compare *c = &body->compares[i];
        put_int(o, c->target, 1);
        put_int(o, c->result, 1);
        put_int(o, (uint64_t)c->num, 8);
        put_str(o, c->key);
        put_str(o, c->end);
        put_str(o, c->value);
    }
    for (size_t i = 0; i < body->nthen; i++)
        put_op(o, &body->then[i]);
    for (size_t i = 0; i < body->nels; i++)
        put_op(o, &body->els[i]);
}

static void put_ask(struct out *o, const struct kl_wire_ask *a, size_t len)
{
    put_int(o, len, 4);
    put_int(o, a->seq, 8);
    put_int(o, a->attempt, 4);
    put_int(o, a->kind, 1);
    put_int(o, a->again ? ASK_AGAIN : 0, 1);
    if (a->kind == KL_WIRE_TXN) {
        put_body(o, &a->body);
    } else {
        put_int(o, (uint64_t)a->id, 8);
        put_int(o, (uint64_t)a->num, 8);
    }
}

size_t kl_wire_ask_size(const struct kl_wire_ask *a)
{
    struct out o = {NULL, 0};
    put_ask(&o, a, 0);
    return o.n;
}

void kl_wire_put_head(char *p, enum kl_wire_what what)
{
    p[0] = KL_WIRE_VERSION;
    p[1] = (char)what;
}

char *kl_wire_put_ask(char *p, const struct kl_wire_ask *a)
{
    struct out o = {p, 0};
    put_ask(&o, a, 0);
    struct out len = {p, 0};
    put_int(&len, o.n - 4, 4);
    return o.p;
}

int kl_wire_put_answer(struct kl_buf *b, const struct kl_wire_answer *a)
{
    char mem[64 + TEXT_MAX];
    struct kl_str text = {a->text.p, a->text.n < TEXT_MAX ? a->text.n : TEXT_MAX};
    struct out o = {mem + 4, 0};
    put_int(&o, a->seq, 8);
    put_int(&o, a->attempt, 4);
    put_int(&o, a->outcome, 1);
    put_int(&o, (uint64_t)a->rev, 8);
    if (a->outcome == KL_WIRE_LEASE) {
        put_int(&o, (uint64_t)a->ttl_ms, 8);
        put_int(&o, (uint64_t)a->left_ms, 8);
    } else if (a->outcome == KL_WIRE_ERROR) {
        put_int(&o, (uint32_t)a->code, 4);
        put_str(&o, text);
    }
    struct out len = {mem, 0};
    put_int(&len, o.n, 4);
    if (!b->n) {
        char head[KL_WIRE_HEAD];
        kl_wire_put_head(head, KL_WIRE_ANSWER);
        kl_buf_append(b, head, sizeof(head));
    }
    return kl_buf_append(b, mem, o.n + 4);
}

// ---- reading ----

struct in {
    const char *p, *end;
    bool bad;
};

static uint64_t get_int(struct in *in, int bytes)
{
    uint64_t v = 0;
    if (in->bad || in->end - in->p < bytes) {
        in->bad = true;
        return 0;
    }
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)(unsigned char)*in->p++ << (8 * i);
    return v;
}

static struct kl_str get_str(struct in *in)
{
    size_t n = (size_t)get_int(in, 4);
    if (in->bad || (size_t)(in->end - in->p) < n) {
        in->bad = true;
        return (struct kl_str){"", 0};
    }
    struct kl_str s = {in->p, n};
    in->p += n;
    return s;
}

int kl_wire_open(struct kl_str msg, enum kl_wire_what *ret_what, struct kl_str *ret_rest)
{
    if (msg.n < KL_WIRE_HEAD || msg.p[0] != KL_WIRE_VERSION ||
        (msg.p[1] != KL_WIRE_ASK && msg.p[1] != KL_WIRE_ANSWER))
        return KL_EPROTO;
    *ret_what = (enum kl_wire_what)msg.p[1];
    *ret_rest = kl_str_from(msg, KL_WIRE_HEAD);
    return 0;
}

int kl_wire_next(struct kl_str *rest, struct kl_str *ret_item)
{
    struct in in = {rest->p, rest->p + rest->n, false};
    if (!rest->n)
        return 0;
    struct kl_str item = get_str(&in);
    if (in.bad)
        return KL_EPROTO;
    *ret_item = item;
    *rest = (struct kl_str){in.p, (size_t)(in.end - in.p)};
    return 1;
}

int kl_wire_get_answer(struct kl_str item, struct kl_wire_answer *ret_a)
{
    struct in in = {item.p, item.p + item.n, false};
    struct kl_wire_answer a = {.seq = get_int(&in, 8), .attempt = (uint32_t)get_int(&in, 4)};
    a.outcome = (enum kl_wire_outcome)get_int(&in, 1);
    a.rev = (kl_rev)get_int(&in, 8);
    if (a.outcome == KL_WIRE_LEASE) {
        a.ttl_ms = (int64_t)get_int(&in, 8);
        a.left_ms = (int64_t)get_int(&in, 8);
    } else if (a.outcome == KL_WIRE_ERROR) {
        a.code = (int32_t)get_int(&in, 4);
        a.text = get_str(&in);
        in.bad = in.bad || a.code >= 0 || a.text.n > TEXT_MAX;
    }
    if (in.bad || in.p != in.end || a.outcome < KL_WIRE_IN_LOG || a.outcome >= KL_WIRE_OUTCOMES ||
        a.rev < 0)
        return KL_EPROTO;
    *ret_a = a;
    return 0;
}

// The first walk checks everything and counts what the second one needs.
struct need {
    size_t structs, bytes, nops;
};

static void scan_body(struct in *in, struct need *need, int depth);

static void scan_op(struct in *in, struct need *need, int depth)
{
    unsigned kind = (unsigned)get_int(in, 1), flags;
    switch (kind) {
    case KL_OP_TXN:
        need->structs += sizeof(struct kl_txn_body);
        scan_body(in, need, depth + 1);
        break;
    case KL_OP_PUT:
        flags = (unsigned)get_int(in, 1);
        get_int(in, 8);
        need->bytes += get_str(in).n;
        if (flags & PUT_VALUE)
            get_str(in);
        in->bad = in->bad || flags > (PUT_VALUE | PUT_IGNORE_LEASE | PUT_IGNORE_VALUE);
        break;
    case KL_OP_GET:
    case KL_OP_DELETE:
        get_int(in, 8);
        get_int(in, 8);
        need->bytes += get_str(in).n;
        need->bytes += get_str(in).n;
        break;
    default:
        in->bad = true;
    }
}

static void scan_body(struct in *in, struct need *need, int depth)
{
    size_t ncompares = (size_t)get_int(in, 2), nthen = (size_t)get_int(in, 2),
           nels = (size_t)get_int(in, 2);
    need->nops += nthen + nels;
    if (depth > KL_TXN_MAX_DEPTH || ncompares > KL_TXN_MAX_OPS || nthen > KL_TXN_MAX_OPS ||
        nels > KL_TXN_MAX_OPS || need->nops > KL_TXN_MAX_OPS_ALL)
        in->bad = true;
    need->structs += ncompares * sizeof(struct kl_compare) + (nthen + nels) * sizeof(struct kl_op);
    for (size_t i = 0; !in->bad && i < ncompares; i++) {
        unsigned target = (unsigned)get_int(in, 1), result = (unsigned)get_int(in, 1);
        get_int(in, 8);
        for (int k = 0; k < 3; k++)
            need->bytes += get_str(in).n;
        in->bad = in->bad || target > KL_COMPARE_LEASE || result > KL_COMPARE_NE;
    }
    for (size_t i = 0; !in->bad && i < nthen + nels; i++)
        scan_op(in, need, depth);
}

struct mem {
    char *structs, *bytes;
};

static void *take(struct mem *m, size_t n)
{
    void *p = m->structs;
    m->structs += n;
    return p;
}

static struct kl_str copy_str(struct in *in, struct mem *m)
{
    struct kl_str s = get_str(in);
    char *p = m->bytes;
    if (s.n)
        memcpy(p, s.p, s.n);
    m->bytes += s.n;
    return (struct kl_str){p, s.n};
}

static int read_body(struct in *in, struct mem *m, struct kl_txn_body *body);

static int read_op(struct in *in, struct mem *m, struct kl_op *op)
{
    *op = (struct kl_op){.kind = (enum kl_op_kind)get_int(in, 1)};
    if (op->kind == KL_OP_TXN) {
        op->txn = take(m, sizeof(*op->txn));
        *op->txn = (struct kl_txn_body){0};
        return read_body(in, m, op->txn);
    }
    if (op->kind != KL_OP_PUT) {
        op->limit = (int64_t)get_int(in, 8);
        op->at_rev = (kl_rev)get_int(in, 8);
        op->key = copy_str(in, m);
        op->end = copy_str(in, m);
        return 0;
    }
    unsigned flags = (unsigned)get_int(in, 1);
    op->ignore_value = flags & PUT_IGNORE_VALUE;
    op->ignore_lease = flags & PUT_IGNORE_LEASE;
    op->lease = (int64_t)get_int(in, 8);
    op->key = copy_str(in, m);
    if (!(flags & PUT_VALUE))
        return 0;
    op->value = kl_bytes_new(get_str(in));
    return op->value ? 0 : KL_ENOMEM;
}

// What was read when memory ran out is in `body`, whose lists say so.
static int read_body(struct in *in, struct mem *m, struct kl_txn_body *body)
{
    size_t ncompares = (size_t)get_int(in, 2), nthen = (size_t)get_int(in, 2),
           nels = (size_t)get_int(in, 2);
    struct kl_compare *compares = take(m, ncompares * sizeof(*compares));
    body->then = take(m, nthen * sizeof(*body->then));
    body->els = take(m, nels * sizeof(*body->els));
    body->compares = compares;
    for (; body->ncompares < ncompares; body->ncompares++) {
        struct kl_compare *c = &compares[body->ncompares];
        c->target = (enum kl_compare_target)get_int(in, 1);
        c->result = (enum kl_compare_result)get_int(in, 1);
        c->num = (int64_t)get_int(in, 8);
        c->key = copy_str(in, m);
        c->end = copy_str(in, m);
        c->value = copy_str(in, m);
    }
    int r = 0;
    while (!r && body->nthen < nthen)
        r = read_op(in, m, &body->then[body->nthen++]);
    while (!r && body->nels < nels)
        r = read_op(in, m, &body->els[body->nels++]);
    return r;
}

void kl_wire_drop_body(struct kl_txn_body *body)
{
    for (int side = 0; side < 2; side++) {
        struct kl_op *ops = side ? body->els : body->then;
        size_t n = side ? body->nels : body->nthen;
        for (size_t i = 0; i < n; i++) {
            if (ops[i].kind == KL_OP_TXN)
                kl_wire_drop_body(ops[i].txn);
            else
                kl_bytes_unref(ops[i].value);
            ops[i].value = NULL;
        }
    }
}

static int get_body(struct in *in, struct kl_txn_body *ret_body, void **ret_mem)
{
    struct in scan = *in;
    struct need need = {0};
    scan_body(&scan, &need, 0);
    if (scan.bad || scan.p != scan.end)
        return KL_EPROTO;
    static_assert(sizeof(struct kl_compare) % 8 == 0 && sizeof(struct kl_op) % 8 == 0 &&
                      sizeof(struct kl_txn_body) % 8 == 0,
                  "lists follow each other");
    struct kl_txn_body body = {0};
    struct mem m;
    char *mem = malloc(need.structs + need.bytes + 1);
    if (!mem)
        return KL_ENOMEM;
    m.structs = mem;
    m.bytes = mem + need.structs;
    int r = read_body(in, &m, &body);
    if (r) {
        kl_wire_drop_body(&body);
        free(mem);
        return r;
    }
    *ret_body = body;
    *ret_mem = mem;
    return 0;
}

int kl_wire_get_ask(struct kl_str item, struct kl_wire_ask *ret_a, void **ret_mem)
{
    struct in in = {item.p, item.p + item.n, false};
    struct kl_wire_ask a = {.seq = get_int(&in, 8), .attempt = (uint32_t)get_int(&in, 4)};
    a.kind = (enum kl_wire_kind)get_int(&in, 1);
    uint64_t flags = get_int(&in, 1);
    a.again = flags & ASK_AGAIN;
    *ret_mem = NULL;
    if (in.bad || a.kind < KL_WIRE_TXN || a.kind >= KL_WIRE_KINDS || flags > ASK_AGAIN || !a.seq)
        return KL_EPROTO;
    if (a.kind == KL_WIRE_TXN) {
        int r = get_body(&in, &a.body, ret_mem);
        if (r)
            return r;
    } else {
        a.id = (int64_t)get_int(&in, 8);
        a.num = (int64_t)get_int(&in, 8);
        if (in.bad || in.p != in.end)
            return KL_EPROTO;
    }
    *ret_a = a;
    return 0;
}
