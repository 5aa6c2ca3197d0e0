// SPDX-License-Identifier: Apache-2.0
#include "object/quota/limits.h"
#include "base/buf.h"

#define ANNOTATION KL_STR("kubernetes.io/limit-ranger")
#define MAX_MILLI (INT64_MAX / 1000)

enum { TEXT_MAX_BYTES = 4 << 20 };

// ---- defaults

static const struct kl_value *limits_of(const struct kl_value *limit_range)
{
    return kl_path(limit_range, KL_F_spec, KL_F_limits);
}

static bool is_type(const struct kl_value *limit, const char *type)
{
    return kl_str_eqz(kl_text(kl_get(limit, KL_F_type)), type);
}

// What the LimitRange's rows for containers say, later rows over earlier ones.
static void collect(struct kl_amounts *l, struct kl_arena *a, const struct kl_value *limit_range,
                    kl_sym field)
{
    *l = (struct kl_amounts){.arena = a};
    for (KL_EACH(x, limits_of(limit_range))) {
        struct kl_amounts more;
        if (!is_type(x, "Container"))
            continue;
        kl_amounts_read(&more, a, kl_get(x, field));
        for (size_t i = 0; i < more.n; i++)
            kl_amounts_set(l, more.v[i].name, &more.v[i].q);
    }
}

// Adds what is missing; `cpu, memory request for container a` to the note.
static int fill(struct kl_arena *a, struct kl_value *container, kl_sym field,
                const struct kl_amounts *defaults, const char *what, struct kl_buf *note)
{
    size_t n = 0;
    for (size_t i = 0; i < defaults->n; i++) {
        struct kl_str key = defaults->v[i].name;
        char text[KL_QUANTITY_TEXT];
        if (kl_map_value(kl_path(container, KL_F_resources, field), key))
            continue;
        struct kl_str s = {text, kl_quantity_text(&defaults->v[i].q, text)};
        struct kl_value *r = kl_edit(a, container, KL_F_resources, KL_STRUCT);
        struct kl_value *map = r ? kl_edit(a, r, field, KL_MAP) : NULL;
        s = kl_arena_dup(a, s);
        key = kl_arena_dup(a, key);
        if (!map || !s.p || !key.p || kl_map_set_value(a, map, key, kl_string(s)))
            return KL_ENOMEM;
        kl_buf_printf(note, "%s%.*s",
                      n++       ? ", "
                      : note->n ? "; "
                                : "LimitRanger plugin set: ",
                      KL_PRI(key));
    }
    struct kl_str name = kl_text(kl_get(container, KL_F_name));
    if (n)
        kl_buf_printf(note, " %s %.*s", what, KL_PRI(name));
    return 0;
}

int kl_limits_fill(struct kl_arena *a, const struct kl_value *limit_range, struct kl_value *pod)
{
    static const struct {
        kl_sym list;
        const char *request, *limit;
    } lists[] = {{KL_F_containers, "request for container", "limit for container"},
                 {KL_F_initContainers, "request for init container", "limit for init container"}};
    struct kl_amounts requests, limits;
    struct kl_buf note;
    int rc = 0;
    collect(&requests, a, limit_range, KL_F_defaultRequest);
    collect(&limits, a, limit_range, KL_F_default);
    if (requests.failed || limits.failed)
        return KL_ENOMEM;
    if (!requests.n && !limits.n)
        return 0;
    kl_buf_init(&note, TEXT_MAX_BYTES);
    struct kl_value *spec = kl_edit(a, pod, KL_F_spec, KL_STRUCT);
    for (size_t l = 0; spec && l < KL_COUNT(lists) && !rc; l++) {
        size_t n = kl_len(kl_get(spec, lists[l].list));
        struct kl_value *list = n ? kl_edit(a, spec, lists[l].list, KL_ARRAY) : NULL;
        for (size_t i = 0; i < n && !rc; i++) {
            struct kl_value *c = list ? kl_edit_at(a, list, i) : NULL;
            rc = c ? fill(a, c, KL_F_requests, &requests, lists[l].request, &note) : KL_ENOMEM;
            if (!rc)
                rc = fill(a, c, KL_F_limits, &limits, lists[l].limit, &note);
        }
    }
    if (!rc && (note.err || !spec))
        rc = KL_ENOMEM;
    if (!rc && note.n) {
        struct kl_value *m = kl_edit(a, pod, KL_F_metadata, KL_STRUCT);
        struct kl_value *notes = m ? kl_edit(a, m, KL_F_annotations, KL_MAP) : NULL;
        struct kl_str s = kl_arena_dup(a, kl_buf_str(&note));
        rc = notes && s.p ? kl_map_set_value(a, notes, ANNOTATION, kl_string(s)) : KL_ENOMEM;
    }
    kl_buf_fini(&note);
    return rc;
}

// ---- checks

struct check {
    struct kl_arena *arena;
    struct kl_str type; // of the row: Container, Pod, PersistentVolumeClaim
    const struct kl_amounts *requests, *limits;
    struct kl_str *found; // messages, each once
    size_t nfound, cap;
    bool failed;
};

static void complain(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void complain(struct check *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str s = kl_arena_vprintf(c->arena, fmt, ap);
    va_end(ap);
    for (size_t i = 0; s.p && i < c->nfound; i++)
        if (kl_str_eq(c->found[i], s))
            return;
    if (c->nfound == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 8;
        struct kl_str *v = kl_arena_alloc(c->arena, cap * sizeof *v);
        if (v && c->nfound)
            memcpy(v, c->found, c->nfound * sizeof *v);
        c->found = v ? v : c->found;
        c->cap = v ? cap : c->cap;
    }
    if (s.p && c->nfound < c->cap)
        c->found[c->nfound++] = s;
    else
        c->failed = true;
}

struct text {
    char s[KL_QUANTITY_TEXT];
};

static const char *text_of(const struct kl_quantity *q, struct text *t)
{
    size_t n = kl_quantity_text(q, t->s);
    t->s[n < sizeof t->s ? n : sizeof t->s - 1] = 0;
    return t->s;
}

// The three in whole units, or in thousandths when none is too large for that.
struct triple {
    int64_t request, limit, enforced;
};

static struct triple values(const struct kl_amount *request, const struct kl_amount *limit,
                            const struct kl_quantity *enforced)
{
    const struct kl_quantity zero = {0};
    const struct kl_quantity *r = request ? &request->q : &zero, *l = limit ? &limit->q : &zero;
    struct triple t = {kl_quantity_value(r), kl_quantity_value(l), kl_quantity_value(enforced)};
    if (t.request <= MAX_MILLI && t.limit <= MAX_MILLI && t.enforced <= MAX_MILLI)
        t = (struct triple){kl_quantity_milli(r), kl_quantity_milli(l),
                            kl_quantity_milli(enforced)};
    return t;
}

#define USAGE "%s %.*s usage per %.*s is %s"

static void check_bound(struct check *c, const struct kl_amount *bound, bool max)
{
    struct text e, v;
    struct kl_str name = bound->name;
    const char *word = max ? "maximum" : "minimum";
    const struct kl_amount *request = kl_amounts_get(c->requests, name);
    const struct kl_amount *limit = c->limits ? kl_amounts_get(c->limits, name) : NULL;
    struct triple t = values(request, limit, &bound->q);
    const char *enforced = text_of(&bound->q, &e);
    bool by_limit = max && c->limits; // claims have no limits: their maximum is on the request
    if (by_limit ? !limit : !request) {
        complain(c, USAGE ".  No %s is specified", word, KL_PRI(name), KL_PRI(c->type), enforced,
                 by_limit ? "limit" : "request");
        return;
    }
    bool bad_request = request && (max ? t.request > t.enforced : t.request < t.enforced);
    bool bad_limit = limit && (max ? t.limit > t.enforced : t.limit < t.enforced);
    if (bad_limit && (max || !bad_request))
        complain(c, USAGE ", but limit is %s", word, KL_PRI(name), KL_PRI(c->type), enforced,
                 text_of(&limit->q, &v));
    else if (bad_request)
        complain(c, USAGE ", but request is %s", word, KL_PRI(name), KL_PRI(c->type), enforced,
                 text_of(&request->q, &v));
}

#define RATIO "%.*s max limit to request ratio per %.*s is %s, but "

static void check_ratio(struct check *c, const struct kl_amount *bound)
{
    struct text e;
    struct kl_str name = bound->name;
    const struct kl_amount *request = kl_amounts_get(c->requests, name);
    const struct kl_amount *limit = kl_amounts_get(c->limits, name);
    struct triple t = values(request, limit, &bound->q);
    const char *enforced = text_of(&bound->q, &e);
    if (!request || !t.request) {
        complain(c, RATIO "no request is specified or request is 0", KL_PRI(name), KL_PRI(c->type),
                 enforced);
        return;
    }
    if (!limit || !t.limit) {
        complain(c, RATIO "no limit is specified or limit is 0", KL_PRI(name), KL_PRI(c->type),
                 enforced);
        return;
    }
    double shown = (double)t.limit / (double)t.request, ratio = shown;
    double most = (double)kl_quantity_value(&bound->q);
    if (kl_quantity_value(&bound->q) <= MAX_MILLI) {
        ratio *= 1000;
        most = (double)kl_quantity_milli(&bound->q);
    }
    if (ratio > most)
        complain(c, RATIO "provided ratio is %f", KL_PRI(name), KL_PRI(c->type), enforced, shown);
}

static void check_row(struct check *c, const struct kl_value *row,
                      const struct kl_amounts *requests, const struct kl_amounts *limits)
{
    struct kl_amounts l;
    c->requests = requests;
    c->limits = limits;
    c->failed |= requests->failed || (limits && limits->failed);
    kl_amounts_read(&l, c->arena, kl_get(row, KL_F_min));
    for (size_t i = 0; i < l.n; i++)
        check_bound(c, &l.v[i], false);
    kl_amounts_read(&l, c->arena, kl_get(row, KL_F_max));
    for (size_t i = 0; i < l.n; i++)
        check_bound(c, &l.v[i], true);
    if (!limits)
        return;
    kl_amounts_read(&l, c->arena, kl_get(row, KL_F_maxLimitRequestRatio));
    for (size_t i = 0; i < l.n; i++)
        check_ratio(c, &l.v[i]);
}

// errors.Aggregate
static int aggregate(struct check *c, struct kl_str *ret)
{
    struct kl_buf b;
    *ret = KL_STR("");
    if (c->failed)
        return KL_ENOMEM;
    if (c->nfound <= 1) {
        *ret = c->nfound ? c->found[0] : KL_STR("");
        return 0;
    }
    kl_buf_init(&b, TEXT_MAX_BYTES);
    for (size_t i = 0; i < c->nfound; i++)
        kl_buf_printf(&b, "%s%.*s", i ? ", " : "[", KL_PRI(c->found[i]));
    kl_buf_putc(&b, ']');
    *ret = kl_arena_dup(c->arena, kl_buf_str(&b));
    int rc = b.err || !ret->p ? KL_ENOMEM : 0;
    kl_buf_fini(&b);
    return rc;
}

int kl_limits_check_pod(struct kl_arena *a, const struct kl_value *limit_range,
                        const struct kl_value *pod, struct kl_str *ret_why)
{
    static const kl_sym lists[] = {KL_F_containers, KL_F_initContainers};
    struct check c = {.arena = a};
    struct kl_amounts requests, limits;
    for (KL_EACH(row, limits_of(limit_range))) {
        c.type = kl_text(kl_get(row, KL_F_type));
        for (size_t l = 0; is_type(row, "Container") && l < KL_COUNT(lists); l++)
            for (KL_EACH(x, kl_path(pod, KL_F_spec, lists[l]))) {
                kl_amounts_read(&requests, a, kl_path(x, KL_F_resources, KL_F_requests));
                kl_amounts_read(&limits, a, kl_path(x, KL_F_resources, KL_F_limits));
                check_row(&c, row, &requests, &limits);
            }
        if (!is_type(row, "Pod"))
            continue;
        kl_pod_requests(&requests, a, pod, KL_POD_SUM_NO_OVERHEAD | KL_POD_SUM_PLAIN);
        kl_pod_limits(&limits, a, pod, KL_POD_SUM_NO_OVERHEAD | KL_POD_SUM_PLAIN);
        check_row(&c, row, &requests, &limits);
    }
    return aggregate(&c, ret_why);
}

int kl_limits_check_claim(struct kl_arena *a, const struct kl_value *limit_range,
                          const struct kl_value *claim, struct kl_str *ret_why)
{
    struct check c = {.arena = a};
    struct kl_amounts requests;
    for (KL_EACH(row, limits_of(limit_range))) {
        c.type = kl_text(kl_get(row, KL_F_type));
        if (!is_type(row, "PersistentVolumeClaim"))
            continue;
        kl_amounts_read(&requests, a, kl_path(claim, KL_F_spec, KL_F_resources, KL_F_requests));
        check_row(&c, row, &requests, NULL);
    }
    return aggregate(&c, ret_why);
}
