// SPDX-License-Identifier: Apache-2.0
// Whether a write fits into the quotas of its namespace (CheckRequest), in upstream's order of
// refusals.
#include "base/buf.h"
#include "object/quota/quota_int.h"

enum { TEXT_MAX_BYTES = 1 << 20 };

// ---- constraints: a quota of cpu or memory obliges containers to say what they want of it

static const char *const obliging[] = {
    "cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory", NULL};

static int missing_of(struct kl_arena *a, const struct kl_value *pod, const char *resource,
                      struct kl_quota_names *ret)
{
    static const kl_sym lists[] = {KL_F_containers, KL_F_initContainers};
    for (size_t i = 0; i < KL_COUNT(lists); i++)
        for (KL_EACH(c, kl_path(pod, KL_F_spec, lists[i]))) {
            struct kl_amounts requests, limits, used = {.arena = a};
            kl_amounts_read(&requests, a, kl_path(c, KL_F_resources, KL_F_requests));
            kl_amounts_read(&limits, a, kl_path(c, KL_F_resources, KL_F_limits));
            kl_quota_pod_names(&used, &requests, &limits);
            if (used.failed || (!kl_amounts_get(&used, kl_str(resource)) &&
                                kl_quota_names_add(a, ret, kl_text(kl_get(c, KL_F_name)))))
                return KL_ENOMEM;
        }
    return 0;
}

// "must specify cpu for: a,b; memory for: a"; empty when nothing is missing.
static int constraints(struct kl_arena *a, const struct kl_quota_write *w,
                       const struct kl_amounts *hard, struct kl_str *ret)
{
    struct kl_buf b;
    int rc = 0;
    *ret = KL_STR("");
    if (w->meter.kind != KL_QUOTA_PODS || kl_pod_level_set(w->object))
        return 0;
    kl_buf_init(&b, TEXT_MAX_BYTES);
    for (size_t i = 0; obliging[i] && !rc; i++) {
        struct kl_quota_names who = {0};
        if (!kl_amounts_get(hard, kl_str(obliging[i])))
            continue;
        rc = missing_of(a, w->object, obliging[i], &who);
        if (rc || !who.n)
            continue;
        struct kl_str list = kl_quota_names_joined(a, &who);
        kl_buf_printf(&b, "%s%s for: %.*s", b.n ? "; " : "must specify ", obliging[i],
                      KL_PRI(list));
    }
    *ret = kl_arena_dup(a, kl_buf_str(&b));
    if (b.err || !ret->p)
        rc = KL_ENOMEM;
    kl_buf_fini(&b);
    return rc;
}

// ---- the quotas that the object falls under

static bool measures_any(const struct kl_quota_meter *m, const struct kl_amounts *hard)
{
    for (size_t i = 0; i < hard->n; i++)
        if (kl_quota_measures(m, hard->v[i].name))
            return true;
    return false;
}

static const struct kl_value *status_of(const struct kl_quota_charge *q, kl_sym field)
{
    return kl_path(q->quota, KL_F_status, field);
}

static int refuse(struct kl_arena *a, struct kl_quota_write *w, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int refuse(struct kl_arena *a, struct kl_quota_write *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    w->why = kl_arena_vprintf(a, fmt, ap);
    va_end(ap);
    return w->why.p ? KL_QUOTA_EXCEEDS : KL_ENOMEM;
}

static int find_interesting(struct kl_arena *a, struct kl_quota_write *w, struct kl_quota_charge *q)
{
    struct kl_amounts hard, used;
    struct kl_quota_names unknown = {0};
    struct kl_str why, name = kl_meta_name(q->quota);
    kl_amounts_read(&hard, a, status_of(q, KL_F_hard));
    kl_amounts_read(&used, a, status_of(q, KL_F_used));
    if (!measures_any(&w->meter, &hard) ||
        !kl_quota_in_scope(&w->meter, kl_get(q->quota, KL_F_spec), w->object))
        return 0;
    int rc = constraints(a, w, &hard, &why);
    if (rc)
        return rc;
    if (why.n)
        return refuse(a, w, "failed quota: %.*s: %.*s", KL_PRI(name), KL_PRI(why));
    bool known = true;
    for (size_t i = 0; i < hard.n && !rc; i++) {
        if (!kl_quota_measures(&w->meter, hard.v[i].name))
            continue;
        rc = kl_quota_names_add(a, &unknown, hard.v[i].name);
        known &= kl_amounts_get(&used, hard.v[i].name) != NULL;
    }
    if (rc)
        return rc;
    if (!known) {
        struct kl_str list = kl_quota_names_joined(a, &unknown);
        return refuse(a, w, "status unknown for quota: %.*s, resources: %.*s", KL_PRI(name),
                      KL_PRI(list));
    }
    q->interesting = true;
    return 0;
}

// ---- what the write adds

// SubtractWithNonNegativeResult without its zeros, or the list itself when old is NULL.
static void difference(struct kl_amounts *ret, const struct kl_amounts *now,
                       const struct kl_amounts *old)
{
    *ret = (struct kl_amounts){.arena = now->arena, .failed = now->failed};
    for (size_t i = 0; i < now->n; i++) {
        struct kl_quantity q = now->v[i].q;
        const struct kl_amount *was = old ? kl_amounts_get(old, now->v[i].name) : NULL;
        if (was)
            kl_quantity_sub(&q, &was->q);
        if (q.nano > 0)
            kl_amounts_set(ret, now->v[i].name, &q);
    }
}

static int exceeded(struct kl_arena *a, struct kl_quota_write *w, const struct kl_quota_charge *q,
                    const struct kl_amounts *hard, const struct kl_amounts *was,
                    const struct kl_amounts *requested)
{
    struct kl_amounts asked = {.arena = a}, used = {.arena = a}, limit = {.arena = a};
    for (size_t i = 0; i < requested->n; i++) {
        struct kl_str name = requested->v[i].name;
        const struct kl_amount *h = kl_amounts_get(hard, name), *u = kl_amounts_get(was, name);
        const struct kl_amount *n = kl_amounts_get(&q->used, name);
        if (!h || !n || kl_quantity_cmp(&n->q, &h->q) <= 0)
            continue;
        kl_amounts_set(&asked, name, &requested->v[i].q);
        kl_amounts_set(&limit, name, &h->q);
        if (u)
            kl_amounts_set(&used, name, &u->q);
    }
    if (!asked.n)
        return asked.failed ? KL_ENOMEM : KL_QUOTA_FITS;
    struct kl_str name = kl_meta_name(q->quota), r = kl_amounts_text(&asked),
                  u = kl_amounts_text(&used), l = kl_amounts_text(&limit);
    return refuse(a, w, "exceeded quota: %.*s, requested: %.*s, used: %.*s, limited: %.*s",
                  KL_PRI(name), KL_PRI(r), KL_PRI(u), KL_PRI(l));
}

static int charge(struct kl_arena *a, struct kl_quota_write *w, struct kl_quota_charge *q)
{
    struct kl_amounts hard, was, requested = {.arena = a};
    kl_amounts_read(&hard, a, status_of(q, KL_F_hard));
    kl_amounts_read(&was, a, status_of(q, KL_F_used));
    kl_amounts_read(&q->used, a, status_of(q, KL_F_used));
    for (size_t i = 0; i < q->delta.n; i++)
        if (kl_amounts_get(&hard, q->delta.v[i].name))
            kl_amounts_set(&requested, q->delta.v[i].name, &q->delta.v[i].q);
    kl_amounts_add_all(&q->used, &requested);
    if (hard.failed || was.failed || requested.failed || q->used.failed)
        return KL_ENOMEM;
    q->charged = requested.n > 0;
    return w->status ? KL_QUOTA_FITS : exceeded(a, w, q, &hard, &was, &requested);
}

int kl_quota_check(struct kl_arena *a, struct kl_quota_write *w)
{
    struct kl_amounts usage, before;
    struct kl_quota_names negative = {0};
    bool any = false, changes = false;
    int rc = 0;
    for (size_t i = 0; i < w->nquotas && !rc; i++) {
        w->quotas[i].interesting = w->quotas[i].charged = false;
        rc = find_interesting(a, w, &w->quotas[i]);
        any |= w->quotas[i].interesting;
    }
    if (rc || (!any && !w->nlimited))
        return rc;
    kl_quota_usage(&usage, a, &w->meter, w->object, w->now_us);
    for (size_t i = 0; i < usage.n && !rc; i++)
        if (usage.v[i].q.nano < 0)
            rc = kl_quota_names_add(a, &negative, usage.v[i].name);
    if (rc || usage.failed)
        return KL_ENOMEM;
    if (negative.n) {
        struct kl_str list = kl_quota_names_joined(a, &negative);
        return refuse(a, w, "quota usage is negative for resource(s): %.*s", KL_PRI(list));
    }
    if (w->old)
        kl_quota_usage(&before, a, &w->meter, w->old, w->now_us);
    for (size_t i = 0; i < w->nquotas; i++) {
        struct kl_quota_charge *q = &w->quotas[i];
        if (!q->interesting)
            continue;
        bool counted = w->old && kl_quota_in_scope(&w->meter, kl_get(q->quota, KL_F_spec), w->old);
        difference(&q->delta, &usage, counted ? &before : NULL);
        if (q->delta.failed)
            return KL_ENOMEM;
        changes |= q->delta.n > 0;
    }
    if (!any) {
        struct kl_amounts delta;
        difference(&delta, &usage, w->old ? &before : NULL);
        if (delta.failed)
            return KL_ENOMEM;
        changes = delta.n > 0;
    }
    if (changes && w->nlimited)
        rc = kl_quota_check_limited(a, w, &usage);
    for (size_t i = 0; i < w->nquotas && !rc; i++)
        if (w->quotas[i].interesting && w->quotas[i].delta.n)
            rc = charge(a, w, &w->quotas[i]);
    return rc;
}
