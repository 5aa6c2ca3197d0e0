// SPDX-License-Identifier: Apache-2.0
// FlowSchemas and levels made into what requests are matched with (apf_controller.go). A
// configuration is immutable; levels live on from one to the next, with what waits in them.
#include "apiserver/fairness/fairness_int.h"
#include "base/clock.h"
#include "base/log.h"
#include "object/defaults.h"
#include <math.h>
#include <stdlib.h>

#define MAX_SEATS_FRACTION 0.15 // of a level's seats that one request may take

enum { DEFAULT_SEATS = 600 };

struct level_spec {
    struct kl_str name, uid;
    bool exempt;
    struct kl_fq_config q;
    int64_t shares, lendable, borrowing; // percent; borrowing < 0: no limit
};

// What upstream imagines as long as the objects are not there.
static const struct level_spec imagined_levels[] = {
    {KL_STR_INIT("exempt"), KL_STR_INIT(""), true, {.queues = -1}, 0, 0, -1},
    {KL_STR_INIT("catch-all"), KL_STR_INIT(""), false, {.queues = 0}, 5, 0, -1},
};
static const char *const imagined_schemas[] = {
    "{\"metadata\":{\"name\":\"exempt\"},\"spec\":{\"priorityLevelConfiguration\":{\"name\":"
    "\"exempt\"},\"matchingPrecedence\":1,\"rules\":[{\"subjects\":[{\"kind\":\"Group\",\"group\":"
    "{\"name\":\"system:masters\"}}],\"resourceRules\":[{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],"
    "\"resources\":[\"*\"],\"clusterScope\":true,\"namespaces\":[\"*\"]}],\"nonResourceRules\":["
    "{\"verbs\":[\"*\"],\"nonResourceURLs\":[\"*\"]}]}]}}",
    "{\"metadata\":{\"name\":\"catch-all\"},\"spec\":{\"priorityLevelConfiguration\":{\"name\":"
    "\"catch-all\"},\"matchingPrecedence\":10000,\"distinguisherMethod\":{\"type\":\"ByUser\"},"
    "\"rules\":[{\"subjects\":[{\"kind\":\"Group\",\"group\":{\"name\":\"system:unauthenticated\"}}"
    ",{\"kind\":\"Group\",\"group\":{\"name\":\"system:authenticated\"}}],\"resourceRules\":[{"
    "\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],\"resources\":[\"*\"],\"clusterScope\":true,"
    "\"namespaces\":[\"*\"]}],\"nonResourceRules\":[{\"verbs\":[\"*\"],\"nonResourceURLs\":[\"*\"]"
    "}]}]}}",
};

// ---- references

struct kl_fair_config *kl_fair_config_ref(struct kl_fair_config *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

struct kl_fair_config *kl_fair_config_now(struct kl_fair *f)
{
    pthread_mutex_lock(&f->mu);
    struct kl_fair_config *c = kl_fair_config_ref(f->config);
    pthread_mutex_unlock(&f->mu);
    return c;
}

static void free_config(struct kl_fair_config *c)
{
    for (size_t i = 0; i < c->nobjects; i++)
        kl_object_unref(c->objects[i]);
    free(c->objects);
    free(c->levels);
    free(c->flows);
    free(c);
}

void kl_fair_config_unref(struct kl_fair *f, struct kl_fair_config *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1)
        return;
    pthread_mutex_lock(&f->mu);
    for (size_t i = 0; i < c->nlevels; i++)
        c->levels[i]->configs--;
    pthread_mutex_unlock(&f->mu);
    free_config(c);
}

// ---- levels

static int32_t int_of(const struct kl_value *v, kl_sym field, int32_t otherwise)
{
    return (int32_t)kl_int_or(kl_get(v, field), otherwise);
}

// False with the reason: the object is none that can be used.
static bool read_level(const struct kl_object *o, struct level_spec *ret, const char **ret_why)
{
    const struct kl_value *spec = kl_get(&o->root, KL_F_spec);
    const struct kl_value *limited = kl_get(spec, KL_F_limited), *exempt;
    struct kl_str type = kl_text(kl_get(spec, KL_F_type));
    exempt = kl_get(spec, KL_F_exempt);
    *ret = (struct level_spec){.name = kl_meta_name(&o->root),
                               .uid = kl_meta_uid(&o->root),
                               .exempt = kl_str_eqz(type, "Exempt"),
                               .borrowing = -1};
    bool is_limited = kl_str_eqz(type, "Limited");
    *ret_why = "broken union structure at the top, for Limited";
    if (is_limited != (limited != NULL))
        return false;
    *ret_why = "broken union structure at the top, for Exempt";
    if (ret->exempt && limited)
        return false;
    *ret_why = "non-alignment between name and type";
    if (ret->exempt != kl_str_eqz(ret->name, "exempt"))
        return false;
    if (ret->exempt) {
        ret->q.queues = -1;
        ret->shares = int_of(exempt, KL_F_nominalConcurrencyShares, 0);
        ret->lendable = int_of(exempt, KL_F_lendablePercent, 0);
        return true;
    }
    const struct kl_value *response = kl_get(limited, KL_F_limitResponse);
    const struct kl_value *queuing = kl_get(response, KL_F_queuing);
    bool rejects = kl_str_eqz(kl_text(kl_get(response, KL_F_type)), "Reject");
    *ret_why = "broken union structure for limit response";
    if (rejects != (queuing == NULL))
        return false;
    ret->shares = int_of(limited, KL_F_nominalConcurrencyShares, 30);
    ret->lendable = int_of(limited, KL_F_lendablePercent, 0);
    ret->borrowing = int_of(limited, KL_F_borrowingLimitPercent, -1);
    if (rejects)
        return true;
    ret->q = (struct kl_fq_config){.queues = int_of(queuing, KL_F_queues, 64),
                                   .hand_size = int_of(queuing, KL_F_handSize, 8),
                                   .queue_length = int_of(queuing, KL_F_queueLengthLimit, 50)};
    *ret_why = "an invalid shuffle sharding configuration";
    return kl_shuffle_valid(ret->q.queues, ret->q.hand_size);
}

static void copy_name(char *to, size_t cap, struct kl_str s)
{
    size_t n = s.n < cap - 1 ? s.n : cap - 1;
    memcpy(to, s.p, n);
    to[n] = 0;
}

static struct kl_fair_level *find_level(struct kl_fair *f, struct kl_str name)
{
    for (struct kl_fair_level *l = f->levels; l; l = l->next)
        if (kl_str_eqz(name, l->name))
            return l;
    return NULL;
}

// What a round of configuring works on.
struct meal {
    struct kl_fair *f;
    struct kl_fair_config *c;
    struct level_spec *specs; // beside c->levels
    int64_t share_sum;
};

static int add_level(struct meal *m, const struct level_spec *spec)
{
    struct kl_fair_level *l = find_level(m->f, spec->name);
    if (!l) {
        if (!(l = calloc(1, sizeof *l)))
            return KL_ENOMEM;
        copy_name(l->name, sizeof l->name, spec->name);
        pthread_mutex_init(&l->mu, NULL);
        kl_fqs_init(&l->q, &spec->q, 0, kl_mono_ns());
        kl_drops_init(&l->drops);
        l->share.current = -1; // not known yet
        l->next = m->f->levels;
        m->f->levels = l;
    }
    copy_name(l->uid, sizeof l->uid, spec->uid);
    l->desired = true;
    m->specs[m->c->nlevels] = *spec;
    m->specs[m->c->nlevels].name = kl_str(l->name);
    m->c->levels[m->c->nlevels++] = l;
    m->share_sum += spec->shares;
    return 0;
}

static bool is_idle(struct kl_fair_level *l)
{
    pthread_mutex_lock(&l->mu);
    bool idle = !l->q.waiting && !l->q.executing && !l->q.seats_in_use;
    pthread_mutex_unlock(&l->mu);
    return idle;
}

static void free_level(struct kl_fair_level *l)
{
    kl_fqs_fini(&l->q);
    pthread_mutex_destroy(&l->mu);
    free(l);
}

// Levels that nobody wants any more go once nothing is in them.
static void reap(struct kl_fair *f)
{
    for (struct kl_fair_level **at = &f->levels, *l; (l = *at);) {
        if (l->desired || l->configs || !is_idle(l)) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        free_level(l);
    }
}

static void size_level(struct meal *m, size_t i)
{
    const struct level_spec *spec = &m->specs[i];
    struct kl_fair_level *l = m->c->levels[i];
    struct kl_level_share *s = &l->share;
    int limit = m->f->limit;
    int nominal =
        m->share_sum ? (int)ceil((double)limit * (double)spec->shares / (double)m->share_sum) : 0;
    int lendable = (int)lround(nominal * (double)spec->lendable / 100);
    int borrowing =
        spec->borrowing < 0 ? limit : (int)lround(nominal * (double)spec->borrowing / 100);
    s->exempt = spec->exempt;
    s->nominal = nominal;
    s->min = nominal - lendable;
    s->max = nominal + borrowing;
    if (s->current < 0)
        s->current = nominal - lendable / 2;
    l->q.conf = spec->q;
    int seats = 0;
    if (spec->q.queues > 0) {
        seats = (int)fmin(ceil(nominal * MAX_SEATS_FRACTION), nominal / spec->q.hand_size);
        seats = seats < 1 ? 1 : seats;
    }
    atomic_store_explicit(&l->max_seats, seats, memory_order_relaxed);
    m->f->nominal_sum += nominal;
}

// ---- borrowing

static void adjust(struct kl_fair *f)
{
    size_t n = 0, i = 0;
    for (struct kl_fair_level *l = f->levels; l; l = l->next)
        n++;
    struct kl_level_share **shares = calloc(n + 1, sizeof(*shares));
    struct kl_share *work = calloc(n + 1, sizeof(*work));
    double *work2 = calloc(n + 1, sizeof(*work2));
    int64_t now = kl_mono_ns();
    if (shares && work && work2) {
        for (struct kl_fair_level *l = f->levels; l; l = l->next) {
            struct kl_fq_demand d;
            pthread_mutex_lock(&l->mu);
            kl_fqs_take_demand(&l->q, &d, now);
            pthread_mutex_unlock(&l->mu);
            kl_level_share_demand(&l->share, &d);
            shares[i++] = &l->share;
        }
        kl_level_shares_adjust(shares, n, f->nominal_sum, work, work2, &f->fair_fraction);
        for (struct kl_fair_level *l = f->levels; l; l = l->next) {
            pthread_mutex_lock(&l->mu);
            struct kl_fq_config c = l->q.conf;
            kl_fqs_configure(&l->q, &c, l->share.current, now);
            kl_fair_wake_locked(l);
            pthread_mutex_unlock(&l->mu);
        }
    }
    free(shares);
    free(work);
    free(work2);
}

void kl_fair_adjust(struct kl_fair *f)
{
    pthread_mutex_lock(&f->mu);
    reap(f);
    adjust(f);
    pthread_mutex_unlock(&f->mu);
}

bool kl_fair_level_known(struct kl_fair *f, struct kl_str name)
{
    bool known = false;
    pthread_mutex_lock(&f->mu);
    for (size_t i = 0; i < f->config->nlevels; i++)
        known =
            known || (kl_str_eqz(name, f->config->levels[i]->name) && f->config->levels[i]->uid[0]);
    pthread_mutex_unlock(&f->mu);
    return known;
}

// ---- schemas

static struct kl_fair_stats *stats_of(struct kl_fair *f, struct kl_str schema,
                                      const struct kl_fair_level *l)
{
    struct kl_fair_stats *st;
    for (st = f->stats; st; st = st->next)
        if (kl_str_eqz(schema, st->schema) && !strcmp(st->level, l->name))
            return st;
    if (f->nstats >= KL_FAIR_MAX_FLOWS || !(st = calloc(1, sizeof *st)))
        return f->stats; // counted with another rather than not matched
    copy_name(st->schema, sizeof st->schema, schema);
    copy_name(st->level, sizeof st->level, kl_str(l->name));
    st->next = f->stats;
    f->stats = st;
    f->nstats++;
    return st;
}

static int add_flow(struct meal *m, struct kl_object *o)
{
    const struct kl_value *spec = kl_get(&o->root, KL_F_spec);
    struct kl_str to = kl_text_at(spec, KL_F_priorityLevelConfiguration, KL_F_name);
    struct kl_str by = kl_text_at(spec, KL_F_distinguisherMethod, KL_F_type);
    struct kl_fair_level *l = NULL;
    for (size_t i = 0; i < m->c->nlevels && !l; i++)
        if (kl_str_eqz(to, m->c->levels[i]->name))
            l = m->c->levels[i];
    if (!l)
        return 0; // dangling
    struct kl_fair_flow *w = &m->c->flows[m->c->nflows];
    *w = (struct kl_fair_flow){.name = kl_meta_name(&o->root),
                               .uid = kl_meta_uid(&o->root),
                               .precedence = kl_int_at(spec, 1000, KL_F_matchingPrecedence),
                               .by = kl_str_eqz(by, "ByUser")        ? KL_FLOW_BY_USER
                                     : kl_str_eqz(by, "ByNamespace") ? KL_FLOW_BY_NAMESPACE
                                                                     : KL_FLOW_BY_NOTHING,
                               .rules = kl_get(spec, KL_F_rules),
                               .level = l};
    copy_name(w->level_uid, sizeof w->level_uid, kl_str(l->uid));
    if (!(w->stats = stats_of(m->f, w->name, l)))
        return KL_ENOMEM;
    m->c->nflows++;
    return 0;
}

static int by_precedence(const void *a, const void *b)
{
    const struct kl_fair_flow *x = a, *y = b;
    if (x->precedence != y->precedence)
        return x->precedence < y->precedence ? -1 : 1;
    return kl_str_cmp(x->name, y->name);
}

static bool has_flow(const struct kl_fair_config *c, const char *name)
{
    for (size_t i = 0; i < c->nflows; i++)
        if (kl_str_eqz(c->flows[i].name, name))
            return true;
    return false;
}

static struct kl_object *imagine_schema(const char *json)
{
    const struct kl_resource *res = kl_resource_storage(kl_res(KL_RES_flowcontrol_v1_flowschemas));
    struct kl_arena a;
    struct kl_value v;
    struct kl_error err = {0};
    struct kl_object *o = NULL;
    kl_arena_init(&a, 1 << 20);
    if (!kl_json_decode(&a, res->type, kl_str(json), NULL, &v, &err))
        o = kl_object_freeze(res->type, &v);
    kl_arena_fini(&a);
    return o;
}

static int add_imagined(struct meal *m, const char *name, const char *json)
{
    if (has_flow(m->c, name))
        return 0;
    struct kl_object *o = imagine_schema(json);
    if (!o)
        return KL_ENOMEM;
    m->c->objects[m->c->nobjects++] = o;
    return add_flow(m, o);
}

// ---- all of it

static int cook(struct meal *m, struct kl_object **levels, size_t nlevels,
                struct kl_object **schemas, size_t nschemas)
{
    struct kl_fair *f = m->f;
    int rc = 0;
    for (struct kl_fair_level *l = f->levels; l; l = l->next)
        l->desired = false;
    for (size_t i = 0; i < nlevels && !rc; i++) {
        struct level_spec spec;
        const char *why;
        if (read_level(levels[i], &spec, &why))
            rc = add_level(m, &spec);
        else
            kl_log(KL_LOG_WARN, "fairness", "ignoring level=%.*s: %s", KL_PRI(spec.name), why);
    }
    for (size_t i = 0; i < KL_COUNT(imagined_levels) && !rc; i++) {
        struct kl_fair_level *l = find_level(f, imagined_levels[i].name);
        if (!l || !l->desired)
            rc = add_level(m, &imagined_levels[i]);
    }
    for (size_t i = 0; i < nschemas && !rc; i++)
        rc = add_flow(m, schemas[i]);
    if (!rc)
        rc = add_imagined(m, "exempt", imagined_schemas[0]);
    if (!rc)
        rc = add_imagined(m, "catch-all", imagined_schemas[1]);
    if (rc)
        return rc;
    qsort(m->c->flows, m->c->nflows, sizeof m->c->flows[0], by_precedence);
    f->nominal_sum = 0;
    for (size_t i = 0; i < m->c->nlevels; i++) {
        pthread_mutex_lock(&m->c->levels[i]->mu);
        size_level(m, i);
        pthread_mutex_unlock(&m->c->levels[i]->mu);
    }
    return 0;
}

int kl_fair_configure(struct kl_fair *f, struct kl_object **levels, size_t nlevels,
                      struct kl_object **schemas, size_t nschemas)
{
    struct meal m = {.f = f, .c = calloc(1, sizeof *m.c)};
    size_t n = nlevels + KL_COUNT(imagined_levels);
    int rc = KL_ENOMEM;
    m.specs = calloc(n, sizeof(*m.specs));
    if (m.c) {
        atomic_init(&m.c->refs, 1);
        m.c->levels = calloc(n, sizeof(*m.c->levels));
        m.c->flows = calloc(nschemas + 2, sizeof(*m.c->flows));
        m.c->objects = calloc(nschemas + nlevels + 2, sizeof(*m.c->objects));
    }
    pthread_mutex_lock(&f->mu);
    if (m.c && m.specs && m.c->levels && m.c->flows && m.c->objects)
        rc = cook(&m, levels, nlevels, schemas, nschemas);
    struct kl_fair_config *old = m.c;
    if (!rc) {
        for (size_t i = 0; i < m.c->nlevels; i++)
            m.c->levels[i]->configs++;
        for (size_t i = 0; i < nschemas; i++)
            m.c->objects[m.c->nobjects++] = kl_object_ref(schemas[i]);
        old = f->config;
        f->config = m.c;
        m.c->generation = atomic_load(&f->generation) + 1;
        adjust(f);
        atomic_store_explicit(&f->generation, m.c->generation, memory_order_release);
    }
    pthread_mutex_unlock(&f->mu);
    for (size_t i = 0; i < nlevels; i++)
        kl_object_unref(levels[i]);
    for (size_t i = 0; i < nschemas; i++)
        kl_object_unref(schemas[i]);
    if (rc && old)
        free_config(old);
    else if (!rc)
        kl_fair_config_unref(f, old);
    free(m.specs);
    return rc;
}

// ---- life

struct kl_fair *kl_fair_new(struct kl_apiserver *s, const struct kl_fair_options *o)
{
    struct kl_fair *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->s = s;
    f->o = *o;
    f->limit = f->o.max_inflight + f->o.max_mutating_inflight;
    if (f->limit <= 0) // priorities need something to share
        f->limit = DEFAULT_SEATS;
    pthread_mutex_init(&f->mu, NULL);
    for (int i = 0; i < KL_MAX_API_LOOPS; i++)
        f->loops[i].fair = f;
    if (kl_fair_configure(f, NULL, 0, NULL, 0)) {
        kl_fair_free(f);
        return NULL;
    }
    return f;
}

void kl_fair_free(struct kl_fair *f)
{
    if (!f)
        return;
    if (f->config)
        kl_fair_config_unref(f, f->config);
    for (struct kl_fair_level *l = f->levels, *next; l; l = next) {
        next = l->next;
        free_level(l);
    }
    for (struct kl_fair_stats *st = f->stats, *next; st; st = next) {
        next = st->next;
        free(st);
    }
    pthread_mutex_destroy(&f->mu);
    free(f);
}
