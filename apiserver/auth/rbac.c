// SPDX-License-Identifier: Apache-2.0
// Which rules apply to whom: bindings, their roles, and aggregated roles, as the loop's view has
// them.
#include "apiserver/auth/authz_int.h"

enum { MAX_KEY = 1024, MAX_AGGREGATED = 64 };

static const struct kl_resource *role_res(bool cluster)
{
    return kl_res(cluster ? KL_RES_rbac_v1_clusterroles : KL_RES_rbac_v1_roles);
}

static const struct kl_resource *binding_res(bool cluster)
{
    return kl_res(cluster ? KL_RES_rbac_v1_clusterrolebindings : KL_RES_rbac_v1_rolebindings);
}

static void note_error(struct kl_rbac_walk *w, struct kl_str msg)
{
    // utilerrors.NewAggregate: one stands alone, several in brackets, doubles once.
    struct kl_str e = w->errors;
    if (w->nerrors > 32 || (e.n && memmem(e.p, e.n, msg.p, msg.n)))
        return;
    if (!w->nerrors)
        w->errors = kl_arena_dup(w->arena, msg);
    else if (w->nerrors == 1)
        w->errors = kl_arena_printf(w->arena, "[%.*s, %.*s]", KL_PRI(e), KL_PRI(msg));
    else
        w->errors = kl_arena_printf(w->arena, "%.*s, %.*s]", (int)e.n - 1, e.p, KL_PRI(msg));
    if (!w->errors.p)
        w->errors = KL_STR("out of memory");
    w->nerrors++;
}

static bool is_service_account(struct kl_str user, struct kl_str ns, struct kl_str name)
{
    const struct kl_str prefix = KL_STR("system:serviceaccount:");
    if (!ns.n || user.n != prefix.n + ns.n + 1 + name.n || !kl_str_starts(user, prefix))
        return false;
    user = kl_str_from(user, prefix.n);
    return kl_str_starts(user, ns) && user.p[ns.n] == ':' &&
           kl_str_eq(kl_str_from(user, ns.n + 1), name);
}

static bool subject_is(const struct kl_value *s, const struct kl_user *u, struct kl_str ns)
{
    struct kl_str kind = kl_text(kl_get(s, KL_F_kind)), name = kl_text(kl_get(s, KL_F_name));
    if (kl_str_eq(kind, KL_STR("User")))
        return kl_str_eq(u->name, name);
    if (kl_str_eq(kind, KL_STR("Group")))
        return kl_user_in_group(u, name);
    if (!kl_str_eq(kind, KL_STR("ServiceAccount")))
        return false;
    struct kl_str own = kl_text(kl_get(s, KL_F_namespace));
    return is_service_account(u->name, own.n ? own : ns, name);
}

static bool walk_rules(struct kl_rbac_walk *w, const struct kl_value *role)
{
    for (KL_EACH(rule, kl_get(role, KL_F_rules)))
        if (!w->visit(w, rule))
            return false;
    return true;
}

struct aggregation {
    struct kl_rbac_walk *w;
    struct kl_str seen[MAX_AGGREGATED]; // names of roles walked already
    int nseen;
};

static bool aggregate(struct aggregation *g, const struct kl_value *role);

static bool selects(struct kl_arena *a, const struct kl_value *selectors,
                    const struct kl_value *labels)
{
    for (KL_EACH(ls, selectors)) {
        struct kl_selector sel;
        struct kl_error err;
        if (!kl_label_selector_from(a, ls, &sel, &err) && kl_selector_matches(&sel, labels))
            return true;
    }
    return false;
}

static bool aggregate_into(struct aggregation *g, const struct kl_value *role)
{
    struct kl_str name = kl_meta_name(role);
    for (int i = 0; i < g->nseen; i++)
        if (kl_str_eq(g->seen[i], name))
            return true;
    if (g->nseen == MAX_AGGREGATED) {
        note_error(g->w, KL_STR("too many aggregated cluster roles"));
        return false;
    }
    g->seen[g->nseen++] = name;
    return aggregate(g, role);
}

// False: the visitor has seen enough.
static bool aggregate(struct aggregation *g, const struct kl_value *role)
{
    struct kl_rbac_walk *w = g->w;
    const struct kl_value *selectors =
        kl_path(role, KL_F_aggregationRule, KL_F_clusterRoleSelectors);
    if (!kl_len(selectors))
        return walk_rules(w, role);
    char end[64];
    const struct kl_resource *res = role_res(true);
    struct kl_str prefix = kl_arena_printf(w->arena, "%s/", res->etcd_prefix);
    struct kl_iter it;
    if (!prefix.p || prefix.n > sizeof end)
        return true;
    kl_iter_init(&it, kl_reader_view(w->al->reader), prefix, kl_prefix_end(prefix, end));
    for (struct kl_kv *kv; (kv = kl_iter_next(&it));) {
        struct kl_error err = {0};
        struct kl_object *o = kl_cache_object(kv, res, &err);
        if (!o)
            note_error(w, kl_str(err.msg));
        else if (selects(w->arena, selectors, kl_meta_labels(&o->root)) &&
                 !aggregate_into(g, &o->root))
            return false;
    }
    return true;
}

void kl_rbac_walk_aggregated(struct kl_rbac_walk *w, const struct kl_value *cluster_role)
{
    struct aggregation g = {.w = w};
    aggregate_into(&g, cluster_role);
}

// *ret_more: the visitor wants more. The role's own stored rules of an aggregated role are what a
// controller last wrote there; what it selects now is what counts.
static int walk_role(struct kl_rbac_walk *w, const struct kl_value *ref, struct kl_str ns,
                     bool *ret_more, struct kl_error *err)
{
    struct kl_str kind = kl_text(kl_get(ref, KL_F_kind)), name = kl_text(kl_get(ref, KL_F_name));
    bool cluster = kl_str_eq(kind, KL_STR("ClusterRole"));
    *ret_more = true;
    if (!cluster && !kl_str_eq(kind, KL_STR("Role")))
        return kl_error_set(err, KL_EINVALID, "unsupported role reference kind: \"%.*s\"",
                            KL_PRI(kind));
    struct kl_str key = kl_object_key(w->arena, role_res(cluster), cluster ? KL_STR("") : ns, name);
    if (!key.p)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    struct kl_kv *kv = kl_view_get(kl_reader_view(w->al->reader), key);
    if (!kv)
        return kl_error_set(err, KL_ENOTFOUND, "%s.rbac.authorization.k8s.io \"%.*s\" not found",
                            cluster ? "clusterrole" : "role", KL_PRI(name));
    struct kl_object *o = kl_cache_object(kv, role_res(cluster), err);
    if (!o)
        return err->code;
    struct aggregation g = {.w = w};
    *ret_more = cluster ? aggregate_into(&g, &o->root) : walk_rules(w, &o->root);
    return 0;
}

int kl_rbac_walk_role(struct kl_rbac_walk *w, const struct kl_value *role_ref, struct kl_str ns,
                      struct kl_error *err)
{
    bool more;
    w->binding = w->subject = NULL;
    return walk_role(w, role_ref, ns, &more, err);
}

static bool walk_bindings(struct kl_rbac_walk *w, bool cluster)
{
    const struct kl_resource *res = binding_res(cluster);
    char key[MAX_KEY], end[MAX_KEY];
    size_t n = strlen(res->etcd_prefix);
    if (n + w->ns.n + 2 > sizeof key)
        return true; // no namespace has such a name
    memcpy(key, res->etcd_prefix, n);
    key[n++] = '/';
    if (!cluster) {
        memcpy(key + n, w->ns.p, w->ns.n);
        n += w->ns.n;
        key[n++] = '/';
    }
    struct kl_str prefix = {key, n};
    struct kl_iter it;
    kl_iter_init(&it, kl_reader_view(w->al->reader), prefix, kl_prefix_end(prefix, end));
    for (struct kl_kv *kv; (kv = kl_iter_next(&it));) {
        struct kl_error err = {0};
        struct kl_object *o = kl_cache_object(kv, res, &err);
        if (!o) {
            note_error(w, kl_str(err.msg));
            continue;
        }
        const struct kl_value *hit = NULL;
        for (KL_EACH(s, kl_get(&o->root, KL_F_subjects)))
            if (!hit && subject_is(s, w->user, cluster ? KL_STR("") : w->ns))
                hit = s;
        if (!hit)
            continue;
        w->binding = &o->root;
        w->subject = hit;
        w->cluster_binding = cluster;
        bool more;
        if (walk_role(w, kl_get(&o->root, KL_F_roleRef), w->ns, &more, &err))
            note_error(w, kl_str(err.msg));
        else if (!more)
            return false;
    }
    return true;
}

void kl_rbac_walk(struct kl_rbac_walk *w)
{
    if (walk_bindings(w, true) && w->ns.n)
        walk_bindings(w, false);
}

struct kl_str kl_rbac_source_text(const struct kl_rbac_walk *w)
{
    const struct kl_value *ref = kl_get(w->binding, KL_F_roleRef);
    struct kl_str name = kl_meta_name(w->binding), ns = kl_meta_namespace(w->binding),
                  rk = kl_text(kl_get(ref, KL_F_kind)), rn = kl_text(kl_get(ref, KL_F_name)),
                  sk = kl_text(kl_get(w->subject, KL_F_kind)),
                  sn = kl_text(kl_get(w->subject, KL_F_name)),
                  sns = kl_text(kl_get(w->subject, KL_F_namespace));
    bool sa = kl_str_eq(sk, KL_STR("ServiceAccount"));
    if (!sns.n)
        sns = ns;
    return kl_arena_printf(w->arena, "%s \"%.*s%s%.*s\" of %.*s \"%.*s\" to %.*s \"%.*s%s%.*s\"",
                           w->cluster_binding ? "ClusterRoleBinding" : "RoleBinding", KL_PRI(name),
                           w->cluster_binding ? "" : "/", KL_PRI(ns), KL_PRI(rk), KL_PRI(rn),
                           KL_PRI(sk), KL_PRI(sn), sa ? "/" : "", sa ? (int)sns.n : 0, sns.p);
}

struct caller {
    bool (*visit)(void *arg, const struct kl_value *rule);
    void *arg;
};

static bool visit_for_caller(struct kl_rbac_walk *w, const struct kl_value *rule)
{
    struct caller *c = w->arg;
    return c->visit(c->arg, rule);
}

void kl_rbac_visit_rules(struct kl_api_loop *al, const struct kl_user *u, struct kl_str ns,
                         bool (*visit)(void *arg, const struct kl_value *rule), void *arg)
{
    struct kl_arena a;
    struct caller c = {visit, arg};
    struct kl_rbac_walk w = {
        .al = al, .arena = &a, .user = u, .ns = ns, .visit = visit_for_caller, .arg = &c};
    kl_arena_init(&a, 1 << 20);
    kl_rbac_walk(&w);
    kl_arena_fini(&a);
}
