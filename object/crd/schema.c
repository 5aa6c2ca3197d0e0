// SPDX-License-Identifier: Apache-2.0
// A version's schema with its types: made once, shared by count.
#include "object/crd/crd_int.h"
#include <stdlib.h>

static const struct kl_type any_type = {.kind = KL_T_ANY};
static const struct kl_type rest_type = {.kind = KL_T_MAP, .elem = &any_type};
static const struct kl_type string_type = {.kind = KL_T_STRING};

kl_sym kl_crd_rest_sym(void)
{
    // Not a name that JSON could give: names of members never come here.
    return kl_sym_intern(KL_STR("\xff"
                                "rest"));
}

// "com.example.v1.Widget" of group example.com.
static void put_type_name(struct kl_buf *b, struct kl_str group, struct kl_str version,
                          struct kl_str kind)
{
    size_t end = group.n;
    while (end > 0) {
        size_t from = end;
        while (from > 0 && group.p[from - 1] != '.')
            from--;
        kl_buf_printf(b, "%.*s.", (int)(end - from), group.p + from);
        end = from ? from - 1 : 0;
    }
    kl_buf_printf(b, "%.*s.%.*s", KL_PRI(version), KL_PRI(kind));
}

static struct kl_str cut(const struct kl_buf *b, size_t *from)
{
    struct kl_str s = {b->p + *from, b->n - *from};
    *from = b->n;
    return s;
}

// One block for all texts. Offsets first: the buffer moves as it grows.
static int make_head(struct kl_crd_schema *s, const struct kl_crd_version *from)
{
    struct kl_str parts[] = {from->group, from->version, from->kind, from->list_kind};
    struct kl_str *to[] = {&s->group, &s->version, &s->kind, &s->list_kind};
    struct kl_buf b;
    size_t at = 0, ends[KL_COUNT(parts) + 1];
    kl_buf_init(&b, 1 << 20);
    for (size_t i = 0; i < KL_COUNT(parts); i++) {
        kl_buf_puts(&b, parts[i]);
        ends[i] = b.n;
    }
    kl_buf_printf(&b, "%.*s/%.*s", KL_PRI(from->group), KL_PRI(from->version));
    ends[KL_COUNT(parts)] = b.n;
    size_t name = b.n;
    put_type_name(&b, from->group, from->version, from->kind);
    kl_buf_putc(&b, 0);
    size_t list_name = b.n;
    put_type_name(&b, from->group, from->version, from->list_kind);
    kl_buf_putc(&b, 0);
    if (b.err) {
        kl_buf_fini(&b);
        return KL_ENOMEM;
    }
    s->head = b.p; // the buffer's memory is the schema's now
    s->bytes += b.cap;
    struct kl_buf view = b;
    for (size_t i = 0; i < KL_COUNT(parts); i++) {
        view.n = ends[i];
        *to[i] = cut(&view, &at);
    }
    view.n = ends[KL_COUNT(parts)];
    s->api_version = cut(&view, &at);
    s->type.name = b.p + name;
    s->list_type.name = b.p + list_name;
    return 0;
}

static int by_field_name(const void *x, const void *y)
{
    return kl_str_cmp(kl_sym_name(((const struct kl_field *)x)->sym),
                      kl_sym_name(((const struct kl_field *)y)->sym));
}

// Fields in the order of their names, as upstream writes the members of an untyped object; the rest
// stands last.
static int make_fields(struct kl_crd_schema *s)
{
    const struct kl_type *meta = kl_type(KL_TYPE_meta_v1_ObjectMeta);
    uint32_t nprops = s->root ? crd_nprops(&s->words, s->root) : 0;
    struct kl_field *f = calloc(nprops + 5, sizeof *f);
    bool has_status = false;
    uint32_t n = 0;
    if (!f)
        return KL_ENOMEM;
    s->fields = f;
    s->bytes += (nprops + 5) * sizeof *f;
    f[n++] = (struct kl_field){.type = &string_type, .sym = KL_F_apiVersion};
    f[n++] = (struct kl_field){.type = &string_type, .sym = KL_F_kind};
    f[n++] = (struct kl_field){.type = meta, .sym = KL_F_metadata};
    for (uint32_t i = 0; i < nprops; i++) {
        struct kl_str name = crd_prop_name(&s->words, s->root, i);
        if (crd_is_meta(name))
            continue;
        uint32_t sym = kl_sym_intern(name);
        if (!sym)
            return KL_ENOMEM;
        has_status |= sym == KL_F_status;
        f[n++] = (struct kl_field){
            .type = &any_type, .sym = sym, .flags = KL_FIELD_PTR | KL_FIELD_KEEP_NULL};
    }
    // Not among the rest: a write of the object leaves it alone, and one of its status only that.
    if (s->has_rest && !has_status)
        f[n++] = (struct kl_field){
            .type = &any_type, .sym = KL_F_status, .flags = KL_FIELD_PTR | KL_FIELD_KEEP_NULL};
    qsort(f, n, sizeof *f, by_field_name);
    if (s->has_rest) {
        uint32_t sym = kl_crd_rest_sym();
        if (!sym)
            return KL_ENOMEM;
        f[n++] = (struct kl_field){
            .type = &rest_type, .sym = sym, .flags = KL_FIELD_PTR | KL_FIELD_REST};
    }
    if (n > UINT16_MAX)
        return KL_ELIMIT;
    s->type.fields = f;
    s->type.nfields = (uint16_t)n;
    return 0;
}

static int make_types(struct kl_crd_schema *s)
{
    int r = make_fields(s);
    struct kl_field *f = r ? NULL : calloc(4, sizeof *f);
    if (!f)
        return r ? r : KL_ENOMEM;
    s->list_fields = f;
    s->bytes += 4 * sizeof *f;
    s->type.kind = s->list_type.kind = KL_T_STRUCT;
    s->type.has_type_meta = s->list_type.has_type_meta = 1;
    s->type.custom = 1;
    s->items_type = (struct kl_type){.kind = KL_T_ARRAY, .elem = &s->type};
    f[0] = (struct kl_field){.type = &string_type, .sym = KL_F_apiVersion};
    f[1] =
        (struct kl_field){.type = &s->items_type, .sym = KL_F_items, .flags = KL_FIELD_EMIT_ALWAYS};
    f[2] = (struct kl_field){.type = &string_type, .sym = KL_F_kind};
    f[3] = (struct kl_field){.type = kl_type(KL_TYPE_meta_v1_ListMeta),
                             .sym = KL_F_metadata,
                             .flags = KL_FIELD_EMIT_ALWAYS};
    s->list_type.fields = f;
    s->list_type.nfields = 4;
    return 0;
}

int crd_schema_bare(const struct kl_value *schema, struct kl_crd_schema **ret, struct kl_error *err)
{
    struct kl_crd_schema *s = calloc(1, sizeof *s);
    if (!s)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    atomic_init(&s->refs, 1);
    pthread_mutex_init(&s->lock, NULL);
    s->bytes = sizeof *s;
    size_t bytes = 0;
    int r = schema ? crd_compile(schema, &s->words, &s->root, &bytes, err) : 0;
    s->bytes += bytes;
    if (r) {
        kl_crd_schema_unref(s);
        return r;
    }
    *ret = s;
    return 0;
}

int kl_crd_schema_new(const struct kl_crd_version *from, struct kl_crd_schema **ret,
                      struct kl_error *err)
{
    struct kl_crd_schema *s = NULL;
    int r = crd_schema_bare(from->schema, &s, err);
    if (!r) {
        s->preserve = from->preserve_unknown_fields;
        s->has_rest = s->preserve || (s->root && (crd_flags(&s->words, s->root) & CRD_PRESERVE)) ||
                      (s->root && crd_has_extra(&s->words, s->root));
        r = make_head(s, from);
        r = r ? r : make_types(s);
        if (r)
            kl_error_set(err, r, "%s", kl_err_text(r));
    }
    if (r) {
        kl_crd_schema_unref(s);
        return r;
    }
    *ret = s;
    return 0;
}

int kl_crd_schema_of(const struct kl_value *crd, struct kl_str version, struct kl_crd_schema **ret,
                     struct kl_error *err)
{
    const struct kl_value *spec = kl_get(crd, KL_F_spec), *names = kl_get(spec, KL_F_names);
    for (KL_EACH(v, kl_get(spec, KL_F_versions)))
        if (kl_str_eq(kl_text(kl_get(v, KL_F_name)), version)) {
            struct kl_crd_version from = {
                .group = kl_text(kl_get(spec, KL_F_group)),
                .version = version,
                .kind = kl_text(kl_get(names, KL_F_kind)),
                .list_kind = kl_text(kl_get(names, KL_F_listKind)),
                .schema = kl_path(v, KL_F_schema, KL_F_openAPIV3Schema),
                .preserve_unknown_fields = kl_is_true(kl_get(spec, KL_F_preserveUnknownFields)),
            };
            return kl_crd_schema_new(&from, ret, err);
        }
    return kl_error_set(err, KL_ENOTFOUND, "the CustomResourceDefinition has no version \"%.*s\"",
                        KL_PRI(version));
}

struct kl_crd_schema *kl_crd_schema_ref(struct kl_crd_schema *s)
{
    if (s)
        atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void kl_crd_schema_unref(struct kl_crd_schema *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    crd_cel_free(s->cel);
    crd_patterns_free(s->patterns);
    crd_words_free(&s->words);
    pthread_mutex_destroy(&s->lock);
    free(s->fields);
    free(s->list_fields);
    free(s->head);
    free(s);
}

void kl_crd_schema_retire(struct kl_crd_schema *s)
{
    if (s)
        atomic_store_explicit(&s->retired, true, memory_order_release);
}

bool kl_crd_type_is_retired(const struct kl_type *t)
{
    const struct kl_crd_schema *s = kl_crd_of_type(t);
    return s && atomic_load_explicit(&((struct kl_crd_schema *)(uintptr_t)s)->retired,
                                     memory_order_acquire);
}

const struct kl_type *kl_crd_schema_type(const struct kl_crd_schema *s)
{
    return &s->type;
}

const struct kl_type *kl_crd_schema_list_type(const struct kl_crd_schema *s)
{
    return &s->list_type;
}

size_t kl_crd_schema_bytes(const struct kl_crd_schema *s)
{
    return s->bytes;
}

const struct kl_crd_schema *kl_crd_of_type(const struct kl_type *t)
{
    return t && t->custom ? (const struct kl_crd_schema *)(const void *)t : NULL;
}

void kl_custom_type_ref(const struct kl_type *t)
{
    kl_crd_schema_ref((struct kl_crd_schema *)(uintptr_t)kl_crd_of_type(t));
}

void kl_custom_type_unref(const struct kl_type *t)
{
    kl_crd_schema_unref((struct kl_crd_schema *)(uintptr_t)kl_crd_of_type(t));
}
