// SPDX-License-Identifier: Apache-2.0
// Untyped values to YAML through libyaml's emitter, in the styles that go-yaml v2 chooses.
#include "object/json_int.h"
#include "object/yaml_int.h"
#include <stdlib.h>
#include <yaml.h>

static int write_cb(void *arg, unsigned char *p, size_t n)
{
    return kl_buf_append(arg, p, n) == 0;
}

static bool emit_scalar(yaml_emitter_t *e, struct kl_str s, yaml_scalar_style_t style)
{
    yaml_event_t event;
    bool plain = style == YAML_PLAIN_SCALAR_STYLE;
    if (s.n > INT32_MAX ||
        !yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)s.p, (int)s.n, plain,
                                      !plain, style))
        return false;
    return yaml_emitter_emit(e, &event);
}

static bool emit_string(yaml_emitter_t *e, struct kl_str s)
{
    if (s.n && memchr(s.p, '\n', s.n))
        return emit_scalar(e, s, YAML_LITERAL_SCALAR_STYLE);
    if (kl_yaml_is_plain(s)) {
        // libyaml falls back to single quotes where the text cannot stand plainly.
        yaml_event_t event;
        if (s.n > INT32_MAX ||
            !yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)s.p, (int)s.n, 1,
                                          1, YAML_PLAIN_SCALAR_STYLE))
            return false;
        return yaml_emitter_emit(e, &event);
    }
    return emit_scalar(e, s, YAML_DOUBLE_QUOTED_SCALAR_STYLE);
}

static bool emit_value(yaml_emitter_t *e, const struct kl_value *v);

static bool emit_array(yaml_emitter_t *e, const struct kl_value *v)
{
    yaml_event_t event;
    yaml_sequence_style_t style = v->n ? YAML_BLOCK_SEQUENCE_STYLE : YAML_FLOW_SEQUENCE_STYLE;
    if (!yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, style) ||
        !yaml_emitter_emit(e, &event))
        return false;
    for (size_t i = 0; i < v->n; i++)
        if (!emit_value(e, &v->items[i]))
            return false;
    return yaml_sequence_end_event_initialize(&event) && yaml_emitter_emit(e, &event);
}

static bool emit_sorted(yaml_emitter_t *e, const struct kl_value *v, const struct kl_value **keys)
{
    yaml_event_t event;
    yaml_mapping_style_t style = v->n ? YAML_BLOCK_MAPPING_STYLE : YAML_FLOW_MAPPING_STYLE;
    if (!yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, style) ||
        !yaml_emitter_emit(e, &event))
        return false;
    for (size_t i = 0; i < v->n; i++)
        if (!emit_string(e, kl_text(keys[i])) || !emit_value(e, keys[i] + 1))
            return false;
    return yaml_mapping_end_event_initialize(&event) && yaml_emitter_emit(e, &event);
}

static bool is_letter(unsigned char c)
{
    return (c | 0x20) - 'a' < 26u || c >= 0x80;
}

static bool is_digit(unsigned char c)
{
    return c - '0' < 10u;
}

static int64_t read_number(struct kl_str s, size_t *at, int64_t n)
{
    for (; *at < s.n && is_digit((unsigned char)s.p[*at]); ++*at)
        n = n < INT64_MAX / 16 ? n * 10 + (s.p[*at] - '0') : n;
    return n;
}

// go-yaml v2's order of keys: letters behind all else, runs of digits as numbers.
static int cmp_key(const void *x, const void *y)
{
    struct kl_str a = kl_text(*(const struct kl_value *const *)x);
    struct kl_str b = kl_text(*(const struct kl_value *const *)y);
    size_t i = 0, ai, bi;
    while (i < a.n && i < b.n && a.p[i] == b.p[i])
        i++;
    if (i == a.n || i == b.n)
        return (a.n > b.n) - (a.n < b.n);
    unsigned char ca = (unsigned char)a.p[i], cb = (unsigned char)b.p[i];
    bool la = is_letter(ca), lb = is_letter(cb);
    if (la && lb)
        return ca < cb ? -1 : 1;
    if (la || lb)
        return lb ? -1 : 1;
    int64_t zeros = 0; // a zero behind other digits counts
    for (size_t j = i; (ca == '0' || cb == '0') && j && is_digit((unsigned char)a.p[j - 1]); j--)
        zeros |= a.p[j - 1] != '0';
    ai = bi = i;
    int64_t na = read_number(a, &ai, zeros), nb = read_number(b, &bi, zeros);
    if (na != nb)
        return na < nb ? -1 : 1;
    if (ai != bi)
        return ai < bi ? -1 : 1;
    return ca < cb ? -1 : 1;
}

static bool emit_map(yaml_emitter_t *e, const struct kl_value *v)
{
    const struct kl_value **keys = malloc((v->n ? v->n : 1) * sizeof(struct kl_value *));
    if (!keys)
        return false;
    for (size_t i = 0; i < v->n; i++)
        keys[i] = &v->items[2 * i];
    qsort(keys, v->n, sizeof(*keys), cmp_key);
    bool ok = emit_sorted(e, v, keys);
    free(keys);
    return ok;
}

static bool emit_value(yaml_emitter_t *e, const struct kl_value *v)
{
    switch (v->kind) {
    case KL_ARRAY:
        return emit_array(e, v);
    case KL_MAP:
        return emit_map(e, v);
    case KL_STRING:
        return emit_string(e, kl_text(v));
    default:
        break;
    }
    if (v->kind == KL_FLOAT) {
        char number[64];
        size_t n = kl_yaml_float_text(v->d, false, number);
        return emit_scalar(e, (struct kl_str){number, n}, YAML_PLAIN_SCALAR_STYLE);
    }
    struct kl_buf text; // numbers, booleans and null read as in JSON
    kl_buf_init(&text, 1 << 20);
    kl_json_write(&text, v);
    bool ok = !text.err && emit_scalar(e, kl_buf_str(&text), YAML_PLAIN_SCALAR_STYLE);
    kl_buf_fini(&text);
    return ok;
}

static bool emit_document(yaml_emitter_t *e, const struct kl_value *v)
{
    yaml_event_t event;
    return yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING) &&
           yaml_emitter_emit(e, &event) &&
           yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1) &&
           yaml_emitter_emit(e, &event) && emit_value(e, v) &&
           yaml_document_end_event_initialize(&event, 1) && yaml_emitter_emit(e, &event) &&
           yaml_stream_end_event_initialize(&event) && yaml_emitter_emit(e, &event);
}

int kl_yaml_write(struct kl_buf *out, const struct kl_value *untyped)
{
    static const struct kl_value null = {.kind = KL_NULL};
    yaml_emitter_t e;
    if (!yaml_emitter_initialize(&e))
        return KL_ENOMEM;
    yaml_emitter_set_output(&e, write_cb, out);
    yaml_emitter_set_unicode(&e, 1);
    bool ok = emit_document(&e, untyped ? untyped : &null);
    yaml_emitter_delete(&e);
    return ok ? 0 : out->err ? out->err : KL_ENOMEM;
}
