// SPDX-License-Identifier: Apache-2.0
// PodNodeSelector and PodTolerationRestriction: where the pods of a namespace may go, by
// annotations of the namespace.
#include "apiserver/admission/config.h"
#include "apiserver/admission/plugins_int.h"
#include "base/buf.h"
#include "object/json.h"
#include "object/names.h"
#include "object/quota/amounts.h"
#include "object/types_gen.h"

// An annotation of the request's namespace; NULL: it has none, or there is no such namespace, with
// r->fail set.
static const struct kl_value *annotation(struct kl_admit *ad, const char *key)
{
    struct kl_object *ns = kl_admit_find(ad->r, KL_RES_core_v1_namespaces, KL_STR(""), ad->ns);
    if (!ns) {
        kl_fail_not_found_of(ad->r, KL_STR(""), KL_STR("namespaces"), ad->ns);
        return NULL;
    }
    return kl_map_value(kl_meta_annotations(&ns->root), kl_str(key));
}

// ---- PodNodeSelector

#define SELECTOR "scheduler.alpha.kubernetes.io/node-selector"

// A walk over "a=b, c=d" (labels.ConvertSelectorToLabelsMap).
struct label_walk {
    struct kl_arena *a;
    struct kl_str rest, key, value;
    struct kl_str bad; // p not NULL: what is wrong with it
};

static struct label_walk walk_labels(struct kl_admit *ad, struct kl_str text)
{
    return (struct label_walk){.a = ad->r->arena, .rest = text};
}

static void not_a_pair(struct label_walk *w, struct kl_str label)
{
    struct kl_buf b;
    struct kl_str part;
    kl_buf_init(&b, 4096);
    while (kl_str_split(&label, '=', &part))
        kl_buf_printf(&b, "%s%.*s", b.n ? " " : "", KL_PRI(part));
    w->bad = kl_arena_printf(w->a, "invalid selector: [%.*s]", KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
}

static bool next_label(struct label_walk *w)
{
    struct kl_str label, part;
    const char *why;
    if (w->bad.p || !w->rest.n || !kl_str_split(&w->rest, ',', &label))
        return false;
    part = label;
    kl_str_split(&part, '=', &w->key);
    if (!part.p || kl_str_chr(part, '=') >= 0) {
        not_a_pair(w, label);
        return false;
    }
    w->key = kl_str_trim(w->key);
    w->value = kl_str_trim(part);
    if ((why = kl_name_qualified(w->a, w->key)))
        w->bad = kl_arena_printf(w->a, "<nil>: Invalid value: \"%.*s\": %s", KL_PRI(w->key), why);
    else if ((why = kl_name_label_value(w->value)))
        w->bad = kl_arena_printf(w->a, "[%.*s]: Invalid value: \"%.*s\": %s", KL_PRI(w->key),
                                 KL_PRI(w->value), why);
    return !why;
}

static bool conflicts(const struct kl_value *labels, struct kl_str key, struct kl_str value)
{
    const struct kl_value *has = kl_map_value(labels, key);
    return has && !kl_str_eq(kl_text(has), value);
}

// The namespace's selector, else the cluster's default.
static int selector_of(struct kl_admit *ad, struct kl_str *ret)
{
    const struct kl_value *v = annotation(ad, SELECTOR);
    if (!v && ad->r->fail.http)
        return KL_ENOTFOUND;
    *ret = kl_text(v ? v
                     : kl_map_value(ad->r->srv->admit_config->node_selectors,
                                    KL_STR("clusterDefaultNodeSelector")));
    return 0;
}

// What the configuration has for the namespace is all that its pods may ask for.
static int check_allowed(struct kl_admit *ad)
{
    struct kl_str text = kl_text(kl_map_value(ad->r->srv->admit_config->node_selectors, ad->ns));
    struct label_walk w = walk_labels(ad, text);
    size_t nlabels = 0;
    while (next_label(&w))
        nlabels++;
    if (w.bad.p)
        return kl_admit_fail_plainly(ad, w.bad);
    if (!nlabels)
        return 0;
    for (KL_MAP_EACH_KEY(kv, kl_path(ad->object, KL_F_spec, KL_F_nodeSelector))) {
        bool allowed = false;
        w = walk_labels(ad, text);
        while (next_label(&w)) // the last of a key counts
            if (kl_str_eq(w.key, kl_text(kv)))
                allowed = kl_str_eq(w.value, kl_text(kv + 1));
        if (!allowed)
            return kl_admit_forbid(
                ad, "pod node label selector labels conflict with its namespace whitelist");
    }
    return 0;
}

int kl_node_selector_validate(struct kl_admit *ad)
{
    struct kl_str text;
    if (!kl_admit_is(ad, KL_RES_core_v1_pods))
        return 0;
    int rc = selector_of(ad, &text);
    if (rc)
        return rc;
    struct label_walk w = walk_labels(ad, text);
    bool conflict = false;
    while (next_label(&w))
        conflict |= conflicts(kl_path(ad->object, KL_F_spec, KL_F_nodeSelector), w.key, w.value);
    if (w.bad.p)
        return kl_admit_fail_plainly(ad, w.bad);
    if (conflict)
        return kl_admit_forbid(
            ad, "pod node label selector conflicts with its namespace node label selector");
    return check_allowed(ad);
}

int kl_node_selector_mutate(struct kl_admit *ad)
{
    struct kl_arena *a = ad->r->arena;
    struct kl_str text;
    if (!kl_admit_is(ad, KL_RES_core_v1_pods))
        return 0;
    int rc = selector_of(ad, &text);
    if (rc)
        return rc;
    struct label_walk w = walk_labels(ad, text);
    while (next_label(&w)) {
        if (kl_map_value(kl_path(ad->draft, KL_F_spec, KL_F_nodeSelector), w.key))
            continue; // the same, or refused below
        struct kl_value *spec = kl_edit(a, ad->draft, KL_F_spec, KL_STRUCT);
        struct kl_value *map = spec ? kl_edit(a, spec, KL_F_nodeSelector, KL_MAP) : NULL;
        struct kl_str key = kl_arena_dup(a, w.key), value = kl_arena_dup(a, w.value);
        if (!map || !key.p || !value.p || kl_map_set_value(a, map, key, kl_string(value)))
            return kl_admit_oom(ad);
    }
    return kl_node_selector_validate(ad);
}

// ---- PodTolerationRestriction

// The list in an annotation. *ret NULL: there is none.
static int tolerations_of(struct kl_admit *ad, const char *key, const struct kl_value **ret)
{
    struct kl_arena *a = ad->r->arena;
    const struct kl_value *v = annotation(ad, key);
    struct kl_value raw, *list = KL_ARENA_NEW(a, struct kl_value);
    struct kl_error err = {0};
    *ret = NULL;
    if (!v)
        return ad->r->fail.http ? KL_ENOTFOUND : 0;
    if (!list)
        return kl_admit_oom(ad);
    *list = kl_new_array();
    *ret = list;
    if (!kl_text(v).n)
        return 0;
    struct kl_str text = kl_arena_dup(a, kl_text(v)); // the namespace may be gone before the draft
    if (!text.p)
        return kl_admit_oom(ad);
    if (kl_json_parse(a, text, NULL, &raw, &err))
        return kl_admit_fail_plainly(ad, kl_arena_dup(a, kl_str(err.msg)));
    for (KL_EACH(x, &raw)) {
        struct kl_value t;
        if (kl_typed_from_untyped(a, kl_type(KL_TYPE_core_v1_Toleration), x, NULL, &t, &err))
            return kl_admit_fail_plainly(ad, kl_arena_dup(a, kl_str(err.msg)));
        if (kl_append(a, list, t))
            return kl_admit_oom(ad);
    }
    return 0;
}

int kl_toleration_restriction_validate(struct kl_admit *ad)
{
    const struct kl_value *allowed, *list = kl_path(ad->object, KL_F_spec, KL_F_tolerations);
    if (!kl_admit_is(ad, KL_RES_core_v1_pods) || !kl_len(list))
        return 0;
    int rc = tolerations_of(ad, "scheduler.alpha.kubernetes.io/tolerationsWhitelist", &allowed);
    const char *whose = "namespace";
    if (!rc && !allowed) {
        allowed = ad->r->srv->admit_config->allowed_tolerations;
        whose = "cluster";
    }
    if (rc || !kl_len(allowed))
        return rc;
    for (KL_EACH(t, list)) {
        bool covered = false;
        for (KL_EACH(w, allowed))
            covered |= kl_toleration_covers(w, t);
        if (!covered)
            return kl_admit_fail_plainly(
                ad, kl_arena_printf(ad->r->arena,
                                    "pod tolerations (possibly merged with namespace default "
                                    "tolerations) conflict with its %s whitelist",
                                    whose));
    }
    return 0;
}

int kl_toleration_restriction_mutate(struct kl_admit *ad)
{
    struct kl_arena *a = ad->r->arena;
    const struct kl_value *more = NULL;
    struct kl_value extra = kl_new_array(), merged, pressure = kl_new_struct();
    if (!kl_admit_is(ad, KL_RES_core_v1_pods))
        return 0;
    int rc = ad->op == KL_ADMIT_CREATE
                 ? tolerations_of(ad, "scheduler.alpha.kubernetes.io/defaultTolerations", &more)
                 : 0;
    if (rc)
        return rc;
    if (!more && ad->op == KL_ADMIT_CREATE)
        more = ad->r->srv->admit_config->default_tolerations;
    for (KL_EACH(t, more)) {
        struct kl_value copy; // the configuration's are everybody's
        if (kl_copy(a, t, &copy) || kl_append(a, &extra, copy))
            return kl_admit_oom(ad);
    }
    struct kl_str said = kl_text_at(ad->draft, KL_F_status, KL_F_qosClass);
    if (!kl_str_eqz(said.n ? said : kl_str(kl_pod_qos_class(ad->draft)), "BestEffort") &&
        (kl_set(a, &pressure, KL_F_key, kl_stringz("node.kubernetes.io/memory-pressure")) ||
         kl_set(a, &pressure, KL_F_operator, kl_stringz("Exists")) ||
         kl_set(a, &pressure, KL_F_effect, kl_stringz("NoSchedule")) ||
         kl_append(a, &extra, pressure)))
        return kl_admit_oom(ad);
    struct kl_value *spec = kl_len(&extra) ? kl_edit(a, ad->draft, KL_F_spec, KL_STRUCT) : NULL;
    if (spec && (kl_tolerations_merge(a, kl_get(spec, KL_F_tolerations), &extra, &merged) ||
                 kl_set(a, spec, KL_F_tolerations, merged)))
        return kl_admit_oom(ad);
    return kl_toleration_restriction_validate(ad);
}
