// SPDX-License-Identifier: Apache-2.0
// AuthenticationConfiguration, and --oidc-* as one of its authenticators (apiserver
// pkg/apis/apiserver/validation).
#include "apiserver/auth/authn_int.h"
#include "apiserver/auth/conf_int.h"
#include "object/names.h"

enum { MAX_ISSUERS = 64 };

struct authn {
    struct kl_conf_reader *r;
    struct kl_cel_env *claims_env, *user_env; // made when first needed
    bool email, email_verified;
};

static const char *const a_bool[] = {"bool", NULL};

static struct kl_cel_env *claims_env(struct authn *x)
{
    if (x->claims_env)
        return x->claims_env;
    struct kl_cel_env *e = kl_cel_env_new(0);
    const struct kl_cel_decl *d =
        e ? kl_cel_decl_map(e, kl_cel_decl_simple(e, KL_CEL_T_DYN), -1) : NULL;
    if (!d || kl_cel_env_var(e, KL_STR("claims"), d) < 0)
        x->r->rc = KL_ENOMEM;
    return x->claims_env = e;
}

static struct kl_cel_env *user_env(struct authn *x)
{
    if (x->user_env)
        return x->user_env;
    struct kl_cel_env *e = kl_cel_env_new(0);
    if (e) {
        const struct kl_cel_decl *s = kl_cel_decl_simple(e, KL_CEL_T_STRING),
                                 *list = kl_cel_decl_list(e, s, -1),
                                 *map = kl_cel_decl_map(e, list, -1);
        const struct kl_cel_field f[] = {{KL_STR("username"), s},
                                         {KL_STR("uid"), s},
                                         {KL_STR("groups"), list},
                                         {KL_STR("extra"), map}};
        const struct kl_cel_decl *u =
            kl_cel_decl_object(e, KL_STR("kubernetes.UserInfo"), f, KL_COUNT(f));
        if (!u || kl_cel_env_var(e, KL_STR("user"), u) < 0)
            x->r->rc = KL_ENOMEM;
    } else {
        x->r->rc = KL_ENOMEM;
    }
    return x->user_env = e;
}

// Whether an expression reads claims.NAME, outside of its string literals.
static bool reads_claim(struct kl_str e, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < e.n;) {
        char c = e.p[i];
        if (c == '"' || c == '\'') {
            for (i++; i < e.n && e.p[i] != c; i++)
                i += e.p[i] == '\\';
            i++;
            continue;
        }
        bool ident = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!ident) {
            i++;
            continue;
        }
        size_t start = i;
        while (i < e.n && (strchr("_", e.p[i]) || (e.p[i] >= '0' && e.p[i] <= '9') ||
                           (e.p[i] >= 'a' && e.p[i] <= 'z') || (e.p[i] >= 'A' && e.p[i] <= 'Z')))
            i++;
        if (!kl_str_eqz((struct kl_str){e.p + start, i - start}, "claims"))
            continue;
        size_t k = i;
        while (k < e.n && strchr(" \t\r\n", e.p[k]))
            k++;
        if (k >= e.n || e.p[k++] != '.')
            continue;
        while (k < e.n && strchr("? \t\r\n", e.p[k]))
            k++;
        struct kl_str rest = kl_str_from(e, k);
        if (!kl_str_starts(rest, kl_str(name)))
            continue;
        char after = rest.n > len ? rest.p[len] : ' ';
        if (!strchr("_", after) && !(after >= 'a' && after <= 'z') &&
            !(after >= 'A' && after <= 'Z') && !(after >= '0' && after <= '9'))
            return true;
    }
    return false;
}

static void note_email(struct authn *x, struct kl_str text)
{
    x->email_verified |= reads_claim(text, "email_verified");
}

// ---- issuer

static void check_url(struct authn *x, struct kl_str url, struct kl_str path, bool issuer)
{
    struct kl_conf_reader *r = x->r;
    struct kl_field_errors *e = &r->errors;
    for (size_t i = 0; issuer && i < r->in->nissuers; i++)
        if (kl_str_eq(url, r->in->issuers[i])) {
            struct kl_str why =
                kl_arena_printf(r->arena, "URL must not overlap with disallowed issuers: [%.*s]",
                                KL_PRI(r->in->issuers[i]));
            kl_field_invalid(e, path, url, why.p ? why.p : "");
        }
    if (!kl_str_starts(url, KL_STR("https://")))
        kl_field_invalid(e, path, url, "URL scheme must be https");
    struct kl_str host = kl_str_from(url, 8);
    ptrdiff_t slash = kl_str_chr(host, '/');
    if (slash >= 0)
        host.n = (size_t)slash;
    if (kl_str_chr(host, '@') >= 0)
        kl_field_invalid(e, path, url, "URL must not contain a username or password");
    if (kl_str_chr(url, '?') >= 0)
        kl_field_invalid(e, path, url, "URL must not contain a query");
    if (kl_str_chr(url, '#') >= 0)
        kl_field_invalid(e, path, url, "URL must not contain a fragment");
}

static void read_audiences(struct authn *x, const struct kl_value *v, struct kl_str path,
                           struct kl_oidc *o)
{
    struct kl_conf_reader *r = x->r;
    const struct kl_value *list = kl_map_value(v, KL_STR("audiences"));
    struct kl_str policy = kl_conf_text(r, v, "audienceMatchPolicy"),
                  at = kl_conf_at(r, path, ".audiences");
    size_t n = kl_len(list);
    struct kl_str *s = kl_arena_zalloc(r->arena, (n + 1) * sizeof *s);
    if (!s) {
        r->rc = KL_ENOMEM;
        return;
    }
    if (!n)
        kl_field_required(&r->errors, at,
                          kl_conf_at(r, KL_STR("at least one "), "%.*s is required", KL_PRI(at)).p);
    for (size_t i = 0; i < n; i++) {
        s[i] = kl_arena_dup(r->arena, kl_text(kl_at(list, i)));
        if (!s[i].n)
            kl_field_required(&r->errors, kl_conf_at(r, at, "[%zu]", i), "");
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(s[k], s[i])) {
                kl_field_duplicate(&r->errors, kl_conf_at(r, at, "[%zu]", i), s[i]);
                break;
            }
    }
    struct kl_str pat = kl_conf_at(r, path, ".audienceMatchPolicy");
    if (n > 1 && !kl_str_eqz(policy, "MatchAny"))
        kl_field_invalid(&r->errors, pat, policy,
                         "audienceMatchPolicy must be MatchAny for multiple audiences");
    else if (n == 1 && policy.n && !kl_str_eqz(policy, "MatchAny"))
        kl_field_invalid(&r->errors, pat, policy,
                         "audienceMatchPolicy must be empty or MatchAny for single audience");
    o->audiences = s;
    o->naudiences = n;
}

static struct kl_str trim_slashes(struct kl_str s)
{
    while (s.n && s.p[s.n - 1] == '/')
        s.n--;
    return s;
}

static void make_discovery(struct authn *x, struct kl_oidc *o, struct kl_str url, struct kl_str ca,
                           struct kl_str path)
{
    struct kl_conf_reader *r = x->r;
    struct kl_error err = {0};
    struct kl_remote_opts ro = {.url = url, .ca = ca};
    if (!url.n) {
        struct kl_str base = o->issuer;
        if (base.n && base.p[base.n - 1] == '/')
            base.n--;
        ro.url = kl_arena_printf(r->arena, "%.*s/.well-known/openid-configuration", KL_PRI(base));
    }
    if (kl_remote_new(&ro, &o->discovery, &err))
        kl_field_error(&r->errors, "FieldValueInvalid",
                       kl_conf_at(r, path, ".certificateAuthority"),
                       "Invalid value: \"<omitted>\": %s", err.msg);
}

static void read_issuer(struct authn *x, const struct kl_value *v, struct kl_str path,
                        struct kl_oidc *o)
{
    static const char *const names[] = {"url",       "discoveryURL",        "certificateAuthority",
                                        "audiences", "audienceMatchPolicy", "egressSelectorType",
                                        NULL};
    struct kl_conf_reader *r = x->r;
    struct kl_field_errors *e = &r->errors;
    kl_conf_only(r, v, path, names);
    struct kl_str url = kl_conf_text(r, v, "url"), other = kl_conf_text(r, v, "discoveryURL"),
                  at = kl_conf_at(r, path, ".url"), other_at = kl_conf_at(r, path, ".discoveryURL"),
                  egress = kl_conf_text(r, v, "egressSelectorType");
    size_t before = e->n;
    o->issuer = url;
    if (!url.n)
        kl_field_required(e, at, "");
    else
        check_url(x, url, at, true);
    if (other.n) {
        if (url.n && kl_str_eq(trim_slashes(url), trim_slashes(other)))
            kl_field_invalid(e, other_at, other, "discoveryURL must be different from URL");
        check_url(x, other, other_at, false);
    }
    if (egress.n)
        kl_field_invalid(e, kl_conf_at(r, path, ".egressSelectorType"), egress,
                         "egress selectors are not supported");
    read_audiences(x, v, path, o);
    if (e->n == before)
        make_discovery(x, o, other, kl_conf_text(r, v, "certificateAuthority"), path);
    for (struct kl_oidc *p = r->conf->jwt; p < o; p++)
        if (url.n && kl_str_eq(p->issuer, url)) {
            kl_field_duplicate(e, at, url);
            break;
        }
}

// ---- rules and mappings

static void *room(struct authn *x, size_t n, size_t size)
{
    void *p = kl_arena_zalloc(x->r->arena, (n + 1) * size);
    if (!p)
        x->r->rc = KL_ENOMEM;
    return p;
}

static void read_claim_rules(struct authn *x, const struct kl_value *list, struct kl_str path,
                             struct kl_oidc *o)
{
    static const char *const names[] = {"claim", "requiredValue", "expression", "message", NULL};
    struct kl_conf_reader *r = x->r;
    struct kl_field_errors *e = &r->errors;
    size_t n = kl_len(list);
    if (!n || !(o->claim_rules = room(x, n, sizeof *o->claim_rules)))
        return;
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *v = kl_at(list, i);
        struct kl_claim_rule *q = &o->claim_rules[o->nclaim_rules];
        struct kl_str at = kl_conf_at(r, path, "[%zu]", i);
        kl_conf_only(r, v, at, names);
        *q = (struct kl_claim_rule){.claim = kl_conf_text(r, v, "claim"),
                                    .value = kl_conf_text(r, v, "requiredValue"),
                                    .text = kl_conf_text(r, v, "expression"),
                                    .message = kl_conf_text(r, v, "message")};
        const char *dup = NULL;
        for (size_t k = 0; k < o->nclaim_rules; k++)
            if (q->claim.n ? kl_str_eq(o->claim_rules[k].claim, q->claim)
                           : q->text.n && kl_str_eq(o->claim_rules[k].text, q->text))
                dup = q->claim.n ? ".claim" : ".expression";
        if (q->claim.n && q->text.n)
            kl_field_invalid(e, at, q->claim, "claim and expression can't both be set");
        else if (!q->claim.n && !q->text.n)
            kl_field_required(e, at, "claim or expression is required");
        else if (q->claim.n && q->message.n)
            kl_field_invalid(e, kl_conf_at(r, at, ".message"), q->message,
                             "may not be specified when claim is set");
        else if (q->text.n && q->value.n)
            kl_field_invalid(e, kl_conf_at(r, at, ".requiredValue"), q->value,
                             "may not be specified when expression is set");
        if (dup)
            kl_field_duplicate(e, kl_conf_at(r, at, "%s", dup), q->claim.n ? q->claim : q->text);
        else if (!q->claim.n && q->text.n && claims_env(x))
            q->expr = kl_conf_compile(r, x->claims_env, q->text, kl_conf_at(r, at, ".expression"),
                                      a_bool);
        note_email(x, q->text);
        o->nclaim_rules++;
    }
}

static void read_user_rules(struct authn *x, const struct kl_value *list, struct kl_str path,
                            struct kl_oidc *o)
{
    static const char *const names[] = {"expression", "message", NULL};
    struct kl_conf_reader *r = x->r;
    size_t n = kl_len(list);
    if (!n || !(o->user_rules = room(x, n, sizeof *o->user_rules)))
        return;
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *v = kl_at(list, i);
        struct kl_claim_rule *q = &o->user_rules[o->nuser_rules++];
        struct kl_str at = kl_conf_at(r, path, "[%zu]", i), eat = kl_conf_at(r, at, ".expression");
        bool dup = false;
        kl_conf_only(r, v, at, names);
        q->text = kl_conf_text(r, v, "expression");
        q->message = kl_conf_text(r, v, "message");
        for (struct kl_claim_rule *p = o->user_rules; p < q; p++)
            dup |= q->text.n && kl_str_eq(p->text, q->text);
        if (!q->text.n)
            kl_field_required(&r->errors, eat, "");
        else if (dup)
            kl_field_duplicate(&r->errors, eat, q->text);
        else if (user_env(x))
            q->expr = kl_conf_compile(r, x->user_env, q->text, eat, a_bool);
    }
}

static void read_source(struct authn *x, const struct kl_value *v, struct kl_str path,
                        bool required, bool prefixed, struct kl_claim_source *s)
{
    static const char *const names[] = {"claim", "prefix", "expression", NULL};
    struct kl_conf_reader *r = x->r;
    struct kl_field_errors *e = &r->errors;
    const struct kl_value *prefix = kl_map_value(v, KL_STR("prefix"));
    bool has_prefix = prefix && prefix->kind != KL_NULL;
    struct kl_str text = kl_conf_text(r, v, "expression");
    kl_conf_only(r, v, path, names);
    s->claim = kl_conf_text(r, v, "claim");
    s->prefix = kl_conf_text(r, v, "prefix");
    if (text.n && s->claim.n) {
        kl_field_invalid(e, path, KL_STR(""), "claim and expression can't both be set");
    } else if (!text.n && !s->claim.n) {
        if (required)
            kl_field_required(e, path, "claim or expression is required");
    } else if (text.n) {
        if (has_prefix)
            kl_field_invalid(e, kl_conf_at(r, path, ".prefix"), s->prefix,
                             "may not be specified when expression is set");
        if (claims_env(x))
            s->expr =
                kl_conf_compile(r, x->claims_env, text, kl_conf_at(r, path, ".expression"), NULL);
        if (required)
            x->email = reads_claim(text, "email");
        if (required)
            note_email(x, text);
    } else if (prefixed && !has_prefix) {
        kl_field_required(e, kl_conf_at(r, path, ".prefix"),
                          "prefix is required when claim is set. It can be set to an empty "
                          "string to disable prefixing");
    }
}

static bool is_reserved(struct kl_str domain)
{
    return kl_str_eqz(domain, "kubernetes.io") || kl_str_ends(domain, KL_STR(".kubernetes.io")) ||
           kl_str_eqz(domain, "k8s.io") || kl_str_ends(domain, KL_STR(".k8s.io"));
}

static void check_extra_key(struct authn *x, struct kl_str key, struct kl_str at)
{
    struct kl_field_errors *e = &x->r->errors;
    ptrdiff_t slash = kl_str_chr(key, '/');
    struct kl_str domain = {key.p, slash > 0 ? (size_t)slash : 0};
    bool upper = false;
    for (size_t i = 0; i < key.n; i++)
        upper |= key.p[i] >= 'A' && key.p[i] <= 'Z';
    if (!key.n)
        kl_field_required(e, at, "");
    else if (slash <= 0 || (size_t)slash + 1 == key.n)
        kl_field_invalid(e, at, key, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    else if (!upper && kl_name_dns1123_subdomain(domain))
        kl_field_invalid(e, at, domain, kl_name_dns1123_subdomain(domain));
    if (upper)
        kl_field_invalid(e, at, key, "must be lowercase");
    if (is_reserved(domain))
        kl_field_invalid(e, at, key,
                         "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes "
                         "use");
}

static void read_extra(struct authn *x, const struct kl_value *list, struct kl_str path,
                       struct kl_oidc *o)
{
    static const char *const names[] = {"key", "valueExpression", NULL};
    struct kl_conf_reader *r = x->r;
    size_t n = kl_len(list);
    if (!n || !(o->extra = room(x, n, sizeof *o->extra)))
        return;
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *v = kl_at(list, i);
        struct kl_claim_extra *q = &o->extra[o->nextra++];
        struct kl_str at = kl_conf_at(r, path, "[%zu]", i), kat = kl_conf_at(r, at, ".key"),
                      text = kl_conf_text(r, v, "valueExpression");
        bool dup = false;
        kl_conf_only(r, v, at, names);
        q->key = kl_conf_text(r, v, "key");
        check_extra_key(x, q->key, kat);
        for (struct kl_claim_extra *p = o->extra; p < q; p++)
            dup |= kl_str_eq(p->key, q->key);
        if (dup)
            kl_field_duplicate(&r->errors, kat, q->key);
        else if (!text.n)
            kl_field_required(&r->errors, kl_conf_at(r, at, ".valueExpression"), "");
        else if (claims_env(x))
            q->expr = kl_conf_compile(r, x->claims_env, text, kl_conf_at(r, at, ".valueExpression"),
                                      NULL);
        note_email(x, text);
    }
}

static void read_mappings(struct authn *x, const struct kl_value *v, struct kl_str path,
                          struct kl_oidc *o)
{
    static const char *const names[] = {"username", "groups", "uid", "extra", NULL};
    struct kl_conf_reader *r = x->r;
    kl_conf_only(r, v, path, names);
    const struct kl_value *user = kl_map_value(v, KL_STR("username"));
    read_source(x, user, kl_conf_at(r, path, ".username"), true, true, &o->username);
    read_source(x, kl_map_value(v, KL_STR("groups")), kl_conf_at(r, path, ".groups"), false, true,
                &o->groups);
    read_source(x, kl_map_value(v, KL_STR("uid")), kl_conf_at(r, path, ".uid"), false, false,
                &o->uid);
    read_extra(x, kl_map_value(v, KL_STR("extra")), kl_conf_at(r, path, ".extra"), o);
    if (x->email && !x->email_verified)
        kl_field_invalid(&r->errors, kl_conf_at(r, path, ".username.expression"),
                         kl_conf_text(r, user, "expression"),
                         "claims.email_verified must be used in claimMappings.username.expression "
                         "or claimMappings.extra[*].valueExpression or "
                         "claimValidationRules[*].expression when claims.email is used in "
                         "claimMappings.username.expression");
}

static void take_algs(struct kl_conf_reader *r, struct kl_oidc *o)
{
    const char *const *algs = r->in->settings->oidc_signing_algs;
    size_t n = 0;
    while (algs && algs[n])
        n++;
    // Structured configuration has no such field: every algorithm that upstream knows there.
    static const char *const all[] = {"RS256", "RS384", "RS512", "ES256", "ES384",
                                      "ES512", "PS256", "PS384", "PS512", NULL};
    if (r->in->authentication.p || !n) {
        algs = all;
        n = KL_COUNT(all) - 1;
    }
    struct kl_str *s = kl_arena_alloc(r->arena, n * sizeof *s);
    if (!s) {
        r->rc = KL_ENOMEM;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        s[i] = kl_str(algs[i]);
        if (!kl_jwt_alg_known(s[i]))
            kl_field_error(&r->errors, "FieldValueInvalid", KL_STR("oidc"),
                           "unsupported signing alg: \"%s\"", algs[i]);
    }
    o->algs = s;
    o->nalgs = n;
}

static void read_jwt(struct authn *x, const struct kl_value *v, struct kl_str path)
{
    static const char *const names[] = {"issuer", "claimValidationRules", "claimMappings",
                                        "userValidationRules", NULL};
    struct kl_conf_reader *r = x->r;
    struct kl_oidc *o = &r->conf->jwt[r->conf->njwt];
    x->email = x->email_verified = false;
    kl_conf_only(r, v, path, names);
    read_issuer(x, kl_map_value(v, KL_STR("issuer")), kl_conf_at(r, path, ".issuer"), o);
    r->conf->njwt++; // is freed with the conf from here on
    read_claim_rules(x, kl_map_value(v, KL_STR("claimValidationRules")),
                     kl_conf_at(r, path, ".claimValidationRules"), o);
    read_mappings(x, kl_map_value(v, KL_STR("claimMappings")),
                  kl_conf_at(r, path, ".claimMappings"), o);
    read_user_rules(x, kl_map_value(v, KL_STR("userValidationRules")),
                    kl_conf_at(r, path, ".userValidationRules"), o);
    take_algs(r, o);
}

static void read_anonymous(struct authn *x, const struct kl_value *v)
{
    static const char *const names[] = {"enabled", "conditions", NULL}, *const path_names[] = {
                                                                            "path", NULL};
    struct kl_conf_reader *r = x->r;
    const struct kl_value *list = kl_map_value(v, KL_STR("conditions"));
    size_t n = kl_len(list);
    if (!kl_is(v, KL_MAP))
        return;
    kl_conf_only(r, v, KL_STR("anonymous"), names);
    r->conf->anonymous = kl_is_true(kl_map_value(v, KL_STR("enabled")));
    if (!r->conf->anonymous && n)
        kl_field_invalid(&r->errors, KL_STR("anonymous.conditions"), KL_STR(""),
                         "enabled should be set to true when conditions are defined");
    struct kl_str *s = room(x, n, sizeof *s);
    for (size_t i = 0; s && i < n; i++) {
        kl_conf_only(r, kl_at(list, i), KL_STR("anonymous.conditions"), path_names);
        s[i] = kl_conf_text(r, kl_at(list, i), "path");
    }
    r->conf->anonymous_paths = s;
    r->conf->nanonymous_paths = s ? n : 0;
}

static void end(struct authn *x)
{
    kl_cel_env_unref(x->claims_env);
    kl_cel_env_unref(x->user_env);
}

int kl_conf_read_authn(struct kl_conf_reader *r, struct kl_error *err)
{
    static const char *const names[] = {"apiVersion", "kind", "jwt", "anonymous", NULL};
    struct kl_value root;
    struct authn x = {.r = r};
    int rc = kl_conf_root(r, r->in->authentication, "AuthenticationConfiguration", &root, err);
    if (rc)
        return rc;
    const struct kl_value *list = kl_map_value(&root, KL_STR("jwt"));
    size_t n = kl_len(list);
    kl_conf_only(r, &root, KL_STR(""), names);
    if (n > MAX_ISSUERS) {
        kl_field_error(&r->errors, "FieldValueTooMany", KL_STR("jwt"),
                       "Too many: %zu: must have at most %d items", n, MAX_ISSUERS);
        return 0;
    }
    if (!(r->conf->jwt = room(&x, n, sizeof *r->conf->jwt)))
        return 0;
    for (size_t i = 0; i < n; i++)
        read_jwt(&x, kl_at(list, i), kl_conf_at(r, KL_STR("jwt"), "[%zu]", i));
    read_anonymous(&x, kl_map_value(&root, KL_STR("anonymous")));
    end(&x);
    return 0;
}

// ---- --oidc-*

static struct kl_str read_ca(struct kl_conf_reader *r, const char *path, struct kl_error *err)
{
    struct kl_str pem = KL_STR("");
    if (path && kl_auth_read_file(r->arena, path, 1 << 20, &pem, err))
        return (struct kl_str){NULL, 0};
    return pem;
}

static int take_required(struct authn *x, const char *const *list, struct kl_oidc *o,
                         struct kl_error *err)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    if (!n || !(o->claim_rules = room(x, n, sizeof *o->claim_rules)))
        return 0;
    for (size_t i = 0; i < n; i++) {
        struct kl_str s = kl_str(list[i]);
        ptrdiff_t eq = kl_str_chr(s, '=');
        if (eq <= 0)
            return kl_error_set(err, KL_EINVALID,
                                "--oidc-required-claim %s: must be a key=value pair", list[i]);
        o->claim_rules[o->nclaim_rules++] =
            (struct kl_claim_rule){.claim = {s.p, (size_t)eq},
                                   .value = kl_str_from(s, (size_t)eq + 1),
                                   .text = KL_STR(""),
                                   .message = KL_STR("")};
    }
    return 0;
}

int kl_conf_oidc_flags(struct kl_conf_reader *r, struct kl_error *err)
{
    const struct kl_api_settings *s = r->in->settings;
    struct authn x = {.r = r};
    if (!s->oidc_issuer_url && !s->oidc_client_id)
        return 0;
    if (!s->oidc_issuer_url || !s->oidc_client_id)
        return kl_error_set(err, KL_EINVALID,
                            "oidc-issuer-url and oidc-client-id must be specified together");
    struct kl_oidc *o = r->conf->jwt = room(&x, 1, sizeof *o);
    struct kl_str *aud = room(&x, 1, sizeof *aud), ca = read_ca(r, s->oidc_ca_file, err);
    if (!o || !aud || !ca.p)
        return ca.p ? 0 : err->code;
    aud[0] = kl_str(s->oidc_client_id);
    o->audiences = aud;
    o->naudiences = 1;
    o->issuer = kl_str(s->oidc_issuer_url);
    r->conf->njwt = 1;
    o->username.claim = kl_str(s->oidc_username_claim ? s->oidc_username_claim : "sub");
    // "-" means none; the default is the issuer for everything but email addresses.
    const char *prefix = s->oidc_username_prefix;
    if (prefix && *prefix)
        o->username.prefix = strcmp(prefix, "-") ? kl_str(prefix) : KL_STR("");
    else if (!kl_str_eqz(o->username.claim, "email"))
        o->username.prefix = kl_arena_printf(r->arena, "%s#", s->oidc_issuer_url);
    o->groups.claim = kl_str(s->oidc_groups_claim ? s->oidc_groups_claim : "");
    o->groups.prefix = kl_str(s->oidc_groups_prefix ? s->oidc_groups_prefix : "");
    check_url(&x, o->issuer, KL_STR("issuer.url"), true);
    if (!r->errors.n)
        make_discovery(&x, o, KL_STR(""), ca, KL_STR("issuer"));
    take_algs(r, o);
    return take_required(&x, s->oidc_required_claim, o, err);
}
