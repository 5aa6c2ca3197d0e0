// SPDX-License-Identifier: Apache-2.0
#include "apiserver/managed.h"
#include "apiserver/crd/convert.h"
#include "apiserver/strategy.h"
#include "base/clock.h"
#include "object/freeze.h"

enum { MANAGER_MAX = 128 };

// ---- what an endpoint resets, and who writes

struct reset {
    uint16_t res; // KL_RES_... of the storage row
    const char *sub, *paths;
};

// GetResetFields of upstream's strategies where it is not "status" for the object and "spec" for
// its status.
static const struct reset resets[] = {
    {KL_RES_core_v1_pods, "status", "spec metadata.deletionTimestamp metadata.ownerReferences"},
    {KL_RES_core_v1_namespaces, "finalize", "status"},
    {KL_RES_apps_v1_deployments, "status", "spec metadata.labels"},
    {KL_RES_certificates_v1_certificatesigningrequests, "", "spec status"},
    {KL_RES_certificates_v1_certificatesigningrequests, "status", "spec status.conditions"},
    {KL_RES_certificates_v1_certificatesigningrequests, "approval", "spec status.certificate"},
};

// The kinds whose status leaves all of metadata alone.
static const char *const whole_meta[] = {
    "validatingadmissionpolicies",
    "flowschemas",
    "prioritylevelconfigurations",
    "servicecidrs",
    "devicetaintrules",
    "podgroups",
    "resourceclaims",
    "resourcepoolstatusrequests",
    "volumeattachments",
    "storageversionmigrations",
    "apiservices",
    "storageversions",
};

bool kl_status_leaves_meta(const struct kl_resource *storage)
{
    for (size_t i = 0; i < KL_COUNT(whole_meta); i++)
        if (strcmp(storage->plural, whole_meta[i]) == 0)
            return true;
    return false;
}

static const char *reset_paths(struct kl_req *r)
{
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    for (size_t i = 0; i < KL_COUNT(resets); i++)
        if (resets[i].res == st->index && kl_str_eqz(r->info.sub, resets[i].sub))
            return resets[i].paths;
    if (!kl_resource_sub(st, KL_STR("status")))
        return NULL;
    if (!r->info.sub.n)
        return "status";
    if (!kl_str_eqz(r->info.sub, "status"))
        return NULL;
    return st->custom || kl_status_leaves_meta(st) ? "spec metadata" : "spec";
}

// prefixFromUserAgent: what stands before the first slash, as much of it as a manager may have.
static struct kl_str manager_of_agent(struct kl_req *r)
{
    struct kl_str s = r->user_agent;
    ptrdiff_t slash = kl_str_chr(s, '/');
    bool plain = true;
    if (slash >= 0)
        s.n = (size_t)slash;
    for (size_t i = 0; i < s.n; i++)
        plain &= (unsigned char)s.p[i] >= 0x20 && (unsigned char)s.p[i] < 0x7f;
    if (plain && s.n <= MANAGER_MAX)
        return s;
    char *to = kl_arena_alloc(r->arena, s.n);
    size_t n = 0;
    for (size_t i = 0; to && i < s.n;) {
        unsigned char c = (unsigned char)s.p[i];
        size_t len = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
        if (i + len > s.n || !kl_utf8_valid((struct kl_str){s.p + i, len})) {
            i++; // no character
            continue;
        }
        bool shown =
            len > 1 ? !(c == 0xc2 && (unsigned char)s.p[i + 1] < 0xa1) : c >= 0x20 && c != 0x7f;
        if (shown && n + len > MANAGER_MAX)
            break;
        if (shown) {
            memcpy(to + n, s.p + i, len);
            n += len;
        }
        i += len;
    }
    return (struct kl_str){to ? to : "", to ? n : 0};
}

struct kl_managed_env kl_track_env(struct kl_req *r)
{
    return (struct kl_managed_env){.arena = r->arena,
                                   .res = r->info.res,
                                   .manager = r->opts.field_manager.n ? r->opts.field_manager
                                                                      : manager_of_agent(r),
                                   .subresource = r->info.sub,
                                   .reset = reset_paths(r),
                                   .now_us = kl_wall_ms() / 1000 * 1000000,
                                   .convert = kl_req_convert_tree,
                                   .convert_arg = r};
}

// ---- writes

int kl_track_put(struct kl_req *r, struct kl_value *draft, const struct kl_value *entries)
{
    struct kl_value *m = kl_edit(r->arena, draft, KL_F_metadata, KL_STRUCT);
    if (!m || (kl_is(entries, KL_ARRAY) ? kl_set(r->arena, m, KL_F_managedFields, *entries)
                                        : kl_unset(r->arena, m, KL_F_managedFields)))
        return kl_fail_oom(r), KL_ENOMEM;
    return 0;
}

static int track_as(struct kl_req *r, const struct kl_managed_env *env,
                    const struct kl_object *live, struct kl_value *draft)
{
    struct kl_error err = {0};
    struct kl_value now, entries = kl_null();
    const struct kl_value *sent = kl_path(draft, KL_F_metadata, KL_F_managedFields);
    const struct kl_type *type = env->type ? env->type : r->info.res->type;
    int rc = kl_draft_as_sent(r->arena, type, live, draft, &now);
    if (!rc)
        rc = kl_managed_update(env, live ? &live->root : NULL, &now, sent, &entries, &err);
    if (rc == KL_ENOMEM)
        return kl_fail_oom(r), rc;
    if (rc == KL_EAGAIN) // the caller begins again: kl_req_convert_again
        return rc;
    if (rc) // upstream drops them then, too
        entries = kl_null();
    return kl_track_put(r, draft, &entries);
}

static int track(struct kl_req *r, const struct kl_object *live, struct kl_value *draft)
{
    struct kl_managed_env env = kl_track_env(r);
    return track_as(r, &env, live, draft);
}

int kl_track_question(struct kl_req *r, struct kl_value *draft)
{
    struct kl_managed_env env = kl_track_env(r);
    const struct kl_subresource *s = r->info.subres;
    int rc = kl_meta_take_namespace(r, draft);
    if (rc)
        return rc;
    if (s) { // of a type of its own, and what it says of its object's life is to be checked
        env.type = s->type;
        env.api_version =
            kl_arena_printf(r->arena, "%s%s%s", s->group, *s->group ? "/" : "", s->version).p;
        return env.api_version ? track_as(r, &env, NULL, draft) : (kl_fail_oom(r), KL_ENOMEM);
    }
    struct kl_value *m = kl_edit(r->arena, draft, KL_F_metadata, KL_STRUCT);
    if (!m || kl_unset(r->arena, m, KL_F_uid) || kl_unset(r->arena, m, KL_F_creationTimestamp) ||
        kl_unset(r->arena, m, KL_F_selfLink))
        return kl_fail_oom(r), KL_ENOMEM;
    return kl_track_create(r, draft);
}

int kl_track_create(struct kl_req *r, struct kl_value *draft)
{
    struct kl_value *m = kl_edit(r->arena, draft, KL_F_metadata, KL_STRUCT);
    // Nobody's to set, and so nobody's to own.
    if (!m || kl_unset(r->arena, m, KL_F_deletionTimestamp) ||
        kl_unset(r->arena, m, KL_F_deletionGracePeriodSeconds))
        return kl_fail_oom(r), KL_ENOMEM;
    return track(r, NULL, draft);
}

int kl_track_update(struct kl_req *r, const struct kl_object *live, struct kl_value *draft)
{
    return track(r, live, draft);
}

static bool same_members(const struct kl_value *a, const struct kl_value *b, kl_sym but1,
                         kl_sym but2)
{
    for (KL_EACH(m, a))
        if (m->sym != but1 && m->sym != but2 && !kl_value_equal(m, kl_get(b, m->sym)))
            return false;
    for (KL_EACH(m, b))
        if (m->sym != but1 && m->sym != but2 && !kl_get(a, m->sym))
            return false;
    return true;
}

int kl_track_settle(struct kl_req *r, const struct kl_value *old, const struct kl_value *now,
                    struct kl_value *draft)
{
    const struct kl_value *was = kl_path(old, KL_F_metadata, KL_F_managedFields);
    const struct kl_value *is = kl_path(now, KL_F_metadata, KL_F_managedFields);
    if (!is || !kl_managed_same_but_times(was, is) ||
        !same_members(old, now, KL_F_metadata, KL_SYM_NONE) ||
        !same_members(kl_get(old, KL_F_metadata), kl_get(now, KL_F_metadata), KL_F_managedFields,
                      KL_F_resourceVersion))
        return 0;
    int rc = kl_track_put(r, draft, was);
    return rc ? rc : 1;
}

// ---- scale

struct kl_managed_env kl_track_scale_env(struct kl_req *r)
{
    struct kl_managed_env env = kl_track_env(r);
    env.type = r->info.subres->type;
    env.api_version = "autoscaling/v1";
    env.reset = NULL;
    return env;
}

struct kl_object *kl_track_scale_shown(struct kl_req *r, const struct kl_value *old,
                                       const struct kl_value *was)
{
    const struct kl_value *had = kl_path(old, KL_F_metadata, KL_F_managedFields);
    struct kl_error err = {0};
    struct kl_value shown, v = *was;
    v.owned = 0;
    // What cannot be read is as if there were none.
    if (kl_managed_to_scale(r->arena, kl_resource_storage(r->info.res), had, &shown, &err))
        shown = kl_null();
    if (kl_track_put(r, &v, &shown))
        return NULL;
    struct kl_object *o = kl_object_freeze(r->info.subres->type, &v);
    if (!o)
        kl_fail_oom(r);
    return o;
}

int kl_track_scale(struct kl_req *r, const struct kl_value *old, const struct kl_value *was,
                   const struct kl_value *is, struct kl_value *draft)
{
    const struct kl_value *had = kl_path(old, KL_F_metadata, KL_F_managedFields);
    struct kl_managed_env env = kl_track_scale_env(r);
    struct kl_error err = {0};
    struct kl_value written, entries = kl_null();
    struct kl_object *before = kl_track_scale_shown(r, old, was);
    struct kl_object *after = before ? kl_object_freeze(env.type, is) : NULL;
    int rc = KL_ENOMEM;
    if (after)
        rc = kl_managed_update(&env, &before->root, &after->root, NULL, &written, &err);
    if (!rc)
        rc = kl_managed_from_scale(r->arena, kl_resource_storage(r->info.res), had, &written,
                                   &entries, &err);
    kl_object_unref(before);
    kl_object_unref(after);
    if (rc == KL_ENOMEM)
        return kl_fail_oom(r), rc;
    return rc ? 0 : kl_track_put(r, draft, &entries);
}

// ---- options

int kl_patch_check_options(struct kl_req *r)
{
    struct kl_field_errors e = {.arena = r->arena};
    bool apply = r->opts.patch_type == KL_PATCH_APPLY;
    if (apply && !r->opts.field_manager.n)
        kl_field_required(&e, KL_STR("fieldManager"), "is required for apply patch");
    else if (!apply && r->opts.force_set)
        kl_field_forbidden(&e, KL_STR("force"), "may not be specified for non-apply patch");
    if (!e.n)
        return 0;
    kl_fail_invalid(r, KL_STR("PatchOptions"), KL_STR("meta.k8s.io"), KL_STR(""), &e);
    return KL_EINVALID;
}
