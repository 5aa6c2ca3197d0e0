// SPDX-License-Identifier: Apache-2.0
// A request's trace: where it begins, what its own span says (otelhttp's attributes, the name of
// apiserver/pkg/endpoints/filters/traces.go) and the handler's fields.
#include "apiserver/audit/audit.h"
#include "apiserver/info.h"
#include "apiserver/series.h"
#include "apiserver/server_int.h"
#include "apiserver/trace/trace_int.h"
#include "base/clock.h"
#include "base/rand.h"

enum { MAX_STATE = 512, MAX_BAGGAGE = 8192, MAX_AGENT = 1024 };

static bool may_lead(const struct kl_user *u)
{
    for (size_t i = 0; i < u->ngroups; i++)
        if (kl_str_eqz(u->groups[i], "system:masters") ||
            kl_str_eqz(u->groups[i], "system:monitoring"))
            return true;
    return false;
}

static struct kl_str header_up_to(struct kl_http_req *hr, struct kl_str name, size_t max)
{
    struct kl_str v = kl_http_header(hr, name);
    return v.n <= max ? v : KL_STR("");
}

// ParentBased(TraceIDRatioBased)
static bool is_sampled(const struct kl_trace *t)
{
    uint64_t x = 0;
    if (t->has_parent)
        return t->remote_sampled;
    for (int i = 8; i < 16; i++)
        x = x << 8 | t->id[i];
    return t->tracer->config.all || x >> 1 < t->tracer->config.below;
}

static struct kl_str span_name(struct kl_req *r, struct kl_str method)
{
    const struct kl_req_info *i = &r->info;
    if (!i->is_resource)
        return method;
    return kl_arena_printf(r->arena, "%.*s /%.*s%s%.*s/%.*s%s/%.*s%s%s%.*s", KL_PRI(method),
                           KL_PRI(i->prefix), i->group.n ? "/" : "", KL_PRI(i->group),
                           KL_PRI(i->version), i->ns.n ? "/namespaces/{:namespace}" : "",
                           KL_PRI(i->plural), i->name.n ? "/{:name}" : "", i->sub.n ? "/" : "",
                           KL_PRI(i->sub));
}

// "HOST[:PORT]", IPv6 in brackets. *ret_port -1: none.
static struct kl_str host_of(struct kl_str authority, int64_t *ret_port)
{
    const char *colon = memrchr(authority.p, ':', authority.n);
    const char *bracket = memrchr(authority.p, ']', authority.n);
    struct kl_str host = authority;
    *ret_port = -1;
    if (colon && (!bracket || colon > bracket)) {
        host.n = (size_t)(colon - authority.p);
        kl_str_to_i64(kl_str_from(authority, host.n + 1), ret_port);
    }
    if (host.n > 1 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = (struct kl_str){host.p + 1, host.n - 2};
    return host;
}

static struct kl_str client_ip(struct kl_http_req *hr)
{
    struct kl_str list = kl_http_header(hr, KL_STR("x-forwarded-for")), first;
    if (list.n && kl_str_split(&list, ',', &first) && kl_str_trim(first).n)
        return kl_str_trim(first);
    return kl_http_peer_ip(hr);
}

static int peer_port(const struct kl_http_req *hr)
{
    const struct sockaddr *sa = kl_http_peer_addr(hr);
    if (sa->sa_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)sa)->sin_port);
    return sa->sa_family == AF_INET6
               ? ntohs(((const struct sockaddr_in6 *)(const void *)sa)->sin6_port)
               : 0;
}

static void put_request(struct kl_req *r, struct kl_http_req *hr)
{
    struct kl_span *s = &r->trace->root;
    int64_t port;
    bool tls = kl_str_eqz(kl_http_scheme(hr), "https");
    struct kl_str host = host_of(kl_http_authority(hr), &port);
    kl_span_text(s, "server.address", host);
    kl_span_text(s, "http.request.method", kl_http_method(hr));
    kl_span_text(s, "url.scheme", kl_http_scheme(hr));
    if (port > 0 && port != (tls ? 443 : 80))
        kl_span_number(s, "server.port", port);
    kl_span_text(s, "network.peer.address", kl_http_peer_ip(hr));
    if (peer_port(hr))
        kl_span_number(s, "network.peer.port", peer_port(hr));
    if (r->user_agent.n)
        kl_span_text(s, "user_agent.original", r->user_agent);
    kl_span_text(s, "client.address", client_ip(hr));
    kl_span_text(s, "url.path", r->info.path);
    kl_span_text(s, "network.protocol.version",
                 kl_http_version(hr) == 20 ? KL_STR("2") : KL_STR("1.1"));
    kl_span_text(s, "http.target", kl_http_target(hr));
    kl_span_text(s, "audit-id", r->user_audit_id);
}

void kl_trace_begin(struct kl_req *r, struct kl_http_req *hr)
{
    struct kl_trace *t = KL_ARENA_NEW(r->arena, struct kl_trace);
    if (!t)
        return;
    uint64_t now = uv_hrtime();
    *t = (struct kl_trace){.tracer = r->srv->tracer,
                           .arena = r->arena,
                           .current = &t->root,
                           .wall_minus_mono_ns = kl_wall_ns() - (int64_t)now,
                           .bytes = -1};
    t->last = &t->root.next;
    t->root = (struct kl_span){.trace = t,
                               .scope = KL_SCOPE_HTTP,
                               .kind = KL_SPAN_SERVER,
                               .began_ns = r->began_ns ? r->began_ns : now};
    t->root.last_attr = &t->root.attrs;
    t->root.last_event = &t->root.events;
    bool came = kl_traceparent_parse(kl_http_header(hr, KL_STR("traceparent")), t->remote_trace,
                                     t->remote_span, &t->remote_sampled);
    if (came) {
        t->has_parent = r->user && may_lead(r->user);
        t->has_link = !t->has_parent;
        t->state = header_up_to(hr, KL_STR("tracestate"), MAX_STATE);
    }
    t->baggage = header_up_to(hr, KL_STR("baggage"), MAX_BAGGAGE);
    kl_rand_bytes(t->root.id, sizeof t->root.id);
    if (t->has_parent)
        memcpy(t->id, t->remote_trace, sizeof t->id);
    else
        kl_rand_bytes(t->id, sizeof t->id);
    t->sampled = is_sampled(t);
    r->trace = t;
    if (!t->sampled)
        return;
    if (!r->audit && !r->user_audit_id.n) // one id for the span and for the header
        r->user_audit_id = kl_audit_id(r);
    t->root.name = span_name(r, kl_http_method(hr));
    put_request(r, hr);
}

static const char *handler_name(const struct kl_req_info *i)
{
    static const char *const names[KL_VERB_COUNT] = {
        [KL_VERB_GET] = "Get",
        [KL_VERB_LIST] = "List",
        [KL_VERB_WATCH] = "WatchServer.HandleHTTP",
        [KL_VERB_CREATE] = "Create",
        [KL_VERB_UPDATE] = "Update",
        [KL_VERB_PATCH] = "Patch",
        [KL_VERB_DELETE] = "Delete",
        [KL_VERB_DELETECOLLECTION] = "Delete",
    };
    if (i->op >= KL_VERB_COUNT || kl_is_connect(i))
        return NULL;
    return names[i->op];
}

void kl_trace_handler(struct kl_req *r)
{
    const struct kl_req_info *i = &r->info;
    struct kl_api_call *c = kl_api_call_of(r);
    const char *name = r->trace && r->trace->sampled ? handler_name(i) : NULL;
    struct kl_span *s = name ? kl_span_begin_traced(r, name) : NULL;
    if (!s)
        return;
    struct kl_str agent = r->user_agent;
    if (agent.n > MAX_AGENT)
        agent = kl_arena_printf(r->arena, "%.*s...TRUNCATED", MAX_AGENT, agent.p);
    kl_span_text(s, "accept", kl_http_header(c->hr, KL_STR("accept")));
    kl_span_text(s, "audit-id", kl_audit_id(r));
    kl_span_text(s, "client", client_ip(c->hr));
    kl_span_text(s, "api-group", i->group);
    kl_span_text(s, "api-version", i->version);
    kl_span_text(s, "name", i->name);
    kl_span_text(s, "subresource", i->sub);
    kl_span_text(s, "namespace", i->ns);
    kl_span_text(s, "protocol",
                 kl_http_version(c->hr) == 20 ? KL_STR("HTTP/2.0") : KL_STR("HTTP/1.1"));
    kl_span_text(s, "resource", i->plural);
    kl_span_text(s, "scope", kl_series_scope(i));
    kl_span_text(s, "url", i->path);
    kl_span_text(s, "user-agent", agent.n ? agent : KL_STR("unknown"));
    kl_span_text(s, "verb", kl_series_verb(r));
}

void kl_trace_answer(struct kl_req *r, int http, int64_t bytes)
{
    r->trace->http = http;
    r->trace->bytes = bytes;
}

void kl_trace_end(struct kl_req *r)
{
    struct kl_trace *t = r->trace;
    r->trace = NULL;
    if (!t || !t->sampled)
        return;
    struct kl_span *root = &t->root;
    if (r->body.n)
        kl_span_number(root, "http.request.body.size", (int64_t)r->body.n);
    if (t->bytes > 0)
        kl_span_number(root, "http.response.body.size", t->bytes);
    if (t->http)
        kl_span_number(root, "http.response.status_code", t->http);
    root->failed = t->http >= 500;
    uint64_t now = uv_hrtime();
    for (struct kl_span *s = root; s; s = s->next) {
        if (!s->ended_ns)
            s->ended_ns = now;
        kl_tracer_put(t->tracer, s);
    }
}
