// SPDX-License-Identifier: Apache-2.0
// Documents of aggregated servers within version 2's, as kube-openapi's aggregator merges them:
// paths that are there stay; a definition of the same name and meaning is there once, with the
// kinds of both; one of another meaning gets a name of its own, NAME_v2 and so on, likewise
// parameters. What came earlier keeps its name: this server's own, then by priority.
#include "apiserver/aggregate/aggregate.h"
#include "apiserver/aggregate/document.h"
#include "apiserver/openapi/openapi_int.h"
#include <stdio.h>
#include <stdlib.h>

enum { MAX_NAMES = 1000, SCRATCH_MAX = 64 << 20, IN_DEST = 0x8000 };

// What becomes of a definition or parameter: 0 stays as it is; N is written as NAME_vN; with
// IN_DEST it is there already, under that name.
struct source {
    struct kl_remote_doc *doc; // referenced
    uint16_t *fate[KL_REMOTE_NPARTS];
    struct kl_remote_name
        *renamed[KL_REMOTE_NPARTS]; // sums with the new names; NULL: the document's
    bool renames, left_out;
};

struct kl_oa_merge {
    struct source *src;
    size_t n;
    // The place of the walk.
    enum kl_remote_part part;
    size_t at;
    struct kl_packed_reader *reader;
};

struct kl_oa_merge *kl_oa_merge_new(struct kl_req *r)
{
    struct kl_remote_doc **docs;
    size_t n = kl_aggregate_documents(r, &docs);
    return kl_oa_merge_of(docs, n);
}

struct kl_oa_merge *kl_oa_merge_of(struct kl_remote_doc *const *docs, size_t n)
{
    struct kl_oa_merge *m = calloc(1, sizeof *m);
    struct source *src = m ? calloc(n + 1, sizeof *src) : NULL;
    if (!src) {
        for (size_t i = 0; i < n; i++)
            kl_remote_doc_unref(docs[i]);
        free(m);
        return NULL;
    }
    m->src = src;
    m->n = n;
    for (size_t i = 0; i < n; i++)
        src[i].doc = docs[i];
    return m;
}

void kl_oa_merge_free(struct kl_oa_merge *m)
{
    if (!m)
        return;
    kl_packed_reader_free(m->reader);
    for (size_t i = 0; i < m->n; i++) {
        kl_remote_doc_unref(m->src[i].doc);
        for (int p = 0; p < KL_REMOTE_NPARTS; p++) {
            free(m->src[i].fate[p]);
            free(m->src[i].renamed[p]);
        }
    }
    free(m->src);
    free(m);
}

uint64_t kl_oa_merge_stamp(const struct kl_oa_merge *m)
{
    uint64_t stamp = 0;
    for (size_t i = 0; i < m->n; i++)
        stamp = stamp * 1099511628211u + m->src[i].doc->stamp; // the order matters
    return stamp;
}

// ---- the plan

struct plan {
    struct kl_oa_merge *m;
    const struct kl_oa_own *own;
    struct kl_arena *arena;
    bool failed;
};

static bool sum_of_member(struct plan *p, const struct kl_buf *text, unsigned char *sum)
{
    struct kl_buf whole;
    struct kl_value v;
    struct kl_error err;
    kl_buf_init(&whole, SCRATCH_MAX);
    kl_buf_printf(&whole, "{%.*s}", KL_PRI(kl_buf_str(text)));
    bool ok = !text->err && !whole.err &&
              !kl_json_parse(p->arena, kl_buf_str(&whole), NULL, &v, &err) && kl_is(&v, KL_MAP) &&
              v.n == 1 && kl_remote_sum(&v.items[1], sum);
    kl_buf_fini(&whole);
    p->failed |= !ok;
    return ok;
}

static bool is_custom_name(struct plan *p, const struct kl_openapi_custom *c, bool list,
                           struct kl_str name)
{
    const char *kind = list && c->list_kind ? c->list_kind : c->res->kind;
    size_t n = strlen(kind);
    if (list && !c->list_kind) {
        struct kl_str with = kl_arena_printf(p->arena, "%sList", kind);
        kind = with.p ? with.p : "";
        n = with.n;
    }
    // Most names are told apart by their end.
    return name.n > n && !memcmp(name.p + name.n - n, kind, n) && name.p[name.n - n - 1] == '.' &&
           kl_str_eq(name, kl_oa_custom_name(p->arena, c->res->group, c->res->version, kind));
}

// What this server itself has under a name: false: nothing.
static bool own_sum(struct plan *p, enum kl_remote_part part, struct kl_str name,
                    unsigned char *sum)
{
    const struct kl_oa_own *own = p->own;
    const struct kl_type *type = part == KL_REMOTE_DEFINITIONS ? kl_type_by_name(name) : NULL;
    struct kl_oa_types scratch; // what it refers to is asked for by whoever writes it
    struct kl_str none = {NULL, 0};
    struct kl_buf text;
    bool found = false;
    kl_buf_init(&text, SCRATCH_MAX);
    if (part == KL_REMOTE_PARAMETERS) {
        found = kl_oa_put_shared_param(&text, name);
    } else if (kl_oa_types_init(&scratch, own->srv)) {
        p->failed = true;
    } else {
        if (type && type->in_openapi && own->types) {
            kl_oa_put_schema(&text, &scratch, own->texts, type, true, none, none);
            kl_oa_want(own->types, type);
            found = true;
        }
        for (size_t i = 0; !found && i < 2 * own->ncustom; i++)
            if (is_custom_name(p, &own->custom[i / 2], i % 2, name)) {
                p->failed |= kl_oa_put_custom(&text, &scratch, p->arena, own->src,
                                              &own->custom[i / 2], i % 2, true) != 0;
                found = true;
            }
        kl_oa_types_fini(&scratch);
    }
    found = found && sum_of_member(p, &text, sum);
    kl_buf_fini(&text);
    return found;
}

// NAME_vN: the name before it and N; N is 0 of other names.
static struct kl_str split_name(struct kl_str name, unsigned *ret_number)
{
    size_t i = name.n;
    unsigned number = 0, scale = 1;
    *ret_number = 0;
    while (i && name.p[i - 1] >= '0' && name.p[i - 1] <= '9' && scale < 10000) {
        number += scale * (unsigned)(name.p[--i] - '0');
        scale *= 10;
    }
    if (i < 3 || i == name.n || name.p[i - 1] != 'v' || name.p[i - 2] != '_')
        return name;
    *ret_number = number;
    return (struct kl_str){name.p, i - 2};
}

// What a source has, with its names as they are and its sums as they become.
static const struct kl_remote_name *entry(const struct source *s, enum kl_remote_part part,
                                          size_t at)
{
    return s->renamed[part] ? &s->renamed[part][at] : &s->doc->names[part][at];
}

static const struct kl_remote_name *written_as(const struct source *s, enum kl_remote_part part,
                                               struct kl_str name, unsigned fate)
{
    const struct kl_remote_name *x = kl_remote_find(s->doc, part, name);
    size_t at = x ? (size_t)(x - s->doc->names[part]) : 0;
    return x && s->fate[part] && s->fate[part][at] == fate ? entry(s, part, at) : NULL;
}

// What stands under a name before source number `until`; false: nothing.
static bool dest_sum(struct plan *p, enum kl_remote_part part, struct kl_str name, size_t until,
                     unsigned char *sum)
{
    unsigned number;
    struct kl_str base = split_name(name, &number);
    for (size_t i = 0; i < until; i++) {
        const struct source *s = &p->m->src[i];
        const struct kl_remote_name *x = s->left_out ? NULL : written_as(s, part, name, 0);
        if (!x && !s->left_out && number > 1)
            x = written_as(s, part, base, number);
        if (x) {
            memcpy(sum, x->sum, KL_REMOTE_SUM);
            return true;
        }
    }
    return own_sum(p, part, name, sum);
}

static uint16_t fate_of(struct plan *p, enum kl_remote_part part, size_t at,
                        const struct kl_remote_name *x)
{
    const struct kl_remote_doc *doc = p->m->src[at].doc;
    unsigned char sum[KL_REMOTE_SUM];
    bool found = dest_sum(p, part, x->name, at, sum);
    if (!found)
        return 0;
    if (!memcmp(sum, x->sum, sizeof sum))
        return IN_DEST;
    // The first free name ends the search for one that means the same.
    bool free_one = false;
    for (uint16_t n = 2; n < MAX_NAMES; n++) {
        struct kl_str name = kl_arena_printf(p->arena, "%.*s_v%u", KL_PRI(x->name), n);
        if (!name.p)
            break;
        found = dest_sum(p, part, name, at, sum);
        if (found && !free_one && !memcmp(sum, x->sum, sizeof sum))
            return IN_DEST | n;
        free_one |= !found;
        if (!found && !kl_remote_find(doc, part, name))
            return n;
    }
    p->failed = true;
    return 0;
}

// Paths of a version that this server has itself, or that is a custom resource's, are there.
static bool is_served_here(const struct kl_oa_own *own, const struct kl_remote_doc *d)
{
    for (uint16_t i = 0; i < kl_ngroups; i++) {
        const struct kl_group *g = &kl_groups[i];
        const char *has;
        for (size_t k = 0; !strcmp(g->name, d->group) && (has = kl_oa_version(own->srv, g, k)); k++)
            if (!strcmp(has, d->version))
                return true;
    }
    for (size_t i = 0; i < own->ncustom; i++)
        if (!strcmp(own->custom[i].res->group, d->group) &&
            !strcmp(own->custom[i].res->version, d->version))
            return true;
    return false;
}

static void put_renamed(struct kl_buf *b, const struct source *s, const struct kl_value *v);

// The sums of a part whose references get new names.
static int sum_renamed(struct plan *p, struct source *s, enum kl_remote_part part)
{
    size_t n = s->doc->n[part], at = 0;
    struct kl_str name, value;
    struct kl_buf text;
    int rc;
    struct kl_packed_reader *r = kl_packed_reader_new(s->doc->packed[part]);
    s->renamed[part] = calloc(n + 1, sizeof *s->renamed[part]);
    if (!r || !s->renamed[part]) {
        kl_packed_reader_free(r);
        return KL_ENOMEM;
    }
    kl_buf_init(&text, SCRATCH_MAX);
    while ((rc = kl_packed_reader_next(r, &name, &value)) > 0 && at < n) {
        struct kl_remote_name *x = &s->renamed[part][at];
        struct kl_value v;
        struct kl_error err;
        *x = s->doc->names[part][at++]; // they are written in this order
        kl_buf_clear(&text);
        if ((rc = kl_json_parse(p->arena, value, NULL, &v, &err)))
            break;
        put_renamed(&text, s, &v);
        if (text.err || (rc = kl_json_parse(p->arena, kl_buf_str(&text), NULL, &v, &err)))
            break;
        if (!kl_remote_sum(&v, x->sum))
            rc = KL_ENOMEM;
        kl_arena_reset(p->arena);
        if (rc < 0)
            break;
    }
    rc = rc < 0 ? rc : text.err;
    kl_buf_fini(&text);
    kl_packed_reader_free(r);
    return rc;
}

static int plan_part(struct plan *p, size_t at, enum kl_remote_part part)
{
    struct source *s = &p->m->src[at];
    uint16_t *fate = calloc(s->doc->n[part] + 1, sizeof *fate);
    if (!fate)
        return KL_ENOMEM;
    for (size_t k = 0; k < s->doc->n[part] && !p->failed; k++) {
        fate[k] = fate_of(p, part, at, entry(s, part, k));
        s->renames |= (fate[k] & ~IN_DEST) != 0;
        kl_arena_reset(p->arena);
    }
    s->fate[part] = fate;
    return p->failed ? KL_ENOMEM : 0;
}

static int plan_source(struct plan *p, size_t at)
{
    struct source *s = &p->m->src[at];
    int rc = plan_part(p, at, KL_REMOTE_DEFINITIONS);
    for (int part = KL_REMOTE_DEFINITIONS; s->renames && !rc && part < KL_REMOTE_NPARTS; part++)
        rc = sum_renamed(p, s, part);
    return rc ? rc : plan_part(p, at, KL_REMOTE_PARAMETERS);
}

int kl_oa_merge_plan(struct kl_oa_merge *m, const struct kl_oa_own *own)
{
    struct kl_arena arena;
    struct plan p = {.m = m, .own = own, .arena = &arena};
    kl_arena_init(&arena, SCRATCH_MAX);
    for (size_t i = 0; i < m->n && !p.failed; i++) {
        struct source *s = &m->src[i];
        s->left_out = is_served_here(own, s->doc);
        p.failed |= !s->left_out && plan_source(&p, i);
    }
    kl_arena_fini(&arena);
    return p.failed ? KL_ENOMEM : 0;
}

// ---- writing

static unsigned number_of(const struct source *s, enum kl_remote_part part, struct kl_str name)
{
    const struct kl_remote_name *x = s->fate[part] ? kl_remote_find(s->doc, part, name) : NULL;
    return x ? s->fate[part][x - s->doc->names[part]] & ~IN_DEST : 0;
}

static void put_ref(struct kl_buf *b, const struct source *s, struct kl_str ref)
{
    static const struct {
        const char *prefix;
        enum kl_remote_part part;
    } places[] = {{"#/definitions/", KL_REMOTE_DEFINITIONS},
                  {"#/parameters/", KL_REMOTE_PARAMETERS}};
    char suffix[16] = "";
    for (size_t i = 0; i < KL_COUNT(places); i++)
        if (kl_str_starts(ref, kl_str(places[i].prefix))) {
            unsigned n = number_of(s, places[i].part, kl_str_from(ref, strlen(places[i].prefix)));
            if (n)
                snprintf(suffix, sizeof suffix, "_v%u", n);
        }
    kl_json_write_string(b, ref);
    if (*suffix) { // before the closing quote
        b->n -= b->n > 0;
        kl_buf_printf(b, "%s\"", suffix);
    }
}

// A value with the new names in its references.
static void put_renamed(struct kl_buf *b, const struct source *s, const struct kl_value *v)
{
    bool first = true;
    if (kl_is(v, KL_ARRAY)) {
        kl_buf_putc(b, '[');
        for (KL_EACH(x, v)) {
            kl_buf_puts(b, first ? KL_STR("") : KL_STR(","));
            first = false;
            put_renamed(b, s, x);
        }
        kl_buf_putc(b, ']');
    } else if (kl_is(v, KL_MAP)) {
        kl_buf_putc(b, '{');
        for (KL_MAP_EACH_KEY(k, v)) {
            kl_buf_puts(b, first ? KL_STR("") : KL_STR(","));
            first = false;
            kl_json_write_string(b, kl_text(k));
            kl_buf_putc(b, ':');
            if (kl_str_eqz(kl_text(k), "$ref") && kl_is(&k[1], KL_STRING))
                put_ref(b, s, kl_text(&k[1]));
            else
                put_renamed(b, s, &k[1]);
        }
        kl_buf_putc(b, '}');
    } else {
        kl_json_write(b, v);
    }
}

static int put_member(struct kl_buf *out, struct kl_arena *a, const struct source *s,
                      struct kl_str name, unsigned number, struct kl_str value)
{
    struct kl_value v;
    struct kl_error err;
    kl_json_write_string(out, name);
    if (number) {
        out->n -= out->n > 0;
        kl_buf_printf(out, "_v%u\"", number);
    }
    kl_buf_putc(out, ':');
    if (!s->renames)
        return kl_buf_puts(out, value);
    int rc = kl_json_parse(a, value, NULL, &v, &err);
    if (!rc)
        put_renamed(out, s, &v);
    return rc ? rc : out->err;
}

int kl_oa_merge_next(struct kl_oa_merge *m, enum kl_remote_part part, struct kl_arena *a,
                     struct kl_buf *out, struct kl_str *ret_name)
{
    if (part != m->part) {
        m->part = part;
        m->at = 0;
    }
    for (; m->at < m->n; m->at++) {
        const struct source *s = &m->src[m->at];
        struct kl_str name, value;
        int rc = 0;
        if (!s->left_out && !m->reader && !(m->reader = kl_packed_reader_new(s->doc->packed[part])))
            return KL_ENOMEM;
        while (!s->left_out && (rc = kl_packed_reader_next(m->reader, &name, &value)) > 0) {
            const struct kl_remote_name *x =
                part == KL_REMOTE_PATHS ? NULL : kl_remote_find(s->doc, part, name);
            unsigned fate = x ? s->fate[part][x - s->doc->names[part]] : 0;
            if (fate & IN_DEST)
                continue;
            rc = put_member(out, a, s, name, fate, value);
            *ret_name =
                fate ? kl_arena_printf(a, "%.*s_v%u", KL_PRI(name), fate) : kl_arena_dup(a, name);
            return rc ? rc : 1;
        }
        kl_packed_reader_free(m->reader);
        m->reader = NULL;
        if (rc < 0)
            return rc;
    }
    return 0;
}

// ---- kinds of a definition that several servers have

struct kind {
    const struct kl_value *v;
    struct kl_str key; // "group/version.kind"
};

static int by_kind(const void *a, const void *b)
{
    return kl_str_cmp(((const struct kind *)a)->key, ((const struct kind *)b)->key);
}

static bool add_kind(struct kl_arena *a, struct kind *kinds, size_t *n, const struct kl_value *v)
{
    struct kl_str key =
        kl_arena_printf(a, "%.*s/%.*s.%.*s", KL_PRI(kl_text(kl_map_value(v, KL_STR("group")))),
                        KL_PRI(kl_text(kl_map_value(v, KL_STR("version")))),
                        KL_PRI(kl_text(kl_map_value(v, KL_STR("kind")))));
    for (size_t i = 0; i < *n; i++)
        if (kl_str_eq(kinds[i].key, key))
            return false;
    kinds[(*n)++] = (struct kind){v, key};
    return true;
}

static bool merge_kinds(struct kl_arena *a, struct kl_value *list, struct kl_str more)
{
    struct kl_value other, out = kl_new_array();
    struct kl_error err;
    size_t n = 0;
    bool changed = false;
    if (kl_json_parse(a, more, NULL, &other, &err))
        return false;
    struct kind *kinds = kl_arena_zalloc(a, (kl_len(list) + kl_len(&other) + 1) * sizeof *kinds);
    if (!kinds)
        return false;
    if (!kl_len(list)) { // as they are
        *list = other;
        return kl_len(&other) > 0;
    }
    for (KL_EACH(x, list))
        add_kind(a, kinds, &n, x);
    for (KL_EACH(x, &other))
        changed |= add_kind(a, kinds, &n, x);
    if (!changed)
        return false;
    qsort(kinds, n, sizeof *kinds, by_kind);
    for (size_t i = 0; i < n; i++)
        kl_append(a, &out, *kinds[i].v);
    *list = out;
    return true;
}

int kl_oa_merge_kinds(struct kl_oa_merge *m, struct kl_arena *a, struct kl_str name,
                      struct kl_buf *text)
{
    static const char member[] = "x-kubernetes-group-version-kind";
    unsigned number;
    struct kl_str base = split_name(name, &number);
    struct kl_value root = {0}, list = kl_new_array();
    bool parsed = false, changed = false;
    struct kl_error err;
    for (size_t i = 0; i < m->n; i++) {
        const struct source *s = &m->src[i];
        const struct kl_remote_name *x =
            s->left_out ? NULL : written_as(s, KL_REMOTE_DEFINITIONS, name, IN_DEST);
        if (!x && !s->left_out && number > 1)
            x = written_as(s, KL_REMOTE_DEFINITIONS, base, IN_DEST | number);
        if (!x || !x->kinds.n)
            continue;
        if (!parsed) {
            struct kl_str whole = kl_arena_printf(a, "{%.*s}", KL_PRI(kl_buf_str(text)));
            if (!whole.p || kl_json_parse(a, whole, NULL, &root, &err) || root.n != 1)
                return KL_ENOMEM;
            const struct kl_value *had = kl_map_value(&root.items[1], kl_str(member));
            if (had)
                list = *had;
            parsed = true;
        }
        changed |= merge_kinds(a, &list, x->kinds);
    }
    if (!changed)
        return 0;
    if (kl_map_set_value(a, &root.items[1], kl_str(member), list))
        return KL_ENOMEM;
    kl_buf_clear(text);
    kl_json_write_string(text, kl_text(&root.items[0]));
    kl_buf_putc(text, ':');
    kl_json_write(text, &root.items[1]);
    return text->err;
}
