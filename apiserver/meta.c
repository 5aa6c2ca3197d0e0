// SPDX-License-Identifier: Apache-2.0
// ObjectMeta: what the registry sets and what it refuses (apimachinery api/validation,
// apiserver registry/rest).
#include "apiserver/strategy.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/rand.h"
#include "object/names.h"

enum {
    GENERATE_SUFFIX = 5,
    GENERATE_MAX = 63,
    ANNOTATIONS_MAX = 256 * 1024,
    OWNERS_SHOWN = 4096, // of a warning
};

static bool is_event(const struct kl_resource *res)
{
    return kl_str_eqz(kl_str(res->plural), "events");
}

struct kl_str kl_generate_name(struct kl_arena *a, struct kl_str prefix)
{
    char suffix[GENERATE_SUFFIX + 1];
    if (prefix.n > GENERATE_MAX - GENERATE_SUFFIX)
        prefix.n = GENERATE_MAX - GENERATE_SUFFIX;
    kl_rand_name(suffix, GENERATE_SUFFIX);
    return kl_arena_printf(a, "%.*s%s", KL_PRI(prefix), suffix);
}

int kl_meta_take_namespace(struct kl_req *r, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    struct kl_str ns = kl_meta_namespace(draft);
    struct kl_value *m = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
    if (!m)
        return kl_fail_oom(r), KL_ENOMEM;
    if (!r->info.res->namespaced) {
        kl_unset(a, m, KL_F_namespace);
    } else if (!ns.n) {
        kl_set(a, m, KL_F_namespace, kl_string(r->info.ns));
    } else if (!kl_str_eq(ns, r->info.ns)) {
        kl_fail_bad(r, "the namespace of the provided object does not match the namespace sent on "
                       "the request");
        return KL_EBADREQUEST;
    }
    return 0;
}

int kl_meta_before_create(struct kl_req *r, const struct kl_strategy *s, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    struct kl_value *m = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
    if (!m)
        return kl_fail_oom(r), KL_ENOMEM;
    char *uuid = kl_arena_alloc(a, 37);
    if (!uuid)
        return kl_fail_oom(r), KL_ENOMEM;
    kl_uuid(uuid);
    kl_set(a, m, KL_F_uid, kl_stringz(uuid));
    kl_set(a, m, KL_F_creationTimestamp, kl_time(kl_wall_ms() / 1000 * 1000000));
    kl_unset(a, m, KL_F_deletionTimestamp);
    kl_unset(a, m, KL_F_deletionGracePeriodSeconds);
    kl_unset(a, m, KL_F_resourceVersion); // "0"
    kl_unset(a, m, KL_F_selfLink);
    kl_unset(a, m, KL_F_generation);
    if (s->flags & KL_STRAT_GENERATION)
        kl_set(a, m, KL_F_generation, kl_int(1));
    return 0;
}

// What makes two owners the same, as one text.
static struct kl_str owner_key(struct kl_arena *a, const struct kl_value *o)
{
    static const char flag[] = "-ft"; // not said, false, true
    const struct kl_value *c = kl_get(o, KL_F_controller), *b = kl_get(o, KL_F_blockOwnerDeletion);
    return kl_arena_printf(
        a, "%.*s\n%.*s\n%.*s\n%.*s\n%c%c", KL_PRI(kl_text(kl_get(o, KL_F_uid))),
        KL_PRI(kl_text(kl_get(o, KL_F_name))), KL_PRI(kl_text(kl_get(o, KL_F_kind))),
        KL_PRI(kl_text(kl_get(o, KL_F_apiVersion))), flag[kl_is(c, KL_BOOL) + kl_is_true(c)],
        flag[kl_is(b, KL_BOOL) + kl_is_true(b)]);
}

int kl_meta_dedup_owners(struct kl_req *r, struct kl_value *draft, bool after_admission)
{
    const struct kl_value *owners = kl_path(draft, KL_F_metadata, KL_F_ownerReferences);
    struct kl_value once = kl_new_array();
    size_t n = kl_len(owners);
    struct kl_map seen;
    struct kl_buf uids;
    int rc = 0;
    if (n < 2)
        return 0;
    kl_map_init(&seen);
    kl_buf_init(&uids, OWNERS_SHOWN);
    for (size_t i = 0; i < n && !rc; i++) {
        const struct kl_value *o = kl_at(owners, i);
        struct kl_str key = owner_key(r->arena, o);
        void *before = NULL;
        rc = key.p ? kl_map_set(&seen, key, &seen, &before) : KL_ENOMEM;
        if (rc)
            break;
        if (before)
            kl_buf_printf(&uids, "%s%.*s", uids.n ? ", " : "",
                          KL_PRI(kl_text(kl_get(o, KL_F_uid))));
        else
            rc = kl_append(r->arena, &once, *o);
    }
    if (!rc && once.n < n) {
        struct kl_value *m = kl_edit(r->arena, draft, KL_F_metadata, KL_STRUCT);
        rc = m ? kl_set(r->arena, m, KL_F_ownerReferences, once) : KL_ENOMEM;
        kl_req_warn(r,
                    kl_arena_printf(
                        r->arena,
                        ".metadata.ownerReferences contains duplicate entries%s; API server "
                        "dedups owner references in 1.20+, and may reject such requests as early "
                        "as 1.24; please fix your requests; duplicate UID(s) observed: %.*s",
                        after_admission ? " after mutating admission happens" : "",
                        KL_PRI(kl_buf_str(&uids))));
    }
    kl_buf_fini(&uids);
    kl_map_fini(&seen);
    return rc ? (kl_fail_oom(r), KL_ENOMEM) : 0;
}

static void check_labels(struct kl_req *r, const struct kl_value *labels, struct kl_field_errors *e)
{
    for (KL_MAP_EACH_KEY(kv, labels)) {
        const char *why = kl_name_qualified(r->arena, kl_text(kv));
        if (why)
            kl_field_invalid(e, KL_STR("metadata.labels"), kl_text(kv), why);
        if ((why = kl_name_label_value(kl_text(kv + 1))))
            kl_field_invalid(e, KL_STR("metadata.labels"), kl_text(kv + 1), why);
    }
}

static void check_annotations(struct kl_req *r, const struct kl_value *ann,
                              struct kl_field_errors *e)
{
    size_t total = 0;
    for (KL_MAP_EACH_KEY(kv, ann)) {
        struct kl_str key = kl_text(kv);
        char *low = kl_arena_alloc(r->arena, key.n + 1);
        for (size_t i = 0; low && i < key.n; i++)
            low[i] = key.p[i] >= 'A' && key.p[i] <= 'Z' ? (char)(key.p[i] + 32) : key.p[i];
        const char *why =
            low ? kl_name_qualified(r->arena, (struct kl_str){low, key.n}) : "out of memory";
        if (why)
            kl_field_invalid(e, KL_STR("metadata.annotations"), key, why);
        total += key.n + kl_text(kv + 1).n;
    }
    if (total > ANNOTATIONS_MAX)
        kl_field_error(e, "FieldValueTooLong", KL_STR("metadata.annotations"),
                       "Too long: may not be more than %d bytes", ANNOTATIONS_MAX);
}

static void check_owners(struct kl_req *r, const struct kl_value *owners, struct kl_field_errors *e)
{
    static const struct {
        kl_sym field;
        const char *name;
    } needed[] = {{KL_F_apiVersion, "apiVersion"},
                  {KL_F_kind, "kind"},
                  {KL_F_name, "name"},
                  {KL_F_uid, "uid"}};
    struct kl_str controller = KL_STR("");
    for (KL_EACH(o, owners)) {
        for (size_t k = 0; k < KL_COUNT(needed); k++)
            if (!kl_text(kl_get(o, needed[k].field)).n)
                kl_field_invalid(
                    e, kl_arena_printf(r->arena, "metadata.ownerReferences.%s", needed[k].name),
                    KL_STR(""), "must not be empty");
        if (kl_is_true(kl_get(o, KL_F_controller))) {
            if (controller.n)
                kl_field_error(e, "FieldValueInvalid", KL_STR("metadata.ownerReferences"),
                               "Invalid value: Only one reference can have Controller set to true. "
                               "Found \"true\" in references for %.*s and %.*s",
                               KL_PRI(controller), KL_PRI(kl_text(kl_get(o, KL_F_name))));
            controller = kl_text(kl_get(o, KL_F_name));
        }
    }
}

static void check_finalizers(struct kl_req *r, const struct kl_value *list,
                             struct kl_field_errors *e)
{
    bool orphan = false, foreground = false;
    size_t i = 0;
    for (KL_EACH(f, list)) {
        struct kl_str s = kl_text(f);
        struct kl_str path = kl_arena_printf(r->arena, "metadata.finalizers[%zu]", i++);
        const char *why = kl_name_qualified(r->arena, s);
        // Core kinds know their own finalizers and otherwise want qualified names.
        if (!why && r->info.res->index != KL_RES_apiextensions_v1_customresourcedefinitions &&
            kl_str_chr(s, '/') < 0 && !kl_str_eqz(s, "orphan") &&
            !kl_str_eqz(s, "foregroundDeletion") && !kl_str_eqz(s, "kubernetes"))
            why = "name is neither a standard finalizer name nor is it fully qualified";
        if (why)
            kl_field_invalid(e, path, s, why);
        orphan |= kl_str_eqz(s, "orphan");
        foreground |= kl_str_eqz(s, "foregroundDeletion");
    }
    if (orphan && foreground)
        kl_field_error(e, "FieldValueInvalid", KL_STR("metadata.finalizers"),
                       "Invalid value: finalizer orphan and foregroundDeletion cannot be both set");
}

static void check_immutable(const struct kl_value *now, const struct kl_value *old, kl_sym field,
                            const char *path, struct kl_field_errors *e)
{
    const struct kl_value *a = kl_path(now, KL_F_metadata, field);
    const struct kl_value *b = kl_path(old, KL_F_metadata, field);
    if (!kl_value_equal(a, b))
        kl_field_invalid(e, kl_str(path), kl_text(a), "field is immutable");
}

void kl_meta_validate(struct kl_req *r, const struct kl_strategy *s, const struct kl_value *now,
                      const struct kl_value *old, struct kl_field_errors *e)
{
    const struct kl_resource *res = kl_resource_storage(r->info.res);
    struct kl_str name = kl_meta_name(now), ns = kl_meta_namespace(now);
    struct kl_str prefix = kl_text_at(now, KL_F_metadata, KL_F_generateName);
    if (!name.n)
        kl_field_required(e, KL_STR("metadata.name"), "name or generateName is required");
    else if (!old) {
        const char *why = is_event(res)   ? NULL
                          : s->name_check ? s->name_check(name)
                                          : kl_name_dns1123_subdomain(name);
        if (!why)
            why = kl_name_path_segment(name);
        if (why && prefix.n)
            kl_field_invalid(e, KL_STR("metadata.generateName"), prefix, why);
        if (why)
            kl_field_invalid(e, KL_STR("metadata.name"), name, why);
    }
    if (res->namespaced && !ns.n)
        kl_field_required(e, KL_STR("metadata.namespace"), "");
    else if (res->namespaced && kl_name_dns1123_label(ns))
        kl_field_invalid(e, KL_STR("metadata.namespace"), ns, kl_name_dns1123_label(ns));
    else if (!res->namespaced && ns.n)
        kl_field_forbidden(e, KL_STR("metadata.namespace"), "not allowed on this type");
    check_labels(r, kl_meta_labels(now), e);
    check_annotations(r, kl_meta_annotations(now), e);
    check_owners(r, kl_path(now, KL_F_metadata, KL_F_ownerReferences), e);
    check_finalizers(r, kl_path(now, KL_F_metadata, KL_F_finalizers), e);
    if (old) {
        check_immutable(now, old, KL_F_name, "metadata.name", e);
        check_immutable(now, old, KL_F_namespace, "metadata.namespace", e);
        check_immutable(now, old, KL_F_uid, "metadata.uid", e);
        check_immutable(now, old, KL_F_creationTimestamp, "metadata.creationTimestamp", e);
        if (kl_meta_deleting(old))
            for (KL_EACH(f, kl_path(now, KL_F_metadata, KL_F_finalizers))) {
                bool had = false;
                for (KL_EACH(g, kl_path(old, KL_F_metadata, KL_F_finalizers)))
                    had |= kl_str_eq(kl_text(f), kl_text(g));
                if (!had)
                    kl_field_forbidden(
                        e, KL_STR("metadata.finalizers"),
                        "no new finalizers can be added if the object is being deleted");
            }
    }
}
