// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/abac.h"
#include "apiserver/auth/authn_int.h"
#include "base/log.h"
#include "object/json.h"
#include "object/yaml.h"

enum { LINE_MAX_BYTES = 64 * 1024 }; // bufio.Scanner's

#define GROUP "abac.authorization.kubernetes.io"

// ---- one line

static const char *go_kind(const struct kl_value *v)
{
    switch (v->kind) {
    case KL_BOOL:
        return "bool";
    case KL_ARRAY:
        return "array";
    case KL_STRING:
        return "string";
    case KL_MAP:
        return "object";
    default:
        return "number";
    }
}

static bool is_null(const struct kl_value *v)
{
    return !v || v->kind == KL_NULL;
}

// apiVersion and kind are looked for in any case of letters, by encoding/json.
static int read_head(const struct kl_value *root, struct kl_str *version, struct kl_str *kind,
                     struct kl_error *err)
{
    static const char *const names[] = {"apiVersion", "kind"};
    struct kl_str *const ret[] = {version, kind};
    *version = *kind = KL_STR("");
    if (is_null(root))
        return 0;
    if (root->kind != KL_MAP)
        return kl_error_set(err, KL_EINVALID,
                            "couldn't get version/kind; json parse error: json: cannot unmarshal "
                            "%s into Go value of type struct { APIVersion string "
                            "\"json:\\\"apiVersion,omitempty\\\"\"; Kind string "
                            "\"json:\\\"kind,omitempty\\\"\" }",
                            go_kind(root));
    for (KL_MAP_EACH_KEY(k, root)) {
        for (size_t i = 0; i < KL_COUNT(names); i++) {
            if (!kl_str_ieq(kl_text(&k[0]), kl_str(names[i])) || is_null(&k[1]))
                continue;
            if (k[1].kind != KL_STRING)
                return kl_error_set(err, KL_EINVALID,
                                    "couldn't get version/kind; json parse error: json: cannot "
                                    "unmarshal %s into Go struct field .%s of type string",
                                    go_kind(&k[1]), names[i]);
            *ret[i] = kl_text(&k[1]);
        }
    }
    return 0;
}

// Members by their exact names; others are not looked at.
static int read_members(const struct kl_value *v, const char *owner, const char *path,
                        bool has_groups, struct kl_abac_policy *p, struct kl_error *err)
{
    const struct {
        const char *name;
        struct kl_str *text;
        bool v1beta1;
    } texts[] = {{"user", &p->user, false},         {"group", &p->group, false},
                 {"apiGroup", &p->api_group, true}, {"resource", &p->resource, false},
                 {"namespace", &p->ns, false},      {"nonResourcePath", &p->path, true}};
    for (KL_MAP_EACH_KEY(k, v)) {
        struct kl_str name = kl_text(&k[0]);
        const char *want = NULL;
        if (is_null(&k[1]))
            continue;
        if (kl_str_eqz(name, "readonly")) {
            p->readonly = k[1].kind == KL_BOOL && k[1].b;
            want = k[1].kind == KL_BOOL ? NULL : "bool";
        }
        for (size_t i = 0; i < KL_COUNT(texts); i++) {
            if (!kl_str_eqz(name, texts[i].name) || (texts[i].v1beta1 && !has_groups))
                continue;
            *texts[i].text = kl_text(&k[1]);
            want = k[1].kind == KL_STRING ? NULL : "string";
        }
        if (want)
            return kl_error_set(err, KL_EINVALID,
                                "json: cannot unmarshal %s into Go struct field %s.%s%.*s of type "
                                "%s",
                                go_kind(&k[1]), owner, path, KL_PRI(name), want);
    }
    return 0;
}

// The lines of old, which said what they meant by leaving things out (pkg/apis/abac/v0).
static void convert_v0(struct kl_abac_policy *p)
{
    bool nobody = !p->user.n && !p->group.n, ns = p->ns.n, resource = p->resource.n;
    if (nobody)
        p->group = KL_STR("system:authenticated");
    if (!ns)
        p->ns = KL_STR("*");
    if (!resource)
        p->resource = KL_STR("*");
    p->api_group = KL_STR("*");
    if (!ns && !resource)
        p->path = KL_STR("*");
}

static int decode(struct kl_arena *a, struct kl_str line, struct kl_value *root,
                  struct kl_error *err)
{
    struct kl_str t = kl_str_trim(line);
    struct kl_error why = {0};
    if (t.n && *t.p == '{') {
        int rc = kl_json_parse(a, line, NULL, root, &why);
        return rc ? kl_error_set(err, rc, "couldn't get version/kind; json parse error: %s",
                                 why.msg)
                  : 0;
    }
    int rc = kl_yaml_parse(a, line, NULL, root, &why);
    return rc ? kl_error_set(err, rc, "%s", why.msg) : 0;
}

// What the line says it is; without saying, a policy of old.
static int check_kind(struct kl_str version, struct kl_str kind, bool *v1beta1,
                      struct kl_error *err)
{
    ptrdiff_t slash = kl_str_chr(version, '/');
    if (slash >= 0 && kl_str_chr(kl_str_from(version, (size_t)slash + 1), '/') >= 0)
        return kl_error_set(err, KL_EINVALID, "unexpected GroupVersion string: %.*s",
                            KL_PRI(version));
    struct kl_str is = kind.n ? kind : KL_STR("Policy"),
                  of = version.n ? version : KL_STR(GROUP "/v0");
    *v1beta1 = kl_str_eqz(of, GROUP "/v1beta1");
    if (!kl_str_eqz(is, "Policy") || !(*v1beta1 || kl_str_eqz(of, GROUP "/v0")))
        return kl_error_set(err, KL_EINVALID,
                            "no kind \"%.*s\" is registered for version \"%.*s\" in scheme "
                            "\"pkg/runtime/scheme.go:111\"",
                            KL_PRI(is), KL_PRI(of));
    if (*v1beta1 && !kind.n)
        return kl_error_set(err, KL_EINVALID,
                            "converting (v1beta1.Policy) to (v0.Policy): unknown conversion");
    return 0;
}

static int read_v1beta1(const struct kl_value *v, struct kl_abac_policy *p, struct kl_error *err)
{
    const struct kl_value *spec = kl_map_value(v, KL_STR("spec"));
    if (is_null(spec))
        return 0;
    if (spec->kind != KL_MAP)
        return kl_error_set(err, KL_EINVALID,
                            "json: cannot unmarshal %s into Go struct field Policy.spec of type "
                            "v1beta1.PolicySpec",
                            go_kind(spec));
    return read_members(spec, "PolicySpec", "spec.", true, p, err);
}

static int read_policy(struct kl_arena *a, struct kl_str line, struct kl_abac_policy *p,
                       bool *unversioned, struct kl_error *err)
{
    struct kl_value root;
    struct kl_str version, kind;
    bool v1beta1 = false;
    *p = (struct kl_abac_policy){.user = KL_STR("")};
    int rc = decode(a, line, &root, err);
    if (rc || (rc = read_head(&root, &version, &kind, err)) ||
        (rc = check_kind(version, kind, &v1beta1, err)))
        return rc;
    const struct kl_value *v = is_null(&root) ? NULL : &root;
    if ((rc = v1beta1 ? read_v1beta1(v, p, err) : read_members(v, "Policy", "", false, p, err)))
        return rc;
    *unversioned |= !version.n || !kind.n;
    if (!v1beta1)
        convert_v0(p);
    if (kl_str_eqz(p->user, "*") || kl_str_eqz(p->group, "*")) {
        p->group = KL_STR("system:authenticated");
        p->user = KL_STR("");
    }
    return 0;
}

// ---- the file

static size_t count_lines(struct kl_str text)
{
    size_t n = 1;
    for (size_t i = 0; i < text.n; i++)
        n += text.p[i] == '\n';
    return n;
}

int kl_abac_parse(struct kl_arena *a, const char *file, struct kl_str text, struct kl_abac *ret,
                  struct kl_error *err)
{
    struct kl_abac_policy *v = kl_arena_alloc(a, count_lines(text) * sizeof *v);
    struct kl_str rest = text, line;
    struct kl_abac b = {.v = v};
    struct kl_error why = {0};
    if (!v)
        return kl_error_set(err, KL_ENOMEM, "%s: out of memory", file);
    for (int number = 1; kl_str_split(&rest, '\n', &line); number++) {
        if (line.n >= LINE_MAX_BYTES)
            return kl_error_set(err, KL_EINVALID,
                                "error reading policy file %s: bufio.Scanner: token too long",
                                file);
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        struct kl_str t = kl_str_trim(line);
        if (!t.n || *t.p == '#')
            continue;
        if (read_policy(a, line, &v[b.n], &b.unversioned, &why))
            return kl_error_set(err, KL_EINVALID, "error reading policy file %s, line %d: %.*s: %s",
                                file, number, KL_PRI(line), why.msg);
        b.n++;
    }
    *ret = b;
    return 0;
}

int kl_abac_read(struct kl_arena *a, const char *file, struct kl_abac *ret, struct kl_error *err)
{
    struct kl_str text;
    int rc = kl_auth_read_file(a, file, KL_ABAC_FILE_MAX_BYTES, &text, err);
    if (rc || (rc = kl_abac_parse(a, file, text, ret, err)))
        return rc;
    if (ret->unversioned)
        kl_log(KL_LOG_WARN, "apiserver", "Policy file %s contained unversioned rules", file);
    return 0;
}

// ---- decisions

bool kl_abac_is_about(const struct kl_abac_policy *p, const struct kl_user *u)
{
    bool user = !p->user.n || kl_str_eqz(p->user, "*") || kl_str_eq(p->user, u->name),
         group = !p->group.n || kl_str_eqz(p->group, "*") || kl_user_in_group(u, p->group);
    return (p->user.n || p->group.n) && user && group;
}

static bool is_read_only(struct kl_str verb)
{
    return kl_str_eqz(verb, "get") || kl_str_eqz(verb, "list") || kl_str_eqz(verb, "watch");
}

static bool fits(struct kl_str pattern, struct kl_str s)
{
    return kl_str_eqz(pattern, "*") || kl_str_eq(pattern, s);
}

static bool fits_path(struct kl_str pattern, struct kl_str path)
{
    struct kl_str prefix = pattern;
    if (kl_str_eq(pattern, path))
        return true;
    while (prefix.n && prefix.p[prefix.n - 1] == '*')
        prefix.n--;
    return prefix.n < pattern.n && kl_str_starts(path, prefix);
}

bool kl_abac_allows(const struct kl_abac *b, const struct kl_attrs *t)
{
    bool read_only = is_read_only(t->verb);
    for (size_t i = 0; i < b->n; i++) {
        const struct kl_abac_policy *p = &b->v[i];
        if (!kl_abac_is_about(p, t->user) || (p->readonly && !read_only))
            continue;
        if (t->is_resource
                ? fits(p->ns, t->ns) && fits(p->resource, t->plural) && fits(p->api_group, t->group)
                : fits_path(p->path, t->path))
            return true;
    }
    return false;
}
