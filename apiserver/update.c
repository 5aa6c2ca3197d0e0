// SPDX-License-Identifier: Apache-2.0
// UPDATE and PATCH, of whole objects and of the status subresource (upstream's Store.Update and
// handlers/patch.go).
#include "apiserver/strategy.h"
#include "base/clock.h"
#include "object/convert.h"
#include "object/defaults.h"
#include "object/patch.h"
#include "object/yaml.h"
#include "watchcache/filter.h"
#include <stdio.h>

struct update {
    struct kl_write w;
    struct kl_value sent;  // UPDATE: decoded and defaulted in the version of the request
    struct kl_value patch; // PATCH: untyped
};

static bool is_status(const struct kl_req *r)
{
    return kl_str_eqz(r->info.sub, "status") || kl_str_eqz(r->info.sub, "approval");
}

// What the status subresource may not change comes from the stored object, and the other way round.
static void keep_other_half(struct kl_req *r, const struct kl_strategy *s, struct kl_value *draft,
                            const struct kl_value *old)
{
    struct kl_arena *a = r->arena;
    const struct kl_type *t = kl_resource_storage(r->info.res)->type;
    bool status = is_status(r);
    if (!status && !kl_resource_sub(r->info.res, KL_STR("status")))
        return;
    (void)s;
    for (uint16_t i = 0; i < t->nfields; i++) {
        kl_sym f = t->fields[i].sym;
        if (f == KL_F_metadata || f == KL_F_apiVersion || f == KL_F_kind)
            continue;
        if ((f == KL_F_status) == status)
            continue;
        const struct kl_value *v = kl_get(old, f);
        if (v)
            kl_set(a, draft, f, *v);
        else
            kl_unset(a, draft, f);
    }
}

static bool spec_changed(const struct kl_type *t, const struct kl_value *now,
                         const struct kl_value *old)
{
    for (uint16_t i = 0; i < t->nfields; i++) {
        kl_sym f = t->fields[i].sym;
        if (f == KL_F_metadata || f == KL_F_status || f == KL_F_apiVersion || f == KL_F_kind)
            continue;
        if (!kl_value_equal(kl_get(now, f), kl_get(old, f)))
            return true;
    }
    return false;
}

static void copy_meta(struct kl_arena *a, struct kl_value *m, const struct kl_value *old_m,
                      kl_sym f)
{
    const struct kl_value *v = kl_get(old_m, f);
    if (v)
        kl_set(a, m, f, *v);
    else
        kl_unset(a, m, f);
}

// rest.BeforeUpdate for metadata.
static int before_update(struct kl_req *r, const struct kl_strategy *s, struct kl_value *draft,
                         const struct kl_value *old)
{
    struct kl_arena *a = r->arena;
    const struct kl_value *om = kl_get(old, KL_F_metadata);
    struct kl_value *m = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
    if (!m)
        return kl_fail_oom(r), KL_ENOMEM;
    struct kl_str uid = kl_text(kl_get(m, KL_F_uid));
    if (uid.n && !kl_str_eq(uid, kl_text(kl_get(om, KL_F_uid)))) {
        kl_fail_conflict(r, r->info.name,
                         "Precondition failed: UID in precondition: %.*s, UID in object meta: %.*s",
                         KL_PRI(uid), KL_PRI(kl_text(kl_get(om, KL_F_uid))));
        return KL_ECONFLICT;
    }
    static const kl_sym kept[] = {KL_F_uid,
                                  KL_F_creationTimestamp,
                                  KL_F_deletionTimestamp,
                                  KL_F_deletionGracePeriodSeconds,
                                  KL_F_generation,
                                  KL_F_generateName};
    for (size_t i = 0; i < KL_COUNT(kept); i++)
        copy_meta(a, m, om, kept[i]);
    kl_unset(a, m, KL_F_selfLink);
    if (is_status(r)) {
        // Owners and finalizers are not a status writer's to change.
        copy_meta(a, m, om, KL_F_ownerReferences);
        copy_meta(a, m, om, KL_F_finalizers);
    }
    (void)s;
    return 0;
}

static int check_rv(struct kl_req *r, const struct kl_strategy *s, const struct kl_value *draft,
                    const struct kl_value *old)
{
    struct kl_str rv = kl_meta_rv(draft);
    if (!rv.n || kl_str_eqz(rv, "0")) {
        if (!(s->flags & KL_STRAT_NEEDS_RV) || r->info.op == KL_VERB_PATCH)
            return 0;
        struct kl_field_errors e = {.arena = r->arena};
        kl_field_error(&e, "FieldValueInvalid", KL_STR("metadata.resourceVersion"),
                       "Invalid value: 0: must be specified for an update");
        kl_fail_invalid(r, kl_str(r->info.res->kind), r->info.group, r->info.name, &e);
        return KL_EINVALID;
    }
    if (kl_str_eq(rv, kl_meta_rv(old)))
        return 0;
    kl_fail_conflict(
        r, r->info.name,
        "the object has been modified; please apply your changes to the latest version "
        "and try again");
    return KL_ECONFLICT;
}

// A deletion that waited for its finalizers is carried out by the update that takes the last.
static bool removed_by_update(const struct kl_req *r, const struct kl_value *draft)
{
    if (!kl_meta_deleting(draft) || kl_len(kl_path(draft, KL_F_metadata, KL_F_finalizers)))
        return false;
    if (kl_int_at(draft, 0, KL_F_metadata, KL_F_deletionGracePeriodSeconds))
        return false;
    return r->info.res->index != KL_RES_core_v1_namespaces ||
           !kl_len(kl_path(draft, KL_F_spec, KL_F_finalizers));
}

int kl_update_prepare(struct kl_req *r, struct kl_object *stored, struct kl_value *draft)
{
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    const struct kl_strategy *s = kl_strategy_of(st);
    const struct kl_value *old = &stored->root;
    int rc;
    if ((rc = check_rv(r, s, draft, old)) || (rc = before_update(r, s, draft, old)))
        return rc;
    keep_other_half(r, s, draft, old);
    kl_drop_gated(r->arena, st->type, draft, old);
    if ((rc = kl_admit_update(r, draft, old)))
        return rc;
    if (s->prepare_update && (rc = s->prepare_update(r, draft, old)))
        return rc;
    // Both sides canonical, so that what only looks different does not count as a change.
    struct kl_object *now = kl_object_freeze(st->type, draft);
    if (!now)
        return kl_fail_oom(r), KL_ENOMEM;
    if ((s->flags & KL_STRAT_GENERATION) && !is_status(r) &&
        spec_changed(st->type, &now->root, old)) {
        struct kl_value *m = kl_edit(r->arena, draft, KL_F_metadata, KL_STRUCT);
        kl_set(r->arena, m, KL_F_generation,
               kl_int(kl_int_at(old, 0, KL_F_metadata, KL_F_generation) + 1));
    }
    struct kl_field_errors e = {.arena = r->arena};
    kl_meta_validate(r, s, &now->root, old, &e);
    if (s->validate)
        s->validate(r, &now->root, old, &e);
    if (e.n)
        kl_fail_invalid(r, kl_str(r->info.res->kind), r->info.group, r->info.name, &e);
    bool gone = removed_by_update(r, &now->root);
    kl_object_unref(now);
    return e.n ? KL_EINVALID : gone ? KL_WRITE_REMOVE : KL_WRITE_PUT;
}

static int to_storage(struct kl_req *r, struct kl_value *v)
{
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    struct kl_error err = {0};
    struct kl_value out;
    if (st == r->info.res || !kl_convert_needed(r->info.res, st))
        return 0;
    if (kl_convert(r->arena, r->info.res, st, v, &out, &err))
        return kl_fail_err(r, &err), err.code;
    *v = out;
    return 0;
}

static int transform_update(struct kl_write *w, struct kl_object *stored, struct kl_value *draft)
{
    struct update *u = KL_CONTAINER_OF(w, struct update, w);
    struct kl_req *r = w->r;
    if (!stored)
        return kl_fail_not_found(r), KL_ENOTFOUND;
    *draft = u->sent;
    draft->owned = 0;
    int rc = to_storage(r, draft);
    return rc ? rc : kl_update_prepare(r, stored, draft);
}

static int check_identity(struct kl_req *r, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    struct kl_value *m = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
    if (!m)
        return kl_fail_oom(r), KL_ENOMEM;
    struct kl_str name = kl_text(kl_get(m, KL_F_name)), ns = kl_text(kl_get(m, KL_F_namespace));
    if (!name.n)
        kl_set(a, m, KL_F_name, kl_string(r->info.name));
    else if (!kl_str_eq(name, r->info.name)) {
        kl_fail_bad(r, "the name of the object (%.*s) does not match the name on the URL (%.*s)",
                    KL_PRI(name), KL_PRI(r->info.name));
        return KL_EBADREQUEST;
    }
    if (r->info.res->namespaced && !ns.n)
        kl_set(a, m, KL_F_namespace, kl_string(r->info.ns));
    else if (r->info.res->namespaced && !kl_str_eq(ns, r->info.ns)) {
        kl_fail_bad(r,
                    "the namespace of the object (%.*s) does not match the namespace on the "
                    "request (%.*s)",
                    KL_PRI(ns), KL_PRI(r->info.ns));
        return KL_EBADREQUEST;
    }
    return 0;
}

static struct update *new_update(struct kl_req *r,
                                 int (*transform)(struct kl_write *, struct kl_object *,
                                                  struct kl_value *))
{
    struct update *u = KL_ARENA_NEW(r->arena, struct update);
    struct kl_str key = kl_object_key(r->arena, r->info.res, r->info.ns, r->info.name);
    if (!u || !key.p) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return NULL;
    }
    u->w = (struct kl_write){.r = r, .res = r->info.res, .key = key, .transform = transform};
    return u;
}

void kl_registry_update(struct kl_req *r)
{
    struct kl_error err = {0};
    struct update *u = new_update(r, transform_update);
    if (!u)
        return;
    if (kl_body_decode(r, r->info.res->type, r->info.res, &u->sent, &err)) {
        kl_fail_err(r, &err);
        kl_req_fail(r);
        return;
    }
    const struct kl_strategy *s = kl_strategy_of(kl_resource_storage(r->info.res));
    if (check_identity(r, &u->sent)) {
        kl_req_fail(r);
        return;
    }
    if ((s->flags & KL_STRAT_CREATE_ON_UPDATE) && !r->info.sub.n &&
        !kl_view_get(kl_req_view(r), u->w.key) && !kl_meta_rv(&u->sent).n) {
        kl_create_draft(r, u->sent);
        return;
    }
    if (kl_default_object(r->arena, r->info.res->type, &u->sent)) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    struct kl_str rv = kl_meta_rv(&u->sent);
    u->w.exact = rv.n && !kl_str_eqz(rv, "0");
    kl_write_start(&u->w);
}

// ---- PATCH

// The object as the patch's author sees it: apiVersion, kind and all, untyped.
static int whole_untyped(struct kl_req *r, struct kl_object *o, struct kl_value *ret)
{
    struct kl_arena *a = r->arena;
    if (kl_untyped_from_typed(a, o->type, &o->root, ret) ||
        kl_map_set_value(a, ret, KL_STR("apiVersion"), kl_stringz(r->info.res->api_version)) ||
        kl_map_set_value(a, ret, KL_STR("kind"), kl_stringz(r->info.res->kind)))
        return kl_fail_oom(r), KL_ENOMEM;
    return 0;
}

int kl_patch_apply(struct kl_req *r, const struct kl_type *type, const struct kl_value *was,
                   const struct kl_value *patch, struct kl_value *ret, struct kl_error *err)
{
    switch (r->opts.patch_type) {
    case KL_PATCH_JSON:
        return kl_patch_json(r->arena, was, patch, ret, err);
    case KL_PATCH_MERGE:
        return kl_patch_merge(r->arena, was, patch, ret, err);
    default:
        return kl_patch_strategic(r->arena, type, was, patch, ret, err);
    }
}

static int apply_patch(struct kl_req *r, const struct kl_value *was, const struct kl_value *patch,
                       struct kl_value *ret)
{
    struct kl_error err = {0};
    int rc = kl_patch_apply(r, r->info.res->type, was, patch, ret, &err);
    if (rc == KL_EINVALID) // NewGenericServerResponse keeps the wording to itself
        kl_fail_set(r, 422, "Invalid",
                    "the server rejected our request due to an error in our request");
    else if (rc == KL_EINTERNAL) // an error that is no APIStatus
        kl_fail_set(r, 500, "", "%s", err.msg);
    else if (rc)
        kl_fail_err(r, &err);
    return rc;
}

static int retype(struct kl_req *r, const struct kl_value *untyped, struct kl_value *draft)
{
    struct kl_error err = {0};
    struct kl_strict *strict = NULL;
    if (r->opts.field_validation != KL_VALIDATE_IGNORE)
        strict = KL_ARENA_NEW(r->arena, struct kl_strict);
    if (kl_typed_from_untyped(r->arena, r->info.res->type, untyped, strict, draft, &err)) {
        kl_fail_set(r, 422, "Invalid", "%s \"%.*s\" is invalid: %s", r->info.res->kind,
                    KL_PRI(r->info.name), err.msg);
        r->fail.kind = kl_str(r->info.res->kind);
        r->fail.group = r->info.group;
        r->fail.name = r->info.name;
        return KL_EINVALID;
    }
    if (!strict || !strict->n)
        return 0;
    if (r->opts.field_validation == KL_VALIDATE_STRICT) {
        struct kl_buf b;
        kl_buf_init(&b, 8192);
        for (size_t i = 0; i < strict->n; i++)
            kl_buf_printf(&b, "%s%.*s", i ? ", " : "", KL_PRI(strict->messages[i]));
        kl_fail_set(r, 422, "Invalid", "%s \"%.*s\" is invalid: patch: Invalid value: %.*s",
                    r->info.res->kind, KL_PRI(r->info.name), KL_PRI(kl_buf_str(&b)));
        kl_buf_fini(&b);
        return KL_EBADREQUEST;
    }
    r->warnings = strict->messages;
    r->nwarnings = strict->n;
    return 0;
}

static int transform_patch(struct kl_write *w, struct kl_object *stored, struct kl_value *draft)
{
    struct update *u = KL_CONTAINER_OF(w, struct update, w);
    struct kl_req *r = w->r;
    struct kl_value was, now;
    struct kl_error err = {0};
    int rc;
    if (!stored)
        return kl_fail_not_found(r), KL_ENOTFOUND;
    struct kl_object *shown = kl_object_in_version(r->info.res, stored, &err);
    if (!shown)
        return kl_fail_err(r, &err), err.code;
    rc = whole_untyped(r, shown, &was);
    if (!rc)
        rc = apply_patch(r, &was, &u->patch, &now);
    if (!rc)
        rc = retype(r, &now, draft);
    if (!rc && (rc = check_identity(r, draft)) == 0 &&
        kl_default_object(r->arena, r->info.res->type, draft))
        rc = (kl_fail_oom(r), KL_ENOMEM);
    if (!rc)
        rc = to_storage(r, draft);
    if (!rc)
        rc = kl_update_prepare(r, stored, draft);
    // The draft may refer to strings of the converted copy: both live in memory that outlasts it.
    if (shown != stored && rc >= 0) {
        struct kl_value copy;
        if (kl_copy(r->arena, draft, &copy))
            rc = (kl_fail_oom(r), KL_ENOMEM);
        else
            *draft = copy;
    }
    kl_object_unref(shown);
    return rc;
}

void kl_registry_patch(struct kl_req *r)
{
    struct kl_error err = {0};
    struct update *u = new_update(r, transform_patch);
    if (!u)
        return;
    int rc = r->body_media == KL_MEDIA_YAML
                 ? kl_yaml_parse(r->arena, r->body, NULL, &u->patch, &err)
                 : kl_json_parse(r->arena, r->body, NULL, &u->patch, &err);
    if (!rc && r->opts.patch_type == KL_PATCH_JSON && !kl_is(&u->patch, KL_ARRAY))
        rc = kl_error_set(&err, KL_EBADREQUEST,
                          "error decoding patch: json: cannot unmarshal object into Go value of "
                          "type jsonpatch.Patch");
    if (!rc && r->opts.patch_type != KL_PATCH_JSON && !kl_is(&u->patch, KL_MAP))
        rc = kl_error_set(&err, KL_EBADREQUEST,
                          "error decoding patch: json: cannot unmarshal into Go value of type "
                          "map[string]interface {}");
    if (rc) {
        kl_fail_err(r, &err);
        kl_req_fail(r);
        return;
    }
    kl_write_start(&u->w);
}
