// SPDX-License-Identifier: Apache-2.0
// The object of a request in the versions that policies and webhooks ask for (upstream's
// VersionedAttributes), and AdmissionRequest as a tree.
#include "apiserver/admission/hooks_int.h"
#include "apiserver/crd/convert.h"
#include "apiserver/encode.h"
#include "object/convert.h"
#include "object/defaults.h"

struct kl_str kl_admit_op_name(enum kl_admit_op op)
{
    return op == KL_ADMIT_CREATE   ? KL_STR("CREATE")
           : op == KL_ADMIT_UPDATE ? KL_STR("UPDATE")
           : op == KL_ADMIT_DELETE ? KL_STR("DELETE")
                                   : KL_STR("CONNECT");
}

static void drop_form(struct kl_shown *f)
{
    kl_object_unref(f->object);
    kl_object_unref(f->old);
    f->object = f->old = NULL;
}

void kl_shown_drop(struct kl_hook_run *run)
{
    for (struct kl_shown *f = run->forms; f; f = f->next)
        drop_form(f);
    run->forms = NULL;
}

// A canonical copy in the form's version. While the write is on its way the draft's
// resourceVersion may be gone already: the one it was made from is shown, as upstream shows it.
static int make_object(struct kl_hook_run *run, struct kl_shown *f, const struct kl_value *v,
                       bool is_new, struct kl_object **ret)
{
    struct kl_admit *ad = run->ad;
    struct kl_req *r = ad->r;
    struct kl_error err = {0};
    struct kl_value draft = *v;
    draft.owned = 0;
    if (is_new && ad->row && ad->old && ad->op == KL_ADMIT_UPDATE && !kl_meta_rv(v).n) {
        struct kl_value *m = kl_edit(run->arena, &draft, KL_F_metadata, KL_STRUCT);
        if (!m || kl_set(run->arena, m, KL_F_resourceVersion, kl_string(kl_meta_rv(ad->old))))
            return kl_fail_oom(r), KL_ENOMEM;
    }
    struct kl_object *o = kl_object_freeze(ad->type, &draft);
    if (!o)
        return kl_fail_oom(r), KL_ENOMEM;
    if (!f->row) {
        *ret = o;
        return 0;
    }
    *ret = f->row->custom ? kl_req_convert_object(r, ad->row, f->row, o, &err)
                          : kl_object_in_version(f->row, o, &err);
    kl_object_unref(o);
    return *ret ? 0 : (kl_fail_internal(r, "%s", err.msg), KL_EINTERNAL);
}

static void name_form(struct kl_hook_run *run, struct kl_shown *f, const struct kl_resource *row)
{
    struct kl_admit *ad = run->ad;
    if (ad->row) {
        f->row = row ? row : ad->res;
        f->type = f->row->type;
        f->group = kl_str(f->row->group);
        f->version = kl_str(f->row->version);
        f->kind = kl_str(f->row->kind);
        f->api_version = kl_str(f->row->api_version);
        return;
    }
    f->type = ad->type;
    f->api_version = kl_str(ad->api_version);
    f->kind = kl_str(ad->kind);
    ptrdiff_t slash = kl_str_chr(f->api_version, '/');
    f->group = (struct kl_str){f->api_version.p, slash < 0 ? 0 : (size_t)slash};
    f->version = kl_str_from(f->api_version, slash < 0 ? 0 : (size_t)slash + 1);
}

struct kl_shown *kl_shown_of(struct kl_hook_run *run, const struct kl_resource *row)
{
    struct kl_admit *ad = run->ad;
    const struct kl_resource *want = !ad->row ? NULL : row ? row : ad->res;
    for (struct kl_shown *f = run->forms; f; f = f->next)
        if (f->row == want)
            return f;
    struct kl_shown *f = KL_ARENA_NEW(run->arena, struct kl_shown);
    if (!f) {
        kl_fail_oom(ad->r);
        return NULL;
    }
    name_form(run, f, row);
    if ((ad->object && make_object(run, f, ad->object, true, &f->object)) ||
        (ad->old && make_object(run, f, ad->old, false, &f->old))) {
        drop_form(f);
        return NULL;
    }
    f->next = run->forms;
    return run->forms = f;
}

// 0 or KL_ADMIT_WAIT.
static int prepare(struct kl_hook_run *run, const struct kl_match *m, void (*then)(void *arg))
{
    struct kl_req *r = run->ad->r;
    const struct kl_resource *res;
    struct kl_error err;
    if (kl_match_run(m, run, &res, &err) <= 0 || res == run->ad->res || kl_shown_of(run, res))
        return 0; // what cannot be said is told by who wants to know it
    bool wait = kl_req_convert_again(r, then, run);
    r->fail = (struct kl_fail){0};
    r->result = KL_RESULT_NONE;
    return wait ? KL_ADMIT_WAIT : 0;
}

int kl_shown_prepare(struct kl_hook_run *run, void (*then)(void *arg))
{
    const struct kl_resource *row = run->ad->row;
    int rc = 0;
    if (!row || !row->custom || !row->custom->family->webhook)
        return 0;
    for (size_t i = 0; !rc && i < run->set->n[KL_UNIT_VAP]; i++)
        if (run->set->units[KL_UNIT_VAP][i]->has_match)
            rc = prepare(run, &run->set->units[KL_UNIT_VAP][i]->match, then);
    for (size_t i = 0; !rc && i < run->set->n[KL_UNIT_VALIDATING_WEBHOOKS]; i++) {
        struct kl_unit *u = run->set->units[KL_UNIT_VALIDATING_WEBHOOKS][i];
        for (size_t k = 0; !rc && k < u->nhooks; k++)
            rc = prepare(run, &u->hooks[k].match, then);
    }
    return rc;
}

static int text_of(struct kl_hook_run *run, const struct kl_shown *f, const struct kl_object *o,
                   struct kl_str *ret)
{
    struct kl_buf b;
    struct kl_str head = kl_arena_printf(run->arena, "\"kind\":\"%.*s\",\"apiVersion\":\"%.*s\",",
                                         KL_PRI(f->kind), KL_PRI(f->api_version));
    *ret = KL_STR("null");
    if (!o)
        return 0;
    kl_buf_init(&b, KL_MAX_ARENA_BYTES);
    kl_json_encode(&b, f->type, &o->root, head);
    *ret = b.err || !head.p ? (struct kl_str){NULL, 0} : kl_arena_dup(run->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    return ret->p ? 0 : (kl_fail_oom(run->ad->r), KL_ENOMEM);
}

int kl_shown_texts(struct kl_hook_run *run, struct kl_shown *f)
{
    if (f->object_json.p)
        return 0;
    int rc = text_of(run, f, f->object, &f->object_json);
    return rc ? rc : text_of(run, f, f->old, &f->old_json);
}

static int tree_of(struct kl_hook_run *run, const struct kl_shown *f, const struct kl_object *o,
                   struct kl_value *ret)
{
    *ret = kl_null();
    if (!o)
        return 0;
    if (kl_untyped_from_typed(run->arena, f->type, &o->root, ret) ||
        kl_map_set_value(run->arena, ret, KL_STR("apiVersion"), kl_string(f->api_version)) ||
        kl_map_set_value(run->arena, ret, KL_STR("kind"), kl_string(f->kind)))
        return kl_fail_oom(run->ad->r), KL_ENOMEM;
    return 0;
}

int kl_shown_trees(struct kl_hook_run *run, struct kl_shown *f)
{
    int rc = f->has_trees ? 0 : tree_of(run, f, f->object, &f->object_tree);
    if (!rc && !f->has_trees)
        rc = tree_of(run, f, f->old, &f->old_tree);
    f->has_trees = !rc;
    return rc;
}

int kl_shown_take(struct kl_hook_run *run, struct kl_shown *f, const struct kl_value *untyped,
                  bool *ret_changed, struct kl_error *err)
{
    struct kl_arena *a = run->arena;
    struct kl_value v, stored;
    int rc = kl_typed_from_untyped(a, f->type, untyped, NULL, &v, err);
    if (rc)
        return rc;
    if (kl_default_object(a, f->type, &v))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    struct kl_object *now = kl_object_freeze(f->type, &v);
    if (!now)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    *ret_changed = !f->object || !kl_value_equal(&now->root, &f->object->root);
    kl_object_unref(now);
    if (!*ret_changed)
        return 0;
    stored = v;
    if (f->row && f->row->custom && f->row != run->ad->row) {
        struct kl_object *o = kl_object_freeze(f->type, &v), *back;
        back = o ? kl_req_convert_object(run->ad->r, f->row, run->ad->row, o, err) : NULL;
        rc = !o      ? kl_error_set(err, KL_ENOMEM, "out of memory")
             : !back ? err->code
                     : kl_copy(a, &back->root, &stored);
        kl_object_unref(o);
        kl_object_unref(back);
        if (rc)
            return rc;
    } else if (f->row && f->row != run->ad->row && kl_convert_needed(f->row, run->ad->row) &&
               (rc = kl_convert(a, f->row, run->ad->row, &v, &stored, err)))
        return rc;
    // What it shares with the forms goes with them.
    if (kl_copy(a, &stored, run->ad->draft))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    run->ad->object = run->ad->draft;
    kl_shown_drop(run);
    return 0;
}

// ---- AdmissionRequest

static int put(struct kl_arena *a, struct kl_value *m, const char *key, struct kl_str s)
{
    return s.n ? kl_map_set_value(a, m, kl_str(key), kl_string(s)) : 0;
}

static int put_gvk(struct kl_arena *a, struct kl_value *to, const char *name, const char *last,
                   struct kl_str group, struct kl_str version, struct kl_str what)
{
    struct kl_value m = kl_new_map();
    return kl_map_set_value(a, &m, KL_STR("group"), kl_string(group)) ||
           kl_map_set_value(a, &m, KL_STR("version"), kl_string(version)) ||
           kl_map_set_value(a, &m, kl_str(last), kl_string(what)) ||
           kl_map_set_value(a, to, kl_str(name), m);
}

static int put_list(struct kl_arena *a, struct kl_value *m, struct kl_str key,
                    const struct kl_str *list, size_t n)
{
    struct kl_value v = kl_new_array();
    for (size_t i = 0; i < n; i++)
        if (kl_append(a, &v, kl_string(list[i])))
            return KL_ENOMEM;
    return kl_map_set_value(a, m, key, v);
}

static int put_user(struct kl_arena *a, struct kl_value *to, const struct kl_user *u)
{
    struct kl_value m = kl_new_map(), extra = kl_new_map();
    if (put(a, &m, "username", u->name) || put(a, &m, "uid", u->uid) ||
        (u->ngroups && put_list(a, &m, KL_STR("groups"), u->groups, u->ngroups)))
        return KL_ENOMEM;
    for (size_t i = 0; i < u->nextra; i++)
        if (put_list(a, &extra, u->extra[i].key, u->extra[i].values, u->extra[i].nvalues))
            return KL_ENOMEM;
    if (u->nextra && kl_map_set_value(a, &m, KL_STR("extra"), extra))
        return KL_ENOMEM;
    return kl_map_set_value(a, to, KL_STR("userInfo"), m);
}

static int put_delete_options(struct kl_arena *a, struct kl_value *m, const struct kl_req *r)
{
    static const char *const policies[] = {NULL, "Orphan", "Background", "Foreground"};
    struct kl_value pre = kl_new_map();
    if (r->opts.grace_seconds >= 0 &&
        kl_map_set_value(a, m, KL_STR("gracePeriodSeconds"), kl_int(r->opts.grace_seconds)))
        return KL_ENOMEM;
    if (put(a, &pre, "uid", r->opts.precondition_uid) ||
        put(a, &pre, "resourceVersion", r->opts.precondition_rv) ||
        (pre.n && kl_map_set_value(a, m, KL_STR("preconditions"), pre)))
        return KL_ENOMEM;
    const char *policy = policies[r->opts.propagation];
    return policy ? put(a, m, "propagationPolicy", kl_str(policy)) : 0;
}

static int put_options(struct kl_hook_run *run, struct kl_value *to)
{
    struct kl_arena *a = run->arena;
    const struct kl_admit *ad = run->ad;
    const struct kl_req *r = ad->r;
    struct kl_value m = kl_new_map();
    bool patch = r->info.op == KL_VERB_PATCH;
    const char *kind = ad->op == KL_ADMIT_CREATE   ? "CreateOptions"
                       : ad->op == KL_ADMIT_DELETE ? "DeleteOptions"
                       : patch                     ? "PatchOptions"
                                                   : "UpdateOptions";
    if (ad->op == KL_ADMIT_CONNECT)
        return kl_map_set_value(a, to, KL_STR("options"), kl_null());
    if (put(a, &m, "kind", kl_str(kind)) || put(a, &m, "apiVersion", KL_STR("meta.k8s.io/v1")))
        return KL_ENOMEM;
    if (ad->dry_run && put_list(a, &m, KL_STR("dryRun"), (struct kl_str[]){KL_STR("All")}, 1))
        return KL_ENOMEM;
    if (ad->op == KL_ADMIT_DELETE) {
        if (put_delete_options(a, &m, r))
            return KL_ENOMEM;
    } else {
        if (put(a, &m, "fieldManager", r->opts.field_manager))
            return KL_ENOMEM;
        if (r->opts.field_validation != KL_VALIDATE_WARN &&
            put(a, &m, "fieldValidation",
                r->opts.field_validation == KL_VALIDATE_STRICT ? KL_STR("Strict")
                                                               : KL_STR("Ignore")))
            return KL_ENOMEM;
        if (patch && ad->op == KL_ADMIT_UPDATE && r->opts.force_set &&
            kl_map_set_value(a, &m, KL_STR("force"), kl_bool(r->opts.force)))
            return KL_ENOMEM;
    }
    return kl_map_set_value(a, to, KL_STR("options"), m);
}

int kl_shown_request(struct kl_hook_run *run, const struct kl_shown *f,
                     const struct kl_resource *res, struct kl_value *ret)
{
    struct kl_arena *a = run->arena;
    struct kl_admit *ad = run->ad;
    struct kl_shown asked = {0};
    struct kl_value m = kl_new_map();
    name_form(run, &asked, NULL);
    if (put_gvk(a, &m, "kind", "kind", f->group, f->version, f->kind) ||
        put_gvk(a, &m, "resource", "resource", kl_str(res->group), kl_str(res->version),
                kl_str(res->plural)) ||
        put(a, &m, "subResource", ad->sub) ||
        put_gvk(a, &m, "requestKind", "kind", asked.group, asked.version, asked.kind) ||
        put_gvk(a, &m, "requestResource", "resource", kl_str(ad->res->group),
                kl_str(ad->res->version), kl_str(ad->res->plural)) ||
        put(a, &m, "requestSubResource", ad->sub) || put(a, &m, "name", ad->name) ||
        put(a, &m, "namespace", ad->ns) || put(a, &m, "operation", kl_admit_op_name(ad->op)) ||
        put_user(a, &m, ad->r->user) ||
        kl_map_set_value(a, &m, KL_STR("dryRun"), kl_bool(ad->dry_run)) || put_options(run, &m))
        return kl_fail_oom(ad->r), KL_ENOMEM;
    *ret = m;
    return 0;
}
