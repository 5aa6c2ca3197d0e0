// SPDX-License-Identifier: Apache-2.0
// PodNodeSelector and PodTolerationRestriction: where the pods of a namespace may go, by
// annotations of the namespace.
#include "apiserver/admission/plugins_int.h"
#include "object/json.h"
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

// An error that is no APIStatus.
static int fail_plainly(struct kl_admit *ad, struct kl_str why)
{
    kl_fail_set(ad->r, 500, "", "%.*s", KL_PRI(why));
    return KL_EINTERNAL;
}

// ---- PodNodeSelector

#define SELECTOR "scheduler.alpha.kubernetes.io/node-selector"

// Walks "a=b, c=d" (labels.ConvertSelectorToLabelsMap). False: the end, or *bad is set.
static bool next_label(struct kl_str *rest, struct kl_str *key, struct kl_str *value, bool *bad)
{
    struct kl_str part;
    if (!rest->n || !kl_str_split(rest, ',', &part))
        return false;
    struct kl_str whole = part;
    kl_str_split(&part, '=', key);
    *bad = !part.p || kl_str_chr(part, '=') >= 0 || !whole.n;
    *key = kl_str_trim(*key);
    *value = part.p ? kl_str_trim(part) : KL_STR("");
    return !*bad;
}

static int check_selector(struct kl_admit *ad, struct kl_str text)
{
    struct kl_str rest = text, key, value;
    bool bad = false;
    while (next_label(&rest, &key, &value, &bad)) {
        const struct kl_value *has =
            kl_map_value(kl_path(ad->object, KL_F_spec, KL_F_nodeSelector), key);
        if (has && !kl_str_eq(kl_text(has), value))
            return kl_admit_forbid(
                ad, "pod node label selector conflicts with its namespace node label selector");
    }
    if (bad)
        return fail_plainly(ad,
                            kl_arena_printf(ad->r->arena, "invalid selector: %.*s", KL_PRI(text)));
    return 0;
}

static int selector_of(struct kl_admit *ad, struct kl_str *ret)
{
    const struct kl_value *v = annotation(ad, SELECTOR);
    *ret = kl_text(v);
    return v || !ad->r->fail.http ? 0 : KL_ENOTFOUND;
}

int kl_node_selector_validate(struct kl_admit *ad)
{
    struct kl_str text;
    if (!kl_admit_is(ad, KL_RES_core_v1_pods))
        return 0;
    int rc = selector_of(ad, &text);
    return rc ? rc : check_selector(ad, text);
}

int kl_node_selector_mutate(struct kl_admit *ad)
{
    struct kl_arena *a = ad->r->arena;
    struct kl_str rest, key, value;
    bool bad = false;
    if (!kl_admit_is(ad, KL_RES_core_v1_pods))
        return 0;
    int rc = selector_of(ad, &rest);
    if (rc || (rc = check_selector(ad, rest)) || !rest.n)
        return rc;
    struct kl_value *spec = kl_edit(a, ad->draft, KL_F_spec, KL_STRUCT);
    struct kl_value *map = spec ? kl_edit(a, spec, KL_F_nodeSelector, KL_MAP) : NULL;
    while (next_label(&rest, &key, &value, &bad)) {
        key = kl_arena_dup(a, key);
        value = kl_arena_dup(a, value);
        if (!map || !key.p || !value.p || kl_map_set_value(a, map, key, kl_string(value)))
            return kl_admit_oom(ad);
    }
    return 0;
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
        return fail_plainly(ad, kl_arena_dup(a, kl_str(err.msg)));
    for (KL_EACH(x, &raw)) {
        struct kl_value t;
        if (kl_typed_from_untyped(a, kl_type(KL_TYPE_core_v1_Toleration), x, NULL, &t, &err))
            return fail_plainly(ad, kl_arena_dup(a, kl_str(err.msg)));
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
    if (rc || !kl_len(allowed))
        return rc;
    for (KL_EACH(t, list)) {
        bool covered = false;
        for (KL_EACH(w, allowed))
            covered |= kl_toleration_covers(w, t);
        if (!covered)
            return fail_plainly(ad, KL_STR("pod tolerations (possibly merged with namespace "
                                           "default tolerations) conflict with its namespace "
                                           "whitelist"));
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
    for (KL_EACH(t, more))
        if (kl_append(a, &extra, *t))
            return kl_admit_oom(ad);
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
