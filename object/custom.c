// SPDX-License-Identifier: Apache-2.0
#include "object/custom.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

enum { FAMILY_BYTES_MAX = 16 << 20, CELLS_ARENA_MAX = 8 << 20 };

static const uint32_t all_verbs = (1u << KL_VERB_COUNT) - 1;
static const uint32_t sub_verbs =
    KL_VERB_BIT(KL_VERB_GET) | KL_VERB_BIT(KL_VERB_UPDATE) | KL_VERB_BIT(KL_VERB_PATCH);

struct kl_custom_column {
    const char *type;
    struct kl_jsonpath
        *path; // NULL: the definition cannot be read, so that there is no such column
};

// ---- versions

static bool parse_version(const char *v, int *ret_major, int *ret_kind, int *ret_minor)
{
    static const char *const kinds[] = {"alpha", "beta"};
    char *end;
    if (v[0] != 'v' || v[1] < '1' || v[1] > '9')
        return false;
    long major = strtol(v + 1, &end, 10);
    *ret_major = (int)major;
    *ret_kind = 2;
    *ret_minor = 0;
    if (!*end)
        return true;
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(kinds[i]);
        if (strncmp(end, kinds[i], n) || end[n] < '1' || end[n] > '9')
            continue;
        *ret_kind = i;
        *ret_minor = (int)strtol(end + n, &end, 10);
        return !*end;
    }
    return false;
}

int kl_version_compare(const char *a, const char *b)
{
    int x[3] = {0}, y[3] = {0};
    bool known_a = parse_version(a, &x[0], &x[1], &x[2]);
    bool known_b = parse_version(b, &y[0], &y[1], &y[2]);
    if (!known_a && !known_b)
        return strcmp(b, a);
    if (known_a != known_b)
        return known_a ? 1 : -1;
    static const int order[] = {1, 0, 2}; // GA first, then the major, then the minor number
    for (int i = 0; i < 3; i++)
        if (x[order[i]] != y[order[i]])
            return x[order[i]] - y[order[i]];
    return 0;
}

// ---- a family from a definition

struct builder {
    struct kl_custom_family *f;
    struct kl_arena *a; // the family's
    const struct kl_value *crd, *names;
    const char *group;
    bool compile;
};

static const char *dup(struct builder *b, struct kl_str s)
{
    struct kl_str copy = kl_arena_printf(b->a, "%.*s", KL_PRI(s));
    return copy.p ? copy.p : "";
}

static const char *const *dup_list(struct builder *b, const struct kl_value *list)
{
    size_t n = 0;
    if (!kl_len(list))
        return NULL;
    const char **out = kl_arena_zalloc(b->a, (kl_len(list) + 1) * sizeof *out);
    for (KL_EACH(s, list))
        if (out)
            out[n++] = dup(b, kl_text(s));
    return out;
}

static int take_path(struct builder *b, const struct kl_value *text, struct kl_custom_path *ret)
{
    struct kl_error ignored;
    struct kl_str s = kl_text(text);
    if (!s.n)
        return 0;
    s = kl_str(dup(b, s));
    // What validation would not let in today may be stored: it selects nothing then.
    int rc = kl_simple_path(b->a, s, &ret->elem, &ret->n, &ignored);
    ret->text = s.p[0] == '.' ? kl_str_from(s, 1) : s;
    return rc == KL_ENOMEM ? rc : 0;
}

static int take_subresources(struct builder *b, const struct kl_value *version,
                             struct kl_resource *r, struct kl_custom *c)
{
    const struct kl_value *subs = kl_get(version, KL_F_subresources);
    const struct kl_value *scale = kl_get(subs, KL_F_scale);
    struct kl_subresource *out = kl_arena_zalloc(b->a, 2 * sizeof *out);
    if (!out)
        return KL_ENOMEM;
    r->subresources = out;
    c->status = kl_get(subs, KL_F_status) != NULL;
    c->scale = scale != NULL;
    if (c->status)
        out[r->nsubresources++] = (struct kl_subresource){.name = "status",
                                                          .group = r->group,
                                                          .version = r->version,
                                                          .kind = r->kind,
                                                          .type = r->type,
                                                          .verbs = sub_verbs};
    if (!c->scale)
        return 0;
    out[r->nsubresources++] = (struct kl_subresource){.name = "scale",
                                                      .group = "autoscaling",
                                                      .version = "v1",
                                                      .kind = "Scale",
                                                      .type = kl_type(KL_TYPE_autoscaling_v1_Scale),
                                                      .verbs = sub_verbs};
    if (!b->compile)
        return 0;
    if (take_path(b, kl_get(scale, KL_F_specReplicasPath), &c->spec_replicas) ||
        take_path(b, kl_get(scale, KL_F_statusReplicasPath), &c->status_replicas) ||
        take_path(b, kl_get(scale, KL_F_labelSelectorPath), &c->label_selector))
        return KL_ENOMEM;
    return 0;
}

static int take_fields_text(struct builder *b, const struct kl_value *version, struct kl_custom *c)
{
    const struct kl_value *list = kl_get(version, KL_F_selectableFields);
    struct kl_buf json;
    c->fields_json = "";
    if (!kl_len(list))
        return 0;
    kl_buf_init(&json, 1 << 20);
    for (KL_EACH(f, list)) {
        kl_buf_puts(&json, json.n ? KL_STR(",{\"jsonPath\":") : KL_STR("[{\"jsonPath\":"));
        kl_json_write_string(&json, kl_text(kl_get(f, KL_F_jsonPath)));
        kl_buf_putc(&json, '}');
    }
    kl_buf_putc(&json, ']');
    c->fields_json = json.err ? NULL : dup(b, kl_buf_str(&json));
    kl_buf_fini(&json);
    return c->fields_json ? 0 : KL_ENOMEM;
}

static int take_fields(struct builder *b, const struct kl_value *version, struct kl_custom *c)
{
    const struct kl_value *list = kl_get(version, KL_F_selectableFields);
    struct kl_custom_path *out = kl_arena_zalloc(b->a, (kl_len(list) + 1) * sizeof *out);
    if (!out)
        return KL_ENOMEM;
    c->fields = out;
    for (KL_EACH(f, list))
        if (take_path(b, kl_get(f, KL_F_jsonPath), &out[c->nfields++]))
            return KL_ENOMEM;
    return 0;
}

#define CREATED                                                                                    \
    "CreationTimestamp is a timestamp representing the server time when this object was created. " \
    "It is not guaranteed to be set in happens-before order across separate operations. Clients "  \
    "may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by "    \
    "the system. Read-only. Null for lists. More info: "                                           \
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
#define NAMED                                                                                      \
    "Name must be unique within a namespace. Is required when creating resources, although some "  \
    "resources may allow a client to request the generation of an appropriate name "               \
    "automatically. Name is primarily intended for creation idempotence and configuration "        \
    "definition. Cannot be updated. More info: "                                                   \
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"

static void put_header(struct kl_buf *out, struct kl_str name, struct kl_str type,
                       struct kl_str format, struct kl_str description, int64_t priority)
{
    kl_buf_puts(out, KL_STR("{\"name\":"));
    kl_json_write_string(out, name);
    kl_buf_puts(out, KL_STR(",\"type\":"));
    kl_json_write_string(out, type);
    kl_buf_puts(out, KL_STR(",\"format\":"));
    kl_json_write_string(out, format);
    kl_buf_puts(out, KL_STR(",\"description\":"));
    kl_json_write_string(out, description);
    kl_buf_printf(out, ",\"priority\":%lld}", (long long)priority);
}

static struct kl_jsonpath *parse_column(struct builder *b, struct kl_str path)
{
    struct kl_jsonpath *out = NULL;
    struct kl_error ignored;
    struct kl_str text = kl_arena_printf(b->a, "{%.*s}", KL_PRI(path));
    return text.p && kl_jsonpath_parse(b->a, text, &out, &ignored) == 0 ? out : NULL;
}

// As tableconvertor.New: columns up to the first that cannot be read.
static int take_columns(struct builder *b, const struct kl_value *version, struct kl_custom *c)
{
    const struct kl_value *list = kl_get(version, KL_F_additionalPrinterColumns);
    size_t n = kl_len(list) ? kl_len(list) : 1;
    struct kl_custom_column *out = kl_arena_zalloc(b->a, n * sizeof *out);
    struct kl_buf json;
    if (!out)
        return KL_ENOMEM;
    kl_buf_init(&json, 1 << 20);
    kl_buf_putc(&json, '[');
    put_header(&json, KL_STR("Name"), KL_STR("string"), KL_STR("name"), KL_STR(NAMED), 0);
    c->columns = out;
    for (KL_EACH(col, list)) {
        struct kl_str path = kl_text(kl_get(col, KL_F_jsonPath));
        struct kl_str about = kl_text(kl_get(col, KL_F_description));
        struct kl_jsonpath *parsed = parse_column(b, path);
        if (!parsed)
            break;
        if (!about.n)
            about = kl_arena_printf(
                b->a, "Custom resource definition column (in JSONPath format): %.*s", KL_PRI(path));
        kl_buf_putc(&json, ',');
        put_header(&json, kl_text(kl_get(col, KL_F_name)), kl_text(kl_get(col, KL_F_type)),
                   kl_text(kl_get(col, KL_F_format)), about,
                   kl_int_or(kl_get(col, KL_F_priority), 0));
        out[c->ncolumns++] = (struct kl_custom_column){
            .type = dup(b, kl_text(kl_get(col, KL_F_type))), .path = parsed};
    }
    if (!kl_len(list)) {
        kl_buf_putc(&json, ',');
        put_header(&json, KL_STR("Age"), KL_STR("date"), KL_STR(""), KL_STR(CREATED), 0);
        out[c->ncolumns++] = (struct kl_custom_column){
            .type = "date", .path = parse_column(b, KL_STR(".metadata.creationTimestamp"))};
    }
    kl_buf_putc(&json, ']');
    struct kl_str text = json.err ? (struct kl_str){NULL, 0}
                                  : kl_arena_printf(b->a, "%.*s", KL_PRI(kl_buf_str(&json)));
    kl_buf_fini(&json);
    c->columns_json = text.p;
    return text.p ? 0 : KL_ENOMEM;
}

// defaultDeprecationWarning, or what the version says itself.
static const char *warning_of(struct builder *b, const struct kl_value *version)
{
    const struct kl_value *own = kl_get(version, KL_F_deprecationWarning);
    const char *this = dup(b, kl_text(kl_get(version, KL_F_name))), *best = NULL;
    if (!kl_is_true(kl_get(version, KL_F_deprecated)))
        return NULL;
    if (own)
        return dup(b, kl_text(own));
    for (KL_EACH(v, kl_path(b->crd, KL_F_spec, KL_F_versions))) {
        const char *name = dup(b, kl_text(kl_get(v, KL_F_name)));
        if (kl_is_true(kl_get(v, KL_F_served)) && !kl_is_true(kl_get(v, KL_F_deprecated)) &&
            kl_version_compare(name, this) > 0 && (!best || kl_version_compare(name, best) > 0))
            best = name;
    }
    struct kl_str kind = kl_text_at(b->crd, KL_F_spec, KL_F_names, KL_F_kind);
    struct kl_str text =
        best ? kl_arena_printf(b->a, "%s/%s %.*s is deprecated; use %s/%s %.*s", b->group, this,
                               KL_PRI(kind), b->group, best, KL_PRI(kind))
             : kl_arena_printf(b->a, "%s/%s %.*s is deprecated", b->group, this, KL_PRI(kind));
    return text.p;
}

static int take_version(struct builder *b, const struct kl_value *version, struct kl_resource *r,
                        struct kl_error *err)
{
    struct kl_custom *c = KL_ARENA_NEW(b->a, struct kl_custom);
    if (!c)
        return KL_ENOMEM;
    r->custom = c;
    r->group = b->group;
    r->version = dup(b, kl_text(kl_get(version, KL_F_name)));
    r->plural = dup(b, kl_text(kl_get(b->names, KL_F_plural)));
    r->singular = dup(b, kl_text(kl_get(b->names, KL_F_singular)));
    r->kind = dup(b, kl_text(kl_get(b->names, KL_F_kind)));
    r->api_version = kl_arena_printf(b->a, "%s/%s", r->group, r->version).p;
    r->etcd_prefix = kl_arena_printf(b->a, "/registry/%s/%s", r->group, r->plural).p;
    r->short_names = dup_list(b, kl_get(b->names, KL_F_shortNames));
    r->categories = dup_list(b, kl_get(b->names, KL_F_categories));
    r->verbs = all_verbs;
    r->index = KL_RES_CUSTOM;
    r->namespaced = kl_str_eqz(kl_text_at(b->crd, KL_F_spec, KL_F_scope), "Namespaced");
    r->json_in_store = true;
    c->family = b->f;
    c->list_kind = dup(b, kl_text(kl_get(b->names, KL_F_listKind)));
    c->served = kl_is_true(kl_get(version, KL_F_served));
    r->enabled = c->served;
    if (!r->api_version || !r->etcd_prefix || take_fields_text(b, version, c))
        return KL_ENOMEM;
    if (b->compile) {
        int rc = kl_crd_schema_of(b->crd, kl_str(r->version), &c->schema, err);
        if (rc)
            return rc;
        r->type = kl_crd_schema_type(c->schema);
        r->list_type = kl_crd_schema_list_type(c->schema);
        c->warning = warning_of(b, version);
        if (take_fields(b, version, c) || take_columns(b, version, c))
            return KL_ENOMEM;
    }
    return take_subresources(b, version, r, c);
}

// Upstream takes a CA bundle of nothing but blanks for none.
static int take_webhook(struct builder *b, const struct kl_value *conversion)
{
    const struct kl_value *hook = kl_get(conversion, KL_F_webhook);
    const struct kl_value *config = kl_get(hook, KL_F_clientConfig);
    b->f->webhook = true;
    for (KL_EACH(v, kl_get(hook, KL_F_conversionReviewVersions))) {
        struct kl_str s = kl_text(v);
        if (!b->f->review)
            b->f->review = kl_str_eqz(s, "v1")        ? KL_REVIEW_V1
                           : kl_str_eqz(s, "v1beta1") ? KL_REVIEW_V1BETA1
                                                      : KL_REVIEW_NONE;
    }
    if (!b->compile || !config)
        return 0;
    return kl_copy(b->a, config, &b->f->client_config);
}

static int build(struct builder *b, struct kl_error *err)
{
    struct kl_custom_family *f = b->f;
    const struct kl_value *versions = kl_path(b->crd, KL_F_spec, KL_F_versions);
    f->name = dup(b, kl_meta_name(b->crd));
    f->uid = dup(b, kl_meta_uid(b->crd));
    f->generation = kl_int_at(b->crd, 0, KL_F_metadata, KL_F_generation);
    b->group = dup(b, kl_text_at(b->crd, KL_F_spec, KL_F_group));
    if (!(f->rows = kl_arena_zalloc(b->a, (kl_len(versions) + 1) * sizeof *f->rows)))
        return KL_ENOMEM;
    for (KL_EACH(v, versions)) {
        struct kl_resource *r = &f->rows[f->nrows++];
        int rc = take_version(b, v, r, err);
        if (rc)
            return rc;
        if (kl_is_true(kl_get(v, KL_F_storage)))
            f->storage = r;
    }
    if (!f->storage)
        return kl_error_set(err, KL_EINVALID, "%s: no storage version", f->name);
    const struct kl_value *conversion = kl_path(b->crd, KL_F_spec, KL_F_conversion);
    return kl_str_eqz(kl_text(kl_get(conversion, KL_F_strategy)), "Webhook")
               ? take_webhook(b, conversion)
               : 0;
}

int kl_custom_family_new(const struct kl_value *crd, bool compile, struct kl_custom_family **ret,
                         struct kl_error *err)
{
    struct kl_custom_family *f = calloc(1, sizeof *f);
    if (!f)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    atomic_init(&f->refs, 1);
    kl_arena_init(&f->arena, FAMILY_BYTES_MAX);
    struct builder b = {.f = f,
                        .a = &f->arena,
                        .crd = crd,
                        .names = kl_path(crd, KL_F_status, KL_F_acceptedNames),
                        .compile = compile};
    int rc = build(&b, err);
    if (rc) {
        kl_custom_family_unref(f);
        return rc == KL_ENOMEM ? kl_error_set(err, rc, "out of memory") : rc;
    }
    *ret = f;
    return 0;
}

struct kl_custom_family *kl_custom_family_ref(struct kl_custom_family *f)
{
    if (f)
        atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
    return f;
}

void kl_custom_family_unref(struct kl_custom_family *f)
{
    if (!f || atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint16_t i = 0; i < f->nrows; i++)
        if (f->rows[i].custom) {
            kl_crd_schema_retire(f->rows[i].custom->schema);
            kl_crd_schema_unref(f->rows[i].custom->schema);
        }
    kl_arena_fini(&f->arena);
    free(f);
}

const struct kl_resource *kl_custom_row(const struct kl_custom_family *f, struct kl_str version)
{
    for (uint16_t i = 0; i < f->nrows; i++)
        if (kl_str_eqz(version, f->rows[i].version))
            return &f->rows[i];
    return NULL;
}

// ---- tables

void kl_custom_cells(struct kl_buf *out, const struct kl_resource *res, const struct kl_value *root,
                     int64_t now_us)
{
    const struct kl_custom *c = res->custom;
    struct kl_arena a;
    struct kl_value untyped;
    kl_arena_init(&a, CELLS_ARENA_MAX);
    kl_buf_puts(out, KL_STR("\"cells\":["));
    kl_json_write_string(out, kl_meta_name(root));
    bool ok = kl_crd_untyped(&a, c->schema, root, &untyped) == 0;
    for (uint16_t i = 0; i < c->ncolumns; i++) {
        struct kl_value cell = kl_null();
        kl_buf_putc(out, ',');
        if (ok && c->columns[i].path &&
            kl_jsonpath_cell(c->columns[i].path, kl_str(c->columns[i].type), &a, &untyped, now_us,
                             &cell))
            cell = kl_null();
        kl_json_write(out, &cell);
    }
    kl_buf_putc(out, ']');
    kl_arena_fini(&a);
}

// ---- field selectors

static const struct kl_custom_path *find_field(const struct kl_resource *res, struct kl_str name)
{
    for (uint16_t i = 0; i < res->custom->nfields; i++)
        if (kl_str_eq(res->custom->fields[i].text, name))
            return &res->custom->fields[i];
    return NULL;
}

bool kl_custom_has_field(const struct kl_resource *res, struct kl_str name)
{
    return find_field(res, name) != NULL;
}

bool kl_custom_field(struct kl_arena *a, const struct kl_resource *res, struct kl_str name,
                     const struct kl_value *root, struct kl_str *ret)
{
    const struct kl_custom_path *p = find_field(res, name);
    struct kl_value untyped;
    if (!p)
        return false;
    *ret = KL_STR("");
    if (!p->elem || kl_crd_untyped(a, res->custom->schema, root, &untyped))
        return true;
    const struct kl_value *v = kl_simple_path_get(&untyped, p->elem, p->n);
    if (v && v->kind == KL_STRING)
        *ret = kl_text(v);
    else if (v && v->kind != KL_NULL && kl_jsonpath_text(a, v, ret))
        *ret = KL_STR("");
    return true;
}

// ---- scale

int kl_custom_set_replicas(struct kl_arena *a, const struct kl_resource *res,
                           struct kl_value *draft, int64_t replicas)
{
    const struct kl_custom_path *p = &res->custom->spec_replicas;
    struct kl_value *at = draft;
    if (!p->n)
        return 0;
    const struct kl_field *f = kl_type_field_named(res->type, p->elem[0]);
    size_t i = 1;
    if (f && p->n == 1)
        return kl_set(a, draft, f->sym, kl_int(replicas));
    if (f)
        at = kl_edit(a, draft, f->sym, KL_MAP);
    else { // not in the schema, which preserves it
        at = kl_edit(a, draft, kl_crd_rest_sym(), KL_MAP);
        i = 0;
    }
    for (; at && i + 1 < p->n; i++)
        at = kl_edit_map(a, at, p->elem[i], KL_MAP);
    return at ? kl_map_set_value(a, at, p->elem[p->n - 1], kl_int(replicas)) : KL_ENOMEM;
}

// ---- conversion

int kl_custom_convert(struct kl_arena *a, const struct kl_resource *from,
                      const struct kl_resource *to, const struct kl_value *in, struct kl_value *ret,
                      struct kl_error *err)
{
    struct kl_value untyped;
    if (from == to) {
        *ret = *in;
        ret->owned = 0;
        return 0;
    }
    if (kl_crd_untyped(a, from->custom->schema, in, &untyped) ||
        kl_map_set_value(a, &untyped, KL_STR("apiVersion"), kl_stringz(to->api_version)))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    return kl_typed_from_untyped(a, to->type, &untyped, NULL, ret, err);
}
