// SPDX-License-Identifier: Apache-2.0
#include "apiserver/trace/trace_int.h"
#include "base/rand.h"
#include <uv.h>

static struct kl_trace_attr **add_attr(struct kl_arena *a, struct kl_trace_attr **last,
                                       const struct kl_trace_attr *from)
{
    struct kl_trace_attr *x = KL_ARENA_NEW(a, struct kl_trace_attr);
    if (!x)
        return last;
    *x = *from;
    if (x->text.n) {
        x->text = kl_arena_dup(a, x->text);
        if (!x->text.p)
            return last;
    }
    *last = x;
    return &x->next;
}

static struct kl_span *add(struct kl_trace *t, struct kl_span *parent, struct kl_str name)
{
    struct kl_span *s =
        t->sampled && t->n < KL_TRACE_SPANS ? KL_ARENA_NEW(t->arena, struct kl_span) : NULL;
    if (!s)
        return NULL;
    *s = (struct kl_span){.trace = t,
                          .parent = parent ? parent : t->current,
                          .scope = KL_SCOPE_SPANS,
                          .kind = KL_SPAN_INTERNAL,
                          .name = name,
                          .began_ns = uv_hrtime()};
    s->last_attr = &s->attrs;
    s->last_event = &s->events;
    kl_rand_bytes(s->id, sizeof s->id);
    *t->last = s;
    t->last = &s->next;
    t->n++;
    return s;
}

struct kl_span *kl_span_begin_traced(struct kl_req *r, const char *name)
{
    struct kl_span *s = add(r->trace, NULL, kl_str(name));
    if (s)
        r->trace->current = s;
    return s;
}

struct kl_span *kl_span_beside(struct kl_req *r, struct kl_span *parent, const char *name)
{
    return r->trace ? add(r->trace, parent, kl_str(name)) : NULL;
}

struct kl_span *kl_span_client(struct kl_req *r, struct kl_span *parent, struct kl_str method,
                               struct kl_str url)
{
    if (!r->trace || !r->trace->sampled)
        return NULL;
    struct kl_span *s =
        add(r->trace, parent, kl_arena_printf(r->arena, "HTTP %.*s", KL_PRI(method)));
    if (!s)
        return NULL;
    s->scope = KL_SCOPE_HTTP;
    s->kind = KL_SPAN_CLIENT;
    kl_span_text(s, "http.request.method", method);
    kl_span_text(s, "url.full", url);
    return s;
}

void kl_trace_filter(struct kl_req *r, const char *name)
{
    struct kl_trace *t = r->trace;
    if (!t || (t->current->scope == KL_SCOPE_FILTERS && kl_str_eqz(t->current->name, name)))
        return; // it asks again after a wait
    struct kl_span *s = kl_span_begin_traced(r, name);
    if (s)
        s->scope = KL_SCOPE_FILTERS;
}

void kl_span_text_traced(struct kl_span *s, const char *key, struct kl_str value)
{
    const struct kl_trace_attr a = {.key = key, .text = value};
    if (!s->ended_ns)
        s->last_attr = add_attr(s->trace->arena, s->last_attr, &a);
}

void kl_span_number_traced(struct kl_span *s, const char *key, int64_t value)
{
    const struct kl_trace_attr a = {.key = key, .number = value, .is_number = true};
    if (!s->ended_ns)
        s->last_attr = add_attr(s->trace->arena, s->last_attr, &a);
}

static struct kl_trace_event *add_event(struct kl_span *s, const char *name)
{
    struct kl_trace_event *e =
        s && !s->ended_ns ? KL_ARENA_NEW(s->trace->arena, struct kl_trace_event) : NULL;
    if (!e)
        return NULL;
    *e = (struct kl_trace_event){.name = name, .at_ns = uv_hrtime()};
    *s->last_event = e;
    s->last_event = &e->next;
    return e;
}

void kl_span_event(struct kl_span *s, const char *name)
{
    add_event(s, name);
}

void kl_span_event_number(struct kl_span *s, const char *name, const char *key, int64_t value)
{
    const struct kl_trace_attr a = {.key = key, .number = value, .is_number = true};
    struct kl_trace_event *e = add_event(s, name);
    if (e)
        add_attr(s->trace->arena, &e->attrs, &a);
}

void kl_span_fail(struct kl_span *s, struct kl_str why)
{
    if (!s || s->ended_ns)
        return;
    s->failed = true;
    s->why = kl_arena_dup(s->trace->arena, why);
}

void kl_span_end_traced(struct kl_span *s)
{
    if (s->ended_ns)
        return;
    s->ended_ns = uv_hrtime();
    if (s->trace->current == s)
        s->trace->current = s->parent;
}

struct kl_span *kl_span_current(const struct kl_req *r)
{
    return r->trace && r->trace->sampled ? r->trace->current : NULL;
}

static struct kl_str hex(struct kl_arena *a, const unsigned char *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    char *out = kl_arena_alloc(a, 2 * n);
    for (size_t i = 0; out && i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    return (struct kl_str){out, out ? 2 * n : 0};
}

size_t kl_trace_headers(struct kl_req *r, const struct kl_span *s, struct kl_http_header *h)
{
    struct kl_trace *t = r->trace;
    size_t n = 0;
    if (!t)
        return 0;
    struct kl_str trace = hex(r->arena, t->id, sizeof t->id),
                  span = hex(r->arena, s ? s->id : t->current->id, sizeof t->current->id),
                  text = kl_arena_printf(r->arena, "00-%.*s-%.*s-%02x", KL_PRI(trace), KL_PRI(span),
                                         t->sampled);
    if (!text.p)
        return 0;
    h[n++] = (struct kl_http_header){KL_STR("traceparent"), text};
    if (t->state.n && t->has_parent)
        h[n++] = (struct kl_http_header){KL_STR("tracestate"), t->state};
    if (t->baggage.n)
        h[n++] = (struct kl_http_header){KL_STR("baggage"), t->baggage};
    return n;
}
