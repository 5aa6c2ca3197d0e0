// SPDX-License-Identifier: Apache-2.0
// PATCH with application/apply-patch+yaml: server-side apply, which creates what is not there
// (upstream's handlers/patch.go, applyPatcher).
#include "apiserver/auth/auth.h"
#include "apiserver/managed.h"
#include "apiserver/strategy.h"
#include "object/crd/crd.h"
#include "object/json_kind.h"
#include "object/yaml.h"
#include "watchcache/filter.h"

enum { STARTS_MAX = 8 };

struct apply {
    struct kl_write w;
    struct kl_value config;
    struct kl_str repeated; // keys that the text has twice, in yaml's words
    void (*done)(struct kl_req *);
    int starts;
};

// ---- what came of it

static int conflict(struct kl_req *r, const struct kl_apply_result *res)
{
    struct kl_cause *causes = kl_arena_alloc(r->arena, (res->nconflicts + 1) * sizeof *causes);
    if (!causes)
        return kl_fail_oom(r), KL_ENOMEM;
    struct kl_fail *f = kl_fail_set(r, 409, "Conflict", "%.*s", KL_PRI(res->message));
    f->causes = causes;
    f->ncauses = res->nconflicts;
    for (size_t i = 0; i < res->nconflicts; i++)
        causes[i] = (struct kl_cause){.reason = KL_STR("FieldManagerConflict"),
                                      .message = kl_arena_printf(r->arena, "conflict with %.*s",
                                                                 KL_PRI(res->conflicts[i].manager)),
                                      .field = res->conflicts[i].path};
    return KL_ECONFLICT;
}

static int refuse(struct kl_req *r, int rc, const struct kl_apply_result *res,
                  const struct kl_error *err)
{
    if (rc == KL_ECONFLICT)
        return conflict(r, res);
    if (rc == KL_EAGAIN)
        return rc;
    if (rc == KL_ENOMEM)
        kl_fail_oom(r);
    else if (rc == KL_EBADREQUEST)
        kl_fail_bad(r, "%s", err->msg);
    else
        kl_fail_set(r, 500, "", "%s", err->msg); // an error that is no APIStatus
    return rc;
}

// The text had keys twice: refused or warned of once the apply itself is found well.
static int check_repeated(struct kl_req *r, const struct apply *x)
{
    if (!x->repeated.n)
        return 0;
    if (r->opts.field_validation == KL_VALIDATE_STRICT) {
        kl_fail_bad(r, "error strict decoding YAML: %.*s", KL_PRI(x->repeated));
        return KL_EBADREQUEST;
    }
    kl_req_warn(r, x->repeated);
    return 0;
}

int kl_apply_scale(struct kl_req *r, const struct kl_value *config, const struct kl_value *old,
                   const struct kl_value *was, struct kl_value *draft, int64_t *ret_replicas)
{
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    const struct kl_value *had = kl_path(old, KL_F_metadata, KL_F_managedFields);
    struct kl_managed_env env = kl_track_scale_env(r);
    struct kl_apply_result res = {0};
    struct kl_value v, entries = kl_null();
    struct kl_error err = {0};
    struct kl_object *live = kl_track_scale_shown(r, old, was);
    if (!live)
        return KL_ENOMEM;
    int rc = kl_managed_apply(&env, &live->root, config, r->opts.force, &res, &err);
    *ret_replicas = kl_int_at(&live->root, 0, KL_F_spec, KL_F_replicas);
    if (!rc && res.changed) {
        rc = kl_typed_from_untyped(r->arena, env.type, &res.object, NULL, &v, &err);
        if (!rc)
            *ret_replicas = kl_int_at(&v, 0, KL_F_spec, KL_F_replicas);
    }
    if (!rc)
        rc = kl_managed_from_scale(r->arena, st, had, &res.entries, &entries, &err);
    kl_object_unref(live);
    return rc ? refuse(r, rc, &res, &err) : kl_track_put(r, draft, &entries);
}

// What was merged is not read again: a null that was applied to a custom resource is there to be
// validated.
static int to_typed(struct kl_req *r, const struct kl_value *merged, struct kl_value *draft,
                    struct kl_error *err)
{
    const struct kl_type *type = r->info.res->type;
    return type->custom ? kl_crd_typed(r->arena, kl_crd_of_type(type), merged, draft, err)
                        : kl_typed_from_untyped(r->arena, type, merged, NULL, draft, err);
}

// The object as the configuration wants it, in the version of the request; live NULL: there is
// none.
static int run(struct kl_req *r, const struct apply *x, struct kl_object *live,
               struct kl_value *draft)
{
    struct kl_managed_env env = kl_track_env(r);
    struct kl_error err = {0};
    struct kl_apply_result res;
    const struct kl_resource *res_of = r->info.res;
    const char *misfit;
    struct kl_str ns =
        kl_text(kl_map_value(kl_map_value(&x->config, KL_STR("metadata")), KL_STR("namespace")));
    int rc =
        kl_managed_apply(&env, live ? &live->root : NULL, &x->config, r->opts.force, &res, &err);
    if (rc)
        return refuse(r, rc, &res, &err);
    if ((rc = check_repeated(r, x)))
        return rc;
    if (live && !res.changed) {
        *draft = kl_object_draft(live);
    } else if ((rc = to_typed(r, &res.object, draft, &err))) {
        if (!res_of->custom)
            kl_error_wrap(&err, "unable to convert unstructured object to %s/%s, Kind=%s",
                          res_of->group, res_of->version, res_of->kind);
        kl_error_wrap(&err,
                      "failed to convert new object (%.*s/%.*s; %s/%s, Kind=%s) to proper "
                      "version",
                      KL_PRI(ns), KL_PRI(r->info.name), res_of->group, res_of->version,
                      res_of->kind);
        return refuse(r, rc == KL_ENOMEM ? rc : KL_EINVALID, &res, &err);
    } else if ((misfit = kl_draft_misfit(r->arena, res_of->type, draft))) {
        kl_error_set(&err, KL_EINVALID,
                     "failed to convert to unversioned (%.*s/%.*s; %s/%s, Kind=%s): %s", KL_PRI(ns),
                     KL_PRI(r->info.name), res_of->group, res_of->version, res_of->kind, misfit);
        return refuse(r, KL_EINVALID, &res, &err);
    }
    return kl_track_put(r, draft, &res.entries);
}

// ---- an object that is there

static int transform_apply(struct kl_write *w, struct kl_object *stored, struct kl_value *draft)
{
    struct apply *x = KL_CONTAINER_OF(w, struct apply, w);
    struct kl_req *r = w->r;
    struct kl_error err = {0};
    if (!stored)
        return kl_fail_not_found(r), KL_ENOTFOUND;
    struct kl_object *live = kl_object_in_version(r->info.res, stored, &err);
    if (!live)
        return kl_fail_err(r, &err), err.code;
    int rc = run(r, x, live, draft);
    if (!rc && (rc = kl_update_check_identity(r, draft)) == 0)
        rc = kl_draft_default(r, draft);
    if (!rc)
        rc = kl_draft_to_storage(r, draft);
    if (live != stored && rc >= 0) { // its strings go with it
        struct kl_value copy;
        if (kl_copy(r->arena, draft, &copy))
            rc = (kl_fail_oom(r), KL_ENOMEM);
        else
            *draft = copy;
    }
    kl_object_unref(live);
    return rc;
}

// ---- an object that is not

static int may_create(struct kl_req *r)
{
    enum kl_verb op = r->info.op;
    struct kl_str verb = r->info.verb;
    r->info.op = KL_VERB_CREATE;
    r->info.verb = KL_STR("create");
    bool may = kl_authorize_req(r);
    r->info.op = op;
    r->info.verb = verb;
    return may ? 0 : KL_EFORBIDDEN;
}

static int make(struct kl_req *r, struct apply *x, struct kl_value *draft)
{
    int rc = run(r, x, NULL, draft);
    if (rc)
        return rc; // and no draft
    struct kl_str uid = kl_meta_uid(draft);
    if (uid.n) {
        kl_fail_conflict(r, r->info.name,
                         "uid mismatch: the provided object specified uid %.*s, and no existing "
                         "object was found",
                         KL_PRI(uid));
        return KL_ECONFLICT;
    }
    return (rc = kl_update_check_identity(r, draft)) ? rc : may_create(r);
}

static void start(struct apply *x);

static void start_newest(void *arg, int code)
{
    struct apply *x = arg;
    if (code)
        kl_req_fail(x->w.r);
    else
        start(x);
}

// It came or went in between: the other way then, on what is known now.
static void done(struct kl_req *r)
{
    struct apply *x = r->work;
    bool raced = r->result == KL_RESULT_FAIL &&
                 (kl_str_eqz(r->fail.reason, "AlreadyExists") ||
                  (kl_str_eqz(r->fail.reason, "NotFound") && !r->info.sub.n)) &&
                 x->starts < STARTS_MAX;
    if (!raced) {
        r->done = x->done;
        r->done(r);
        return;
    }
    r->result = KL_RESULT_NONE;
    r->fail = (struct kl_fail){0};
    if (!kl_req_confirm(r, start_newest, x))
        start(x);
}

static void start(struct apply *x)
{
    struct kl_req *r = x->w.r;
    struct kl_value draft;
    x->starts++;
    x->w = (struct kl_write){.r = r,
                             .res = r->info.res,
                             .key = x->w.key,
                             .op = KL_ADMIT_UPDATE,
                             .transform = transform_apply,
                             .settle = kl_update_settle};
    if (r->info.sub.n || kl_view_get(kl_req_view(r), x->w.key)) {
        kl_update_start(&x->w);
        return;
    }
    if (make(r, x, &draft))
        kl_req_fail(r);
    else
        kl_create_draft(r, draft);
}

// ---- the request

static struct kl_str join(struct kl_req *r, const struct kl_strict *s)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_buf_puts(&b, KL_STR("error converting YAML to JSON: "));
    for (size_t i = 0; i < s->n; i++)
        kl_buf_printf(&b, "%s%.*s", i ? "\n" : "", KL_PRI(s->messages[i]));
    struct kl_str text = kl_arena_dup(r->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    return text;
}

int kl_apply_parse(struct kl_req *r, struct kl_value *ret, struct kl_str *ret_repeated)
{
    struct kl_error err = {0};
    struct kl_strict *strict = KL_ARENA_NEW(r->arena, struct kl_strict);
    *ret_repeated = KL_STR("");
    if (!strict)
        return kl_fail_oom(r), KL_ENOMEM;
    int rc = kl_yaml_parse(r->arena, r->body, strict, ret, &err);
    if (rc == KL_ENOMEM)
        return kl_fail_oom(r), rc;
    if (!rc && ret->kind == KL_NULL)
        *ret = kl_new_map();
    if (!rc && ret->kind != KL_MAP)
        rc = kl_error_set(&err, KL_EBADREQUEST,
                          "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal %s "
                          "into Go value of type map[string]interface {}",
                          kl_json_kind(ret));
    if (rc) {
        bool syntax = !strncmp(err.msg, "yaml: ", 6);
        kl_fail_bad(r, "error decoding YAML: %s%s", syntax ? "error converting YAML to JSON: " : "",
                    err.msg);
        return KL_EBADREQUEST;
    }
    if (strict->n && r->opts.field_validation != KL_VALIDATE_IGNORE)
        *ret_repeated = join(r, strict);
    return 0;
}

void kl_registry_apply(struct kl_req *r)
{
    struct apply *x = KL_ARENA_NEW(r->arena, struct apply);
    struct kl_str key = kl_object_key(r->arena, r->info.res, r->info.ns, r->info.name);
    if (!x || !key.p) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    if (kl_apply_parse(r, &x->config, &x->repeated)) {
        kl_req_fail(r);
        return;
    }
    x->w.r = r;
    x->w.key = key;
    x->done = r->done;
    r->done = done;
    r->work = x;
    start(x);
}
