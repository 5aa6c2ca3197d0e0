// SPDX-License-Identifier: Apache-2.0
// Spans as opentelemetry.proto.trace.v1 writes them. The messages are few and flat: they are
// written by hand, each part's length worked out before it.
#include "apiserver/trace/trace_int.h"
#include "net/proto.h"

#define MAX_REQUEST ((size_t)64 << 20)

// SpanFlags beside the W3C's own.
enum { SAMPLED = 1, KNOWS_REMOTE = 0x100, PARENT_IS_REMOTE = 0x200, STATUS_ERROR = 2 };

static const char *const scope_names[KL_SCOPES] = {
    [KL_SCOPE_HTTP] = "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp",
    [KL_SCOPE_SPANS] = "k8s.io/component-base/tracing",
    [KL_SCOPE_FILTERS] = "k8s.op/apiserver/pkg/endpoints/filterlatency", // upstream spells it so
};

static void put_varint(struct kl_buf *b, uint64_t v)
{
    char tmp[10];
    kl_buf_append(b, tmp, (size_t)(kl_proto_put_varint(tmp, v) - tmp));
}

static void put_head(struct kl_buf *b, unsigned field, size_t n)
{
    put_varint(b, field << 3 | 2);
    put_varint(b, n);
}

static void put_bytes(struct kl_buf *b, unsigned field, const void *p, size_t n)
{
    put_head(b, field, n);
    kl_buf_append(b, p, n);
}

static void put_string(struct kl_buf *b, unsigned field, struct kl_str s)
{
    if (s.n)
        put_bytes(b, field, s.p, s.n);
}

static void put_number(struct kl_buf *b, unsigned field, uint64_t v)
{
    put_varint(b, field << 3);
    put_varint(b, v);
}

static void put_fixed(struct kl_buf *b, unsigned field, uint64_t v, size_t bytes)
{
    char tmp[8];
    put_varint(b, field << 3 | (bytes == 8 ? 1 : 5));
    for (size_t i = 0; i < bytes; i++)
        tmp[i] = (char)(v >> (8 * i));
    kl_buf_append(b, tmp, bytes);
}

static size_t head_size(size_t n) // of a message or string of n bytes, with its tag below 16
{
    return kl_proto_message_size(n);
}

// KeyValue {1: key, 2: AnyValue {1: string | 3: int}}
static void put_attr(struct kl_buf *b, unsigned field, const struct kl_trace_attr *a)
{
    size_t key_n = strlen(a->key);
    size_t value_n =
        a->is_number ? 1 + kl_proto_varint_size((uint64_t)a->number) : head_size(a->text.n);
    put_head(b, field, head_size(key_n) + head_size(value_n));
    put_bytes(b, 1, a->key, key_n);
    put_head(b, 2, value_n);
    if (a->is_number)
        put_number(b, 3, (uint64_t)a->number);
    else
        put_bytes(b, 1, a->text.p, a->text.n);
}

static void put_attrs(struct kl_buf *b, unsigned field, const struct kl_trace_attr *a)
{
    for (; a; a = a->next)
        put_attr(b, field, a);
}

// Appends as a message what `part` holds, and empties it.
static void put_part(struct kl_buf *b, unsigned field, struct kl_buf *part)
{
    if (part->err && !b->err)
        b->err = part->err;
    put_bytes(b, field, part->p, part->n);
    kl_buf_clear(part);
}

static uint64_t wall(const struct kl_trace *t, uint64_t mono_ns)
{
    return (uint64_t)((int64_t)mono_ns + t->wall_minus_mono_ns);
}

static void put_events(struct kl_buf *b, const struct kl_span *s)
{
    struct kl_buf part;
    kl_buf_init(&part, MAX_REQUEST);
    for (const struct kl_trace_event *e = s->events; e; e = e->next) {
        put_fixed(&part, 1, wall(s->trace, e->at_ns), 8);
        put_string(&part, 2, kl_str(e->name));
        put_attrs(&part, 3, e->attrs);
        put_part(b, 11, &part);
    }
    kl_buf_fini(&part);
}

static void put_link(struct kl_buf *b, const struct kl_trace *t)
{
    struct kl_buf part;
    kl_buf_init(&part, MAX_REQUEST);
    put_bytes(&part, 1, t->remote_trace, sizeof t->remote_trace);
    put_bytes(&part, 2, t->remote_span, sizeof t->remote_span);
    put_string(&part, 3, t->state);
    put_fixed(&part, 6, (t->remote_sampled ? SAMPLED : 0) | KNOWS_REMOTE | PARENT_IS_REMOTE, 4);
    put_part(b, 13, &part);
    kl_buf_fini(&part);
}

static void put_status(struct kl_buf *b, const struct kl_span *s)
{
    struct kl_buf part;
    kl_buf_init(&part, MAX_REQUEST);
    put_string(&part, 2, s->why);
    if (s->failed)
        put_number(&part, 3, STATUS_ERROR);
    put_part(b, 15, &part);
    kl_buf_fini(&part);
}

void kl_span_encode(struct kl_buf *b, const struct kl_span *s)
{
    const struct kl_trace *t = s->trace;
    bool remote = !s->parent && t->has_parent;
    const unsigned char *parent = s->parent ? s->parent->id : remote ? t->remote_span : NULL;
    put_bytes(b, 1, t->id, sizeof t->id);
    put_bytes(b, 2, s->id, sizeof s->id);
    if (t->has_parent)
        put_string(b, 3, t->state);
    if (parent)
        put_bytes(b, 4, parent, sizeof s->id);
    put_string(b, 5, s->name);
    put_number(b, 6, s->kind);
    put_fixed(b, 7, wall(t, s->began_ns), 8);
    put_fixed(b, 8, wall(t, s->ended_ns), 8);
    put_attrs(b, 9, s->attrs);
    put_events(b, s);
    if (!s->parent && t->has_link)
        put_link(b, t);
    put_status(b, s);
    put_fixed(b, 16, SAMPLED | KNOWS_REMOTE | (remote ? PARENT_IS_REMOTE : 0), 4);
}

// ScopeSpans {1: InstrumentationScope {1: name}, 2: spans}
static void put_scope(struct kl_buf *b, enum kl_trace_scope scope, struct kl_bytes *const *spans,
                      const unsigned char *scopes, size_t n)
{
    struct kl_str name = kl_str(scope_names[scope]);
    size_t size = head_size(head_size(name.n)), found = 0;
    for (size_t i = 0; i < n; i++)
        if (scopes[i] == scope) {
            size += head_size(spans[i]->n);
            found++;
        }
    if (!found)
        return;
    put_head(b, 2, size);
    put_head(b, 1, head_size(name.n));
    put_string(b, 1, name);
    for (size_t i = 0; i < n; i++)
        if (scopes[i] == scope)
            put_bytes(b, 2, spans[i]->p, spans[i]->n);
}

struct kl_bytes *kl_trace_request(const char *instance, struct kl_bytes *const *spans,
                                  const unsigned char *scopes, size_t n)
{
    const struct kl_trace_attr id = {.key = "service.instance.id", .text = kl_str(instance)};
    const struct kl_trace_attr service = {.key = "service.name", .text = KL_STR_INIT("apiserver")};
    struct kl_buf all, part;
    kl_buf_init(&all, MAX_REQUEST);
    kl_buf_init(&part, MAX_REQUEST);
    put_attr(&part, 1, &id);
    put_attr(&part, 1, &service);
    put_part(&all, 1, &part); // ResourceSpans {1: Resource {1: attributes}, 2: ScopeSpans}
    for (int k = 0; k < KL_SCOPES; k++)
        put_scope(&all, (enum kl_trace_scope)k, spans, scopes, n);
    put_part(&part, 1, &all);
    struct kl_bytes *out = part.err || all.err ? NULL : kl_bytes_from_buf(&part);
    kl_buf_fini(&part);
    kl_buf_fini(&all);
    return out;
}
