// SPDX-License-Identifier: Apache-2.0
// Conversions in the midst of what cannot wait: the owners of fields are compared in the version
// that each of them wrote. What is not known yet is asked for, the work is given up, and begins
// again when the answer is there; the request remembers the answers.
#include "apiserver/crd/convert.h"
#include "apiserver/crd/crd.h"

enum { MEMOS_MAX = 64 };

struct kl_conversion_memo {
    struct kl_conversion_memo *next;
    struct kl_conversion conversion;
    struct kl_req *r;
    const struct kl_resource *from, *to;
    struct kl_object *was, *is;      // referenced; `is` once it has come
    struct kl_kv *kv;                // referenced; of a stored version, which has neither
    struct kl_custom_family *family; // referenced: nothing else gets the address of `to`
    bool pending;
    struct kl_error *err; // in the arena: why it did not
};

static void on_answer(struct kl_conversion *c, int code, const struct kl_error *err)
{
    struct kl_conversion_memo *m = KL_CONTAINER_OF(c, struct kl_conversion_memo, conversion);
    struct kl_req *r = m->r;
    m->pending = false;
    m->is = c->object;
    if (code && (m->err = kl_arena_alloc(r->arena, sizeof *err)))
        *m->err = *err;
    void (*then)(void *arg) = r->memo_then;
    if (kl_req_convert_pending(r))
        return;
    r->memo_then = NULL;
    if (then)
        then(r->memo_arg);
}

static struct kl_conversion_memo *new_memo(struct kl_req *r, struct kl_error *err)
{
    size_t n = 0;
    for (struct kl_conversion_memo *x = r->memos; x; x = x->next)
        n++;
    struct kl_conversion_memo *m =
        n < MEMOS_MAX ? KL_ARENA_NEW(r->arena, struct kl_conversion_memo) : NULL;
    if (m)
        *m = (struct kl_conversion_memo){.next = r->memos, .conversion.done = on_answer, .r = r};
    else if (n < MEMOS_MAX)
        kl_error_set(err, KL_ENOMEM, "out of memory");
    else
        kl_error_set(err, KL_EINVALID, "too many conversions for one request");
    return m;
}

static int come_again(struct kl_error *err)
{
    return kl_error_set(err, KL_EAGAIN, "a webhook converts it");
}

static int on_its_way(struct kl_req *r, struct kl_conversion_memo *m, struct kl_error *err)
{
    m->pending = true;
    m->family = kl_custom_family_ref(m->to->custom->family);
    r->memos = m;
    return come_again(err);
}

// What keeps one that was asked for from being there.
static int not_there(const struct kl_conversion_memo *m, struct kl_error *err)
{
    if (m->pending)
        return come_again(err);
    if (m->err)
        return kl_error_set(err, KL_EINVALID, "%s", m->err->msg);
    return kl_error_set(err, KL_ENOMEM, "out of memory");
}

// The answer for this object (borrowed until the request's end); without one it is asked for.
static int ask(struct kl_req *r, const struct kl_resource *from, const struct kl_resource *to,
               struct kl_object *was, struct kl_object **ret, struct kl_error *err)
{
    struct kl_conversion_memo *m = r->memos;
    while (m && (m->from != from || m->to != to || !kl_value_equal(&m->was->root, &was->root)))
        m = m->next;
    if (m && m->is) {
        *ret = m->is;
        return 0;
    }
    if (m)
        return not_there(m, err);
    if (!(m = new_memo(r, err)))
        return err->code;
    m->from = from;
    m->to = to;
    int rc = kl_convert_object(r->al, from, to, was, &m->conversion, err);
    if (rc < 0)
        return rc;
    m->was = kl_object_ref(was);
    return on_its_way(r, m, err);
}

int kl_req_convert_tree(void *arg, const struct kl_resource *from, const struct kl_resource *to,
                        const struct kl_value *in, struct kl_value *ret, struct kl_error *err)
{
    struct kl_req *r = arg;
    struct kl_value v;
    struct kl_object *is;
    int rc = kl_crd_from_untyped(r->arena, from->custom->schema, in, true, NULL, &v, err);
    struct kl_object *was = rc ? NULL : kl_object_freeze(from->type, &v);
    if (rc)
        return rc;
    rc = was ? ask(r, from, to, was, &is, err) : kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_object_unref(was);
    if (!rc && kl_crd_untyped(r->arena, to->custom->schema, &is->root, ret))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    return rc;
}

// `root` with the owners of fields that `of` has, or none.
static struct kl_object *with_owners(struct kl_arena *a, const struct kl_object *o,
                                     const struct kl_value *of)
{
    struct kl_value root = kl_object_draft(o), entries;
    struct kl_value *m = kl_edit(a, &root, KL_F_metadata, KL_STRUCT);
    if (!m)
        return NULL;
    if (of) {
        entries = *of;
        entries.owned = 0;
    }
    if (of ? kl_set(a, m, KL_F_managedFields, entries) : kl_unset(a, m, KL_F_managedFields))
        return NULL;
    return kl_object_freeze(o->type, &root);
}

struct kl_object *kl_req_convert_object(struct kl_req *r, const struct kl_resource *from,
                                        const struct kl_resource *to, struct kl_object *o,
                                        struct kl_error *err)
{
    struct kl_arena *a = r->arena;
    struct kl_object *out = NULL, *is;
    struct kl_value v;
    int rc;
    if (from == to)
        return kl_object_ref(o);
    if (!to->custom->family->webhook) {
        rc = kl_custom_convert(a, from, to, &o->root, &v, err);
        out = rc ? NULL : kl_object_freeze(to->type, &v);
    } else { // owners say when they wrote, which another try would not meet again
        struct kl_object *bare = with_owners(a, o, NULL);
        rc = bare ? ask(r, from, to, bare, &is, err) : KL_ENOMEM;
        kl_object_unref(bare);
        if (!rc)
            out = with_owners(a, is, kl_path(&o->root, KL_F_metadata, KL_F_managedFields));
    }
    if (!out && (!rc || rc == KL_ENOMEM))
        kl_error_set(err, KL_ENOMEM, "out of memory");
    return out;
}

int kl_req_want_version(struct kl_req *r, const struct kl_resource *res, struct kl_kv *kv,
                        struct kl_error *err)
{
    struct kl_conversion_memo *m = r->memos;
    if (kl_cache_is_ready(kv, res))
        return 0;
    while (m && (m->kv != kv || m->to != res))
        m = m->next;
    if (m) // one that failed is not asked for again by each run of the request
        return not_there(m, err);
    if (!(m = new_memo(r, err)))
        return err->code;
    m->to = res;
    int rc = kl_convert_versions(r->al, res, &kv, 1, &m->conversion, err);
    if (rc <= 0)
        return rc;
    m->kv = kl_kv_ref(kv);
    return on_its_way(r, m, err);
}

bool kl_req_convert_pending(const struct kl_req *r)
{
    const struct kl_conversion_memo *m = r->memos;
    while (m && !m->pending)
        m = m->next;
    return m != NULL;
}

bool kl_req_convert_again(struct kl_req *r, void (*then)(void *arg), void *arg)
{
    if (!kl_req_convert_pending(r))
        return false;
    r->memo_then = then;
    r->memo_arg = arg;
    return true;
}

void kl_req_forget_conversions(struct kl_req *r)
{
    for (struct kl_conversion_memo *m = r->memos; m; m = m->next) {
        kl_conversion_cancel(&m->conversion);
        kl_object_unref(m->was);
        kl_object_unref(m->is);
        kl_kv_unref(m->kv);
        kl_custom_family_unref(m->family);
    }
    r->memos = NULL;
}
