// SPDX-License-Identifier: Apache-2.0
// May they? The authorisers of the configuration in their order, mostly Node, then RBAC.
//
// RBAC's decisions are kept per loop. A decision is for (user name and groups, verb, group,
// resource, namespace) where every rule that matched was for all names, and for the name too where
// rules name names. They hold until a role or binding changes: two watches tell. While the watches
// are behind the view that a request reads (the loop has not dispatched them yet) nothing is taken
// from the cache, so that an acknowledged change of a role counts from the next request on.
#include "apiserver/audit/audit.h"
#include "apiserver/auth/authz_int.h"
#include "apiserver/auth/authn_int.h"
#include <stdio.h>
#include <stdlib.h>

enum { MAX_DECISIONS = 4096, MAX_KEY = 1024, EVENTS = 32 };

enum decision {
    DECIDE_NONE, // not known
    DECIDE_NO,
    DECIDE_YES,
    DECIDE_BY_NAME, // kept without the name: look for one with it
};

// ---- the cache

static void on_rbac_changed(struct kl_watch *w)
{
    // What there is to read is read by the next authorisation.
}

static struct kl_str between(uint16_t from, uint16_t to, char *buf, size_t room,
                             struct kl_str *ret_end)
{
    int n = snprintf(buf, room, "%s/", kl_res(from)->etcd_prefix);
    int m = snprintf(buf + n, room - (size_t)n, "%s0", kl_res(to)->etcd_prefix);
    *ret_end = (struct kl_str){buf + n, (size_t)m};
    return (struct kl_str){buf, (size_t)n};
}

static void drop_decisions(struct kl_authz_cache *c)
{
    kl_map_fini(&c->decisions);
    kl_map_init(&c->decisions);
}

static void watch_rbac(struct kl_api_loop *al, struct kl_authz_cache *c)
{
    char buf[2][160];
    struct kl_str key[2], end[2];
    struct kl_error err;
    // "clusterrolebindings" and "clusterroles" are neighbours, as are "rolebindings" and "roles".
    key[0] = between(KL_RES_rbac_v1_clusterrolebindings, KL_RES_rbac_v1_clusterroles, buf[0],
                     sizeof buf[0], &end[0]);
    key[1] =
        between(KL_RES_rbac_v1_rolebindings, KL_RES_rbac_v1_roles, buf[1], sizeof buf[1], &end[1]);
    for (int i = 0; i < 2; i++) {
        kl_watch_stop(&c->watch[i]);
        c->watch[i] = (struct kl_watch){.wake = on_rbac_changed};
    }
    c->rev = 0;
    drop_decisions(c);
    c->watching = !kl_watch_start(&c->watch[0], al->reader, key[0], end[0], 0, &err) &&
                  !kl_watch_start(&c->watch[1], al->reader, key[1], end[1], 0, &err);
}

struct kl_authz_cache *kl_authz_cache_of(struct kl_api_loop *al)
{
    if (al->authz)
        return al->authz;
    struct kl_authz_cache *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    kl_map_init(&c->decisions);
    return al->authz = c;
}

void kl_authz_loop_fini(struct kl_api_loop *al)
{
    struct kl_authz_cache *c = al->authz;
    if (!c)
        return;
    for (int i = 0; i < 2; i++)
        kl_watch_stop(&c->watch[i]);
    kl_map_fini(&c->decisions);
    kl_node_hints_free(c);
    free(c);
    al->authz = NULL;
}

// Whether what is kept is right for the view.
static bool cache_is_exact(struct kl_api_loop *al, struct kl_authz_cache *c)
{
    kl_rev rev = kl_view_rev(kl_reader_view(al->reader));
    if (c->watching && c->rev == rev)
        return true;
    if (!c->watching)
        watch_rbac(al, c);
    bool exact = c->watching, changed = false;
    for (int i = 0; i < 2 && c->watching; i++) {
        struct kl_event ev[EVENTS];
        kl_rev seen;
        int n;
        while ((n = kl_watch_next(&c->watch[i], ev, EVENTS)) > 0)
            changed = true;
        if (n < 0)
            c->watching = exact = false; // compacted: begins anew at the next request
        exact = exact && kl_watch_progress(&c->watch[i], &seen) && seen >= rev;
    }
    if (changed || !c->watching)
        drop_decisions(c);
    c->rev = exact ? rev : 0;
    return exact;
}

static bool put(char *key, size_t *n, struct kl_str s)
{
    if (*n + s.n + 1 > MAX_KEY)
        return false;
    if (s.n)
        memcpy(key + *n, s.p, s.n);
    *n += s.n;
    key[(*n)++] = 0;
    return true;
}

// 0 when it is too long to be kept. *ret_bare: its length without the name.
static size_t cache_key(const struct kl_attrs *t, char key[MAX_KEY], size_t *ret_bare)
{
    size_t n = 0;
    const struct kl_user *u = t->user;
    if (!put(key, &n, u->name))
        return 0;
    for (size_t i = 0; i < u->ngroups; i++)
        if (!put(key, &n, u->groups[i]))
            return 0;
    if (!put(key, &n, KL_STR("\1")) || !put(key, &n, t->verb))
        return 0;
    if (!t->is_resource) {
        if (!put(key, &n, KL_STR("\2")) || !put(key, &n, t->path))
            return 0;
        *ret_bare = n;
        return n;
    }
    if (!put(key, &n, t->group) || !put(key, &n, t->plural) || !put(key, &n, t->sub) ||
        !put(key, &n, t->ns))
        return 0;
    *ret_bare = n;
    return put(key, &n, t->name) ? n : 0;
}

static enum decision look_up(const struct kl_authz_cache *c, const char *key, size_t bare, size_t n)
{
    enum decision d =
        (enum decision)(uintptr_t)kl_map_get(&c->decisions, (struct kl_str){key, bare});
    if (d == DECIDE_BY_NAME)
        d = (enum decision)(uintptr_t)kl_map_get(&c->decisions, (struct kl_str){key, n});
    return d;
}

static void keep(struct kl_authz_cache *c, const char *key, size_t n, enum decision d)
{
    if (c->decisions.n >= MAX_DECISIONS)
        drop_decisions(c);
    kl_map_set(&c->decisions, (struct kl_str){key, n}, (void *)(uintptr_t)d, NULL);
}

// ---- evaluation

struct evaluation {
    const struct kl_attrs *t;
    bool allowed, named_allowed, any_named;
    bool wants_reason;
    struct kl_str reason;
};

static bool visit_rule(struct kl_rbac_walk *w, const struct kl_value *rule)
{
    struct evaluation *e = w->arg;
    bool named;
    if (!kl_rule_matches(rule, e->t, &named))
        return true;
    e->any_named |= named;
    bool yes = !named || kl_rule_allows_name(rule, e->t->name);
    if (yes && e->wants_reason) {
        struct kl_str why = kl_rbac_source_text(w);
        e->reason = kl_arena_printf(w->arena, "RBAC: allowed by %.*s", KL_PRI(why));
    }
    e->named_allowed |= named && yes;
    e->allowed |= !named;
    // A rule for all names may follow one for some: what is kept depends on it.
    return !(e->allowed || (yes && e->wants_reason));
}

static void evaluate(struct kl_api_loop *al, struct kl_arena *a, struct evaluation *e,
                     struct kl_str *ret_errors)
{
    struct kl_rbac_walk w = {.al = al,
                             .arena = a,
                             .user = e->t->user,
                             .ns = e->t->is_resource ? e->t->ns : KL_STR(""),
                             .visit = visit_rule,
                             .arg = e};
    kl_rbac_walk(&w);
    *ret_errors = w.errors;
}

// The health endpoints answer before the roles that allow them to everybody are written.
static bool is_health_while_starting(const struct kl_api_loop *al, const struct kl_attrs *t)
{
    if (t->is_resource || atomic_load_explicit(&al->srv->ready, memory_order_relaxed) ||
        !kl_str_eq(t->verb, KL_STR("get")))
        return false;
    return kl_str_eqz(t->path, "/livez") || kl_str_eqz(t->path, "/readyz") ||
           kl_str_eqz(t->path, "/healthz") || kl_str_eqz(t->path, "/version");
}

// ---- the authorisers. Each adds what it has to say to *v.

static void add_line(struct kl_arena *a, struct kl_str *to, struct kl_str line)
{
    if (!line.n)
        return;
    *to = to->n ? kl_arena_printf(a, "%.*s\n%.*s", KL_PRI(*to), KL_PRI(line)) : line;
    if (!to->p)
        *to = KL_STR("out of memory");
}

static enum kl_decision ask_node(struct kl_api_loop *al, struct kl_arena *a,
                                 const struct kl_attrs *t, struct kl_verdict *v)
{
    // What nodes may do hangs on pods, which change all the time: it is not kept.
    struct kl_str node = kl_node_of_user(t->user), reason = KL_STR("");
    if (!node.p)
        return KL_NO_OPINION;
    if (kl_node_authorize(al, a, node, t, &reason))
        return KL_ALLOW;
    add_line(a, &v->reason, reason);
    return KL_NO_OPINION;
}

static enum kl_decision ask_rbac_anew(struct kl_api_loop *al, struct kl_arena *a,
                                      const struct kl_attrs *t, struct kl_verdict *v)
{
    struct evaluation e = {.t = t, .wants_reason = true, .reason = KL_STR("")};
    struct kl_str errors;
    evaluate(al, a, &e, &errors);
    if (e.allowed || e.named_allowed) {
        v->reason = e.reason.p ? e.reason : KL_STR("");
        return KL_ALLOW;
    }
    if (errors.n)
        add_line(a, &v->reason, kl_arena_printf(a, "RBAC: %.*s", KL_PRI(errors)));
    return KL_NO_OPINION;
}

static enum kl_decision ask_rbac(struct kl_api_loop *al, struct kl_arena *a,
                                 const struct kl_attrs *t, struct kl_verdict *v)
{
    char key[MAX_KEY];
    size_t bare = 0, n = cache_key(t, key, &bare);
    struct kl_authz_cache *c = n ? kl_authz_cache_of(al) : NULL;
    bool exact = c && cache_is_exact(al, c);
    if (exact) {
        enum decision d = look_up(c, key, bare, n);
        if (d == DECIDE_YES || d == DECIDE_NO) {
            c->hits++;
            return d == DECIDE_YES ? KL_ALLOW : KL_NO_OPINION;
        }
        c->misses++;
    }
    struct evaluation e = {.t = t};
    struct kl_str errors;
    evaluate(al, a, &e, &errors);
    if (exact && !errors.n) {
        bool by_name = e.any_named && !e.allowed;
        if (by_name)
            keep(c, key, n, e.named_allowed ? DECIDE_YES : DECIDE_NO);
        keep(c, key, bare, by_name ? DECIDE_BY_NAME : e.allowed ? DECIDE_YES : DECIDE_NO);
    }
    if (e.allowed || e.named_allowed)
        return KL_ALLOW;
    if (errors.n)
        add_line(a, &v->reason, kl_arena_printf(a, "RBAC: %.*s", KL_PRI(errors)));
    return KL_NO_OPINION;
}

static enum kl_decision ask_one(struct kl_api_loop *al, struct kl_arena *a,
                                const struct kl_authorizer *z, const struct kl_attrs *t,
                                struct kl_verdict *v)
{
    switch (z->kind) {
    case KL_AUTHZ_ABAC:
        if (kl_abac_allows(z->abac, t))
            return KL_ALLOW;
        add_line(a, &v->reason, KL_STR("No policy matched."));
        return KL_NO_OPINION;
    case KL_AUTHZ_NODE:
        return ask_node(al, a, t, v);
    case KL_AUTHZ_RBAC:
        return v->explain ? ask_rbac_anew(al, a, t, v) : ask_rbac(al, a, t, v);
    case KL_AUTHZ_WEBHOOK:
        return kl_webhook_authorize(al, a, z, t, v);
    case KL_AUTHZ_ALWAYS_ALLOW:
        return KL_ALLOW;
    case KL_AUTHZ_ALWAYS_DENY:
        add_line(a, &v->reason, KL_STR("Everything is forbidden."));
        return KL_NO_OPINION;
    }
    return KL_NO_OPINION;
}

void kl_authz_decide(struct kl_api_loop *al, struct kl_arena *a, const struct kl_attrs *t,
                     struct kl_verdict *v)
{
    const struct kl_auth_conf *conf;
    v->reason = v->error = KL_STR("");
    v->decision = KL_ALLOW;
    if (t->user->masters || (!v->explain && is_health_while_starting(al, t)))
        return;
    v->decision = KL_NO_OPINION;
    if (!(conf = kl_auth_conf_of(al))) {
        v->error = KL_STR("out of memory");
        return;
    }
    for (size_t i = 0; i < conf->nauthz; i++) {
        v->decision = ask_one(al, a, &conf->authz[i], t, v);
        if (v->decision != KL_NO_OPINION || (t->ask && kl_ask_is_pending(t->ask)))
            return;
    }
}

bool kl_authorize(struct kl_api_loop *al, struct kl_arena *a, const struct kl_attrs *t,
                  struct kl_str *ret_reason)
{
    struct kl_verdict v = {0};
    kl_authz_decide(al, a, t, &v);
    *ret_reason = v.decision == KL_ALLOW ? KL_STR("") : v.error.n ? v.error : v.reason;
    return v.decision == KL_ALLOW;
}

// ---- requests

struct kl_str kl_quoted(struct kl_arena *a, struct kl_str s)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_buf_putc(&b, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char ch = (unsigned char)s.p[i];
        if (ch == '"' || ch == '\\')
            kl_buf_printf(&b, "\\%c", ch);
        else if (ch == '\n' || ch == '\t' || ch == '\r')
            kl_buf_printf(&b, "\\%c", ch == '\n' ? 'n' : ch == '\t' ? 't' : 'r');
        else if (ch < 0x20 || ch == 0x7f)
            kl_buf_printf(&b, "\\x%02x", ch);
        else
            kl_buf_putc(&b, (char)ch);
    }
    kl_buf_putc(&b, '"');
    struct kl_str out = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out.p ? out : KL_STR("\"\"");
}

struct kl_str kl_forbidden_text(struct kl_arena *a, const struct kl_attrs *t)
{
    struct kl_str user = kl_quoted(a, t->user->name);
    if (!t->is_resource) {
        struct kl_str path = kl_quoted(a, t->path);
        return kl_arena_printf(a, "User %.*s cannot %.*s path %.*s", KL_PRI(user), KL_PRI(t->verb),
                               KL_PRI(path));
    }
    struct kl_str what =
        t->sub.n ? kl_arena_printf(a, "%.*s/%.*s", KL_PRI(t->plural), KL_PRI(t->sub)) : t->plural;
    struct kl_str ns = kl_quoted(a, t->ns), res = kl_quoted(a, what),
                  group = kl_quoted(a, t->group);
    return kl_arena_printf(a, "User %.*s cannot %.*s resource %.*s in API group %.*s %s%.*s",
                           KL_PRI(user), KL_PRI(t->verb), KL_PRI(res), KL_PRI(group),
                           t->ns.n ? "in the namespace " : "at the cluster scope",
                           t->ns.n ? (int)ns.n : 0, ns.p);
}

void kl_forbidden_fill(struct kl_arena *a, struct kl_fail *f, struct kl_str group,
                       struct kl_str plural, struct kl_str name, struct kl_str why)
{
    struct kl_str q =
        group.n ? kl_arena_printf(a, "%.*s.%.*s", KL_PRI(plural), KL_PRI(group)) : plural;
    struct kl_str n = kl_quoted(a, name);
    *f = (struct kl_fail){
        .http = 403, .reason = KL_STR("Forbidden"), .group = group, .kind = plural, .name = name};
    f->message = kl_arena_printf(a, "%.*s%s%.*s%sforbidden: %.*s", KL_PRI(q), name.n ? " " : "",
                                 name.n ? (int)n.n : 0, n.p, plural.n ? " is " : "", KL_PRI(why));
}

void kl_fail_forbidden(struct kl_req *r, struct kl_str group, struct kl_str plural,
                       struct kl_str name, struct kl_str why)
{
    r->result = KL_RESULT_FAIL;
    kl_forbidden_fill(r->arena, &r->fail, group, plural, name, why);
}

void kl_attrs_of_req(const struct kl_req *r, struct kl_attrs *t)
{
    const struct kl_req_info *i = &r->info;
    *t = (struct kl_attrs){.user = r->user,
                           .verb = i->verb,
                           .is_resource = i->is_resource,
                           .ask = (struct kl_ask *)&r->ask};
    if (!i->is_resource) {
        t->path = i->path;
        return;
    }
    t->group = i->group;
    t->version = i->version;
    t->plural = i->plural;
    t->sub = i->sub;
    t->ns = i->ns;
    t->name = i->name.n ? i->name : r->opts.name_from_fields;
    t->fields = &r->opts.fields;
    t->labels = &r->opts.labels;
}

bool kl_authorize_explain(struct kl_api_loop *al, struct kl_arena *a, const struct kl_attrs *t,
                          struct kl_str *ret_reason)
{
    struct kl_verdict v = {.explain = true};
    kl_authz_decide(al, a, t, &v);
    *ret_reason = v.decision == KL_ALLOW || !v.error.n ? v.reason : v.error;
    return v.decision == KL_ALLOW;
}

bool kl_authorize_req(struct kl_req *r)
{
    struct kl_attrs t;
    struct kl_verdict v = {.explain = r->audit != NULL};
    kl_attrs_of_req(r, &t);
    kl_authz_decide(r->al, r->arena, &t, &v);
    if (r->audit)
        kl_audit_decided(r, v.decision == KL_ALLOW, v.reason);
    if (v.decision == KL_ALLOW)
        return true;
    if (v.error.n && v.decision == KL_NO_OPINION) { // who could have allowed it could not be asked
        kl_fail_set(r, 500, "InternalError", "Internal Server Error: %.*s", KL_PRI(v.error));
        return false;
    }
    struct kl_str why = kl_forbidden_text(r->arena, &t);
    if (v.reason.n)
        why = kl_arena_printf(r->arena, "%.*s: %.*s", KL_PRI(why), KL_PRI(v.reason));
    kl_fail_forbidden(r, t.group, t.plural, t.name, why);
    return false;
}
