// SPDX-License-Identifier: Apache-2.0
// Subresources that are more than another view of the object: scale, binding, finalize, approval,
// ephemeralcontainers, resize, token, eviction. A row each.
#include "apiserver/auth/auth.h"
#include "apiserver/managed.h"
#include "object/custom.h"
#include "apiserver/strategy.h"
#include "base/clock.h"
#include "object/defaults.h"
#include "watchcache/filter.h"

// ---- scale

struct scale {
    struct kl_write w;
    struct kl_value was, wanted; // the Scale as it is and as it is to be: what is admitted
    int64_t replicas;
    struct kl_str rv, uid;
    bool apply;
    struct kl_value config; // apply: untyped
};

// spec.selector of the object as the text that Scale.status.selector holds.
static struct kl_str selector_text(struct kl_arena *a, const struct kl_value *root)
{
    const struct kl_value *s = kl_path(root, KL_F_spec, KL_F_selector);
    struct kl_selector sel;
    struct kl_error err;
    if (!s)
        return KL_STR("");
    int rc = s->kind == KL_MAP ? kl_label_selector_from_map(a, s, &sel)
                               : kl_label_selector_from(a, s, &sel, &err);
    return rc ? KL_STR("") : kl_selector_text(a, &sel);
}

// What a path of a definition's subresource scale leads to; NULL: nothing is there.
static const struct kl_value *custom_at(struct kl_arena *a, const struct kl_resource *res,
                                        const struct kl_value *root,
                                        const struct kl_custom_path *path)
{
    struct kl_value *untyped = KL_ARENA_NEW(a, struct kl_value);
    if (!path->n || !untyped || kl_crd_untyped(a, res->custom->schema, root, untyped))
        return NULL;
    return kl_simple_path_get(untyped, path->elem, path->n);
}

static struct kl_value scale_of(struct kl_arena *a, const struct kl_resource *res,
                                const struct kl_value *root)
{
    const struct kl_custom *c = res->custom;
    static const kl_sym kept[] = {KL_F_name, KL_F_namespace, KL_F_uid, KL_F_resourceVersion,
                                  KL_F_creationTimestamp};
    struct kl_value v = kl_new_struct(), meta = kl_new_struct(), spec = kl_new_struct();
    struct kl_value status = kl_new_struct();
    for (size_t i = 0; i < KL_COUNT(kept); i++) {
        const struct kl_value *m = kl_path(root, KL_F_metadata, kept[i]);
        struct kl_value copy;
        if (m && !kl_copy(a, m, &copy))
            kl_set(a, &meta, kept[i], copy);
    }
    if (c) {
        kl_set(a, &spec, KL_F_replicas,
               kl_int(kl_int_or(custom_at(a, res, root, &c->spec_replicas), 0)));
        kl_set(a, &status, KL_F_replicas,
               kl_int(kl_int_or(custom_at(a, res, root, &c->status_replicas), 0)));
        kl_set(a, &status, KL_F_selector,
               kl_string(kl_text(custom_at(a, res, root, &c->label_selector))));
    } else {
        kl_set(a, &spec, KL_F_replicas, kl_int(kl_int_at(root, 0, KL_F_spec, KL_F_replicas)));
        kl_set(a, &status, KL_F_replicas, kl_int(kl_int_at(root, 0, KL_F_status, KL_F_replicas)));
        kl_set(a, &status, KL_F_selector, kl_string(selector_text(a, root)));
    }
    kl_set(a, &v, KL_F_metadata, meta);
    kl_set(a, &v, KL_F_spec, spec);
    kl_set(a, &v, KL_F_status, status);
    return v;
}

// A custom resource without replicas has no scale to show.
static bool has_replicas(struct kl_req *r, const struct kl_value *root)
{
    const struct kl_custom *c = r->info.res->custom;
    if (!c || custom_at(r->arena, r->info.res, root, &c->spec_replicas))
        return true;
    kl_fail_internal(r, "the spec replicas field \".%.*s\" does not exist",
                     KL_PRI(c->spec_replicas.text));
    return false;
}

static void answer_scale(struct kl_req *r, const struct kl_value *root)
{
    kl_req_ok_value(r, 200, r->info.subres->type, "autoscaling/v1", "Scale",
                    scale_of(r->arena, r->info.res, root));
}

static int negative_replicas(struct kl_req *r, int64_t replicas)
{
    struct kl_field_errors e = {.arena = r->arena};
    kl_field_error(&e, "FieldValueInvalid", KL_STR("spec.replicas"),
                   "Invalid value: %lld: must be greater than or equal to 0", (long long)replicas);
    kl_fail_invalid(r, KL_STR("Scale"), KL_STR("autoscaling"), r->info.name, &e);
    return KL_EINVALID;
}

// Who owns the replicas from now on, and how many an apply wants.
static int track_scale(struct scale *s, const struct kl_value *old, struct kl_value *draft)
{
    struct kl_req *r = s->w.r;
    struct kl_value was = scale_of(r->arena, r->info.res, old), is = was, spec = kl_new_struct();
    int rc;
    if (s->apply) {
        rc = kl_apply_scale(r, &s->config, old, &was, draft, &s->replicas);
        return !rc && s->replicas < 0 ? negative_replicas(r, s->replicas) : rc;
    }
    is.owned = 0;
    if (kl_set(r->arena, &spec, KL_F_replicas, kl_int(s->replicas)) ||
        kl_set(r->arena, &is, KL_F_spec, spec))
        return kl_fail_oom(r), KL_ENOMEM;
    return kl_track_scale(r, old, &was, &is, draft);
}

static int transform_scale(struct kl_write *w, struct kl_object *stored, struct kl_value *draft)
{
    struct scale *s = KL_CONTAINER_OF(w, struct scale, w);
    struct kl_req *r = w->r;
    if (!stored)
        return kl_fail_not_found(r), KL_ENOTFOUND;
    if ((s->uid.n && !kl_str_eq(s->uid, kl_meta_uid(&stored->root))) ||
        (s->rv.n && !kl_str_eq(s->rv, kl_meta_rv(&stored->root)))) {
        kl_fail_conflict(r, r->info.name,
                         "the object has been modified; please apply your changes to the latest "
                         "version and try again");
        return KL_ECONFLICT;
    }
    *draft = kl_object_draft(stored);
    int rc = s->apply ? track_scale(s, &stored->root, draft) : 0;
    if (rc)
        return rc;
    struct kl_value spec = kl_new_struct();
    s->was = s->wanted = scale_of(r->arena, r->info.res, &stored->root);
    s->wanted.owned = 0;
    if (kl_set(r->arena, &spec, KL_F_replicas, kl_int(s->replicas)) ||
        kl_set(r->arena, &s->wanted, KL_F_spec, spec))
        return kl_fail_oom(r), KL_ENOMEM;
    kl_admit_own_kind(&w->ad, r->info.subres->type, "autoscaling/v1", "Scale");
    w->ad.object = w->ad.draft = &s->wanted;
    w->ad.old = &s->was;
    return KL_WRITE_PUT;
}

static int settle_scale(struct kl_write *w, struct kl_object *stored, struct kl_value *draft)
{
    struct scale *s = KL_CONTAINER_OF(w, struct scale, w);
    struct kl_req *r = w->r;
    s->replicas = kl_int_at(&s->wanted, 0, KL_F_spec, KL_F_replicas);
    if (s->replicas < 0)
        return negative_replicas(r, s->replicas);
    int rc = s->apply ? 0 : track_scale(s, &stored->root, draft);
    if (rc)
        return rc;
    bool custom = kl_is_custom(r->info.res);
    struct kl_value *spec = custom ? NULL : kl_edit(r->arena, draft, KL_F_spec, KL_STRUCT);
    if (custom ? kl_custom_set_replicas(r->arena, r->info.res, draft, s->replicas)
               : !spec || kl_set(r->arena, spec, KL_F_replicas, kl_int(s->replicas)))
        return kl_fail_oom(r), KL_ENOMEM;
    // The object's own rules hold for a change through its scale.
    struct kl_str sub = r->info.sub;
    r->info.sub = KL_STR("");
    rc = kl_update_settle(w, stored, draft);
    r->info.sub = sub;
    return rc;
}

static void finish_scale(struct kl_write *w, struct kl_object *now)
{
    answer_scale(w->r, &now->root);
}

static int decode_scale(struct kl_req *r, struct kl_object *stored, struct kl_value *ret)
{
    struct kl_error err = {0};
    if (r->info.op != KL_VERB_PATCH) {
        if (kl_body_decode(r, r->info.subres->type, r->info.res, ret, &err))
            return kl_fail_err(r, &err), err.code;
        return 0;
    }
    struct kl_value was = scale_of(r->arena, r->info.res, &stored->root), untyped, patch, patched,
                    copy;
    struct kl_object *shown = kl_object_freeze(r->info.subres->type, &was);
    if (!shown || kl_untyped_from_typed(r->arena, shown->type, &shown->root, &untyped))
        kl_fail_oom(r);
    else if (!kl_patch_parse(r, &patch) &&
             !kl_patch_run(r, shown->type, &untyped, &patch, &patched) &&
             !kl_patch_retype(r, shown->type, &patch, &patched, ret)) {
        if (kl_copy(r->arena, ret, &copy)) // it refers to strings of `shown`
            kl_fail_oom(r);
        else
            *ret = copy;
    }
    kl_object_unref(shown);
    return r->fail.http ? KL_EINVALID : 0;
}

static void run_scale(struct kl_req *r);

static void scale_converted(void *arg, int code)
{
    struct kl_req *r = arg;
    if (code)
        kl_req_fail(r);
    else
        run_scale(r);
}

static void run_scale(struct kl_req *r)
{
    struct kl_str key = kl_object_key(r->arena, r->info.res, r->info.ns, r->info.name);
    struct kl_kv *kv = key.p ? kl_view_get(kl_req_view(r), key) : NULL;
    struct kl_error err = {0};
    if (kv && kl_req_convert(r, r->info.res, kv, scale_converted, r))
        return;
    struct kl_object *o = kv ? kl_cache_object(kv, r->info.res, &err) : NULL;
    struct scale *s = KL_ARENA_NEW(r->arena, struct scale);
    struct kl_value sent;
    if (!s || !o) {
        if (!s)
            kl_fail_oom(r);
        else
            kl_fail_not_found(r);
        kl_req_fail(r);
        return;
    }
    if (r->info.op == KL_VERB_GET) {
        if (has_replicas(r, &o->root))
            answer_scale(r, &o->root);
        else
            kl_req_fail(r);
        return;
    }
    s->w = (struct kl_write){.r = r,
                             .res = r->info.res,
                             .key = key,
                             .op = KL_ADMIT_UPDATE,
                             .transform = transform_scale,
                             .settle = settle_scale,
                             .finish = finish_scale};
    s->apply = r->info.op == KL_VERB_PATCH && r->opts.patch_type == KL_PATCH_APPLY;
    if (r->info.op == KL_VERB_PATCH && kl_patch_check_options(r)) {
        kl_req_fail(r);
        return;
    }
    if (s->apply) {
        struct kl_str ignored;
        if (kl_apply_parse(r, &s->config, &ignored))
            kl_req_fail(r);
        else
            kl_write_start(&s->w);
        return;
    }
    if (decode_scale(r, o, &sent)) {
        kl_req_fail(r);
        return;
    }
    if (r->info.op != KL_VERB_PATCH && kl_update_check_identity(r, &sent)) {
        kl_req_fail(r);
        return;
    }
    s->replicas = kl_int_at(&sent, 0, KL_F_spec, KL_F_replicas);
    s->uid = kl_meta_uid(&sent);
    s->rv = kl_meta_rv(&sent);
    if (r->info.op == KL_VERB_PATCH && kl_str_eq(s->rv, kl_meta_rv(&o->root)))
        s->rv = KL_STR(""); // shown, not asked for
    if (s->replicas < 0) {
        negative_replicas(r, s->replicas);
        kl_req_fail(r);
        return;
    }
    kl_write_start(&s->w);
}

// ---- binding

struct binding {
    struct kl_write w;
    struct kl_admit ad;
    struct kl_value sent;
};

static int transform_binding(struct kl_write *w, struct kl_object *stored, struct kl_value *draft)
{
    struct binding *b = KL_CONTAINER_OF(w, struct binding, w);
    struct kl_req *r = w->r;
    struct kl_arena *a = r->arena;
    if (!stored)
        return kl_fail_not_found(r), KL_ENOTFOUND;
    const struct kl_value *old = &stored->root;
    struct kl_str node = kl_text_at(&b->sent, KL_F_target, KL_F_name), uid = kl_meta_uid(&b->sent);
    struct kl_str on = kl_text_at(old, KL_F_spec, KL_F_nodeName);
    if (uid.n && !kl_str_eq(uid, kl_meta_uid(old))) {
        kl_fail_conflict(r, r->info.name,
                         "Precondition failed: UID in precondition: %.*s, UID in object meta: %.*s",
                         KL_PRI(uid), KL_PRI(kl_meta_uid(old)));
        return KL_ECONFLICT;
    }
    if (kl_meta_deleting(old)) {
        kl_fail_conflict(r, r->info.name, "pod %.*s is being deleted, cannot be assigned to a host",
                         KL_PRI(r->info.name));
        return KL_ECONFLICT;
    }
    if (on.n) {
        kl_fail_conflict(r, r->info.name, "pod %.*s is already assigned to node \"%.*s\"",
                         KL_PRI(r->info.name), KL_PRI(on));
        return KL_ECONFLICT;
    }
    if (kl_len(kl_path(old, KL_F_spec, KL_F_schedulingGates))) {
        kl_fail_conflict(r, r->info.name, "pod %.*s has non-empty .spec.schedulingGates",
                         KL_PRI(r->info.name));
        return KL_ECONFLICT;
    }
    *draft = kl_object_draft(stored);
    struct kl_value *spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT);
    if (!spec || kl_set(a, spec, KL_F_nodeName, kl_string(node)))
        return kl_fail_oom(r), KL_ENOMEM;
    static const kl_sym carried[] = {KL_F_annotations, KL_F_labels};
    for (size_t i = 0; i < KL_COUNT(carried); i++) {
        const struct kl_value *from = kl_path(&b->sent, KL_F_metadata, carried[i]);
        struct kl_value *m = kl_len(from) ? kl_edit(a, draft, KL_F_metadata, KL_STRUCT) : NULL;
        struct kl_value *to = m ? kl_edit(a, m, carried[i], KL_MAP) : NULL;
        for (KL_MAP_EACH_KEY(kv, from))
            if (!to || kl_map_set_value(a, to, kl_text(kv), kv[1]))
                return kl_fail_oom(r), KL_ENOMEM;
    }
    struct kl_value *st = kl_edit(a, draft, KL_F_status, KL_STRUCT);
    struct kl_value *list = st ? kl_edit(a, st, KL_F_conditions, KL_ARRAY) : NULL;
    if (!list)
        return kl_fail_oom(r), KL_ENOMEM;
    struct kl_value c = kl_new_struct();
    kl_set(a, &c, KL_F_type, kl_stringz("PodScheduled"));
    kl_set(a, &c, KL_F_status, kl_stringz("True"));
    kl_set(a, &c, KL_F_lastTransitionTime, kl_time(kl_wall_ms() / 1000 * 1000000));
    kl_set(a, &c, KL_F_observedGeneration,
           kl_int(kl_int_at(old, 0, KL_F_metadata, KL_F_generation)));
    for (size_t i = 0; i < kl_len(list); i++)
        if (kl_str_eqz(kl_text(kl_get(kl_at(list, i), KL_F_type)), "PodScheduled")) {
            kl_remove_at(a, list, i);
            break;
        }
    return kl_append(a, list, c) ? KL_ENOMEM : KL_WRITE_PUT;
}

static void finish_binding(struct kl_write *w, struct kl_object *now)
{
    (void)now;
    kl_req_ok_success(w->r, 201);
}

// ValidatePodBinding, whose errors are bare ones there.
static int check_binding(struct kl_req *r, const struct kl_value *sent)
{
    struct kl_str kind = kl_text_at(sent, KL_F_target, KL_F_kind);
    bool named = kl_text_at(sent, KL_F_target, KL_F_name).n, node = !kind.n;
    node |= kl_str_eqz(kind, "Node");
    if (!kl_str_eq(kl_meta_name(sent), r->info.name)) {
        kl_fail_bad(r, "name in URL does not match name in Binding object");
        return KL_EBADREQUEST;
    }
    if (named && node)
        return 0;
    kl_fail_set(r, 500, "", "%s%s%.*s%s%s%s", node || named ? "" : "[",
                node ? "" : "target.kind: Unsupported value: \"", KL_PRI(node ? KL_STR("") : kind),
                node ? "" : "\": supported values: \"Node\", \"<empty>\"",
                named  ? ""
                : node ? "target.name: Required value"
                       : ", target.name: Required value",
                node || named ? "" : "]");
    return KL_EINVALID;
}

static void admitted_binding(struct kl_admit *ad)
{
    struct binding *b = KL_CONTAINER_OF(ad, struct binding, ad);
    struct kl_req *r = ad->r;
    if (check_binding(r, &b->sent)) {
        kl_req_fail(r);
        return;
    }
    b->w = (struct kl_write){
        .r = r,
        .res = kl_res(KL_RES_core_v1_pods),
        .key = kl_object_key(r->arena, kl_res(KL_RES_core_v1_pods), r->info.ns, r->info.name),
        .transform = transform_binding,
        .finish = finish_binding};
    kl_write_start(&b->w);
}

void kl_binding_run(struct kl_req *r)
{
    struct kl_error err = {0};
    struct binding *b = KL_ARENA_NEW(r->arena, struct binding);
    const struct kl_type *t = kl_res(KL_RES_core_v1_bindings)->type;
    if (!b || kl_body_decode(r, t, kl_res(KL_RES_core_v1_bindings), &b->sent, &err)) {
        kl_fail_err(r, &err);
        kl_req_fail(r);
        return;
    }
    if (kl_meta_take_namespace(r, &b->sent)) {
        kl_req_fail(r);
        return;
    }
    if (!r->info.name.n)
        r->info.name = kl_meta_name(&b->sent);
    kl_admit_init(&b->ad, r, KL_ADMIT_CREATE);
    kl_admit_own_kind(&b->ad, t, "v1", "Binding");
    b->ad.draft = &b->sent;
    kl_admit_run(&b->ad, admitted_binding);
}

// ---- what is answered and not stored: tokens and reviews

struct answered {
    struct kl_admit ad;
    struct kl_value sent;
    void (*run)(struct kl_req *r);
};

static void unref_object(void *owner, size_t n)
{
    (void)n;
    kl_object_unref(owner);
}

static void admitted_answered(struct kl_admit *ad)
{
    struct answered *x = KL_CONTAINER_OF(ad, struct answered, ad);
    struct kl_req *r = ad->r;
    struct kl_object *o = kl_object_freeze(ad->type, &x->sent);
    struct kl_bytes *kept = o ? kl_bytes_outside("", 0, unref_object, o) : NULL;
    if (!kept) {
        kl_object_unref(o);
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    kl_req_keep_bytes(r, kept); // the result points into it, and may be taken later
    r->admitted = o;
    x->run(r);
}

static void admit_answered(struct kl_req *r, const struct kl_type *type, const char *api_version,
                           const char *kind, void (*run)(struct kl_req *r))
{
    struct kl_error err = {0};
    struct answered *x = KL_ARENA_NEW(r->arena, struct answered);
    if (!x || kl_body_decode(r, type, r->info.res, &x->sent, &err)) {
        if (x)
            kl_fail_err(r, &err);
        else
            kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    bool full = kl_default_object(r->arena, type, &x->sent) != 0;
    if (full)
        kl_fail_oom(r);
    if (full || kl_track_question(r, &x->sent)) {
        kl_req_fail(r);
        return;
    }
    x->run = run;
    kl_admit_init(&x->ad, r, KL_ADMIT_CREATE);
    kl_admit_own_kind(&x->ad, type, api_version, kind);
    x->ad.draft = &x->sent;
    kl_admit_run(&x->ad, admitted_answered);
}

static void run_token(struct kl_req *r)
{
    admit_answered(r, r->info.subres->type, "authentication.k8s.io/v1", "TokenRequest",
                   kl_token_request_run);
}

static void run_review(struct kl_req *r)
{
    admit_answered(r, r->info.res->type, r->info.res->api_version, r->info.res->kind,
                   kl_review_run);
}

struct row {
    const char *sub;
    void (*run)(struct kl_req *r);
};

static const struct row rows[] = {
    {"scale", run_scale},
    {"binding", kl_binding_run},
    {"eviction", kl_eviction_run},
    {"token", run_token},
};

bool kl_subresource_run(struct kl_req *r)
{
    for (size_t i = 0; i < KL_COUNT(rows); i++)
        if (kl_str_eqz(r->info.sub, rows[i].sub)) {
            rows[i].run(r);
            return true;
        }
    return false; // status, finalize, approval, ephemeralcontainers, resize: the generic update
}

// ---- kinds without storage

// The one component that the API server can ask: its store, under the name clients know.
// Controllers and scheduler may be anywhere, and say by their work whether they are well.
static void run_component_status(struct kl_req *r)
{
    struct kl_arena *a = r->arena;
    struct kl_store_status st;
    struct kl_value o = kl_new_struct(), meta = kl_new_struct(), c = kl_new_struct();
    struct kl_value conditions = kl_new_array(), items = kl_new_array(), list = kl_new_struct();
    kl_store_status(r->srv->o.store, &st);
    bool well = !st.last_error;
    kl_set(a, &meta, KL_F_name, kl_stringz("etcd-0"));
    kl_set(a, &c, KL_F_type, kl_stringz("Healthy"));
    kl_set(a, &c, KL_F_status, kl_stringz(well ? "True" : "False"));
    kl_set(a, &c, well ? KL_F_message : KL_F_error,
           kl_string(well ? KL_STR("ok") : kl_arena_dup(a, kl_str(st.last_error_text))));
    kl_append(a, &conditions, c);
    kl_set(a, &o, KL_F_metadata, meta);
    kl_set(a, &o, KL_F_conditions, conditions);
    if (r->info.op == KL_VERB_GET) {
        if (kl_str_eqz(r->info.name, "etcd-0")) {
            kl_req_ok_value(r, 200, r->info.res->type, "v1", "ComponentStatus", o);
            return;
        }
        kl_fail_not_found(r);
        kl_req_fail(r);
        return;
    }
    kl_append(a, &items, o);
    kl_set(a, &list, KL_F_metadata, kl_new_struct());
    kl_set(a, &list, KL_F_items, items);
    kl_req_ok_value(r, 200, r->info.res->list_type, "v1", "ComponentStatusList", list);
}

bool kl_virtual_run(struct kl_req *r)
{
    switch (r->info.res->index) {
    case KL_RES_core_v1_bindings:
        kl_binding_run(r);
        return true;
    case KL_RES_core_v1_componentstatuses:
        run_component_status(r);
        return true;
    default:
        if (!kl_str_starts(kl_str(r->info.res->group), KL_STR("authe")) &&
            !kl_str_starts(kl_str(r->info.res->group), KL_STR("autho")))
            return false;
        run_review(r);
        return true;
    }
}
