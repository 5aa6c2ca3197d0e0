// SPDX-License-Identifier: Apache-2.0
// What Go's decoder makes of a configuration: which types are wrong, which fields nobody knows.
#include "apiserver/admission/config_int.h"
#include "base/buf.h"
#include "object/json_kind.h"
#include "object/yaml.h"

enum { PATH_MAX_BYTES = 512, STRICT_MAX_BYTES = 4096, DOCUMENT_SHOWN = 2048, TYPE_MAX = 96 };

struct walk {
    const char *package;   // of the types, as Go shows them
    struct kl_buf path;    // "limits[0].qps"
    struct kl_buf unknown; // what strict reading finds
    size_t nunknown;
    struct kl_error *err;
};

// The path without indexes, as Go has it in this error.
static void put_plain(struct kl_buf *out, struct kl_str path)
{
    bool in = false;
    for (size_t i = 0; i < path.n; i++) {
        in |= path.p[i] == '[';
        if (!in)
            kl_buf_putc(out, path.p[i]);
        in &= path.p[i] != ']';
    }
}

static int wrong(struct walk *w, const struct kl_value *v, const char *go, const char *type)
{
    bool integer = !strcmp(type, "int32") || !strcmp(type, "time.Duration");
    struct kl_buf plain, number;
    kl_buf_init(&plain, PATH_MAX_BYTES);
    kl_buf_init(&number, PATH_MAX_BYTES);
    put_plain(&plain, kl_buf_str(&w->path));
    if (integer && (v->kind == KL_INT || v->kind == KL_FLOAT)) {
        kl_buf_putc(&number, ' ');
        kl_json_write(&number, v);
    }
    int rc = kl_error_set(w->err, KL_EINVALID,
                          "json: cannot unmarshal %s%.*s into Go struct field %s.%.*s of type %s",
                          kl_json_kind(v), KL_PRI(kl_buf_str(&number)), go,
                          KL_PRI(kl_buf_str(&plain)), type);
    kl_buf_fini(&number);
    kl_buf_fini(&plain);
    return rc;
}

static const char *qualified(const struct walk *w, const char *before, const char *type,
                             char ret[TYPE_MAX])
{
    snprintf(ret, TYPE_MAX, "%s%s%s%s", before, w->package, *w->package ? "." : "", type);
    return ret;
}

static int walk_struct(struct walk *w, const struct kl_value *v, const char *go,
                       const struct kl_config_field *fields);

static int walk_list(struct walk *w, const struct kl_value *v, const char *go,
                     const struct kl_config_field *f)
{
    size_t n = w->path.n, i = 0;
    char type[TYPE_MAX];
    if (v->kind != KL_ARRAY)
        return wrong(w, v, go, f->kind == 'S' ? "[]string" : qualified(w, "[]", f->go, type));
    for (KL_EACH(x, v)) {
        int rc = 0;
        kl_buf_printf(&w->path, "[%zu]", i++);
        if (f->kind == 'L')
            rc = x->kind == KL_MAP    ? walk_struct(w, x, f->go, f->fields)
                 : x->kind == KL_NULL ? 0
                                      : wrong(w, x, go, qualified(w, "", f->go, type));
        else if (x->kind != KL_STRING && x->kind != KL_NULL)
            rc = wrong(w, x, go, "string");
        w->path.n = n;
        if (rc)
            return rc;
    }
    return 0;
}

static int walk_map(struct walk *w, const struct kl_value *v, const char *go)
{
    if (v->kind != KL_MAP)
        return wrong(w, v, go, "map[string]string");
    for (KL_MAP_EACH_KEY(kv, v))
        if (kv[1].kind != KL_STRING && kv[1].kind != KL_NULL)
            return wrong(w, kv + 1, go, "string");
    return 0;
}

static int walk_field(struct walk *w, const struct kl_value *v, const char *go,
                      const struct kl_config_field *f)
{
    char type[TYPE_MAX];
    if (v->kind == KL_NULL)
        return 0;
    switch (f->kind) {
    case 's':
        return v->kind == KL_STRING
                   ? 0
                   : wrong(w, v, go, f->go ? qualified(w, "", f->go, type) : "string");
    case 'b':
        return v->kind == KL_BOOL ? 0 : wrong(w, v, go, "bool");
    case 'd':
        return v->kind == KL_INT ? 0 : wrong(w, v, go, "time.Duration");
    case 'i':
        return v->kind == KL_INT && v->i >= INT32_MIN && v->i <= INT32_MAX
                   ? 0
                   : wrong(w, v, go, "int32");
    case 'M':
        return walk_map(w, v, go);
    case 'O':
        return v->kind == KL_MAP ? walk_struct(w, v, f->go, f->fields)
                                 : wrong(w, v, go, qualified(w, "", f->go, type));
    case 'S':
    case 'L':
        return walk_list(w, v, go, f);
    default:
        return 0;
    }
}

static int walk_struct(struct walk *w, const struct kl_value *v, const char *go,
                       const struct kl_config_field *fields)
{
    size_t n = w->path.n;
    for (KL_MAP_EACH_KEY(kv, v)) {
        const struct kl_config_field *f = fields;
        struct kl_str key = kl_text(kv);
        if (!n && (kl_str_eqz(key, "apiVersion") || kl_str_eqz(key, "kind")))
            continue;
        while (f->name && !kl_str_eqz(key, f->name))
            f++;
        kl_buf_printf(&w->path, "%s%.*s", n ? "." : "", KL_PRI(key));
        int rc = f->name ? walk_field(w, kv + 1, go, f) : 0;
        if (!f->name)
            kl_buf_printf(&w->unknown, "%sunknown field \"%.*s\"", w->nunknown++ ? ", " : "",
                          KL_PRI(kl_buf_str(&w->path)));
        w->path.n = n;
        if (rc)
            return rc;
    }
    return 0;
}

int kl_config_shape(const struct kl_value *v, const char *package, const char *go,
                    const struct kl_config_field *fields, bool strict, struct kl_error *err)
{
    struct walk w = {.package = package, .err = err};
    if (v->kind != KL_MAP)
        return kl_error_set(err, KL_EINVALID, "json: cannot unmarshal %s into Go value of type %s",
                            kl_json_kind(v), go);
    kl_buf_init(&w.path, PATH_MAX_BYTES);
    kl_buf_init(&w.unknown, STRICT_MAX_BYTES);
    int rc = walk_struct(&w, v, go, fields);
    if (!rc && strict && w.nunknown)
        rc = kl_error_set(err, KL_EINVALID, "strict decoding error: %.*s",
                          KL_PRI(kl_buf_str(&w.unknown)));
    kl_buf_fini(&w.path);
    kl_buf_fini(&w.unknown);
    return rc;
}

bool kl_config_is_foreign(const struct kl_value *v, const struct kl_config_kind *k,
                          struct kl_error *err)
{
    struct kl_str version = kl_text(kl_map_value(v, KL_STR("apiVersion"))),
                  kind = kl_text(kl_map_value(v, KL_STR("kind")));
    if (!kind.n || !version.n) {
        struct kl_buf b;
        kl_buf_init(&b, DOCUMENT_SHOWN);
        kl_json_write(&b, v);
        kl_error_set(err, KL_EINVALID, "Object '%s' is missing in '%.*s'",
                     kind.n ? "apiVersion" : "Kind", KL_PRI(kl_buf_str(&b)));
        kl_buf_fini(&b);
        return true;
    }
    for (size_t i = 0; k->versions[i]; i++)
        if (kl_str_eqz(version, k->versions[i]) && kl_str_eqz(kind, k->kind))
            return false;
    kl_error_set(err, KL_EINVALID, "no kind \"%.*s\" is registered for version \"%.*s\"",
                 KL_PRI(kind), KL_PRI(version));
    return true;
}

int kl_config_decode(struct kl_arena *a, struct kl_str text, const struct kl_config_kind *k,
                     struct kl_value *ret, struct kl_error *err)
{
    struct kl_strict strict = {.n = 0};
    int rc = kl_yaml_parse(a, text, &strict, ret, err);
    if (rc)
        return rc;
    if (kl_config_is_foreign(ret, k, err))
        return KL_EINVALID;
    // The package of a version's types is called as the version.
    struct kl_str version = kl_text(kl_map_value(ret, KL_STR("apiVersion")));
    version = kl_arena_dup(a, kl_str_from(version, (size_t)(kl_str_chr(version, '/') + 1)));
    if (!version.p)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    if ((rc = kl_config_shape(ret, version.p, k->go ? k->go : k->kind, k->fields, k->strict, err)))
        return rc;
    if (k->strict && strict.n)
        return kl_error_set(err, KL_EINVALID, "strict decoding error: %.*s",
                            KL_PRI(strict.messages[0]));
    return 0;
}
