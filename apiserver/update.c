// SPDX-License-Identifier: Apache-2.0
// UPDATE and PATCH, of whole objects and of the status subresource (upstream's Store.Update and
// handlers/patch.go).
#include "apiserver/crd/crd.h"
#include "apiserver/lease.h"
#include "apiserver/managed.h"
#include "apiserver/strategy.h"
#include "base/clock.h"
#include "object/convert.h"
#include "object/defaults.h"
#include "object/json_kind.h"
#include "object/patch.h"
#include "watchcache/filter.h"

enum { PATCH_SHOWN_MAX = 64 * 1024 };

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
static void keep_other_half(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    struct kl_arena *a = r->arena;
    const struct kl_type *t = kl_resource_storage(r->info.res)->type;
    bool status = is_status(r);
    if (!status && !kl_resource_sub(r->info.res, KL_STR("status")))
        return;
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

static bool spec_changed(const struct kl_strategy *s, const struct kl_resource *res,
                         const struct kl_value *now, const struct kl_value *old)
{
    const struct kl_type *t = res->type;
    // A custom resource without the subresource has a status like any other field.
    bool plain_status = res->custom && !res->custom->status;
    if ((s->flags & KL_STRAT_ANNOTATED) &&
        !kl_value_equal(kl_meta_annotations(now), kl_meta_annotations(old)))
        return true;
    if ((s->flags & KL_STRAT_LABELLED) && !kl_value_equal(kl_meta_labels(now), kl_meta_labels(old)))
        return true;
    for (uint16_t i = 0; i < t->nfields; i++) {
        kl_sym f = t->fields[i].sym;
        if (f == KL_F_metadata || (f == KL_F_status && !plain_status) || f == KL_F_apiVersion ||
            f == KL_F_kind)
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
static int before_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    struct kl_arena *a = r->arena;
    const struct kl_value *om = kl_get(old, KL_F_metadata);
    struct kl_value *m = kl_edit(a, draft, KL_F_metadata, KL_STRUCT);
    if (!m)
        return kl_fail_oom(r), KL_ENOMEM;
    struct kl_str uid = kl_text(kl_get(m, KL_F_uid)), is = kl_text(kl_get(om, KL_F_uid));
    bool patch = r->info.op == KL_VERB_PATCH; // what a patch changes is for validation to refuse
    if (uid.n && !kl_str_eq(uid, is) && !patch) {
        struct kl_str key = kl_object_key(r->arena, r->info.res, r->info.ns, r->info.name);
        kl_fail_conflict(r, r->info.name,
                         "StorageError: invalid object, Code: 4, Key: %.*s, ResourceVersion: 0, "
                         "AdditionalErrorMsg: Precondition failed: UID in precondition: %.*s, UID "
                         "in object meta: %.*s",
                         KL_PRI(key), KL_PRI(uid), KL_PRI(is));
        return KL_ECONFLICT;
    }
    static const kl_sym kept[] = {KL_F_uid, KL_F_creationTimestamp, KL_F_generation};
    for (size_t i = patch && uid.n; i < KL_COUNT(kept); i++)
        copy_meta(a, m, om, kept[i]);
    // A deletion cannot be taken back; one that is claimed is for validation to refuse.
    if (kl_get(om, KL_F_deletionTimestamp))
        copy_meta(a, m, om, KL_F_deletionTimestamp);
    if (!kl_get(m, KL_F_deletionGracePeriodSeconds))
        copy_meta(a, m, om, KL_F_deletionGracePeriodSeconds);
    kl_unset(a, m, KL_F_selfLink);
    if (!kl_text(kl_get(m, KL_F_resourceVersion)).n)
        copy_meta(a, m, om, KL_F_resourceVersion); // an update without one is of the newest
    if (is_status(r) && r->info.res->custom)
        return kl_custom_keep_for_status(r, draft, old) ? (kl_fail_oom(r), KL_ENOMEM) : 0;
    if (is_status(r) && r->info.res->index != KL_RES_apiextensions_v1_customresourcedefinitions) {
        // Owners and finalizers are not a status writer's to change.
        copy_meta(a, m, om, KL_F_ownerReferences);
        copy_meta(a, m, om, KL_F_finalizers);
        const struct kl_resource *st = kl_resource_storage(r->info.res);
        bool whole = kl_status_leaves_meta(st);
        if (whole || st->index == KL_RES_apps_v1_deployments)
            copy_meta(a, m, om, KL_F_labels);
        if (whole)
            copy_meta(a, m, om, KL_F_annotations);
    }
    return 0;
}

static int check_rv(struct kl_req *r, const struct kl_strategy *s, const struct kl_value *draft,
                    const struct kl_value *old)
{
    struct kl_str rv = kl_meta_rv(draft);
    if (!rv.n || kl_str_eqz(rv, "0")) {
        if (!(s->flags & KL_STRAT_NEEDS_RV))
            return 0;
        struct kl_field_errors e = {.arena = r->arena};
        kl_field_error(&e, "FieldValueInvalid", KL_STR("metadata.resourceVersion"),
                       "Invalid value: 0: must be specified for an update");
        kl_fail_invalid(r, r->info.plural, r->info.group, r->info.name, &e); // the plural, as there
        return KL_EINVALID;
    }
    if (kl_str_eq(rv, kl_meta_rv(old)))
        return 0;
    int64_t number;
    if (!kl_str_to_i64(rv, &number) || number < 0) {
        kl_fail_set(r, 500, "", "strconv.ParseUint: parsing \"%.*s\": invalid syntax", KL_PRI(rv));
        return KL_EBADREQUEST;
    }
    kl_fail_conflict(
        r, r->info.name,
        "the object has been modified; please apply your changes to the latest version "
        "and try again");
    return KL_ECONFLICT;
}

// A deletion that waited for its finalizers is carried out by the update that takes the last.
// That there is one, the stored object says (ShouldDeleteDuringUpdate).
static bool removed_by_update(const struct kl_req *r, const struct kl_value *draft,
                              const struct kl_value *old)
{
    if (!kl_meta_deleting(old) || kl_len(kl_path(draft, KL_F_metadata, KL_F_finalizers)))
        return false;
    if (kl_int_at(old, 0, KL_F_metadata, KL_F_deletionGracePeriodSeconds))
        return false;
    return r->info.res->index != KL_RES_core_v1_namespaces ||
           !kl_len(kl_path(draft, KL_F_spec, KL_F_finalizers));
}

int kl_update_settle(struct kl_write *w, struct kl_object *stored, struct kl_value *draft)
{
    struct kl_req *r = w->r;
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    const struct kl_strategy *s = kl_strategy_of(st);
    const struct kl_value *old = &stored->root;
    int rc;
    if ((rc = check_rv(r, s, draft, old)) || (rc = before_update(r, draft, old)))
        return rc;
    keep_other_half(r, draft, old);
    kl_drop_gated(r->arena, st->type, draft, old, &r->srv->gates);
    if (s->prepare_update && (rc = s->prepare_update(r, draft, old)))
        return rc;
    // Both sides canonical, so that what only looks different does not count as a change.
    struct kl_object *now = kl_object_freeze(st->type, draft);
    if (!now)
        return kl_fail_oom(r), KL_ENOMEM;
    bool bumped =
        (s->flags & KL_STRAT_GENERATION) && !is_status(r) && spec_changed(s, st, &now->root, old);
    if (bumped) {
        struct kl_value *m = kl_edit(r->arena, draft, KL_F_metadata, KL_STRUCT);
        kl_set(r->arena, m, KL_F_generation,
               kl_int(kl_int_at(old, 0, KL_F_metadata, KL_F_generation) + 1));
    }
    struct kl_field_errors e = {.arena = r->arena};
    if ((rc = kl_rules_check(r, s, &now->root, old, &e))) {
        kl_object_unref(now);
        return rc;
    }
    if (e.n)
        kl_fail_invalid(r, kl_str(r->info.res->kind), r->info.group, r->info.name, &e);
    else
        kl_rules_warn(r, &now->root, old, bumped);
    bool gone = removed_by_update(r, &now->root, old);
    rc = e.n || gone ? 0 : kl_track_settle(r, old, &now->root, draft);
    if (!e.n && !gone && !rc && !bumped) // the draft is as it was frozen
        w->settled = kl_object_ref(now);
    kl_object_unref(now);
    if (rc < 0)
        return rc;
    return e.n ? KL_EINVALID : gone ? kl_release(r, old) : KL_WRITE_PUT;
}

static int transform_update(struct kl_write *w, struct kl_object *stored, struct kl_value *draft)
{
    struct update *u = KL_CONTAINER_OF(w, struct update, w);
    struct kl_req *r = w->r;
    if (!stored)
        return kl_fail_not_found(r), KL_ENOTFOUND;
    struct kl_error err = {0};
    struct kl_object *live = kl_object_in_version(r->info.res, stored, &err);
    if (!live)
        return kl_fail_err(r, &err), err.code;
    *draft = u->sent;
    draft->owned = 0;
    int rc = kl_track_update(r, live, draft);
    if (live != stored && !rc && kl_copy(r->arena, draft, draft)) // entries may be the copy's
        rc = (kl_fail_oom(r), KL_ENOMEM);
    kl_object_unref(live);
    return rc ? rc : kl_draft_to_storage(r, draft);
}

// The object is the one of the URL (checkName).
int kl_update_check_identity(struct kl_req *r, struct kl_value *draft)
{
    struct kl_str name = kl_meta_name(draft);
    int rc = kl_meta_take_namespace(r, draft);
    if (rc || kl_str_eq(name, r->info.name))
        return rc;
    if (!name.n)
        kl_fail_bad(r,
                    "the name of the object (%.*s based on URL) was undeterminable: name must be "
                    "provided",
                    KL_PRI(r->info.name));
    else
        kl_fail_bad(r, "the name of the object (%.*s) does not match the name on the URL (%.*s)",
                    KL_PRI(name), KL_PRI(r->info.name));
    return KL_EBADREQUEST;
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
    u->w = (struct kl_write){.r = r,
                             .res = r->info.res,
                             .key = key,
                             .op = KL_ADMIT_UPDATE,
                             .transform = transform,
                             .settle = kl_update_settle};
    return u;
}

static void with_lease(void *arg, int64_t lease, const struct kl_error *err)
{
    struct kl_write *w = arg;
    if (err) {
        kl_fail_err(w->r, err);
        kl_req_fail(w->r);
        return;
    }
    w->lease = lease;
    kl_write_start(w);
}

// An Event lives as long again after each change.
void kl_update_start(struct kl_write *w)
{
    struct kl_req *r = w->r;
    if (kl_resource_storage(r->info.res)->index == KL_RES_core_v1_events && !r->opts.dry_run)
        kl_event_lease(r->al, with_lease, w);
    else
        kl_write_start(w);
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
    if (kl_update_check_identity(r, &u->sent)) {
        kl_req_fail(r);
        return;
    }
    if ((s->flags & KL_STRAT_CREATE_ON_UPDATE) && !r->info.sub.n &&
        !kl_view_get(kl_req_view(r), u->w.key) && !kl_meta_rv(&u->sent).n) {
        kl_create_draft(r, u->sent);
        return;
    }
    if (kl_draft_default(r, &u->sent)) {
        kl_req_fail(r);
        return;
    }
    if (kl_meta_dedup_owners(r, &u->sent, false)) {
        kl_req_fail(r);
        return;
    }
    struct kl_str rv = kl_meta_rv(&u->sent);
    u->w.exact = rv.n && !kl_str_eqz(rv, "0");
    kl_update_start(&u->w);
}

// ---- PATCH

// The object as the patch's author sees it: apiVersion, kind and all, untyped.
static int whole_untyped(struct kl_req *r, struct kl_object *o, struct kl_value *ret)
{
    struct kl_arena *a = r->arena;
    if (r->info.res->custom)
        return kl_crd_untyped(a, r->info.res->custom->schema, &o->root, ret)
                   ? (kl_fail_oom(r), KL_ENOMEM)
                   : 0;
    if (kl_untyped_from_typed(a, o->type, &o->root, ret) ||
        kl_map_set_value(a, ret, KL_STR("apiVersion"), kl_stringz(r->info.res->api_version)) ||
        kl_map_set_value(a, ret, KL_STR("kind"), kl_stringz(r->info.res->kind)))
        return kl_fail_oom(r), KL_ENOMEM;
    return 0;
}

// NewGenericServerResponse(422): what exactly was wrong is not told.
static int unprocessable(struct kl_req *r)
{
    kl_fail_set(r, 422, "Invalid",
                "the server rejected our request due to an error in our request");
    return KL_EINVALID;
}

int kl_patch_run(struct kl_req *r, const struct kl_type *type, const struct kl_value *was,
                 const struct kl_value *patch, struct kl_value *ret)
{
    struct kl_error err = {0};
    enum kl_patch_type t = r->opts.patch_type;
    int rc = t == KL_PATCH_JSON    ? kl_patch_json(r->arena, was, patch, ret, &err)
             : t == KL_PATCH_MERGE ? kl_patch_merge(r->arena, was, patch, ret, &err)
                                   : kl_patch_strategic(r->arena, type, was, patch, ret, &err);
    if (rc == KL_EINVALID)
        return unprocessable(r);
    if (rc == KL_EINTERNAL) // an error that is no APIStatus
        kl_fail_set(r, 500, "", "%s", err.msg);
    else if (rc)
        kl_fail_err(r, &err);
    return rc;
}

// The patch as upstream shows it: the patched JSON, or Go's %+v of a strategic patch's map.
static void put_go(struct kl_buf *b, const struct kl_value *v)
{
    size_t i = 0;
    switch (v->kind) {
    case KL_MAP:
        kl_buf_puts(b, KL_STR("map["));
        for (KL_MAP_EACH_KEY(kv, v)) {
            kl_buf_printf(b, "%s%.*s:", i++ ? " " : "", KL_PRI(kl_text(kv)));
            put_go(b, kv + 1);
        }
        kl_buf_putc(b, ']');
        return;
    case KL_ARRAY:
        kl_buf_putc(b, '[');
        for (KL_EACH(x, v)) {
            kl_buf_puts(b, i++ ? KL_STR(" ") : KL_STR(""));
            put_go(b, x);
        }
        kl_buf_putc(b, ']');
        return;
    case KL_STRING:
        kl_buf_puts(b, kl_text(v));
        return;
    case KL_NULL:
        kl_buf_puts(b, KL_STR("<nil>"));
        return;
    default:
        kl_json_write(b, v);
    }
}

static int refuse_patch(struct kl_req *r, const struct kl_value *patch,
                        const struct kl_value *patched, const char *why)
{
    struct kl_field_errors e = {.arena = r->arena};
    struct kl_buf b;
    kl_buf_init(&b, PATCH_SHOWN_MAX);
    if (r->opts.patch_type == KL_PATCH_STRATEGIC)
        put_go(&b, patch);
    else
        kl_json_write(&b, patched);
    kl_field_invalid(&e, KL_STR("patch"), kl_buf_str(&b), why);
    kl_buf_fini(&b);
    kl_fail_invalid(r, KL_STR(""), KL_STR(""), KL_STR(""), &e);
    return KL_EINVALID;
}

static struct kl_str join_strict(struct kl_arena *a, const struct kl_strict *s)
{
    struct kl_buf b;
    kl_buf_init(&b, PATCH_SHOWN_MAX);
    kl_buf_puts(&b, KL_STR("strict decoding error: "));
    for (size_t i = 0; i < s->n; i++)
        kl_buf_printf(&b, "%s%.*s", i ? ", " : "", KL_PRI(s->messages[i]));
    struct kl_str out = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out.p ? out : KL_STR("strict decoding error");
}

// What a patch made of apiVersion and kind is what the result is decoded as; nothing else than what
// it was can be stored.
static int check_patched_kind(struct kl_req *r, const struct kl_type *type,
                              const struct kl_value *patched, struct kl_error *err)
{
    struct kl_str version = kl_text(kl_map_value(patched, KL_STR("apiVersion")));
    struct kl_str kind = kl_text(kl_map_value(patched, KL_STR("kind"))), whole = version;
    struct kl_str group = KL_STR("");
    struct kl_value other;
    ptrdiff_t slash = kl_str_chr(version, '/');
    if (r->info.res->custom || !version.n || !kind.n || r->opts.patch_type == KL_PATCH_STRATEGIC)
        return 0;
    if (slash >= 0) {
        group = (struct kl_str){version.p, (size_t)slash};
        version = kl_str_from(version, (size_t)slash + 1);
    }
    const struct kl_type *said = kl_type_by_kind(group, version, kind);
    if (said == type)
        return 0;
    if (!said)
        return kl_error_set(err, KL_EBADREQUEST,
                            "no kind \"%.*s\" is registered for version \"%.*s\" in scheme "
                            "\"pkg/runtime/scheme.go:111\"",
                            KL_PRI(kind), KL_PRI(whole));
    int rc = kl_typed_from_untyped(r->arena, said, patched, NULL, &other, err);
    return rc ? rc
              : kl_error_set(err, KL_EBADREQUEST,
                             "converting (%.*s.%.*s) to (%s): unknown conversion", KL_PRI(version),
                             KL_PRI(kind), r->info.res->kind);
}

int kl_patch_retype(struct kl_req *r, const struct kl_type *type, const struct kl_value *patch,
                    const struct kl_value *patched, struct kl_value *draft)
{
    struct kl_error err = {0};
    struct kl_strict *strict = NULL;
    if (r->opts.field_validation != KL_VALIDATE_IGNORE)
        strict = KL_ARENA_NEW(r->arena, struct kl_strict);
    if (strict && r->patch_strict)
        *strict = *r->patch_strict;
    int rc = check_patched_kind(r, type, patched, &err);
    if (!rc)
        rc = kl_typed_from_untyped(r->arena, type, patched, strict, draft, &err);
    if (rc == KL_ENOMEM)
        return kl_fail_oom(r), rc;
    if (rc) {
        struct kl_str why = {0};
        if (r->opts.patch_type == KL_PATCH_STRATEGIC)
            why = kl_patch_complaint(r->arena, type, patched);
        return refuse_patch(r, patch, patched, why.p ? why.p : err.msg);
    }
    const char *misfit = kl_draft_misfit(r->arena, type, draft);
    if (misfit && r->opts.patch_type != KL_PATCH_STRATEGIC)
        return refuse_patch(r, patch, patched, misfit);
    if (misfit) // an error that is no APIStatus
        return kl_fail_set(r, 500, "", "%s", misfit), KL_EINVALID;
    if (!strict || !strict->n)
        return 0;
    if (r->opts.field_validation == KL_VALIDATE_STRICT)
        return refuse_patch(r, patch, patched, join_strict(r->arena, strict).p);
    for (size_t i = 0; i < strict->n; i++)
        kl_req_warn(r, strict->messages[i]);
    return 0;
}

// Most patches name a few members and have nothing wrong with them.
static bool patch_in_part(struct kl_req *r, const struct kl_object *shown,
                          const struct kl_value *patch, struct kl_value *draft)
{
    bool strategic = r->opts.patch_type == KL_PATCH_STRATEGIC;
    if ((r->patch_strict && r->patch_strict->n) || r->opts.patch_type == KL_PATCH_JSON)
        return false;
    return kl_patch_in_part(r->arena, r->info.res->type, strategic, &shown->root, patch, draft) &&
           !kl_draft_misfit(r->arena, r->info.res->type, draft);
}

static int patch_whole(struct kl_req *r, struct kl_object *shown, const struct kl_value *patch,
                       struct kl_value *draft)
{
    struct kl_value was, now;
    int rc = whole_untyped(r, shown, &was);
    rc = rc ? rc : kl_patch_run(r, r->info.res->type, &was, patch, &now);
    return rc ? rc : kl_patch_retype(r, r->info.res->type, patch, &now, draft);
}

static int transform_patch(struct kl_write *w, struct kl_object *stored, struct kl_value *draft)
{
    struct update *u = KL_CONTAINER_OF(w, struct update, w);
    struct kl_req *r = w->r;
    struct kl_error err = {0};
    int rc = 0;
    if (!stored)
        return kl_fail_not_found(r), KL_ENOTFOUND;
    struct kl_object *shown = kl_object_in_version(r->info.res, stored, &err);
    if (!shown)
        return kl_fail_err(r, &err), err.code;
    if (!patch_in_part(r, shown, &u->patch, draft))
        rc = patch_whole(r, shown, &u->patch, draft);
    if (!rc && (rc = kl_update_check_identity(r, draft)) == 0)
        rc = kl_draft_default(r, draft);
    if (!rc)
        rc = kl_track_update(r, shown, draft);
    if (!rc)
        rc = kl_draft_to_storage(r, draft);
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

// applyJSPatch: what is said of a JSON patch itself, repeated and unknown members of operations.
static void judge_operations(struct kl_req *r, const struct kl_value *patch)
{
    static const char *const known[] = {"op", "path", "from", "value"};
    struct kl_strict *s = r->patch_strict;
    size_t i = 0;
    for (size_t k = 0; k < s->n; k++)
        s->messages[k] = kl_arena_printf(r->arena, "json patch %.*s", KL_PRI(s->messages[k]));
    for (KL_EACH(op, patch)) {
        for (KL_MAP_EACH_KEY(kv, kl_is(op, KL_MAP) ? op : NULL)) {
            bool found = false;
            for (size_t k = 0; k < KL_COUNT(known); k++)
                found |= kl_str_eqz(kl_text(kv), known[k]);
            if (!found && s->n < KL_STRICT_MAX)
                s->messages[s->n++] = kl_arena_printf(
                    r->arena, "json patch unknown field \"[%zu].%.*s\"", i, KL_PRI(kl_text(kv)));
        }
        i++;
    }
}

int kl_patch_parse(struct kl_req *r, struct kl_value *ret)
{
    struct kl_error err = {0};
    bool list = r->opts.patch_type == KL_PATCH_JSON;
    if (r->opts.field_validation != KL_VALIDATE_IGNORE)
        r->patch_strict =
            KL_ARENA_NEW(r->arena, struct kl_strict); // without memory: not looked for
    int rc = kl_json_parse(r->arena, r->body, r->patch_strict, ret, &err);
    bool strategic = r->opts.patch_type == KL_PATCH_STRATEGIC;
    if (!rc && kl_is(ret, KL_NULL) && r->opts.patch_type != KL_PATCH_MERGE)
        *ret = list ? kl_new_array() : kl_new_map(); // Go's nil: nothing is changed
    if (rc == KL_EBADREQUEST && !strategic)
        rc = kl_error_wrap(&err, "error decoding patch");
    else if (!rc && kl_is(ret, KL_NULL))
        rc = kl_error_set(&err, KL_EBADREQUEST, "Invalid JSON Patch");
    else if (!rc && !kl_is(ret, list ? KL_ARRAY : KL_MAP))
        rc = kl_error_set(&err, KL_EBADREQUEST,
                          "%sjson: cannot unmarshal %s into Go value of type %s",
                          strategic ? "" : "error decoding patch: ", kl_json_kind(ret),
                          list ? "[]handlers.jsonPatchOp" : "map[string]interface {}");
    if (rc)
        kl_fail_err(r, &err);
    else if (list && r->patch_strict)
        judge_operations(r, ret);
    return rc;
}

void kl_registry_patch(struct kl_req *r)
{
    if (kl_patch_check_options(r)) {
        kl_req_fail(r);
        return;
    }
    if (r->opts.patch_type == KL_PATCH_APPLY) {
        kl_registry_apply(r);
        return;
    }
    struct update *u = new_update(r, transform_patch);
    if (!u)
        return;
    if (kl_patch_parse(r, &u->patch))
        kl_req_fail(r);
    else
        kl_update_start(&u->w);
}
