// SPDX-License-Identifier: Apache-2.0
// Resources given for a whole pod: limits of huge pages and requests follow from the containers.
#include "object/defaults_int.h"
#include "object/quantity.h"

enum { MAX_NAMES = 64 }; // distinct resources of one pod that are looked at

struct total {
    struct kl_str name;
    struct kl_quantity q;
};

struct totals {
    struct total of[MAX_NAMES];
    size_t n;
};

static bool is_huge_page(struct kl_str name)
{
    return kl_str_starts(name, KL_STR("hugepages-"));
}

static bool is_pod_level(struct kl_str name)
{
    return kl_str_eq(name, KL_STR("cpu")) || kl_str_eq(name, KL_STR("memory")) ||
           is_huge_page(name);
}

static struct total *find(struct totals *t, struct kl_str name)
{
    for (size_t i = 0; i < t->n; i++)
        if (kl_str_eq(t->of[i].name, name))
            return &t->of[i];
    return NULL;
}

static void add(struct totals *t, struct kl_str name, const struct kl_quantity *q)
{
    struct total *have = find(t, name);
    if (have)
        kl_quantity_add(&have->q, q);
    else if (t->n < MAX_NAMES)
        t->of[t->n++] = (struct total){name, *q};
}

static void raise(struct totals *t, struct kl_str name, const struct kl_quantity *q)
{
    struct total *have = find(t, name);
    if (!have)
        add(t, name, q);
    else if (kl_quantity_cmp(q, &have->q) > 0)
        have->q = *q;
}

static void add_list(struct totals *t, const struct kl_value *list)
{
    for (KL_MAP_EACH_KEY(key, list)) {
        struct kl_quantity q;
        if (is_pod_level(kl_text(key)) && !kl_quantity_parse(kl_text(key + 1), &q, NULL))
            add(t, kl_text(key), &q);
    }
}

// What the containers need together: those that run at the same time added up, at least the most
// that one of the init containers needs beside the restartable ones before it.
static void aggregate(const struct kl_value *spec, kl_sym which, struct totals *ret)
{
    struct totals sidecars = {.n = 0}, most = {.n = 0};
    ret->n = 0;
    for (KL_EACH(container, kl_get(spec, KL_F_containers)))
        add_list(ret, kl_path(container, KL_F_resources, which));
    for (KL_EACH(container, kl_get(spec, KL_F_initContainers))) {
        const struct kl_value *list = kl_path(container, KL_F_resources, which);
        struct totals now;
        if (kl_str_eq(kl_text(kl_get(container, KL_F_restartPolicy)), KL_STR("Always"))) {
            add_list(ret, list);
            add_list(&sidecars, list);
            now = sidecars;
        } else {
            now = (struct totals){.n = 0};
            add_list(&now, list);
            for (size_t i = 0; i < sidecars.n; i++)
                add(&now, sidecars.of[i].name, &sidecars.of[i].q);
        }
        for (size_t i = 0; i < now.n; i++)
            raise(&most, now.of[i].name, &now.of[i].q);
    }
    for (size_t i = 0; i < most.n; i++)
        raise(ret, most.of[i].name, &most.of[i].q);
}

static void set_total(struct kl_default_node *map, const struct total *t)
{
    char text[KL_QUANTITY_TEXT];
    struct kl_str s =
        kl_arena_dup(map->ctx->arena, (struct kl_str){text, kl_quantity_text(&t->q, text)});
    if (s.p)
        kl_default_map_set(map, t->name, kl_string(s));
    else
        map->ctx->err = KL_ENOMEM;
}

void kl_default_pod_resources(struct kl_default_node *pod_spec)
{
    struct kl_default_node resources = kl_default_in(pod_spec, KL_F_resources, KL_STRUCT);
    struct kl_default_node limits = kl_default_in(&resources, KL_F_limits, KL_MAP);
    struct kl_default_node requests = kl_default_in(&resources, KL_F_requests, KL_MAP);
    struct totals totals;
    if (kl_len(limits.v) == 0 && kl_len(requests.v) == 0)
        return;
    aggregate(pod_spec->v, KL_F_limits, &totals);
    for (size_t i = 0; i < totals.n; i++)
        if (is_huge_page(totals.of[i].name) && !kl_map_value(requests.v, totals.of[i].name) &&
            !kl_map_value(limits.v, totals.of[i].name))
            set_total(&limits, &totals.of[i]);
    if (kl_len(limits.v) == 0)
        return;
    aggregate(pod_spec->v, KL_F_requests, &totals);
    for (size_t i = 0; i < totals.n; i++)
        if (!is_huge_page(totals.of[i].name) && !kl_map_value(requests.v, totals.of[i].name))
            set_total(&requests, &totals.of[i]);
    // the list may have become the draft's own above; what it holds is the same
    const struct kl_value *given = limits.v;
    for (KL_MAP_EACH_KEY(key, given))
        if (is_pod_level(kl_text(key)) && !kl_map_value(requests.v, kl_text(key)))
            kl_default_map_set(&requests, kl_text(key), key[1]);
}
