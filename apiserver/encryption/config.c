// SPDX-License-Identifier: Apache-2.0
// EncryptionConfiguration, and what it does to values.
#include "apiserver/encryption/encryption_int.h"
#include "object/yaml.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

#define MAX_ARENA ((size_t)8 << 20)
enum { KMS_TIMEOUT_MS = 3000, MAX_SEALED = 64 << 20 };

struct kl_enc_config *kl_enc_config_new(void)
{
    struct kl_enc_config *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    atomic_init(&c->refs, 1);
    kl_arena_init(&c->arena, MAX_ARENA);
    c->record = -1;
    return c;
}

void kl_enc_config_unref(struct kl_enc_config *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (size_t i = 0; i < c->nrules; i++)
        for (size_t k = 0; k < c->rules[i].nproviders; k++) {
            struct kl_enc_provider *p = &c->rules[i].providers[k];
            for (size_t j = 0; j < p->nkeys; j++)
                OPENSSL_cleanse((char *)p->keys[j].secret.p, p->keys[j].secret.n);
            kl_kms_unref(p->kms);
        }
    kl_arena_fini(&c->arena);
    free(c);
}

// ---- reading

struct reader {
    struct kl_enc_config *c;
    const struct kl_enc_config *old;
    struct kl_arena *a;
    struct kl_error *err;
};

static struct kl_str member(const struct kl_value *v, const char *name)
{
    return kl_text(kl_map_value(v, kl_str(name)));
}

static int invalid(struct reader *r, struct kl_str path, const char *what, const char *value,
                   const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static int invalid(struct reader *r, struct kl_str path, const char *what, const char *value,
                   const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str text = kl_arena_vprintf(r->a, fmt, ap);
    va_end(ap);
    if (value)
        return kl_error_set(r->err, KL_EINVALID, "%.*s: %s: \"%s\": %.*s", KL_PRI(path), what,
                            value, KL_PRI(text));
    return kl_error_set(r->err, KL_EINVALID, "%.*s: %s: %.*s", KL_PRI(path), what, KL_PRI(text));
}

static const char *sizes_of(enum kl_enc_kind kind)
{
    return kind == KL_ENC_SECRETBOX ? "[32]" : "[16 24 32]";
}

static enum kl_box box_of(enum kl_enc_kind kind)
{
    return kind == KL_ENC_AESGCM   ? KL_BOX_AESGCM
           : kind == KL_ENC_AESCBC ? KL_BOX_AESCBC
                                   : KL_BOX_SECRETBOX;
}

static int read_key(struct reader *r, enum kl_enc_kind kind, const struct kl_value *v,
                    struct kl_str path, struct kl_enc_key *ret)
{
    struct kl_str name = member(v, "name"), secret = member(v, "secret");
    if (!name.n)
        return invalid(r, kl_arena_printf(r->a, "%.*s.name", KL_PRI(path)), "Required value", NULL,
                       "name is a mandatory field for a key");
    path = kl_arena_printf(r->a, "%.*s.secret", KL_PRI(path));
    if (!secret.n)
        return invalid(r, path, "Required value", NULL, "secret is a mandatory field for a key");
    unsigned char *p = kl_arena_alloc(r->a, secret.n + 4);
    if (!p)
        return kl_error_set(r->err, KL_ENOMEM, "out of memory");
    int n = secret.n % 4 ? -1 : EVP_DecodeBlock(p, (const unsigned char *)secret.p, (int)secret.n);
    if (n < 0)
        return invalid(r, path, "Invalid value", "REDACTED", "secrets must be base64 encoded");
    for (size_t i = secret.n; i && secret.p[i - 1] == '='; i--)
        n--;
    if (!kl_box_key_fits(box_of(kind), (size_t)n))
        return invalid(r, path, "Invalid value", "REDACTED",
                       "secret is not of the expected length, got %d, expected one of %s", n,
                       sizes_of(kind));
    ret->name = kl_arena_dup(r->a, name);
    ret->secret = (struct kl_str){(char *)p, (size_t)n};
    return 0;
}

static int read_keys(struct reader *r, const struct kl_value *v, struct kl_str path,
                     struct kl_enc_provider *p)
{
    const struct kl_value *keys = kl_map_value(v, KL_STR("keys"));
    path = kl_arena_printf(r->a, "%.*s.keys", KL_PRI(path));
    if (!kl_len(keys))
        return invalid(r, path, "Required value", NULL, "at least one keys is required");
    if (!(p->keys = kl_arena_zalloc(r->a, kl_len(keys) * sizeof *p->keys)))
        return kl_error_set(r->err, KL_ENOMEM, "out of memory");
    for (KL_EACH(k, keys)) {
        struct kl_str at = kl_arena_printf(r->a, "%.*s[%zu]", KL_PRI(path), p->nkeys);
        int rc = read_key(r, p->kind, k, at, &p->keys[p->nkeys]);
        if (rc)
            return rc;
        p->nkeys++;
    }
    return 0;
}

static struct kl_kms *find_kms(const struct kl_enc_config *c, struct kl_str name,
                               struct kl_str endpoint)
{
    for (size_t i = 0; c && i < c->nrules; i++)
        for (size_t k = 0; k < c->rules[i].nproviders; k++) {
            struct kl_kms *m = c->rules[i].providers[k].kms;
            if (m && kl_kms_is(m, name, endpoint))
                return kl_kms_ref(m);
        }
    return NULL;
}

static int64_t duration_ms(struct kl_str s)
{
    int64_t n = 0;
    size_t i = 0;
    while (i < s.n && s.p[i] >= '0' && s.p[i] <= '9' && n < 1000000)
        n = n * 10 + s.p[i++] - '0';
    s = kl_str_from(s, i);
    return kl_str_eqz(s, "ms")  ? n
           : kl_str_eqz(s, "s") ? n * 1000
           : kl_str_eqz(s, "m") ? n * 60000
                                : -1;
}

static int read_kms(struct reader *r, const struct kl_value *v, struct kl_str path,
                    struct kl_enc_provider *p)
{
    struct kl_str name = member(v, "name"), endpoint = member(v, "endpoint");
    struct kl_str version = member(v, "apiVersion"), timeout = member(v, "timeout");
    int64_t ms = timeout.n ? duration_ms(timeout) : KMS_TIMEOUT_MS;
    char text[128];
    if (!name.n)
        return invalid(r, kl_arena_printf(r->a, "%.*s.name", KL_PRI(path)), "Required value", NULL,
                       "name is a mandatory field for a provider");
    if (!version.n || kl_str_eqz(version, "v1"))
        return kl_error_set(r->err, KL_EINVALID,
                            "KMSv1 is deprecated and will only receive security updates going "
                            "forward. Use KMSv2 instead");
    snprintf(text, sizeof text, "%.*s", KL_PRI(version));
    if (!kl_str_eqz(version, "v2"))
        return invalid(r, kl_arena_printf(r->a, "%.*s.apiVersion", KL_PRI(path)), "Invalid value",
                       text,
                       "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are "
                       "supported");
    snprintf(text, sizeof text, "%.*s", KL_PRI(name));
    if (kl_str_chr(name, ':') >= 0)
        return invalid(r, kl_arena_printf(r->a, "%.*s.name", KL_PRI(path)), "Invalid value", text,
                       "invalid KMS provider name %s, must not contain ':'", text);
    if (!endpoint.n)
        return invalid(r, kl_arena_printf(r->a, "%.*s.endpoint", KL_PRI(path)), "Invalid value", "",
                       "endpoint is a mandatory field for a kms");
    if (!kl_str_starts(endpoint, KL_STR("unix://"))) {
        struct kl_str scheme = endpoint;
        kl_str_split(&scheme, ':', &scheme);
        snprintf(text, sizeof text, "%.*s", KL_PRI(endpoint));
        return invalid(r, kl_arena_printf(r->a, "%.*s.endpoint", KL_PRI(path)), "Invalid value",
                       text, "unsupported scheme for KMS provider, only unix is supported");
    }
    if (ms <= 0)
        return invalid(r, kl_arena_printf(r->a, "%.*s.timeout", KL_PRI(path)), "Invalid value", "",
                       "timeout should be a positive value");
    p->prefix = kl_arena_printf(r->a, "k8s:enc:kms:v2:%.*s:", KL_PRI(name));
    p->kms = find_kms(r->c, name, endpoint);
    if (!p->kms)
        p->kms = find_kms(r->old, name, endpoint);
    return p->kms ? 0 : kl_kms_new(name, endpoint, ms, &p->kms, r->err);
}

static int read_provider(struct reader *r, const struct kl_value *v, struct kl_str path,
                         struct kl_enc_provider *p)
{
    static const struct {
        const char *name;
        enum kl_enc_kind kind;
        struct kl_str prefix;
    } kinds[] = {{"kms", KL_ENC_KMS, KL_STR_INIT("")},
                 {"aesgcm", KL_ENC_AESGCM, KL_STR_INIT("k8s:enc:aesgcm:v1:")},
                 {"aescbc", KL_ENC_AESCBC, KL_STR_INIT("k8s:enc:aescbc:v1:")},
                 {"secretbox", KL_ENC_SECRETBOX, KL_STR_INIT("k8s:enc:secretbox:v1:")},
                 {"identity", KL_ENC_IDENTITY, KL_STR_INIT("")}};
    const struct kl_value *what = NULL;
    const char *name = "";
    int found = 0;
    for (size_t i = 0; i < KL_COUNT(kinds); i++) {
        const struct kl_value *m = kl_map_value(v, kl_str(kinds[i].name));
        if (!m || m->kind == KL_NULL)
            continue;
        what = m;
        name = kinds[i].name;
        p->kind = kinds[i].kind;
        p->prefix = kinds[i].prefix;
        found++;
    }
    if (!found)
        return kl_error_set(r->err, KL_EINVALID,
                            "%.*s: Invalid value: provider does not contain any of the expected "
                            "providers: KMS, AESGCM, AESCBC, Secretbox, Identity",
                            KL_PRI(path));
    if (found > 1)
        return kl_error_set(r->err, KL_EINVALID,
                            "%.*s: Invalid value: more than one provider specified in a single "
                            "element, should split into different list elements",
                            KL_PRI(path));
    path = kl_arena_printf(r->a, "%.*s.%s", KL_PRI(path), name);
    if (p->kind == KL_ENC_KMS)
        return read_kms(r, what, path, p);
    return p->kind == KL_ENC_IDENTITY ? 0 : read_keys(r, what, path, p);
}

static const char *bad_resource(struct kl_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= 'A' && s.p[i] <= 'Z')
            return "resource name should not contain capital letters";
    ptrdiff_t dot = kl_str_chr(s, '.');
    struct kl_str group = dot < 0 ? KL_STR("") : kl_str_from(s, (size_t)dot + 1);
    if (kl_str_eqz(s, "*"))
        return "use '*.' to encrypt all the resources from core API group or *.* to encrypt all "
               "resources";
    if (kl_str_eqz(s, "apiserveripinfo") || kl_str_eqz(s, "serviceipallocations") ||
        kl_str_eqz(s, "servicenodeportallocations"))
        return "resources which do not have REST API/s cannot be encrypted";
    if (kl_str_eqz(group, "events.k8s.io"))
        return "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use "
               "'events' instead in the config file";
    if (kl_str_eqz(group, "extensions"))
        return "'extensions' group has been removed and cannot be used for encryption";
    if (kl_str_eqz(group, "*") && !kl_str_eqz(s, "*.*"))
        return "encrypting the same resource across groups is not supported";
    return NULL;
}

static struct kl_str group_of(struct kl_str s)
{
    ptrdiff_t dot = kl_str_chr(s, '.');
    return dot < 0 ? KL_STR("") : kl_str_from(s, (size_t)dot + 1);
}

static bool is_star(struct kl_str s)
{
    return s.n >= 2 && s.p[0] == '*' && s.p[1] == '.';
}

static int check_overlap(struct reader *r, const struct kl_enc_rule *rule, struct kl_str path)
{
    for (size_t i = 0; i < rule->nresources; i++)
        for (size_t k = 0; k < rule->nresources; k++) {
            struct kl_str a = rule->resources[i], b = rule->resources[k];
            if (i == k)
                continue;
            if (kl_str_eq(a, b))
                return kl_error_set(r->err, KL_EINVALID,
                                    "%.*s: Invalid value: the same resource cannot be specified "
                                    "multiple times",
                                    KL_PRI(path));
            if (kl_str_eqz(a, "*.*") || (is_star(a) && kl_str_eq(group_of(a), group_of(b))))
                return kl_error_set(r->err, KL_EINVALID,
                                    "%.*s: Invalid value: using overlapping resources such as "
                                    "'secrets' and '*.' in the same resource list is not allowed "
                                    "as they will be masked",
                                    KL_PRI(path));
        }
    return 0;
}

static int read_rule(struct reader *r, const struct kl_value *v, size_t at,
                     struct kl_enc_rule *rule)
{
    const struct kl_value *resources = kl_map_value(v, KL_STR("resources"));
    const struct kl_value *providers = kl_map_value(v, KL_STR("providers"));
    struct kl_str path = kl_arena_printf(r->a, "resources[%zu].resources", at);
    struct kl_str ppath = kl_arena_printf(r->a, "resources[%zu].providers", at);
    if (!kl_len(resources))
        return invalid(r, path, "Required value", NULL, "at least one %.*s is required",
                       KL_PRI(path));
    if (!kl_len(providers))
        return invalid(r, ppath, "Required value", NULL, "at least one %.*s is required",
                       KL_PRI(ppath));
    rule->resources = kl_arena_zalloc(r->a, kl_len(resources) * sizeof *rule->resources);
    rule->providers = kl_arena_zalloc(r->a, kl_len(providers) * sizeof *rule->providers);
    if (!rule->resources || !rule->providers)
        return kl_error_set(r->err, KL_ENOMEM, "out of memory");
    for (KL_EACH(s, resources)) {
        struct kl_str text = kl_arena_dup(r->a, kl_text(s));
        const char *why = bad_resource(text);
        if (why)
            return invalid(r, kl_arena_printf(r->a, "%.*s[%zu]", KL_PRI(path), rule->nresources),
                           "Invalid value", text.p, "%s", why);
        rule->resources[rule->nresources++] = text;
    }
    int rc = check_overlap(r, rule, path);
    for (KL_EACH(p, providers)) {
        if (rc)
            break;
        struct kl_str pp = kl_arena_printf(r->a, "%.*s[%zu]", KL_PRI(ppath), rule->nproviders);
        rc = read_provider(r, p, pp, &rule->providers[rule->nproviders++]);
    }
    return rc;
}

int kl_enc_config_parse(struct kl_str text, const struct kl_enc_config *old,
                        struct kl_enc_config **ret, struct kl_error *err)
{
    struct kl_enc_config *c = kl_enc_config_new();
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    struct reader r = {.c = c, .old = old, .a = &c->arena, .err = err};
    struct kl_value v;
    int rc = kl_yaml_parse(&c->arena, text, NULL, &v, err);
    struct kl_str version = rc ? KL_STR("") : member(&v, "apiVersion");
    const struct kl_value *rules = rc ? NULL : kl_map_value(&v, KL_STR("resources"));
    if (!rc && (!kl_str_eqz(member(&v, "kind"), "EncryptionConfiguration") ||
                !(kl_str_eqz(version, "apiserver.config.k8s.io/v1") || kl_str_eqz(version, "v1"))))
        rc = kl_error_set(err, KL_EINVALID,
                          "no EncryptionConfiguration of apiserver.config.k8s.io/v1");
    if (!rc && !kl_len(rules))
        rc = kl_error_set(err, KL_EINVALID,
                          "resources: Required value: at least one resources is required");
    if (!rc && !(c->rules = kl_arena_zalloc(&c->arena, kl_len(rules) * sizeof *c->rules)))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    for (KL_EACH(rule, rules)) {
        if (rc)
            break;
        size_t at = c->nrules++;
        rc = read_rule(&r, rule, at, &c->rules[at]);
    }
    if (rc)
        kl_enc_config_unref(c);
    else
        *ret = c;
    return rc;
}

// ---- values

static bool matches(struct kl_str pattern, struct kl_str group, struct kl_str plural)
{
    if (kl_str_eqz(pattern, "*.*"))
        return true;
    if (is_star(pattern))
        return kl_str_eq(group_of(pattern), group);
    ptrdiff_t dot = kl_str_chr(pattern, '.');
    struct kl_str name = dot < 0 ? pattern : (struct kl_str){pattern.p, (size_t)dot};
    return kl_str_eq(name, plural) && kl_str_eq(group_of(pattern), group);
}

const struct kl_enc_rule *kl_enc_rule_of(const struct kl_enc_config *c,
                                         const struct kl_resource *res)
{
    const struct kl_resource *st = kl_resource_storage(res);
    struct kl_str group = kl_str(st->group), plural = kl_str(st->plural);
    for (size_t i = 0; c && i < c->nrules; i++)
        for (size_t k = 0; k < c->rules[i].nresources; k++)
            if (matches(c->rules[i].resources[k], group, plural))
                return &c->rules[i];
    return NULL;
}

static int open_with(const struct kl_enc_provider *p, struct kl_str key, struct kl_str body,
                     struct kl_buf *out, bool *ret_stale, struct kl_error *err)
{
    if (p->kind == KL_ENC_KMS)
        return kl_kms_open(p->kms, key, body, out, ret_stale, err);
    ptrdiff_t colon = kl_str_chr(body, ':');
    struct kl_str name = colon < 0 ? KL_STR("") : (struct kl_str){body.p, (size_t)colon};
    int rc =
        kl_error_set(err, KL_ECORRUPT, "no matching key was found for the provided %s",
                     p->kind == KL_ENC_SECRETBOX ? "Secretbox transformer" : "AES transformer");
    for (size_t i = 0; i < p->nkeys && colon >= 0; i++) {
        if (!kl_str_eq(p->keys[i].name, name))
            continue;
        rc = kl_box_open(box_of(p->kind), p->keys[i].secret, key,
                         kl_str_from(body, (size_t)colon + 1), out, err);
        *ret_stale = i > 0;
        if (!rc)
            return 0;
    }
    return rc;
}

int kl_enc_open(const struct kl_enc_rule *rule, struct kl_str key, struct kl_str value,
                struct kl_buf *out, bool *ret_stale, struct kl_error *err)
{
    int rc = 0;
    bool tried = false, sealed = kl_str_starts(value, KL_STR(KL_CACHE_SEALED));
    for (size_t i = 0; rule && i < rule->nproviders; i++) {
        const struct kl_enc_provider *p = &rule->providers[i];
        if (p->kind == KL_ENC_IDENTITY) {
            if (sealed)
                continue;
            *ret_stale = i > 0;
            return kl_buf_puts(out, value);
        }
        if (!sealed || !kl_str_starts(value, p->prefix))
            continue;
        bool stale = false;
        rc = open_with(p, key, kl_str_from(value, p->prefix.n), out, &stale, err);
        tried = true;
        *ret_stale = stale || i > 0;
        if (!rc)
            return 0;
    }
    if (!sealed) { // was written before anything was sealed
        *ret_stale = rule && rule->nproviders && rule->providers[0].kind != KL_ENC_IDENTITY;
        return kl_buf_puts(out, value);
    }
    if (tried)
        return rc;
    return kl_error_set(err, KL_ECORRUPT,
                        rule ? "no matching prefix found"
                             : "identity transformer tried to read encrypted data");
}

int kl_enc_seal(const struct kl_enc_rule *rule, struct kl_str key, struct kl_str plain,
                struct kl_buf *out, struct kl_error *err)
{
    const struct kl_enc_provider *p = rule && rule->nproviders ? &rule->providers[0] : NULL;
    int rc = 0;
    if (!p || p->kind == KL_ENC_IDENTITY)
        return kl_buf_puts(out, plain);
    kl_buf_puts(out, p->prefix);
    if (p->kind == KL_ENC_KMS) {
        rc = kl_kms_seal(p->kms, key, plain, out, err);
    } else {
        kl_buf_puts(out, p->keys[0].name);
        kl_buf_putc(out, ':');
        rc = kl_box_seal(box_of(p->kind), p->keys[0].secret, key, plain, out, err);
    }
    if (!rc && out->err)
        rc = kl_error_set(err, out->err, "encryption: %s", kl_err_text(out->err));
    return rc;
}
