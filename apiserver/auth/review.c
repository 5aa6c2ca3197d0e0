// SPDX-License-Identifier: Apache-2.0
// Kinds that are questions: access reviews, token reviews, "who am I". Nothing is stored.
#include "apiserver/auth/authn_int.h"
#include "apiserver/auth/authz_int.h"
#include "apiserver/auth/review_int.h"
#include "apiserver/auth/revoke.h"
#include "apiserver/managed.h"
#include "base/clock.h"
#include "object/defaults.h"
#include "object/timestamp.h"

static const struct kl_str AUTHZ_GROUP = KL_STR_INIT("authorization.k8s.io");

// The question is asked again from the start: it was admitted already.
static void review_again(void *arg)
{
    kl_review_run(arg);
}

void kl_review_answer(struct kl_req *r, struct kl_value v)
{
    const struct kl_resource *res = r->info.res;
    kl_req_ok_value(r, 201, res->type, res->api_version, res->kind, v);
}

int kl_review_decode(struct kl_req *r, struct kl_value *ret)
{
    struct kl_error err = {0};
    int rc = kl_body_decode(r, r->info.res->type, r->info.res, ret, &err);
    if (!rc && (rc = kl_default_object(r->arena, r->info.res->type, ret)))
        kl_error_set(&err, rc, "%s", kl_err_text(rc));
    if (rc)
        kl_fail_err(r, &err);
    return rc;
}

static int set_text(struct kl_arena *a, struct kl_value *v, kl_sym f, struct kl_str s)
{
    return s.n ? kl_set(a, v, f, kl_string(s)) : 0;
}

static int append_texts(struct kl_arena *a, struct kl_value *list, const struct kl_str *s, size_t n)
{
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++)
        rc = kl_append(a, list, kl_string(s[i]));
    return rc;
}

// authentication.k8s.io UserInfo
int kl_user_put(struct kl_arena *a, struct kl_value *info, const struct kl_user *u)
{
    struct kl_value groups = kl_new_array(), extra = kl_new_map();
    int rc = set_text(a, info, KL_F_username, u->name);
    if (!rc)
        rc = set_text(a, info, KL_F_uid, u->uid);
    if (!rc)
        rc = append_texts(a, &groups, u->groups, u->ngroups);
    for (size_t i = 0; i < u->nextra && !rc; i++) {
        struct kl_value list = kl_new_array();
        rc = append_texts(a, &list, u->extra[i].values, u->extra[i].nvalues);
        if (!rc)
            rc = kl_map_set_value(a, &extra, u->extra[i].key, list);
    }
    if (!rc && u->ngroups)
        rc = kl_set(a, info, KL_F_groups, groups);
    return !rc && u->nextra ? kl_set(a, info, KL_F_extra, extra) : rc;
}

// ---- subject access

struct access {
    struct kl_req *r;
    struct kl_value v;
    const struct kl_value *spec, *res, *path; // resourceAttributes, nonResourceAttributes
    struct kl_attrs attrs;
    struct kl_user user; // made here for those that name one: exactly the groups that are given
    struct kl_selector fields, labels;
};

static void check_selector(struct kl_field_errors *e, const struct kl_value *s, const char *name)
{
    struct kl_str raw = kl_text(kl_get(s, KL_F_rawSelector));
    size_t n = kl_len(kl_get(s, KL_F_requirements));
    struct kl_str at = kl_arena_printf(e->arena, "spec.resourceAttributes.%s", name);
    if (!s || s->kind == KL_NULL || !at.p)
        return;
    if (raw.n && n)
        kl_field_invalid(e, kl_arena_printf(e->arena, "%s.rawSelector", at.p), raw,
                         "may not specified at the same time as requirements");
    if (!raw.n && !n) {
        struct kl_str why = kl_arena_printf(
            e->arena, "when %s is specified, requirements or rawSelector is required", at.p);
        kl_field_required(e, kl_arena_printf(e->arena, "%s.requirements", at.p),
                          why.p ? why.p : "");
    }
}

static void check_path_attributes(struct access *x, struct kl_field_errors *e, const char *why)
{
    struct kl_str path = kl_quoted(e->arena, kl_text(kl_get(x->path, KL_F_path))),
                  verb = kl_quoted(e->arena, kl_text(kl_get(x->path, KL_F_verb)));
    kl_field_error(e, "FieldValueInvalid", KL_STR("spec.nonResourceAttributes"),
                   "Invalid value: {\"Path\":%.*s,\"Verb\":%.*s}: %s", KL_PRI(path), KL_PRI(verb),
                   why);
}

static bool says_something(const struct kl_value *v)
{
    switch (v->kind) {
    case KL_NULL:
        return false;
    case KL_STRING:
        return v->n > 0;
    case KL_INT:
        return v->i != 0;
    case KL_TIME:
        return v->i != KL_TIME_ZERO_US;
    case KL_ARRAY:
    case KL_MAP:
        return kl_len(v) > 0;
    default:
        return true;
    }
}

// A question has no name, nor anything else there. The refusal shows it as upstream has it by then,
// with who sent it.
static void check_metadata(struct access *x, struct kl_field_errors *e, bool local)
{
    const struct kl_value *m = kl_get(&x->v, KL_F_metadata);
    struct kl_buf b;
    bool empty = true;
    for (KL_EACH(f, m))
        empty &= f->sym == KL_F_managedFields || (local && f->sym == KL_F_namespace) ||
                 !says_something(f);
    if (empty)
        return;
    kl_buf_init(&b, KL_MAX_ARENA_BYTES);
    kl_json_encode(&b, kl_type(KL_TYPE_meta_v1_ObjectMeta), m, KL_STR(""));
    kl_field_error(e, "FieldValueInvalid", KL_STR("metadata"),
                   "Invalid value: %.*s: must be empty%s", KL_PRI(kl_buf_str(&b)),
                   local ? " except for namespace" : "");
    kl_buf_fini(&b);
}

static int check_spec(struct access *x, bool names_user, bool local)
{
    struct kl_req *r = x->r;
    struct kl_field_errors e = {.arena = r->arena};
    if (x->res && x->path)
        check_path_attributes(x, &e, "cannot be specified in combination with resourceAttributes");
    if (!x->res && !x->path)
        kl_field_error(&e, "FieldValueInvalid", KL_STR("spec.resourceAttributes"),
                       "Invalid value: null: exactly one of nonResourceAttributes or "
                       "resourceAttributes must be specified");
    if (names_user && !kl_text(kl_get(x->spec, KL_F_user)).n &&
        !kl_len(kl_get(x->spec, KL_F_groups)))
        kl_field_invalid(&e, KL_STR("spec.user"), KL_STR(""),
                         "at least one of user or group must be specified");
    check_selector(&e, kl_get(x->res, KL_F_fieldSelector), "fieldSelector");
    check_selector(&e, kl_get(x->res, KL_F_labelSelector), "labelSelector");
    check_metadata(x, &e, local);
    struct kl_str ns = kl_text(kl_get(x->res, KL_F_namespace));
    if (local && x->res && !kl_str_eq(ns, r->info.ns))
        kl_field_invalid(&e, KL_STR("spec.resourceAttributes.namespace"), ns,
                         "must match metadata.namespace");
    if (local && x->path)
        check_path_attributes(x, &e, "disallowed on this kind of request");
    if (!e.n)
        return 0;
    kl_fail_invalid(r, KL_STR(""), AUTHZ_GROUP, KL_STR(""), &e);
    return KL_EINVALID;
}

static int take_user(struct access *x)
{
    struct kl_arena *a = x->r->arena;
    const struct kl_value *groups = kl_get(x->spec, KL_F_groups);
    size_t n = kl_len(groups);
    struct kl_str *g = kl_arena_alloc(a, (n + 1) * sizeof *g);
    if (!g)
        return KL_ENOMEM;
    x->user.name = kl_text(kl_get(x->spec, KL_F_user));
    x->user.uid = kl_text(kl_get(x->spec, KL_F_uid));
    for (size_t i = 0; i < n; i++) {
        g[i] = kl_text(kl_at(groups, i));
        x->user.masters |= kl_str_eqz(g[i], "system:masters");
    }
    x->user.groups = g;
    x->user.ngroups = n;
    const struct kl_value *extra = kl_get(x->spec, KL_F_extra);
    struct kl_user_extra *ex = kl_arena_zalloc(a, (kl_len(extra) + 1) * sizeof *ex);
    if (!ex)
        return KL_ENOMEM;
    x->user.extra = ex;
    for (KL_MAP_EACH_KEY(e, extra)) {
        struct kl_str *v = kl_arena_alloc(a, (kl_len(&e[1]) + 1) * sizeof *v);
        if (!v)
            return KL_ENOMEM;
        for (size_t i = 0; i < kl_len(&e[1]); i++)
            v[i] = kl_text(kl_at(&e[1], i));
        ex[x->user.nextra++] = (struct kl_user_extra){kl_text(e), v, kl_len(&e[1])};
    }
    x->attrs.user = &x->user;
    return 0;
}

// FieldSelectorAsSelector, LabelSelectorAsSelector: requirements whose operator is not known here
// (a later client's) are left out, which makes the question a wider one.
static void take_requirements(struct kl_arena *a, const struct kl_value *reqs, bool labels,
                              struct kl_selector *ret)
{
    static const struct {
        const char *name;
        enum kl_selector_op op;
        bool one; // of fields: exactly one value
    } ops[] = {{"In", KL_OP_IN, true},
               {"NotIn", KL_OP_NOT_IN, true},
               {"Exists", KL_OP_EXISTS, false},
               {"DoesNotExist", KL_OP_NOT_EXISTS, false}};
    size_t n = kl_len(reqs), k = 0;
    struct kl_requirement *q = kl_arena_zalloc(a, (n + 1) * sizeof *q);
    for (size_t i = 0; i < n && q; i++) {
        const struct kl_value *e = kl_at(reqs, i), *values = kl_get(e, KL_F_values);
        size_t nv = kl_len(values), o = 0;
        struct kl_str *v = kl_arena_alloc(a, (nv + 1) * sizeof *v);
        while (o < KL_COUNT(ops) && !kl_str_eqz(kl_text(kl_get(e, KL_F_operator)), ops[o].name))
            o++;
        if (!v || o == KL_COUNT(ops) || (!labels && (!ops[o].one || nv != 1)))
            continue;
        for (size_t j = 0; j < nv; j++)
            v[j] = kl_text(kl_at(values, j));
        q[k++] = (struct kl_requirement){kl_text(kl_get(e, KL_F_key)),
                                         labels   ? ops[o].op
                                         : o == 0 ? KL_OP_EQ
                                                  : KL_OP_NOT_EQ,
                                         v, nv};
    }
    *ret = (struct kl_selector){.reqs = q, .n = k};
}

static void take_selectors(struct access *x)
{
    struct kl_arena *a = x->r->arena;
    const struct kl_value *f = kl_get(x->res, KL_F_fieldSelector),
                          *l = kl_get(x->res, KL_F_labelSelector);
    struct kl_str raw_f = kl_text(kl_get(f, KL_F_rawSelector)),
                  raw_l = kl_text(kl_get(l, KL_F_rawSelector));
    struct kl_error err;
    x->attrs.fields = &x->fields;
    x->attrs.labels = &x->labels;
    if (!raw_f.n)
        take_requirements(a, kl_get(f, KL_F_requirements), false, &x->fields);
    else if (kl_field_selector_parse(a, raw_f, &x->fields, &err))
        x->fields = (struct kl_selector){0};
    if (!raw_l.n)
        take_requirements(a, kl_get(l, KL_F_requirements), true, &x->labels);
    else if (kl_label_selector_parse(a, raw_l, &x->labels, &err))
        x->labels = (struct kl_selector){0};
}

static void take_attributes(struct access *x)
{
    struct kl_attrs *t = &x->attrs;
    if (x->path) {
        t->verb = kl_text(kl_get(x->path, KL_F_verb));
        t->path = kl_text(kl_get(x->path, KL_F_path));
        return;
    }
    t->is_resource = true;
    t->verb = kl_text(kl_get(x->res, KL_F_verb));
    t->group = kl_text(kl_get(x->res, KL_F_group));
    t->version = kl_text(kl_get(x->res, KL_F_version));
    t->plural = kl_text(kl_get(x->res, KL_F_resource));
    t->sub = kl_text(kl_get(x->res, KL_F_subresource));
    t->ns = kl_text(kl_get(x->res, KL_F_namespace));
    t->name = kl_text(kl_get(x->res, KL_F_name));
    take_selectors(x);
}

static const struct kl_value *not_null(const struct kl_value *v)
{
    return v && v->kind != KL_NULL ? v : NULL;
}

static int review_access(struct access *x, bool names_user, bool local)
{
    struct kl_req *r = x->r;
    int rc = kl_review_decode(r, &x->v);
    if (rc)
        return rc;
    x->spec = kl_get(&x->v, KL_F_spec);
    x->res = not_null(kl_get(x->spec, KL_F_resourceAttributes));
    x->path = not_null(kl_get(x->spec, KL_F_nonResourceAttributes));
    if ((rc = check_spec(x, names_user, local)))
        return rc;
    x->attrs.user = r->user;
    x->attrs.ask = &r->ask;
    if (names_user && (rc = take_user(x))) {
        kl_fail_oom(r);
        return rc;
    }
    take_attributes(x);
    struct kl_verdict verdict = {.explain = true};
    kl_authz_decide(r->al, r->arena, &x->attrs, &verdict);
    if (verdict.decision != KL_ALLOW && kl_ask_is_pending(&r->ask))
        return KL_EAGAIN;
    struct kl_value status = kl_new_struct();
    bool denied = verdict.decision == KL_DENY;
    if (kl_set(r->arena, &status, KL_F_allowed, kl_bool(verdict.decision == KL_ALLOW)) ||
        (denied && kl_set(r->arena, &status, KL_F_denied, kl_bool(true))) ||
        set_text(r->arena, &status, KL_F_reason, verdict.reason) ||
        set_text(r->arena, &status, KL_F_evaluationError, verdict.error) ||
        kl_set(r->arena, &x->v, KL_F_status, status)) {
        kl_fail_oom(r);
        return KL_ENOMEM;
    }
    return 0;
}

static void run_access(struct kl_req *r, bool names_user, bool local)
{
    struct access x = {.r = r};
    int rc = review_access(&x, names_user, local);
    if (rc == KL_EAGAIN && kl_ask_wait(&r->ask, review_again, r))
        return;
    if (rc)
        kl_req_fail(r);
    else
        kl_review_answer(r, x.v);
}

static void run_subject(struct kl_req *r)
{
    run_access(r, true, false);
}

static void run_local(struct kl_req *r)
{
    run_access(r, true, true);
}

static void run_self(struct kl_req *r)
{
    run_access(r, false, false);
}

// ---- authentication

static int token_status(struct kl_req *r, struct kl_str token, const struct kl_value *wanted,
                        struct kl_value *status)
{
    struct kl_arena *a = r->arena;
    struct kl_error err = {0};
    struct kl_user *u = NULL;
    size_t n = kl_len(wanted), nboth = 0;
    const struct kl_str *both = NULL;
    struct kl_str *aud = kl_arena_alloc(a, (n + 1) * sizeof *aud);
    if (!aud)
        return KL_ENOMEM;
    for (size_t i = 0; i < n; i++)
        aud[i] = kl_text(kl_at(wanted, i));
    int rc = kl_token_authenticate(r->al, &r->ask, a, token, aud, n, &u, &both, &nboth, &err);
    if (!rc && kl_revoked(r->al, u)) {
        kl_user_unref(u);
        rc = kl_error_set(&err, KL_EUNAUTHORIZED, "the credentials have been revoked");
    }
    if (rc && kl_ask_is_pending(&r->ask))
        return KL_EAGAIN;
    if (rc) {
        // Upstream asks two authenticators; the first knows only its own token.
        const char *plain = "invalid bearer token";
        struct kl_str why =
            strcmp(err.msg, plain) ? kl_arena_printf(a, "[%s, %s]", plain, err.msg) : kl_str(plain);
        return why.p ? kl_set(a, status, KL_F_error, kl_string(why)) : KL_ENOMEM;
    }
    struct kl_value info = kl_new_struct(), list = kl_new_array();
    // The answer outlives the cache's user.
    struct kl_value copy;
    rc = kl_user_put(a, &info, u);
    if (!rc)
        rc = kl_copy(a, &info, &copy);
    kl_user_unref(u);
    if (rc || (rc = append_texts(a, &list, both, nboth)) ||
        (rc = kl_set(a, status, KL_F_authenticated, kl_bool(true))) ||
        (rc = kl_set(a, status, KL_F_user, copy)))
        return rc;
    return kl_set(a, status, KL_F_audiences, list);
}

static void run_token(struct kl_req *r)
{
    struct kl_value v, status = kl_new_struct();
    if (kl_review_decode(r, &v)) {
        kl_req_fail(r);
        return;
    }
    struct kl_str token = kl_text_at(&v, KL_F_spec, KL_F_token);
    if (!token.n) {
        kl_fail_bad(r, "token is required for TokenReview in authentication");
        kl_req_fail(r);
        return;
    }
    int rc = token_status(r, token, kl_path(&v, KL_F_spec, KL_F_audiences), &status);
    if (rc == KL_EAGAIN && kl_ask_wait(&r->ask, review_again, r))
        return;
    if (rc || kl_set(r->arena, &v, KL_F_status, status)) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    kl_review_answer(r, v);
}

static void run_who_am_i(struct kl_req *r)
{
    struct kl_arena *a = r->arena;
    struct kl_value v = kl_new_struct(), status = kl_new_struct(), info = kl_new_struct(),
                    meta = kl_new_struct();
    int64_t now_us = kl_wall_ms() / 1000 * 1000000;
    if (kl_user_put(a, &info, r->user) || kl_set(a, &status, KL_F_userInfo, info) ||
        kl_set(a, &meta, KL_F_creationTimestamp, kl_time(now_us)) ||
        kl_set(a, &v, KL_F_metadata, meta) || kl_set(a, &v, KL_F_status, status)) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    kl_review_answer(r, v);
}

static const struct {
    uint16_t res;
    void (*run)(struct kl_req *r);
} reviews[] = {
    {KL_RES_authentication_v1_selfsubjectreviews, run_who_am_i},
    {KL_RES_authentication_v1_tokenreviews, run_token},
    {KL_RES_authorization_v1_localsubjectaccessreviews, run_local},
    {KL_RES_authorization_v1_selfsubjectaccessreviews, run_self},
    {KL_RES_authorization_v1_selfsubjectrulesreviews, kl_review_rules},
    {KL_RES_authorization_v1_subjectaccessreviews, run_subject},
};

void kl_review_run(struct kl_req *r)
{
    for (size_t i = 0; i < KL_COUNT(reviews); i++)
        if (r->info.res == kl_res(reviews[i].res)) {
            reviews[i].run(r);
            return;
        }
    kl_fail_method(r);
    kl_req_fail(r);
}
