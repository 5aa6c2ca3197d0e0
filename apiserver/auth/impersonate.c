// SPDX-License-Identifier: Apache-2.0
// Impersonate-* headers (apiserver pkg/endpoints/filters/impersonation): the constrained modes
// (impersonate:MODE on whom, impersonate-on:MODE:VERB on what), then the old one.
#include "apiserver/auth/authz_int.h"
#include "object/names.h"
#include <stdlib.h>

enum { MAX_GROUPS = 256, MAX_EXTRA = 256, MANY = 4 };

struct wish {
    struct kl_str user, uid;
    struct kl_str groups[MAX_GROUPS];
    size_t ngroups;
    struct kl_str extra_key[MAX_EXTRA], extra_value[MAX_EXTRA]; // one pair each
    size_t nextra;
};

static const struct kl_str PREFIX_EXTRA = KL_STR_INIT("impersonate-extra-"),
                           AUTHN = KL_STR_INIT("authentication.k8s.io");

struct attempt {
    struct kl_req *r;
    const struct wish *w;
    const char *mode; // NULL: the old one
    struct kl_str ns, account, node;
    struct kl_fail fail;
};

static void fail(struct kl_fail *f, int http, const char *reason, struct kl_str message)
{
    *f = (struct kl_fail){.http = http, .reason = kl_str(reason), .message = message};
}

// Go's print of a map: by key, each with its values in the order they came.
static void put_extra(struct kl_arena *a, struct kl_buf *b, const struct wish *w)
{
    struct kl_str *keys = kl_arena_alloc(a, (w->nextra + 1) * sizeof *keys);
    if (!keys || !w->nextra) {
        kl_buf_puts(b, KL_STR("map[string][]string(nil)"));
        return;
    }
    memcpy(keys, w->extra_key, w->nextra * sizeof *keys);
    qsort(keys, w->nextra, sizeof *keys, kl_str_order);
    kl_buf_puts(b, KL_STR("map[string][]string{"));
    for (size_t i = 0; i < w->nextra; i++) {
        if (i && kl_str_eq(keys[i], keys[i - 1]))
            continue;
        kl_buf_printf(b, "%s%.*s:[]string{", i ? ", " : "", KL_PRI(kl_quoted(a, keys[i])));
        for (size_t k = 0, n = 0; k < w->nextra; k++)
            if (kl_str_eq(w->extra_key[k], keys[i]))
                kl_buf_printf(b, "%s%.*s", n++ ? ", " : "",
                              KL_PRI(kl_quoted(a, w->extra_value[k])));
        kl_buf_putc(b, '}');
    }
    kl_buf_putc(b, '}');
}

// Go's print of what was asked for.
static struct kl_str without_user(struct kl_arena *a, const struct wish *w)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_buf_printf(&b,
                  "requested &user.DefaultInfo{Name:\"\", UID:\"%.*s\", Groups:", KL_PRI(w->uid));
    kl_buf_puts(&b, w->ngroups ? KL_STR("[]string{") : KL_STR("[]string(nil)"));
    for (size_t i = 0; i < w->ngroups; i++)
        kl_buf_printf(&b, "%s\"%.*s\"", i ? ", " : "", KL_PRI(w->groups[i]));
    kl_buf_puts(&b, w->ngroups ? KL_STR("}, Extra:") : KL_STR(", Extra:"));
    put_extra(a, &b, w);
    kl_buf_puts(&b, KL_STR("} without impersonating a user name"));
    struct kl_str out = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out;
}

// False: no such header. *ret_rc negative: refused.
static bool read_headers(struct kl_http_req *hr, struct kl_arena *a, struct wish *w,
                         struct kl_fail *f, int *ret_rc)
{
    size_t n;
    bool any = false;
    const struct kl_http_header *h = kl_http_headers(hr, &n);
    *ret_rc = 0;
    for (size_t i = 0; i < n; i++) {
        struct kl_str name = h[i].name, value = h[i].value;
        if (!kl_str_starts(name, KL_STR("impersonate-")))
            continue;
        if (kl_str_eqz(name, "impersonate-user")) {
            w->user = w->user.n ? w->user : value;
        } else if (kl_str_eqz(name, "impersonate-uid")) {
            w->uid = w->uid.n ? w->uid : value;
        } else if (kl_str_eqz(name, "impersonate-group") && w->ngroups < MAX_GROUPS) {
            w->groups[w->ngroups++] = value;
        } else if (kl_str_starts(name, PREFIX_EXTRA) && w->nextra < MAX_EXTRA) {
            w->extra_key[w->nextra] =
                kl_percent_decode(a, kl_str_from(name, PREFIX_EXTRA.n), false);
            w->extra_value[w->nextra++] = value;
        } else if (kl_str_eqz(name, "impersonate-group") || kl_str_starts(name, PREFIX_EXTRA)) {
            fail(f, 400, "BadRequest", KL_STR("too many impersonation headers"));
            *ret_rc = KL_EBADREQUEST;
            return true;
        } else {
            continue;
        }
        any = true;
    }
    if (any && !w->user.n) {
        bool said = w->uid.n || w->ngroups || w->nextra;
        if (!said)
            return false;
        fail(f, 400, "BadRequest", without_user(a, w));
        *ret_rc = KL_EBADREQUEST;
    }
    return any;
}

// ---- one question

static bool refuse(struct attempt *x, const struct kl_attrs *t, struct kl_str reason)
{
    struct kl_arena *a = x->r->arena;
    struct kl_str why = kl_forbidden_text(a, t);
    if (reason.n)
        why = kl_arena_printf(a, "%.*s: %.*s", KL_PRI(why), KL_PRI(reason));
    kl_forbidden_fill(a, &x->fail, t->group, t->plural, t->name, why);
    return false;
}

static bool ask(struct attempt *x, const struct kl_attrs *t)
{
    struct kl_str reason;
    return kl_authorize(x->r->al, x->r->arena, t, &reason) || refuse(x, t, reason);
}

// Users and groups are in the core group in the old mode.
static struct kl_attrs attrs_of(struct attempt *x, bool core, const char *plural,
                                struct kl_str name)
{
    struct kl_arena *a = x->r->arena;
    core = core && !x->mode;
    return (struct kl_attrs){.user = x->r->user,
                             .ask = &x->r->ask,
                             .verb = x->mode ? kl_arena_printf(a, "impersonate:%s", x->mode)
                                             : KL_STR("impersonate"),
                             .group = core ? KL_STR("") : AUTHN,
                             .version = KL_STR("v1"),
                             .plural = kl_str(plural),
                             .name = name,
                             .is_resource = true};
}

// system:serviceaccount:NS:NAME, both of them names (serviceaccount.SplitUsername)
static bool split_account(struct kl_str user, struct kl_str *ret_ns, struct kl_str *ret_name)
{
    const struct kl_str prefix = KL_STR("system:serviceaccount:");
    if (!kl_str_starts(user, prefix))
        return false;
    struct kl_str rest = kl_str_from(user, prefix.n);
    ptrdiff_t colon = kl_str_chr(rest, ':');
    if (colon <= 0)
        return false;
    *ret_ns = (struct kl_str){rest.p, (size_t)colon};
    *ret_name = kl_str_from(rest, (size_t)colon + 1);
    return ret_name->n && kl_str_chr(*ret_name, ':') < 0 && !kl_name_dns1123_label(*ret_ns) &&
           !kl_name_dns1123_subdomain(*ret_name);
}

static struct kl_str node_of(struct kl_str user)
{
    const struct kl_str prefix = KL_STR("system:node:");
    struct kl_str name = kl_str_from(user, prefix.n);
    return kl_str_starts(user, prefix) && !kl_name_dns1123_subdomain(name) ? name : KL_STR("");
}

static bool may_be_user(struct attempt *x, bool any_node)
{
    struct kl_attrs t = attrs_of(x, true, "users", x->w->user);
    if (x->mode && x->node.n) {
        t.plural = KL_STR("nodes");
        t.name = any_node ? KL_STR("*") : x->node;
    } else if (x->account.n) {
        t.plural = KL_STR("serviceaccounts");
        t.ns = x->ns;
        t.name = x->account;
    }
    return ask(x, &t);
}

static bool may_be_in_groups(struct attempt *x)
{
    const struct wish *w = x->w;
    struct kl_attrs t = attrs_of(x, true, "groups", KL_STR(""));
    for (size_t i = 0; x->mode && i < w->ngroups; i++)
        if (!w->groups[i].n)
            return refuse(x, &t, KL_STR("impersonating the empty string group is not allowed"));
    for (size_t i = 0; x->mode && i < w->ngroups; i++)
        if (kl_str_eqz(w->groups[i], "system:masters")) {
            t.name = w->groups[i];
            return refuse(x, &t, KL_STR("impersonating the system:masters group is not allowed"));
        }
    t.name = KL_STR("*");
    if (x->mode && w->ngroups >= MANY && ask(x, &t))
        return true;
    for (size_t i = 0; i < w->ngroups; i++) {
        t.name = w->groups[i];
        if (!ask(x, &t))
            return false;
    }
    return true;
}

// What the old mode never refused (validateExtra).
static struct kl_str bad_extra(struct kl_arena *a, struct kl_str key, struct kl_str value)
{
    ptrdiff_t slash = kl_str_chr(key, '/');
    struct kl_str domain = {key.p, slash > 0 ? (size_t)slash : 0};
    if (!key.n)
        return KL_STR("impersonating the empty string key in extra is not allowed");
    if (slash <= 0 || kl_name_dns1123_subdomain(domain) || (size_t)slash + 1 == key.n)
        return kl_arena_printf(a,
                               "impersonating an invalid key in extra is not allowed: "
                               "extra[key]: Invalid value: \"%.*s\": must be a domain-prefixed "
                               "path (such as \"acme.io/foo\")",
                               KL_PRI(key));
    return value.n ? KL_STR("")
                   : KL_STR("impersonating the empty string value in extra is not allowed");
}

static bool may_have_extra(struct attempt *x)
{
    const struct wish *w = x->w;
    struct kl_attrs t = attrs_of(x, false, "userextras", KL_STR(""));
    for (size_t i = 0; x->mode && i < w->nextra; i++) {
        struct kl_str why = bad_extra(x->r->arena, w->extra_key[i], w->extra_value[i]);
        if (why.n)
            return refuse(x, &t, why);
    }
    t.sub = t.name = KL_STR("*");
    if (x->mode && w->nextra >= MANY && ask(x, &t))
        return true;
    for (size_t i = 0; i < w->nextra; i++) {
        t.sub = w->extra_key[i];
        t.name = w->extra_value[i];
        if (!ask(x, &t))
            return false;
    }
    return true;
}

static bool may_all(struct attempt *x, bool any_node)
{
    if (!may_be_user(x, any_node))
        return false;
    if (x->w->uid.n) {
        struct kl_attrs t = attrs_of(x, false, "uids", x->w->uid);
        if (!ask(x, &t))
            return false;
    }
    return may_be_in_groups(x) && may_have_extra(x);
}

// impersonate-on:MODE:VERB: what they may do while being somebody else.
static bool may_do(struct attempt *x)
{
    struct kl_attrs t;
    kl_attrs_of_req(x->r, &t);
    t.verb = kl_arena_printf(x->r->arena, "impersonate-on:%s:%.*s", x->mode, KL_PRI(t.verb));
    return ask(x, &t);
}

// ---- modes

static struct kl_str extra_of(const struct kl_user *u, const char *key)
{
    for (size_t i = 0; i < u->nextra; i++)
        if (kl_str_eqz(u->extra[i].key, key))
            return u->extra[i].nvalues == 1 ? u->extra[i].values[0] : KL_STR("");
    return KL_STR("");
}

static bool is_own_node(const struct attempt *x)
{
    struct kl_str ns, name;
    return x->node.n && split_account(x->r->user->name, &ns, &name) &&
           kl_str_eq(extra_of(x->r->user, "authentication.kubernetes.io/node-name"), x->node);
}

static bool applies(const struct attempt *x, const char *mode)
{
    const struct wish *w = x->w;
    bool only_name = !w->uid.n && !w->ngroups && !w->nextra;
    if (!strcmp(mode, "associated-node"))
        return only_name && is_own_node(x);
    if (!strcmp(mode, "arbitrary-node"))
        return only_name && x->node.n;
    if (!strcmp(mode, "serviceaccount"))
        return only_name && x->account.n;
    return !x->node.n && !x->account.n;
}

// The mode that lets them: *ret_mode NULL for the old one. On refusal the fail of the first mode
// that was tried.
static bool find_mode(struct attempt *x, const char **ret_mode)
{
    static const char *const modes[] = {"associated-node", "arbitrary-node", "serviceaccount",
                                        "user-info"};
    struct kl_fail first = {0};
    for (size_t i = 0; i < KL_COUNT(modes); i++) {
        if (!applies(x, modes[i]))
            continue;
        x->mode = modes[i];
        if (may_do(x) && may_all(x, i == 0)) {
            *ret_mode = modes[i];
            return true;
        }
        if (kl_ask_is_pending(&x->r->ask))
            return false;
        if (!first.http)
            first = x->fail;
    }
    x->mode = *ret_mode = NULL;
    if (may_all(x, false))
        return true;
    if (first.http)
        x->fail = first;
    return false;
}

static struct kl_user *become(const struct attempt *x, struct wish *w, const char *mode)
{
    struct kl_arena *a = x->r->arena;
    if (mode && x->node.n) {
        w->groups[w->ngroups++] = KL_STR("system:nodes");
    } else if (!w->ngroups && x->account.n) {
        w->groups[w->ngroups++] = KL_STR("system:serviceaccounts");
        w->groups[w->ngroups] = kl_arena_printf(a, "system:serviceaccounts:%.*s", KL_PRI(x->ns));
        if (!w->groups[w->ngroups++].p)
            return NULL;
    }
    struct kl_user_extra *e = kl_arena_zalloc(a, (w->nextra + 1) * sizeof *e);
    struct kl_str *values = kl_arena_alloc(a, (w->nextra + 1) * sizeof *values);
    size_t n = 0, nv = 0;
    if (!e || !values)
        return NULL;
    for (size_t i = 0; i < w->nextra; i++) { // values of one key side by side
        bool seen = false;
        for (size_t j = 0; j < n && !seen; j++)
            seen = kl_str_eq(e[j].key, w->extra_key[i]);
        if (seen)
            continue;
        e[n] = (struct kl_user_extra){w->extra_key[i], values + nv, 0};
        for (size_t j = i; j < w->nextra; j++)
            if (kl_str_eq(w->extra_key[j], w->extra_key[i])) {
                values[nv++] = w->extra_value[j];
                e[n].nvalues++;
            }
        n++;
    }
    return kl_user_new(w->user, w->uid, w->groups, w->ngroups, e, n);
}

static const char *constraint_of(const char *mode)
{
    return !mode                              ? NULL
           : !strcmp(mode, "associated-node") ? "impersonate:associated-node"
           : !strcmp(mode, "arbitrary-node")  ? "impersonate:arbitrary-node"
           : !strcmp(mode, "serviceaccount")  ? "impersonate:serviceaccount"
                                              : "impersonate:user-info";
}

int kl_impersonate(struct kl_req *r, struct kl_http_req *hr)
{
    struct wish w;
    const char *mode;
    int rc;
    w.user = w.uid = KL_STR("");
    w.ngroups = w.nextra = 0;
    if (!read_headers(hr, r->arena, &w, &r->fail, &rc) || rc)
        return rc;
    struct attempt x = {.r = r, .w = &w, .node = node_of(w.user)};
    if (!split_account(w.user, &x.ns, &x.account))
        x.account = x.ns = KL_STR("");
    if (!find_mode(&x, &mode)) {
        r->fail = x.fail;
        return KL_EFORBIDDEN;
    }
    struct kl_user *u = become(&x, &w, mode);
    if (!u) {
        fail(&r->fail, 500, "InternalError", KL_STR("Internal error occurred: out of memory"));
        return KL_ENOMEM;
    }
    u->by = r->user;
    u->constraint = constraint_of(mode);
    r->user = u;
    return 0;
}
