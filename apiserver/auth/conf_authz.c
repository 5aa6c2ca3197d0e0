// SPDX-License-Identifier: Apache-2.0
// AuthorizationConfiguration, and --authorization-mode with its flags (apiserver
// pkg/apis/apiserver/validation, kubeapiserver/options/authorization.go).
#include "apiserver/auth/conf_int.h"
#include "object/timestamp.h"
#include "object/names.h"
#include <sys/stat.h>

enum { MAX_CONDITIONS = 64, MAX_AUTHORIZERS = 64, DEFAULT_TIMEOUT_MS = 30000 };

static const struct {
    const char *name;
    enum kl_authz_kind kind;
} kinds[] = {{"ABAC", KL_AUTHZ_ABAC},
             {"AlwaysAllow", KL_AUTHZ_ALWAYS_ALLOW},
             {"AlwaysDeny", KL_AUTHZ_ALWAYS_DENY},
             {"Node", KL_AUTHZ_NODE},
             {"RBAC", KL_AUTHZ_RBAC},
             {"Webhook", KL_AUTHZ_WEBHOOK}};

static bool find_kind(struct kl_str name, enum kl_authz_kind *ret)
{
    for (size_t i = 0; i < KL_COUNT(kinds); i++)
        if (kl_str_eqz(name, kinds[i].name)) {
            *ret = kinds[i].kind;
            return true;
        }
    return false;
}

// ---- match conditions

static struct kl_cel_env *review_env(struct kl_conf_reader *r)
{
    struct kl_cel_env *e = kl_cel_env_new(0);
    if (!e) {
        r->rc = KL_ENOMEM;
        return NULL;
    }
    const struct kl_cel_decl *s = kl_cel_decl_simple(e, KL_CEL_T_STRING),
                             *list = kl_cel_decl_list(e, s, -1),
                             *map = kl_cel_decl_map(e, list, -1);
    const struct kl_cel_field requirement[] = {
        {KL_STR("key"), s}, {KL_STR("operator"), s}, {KL_STR("values"), list}};
    const struct kl_cel_decl *req = kl_cel_decl_object(e, KL_STR("kubernetes.SelectorRequirement"),
                                                       requirement, KL_COUNT(requirement));
    const struct kl_cel_field selector[] = {{KL_STR("rawSelector"), s},
                                            {KL_STR("requirements"), kl_cel_decl_list(e, req, -1)}};
    const struct kl_cel_decl *fields =
                                 kl_cel_decl_object(e, KL_STR("kubernetes.FieldSelectorAttributes"),
                                                    selector, KL_COUNT(selector)),
                             *labels =
                                 kl_cel_decl_object(e, KL_STR("kubernetes.LabelSelectorAttributes"),
                                                    selector, KL_COUNT(selector));
    const struct kl_cel_field resource[] = {{KL_STR("namespace"), s},
                                            {KL_STR("verb"), s},
                                            {KL_STR("group"), s},
                                            {KL_STR("version"), s},
                                            {KL_STR("resource"), s},
                                            {KL_STR("subresource"), s},
                                            {KL_STR("name"), s},
                                            {KL_STR("fieldSelector"), fields},
                                            {KL_STR("labelSelector"), labels}};
    const struct kl_cel_field path[] = {{KL_STR("path"), s}, {KL_STR("verb"), s}};
    const struct kl_cel_field request[] = {
        {KL_STR("resourceAttributes"),
         kl_cel_decl_object(e, KL_STR("kubernetes.ResourceAttributes"), resource,
                            KL_COUNT(resource))},
        {KL_STR("nonResourceAttributes"),
         kl_cel_decl_object(e, KL_STR("kubernetes.NonResourceAttributes"), path, KL_COUNT(path))},
        {KL_STR("user"), s},
        {KL_STR("groups"), list},
        {KL_STR("extra"), map},
        {KL_STR("uid"), s}};
    const struct kl_cel_decl *d = kl_cel_decl_object(
        e, KL_STR("kubernetes.SubjectAccessReviewSpec"), request, KL_COUNT(request));
    if (!d || kl_cel_env_var(e, KL_STR("request"), d) < 0)
        r->rc = KL_ENOMEM;
    return e;
}

static void read_conditions(struct kl_conf_reader *r, const struct kl_value *list,
                            struct kl_str path, struct kl_authorizer *z)
{
    static const char *const names[] = {"expression", NULL}, *const types[] = {"bool", NULL};
    size_t n = kl_len(list);
    if (n > MAX_CONDITIONS) {
        kl_field_error(&r->errors, "FieldValueTooMany", path,
                       "Too many: %zu: must have at most %d items", n, MAX_CONDITIONS);
        return;
    }
    if (!n)
        return;
    struct kl_cel_env *env = review_env(r);
    z->conditions = kl_arena_zalloc(r->arena, n * sizeof *z->conditions);
    z->condition_texts = kl_arena_zalloc(r->arena, n * sizeof *z->condition_texts);
    if (!env || !z->conditions || !z->condition_texts) {
        r->rc = KL_ENOMEM;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct kl_str text = kl_conf_text(r, kl_at(list, i), "expression"),
                      at = kl_conf_at(r, path, "[%zu].expression", i);
        bool dup = false;
        kl_conf_only(r, kl_at(list, i), path, names);
        for (size_t k = 0; k < z->nconditions; k++)
            dup |= kl_str_eq(z->condition_texts[k], text);
        if (!kl_str_trim(text).n) {
            kl_field_required(&r->errors, at, "");
            continue;
        }
        if (dup) {
            kl_field_duplicate(&r->errors, at, text);
            continue;
        }
        struct kl_cel_program *p = kl_conf_compile(r, env, text, at, types);
        if (p) {
            z->condition_texts[z->nconditions] = text;
            z->conditions[z->nconditions++] = p;
        }
    }
    kl_cel_env_unref(env);
}

// ---- one webhook

static int64_t read_duration(struct kl_conf_reader *r, const struct kl_value *v, const char *name,
                             struct kl_str path, int64_t most_ms, const char *why)
{
    struct kl_str text = kl_conf_text(r, v, name), at = kl_conf_at(r, path, ".%s", name);
    int64_t ns = 0;
    if (text.n && kl_duration_parse(text, &ns)) {
        kl_field_invalid(&r->errors, at, text, "must be a duration");
        return 0;
    }
    if (!ns)
        kl_field_required(&r->errors, at, "");
    else if (ns < 0 || (most_ms && ns / 1000000 > most_ms))
        kl_field_invalid(&r->errors, at, text, why);
    return ns / 1000000;
}

static void read_choice(struct kl_conf_reader *r, struct kl_str got, struct kl_str at,
                        const char *const *names, bool required)
{
    size_t i = 0;
    while (names[i] && !kl_str_eqz(got, names[i]))
        i++;
    if (!got.n && required)
        kl_field_required(&r->errors, at, "");
    else if (got.n && !names[i])
        kl_field_unsupported(&r->errors, at, got, names);
}

static void read_connection(struct kl_conf_reader *r, const struct kl_value *v, struct kl_str path,
                            struct kl_authorizer *z)
{
    static const char *const names[] = {"type", "kubeConfigFile", NULL}, *const types[] = {
                                                                             "InClusterConfig",
                                                                             "KubeConfigFile",
                                                                             NULL};
    struct kl_str type = kl_conf_text(r, v, "type"), file = kl_conf_text(r, v, "kubeConfigFile"),
                  fat = kl_conf_at(r, path, ".kubeConfigFile");
    struct stat st;
    struct kl_error err = {0};
    kl_conf_only(r, v, path, names);
    read_choice(r, type, kl_conf_at(r, path, ".type"), types, true);
    if (kl_str_eqz(type, "InClusterConfig"))
        kl_field_invalid(&r->errors, kl_conf_at(r, path, ".type"), type,
                         "an API server that is no pod has no in-cluster configuration");
    if (!kl_str_eqz(type, "KubeConfigFile"))
        return;
    if (!file.n)
        kl_field_required(&r->errors, fat, "");
    else if (file.p[0] != '/')
        kl_field_invalid(&r->errors, fat, file, "must be an absolute path");
    else if (!stat(file.p, &st) && !S_ISREG(st.st_mode))
        kl_field_invalid(&r->errors, fat, file, "must be a regular file");
    else if (kl_remote_from_kubeconfig(file.p, &z->to, &err))
        kl_field_invalid(&r->errors, fat, file,
                         kl_conf_at(r, KL_STR("error loading file: "), "%s", err.msg).p);
}

static bool flag_or(const struct kl_value *v, const char *name, bool otherwise)
{
    const struct kl_value *b = kl_map_value(v, kl_str(name));
    return kl_is(b, KL_BOOL) ? b->b : otherwise;
}

static void read_webhook(struct kl_conf_reader *r, const struct kl_value *v, struct kl_str path,
                         struct kl_authorizer *z)
{
    static const char *const names[] = {"authorizedTTL",
                                        "cacheAuthorizedRequests",
                                        "unauthorizedTTL",
                                        "cacheUnauthorizedRequests",
                                        "timeout",
                                        "subjectAccessReviewVersion",
                                        "matchConditionSubjectAccessReviewVersion",
                                        "failurePolicy",
                                        "connectionInfo",
                                        "matchConditions",
                                        NULL};
    static const char *const versions[] = {"v1", "v1beta1", NULL}, *const v1[] = {"v1", NULL},
                             *const policies[] = {"NoOpinion", "Deny", NULL};
    kl_conf_only(r, v, kl_conf_at(r, path, ".webhook"), names);
    z->timeout_ms =
        (uint32_t)read_duration(r, v, "timeout", path, 30000, "must be > 0s and <= 30s");
    int64_t yes = read_duration(r, v, "authorizedTTL", path, 0, "must be > 0s"),
            no = read_duration(r, v, "unauthorizedTTL", path, 0, "must be > 0s");
    z->yes_ttl_ms = flag_or(v, "cacheAuthorizedRequests", true) ? yes : 0;
    z->no_ttl_ms = flag_or(v, "cacheUnauthorizedRequests", true) ? no : 0;
    struct kl_str version = kl_conf_text(r, v, "subjectAccessReviewVersion"),
                  match = kl_conf_text(r, v, "matchConditionSubjectAccessReviewVersion"),
                  policy = kl_conf_text(r, v, "failurePolicy");
    const struct kl_value *conditions = kl_map_value(v, KL_STR("matchConditions"));
    struct kl_str mat = kl_conf_at(r, path, ".matchConditionSubjectAccessReviewVersion");
    read_choice(r, version, kl_conf_at(r, path, ".subjectAccessReviewVersion"), versions, true);
    if (!match.n && kl_len(conditions))
        kl_field_required(&r->errors, mat, "required if match conditions are specified");
    read_choice(r, match, mat, v1, false);
    read_choice(r, policy, kl_conf_at(r, path, ".failurePolicy"), policies, true);
    z->v1beta1 = kl_str_eqz(version, "v1beta1");
    z->deny_on_failure = kl_str_eqz(policy, "Deny");
    read_connection(r, kl_map_value(v, KL_STR("connectionInfo")),
                    kl_conf_at(r, path, ".connectionInfo"), z);
    read_conditions(r, conditions, kl_conf_at(r, path, ".matchConditions"), z);
}

static void read_authorizer(struct kl_conf_reader *r, const struct kl_value *v, struct kl_str path,
                            struct kl_str *names)
{
    static const char *const members[] = {"type", "name", "webhook", NULL},
                             *const known[] = {"ABAC", "AlwaysAllow", "AlwaysDeny", "Node",
                                               "RBAC", "Webhook",     NULL};
    struct kl_authorizer *z = &r->conf->authz[r->conf->nauthz];
    struct kl_str type = kl_conf_text(r, v, "type"), name = kl_conf_text(r, v, "name"),
                  nat = kl_conf_at(r, path, ".name");
    const struct kl_value *webhook = kl_map_value(v, KL_STR("webhook"));
    bool has_webhook = webhook && webhook->kind != KL_NULL, dup = false;
    kl_conf_only(r, v, path, members);
    if (!type.n || !find_kind(type, &z->kind)) {
        read_choice(r, type, kl_conf_at(r, path, ".type"), known, true);
        return;
    }
    for (size_t i = 0; i < r->conf->nauthz; i++) {
        if (r->conf->authz[i].kind == z->kind && z->kind != KL_AUTHZ_WEBHOOK) {
            kl_field_duplicate(&r->errors, kl_conf_at(r, path, ".type"), type);
            return;
        }
        dup |= kl_str_eq(names[i], name);
    }
    if (!name.n)
        kl_field_required(&r->errors, nat, "");
    else if (dup)
        kl_field_duplicate(&r->errors, nat, name);
    else if (kl_name_dns1123_subdomain(name))
        kl_field_invalid(&r->errors, nat, name,
                         kl_conf_at(r, KL_STR("authorizer name is invalid: "), "%s",
                                    kl_name_dns1123_subdomain(name))
                             .p);
    z->name = name;
    names[r->conf->nauthz++] = name; // is freed with the conf from here on
    if (z->kind == KL_AUTHZ_WEBHOOK && !has_webhook)
        kl_field_required(&r->errors, kl_conf_at(r, path, ".webhook"),
                          "required when type=Webhook");
    else if (z->kind == KL_AUTHZ_WEBHOOK)
        read_webhook(r, webhook, path, z);
    else if (has_webhook)
        kl_field_invalid(&r->errors, kl_conf_at(r, path, ".webhook"), KL_STR("non-null"),
                         "may only be specified when type=Webhook");
    z->abac = z->kind == KL_AUTHZ_ABAC ? r->in->abac : NULL;
}

static bool make_room(struct kl_conf_reader *r, size_t n)
{
    r->conf->authz = kl_arena_zalloc(r->arena, (n + 1) * sizeof *r->conf->authz);
    if (!r->conf->authz)
        r->rc = KL_ENOMEM;
    return r->conf->authz;
}

int kl_conf_read_authz(struct kl_conf_reader *r, struct kl_error *err)
{
    static const char *const names[] = {"apiVersion", "kind", "authorizers", NULL};
    struct kl_value root;
    int rc = kl_conf_root(r, r->in->authorization, "AuthorizationConfiguration", &root, err);
    if (rc)
        return rc;
    const struct kl_value *list = kl_map_value(&root, KL_STR("authorizers"));
    size_t n = kl_len(list);
    kl_conf_only(r, &root, KL_STR(""), names);
    if (!n)
        kl_field_required(&r->errors, KL_STR("authorizers"),
                          "at least one authorization mode must be defined");
    if (n > MAX_AUTHORIZERS) {
        kl_field_error(&r->errors, "FieldValueTooMany", KL_STR("authorizers"),
                       "Too many: %zu: must have at most %d items", n, MAX_AUTHORIZERS);
        return 0;
    }
    struct kl_str *taken = kl_arena_zalloc(r->arena, (n + 1) * sizeof *taken);
    if (!taken || !make_room(r, n)) {
        r->rc = KL_ENOMEM;
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        read_authorizer(r, kl_at(list, i), kl_conf_at(r, KL_STR("authorizers"), "[%zu]", i), taken);
    return 0;
}

// ---- what an API server asks for besides (kubeapiserver/authorizer/reload.go)

static const char *name_of(enum kl_authz_kind kind)
{
    for (size_t i = 0; i < KL_COUNT(kinds); i++)
        if (kinds[i].kind == kind)
            return kinds[i].name;
    return "";
}

static void add_problem(struct kl_buf *b, size_t *n, struct kl_str text)
{
    kl_buf_printf(b, "%s%.*s", (*n)++ ? ", " : "", KL_PRI(text));
}

// The name of everything but a webhook is its type's in lower case.
static void check_name(struct kl_conf_reader *r, const struct kl_authorizer *z, struct kl_buf *b,
                       size_t *n)
{
    const char *type = name_of(z->kind);
    char want[16] = "";
    for (size_t i = 0; type[i] && i + 1 < sizeof want; i++)
        want[i] = (char)(type[i] | 0x20);
    if (z->kind != KL_AUTHZ_WEBHOOK && !kl_str_eqz(z->name, want))
        add_problem(b, n,
                    kl_conf_at(r, KL_STR(""), "expected name %s for authorizer %s instead of %.*s",
                               want, type, KL_PRI(z->name)));
}

// What the server was started with stays: its authorisers are made once.
static int check_kinds(struct kl_conf_reader *r, unsigned has, struct kl_buf *b, size_t *n,
                       struct kl_error *err)
{
    static const enum kl_authz_kind lasting[] = {KL_AUTHZ_ABAC, KL_AUTHZ_NODE, KL_AUTHZ_RBAC};
    const unsigned had = r->in->started_with;
    struct kl_str missing = KL_STR("");
    for (size_t i = 0; i < KL_COUNT(kinds); i++)
        if (kinds[i].kind != KL_AUTHZ_WEBHOOK && (had & ~has) >> kinds[i].kind & 1)
            missing = kl_conf_at(r, missing, "%s%s", missing.n ? " " : "", kinds[i].name);
    if (missing.n)
        add_problem(b, n,
                    kl_conf_at(r, KL_STR(""), "missing required types: [%.*s]", KL_PRI(missing)));
    if (*n)
        return 0;
    for (size_t i = 0; had && i < KL_COUNT(lasting); i++)
        if ((has & ~had) >> lasting[i] & 1)
            return kl_error_set(err, KL_EINVALID,
                                "authorizer type %s is not allowed if it was not enabled at "
                                "initial server startup",
                                name_of(lasting[i]));
    if (!had && (has >> KL_AUTHZ_ABAC & 1) && !r->in->abac) // os.Open("")
        return kl_error_set(err, KL_EINVALID, "open : no such file or directory");
    return 0;
}

int kl_conf_check_authz(struct kl_conf_reader *r, struct kl_error *err)
{
    struct kl_buf b;
    unsigned has = 0;
    size_t n = 0;
    kl_buf_init(&b, KL_ERROR_TEXT_MAX);
    for (size_t i = 0; i < r->conf->nauthz; i++) {
        has |= 1u << r->conf->authz[i].kind;
        check_name(r, &r->conf->authz[i], &b, &n);
    }
    int rc = check_kinds(r, has, &b, &n, err);
    if (!rc && n)
        rc = kl_error_set(err, KL_EINVALID, "%s%.*s%s", n > 1 ? "[" : "", (int)b.n, b.p ? b.p : "",
                          n > 1 ? "]" : "");
    kl_buf_fini(&b);
    return rc;
}

// ---- flags

static int add_mode(struct kl_conf_reader *r, struct kl_str mode, struct kl_error *err)
{
    const struct kl_api_settings *s = r->in->settings;
    struct kl_authorizer *z = &r->conf->authz[r->conf->nauthz];
    if (!find_kind(mode, &z->kind))
        return kl_error_set(err, KL_EINVALID, "authorization-mode \"%.*s\" is not a valid mode",
                            KL_PRI(mode));
    for (size_t i = 0; i < r->conf->nauthz; i++)
        if (r->conf->authz[i].kind == z->kind)
            return kl_error_set(err, KL_EINVALID,
                                "authorization-mode \"%.*s\" has been specified more than once",
                                KL_PRI(mode));
    r->conf->nauthz++;
    z->abac = r->in->abac;
    if (z->kind == KL_AUTHZ_ABAC && !z->abac)
        return kl_error_set(err, KL_EINVALID,
                            "authorization-mode ABAC's authorization policy file not passed");
    if (z->kind != KL_AUTHZ_WEBHOOK)
        return 0;
    z->name = KL_STR("default");
    z->timeout_ms = DEFAULT_TIMEOUT_MS;
    z->yes_ttl_ms = s->authorization_webhook_authorized_ttl_ms;
    z->no_ttl_ms = s->authorization_webhook_unauthorized_ttl_ms;
    const char *version = s->authorization_webhook_version;
    z->v1beta1 = !version || strcmp(version, "v1") != 0;
    if (!s->authorization_webhook_config_file)
        return kl_error_set(err, KL_EINVALID,
                            "authorization-mode Webhook's authorization config file not passed");
    return kl_remote_from_kubeconfig(s->authorization_webhook_config_file, &z->to, err);
}

int kl_conf_authz_flags(struct kl_conf_reader *r, struct kl_error *err)
{
    static const char *const usual[] = {"Node", "RBAC", NULL};
    const struct kl_api_settings *s = r->in->settings;
    const char *const *modes =
        s->authorization_mode && *s->authorization_mode ? s->authorization_mode : usual;
    if (!make_room(r, KL_COUNT(kinds)))
        return 0;
    int rc = 0;
    for (size_t i = 0; modes[i] && !rc; i++) { // each may be a list of its own
        struct kl_str rest = kl_str(modes[i]), mode;
        while (!rc && kl_str_split(&rest, ',', &mode))
            rc = add_mode(r, kl_str_trim(mode), err);
    }
    bool webhook = false, abac = false;
    for (size_t i = 0; i < r->conf->nauthz; i++) {
        webhook |= r->conf->authz[i].kind == KL_AUTHZ_WEBHOOK;
        abac |= r->conf->authz[i].kind == KL_AUTHZ_ABAC;
    }
    if (!rc && r->in->abac && !abac)
        return kl_error_set(err, KL_EINVALID,
                            "cannot specify --authorization-policy-file without mode ABAC");
    if (!rc && s->authorization_webhook_config_file && !webhook)
        return kl_error_set(err, KL_EINVALID,
                            "cannot specify --authorization-webhook-config-file without mode "
                            "Webhook");
    return rc;
}
