// SPDX-License-Identifier: Apache-2.0
// SelfSubjectRulesReview: all that a user may do in a namespace, as far as authorisers can say.
#include "apiserver/auth/authn_int.h"
#include "apiserver/auth/authz_int.h"
#include "apiserver/auth/review_int.h"

struct rules {
    struct kl_arena *a;
    struct kl_value resource, path;
    int rc;
};

static void copy_list(struct rules *c, struct kl_value *to, const struct kl_value *rule, kl_sym f)
{
    const struct kl_value *v = kl_get(rule, f);
    if (v && !c->rc)
        c->rc = kl_set(c->a, to, f, *v);
}

static bool add_rule(struct kl_rbac_walk *w, const struct kl_value *rule)
{
    struct rules *c = w->arg;
    if (kl_len(kl_get(rule, KL_F_resources))) {
        struct kl_value v = kl_new_struct();
        copy_list(c, &v, rule, KL_F_verbs);
        copy_list(c, &v, rule, KL_F_apiGroups);
        copy_list(c, &v, rule, KL_F_resources);
        copy_list(c, &v, rule, KL_F_resourceNames);
        c->rc = c->rc ? c->rc : kl_append(c->a, &c->resource, v);
    }
    if (kl_len(kl_get(rule, KL_F_nonResourceURLs))) {
        struct kl_value v = kl_new_struct();
        copy_list(c, &v, rule, KL_F_verbs);
        copy_list(c, &v, rule, KL_F_nonResourceURLs);
        c->rc = c->rc ? c->rc : kl_append(c->a, &c->path, v);
    }
    return !c->rc;
}

static void add_all(struct rules *c)
{
    static const kl_sym in_resource[] = {KL_F_verbs, KL_F_apiGroups, KL_F_resources},
                        in_path[] = {KL_F_verbs, KL_F_nonResourceURLs};
    struct kl_value star = kl_new_array(), resource = kl_new_struct(), path = kl_new_struct();
    c->rc = kl_append(c->a, &star, kl_stringz("*"));
    for (size_t i = 0; i < KL_COUNT(in_resource) && !c->rc; i++)
        c->rc = kl_set(c->a, &resource, in_resource[i], star);
    for (size_t i = 0; i < KL_COUNT(in_path) && !c->rc; i++)
        c->rc = kl_set(c->a, &path, in_path[i], star);
    if (!c->rc && !(c->rc = kl_append(c->a, &c->resource, resource)))
        c->rc = kl_append(c->a, &c->path, path);
}

static int set_one(struct rules *c, struct kl_value *v, kl_sym field, struct kl_str s)
{
    struct kl_value list = kl_new_array();
    int rc = kl_append(c->a, &list, kl_string(s));
    return rc ? rc : kl_set(c->a, v, field, list);
}

static int set_verbs(struct rules *c, struct kl_value *v, bool readonly)
{
    static const char *const some[] = {"get", "list", "watch"}, *const all[] = {"*"};
    struct kl_value list = kl_new_array();
    int rc = 0;
    for (size_t i = 0; i < (readonly ? KL_COUNT(some) : KL_COUNT(all)) && !rc; i++)
        rc = kl_append(c->a, &list, kl_stringz(readonly ? some[i] : all[i]));
    return rc ? rc : kl_set(c->a, v, KL_F_verbs, list);
}

static void add_policies(struct rules *c, const struct kl_abac *b, const struct kl_user *u,
                         struct kl_str ns)
{
    for (size_t i = 0; i < b->n && !c->rc; i++) {
        const struct kl_abac_policy *p = &b->v[i];
        struct kl_value resource = kl_new_struct(), path = kl_new_struct();
        if (!kl_abac_is_about(p, u) || !(kl_str_eqz(p->ns, "*") || kl_str_eq(p->ns, ns)))
            continue;
        if (p->resource.n && ((c->rc = set_verbs(c, &resource, p->readonly)) ||
                              (c->rc = set_one(c, &resource, KL_F_apiGroups, p->api_group)) ||
                              (c->rc = set_one(c, &resource, KL_F_resources, p->resource)) ||
                              (c->rc = kl_append(c->a, &c->resource, resource))))
            return;
        if (p->path.n && ((c->rc = set_verbs(c, &path, p->readonly)) ||
                          (c->rc = set_one(c, &path, KL_F_nonResourceURLs, p->path)) ||
                          (c->rc = kl_append(c->a, &c->path, path))))
            return;
    }
}

static void add_error(struct kl_arena *a, struct kl_str *to, struct kl_str one)
{
    if (one.n)
        *to = to->n ? kl_arena_printf(a, "%.*s, %.*s", KL_PRI(*to), KL_PRI(one)) : one;
    if (!to->p)
        *to = KL_STR("out of memory");
}

// What each authoriser can say of all it allows; the text says which cannot.
static struct kl_str resolve(struct kl_rbac_walk *w, struct rules *c, bool *incomplete)
{
    const struct kl_auth_conf *conf = kl_auth_conf_of(w->al);
    struct kl_str why = KL_STR("");
    for (size_t i = 0; conf && i < conf->nauthz; i++) {
        enum kl_authz_kind k = conf->authz[i].kind;
        if (k == KL_AUTHZ_RBAC) {
            kl_rbac_walk(w);
            add_error(w->arena, &why, w->errors);
        } else if (k == KL_AUTHZ_ALWAYS_ALLOW) {
            add_all(c);
        } else if (k == KL_AUTHZ_ABAC) {
            add_policies(c, conf->authz[i].abac, w->user, w->ns);
        } else if (k == KL_AUTHZ_NODE && kl_node_of_user(w->user).p) {
            *incomplete = true;
            add_error(w->arena, &why,
                      KL_STR("node authorizer does not support user rule resolution"));
        } else if (k == KL_AUTHZ_WEBHOOK) {
            *incomplete = true;
            add_error(w->arena, &why,
                      KL_STR("webhook authorizer does not support user rule resolution"));
        }
    }
    return why;
}

void kl_review_rules(struct kl_req *r)
{
    struct kl_arena *a = r->arena;
    struct kl_value v, out = kl_new_struct(), status = kl_new_struct();
    if (kl_review_decode(r, &v)) {
        kl_req_fail(r);
        return;
    }
    struct kl_str ns = kl_text_at(&v, KL_F_spec, KL_F_namespace);
    if (!ns.n) {
        kl_fail_bad(r, "no namespace on request");
        kl_req_fail(r);
        return;
    }
    struct rules c = {a, kl_new_array(), kl_new_array(), 0};
    struct kl_rbac_walk w = {
        .al = r->al, .arena = a, .user = r->user, .ns = ns, .visit = add_rule, .arg = &c};
    bool incomplete = false;
    struct kl_str why = resolve(&w, &c, &incomplete);
    if (c.rc || kl_set(a, &status, KL_F_resourceRules, c.resource) ||
        kl_set(a, &status, KL_F_nonResourceRules, c.path) ||
        kl_set(a, &status, KL_F_incomplete, kl_bool(incomplete)) ||
        (why.n && kl_set(a, &status, KL_F_evaluationError, kl_string(why))) ||
        kl_set(a, &out, KL_F_metadata, kl_new_struct()) ||
        kl_set(a, &out, KL_F_spec, kl_new_struct()) || kl_set(a, &out, KL_F_status, status)) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    kl_review_answer(r, out);
}
