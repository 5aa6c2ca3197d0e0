// SPDX-License-Identifier: Apache-2.0
// Folds: what macros over lists and maps become.
#include "object/cel/plan_int.h"

static bool is_interrupted(struct cel_run *r)
{
    return r->with->interrupted && ++r->checks % KL_CEL_CHECK_FREQUENCY == 0 &&
           r->with->interrupted(r->with->interrupted_ctx);
}

static void bind(struct cel_run *r, const struct cel_plan *p, struct kl_cel_val range, size_t i)
{
    struct slot *first = &r->slots[p->slot + 1], *second = first + 1;
    struct kl_cel_val key, value;
    if (range.kind == KL_CEL_LIST) {
        value = cel_get(r->arena, range, i);
        if (p->two) {
            first->v = cel_i((int64_t)i);
            second->v = value;
        } else {
            first->v = value;
        }
        return;
    }
    kl_cel_entry(r->arena, range, i, &key, &value);
    first->v = key;
    if (p->two)
        second->v = value;
}

// False: it ends here.
static bool iterate(struct cel_run *r, const struct cel_plan *p)
{
    struct slot *accu = &r->slots[p->slot];
    struct kl_cel_val cond = cel_run_plan(r, p->cond);
    if (r->stop || (cond.kind == KL_CEL_BOOL && !cond.b))
        return false;
    struct kl_cel_val v = cel_run_plan(r, p->step);
    accu->v = v;
    accu->init = NULL;
    return !r->stop;
}

struct kl_cel_val cel_run_fold(struct cel_run *r, const struct cel_plan *p)
{
    struct slot *accu = &r->slots[p->slot];
    struct kl_cel_val range = cel_run_plan(r, p->range);
    if (r->stop || cel_is_error(range))
        return range;
    if (range.kind != KL_CEL_LIST && range.kind != KL_CEL_MAP) {
        return cel_errf(r->arena,
                        p->two ? "unsupported comprehension range type: %s"
                               : "got '%s', expected iterable type",
                        cel_go_type(range));
    }
    *accu = (struct slot){.init = p->accu};
    size_t n = cel_count(range);
    for (size_t i = 0; i < n; i++) {
        bind(r, p, range, i);
        if (!iterate(r, p))
            break;
        if (is_interrupted(r)) {
            r->stop = KL_ECANCELED;
            break;
        }
    }
    if (r->stop)
        return CEL_ERR("operation interrupted");
    return cel_settled(cel_run_plan(r, p->result));
}
