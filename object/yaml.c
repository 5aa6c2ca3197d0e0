// SPDX-License-Identifier: Apache-2.0
// YAML to untyped values, from libyaml's events. As go-yaml v2 and sigs.k8s.io/yaml do it: the
// first document counts, merge keys apply where they stand, a key given twice counts the last time.
#include "object/json_int.h"
#include "object/yaml_int.h"
#include "base/map.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

// While reading, a key's sym is the line of its value, and its spare bits say what it was.
enum { NOT_STRING = 1 };
enum { TAGS_MAX = 256 };

struct anchor {
    struct kl_value value;
    uint64_t steps; // values below it, aliases counted as often as they stand there
    bool open;      // not complete yet: an alias to it would contain itself
};

struct level {
    struct anchor *anchor; // of this container, or NULL
    uint64_t first_step;
    uint32_t base; // of its elements on the stack of values
    uint32_t line; // of the value being read
    bool is_map;
    bool has_key;
    bool merging; // the key is <<
};

struct reader {
    struct kl_arena *arena;
    struct kl_strict *strict;
    struct kl_error *err;
    yaml_parser_t parser;
    struct kl_map anchors;
    struct kl_buf repeats; // lines of the strict message
    struct level *levels;
    struct kl_value *values;
    size_t depth, levels_cap, top, values_cap;
    uint64_t steps, alias_steps;
};

static int fail(struct reader *r, const char *what)
{
    return kl_error_set(r->err, KL_EBADREQUEST, "yaml: %s", what);
}

static int out_of_memory(struct reader *r)
{
    return kl_error_set(r->err, KL_ENOMEM, "out of memory");
}

// As go-yaml words what its port of libyaml found.
static int fail_parser(struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return out_of_memory(r);
    size_t line = 0;
    if (p->problem_mark.line)
        line = p->problem_mark.line + (p->error == YAML_SCANNER_ERROR);
    else if (p->context_mark.line)
        line = p->context_mark.line;
    const char *problem = p->problem ? p->problem : "unknown problem parsing YAML content";
    if (line)
        return kl_error_set(r->err, KL_EBADREQUEST, "yaml: line %zu: %s", line, problem);
    return fail(r, problem);
}

static int push(struct reader *r, struct kl_value v)
{
    if (r->top == r->values_cap) {
        size_t cap = r->values_cap ? r->values_cap * 2 : 64;
        void *p = cap < UINT32_MAX ? realloc(r->values, cap * sizeof(v)) : NULL;
        if (!p)
            return out_of_memory(r);
        r->values = p;
        r->values_cap = cap;
    }
    r->values[r->top++] = v;
    return 0;
}

// ---- anchors and aliases

// Upstream's bound on expansion: the share of values that may come from aliases falls as a document
// grows.
static bool is_excessive(const struct reader *r)
{
    const double low = 400000, high = 4000000;
    if (r->alias_steps <= 100 || r->steps <= 1000)
        return false;
    double n = (double)r->steps;
    double allowed = n <= low ? 0.99 : n >= high ? 0.10 : 0.99 - 0.89 * (n - low) / (high - low);
    return (double)r->alias_steps / n > allowed;
}

static int add_anchor(struct reader *r, const yaml_char_t *name, struct anchor **ret)
{
    *ret = NULL;
    if (!name)
        return 0;
    struct anchor *anchor = KL_ARENA_NEW(r->arena, struct anchor);
    if (!anchor || kl_map_set(&r->anchors, kl_str((const char *)name), anchor, NULL))
        return out_of_memory(r);
    *ret = anchor;
    return 0;
}

static int read_alias(struct reader *r, const yaml_char_t *name, struct kl_value *ret)
{
    struct anchor *anchor = kl_map_get(&r->anchors, kl_str((const char *)name));
    if (!anchor)
        return kl_error_set(r->err, KL_EBADREQUEST, "yaml: unknown anchor '%s' referenced", name);
    if (anchor->open)
        return kl_error_set(r->err, KL_EBADREQUEST, "yaml: anchor '%s' value contains itself",
                            name);
    r->steps += anchor->steps;
    r->alias_steps += anchor->steps;
    if (is_excessive(r))
        return fail(r, "document contains excessive aliasing");
    *ret = anchor->value;
    return 0;
}

// ---- keys

static int key_text(struct reader *r, struct kl_value *key)
{
    char text[64];
    int n = 0;
    switch (key->kind) {
    case KL_STRING:
        return 0;
    case KL_INT:
        n = snprintf(text, sizeof(text), "%lld", (long long)key->i);
        break;
    case KL_BOOL:
        n = snprintf(text, sizeof(text), "%s", key->b ? "true" : "false");
        break;
    case KL_FLOAT:
        if (isfinite(key->d))
            n = (int)kl_yaml_float_text(key->d, true, text);
        else
            n = snprintf(text, sizeof(text), "%s",
                         isnan(key->d) ? ".nan"
                         : key->d > 0  ? ".inf"
                                       : "-.inf");
        break;
    case KL_NULL:
        return kl_error_set(r->err, KL_EBADREQUEST,
                            "unsupported map key of type: %%!s(<nil>), key: <nil>");
    default:
        return fail(r, "invalid map key");
    }
    struct kl_str s = kl_arena_dup(r->arena, (struct kl_str){text, (size_t)n});
    if (!s.p)
        return out_of_memory(r);
    *key = kl_string(s);
    key->spare = NOT_STRING;
    return 0;
}

static void note_repeat(void *arg, const struct kl_value *key)
{
    struct reader *r = arg;
    if (!r->strict)
        return;
    kl_buf_printf(&r->repeats, "\n  line %u: key ", (unsigned)key->sym);
    if (key->spare == NOT_STRING)
        kl_buf_puts(&r->repeats, kl_text(key));
    else
        kl_json_put_go_quoted(&r->repeats, kl_text(key));
    kl_buf_puts(&r->repeats, KL_STR(" already set in map"));
}

// ---- values

// sigs.k8s.io/yaml writes JSON and reads it back: a whole float comes out as an integer there, and
// what JSON cannot say is an error.
static int check_number(struct reader *r, struct kl_value *v)
{
    if (!isfinite(v->d))
        return kl_error_set(r->err, KL_EBADREQUEST, "json: unsupported value: %s",
                            isnan(v->d) ? "NaN"
                            : v->d > 0  ? "+Inf"
                                        : "-Inf");
    if (v->d == trunc(v->d) && fabs(v->d) < 9.2e18)
        *v = kl_int((int64_t)v->d);
    return 0;
}

static int merge_map(struct reader *r, const struct kl_value *v)
{
    for (size_t i = 0; i < 2 * (size_t)v->n; i++) {
        int rc = push(r, v->items[i]);
        if (rc)
            return rc;
    }
    return 0;
}

// The value of a merge key: its members become ours, those of earlier maps of a list last.
static int merge_value(struct reader *r, const struct kl_value *v)
{
    static const char want_map[] = "map merge requires map or sequence of maps as the value";
    if (v->kind == KL_MAP)
        return merge_map(r, v);
    if (v->kind != KL_ARRAY)
        return fail(r, want_map);
    for (size_t i = v->n; i > 0; i--) {
        if (v->items[i - 1].kind != KL_MAP)
            return fail(r, want_map);
        int rc = merge_map(r, &v->items[i - 1]);
        if (rc)
            return rc;
    }
    return 0;
}

// A complete value finds its place: as the root, an element, a key or a key's value.
static int place(struct reader *r, struct kl_value v, uint32_t line, bool is_merge_key)
{
    struct level *level = r->depth ? &r->levels[r->depth - 1] : NULL;
    bool is_key = level && level->is_map && !level->has_key;
    if (v.kind == KL_FLOAT && !is_key && check_number(r, &v))
        return KL_EBADREQUEST;
    if (!level || !level->is_map)
        return push(r, v);
    if (is_key) {
        level->has_key = true;
        level->merging = is_merge_key;
        if (is_merge_key)
            return 0;
        int rc = key_text(r, &v);
        return rc ? rc : push(r, v);
    }
    level->has_key = false;
    if (level->merging)
        return merge_value(r, &v);
    r->values[r->top - 1].sym = line & 0xffffff; // of its value, for the strict message
    return push(r, v);
}

static int read_scalar(struct reader *r, const yaml_event_t *e)
{
    struct anchor *anchor;
    int rc = add_anchor(r, e->data.scalar.anchor, &anchor);
    if (rc)
        return rc;
    const char *tag = (const char *)e->data.scalar.tag;
    bool implicit = e->data.scalar.plain_implicit != 0;
    struct kl_str text = {(const char *)e->data.scalar.value, e->data.scalar.length};
    struct kl_value v;
    text = kl_arena_dup(r->arena, text);
    if (!text.p)
        return out_of_memory(r);
    bool merge = kl_str_eqz(text, "<<") &&
                 (implicit || (tag && strcmp(tag, "tag:yaml.org,2002:merge") == 0));
    rc = kl_yaml_resolve(r->arena, tag, text, implicit, &v, r->err);
    if (rc)
        return rc;
    r->steps++;
    if (anchor) {
        anchor->value = v;
        anchor->steps = 1;
    }
    return place(r, v, (uint32_t)e->start_mark.line + 1, merge);
}

static int open_level(struct reader *r, bool is_map, const yaml_char_t *anchor_name, size_t line)
{
    struct anchor *anchor;
    int rc = add_anchor(r, anchor_name, &anchor);
    if (rc)
        return rc;
    if (r->depth == KL_JSON_DEPTH_MAX)
        return kl_error_set(r->err, KL_EBADREQUEST, "yaml: exceeded max depth of %d",
                            KL_JSON_DEPTH_MAX);
    if (r->depth == r->levels_cap) {
        size_t cap = r->levels_cap ? r->levels_cap * 2 : 32;
        void *p = realloc(r->levels, cap * sizeof(*r->levels));
        if (!p)
            return out_of_memory(r);
        r->levels = p;
        r->levels_cap = cap;
    }
    if (anchor)
        anchor->open = true;
    r->levels[r->depth++] = (struct level){.anchor = anchor,
                                           .first_step = r->steps++,
                                           .base = (uint32_t)r->top,
                                           .line = (uint32_t)line + 1,
                                           .is_map = is_map};
    return 0;
}

static int close_level(struct reader *r)
{
    struct level level = r->levels[r->depth - 1];
    struct kl_value *items = r->values + level.base;
    size_t n = r->top - level.base, width = level.is_map ? 2 : 1;
    n /= width;
    if (level.is_map && kl_map_make_unique(items, &n, note_repeat, r))
        return out_of_memory(r);
    struct kl_value v = {.kind = level.is_map ? KL_MAP : KL_ARRAY, .n = (uint32_t)n};
    if (n) {
        v.items = kl_arena_alloc(r->arena, n * width * sizeof(v));
        if (!v.items)
            return out_of_memory(r);
        memcpy(v.items, items, n * width * sizeof(v));
    }
    r->top = level.base;
    r->depth--;
    if (level.anchor) {
        level.anchor->value = v;
        level.anchor->steps = r->steps - level.first_step;
        level.anchor->open = false;
    }
    return place(r, v, level.line, false);
}

// One event. *ret_done after the first document.
static int take_event(struct reader *r, const yaml_event_t *e, bool *ret_done)
{
    struct kl_value v;
    int rc;
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        return read_scalar(r, e);
    case YAML_ALIAS_EVENT:
        r->steps++;
        rc = read_alias(r, e->data.alias.anchor, &v);
        return rc ? rc : place(r, v, (uint32_t)e->start_mark.line + 1, false);
    case YAML_MAPPING_START_EVENT:
        return open_level(r, true, e->data.mapping_start.anchor, e->start_mark.line);
    case YAML_SEQUENCE_START_EVENT:
        return open_level(r, false, e->data.sequence_start.anchor, e->start_mark.line);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        return close_level(r);
    case YAML_DOCUMENT_END_EVENT:
    case YAML_STREAM_END_EVENT:
        *ret_done = true;
        return 0;
    default:
        return 0;
    }
}

static int read_all(struct reader *r)
{
    bool done = false;
    while (!done) {
        yaml_event_t event;
        if (!yaml_parser_parse(&r->parser, &event))
            return fail_parser(r);
        int rc = take_event(r, &event, &done);
        yaml_event_delete(&event);
        if (rc)
            return rc;
    }
    return 0;
}

// libyaml compares each %TAG with all before it: hundreds of thousands of them would take minutes.
// Counted as they may stand in UTF-8 (behind a line break of YAML's) and UTF-16.
static bool has_too_many_tags(struct kl_str text)
{
    static const struct kl_str forms[] = {KL_STR_INIT("%TAG"), KL_STR_INIT("%\0T\0A\0G"),
                                          KL_STR_INIT("\0%\0T\0A\0G")};
    static const char breaks[] = "\n\r\x85\xa8\xa9\xbf"; // the last bytes of them, and of a mark
    for (size_t i = 0; i < KL_COUNT(forms); i++) {
        size_t n = 0;
        const char *p = text.p, *end = text.p + text.n;
        while (p < end && (p = memmem(p, (size_t)(end - p), forms[i].p, forms[i].n))) {
            n += i || p == text.p || memchr(breaks, p[-1], sizeof(breaks) - 1);
            if (n > TAGS_MAX)
                return true;
            p += forms[i].n;
        }
    }
    return false;
}

int kl_yaml_parse(struct kl_arena *a, struct kl_str text, struct kl_strict *strict,
                  struct kl_value *ret_untyped, struct kl_error *err)
{
    struct reader r = {.arena = a, .strict = strict, .err = err};
    if (has_too_many_tags(text))
        return fail(&r, "too many %TAG directives");
    if (!yaml_parser_initialize(&r.parser))
        return out_of_memory(&r);
    kl_map_init(&r.anchors);
    kl_buf_init(&r.repeats, 1 << 20);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text.p, text.n);
    int rc = read_all(&r);
    if (!rc && r.repeats.n && strict && strict->n < KL_STRICT_MAX) {
        struct kl_str message =
            kl_arena_printf(a, "yaml: unmarshal errors:%.*s", KL_PRI(kl_buf_str(&r.repeats)));
        if (message.p)
            strict->messages[strict->n++] = message;
        else
            rc = out_of_memory(&r);
    }
    if (!rc)
        *ret_untyped = r.top ? r.values[0] : kl_null();
    yaml_parser_delete(&r.parser);
    kl_map_fini(&r.anchors);
    kl_buf_fini(&r.repeats);
    free(r.levels);
    free(r.values);
    return rc;
}

// As apimachinery's YAML splitter: a line that begins with --- ends the document before it.
bool kl_yaml_next_document(struct kl_str *rest, struct kl_str *ret_document)
{
    while (rest->n) {
        struct kl_str document = *rest;
        const char *mark = memmem(rest->p, rest->n, "\n---", 4);
        if (mark) {
            document.n = (size_t)(mark - rest->p);
            struct kl_str after = kl_str_from(*rest, document.n + 4);
            ptrdiff_t eol = kl_str_chr(after, '\n');
            *rest = kl_str_from(after, eol < 0 ? after.n : (size_t)eol);
        } else {
            *rest = kl_str_from(*rest, rest->n);
        }
        if (kl_str_trim(document).n) {
            *ret_document = document;
            return true;
        }
    }
    return false;
}
