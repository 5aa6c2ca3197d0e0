// SPDX-License-Identifier: Apache-2.0
// The walker over tables of rules.
#include "object/validate/validate_int.h"

static bool is_empty(const struct kl_value *v)
{
    return !v || (v->kind >= KL_STRING && v->n == 0);
}

static void check_unique(struct kl_v *c, const struct kl_rule *r, const struct kl_value *list,
                         const struct kl_vpath *p)
{
    for (size_t i = 1; i < kl_len(list); i++) {
        struct kl_str s = kl_text(kl_get(kl_at(list, i), r->sym2));
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(kl_text(kl_get(kl_at(list, k), r->sym2)), s)) {
                kl_v_duplicate(c, FS(I(p, i), r->sym2), s);
                break;
            }
    }
}

static void check_text(struct kl_v *c, const struct kl_rule *r, struct kl_str s,
                       const struct kl_vpath *p, bool present)
{
    if (r->op == KL_R_ANY_ENUM || (r->op == KL_R_ENUM ? present : s.n != 0)) {
        if (!kl_v_in(s, r->set))
            kl_v_unsupported(c, p, s, r->set);
    } else if (r->op == KL_R_NEED_ENUM) {
        kl_v_required(c, p, "");
    }
}

static void check_each(struct kl_v *c, const struct kl_rule *r, const struct kl_value *list,
                       const struct kl_vpath *p)
{
    size_t i = 0;
    for (KL_EACH(x, list)) {
        if (r->op == KL_R_EACH)
            kl_v_walk(c, r->rules, x, I(p, i));
        else
            r->fn(c, x, I(p, i));
        i++;
    }
}

static void check_rule(struct kl_v *c, const struct kl_rule *r, const struct kl_value *v,
                       const struct kl_vpath *up)
{
    const struct kl_value *m = r->sym ? kl_get(v, r->sym) : NULL;
    const struct kl_vpath *p = FS(up, r->sym);
    switch ((enum kl_rule_op)r->op) {
    case KL_R_REQUIRED:
        if (is_empty(m))
            kl_v_required(c, p, r->text);
        break;
    case KL_R_PRESENT:
        if (!m)
            kl_v_required(c, p, r->text);
        break;
    case KL_R_NAME:
        if (is_empty(m)) {
            kl_v_required(c, p, "");
            break;
        }
        // fall through
    case KL_R_FORMAT:
        if (!is_empty(m))
            kl_v_format(c, p, kl_text(m), r->format);
        break;
    case KL_R_ENUM:
    case KL_R_NEED_ENUM:
    case KL_R_ANY_ENUM:
        check_text(c, r, kl_text(m), p, m != NULL);
        break;
    case KL_R_NONNEG:
        kl_v_nonnegative(c, p, kl_int_or(m, 0));
        break;
    case KL_R_POSITIVE:
        if (kl_int_or(m, 0) <= 0)
            kl_v_invalid_int(c, p, kl_int_or(m, 0), "must be greater than zero");
        break;
    case KL_R_RANGE:
        if (m)
            kl_v_range(c, p, kl_int_or(m, 0), r->lo, r->hi);
        break;
    case KL_R_RANGE_ANY:
        kl_v_range(c, p, kl_int_or(m, 0), r->lo, r->hi);
        break;
    case KL_R_LABELS:
        kl_v_labels(c, p, m);
        break;
    case KL_R_SELECTOR:
        kl_v_selector(c, p, m);
        break;
    case KL_R_SUB:
        if (m)
            kl_v_walk(c, r->rules, m, p);
        break;
    case KL_R_EACH:
    case KL_R_EACH_ON:
        check_each(c, r, m, p);
        break;
    case KL_R_CALL:
        r->fn(c, v, up);
        break;
    case KL_R_ON:
        if (m)
            r->fn(c, m, p);
        break;
    case KL_R_UNIQUE:
        check_unique(c, r, m, p);
        break;
    case KL_R_MAX_ITEMS:
        if ((int64_t)kl_len(m) > r->hi)
            kl_v_too_many(c, p, kl_len(m), (size_t)r->hi);
        break;
    case KL_R_IMMUTABLE:
        if (c->old)
            kl_v_immutable(c, p, NULL, m, kl_get(c->old, r->sym), false);
        break;
    case KL_R_END:
        break;
    }
}

void kl_v_walk(struct kl_v *c, const struct kl_rule *rules, const struct kl_value *v,
               const struct kl_vpath *p)
{
    for (; rules->op != KL_R_END; rules++)
        check_rule(c, rules, v, p);
}
