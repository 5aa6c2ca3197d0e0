// SPDX-License-Identifier: Apache-2.0
// The list of entries: reading, identity, order, the bound on updaters.
#include "object/apply/managed_int.h"
#include "base/map.h"
#include "object/json.h"
#include <stdlib.h>

const struct kl_value *kl_managed_entries(const struct kl_value *root)
{
    return kl_path(root, KL_F_metadata, KL_F_managedFields);
}

bool kl_managed_is_reset(const struct kl_value *entries)
{
    if (!entries || entries->kind != KL_ARRAY || entries->n > 1)
        return false;
    return entries->n == 0 || kl_len(&entries->items[0]) == 0;
}

// ---- reading

static int open_entry(const struct kl_value *e, size_t i, struct kl_manager *m,
                      struct kl_error *err)
{
    struct kl_str op = kl_text(kl_get(e, KL_F_operation));
    struct kl_str type = kl_text(kl_get(e, KL_F_fieldsType));
    const struct kl_value *time = kl_get(e, KL_F_time);
    *m = (struct kl_manager){.name = kl_text(kl_get(e, KL_F_manager)),
                             .subresource = kl_text(kl_get(e, KL_F_subresource)),
                             .api_version = kl_text(kl_get(e, KL_F_apiVersion)),
                             .applied = kl_str_eqz(op, "Apply"),
                             .has_time = kl_is(time, KL_TIME),
                             .time_us = kl_int_or(time, 0),
                             .text = kl_text(kl_get(e, KL_F_fieldsV1))};
    if (!m->text.n)
        m->text = KL_STR("{}");
    if (!m->applied && !kl_str_eqz(op, "Update"))
        return kl_error_set(err, KL_EBADREQUEST, "operation must be `Apply` or `Update`");
    if (!m->api_version.n)
        return kl_error_set(err, KL_EBADREQUEST, "apiVersion must not be empty");
    if (!type.n)
        return kl_error_set(err, KL_EBADREQUEST, "missing fieldsType in managed fields entry %zu",
                            i);
    if (!kl_str_eqz(type, "FieldsV1"))
        return kl_error_set(err, KL_EBADREQUEST,
                            "invalid fieldsType \"%.*s\" in managed fields entry %zu", KL_PRI(type),
                            i);
    return 0;
}

static bool is_same(const struct kl_manager *a, const struct kl_manager *b)
{
    return a->applied == b->applied && kl_str_eq(a->name, b->name) &&
           kl_str_eq(a->subresource, b->subresource) &&
           (a->applied || kl_str_eq(a->api_version, b->api_version));
}

struct kl_manager *kl_managed_find(struct kl_managed *x, const struct kl_manager *who)
{
    for (size_t i = 0; i < x->n; i++)
        if (!x->m[i].gone && is_same(&x->m[i], who))
            return &x->m[i];
    return NULL;
}

struct kl_manager *kl_managed_add(struct kl_managed *x, const struct kl_manager *m)
{
    if (x->n == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 8;
        struct kl_manager *more = kl_arena_alloc(x->arena, cap * sizeof *more);
        if (!more)
            return NULL;
        if (x->n)
            memcpy(more, x->m, x->n * sizeof *more);
        x->m = more;
        x->cap = cap;
    }
    x->m[x->n] = *m;
    return &x->m[x->n++];
}

// Those that are the same stand together, as they stood.
static int by_identity(const void *a, const void *b)
{
    const struct kl_manager *x = *(struct kl_manager *const *)a,
                            *y = *(struct kl_manager *const *)b;
    int c = x->applied - y->applied;
    c = c ? c : kl_str_cmp(x->name, y->name);
    c = c ? c : kl_str_cmp(x->subresource, y->subresource);
    if (!c && !x->applied)
        c = kl_str_cmp(x->api_version, y->api_version);
    return c ? c : x < y ? -1 : x > y;
}

// Of those that are the same the last counts, where the first stood. A list is as long as a client
// likes, so they are sorted rather than each looked for.
static int drop_repeated(struct kl_managed *x)
{
    struct kl_manager **order = kl_arena_alloc(x->arena, (x->n + 1) * sizeof *order);
    size_t n = 0;
    if (!order)
        return KL_ENOMEM;
    for (size_t i = 0; i < x->n; i++)
        order[i] = &x->m[i];
    if (x->n)
        qsort(order, x->n, sizeof *order, by_identity);
    for (size_t i = 1, first = 0; i < x->n; i++) {
        if (is_same(order[first], order[i])) {
            *order[first] = *order[i];
            order[i]->gone = true;
        } else {
            first = i;
        }
    }
    for (size_t i = 0; i < x->n; i++)
        if (!x->m[i].gone)
            x->m[n++] = x->m[i];
    x->n = n;
    return 0;
}

int kl_managed_open(struct kl_arena *a, const struct kl_value *entries, struct kl_managed *ret,
                    struct kl_error *err)
{
    *ret = (struct kl_managed){.arena = a};
    for (size_t i = 0; i < kl_len(entries); i++) {
        struct kl_manager m;
        int rc = open_entry(&entries->items[i], i, &m, err);
        if (rc)
            return rc;
        if (!kl_managed_add(ret, &m))
            return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    return drop_repeated(ret) ? kl_error_set(err, KL_ENOMEM, "out of memory") : 0;
}

int kl_managed_read(struct kl_managed *x, struct kl_manager *m, struct kl_error *err)
{
    if (m->read)
        return 0;
    int rc = kl_fieldset_parse(x->arena, m->text, &m->set, err);
    m->read = !rc;
    return rc;
}

int kl_managed_read_all(struct kl_managed *x, struct kl_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < x->n && !rc; i++)
        rc = kl_managed_read(x, &x->m[i], err);
    return rc;
}

int kl_managed_check(struct kl_arena *a, const struct kl_value *entries, struct kl_error *err)
{
    struct kl_managed x;
    int rc = kl_managed_open(a, entries, &x, err);
    return rc ? rc : kl_managed_read_all(&x, err);
}

void kl_manager_set(struct kl_manager *m, const struct kl_fieldset *set)
{
    m->set = set;
    m->read = true;
    m->text = (struct kl_str){NULL, 0};
    m->gone = !set;
}

size_t kl_managed_count(const struct kl_managed *x)
{
    size_t n = 0;
    for (size_t i = 0; i < x->n; i++)
        n += !x->m[i].gone;
    return n;
}

// ---- writing

static int64_t seconds(const struct kl_manager *m)
{
    return m->has_time ? m->time_us / 1000000 - (m->time_us % 1000000 < 0) : 0;
}

static int cmp_managers(const void *a, const void *b)
{
    const struct kl_manager *x = *(struct kl_manager *const *)a,
                            *y = *(struct kl_manager *const *)b;
    int64_t s = seconds(x), t = seconds(y);
    int c;
    if (x->applied != y->applied)
        return x->applied ? -1 : 1;
    if (s != t)
        return s < t ? -1 : 1;
    if ((c = kl_str_cmp(x->name, y->name)) || (c = kl_str_cmp(x->api_version, y->api_version)))
        return c;
    return kl_str_cmp(x->subresource, y->subresource);
}

static int write_text(struct kl_managed *x, struct kl_manager *m)
{
    struct kl_buf b;
    if (m->text.p)
        return 0;
    kl_buf_init(&b, 4u << 20);
    kl_fieldset_write(&b, m->set);
    m->text = b.err ? (struct kl_str){NULL, 0} : kl_arena_dup(x->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    return m->text.p ? 0 : KL_ENOMEM;
}

static int put_entry(struct kl_managed *x, struct kl_manager *m, struct kl_value *to)
{
    struct kl_arena *a = x->arena;
    struct kl_value e = kl_new_struct();
    if (m->set == &kl_fieldset_oom || write_text(x, m) ||
        (m->name.n && kl_set(a, &e, KL_F_manager, kl_string(m->name))) ||
        kl_set(a, &e, KL_F_operation, kl_stringz(m->applied ? "Apply" : "Update")) ||
        kl_set(a, &e, KL_F_apiVersion, kl_string(m->api_version)) ||
        (m->has_time && kl_set(a, &e, KL_F_time, kl_time(m->time_us))) ||
        kl_set(a, &e, KL_F_fieldsType, kl_stringz("FieldsV1")) ||
        kl_set(a, &e, KL_F_fieldsV1, kl_raw_json(m->text)) ||
        (m->subresource.n && kl_set(a, &e, KL_F_subresource, kl_string(m->subresource))))
        return KL_ENOMEM;
    return kl_append(a, to, e);
}

static struct kl_manager **in_order(struct kl_managed *x, size_t *ret_n)
{
    struct kl_manager **order = kl_arena_alloc(x->arena, (x->n + 1) * sizeof *order);
    size_t n = 0;
    for (size_t i = 0; order && i < x->n; i++)
        if (!x->m[i].gone)
            order[n++] = &x->m[i];
    if (order)
        qsort(order, n, sizeof *order, cmp_managers);
    *ret_n = n;
    return order;
}

int kl_managed_close(struct kl_managed *x, struct kl_value *ret, struct kl_error *err)
{
    size_t n;
    struct kl_manager **order = in_order(x, &n);
    struct kl_value list = kl_new_array();
    for (size_t i = 0; order && i < n; i++)
        if (put_entry(x, order[i], &list))
            order = NULL;
    if (!order)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    *ret = n ? list : kl_null();
    return 0;
}

// Upstream's key of a manager is the JSON of its entry without what changes.
struct kl_str kl_manager_id(struct kl_arena *a, const struct kl_manager *m)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_buf_puts(&b, KL_STR("{"));
    if (m->name.n) {
        kl_buf_puts(&b, KL_STR("\"manager\":"));
        kl_json_write_string(&b, m->name);
        kl_buf_putc(&b, ',');
    }
    kl_buf_printf(&b, "\"operation\":\"%s\"", m->applied ? "Apply" : "Update");
    if (!m->applied) {
        kl_buf_puts(&b, KL_STR(",\"apiVersion\":"));
        kl_json_write_string(&b, m->api_version);
    }
    if (m->subresource.n) {
        kl_buf_puts(&b, KL_STR(",\"subresource\":"));
        kl_json_write_string(&b, m->subresource);
    }
    kl_buf_putc(&b, '}');
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

// ---- the bound

static int cmp_age(const void *a, const void *b)
{
    const struct kl_manager *x = *(struct kl_manager *const *)a,
                            *y = *(struct kl_manager *const *)b;
    int64_t s = seconds(x), t = seconds(y);
    int c = kl_str_cmp(x->name, y->name);
    if (s != t)
        return s < t ? -1 : 1;
    if (!c)
        c = kl_str_cmp(x->api_version, y->api_version);
    return c ? c : kl_str_cmp(x->subresource, y->subresource);
}

// What is known of a version's updaters. The sets that become one: part[i] is the union of 2^i of
// them, so that many cost little more than all their paths, not each time those of all before.
struct pile {
    struct pile *next;
    struct kl_manager *first, *bucket; // NULL: none yet
    bool joins;
    const struct kl_fieldset *part[32];
};

struct piles {
    struct pile *all;
    struct kl_map by_version;
};

static bool pile_add(struct kl_arena *a, struct pile *p, const struct kl_fieldset *set)
{
    size_t i = 0;
    if (!set) // nothing
        return true;
    for (; set && i + 1 < KL_COUNT(p->part) && p->part[i]; i++) {
        set = kl_fieldset_union(a, set, p->part[i]);
        p->part[i] = NULL;
    }
    if (set)
        p->part[i] = set;
    return set != NULL;
}

static int close_piles(struct kl_arena *a, struct pile *p)
{
    for (; p; p = p->next) {
        const struct kl_fieldset *all = NULL;
        if (!p->joins)
            continue;
        for (size_t i = 0; i < KL_COUNT(p->part); i++)
            if (p->part[i] && !(all = all ? kl_fieldset_union(a, p->part[i], all) : p->part[i]))
                return KL_ENOMEM;
        kl_manager_set(p->bucket, all);
    }
    return 0;
}

static const struct kl_str ancient = KL_STR_INIT("ancient-changes");

// A pile for each version, with the bucket that there may be from before.
static int make_piles(struct kl_arena *a, struct piles *piles, struct kl_manager **old, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct pile *p = kl_map_get(&piles->by_version, old[i]->api_version);
        if (!p) {
            if (!(p = KL_ARENA_NEW(a, struct pile)) ||
                kl_map_set(&piles->by_version, old[i]->api_version, p, NULL))
                return KL_ENOMEM;
            p->next = piles->all;
            piles->all = p;
        }
        if (kl_str_eq(old[i]->name, ancient) && !old[i]->subresource.n)
            p->bucket = old[i];
    }
    return 0;
}

static int join_one(struct kl_managed *x, struct pile *p, struct kl_manager *m)
{
    struct kl_error ignored;
    if (kl_managed_read(x, m, &ignored) || kl_managed_read(x, p->first, &ignored))
        return KL_ENOMEM;
    if (!p->bucket) { // the first becomes it
        p->first->name = ancient;
        p->first->subresource = KL_STR("");
        p->bucket = p->first;
    }
    if (p->bucket != m) {
        if (kl_managed_read(x, p->bucket, &ignored) ||
            (!p->joins && !pile_add(x->arena, p, p->bucket->set)) || !pile_add(x->arena, p, m->set))
            return KL_ENOMEM;
        p->joins = true;
        m->gone = true;
    }
    p->bucket->has_time = m->has_time;
    p->bucket->time_us = m->time_us;
    return 0;
}

// Joins the oldest updaters of one version until few enough are left: the first of a version waits
// for a second one, and then both go into the bucket.
static int join(struct kl_managed *x, struct kl_manager **old, size_t n)
{
    struct piles piles = {0};
    size_t left = n;
    kl_map_init(&piles.by_version);
    int rc = make_piles(x->arena, &piles, old, n);
    for (size_t i = 0; i < n && left > KL_MANAGERS_UPDATE_MAX && !rc; i++) {
        struct pile *p = kl_map_get(&piles.by_version, old[i]->api_version);
        if (p->first) {
            rc = join_one(x, p, old[i]);
            left--;
        } else {
            p->first = old[i];
        }
    }
    kl_map_fini(&piles.by_version);
    return rc ? rc : close_piles(x->arena, piles.all);
}

int kl_managed_cap(struct kl_managed *x)
{
    struct kl_manager **old;
    size_t n = 0;
    for (size_t i = 0; i < x->n; i++)
        n += !x->m[i].gone && !x->m[i].applied;
    if (n <= KL_MANAGERS_UPDATE_MAX)
        return 0;
    if (!(old = kl_arena_alloc(x->arena, n * sizeof *old)))
        return KL_ENOMEM;
    n = 0;
    for (size_t i = 0; i < x->n; i++)
        if (!x->m[i].gone && !x->m[i].applied)
            old[n++] = &x->m[i];
    qsort(old, n, sizeof *old, cmp_age);
    return join(x, old, n);
}

// ---- times

static bool same_entry(const struct kl_value *a, const struct kl_value *b)
{
    static const kl_sym fields[] = {KL_F_fieldsV1,   KL_F_manager,     KL_F_operation,
                                    KL_F_apiVersion, KL_F_subresource, KL_F_fieldsType};
    for (size_t i = 0; i < KL_COUNT(fields); i++)
        if (!kl_str_eq(kl_text(kl_get(a, fields[i])), kl_text(kl_get(b, fields[i]))))
            return false;
    return true;
}

bool kl_managed_same_but_times(const struct kl_value *a, const struct kl_value *b)
{
    if (kl_len(a) != kl_len(b))
        return false;
    for (size_t i = 0; i < kl_len(a); i++)
        if (!same_entry(&a->items[i], &b->items[i]))
            return false;
    return true;
}
