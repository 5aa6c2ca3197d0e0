// SPDX-License-Identifier: Apache-2.0
// Impersonate-* headers (apiserver pkg/endpoints/filters/impersonation).
#include "apiserver/auth/authz_int.h"

enum { MAX_GROUPS = 256, MAX_EXTRA = 256 };

struct wish {
    struct kl_str user, uid;
    struct kl_str groups[MAX_GROUPS];
    size_t ngroups;
    struct kl_str extra_key[MAX_EXTRA], extra_value[MAX_EXTRA]; // one pair each
    size_t nextra;
};

static const struct kl_str PREFIX_EXTRA = KL_STR_INIT("impersonate-extra-");

static void fail(struct kl_fail *f, int http, const char *reason, struct kl_str message)
{
    *f = (struct kl_fail){.http = http, .reason = kl_str(reason), .message = message};
}

// False: no such header. *ret_rc negative: refused.
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
    kl_buf_printf(&b, "%s, Extra:map[string][]string(nil)} without impersonating a user name",
                  w->ngroups ? "}" : "");
    struct kl_str out = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out;
}

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
            w->user = value;
        } else if (kl_str_eqz(name, "impersonate-uid")) {
            w->uid = value;
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
        fail(f, 400, "BadRequest", without_user(a, w));
        *ret_rc = KL_EBADREQUEST;
    }
    return any;
}

static bool may(struct kl_api_loop *al, struct kl_arena *a, const struct kl_user *u,
                const char *group, const char *plural, struct kl_str sub, struct kl_str ns,
                struct kl_str name, struct kl_fail *f)
{
    struct kl_str reason;
    struct kl_attrs t = {.user = u,
                         .verb = KL_STR("impersonate"),
                         .group = kl_str(group),
                         .version = *group ? KL_STR("v1") : KL_STR(""),
                         .plural = kl_str(plural),
                         .sub = sub,
                         .ns = ns,
                         .name = name,
                         .is_resource = true};
    if (kl_authorize(al, a, &t, &reason))
        return true;
    struct kl_str why = kl_forbidden_text(a, &t);
    if (reason.n)
        why = kl_arena_printf(a, "%.*s: %.*s", KL_PRI(why), KL_PRI(reason));
    kl_forbidden_fill(a, f, t.group, t.plural, t.name, why);
    return false;
}

// system:serviceaccount:NS:NAME
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
    return ret_name->n && kl_str_chr(*ret_name, ':') < 0;
}

static bool allowed(struct kl_api_loop *al, struct kl_arena *a, const struct kl_user *u,
                    const struct wish *w, struct kl_fail *f)
{
    const struct kl_str none = KL_STR("");
    struct kl_str ns, name;
    if (split_account(w->user, &ns, &name)
            ? !may(al, a, u, "", "serviceaccounts", none, ns, name, f)
            : !may(al, a, u, "", "users", none, none, w->user, f))
        return false;
    for (size_t i = 0; i < w->ngroups; i++)
        if (!may(al, a, u, "", "groups", none, none, w->groups[i], f))
            return false;
    for (size_t i = 0; i < w->nextra; i++)
        if (!may(al, a, u, "authentication.k8s.io", "userextras", w->extra_key[i], none,
                 w->extra_value[i], f))
            return false;
    return !w->uid.n || may(al, a, u, "authentication.k8s.io", "uids", none, none, w->uid, f);
}

static struct kl_user *become(struct kl_arena *a, struct wish *w)
{
    struct kl_str ns, name;
    if (!w->ngroups && split_account(w->user, &ns, &name)) {
        w->groups[w->ngroups++] = KL_STR("system:serviceaccounts");
        w->groups[w->ngroups] = kl_arena_printf(a, "system:serviceaccounts:%.*s", KL_PRI(ns));
        if (!w->groups[w->ngroups++].p)
            return NULL;
    }
    struct kl_user_extra *x = kl_arena_zalloc(a, (w->nextra + 1) * sizeof *x);
    struct kl_str *values = kl_arena_alloc(a, (w->nextra + 1) * sizeof *values);
    size_t n = 0, nv = 0;
    if (!x || !values)
        return NULL;
    for (size_t i = 0; i < w->nextra; i++) { // values of one key side by side
        bool seen = false;
        for (size_t j = 0; j < n && !seen; j++)
            seen = kl_str_eq(x[j].key, w->extra_key[i]);
        if (seen)
            continue;
        x[n] = (struct kl_user_extra){w->extra_key[i], values + nv, 0};
        for (size_t j = i; j < w->nextra; j++)
            if (kl_str_eq(w->extra_key[j], w->extra_key[i])) {
                values[nv++] = w->extra_value[j];
                x[n].nvalues++;
            }
        n++;
    }
    return kl_user_new(w->user, w->uid, w->groups, w->ngroups, x, n);
}

int kl_impersonate(struct kl_api_loop *al, struct kl_http_req *hr, struct kl_arena *a,
                   struct kl_user **inout, struct kl_fail *ret_fail)
{
    struct wish w;
    int rc;
    w.user = w.uid = KL_STR("");
    w.ngroups = w.nextra = 0;
    if (!read_headers(hr, a, &w, ret_fail, &rc) || rc)
        return rc;
    if (!allowed(al, a, *inout, &w, ret_fail))
        return KL_EFORBIDDEN;
    struct kl_user *u = become(a, &w);
    if (!u) {
        fail(ret_fail, 500, "InternalError", KL_STR("Internal error occurred: out of memory"));
        return KL_ENOMEM;
    }
    kl_user_unref(*inout);
    *inout = u;
    return 0;
}
