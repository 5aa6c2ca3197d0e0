// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/conf_int.h"
#include "object/yaml.h"
#include <stdarg.h>
#include <stdlib.h>

struct kl_str kl_conf_at(struct kl_conf_reader *r, struct kl_str path, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str tail = kl_arena_vprintf(r->arena, fmt, ap);
    va_end(ap);
    struct kl_str s = kl_arena_printf(r->arena, "%.*s%.*s", KL_PRI(path), KL_PRI(tail));
    if (!s.p)
        r->rc = KL_ENOMEM;
    return s.p ? s : KL_STR("");
}

struct kl_str kl_conf_text(struct kl_conf_reader *r, const struct kl_value *v, const char *name)
{
    struct kl_str s = kl_text(kl_map_value(v, kl_str(name)));
    struct kl_str d = kl_arena_dup(r->arena, s);
    if (!d.p)
        r->rc = KL_ENOMEM;
    return d.p ? d : KL_STR("");
}

void kl_conf_only(struct kl_conf_reader *r, const struct kl_value *v, struct kl_str path,
                  const char *const *names)
{
    if (!kl_is(v, KL_MAP))
        return;
    for (KL_MAP_EACH_KEY(k, v)) {
        size_t i = 0;
        while (names[i] && !kl_str_eqz(kl_text(k), names[i]))
            i++;
        if (!names[i])
            kl_field_error(&r->errors, "FieldValueInvalid", KL_STR("strict decoding error"),
                           "unknown field \"%.*s%s%.*s\"", KL_PRI(path), path.n ? "." : "",
                           KL_PRI(kl_text(k)));
    }
}

struct kl_cel_program *kl_conf_compile(struct kl_conf_reader *r, struct kl_cel_env *env,
                                       struct kl_str text, struct kl_str path,
                                       const char *const *types)
{
    struct kl_cel_program *p = NULL;
    struct kl_str issues = KL_STR("");
    struct kl_error err = {0};
    int rc = kl_cel_compile(env, text, r->arena, &p, &issues, &err);
    if (rc == KL_ENOMEM)
        r->rc = rc;
    if (rc) {
        struct kl_str why = kl_arena_printf(r->arena, "compilation failed: %.*s", KL_PRI(issues));
        kl_field_invalid(&r->errors, path, text, why.p ? why.p : "compilation failed");
        return NULL;
    }
    size_t n = 0;
    if (!types)
        return p;
    for (; types[n]; n++)
        if (kl_str_eqz(kl_cel_program_type(p), types[n]))
            return p;
    struct kl_buf b;
    kl_buf_init(&b, 1024);
    kl_buf_printf(&b, n == 1 ? "must evaluate to %s" : "must evaluate to one of [%s", types[0]);
    for (size_t i = 1; i < n; i++)
        kl_buf_printf(&b, " %s", types[i]);
    if (n > 1)
        kl_buf_putc(&b, ']');
    kl_buf_putc(&b, 0);
    kl_field_invalid(&r->errors, path, text, b.err ? "" : b.p);
    kl_buf_fini(&b);
    kl_cel_program_unref(p);
    return NULL;
}

int kl_conf_root(struct kl_conf_reader *r, struct kl_str text, const char *kind,
                 struct kl_value *ret, struct kl_error *err)
{
    static const char *const versions[] = {"apiserver.config.k8s.io/v1",
                                           "apiserver.config.k8s.io/v1beta1",
                                           "apiserver.config.k8s.io/v1alpha1"};
    struct kl_strict strict = {.n = 0};
    if (text.n > KL_AUTH_CONF_MAX_BYTES)
        return kl_error_set(err, KL_ETOOLARGE, "%s: larger than 1 MiB", kind);
    if (!kl_str_trim(text).n)
        return kl_error_set(err, KL_EINVALID, "%s: empty configuration", kind);
    int rc = kl_yaml_parse(r->arena, text, &strict, ret, err);
    if (rc)
        return kl_error_wrap(err, "%s", kind);
    if (strict.n)
        return kl_error_set(err, KL_EINVALID, "%s: strict decoding error: %.*s", kind,
                            KL_PRI(strict.messages[0]));
    struct kl_str version = kl_text(kl_map_value(ret, KL_STR("apiVersion"))),
                  got = kl_text(kl_map_value(ret, KL_STR("kind")));
    size_t i = 0;
    while (i < KL_COUNT(versions) && !kl_str_eqz(version, versions[i]))
        i++;
    if (i == KL_COUNT(versions) || !kl_str_eqz(got, kind))
        return kl_error_set(err, KL_EINVALID,
                            "no kind \"%.*s\" is registered for version \"%.*s\": expected %s of "
                            "apiserver.config.k8s.io/v1",
                            KL_PRI(got), KL_PRI(version), kind);
    return 0;
}

static int conclude(struct kl_conf_reader *r, struct kl_error *err)
{
    if (r->rc)
        return kl_error_set(err, r->rc, "configuration: %s", kl_err_text(r->rc));
    return kl_field_aggregate(&r->errors, err);
}

int kl_auth_conf_new(const struct kl_auth_conf_input *in, struct kl_auth_conf **ret,
                     struct kl_error *err)
{
    struct kl_auth_conf *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    atomic_init(&c->refs, 1);
    kl_arena_init(&c->arena, 64 << 20);
    c->anonymous = in->anonymous;
    struct kl_conf_reader r = {
        .conf = c, .arena = &c->arena, .in = in, .errors = {.arena = &c->arena}};
    int rc = in->authentication.p ? kl_conf_read_authn(&r, err) : kl_conf_oidc_flags(&r, err);
    if (!rc)
        rc = conclude(&r, err);
    if (!rc)
        rc = in->authorization.p ? kl_conf_read_authz(&r, err) : kl_conf_authz_flags(&r, err);
    if (!rc)
        rc = conclude(&r, err);
    if (!rc && in->authorization.p)
        rc = kl_conf_check_authz(&r, err);
    if (rc) {
        kl_auth_conf_unref(c);
        return rc;
    }
    // Who is nobody is not let in where everybody may do everything (kubeapiserver/options).
    for (size_t i = 0; i < c->nauthz && !in->authorization.p && !in->authentication.p; i++)
        if (c->authz[i].kind == KL_AUTHZ_ALWAYS_ALLOW)
            c->anonymous = false;
    c->by_roles =
        c->nauthz == 2 && c->authz[0].kind == KL_AUTHZ_NODE && c->authz[1].kind == KL_AUTHZ_RBAC;
    *ret = c;
    return 0;
}

struct kl_auth_conf *kl_auth_conf_ref(struct kl_auth_conf *c)
{
    if (c)
        atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

static void drop_source(struct kl_claim_source *s)
{
    kl_cel_program_unref(s->expr);
}

static void drop_oidc(struct kl_oidc *o)
{
    kl_remote_unref(o->discovery);
    drop_source(&o->username);
    drop_source(&o->groups);
    drop_source(&o->uid);
    for (size_t i = 0; i < o->nextra; i++)
        kl_cel_program_unref(o->extra[i].expr);
    for (size_t i = 0; i < o->nclaim_rules; i++)
        kl_cel_program_unref(o->claim_rules[i].expr);
    for (size_t i = 0; i < o->nuser_rules; i++)
        kl_cel_program_unref(o->user_rules[i].expr);
}

void kl_auth_conf_unref(struct kl_auth_conf *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < c->njwt; i++)
        drop_oidc(&c->jwt[i]);
    for (size_t i = 0; i < c->nauthz; i++) {
        for (size_t k = 0; k < c->authz[i].nconditions; k++)
            kl_cel_program_unref(c->authz[i].conditions[k]);
        kl_remote_unref(c->authz[i].to);
    }
    kl_arena_fini(&c->arena);
    free(c);
}
