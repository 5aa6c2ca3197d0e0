// SPDX-License-Identifier: Apache-2.0
// Nobody grants what they do not have (kubernetes pkg/registry/rbac/*/policybased and
// validation.ConfirmNoEscalation).
#include "apiserver/auth/authz_int.h"
#include <stdlib.h>

enum { MAX_ATOMS = 100000 };

static const struct kl_str GROUP = KL_STR_INIT("rbac.authorization.k8s.io");

// One verb on one resource (or one of its names), or on one path.
struct atom {
    struct kl_str group, resource, name, verb;
    bool named, is_path; // a path stands in `resource`
};

struct check {
    struct kl_req *r;
    struct kl_arena *arena;
    const struct kl_value **owned; // rules that the user has
    size_t nowned, cap;
    struct atom *missing;
    size_t nmissing, missing_cap, natoms;
    int rc; // KL_ENOMEM, KL_ELIMIT
};

// ---- what the user has

static bool gather(struct kl_rbac_walk *w, const struct kl_value *rule)
{
    struct check *c = w->arg;
    if (c->nowned == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 64;
        const struct kl_value **p = kl_arena_alloc(w->arena, cap * sizeof *p);
        if (!p) {
            c->rc = KL_ENOMEM;
            return false;
        }
        if (c->nowned)
            memcpy(p, c->owned, c->nowned * sizeof *p);
        c->owned = p;
        c->cap = cap;
    }
    c->owned[c->nowned++] = rule;
    return true;
}

static bool resource_covered(const struct kl_value *rule, struct kl_str resource)
{
    const struct kl_value *list = kl_get(rule, KL_F_resources);
    if (kl_list_has(list, KL_STR("*")) || kl_list_has(list, resource))
        return true;
    ptrdiff_t slash = kl_str_chr(resource, '/');
    for (KL_EACH(v, list)) {
        struct kl_str s = kl_text(v);
        if (slash >= 0 && s.n > 1 && s.p[0] == '*' && s.p[1] == '/' &&
            kl_str_eq(kl_str_from(s, 1), kl_str_from(resource, (size_t)slash)))
            return true;
    }
    return false;
}

static bool has_or_all(const struct kl_value *list, struct kl_str s)
{
    return kl_list_has(list, KL_STR("*")) || kl_list_has(list, s);
}

static bool rule_covers(const struct kl_value *rule, const struct atom *a)
{
    if (!has_or_all(kl_get(rule, KL_F_verbs), a->verb))
        return false;
    if (a->is_path)
        return kl_rule_matches_path(rule, a->resource);
    const struct kl_value *names = kl_get(rule, KL_F_resourceNames);
    return has_or_all(kl_get(rule, KL_F_apiGroups), a->group) &&
           resource_covered(rule, a->resource) &&
           (!kl_len(names) || (a->named && kl_list_has(names, a->name)));
}

// ---- what is granted, taken apart

static bool need(struct check *c, const struct atom *a)
{
    if (++c->natoms > MAX_ATOMS) {
        c->rc = KL_ELIMIT;
        return false;
    }
    for (size_t i = 0; i < c->nowned; i++)
        if (rule_covers(c->owned[i], a))
            return true;
    if (c->nmissing == c->missing_cap) {
        size_t cap = c->missing_cap ? 2 * c->missing_cap : 64;
        struct atom *p = kl_arena_alloc(c->arena, cap * sizeof *p);
        if (!p) {
            c->rc = KL_ENOMEM;
            return false;
        }
        if (c->nmissing)
            memcpy(p, c->missing, c->nmissing * sizeof *p);
        c->missing = p;
        c->missing_cap = cap;
    }
    c->missing[c->nmissing++] = *a;
    return true;
}

static bool need_resource(struct check *c, const struct kl_value *rule, struct atom a)
{
    const struct kl_value *names = kl_get(rule, KL_F_resourceNames);
    for (KL_EACH(v, kl_get(rule, KL_F_verbs))) {
        a.verb = kl_text(v);
        a.named = kl_len(names) > 0;
        if (!a.named && !need(c, &a))
            return false;
        for (KL_EACH(n, names)) {
            a.name = kl_text(n);
            if (!need(c, &a))
                return false;
        }
    }
    return true;
}

static bool need_rule(struct check *c, const struct kl_value *rule)
{
    struct atom a = {.group = KL_STR("")};
    for (KL_EACH(g, kl_get(rule, KL_F_apiGroups)))
        for (KL_EACH(s, kl_get(rule, KL_F_resources))) {
            a.group = kl_text(g);
            a.resource = kl_text(s);
            if (!need_resource(c, rule, a))
                return false;
        }
    a.is_path = true;
    for (KL_EACH(u, kl_get(rule, KL_F_nonResourceURLs)))
        for (KL_EACH(v, kl_get(rule, KL_F_verbs))) {
            a.resource = kl_text(u);
            a.verb = kl_text(v);
            if (!need(c, &a))
                return false;
        }
    return true;
}

bool kl_rbac_covers(struct kl_arena *a, const struct kl_value *rules, const struct kl_value *rule)
{
    struct check c = {.arena = a};
    struct kl_rbac_walk w = {.arena = a, .arg = &c};
    for (KL_EACH(have, rules))
        gather(&w, have);
    return need_rule(&c, rule) && !c.nmissing && !c.rc;
}

static bool need_visited(struct kl_rbac_walk *w, const struct kl_value *rule)
{
    return need_rule(w->arg, rule);
}

// ---- what is said

static bool together(const struct atom *a, const struct atom *b)
{
    return !a->is_path && !b->is_path && a->named == b->named && kl_str_eq(a->group, b->group) &&
           kl_str_eq(a->resource, b->resource) && (!a->named || kl_str_eq(a->name, b->name));
}

static void put_quoted(struct kl_buf *b, struct kl_arena *a, struct kl_str s)
{
    kl_buf_puts(b, kl_quoted(a, s));
}

// {APIGroups:["apps"], Resources:["deployments"], Verbs:["get" "list"]}
static struct kl_str describe(struct check *c, size_t at, bool *done)
{
    struct kl_arena *a = c->r->arena;
    const struct atom *m = &c->missing[at];
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_buf_putc(&b, '{');
    if (!m->is_path) {
        kl_buf_puts(&b, KL_STR("APIGroups:["));
        put_quoted(&b, a, m->group);
        kl_buf_puts(&b, KL_STR("], Resources:["));
    } else {
        kl_buf_puts(&b, KL_STR("NonResourceURLs:["));
    }
    put_quoted(&b, a, m->resource);
    if (m->named) {
        kl_buf_puts(&b, KL_STR("], ResourceNames:["));
        put_quoted(&b, a, m->name);
    }
    kl_buf_puts(&b, KL_STR("], Verbs:["));
    put_quoted(&b, a, m->verb);
    for (size_t i = at + 1; i < c->nmissing; i++)
        if (!done[i] && together(m, &c->missing[i])) {
            done[i] = true;
            kl_buf_putc(&b, ' ');
            put_quoted(&b, a, c->missing[i].verb);
        }
    kl_buf_puts(&b, KL_STR("]}"));
    struct kl_str out = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out.p ? out : KL_STR("{}");
}

enum { MAX_LINES = 200 }; // of what is missing; upstream prints all

static struct kl_str missing_text(struct check *c)
{
    struct kl_arena *a = c->r->arena;
    const struct kl_user *u = c->r->user;
    bool *done = kl_arena_zalloc(a, c->nmissing);
    struct kl_str line[MAX_LINES];
    size_t n = 0;
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_buf_puts(&b, KL_STR("user "));
    put_quoted(&b, a, u->name);
    kl_buf_puts(&b, KL_STR(" (groups=["));
    for (size_t i = 0; i < u->ngroups; i++) {
        if (i)
            kl_buf_putc(&b, ' ');
        put_quoted(&b, a, u->groups[i]);
    }
    kl_buf_puts(&b, KL_STR("]) is attempting to grant RBAC permissions not currently held:"));
    for (size_t i = 0; done && i < c->nmissing && n < MAX_LINES; i++)
        if (!done[i])
            line[n++] = describe(c, i, done);
    qsort(line, n, sizeof line[0], kl_str_order);
    for (size_t i = 0; i < n; i++)
        if (!i || !kl_str_eq(line[i], line[i - 1])) {
            kl_buf_putc(&b, '\n');
            kl_buf_puts(&b, line[i]);
        }
    struct kl_str out = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out.p ? out : KL_STR("");
}

static int forbid(struct check *c, struct kl_str name, struct kl_str why)
{
    kl_fail_forbidden(c->r, GROUP, c->r->info.plural, name, why);
    return KL_EFORBIDDEN;
}

// After the granted rules were gone through.
static int conclude(struct check *c, struct kl_str name)
{
    if (c->rc == KL_ENOMEM) {
        kl_fail_oom(c->r);
        return c->rc;
    }
    if (c->rc)
        return forbid(c, name, KL_STR("the role has too many rules to check for escalation"));
    return c->nmissing ? forbid(c, name, missing_text(c)) : 0;
}

// ---- roles and bindings

static bool only_gc_fields(struct kl_req *r, const struct kl_value *now, const struct kl_value *old)
{
    static const kl_sym fields[] = {KL_F_ownerReferences, KL_F_finalizers, KL_F_managedFields};
    struct kl_value copy = *now;
    copy.owned = 0;
    struct kl_value *meta = old ? kl_edit(r->arena, &copy, KL_F_metadata, KL_STRUCT) : NULL;
    for (size_t i = 0; meta && i < KL_COUNT(fields); i++) {
        const struct kl_value *v = kl_path(old, KL_F_metadata, fields[i]);
        if (v ? kl_set(r->arena, meta, fields[i], *v) : kl_unset(r->arena, meta, fields[i]))
            return false;
    }
    return meta && kl_value_equal(&copy, old);
}

static bool may(struct kl_req *r, const char *verb, struct kl_str plural, struct kl_str name)
{
    struct kl_str reason;
    struct kl_attrs t = {.user = r->user,
                         .ask = &r->ask,
                         .verb = kl_str(verb),
                         .group = GROUP,
                         .version = KL_STR("*"),
                         .plural = plural,
                         .ns = r->info.ns,
                         .name = name,
                         .is_resource = true};
    return kl_authorize(r->al, r->arena, &t, &reason);
}

static bool aggregates(const struct kl_value *role)
{
    return kl_len(kl_path(role, KL_F_aggregationRule, KL_F_clusterRoleSelectors)) > 0;
}

static int check_role(struct check *c, const struct kl_value *now, const struct kl_value *old)
{
    struct kl_str name = kl_meta_name(now);
    for (KL_EACH(rule, kl_get(now, KL_F_rules)))
        if (!need_rule(c, rule))
            break;
    int rc = conclude(c, name);
    if (rc || (!aggregates(now) && !aggregates(old)))
        return rc;
    // An aggregation rule can gather anything: it needs full authority.
    const struct atom all = {KL_STR("*"), KL_STR("*"), KL_STR(""), KL_STR("*"), false, false};
    const struct atom all_paths = {KL_STR(""), KL_STR("*"), KL_STR(""), KL_STR("*"), false, true};
    need(c, &all);
    need(c, &all_paths);
    if (c->rc || c->nmissing)
        return forbid(c, name,
                      KL_STR("must have cluster-admin privileges to use the aggregationRule"));
    return 0;
}

static int check_binding(struct check *c, const struct kl_value *now)
{
    struct kl_req *r = c->r;
    const struct kl_value *ref = kl_get(now, KL_F_roleRef);
    struct kl_str kind = kl_text(kl_get(ref, KL_F_kind)), name = kl_text(kl_get(ref, KL_F_name)),
                  plural =
                      kl_str_eqz(kind, "ClusterRole") ? KL_STR("clusterroles") : KL_STR("roles");
    struct kl_error err = {0};
    struct kl_rbac_walk w = {.al = r->al,
                             .arena = r->arena,
                             .user = r->user,
                             .ns = r->info.ns,
                             .visit = need_visited,
                             .arg = c};
    int rc = kl_rbac_walk_role(&w, ref, r->info.ns, &err);
    if (rc == KL_ENOTFOUND) {
        kl_fail_not_found_of(r, GROUP, plural, name);
        return rc;
    }
    if (rc) {
        kl_fail_err(r, &err);
        return rc;
    }
    return conclude(c, kl_meta_name(now));
}

int kl_rbac_check_escalation(struct kl_req *r, const struct kl_value *now,
                             const struct kl_value *old)
{
    struct kl_str p = r->info.plural;
    bool role = kl_str_eqz(p, "roles") || kl_str_eqz(p, "clusterroles"),
         binding = kl_str_eqz(p, "rolebindings") || kl_str_eqz(p, "clusterrolebindings");
    if (r->user->masters || !kl_str_eq(r->info.group, GROUP) || (!role && !binding) ||
        (role && may(r, "escalate", p, r->info.name)) || only_gc_fields(r, now, old))
        return 0;
    if (binding) {
        const struct kl_value *ref = kl_get(now, KL_F_roleRef);
        struct kl_str kind = kl_text(kl_get(ref, KL_F_kind));
        bool cluster = kl_str_eqz(kind, "ClusterRole");
        if ((cluster || kl_str_eqz(kind, "Role")) &&
            may(r, "bind", cluster ? KL_STR("clusterroles") : KL_STR("roles"),
                kl_text(kl_get(ref, KL_F_name))))
            return 0;
    }
    struct check c = {.r = r, .arena = r->arena};
    struct kl_rbac_walk w = {.al = r->al,
                             .arena = r->arena,
                             .user = r->user,
                             .ns = r->info.ns,
                             .visit = gather,
                             .arg = &c};
    kl_rbac_walk(&w);
    return role ? check_role(&c, now, old) : check_binding(&c, now);
}
