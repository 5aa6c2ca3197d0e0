// SPDX-License-Identifier: Apache-2.0
// What the registry does for custom resources (apiextensions-apiserver pkg/registry/customresource)
// and for their definitions (pkg/registry/customresourcedefinition).
#include "apiserver/crd/crd.h"
#include "apiserver/strategy.h"
#include "base/clock.h"
#include "object/names.h"

#define FINALIZER "customresourcecleanup.apiextensions.k8s.io"

// ---- custom resources

// validateKubeFinalizerName: what a finalizer is warned about; nothing refuses it.
static void warn_finalizer(struct kl_req *r, struct kl_str f)
{
    const char *why = kl_name_qualified(r->arena, f);
    if (why)
        kl_req_warn(r,
                    kl_arena_printf(r->arena, "metadata.finalizers: \"%.*s\": %s", KL_PRI(f), why));
    if (kl_str_chr(f, '/') >= 0 || kl_str_eqz(f, "orphan") || kl_str_eqz(f, "foregroundDeletion") ||
        kl_str_eqz(f, "kubernetes"))
        return;
    kl_req_warn(r,
                kl_arena_printf(
                    r->arena,
                    "metadata.finalizers: \"%.*s\": prefer a domain-qualified finalizer name %sto "
                    "avoid accidental conflicts with other finalizer writers",
                    KL_PRI(f), kl_str_chr(f, '.') >= 0 ? "including a path (/) " : ""));
}

int kl_custom_check(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                    struct kl_field_errors *e)
{
    const struct kl_resource *res = r->info.res;
    const struct kl_custom *c = res->custom;
    struct kl_findings f = {.arena = r->arena}, warnings = {.arena = r->arena};
    bool status = kl_str_eqz(r->info.sub, "status");
    struct kl_crd_check check = {.now = now,
                                 .old = old,
                                 .namespaced = res->namespaced,
                                 .status = status,
                                 .scale_spec_replicas = c->spec_replicas.text,
                                 .scale_status_replicas = c->status_replicas.text,
                                 .scale_label_selector = c->label_selector.text,
                                 .warnings = &warnings};
    if (kl_crd_validate(&f, c->schema, &check))
        return kl_fail_oom(r), KL_ENOMEM;
    for (size_t i = 0; i < f.n; i++)
        kl_field_error(e, f.list[i].reason, f.list[i].field, "%.*s", KL_PRI(f.list[i].message));
    for (size_t i = 0; i < warnings.n; i++)
        kl_req_warn(r, kl_arena_printf(r->arena, "%.*s: %.*s", KL_PRI(warnings.list[i].field),
                                       KL_PRI(warnings.list[i].message)));
    const struct kl_value *had = kl_path(old, KL_F_metadata, KL_F_finalizers);
    if (!status && !e->n)
        for (KL_EACH(x, kl_path(now, KL_F_metadata, KL_F_finalizers)))
            if (!kl_has_text(had, kl_text(x)))
                warn_finalizer(r, kl_text(x));
    return 0;
}

int kl_custom_may_create(struct kl_req *r)
{
    const struct kl_resource *res = r->info.res;
    if (!kl_crd_terminating(r->al, res->custom->family))
        return 0;
    kl_fail_set(r, 403, "Forbidden",
                "%s.%s \"%.*s\" is forbidden: create not allowed while custom resource definition "
                "is terminating",
                res->plural, res->group, KL_PRI(r->info.name));
    r->fail.kind = kl_str(res->plural);
    r->fail.group = kl_str(res->group);
    r->fail.name = r->info.name;
    return KL_EFORBIDDEN;
}

int kl_custom_keep_for_status(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    const struct kl_value *entries = kl_path(draft, KL_F_metadata, KL_F_managedFields);
    const struct kl_value *was = kl_get(old, KL_F_metadata);
    struct kl_value had = entries ? *entries : kl_null();
    struct kl_arena *a = r->arena;
    if (!was || kl_set(a, draft, KL_F_metadata, *was))
        return KL_ENOMEM;
    struct kl_value *m = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
    if (!m)
        return KL_ENOMEM;
    had.owned = 0;
    return had.kind == KL_ARRAY ? kl_set(a, m, KL_F_managedFields, had)
                                : kl_unset(a, m, KL_F_managedFields);
}

const struct kl_strategy kl_custom_strategy = {
    .res = KL_RES_CUSTOM,
    .flags = KL_STRAT_GENERATION | KL_STRAT_NEEDS_RV,
};

// ---- definitions

// The version that is stored from now on counts among those that objects may be stored in.
static int note_stored_version(struct kl_req *r, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    struct kl_str name = {NULL, 0};
    for (KL_EACH(v, kl_path(draft, KL_F_spec, KL_F_versions)))
        if (!name.p && kl_is_true(kl_get(v, KL_F_storage)))
            name = kl_text(kl_get(v, KL_F_name));
    if (!name.p || kl_has_text(kl_path(draft, KL_F_status, KL_F_storedVersions), name))
        return 0;
    struct kl_value *st = kl_edit(a, draft, KL_F_status, KL_STRUCT);
    struct kl_value *list = st ? kl_edit(a, st, KL_F_storedVersions, KL_ARRAY) : NULL;
    return list && !kl_append(a, list, kl_string(name)) ? 0 : (kl_fail_oom(r), KL_ENOMEM);
}

int kl_crd_prepare_create(struct kl_req *r, struct kl_value *draft)
{
    return note_stored_version(r, draft);
}

int kl_crd_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    (void)old;
    return r->info.sub.n ? 0 : note_stored_version(r, draft);
}

int kl_crd_delete(struct kl_req *r, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    int64_t now_us = kl_wall_ms() / 1000 * 1000000;
    if (kl_meta_deleting(draft))
        return 0;
    struct kl_value *m = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
    if (!m || kl_set(a, m, KL_F_deletionTimestamp, kl_time(now_us)))
        return kl_fail_oom(r), KL_ENOMEM;
    struct kl_value *list = kl_edit(a, m, KL_F_finalizers, KL_ARRAY);
    if (!list ||
        (!kl_has_text(list, KL_STR(FINALIZER)) && kl_append(a, list, kl_stringz(FINALIZER))) ||
        kl_crd_set_condition(a, draft, "Terminating", true, "InstanceDeletionPending",
                             KL_STR("CustomResourceDefinition marked for deletion; CustomResource "
                                    "deletion will begin soon"),
                             now_us) < 0)
        return kl_fail_oom(r), KL_ENOMEM;
    return KL_WRITE_PUT;
}
