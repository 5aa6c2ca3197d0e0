// SPDX-License-Identifier: Apache-2.0
// Attributes: a variable, or any value, and the qualifiers behind it: a.b[c].?d
#include "object/cel/plan_int.h"

static struct kl_cel_val boxed(struct cel_run *r, struct kl_cel_val v)
{
    return kl_cel_optional(r->arena, v);
}

static struct kl_cel_val missing(struct cel_run *r, const char *what, struct kl_cel_val key)
{
    return cel_errf(r->arena, "%s: %.*s", what, KL_PRI(cel_show(r->arena, key)));
}

static bool list_item(struct cel_run *r, struct kl_cel_val list, struct kl_cel_val key,
                      struct kl_cel_val *ret)
{
    struct kl_cel_val error;
    int64_t i = cel_index(r->arena, key, &error);
    if (i == -1 && cel_is_error(error)) {
        *ret = error;
        return true;
    }
    if (i < 0 || (uint64_t)i >= cel_count(list))
        return false;
    if (list.form == F_TYPED && key.kind != KL_CEL_INT) // unstructuredList.Get
        *ret = cel_errf(r->arena, "unsupported index: %.*s", KL_PRI(cel_show(r->arena, key)));
    else
        *ret = cel_get(r->arena, list, (size_t)i);
    return true;
}

static bool patch_member(struct cel_run *r, const struct cel_patch *p, struct kl_cel_val key,
                         bool testing, struct kl_cel_val *ret)
{
    struct kl_str name = key.kind == KL_CEL_STRING ? cel_text(key) : KL_STR("");
    const struct kl_str *text = kl_str_eqz(name, "op")     ? &p->v.op
                                : kl_str_eqz(name, "path") ? &p->v.path
                                : kl_str_eqz(name, "from") ? &p->v.from
                                                           : NULL;
    if (kl_str_eqz(name, "value")) {
        *ret = p->v.has_value ? p->v.value : kl_cel_null();
        return p->v.has_value || !testing;
    }
    if (!text) {
        *ret = cel_errf(r->arena, testing ? "unsupported field: %.*s" : "unsupported indexer: %.*s",
                        KL_PRI(cel_show(r->arena, key)));
        return true;
    }
    *ret = cel_str(text->p ? *text : KL_STR(""));
    return text->n || !testing;
}

// One step. False: not there; then *ret is what a plain access says. Errors count as there.
static bool step(struct cel_run *r, struct kl_cel_val obj, struct kl_cel_val key, bool testing,
                 struct kl_cel_val *ret)
{
    switch (obj.kind) {
    case KL_CEL_MAP:
        if (cel_find(r->arena, obj, key, ret))
            return true;
        *ret = missing(r, "no such key", key);
        return false;
    case KL_CEL_LIST:
        if (list_item(r, obj, key, ret))
            return true;
        *ret = missing(r, "index out of bounds", key);
        return false;
    case KL_CEL_JSON_PATCH:
        return patch_member(r, obj.p, key, testing, ret);
    case KL_CEL_OBJECT: {
        const struct cel_object *o = obj.p;
        struct kl_cel_val fields = {.kind = KL_CEL_MAP, .form = F_GROWS, .p = &o->fields};
        if (cel_find(r->arena, fields, key, ret))
            return true;
        *ret = kl_cel_null();
        return !testing;
    }
    default:
        *ret = missing(r, "no such key", key);
        return false;
    }
}

static bool is_key(struct kl_cel_val v)
{
    return v.kind >= KL_CEL_BOOL && v.kind <= KL_CEL_STRING;
}

static struct kl_cel_val computed_key(struct cel_run *r, const struct cel_qual *q)
{
    struct kl_cel_val key = q->attr ? cel_run_attr(r, q->attr) : q->key;
    if (r->stop || cel_is_error(key) || is_key(key))
        return key;
    return cel_errf(r->arena, "invalid qualifier type: %s", cel_go_type(key));
}

static struct kl_cel_val qualify(struct cel_run *r, const struct cel_attr *a, struct kl_cel_val obj)
{
    bool optional = obj.kind == KL_CEL_OPTIONAL;
    if (optional) {
        if (!obj.p)
            return obj;
        obj = *(const struct kl_cel_val *)obj.p;
    }
    for (uint32_t i = 0; i < a->nquals; i++) {
        const struct cel_qual *q = &a->quals[i];
        struct kl_cel_val found, key = computed_key(r, q);
        optional |= q->optional;
        if (r->stop)
            return key;
        bool testing = optional || q->test;
        bool there = cel_is_error(key) || step(r, obj, key, testing, &found);
        if (cel_is_error(key))
            found = key;
        // What is only looked for costs when it is there.
        bool failed = there && cel_is_error(found);
        if ((!optional || (there && !failed)) && !cel_charge(r, 1))
            return CEL_ERR("cost");
        if (failed)
            return found;
        if (optional && !there)
            return kl_cel_none();
        if (q->test && !optional)
            return kl_cel_bool(there);
        if (!there)
            return found;
        obj = found;
    }
    return optional ? boxed(r, obj) : obj;
}

static struct kl_cel_val local(struct cel_run *r, uint32_t index)
{
    struct slot *s = &r->slots[index];
    if (s->init) {
        const struct cel_plan *init = s->init;
        s->init = NULL;
        s->v = cel_run_plan(r, init);
        // What begins empty is filled in place.
        if ((s->v.kind == KL_CEL_LIST || s->v.kind == KL_CEL_MAP) && !cel_count(s->v)) {
            s->v = cel_new_growing(r->arena, (enum kl_cel_kind)s->v.kind);
            if (!s->v.p)
                s->v = CEL_NO_MEMORY;
        }
    }
    return s->v;
}

struct kl_cel_val cel_run_attr(struct cel_run *r, const struct cel_attr *a)
{
    struct kl_cel_val v;
    switch (a->kind) {
    case A_VAR:
        v = r->with->vars[a->index];
        break;
    case A_LOCAL:
        v = local(r, a->index);
        break;
    case A_REL:
        v = cel_run_plan(r, a->operand);
        break;
    default:
        v = cel_run_plan(r, a->operand);
        if (r->stop || cel_is_error(v))
            return v;
        if (v.kind != KL_CEL_BOOL)
            return CEL_NO_OVERLOAD;
        return cel_run_attr(r, v.b ? a->yes : a->no);
    }
    return r->stop || cel_is_error(v) || !a->nquals ? v : qualify(r, a, v);
}
