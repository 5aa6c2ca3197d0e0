// SPDX-License-Identifier: Apache-2.0
#include "apiserver/audit/audit_int.h"
#include "apiserver/gather.h"
#include "apiserver/pki_int.h"
#include "base/clock.h"
#include "base/rand.h"
#include <stdio.h>
#include <stdlib.h>

#define QUEUE_BYTES ((size_t)64 << 20)
#define MAX_OBJECT ((size_t)64 << 20)
#define MAX_LIST ((size_t)32 << 20)
enum { LIST_END = 16 };
enum { LOG_QUEUE = 10000, LOG_BATCH = 256, LOG_WAIT_MS = 2, MAX_AGENT = 1024, MAX_ID = 64 };

// ---- life

static int mode_of(const char *flag, const char *s, enum kl_audit_mode *ret, struct kl_error *err)
{
    static const char *const names[] = {"batch", "blocking", "blocking-strict"};
    for (int i = 0; i < (int)KL_COUNT(names); i++)
        if (!strcmp(s, names[i])) {
            *ret = (enum kl_audit_mode)i;
            return 0;
        }
    return kl_error_set(err, KL_EINVALID,
                        "invalid audit %s mode %s, allowed modes are "
                        "\"batch,blocking,blocking-strict\"",
                        flag, s);
}

static int open_log(struct kl_audit *a, const struct kl_api_settings *o, struct kl_error *err)
{
    struct kl_audit_sink_options s = {.name = "log",
                                      .max_events = LOG_QUEUE,
                                      .max_bytes = QUEUE_BYTES,
                                      .batch = LOG_BATCH,
                                      .max_wait_ms = LOG_WAIT_MS,
                                      .ops = &kl_audit_log_ops};
    a->legacy = !strcmp(o->audit_log_format, "legacy");
    if (!a->legacy && strcmp(o->audit_log_format, "json"))
        return kl_error_set(err, KL_EINVALID,
                            "invalid audit log format %s, allowed formats are \"legacy,json\"",
                            o->audit_log_format);
    int rc = mode_of("log", o->audit_log_mode, &s.mode, err);
    if (!rc && !(rc = kl_audit_log_new(o, &s.arg, err)) &&
        (rc = kl_audit_sink_new(&s, &a->log, err)))
        s.ops->free(s.arg);
    return rc;
}

static int open_webhook(struct kl_audit *a, const struct kl_api_settings *o, struct kl_error *err)
{
    struct kl_audit_sink_options s = {
        .name = "webhook", .max_bytes = QUEUE_BYTES, .ops = &kl_audit_webhook_ops};
    int rc = mode_of("webhook", o->audit_webhook_mode, &s.mode, err);
    bool batch = s.mode == KL_AUDIT_BATCH;
    if (!rc && (o->audit_webhook_batch_buffer_size <= 0 || o->audit_webhook_batch_max_size <= 0))
        rc = kl_error_set(err, KL_EINVALID,
                          "invalid audit batch webhook buffer size or maximum batch size, must be "
                          "a positive number");
    s.max_events = rc ? 1 : (size_t)o->audit_webhook_batch_buffer_size;
    s.batch = batch && !rc ? (size_t)o->audit_webhook_batch_max_size : 1;
    s.max_wait_ms = batch ? o->audit_webhook_batch_max_wait_ms : 0;
    s.qps =
        batch && o->audit_webhook_batch_throttle_enable ? o->audit_webhook_batch_throttle_qps : 0;
    s.burst = o->audit_webhook_batch_throttle_burst;
    if (!rc && !(rc = kl_audit_webhook_new(o, &s.arg, err)) &&
        (rc = kl_audit_sink_new(&s, &a->webhook, err)))
        s.ops->free(s.arg);
    return rc;
}

static int read_policy(struct kl_audit *a, const char *path, struct kl_error *err)
{
    struct kl_arena arena;
    struct kl_str text;
    kl_arena_init(&arena, (size_t)8 << 20);
    int rc = kl_file_read(&arena, path, &text, err);
    if (!rc && !text.p)
        rc = kl_error_set(err, KL_ENOTFOUND, "failed to read file path \"%s\": no such file", path);
    if (!rc && (rc = kl_audit_policy_parse(text, &a->policy, err)))
        kl_error_wrap(err, "loading audit policy file %s", path);
    kl_arena_fini(&arena);
    return rc;
}

int kl_audit_new(const struct kl_api_settings *o, struct kl_audit **ret, struct kl_error *err)
{
    *ret = NULL;
    bool sinks = o->audit_log_path || o->audit_webhook_config_file;
    if (!o->audit_policy_file || !sinks) // upstream: without both nothing is recorded
        return 0;
    struct kl_audit *a = calloc(1, sizeof *a);
    if (!a)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    int rc = read_policy(a, o->audit_policy_file, err);
    if (!rc && o->audit_log_path)
        rc = open_log(a, o, err);
    if (!rc && o->audit_webhook_config_file)
        rc = open_webhook(a, o, err);
    if (rc)
        kl_audit_free(a);
    else
        *ret = a;
    return rc;
}

void kl_audit_free(struct kl_audit *a)
{
    if (!a)
        return;
    kl_audit_sink_free(a->log);
    kl_audit_sink_free(a->webhook);
    kl_audit_policy_free(a->policy);
    free(a);
}

// ---- events

// False: a strict sink did not take it.
static bool emit(struct kl_req *r, enum kl_audit_stage stage)
{
    struct kl_audit_event *e = r->audit;
    struct kl_audit *a = e->audit;
    bool ok = true;
    if (e->omit >> stage & 1)
        return true;
    bool want_json = a->webhook || (a->log && !a->legacy);
    struct kl_bytes *json = want_json ? kl_audit_encode(r, stage, false) : NULL;
    struct kl_bytes *line =
        a->log && a->legacy ? kl_audit_encode(r, stage, true) : kl_bytes_ref(json);
    if (a->log && line)
        ok = kl_audit_sink_put(a->log, line);
    if (a->webhook && json)
        ok = kl_audit_sink_put(a->webhook, json) && ok;
    kl_bytes_unref(json);
    kl_bytes_unref(line);
    atomic_fetch_add_explicit(&a->events, 1, memory_order_relaxed);
    return ok;
}

static void add_ip(struct kl_audit_event *e, struct kl_str ip)
{
    ip = kl_str_trim(ip);
    for (size_t i = 0; i < ip.n; i++) // addresses and nothing else
        if (!strchr("0123456789abcdefABCDEF.:", ip.p[i]))
            return;
    for (size_t i = 0; i < e->nips; i++)
        if (kl_str_eq(e->ips[i], ip))
            return;
    if (ip.n && e->nips < KL_COUNT(e->ips))
        e->ips[e->nips++] = ip;
}

static void note_caller(struct kl_audit_event *e, struct kl_req *r, struct kl_http_req *hr)
{
    const struct kl_req_info *i = &r->info;
    if (!hr) {
        add_ip(e, KL_STR("127.0.0.1"));
        e->uri = kl_arena_printf(r->arena, "/%.*s%s%.*s/%.*s%s%.*s/%.*s%s%.*s%s%.*s",
                                 KL_PRI(i->prefix), i->group.n ? "/" : "", KL_PRI(i->group),
                                 KL_PRI(i->version), i->ns.n ? "/namespaces/" : "", KL_PRI(i->ns),
                                 KL_PRI(i->plural), i->name.n ? "/" : "", KL_PRI(i->name),
                                 i->sub.n ? "/" : "", KL_PRI(i->sub));
        return;
    }
    struct kl_str list = kl_http_header(hr, KL_STR("x-forwarded-for")), part;
    struct kl_str query = kl_http_query(hr), path = kl_http_path(hr);
    while (list.p && kl_str_split(&list, ',', &part))
        add_ip(e, part);
    struct kl_str real = kl_http_header(hr, KL_STR("x-real-ip"));
    if (real.p)
        add_ip(e, real);
    add_ip(e, kl_http_peer_ip(hr));
    e->uri = query.n ? kl_arena_printf(r->arena, "%.*s?%.*s", KL_PRI(path), KL_PRI(query)) : path;
}

// Enough to tell requests apart; what must not be guessed is not made of it.
static void make_id(struct kl_api_loop *al, char ret[37])
{
    static const char digits[] = "0123456789abcdef";
    uint64_t *s = al->id_state, v[2];
    if (!s[0])
        s[0] = kl_rand_u64() | 1, s[1] = kl_rand_u64();
    for (int i = 0; i < 2; i++) { // xorshift128+
        uint64_t a = s[0], b = s[1];
        s[0] = b;
        a ^= a << 23;
        s[1] = a ^ b ^ a >> 18 ^ b >> 5;
        v[i] = s[1] + b;
    }
    int at = 0;
    for (int i = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20)
            ret[at++] = '-';
        ret[at++] = digits[v[i / 16] >> 4 * (i % 16) & 15];
    }
    ret[14] = '4';
    ret[19] = digits[8 + (v[1] & 3)];
    ret[36] = 0;
}

struct kl_str kl_audit_id(struct kl_req *r)
{
    if (r->audit)
        return kl_str(r->audit->id);
    if (!r->al)
        return KL_STR("");
    if (r->user_audit_id.n)
        return (struct kl_str){r->user_audit_id.p,
                               r->user_audit_id.n < MAX_ID ? r->user_audit_id.n : MAX_ID};
    char *p = kl_arena_alloc(r->arena, 37);
    if (!p)
        return KL_STR("");
    make_id(r->al, p);
    return (struct kl_str){p, 36};
}

// Who asks is not known and what is asked was refused: one event says so.
static void note_stranger(struct kl_audit_event *e)
{
    e->omit |= 1u << KL_AUDIT_RECEIVED | 1u << KL_AUDIT_COMPLETE;
    e->long_running = true;
}

bool kl_audit_begin(struct kl_req *r, struct kl_http_req *hr)
{
    struct kl_audit *a = r->srv->audit;
    const struct kl_req_info *i = &r->info;
    struct kl_audit_verdict v;
    struct kl_audit_attrs t = {.user = r->user,
                               .is_resource = i->is_resource,
                               .verb = i->verb,
                               .group = i->group,
                               .plural = i->plural,
                               .sub = i->sub,
                               .ns = i->ns,
                               .name = i->name,
                               .path = i->path};
    kl_audit_policy_ask(a->policy, &t, &v);
    atomic_fetch_add_explicit(&a->levels[v.level], 1, memory_order_relaxed);
    if (v.level == KL_AUDIT_NONE)
        return true;
    struct kl_audit_event *e = KL_ARENA_NEW(r->arena, struct kl_audit_event);
    if (!e)
        return false;
    struct kl_str id = hr ? kl_http_header(hr, KL_STR("audit-id")) : KL_STR("");
    struct kl_str agent = r->user_agent;
    e->audit = a;
    e->level = v.level;
    e->omit = v.omit;
    e->omit_managed_fields = v.omit_managed_fields;
    e->long_running = kl_is_long_running(i);
    e->received_us = kl_wall_ns() / 1000;
    e->user = r->user ? kl_user_ref(r->user) : NULL;
    e->agent = agent.n > MAX_AGENT
                   ? kl_arena_printf(r->arena, "%.*s...TRUNCATED", (int)MAX_AGENT, agent.p)
                   : agent;
    if (id.n)
        snprintf(e->id, sizeof e->id, "%.*s", (int)(id.n < MAX_ID ? id.n : MAX_ID), id.p);
    else
        make_id(r->al, e->id);
    note_caller(e, r, hr);
    r->audit = e;
    if (!r->user)
        note_stranger(e);
    if (emit(r, KL_AUDIT_RECEIVED))
        return true;
    atomic_fetch_add_explicit(&a->rejected, 1, memory_order_relaxed);
    return false;
}

void kl_audit_impersonated(struct kl_req *r)
{
    struct kl_audit_event *e = r->audit;
    if (e && !e->impersonated && r->user != e->user)
        e->impersonated = kl_user_ref(r->user);
}

void kl_audit_decided(struct kl_req *r, bool allowed, struct kl_str reason)
{
    if (!r->audit)
        return;
    r->audit->decision = allowed ? "allow" : "forbid";
    r->audit->reason = reason.n ? kl_arena_dup(r->arena, reason) : KL_STR("");
}

void kl_audit_status(struct kl_req *r, int http)
{
    struct kl_audit_event *e = r->audit;
    if (!e || e->code)
        return;
    e->code = http;
    if (e->long_running && !e->started) {
        e->started = true;
        emit(r, KL_AUDIT_STARTED);
    }
}

// ---- results

static struct kl_str encode(struct kl_req *r, const struct kl_type *type,
                            const struct kl_value *root, struct kl_str head)
{
    struct kl_buf b;
    kl_buf_init(&b, MAX_OBJECT);
    kl_json_encode(&b, type, root, head);
    struct kl_str out = b.err ? KL_STR("") : kl_arena_dup(r->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out.p ? out : KL_STR("");
}

static void take_failure(struct kl_req *r)
{
    struct kl_audit_event *e = r->audit;
    const struct kl_type *type = kl_type(KL_TYPE_meta_v1_Status);
    struct kl_value v = kl_fail_status(r->arena, &r->fail);
    struct kl_object *o = kl_object_freeze(type, &v);
    if (!o)
        return;
    e->status = encode(r, type, &o->root, KL_STR(""));
    if (e->level == KL_AUDIT_REQUEST_RESPONSE)
        e->response =
            encode(r, type, &o->root, KL_STR("\"kind\":\"Status\",\"apiVersion\":\"v1\","));
    kl_object_unref(o);
}

void kl_audit_result(struct kl_req *r)
{
    struct kl_audit_event *e = r->audit;
    const struct kl_type *type;
    const struct kl_value *root;
    struct kl_error err = {0};
    if (!e)
        return;
    if (r->result == KL_RESULT_FAIL) {
        take_failure(r);
        return;
    }
    bool is_status = r->result == KL_RESULT_OBJECT && kl_str_eqz(r->kind, "Status");
    if ((e->level < KL_AUDIT_REQUEST_RESPONSE && !is_status) ||
        (r->result != KL_RESULT_KV && r->result != KL_RESULT_OBJECT) ||
        kl_req_result_root(r, &type, &root, &err))
        return;
    if (is_status)
        e->status = encode(r, type, root, KL_STR(""));
    if (e->level < KL_AUDIT_REQUEST_RESPONSE)
        return;
    bool stored = r->result == KL_RESULT_KV;
    struct kl_str kind = stored ? kl_str(r->info.res->kind) : r->kind;
    struct kl_str version = stored ? kl_str(r->info.res->api_version) : r->api_version;
    struct kl_str head = kl_arena_printf(r->arena, "\"kind\":\"%.*s\",\"apiVersion\":\"%.*s\",",
                                         KL_PRI(kind), KL_PRI(version));
    struct kl_object *bare = NULL;
    if (e->omit_managed_fields && kl_path(root, KL_F_metadata, KL_F_managedFields)) {
        struct kl_value draft = *root;
        draft.owned = 0;
        struct kl_value *meta = kl_edit(r->arena, &draft, KL_F_metadata, KL_STRUCT);
        if (meta && !kl_unset(r->arena, meta, KL_F_managedFields))
            bare = kl_object_freeze(type, &draft);
    }
    e->response = encode(r, type, bare ? &bare->root : root, head);
    kl_object_unref(bare);
}

void kl_audit_list_begin(struct kl_req *r, const struct kl_gather *g)
{
    struct kl_audit_event *e = r->audit;
    const struct kl_resource *res = r->info.res;
    if (!e || e->listing || e->level < KL_AUDIT_REQUEST_RESPONSE)
        return;
    e->listing = true;
    kl_buf_init(&e->list, MAX_LIST + LIST_END);
    kl_buf_printf(&e->list,
                  "{\"kind\":\"%sList\",\"apiVersion\":\"%s\",\"metadata\":{\"resourceVersion\":"
                  "\"%lld\"",
                  res->kind, res->api_version, (long long)g->rev);
    if (g->next.n) {
        kl_buf_puts(&e->list, KL_STR(",\"continue\":"));
        kl_json_write_string(&e->list, g->next);
        if (g->remaining >= 0)
            kl_buf_printf(&e->list, ",\"remainingItemCount\":%lld", (long long)g->remaining);
    }
    kl_buf_puts(&e->list, KL_STR("},\"items\":["));
}

static void put_item(struct kl_req *r, struct kl_buf *b, struct kl_kv *kv)
{
    const struct kl_resource *res = r->info.res;
    struct kl_error err = {0};
    struct kl_object *o = kl_cache_object(kv, res, &err), *bare = NULL;
    struct kl_object *v = o ? kl_object_in_version(res, o, &err) : NULL;
    if (!v) {
        b->err = KL_EINTERNAL;
        return;
    }
    if (r->audit->omit_managed_fields) {
        struct kl_value draft = kl_object_draft(v);
        struct kl_value *meta = kl_edit(r->arena, &draft, KL_F_metadata, KL_STRUCT);
        if (meta && !kl_unset(r->arena, meta, KL_F_managedFields))
            bare = kl_object_freeze(v->type, &draft);
    }
    kl_json_encode(b, v->type, bare ? &bare->root : &v->root, KL_STR(""));
    kl_object_unref(bare);
    kl_object_unref(v);
}

void kl_audit_list_item(struct kl_req *r, struct kl_kv *kv, struct kl_str json)
{
    struct kl_audit_event *e = r->audit;
    if (!e || !e->listing || e->list_full || e->list.err)
        return;
    struct kl_buf *b = &e->list;
    size_t was = b->n;
    if (e->nlist)
        kl_buf_putc(b, ',');
    if (json.n && !e->omit_managed_fields)
        kl_buf_puts(b, json);
    else
        put_item(r, b, kv);
    if (!b->err && b->n <= MAX_LIST) {
        e->nlist++;
        return;
    }
    e->list_full = b->err != KL_EINTERNAL;
    b->err = 0; // what is there stays, without this item
    b->n = was;
}

void kl_audit_list_end(struct kl_req *r, const struct kl_gather *g)
{
    struct kl_audit_event *e = r->audit;
    if (!e || !e->listing)
        return;
    kl_buf_puts(&e->list, KL_STR("]}"));
    bool whole = !e->list.err && e->nlist == g->n;
    if (!e->list.err)
        e->response = kl_buf_str(&e->list);
    if (!whole)
        kl_req_note(r, KL_STR("audit.k8s.io/truncated"), KL_STR("true"), false);
}

void kl_audit_end(struct kl_req *r)
{
    struct kl_audit_event *e = r->audit;
    if (!e)
        return;
    kl_audit_take_request(r);
    if (e->long_running && !e->started)
        emit(r, KL_AUDIT_STARTED);
    emit(r, KL_AUDIT_COMPLETE);
    if (e->listing)
        kl_buf_fini(&e->list);
    kl_user_unref(e->user);
    kl_user_unref(e->impersonated);
    r->audit = NULL;
}

void kl_audit_metrics(struct kl_audit *a, struct kl_buf *b)
{
    if (!a)
        return;
    kl_buf_printf(b,
                  "# HELP apiserver_audit_event_total Counter of audit events generated and sent "
                  "to the audit backend.\n# TYPE apiserver_audit_event_total counter\n"
                  "apiserver_audit_event_total %lld\n"
                  "# HELP apiserver_audit_requests_rejected_total Counter of apiserver requests "
                  "rejected due to an error in audit logging backend.\n"
                  "# TYPE apiserver_audit_requests_rejected_total counter\n"
                  "apiserver_audit_requests_rejected_total %lld\n"
                  "# HELP apiserver_audit_level_total Counter of policy levels for audit events (1 "
                  "per request).\n# TYPE apiserver_audit_level_total counter\n",
                  (long long)atomic_load(&a->events), (long long)atomic_load(&a->rejected));
    for (int i = 0; i < KL_AUDIT_LEVELS; i++)
        kl_buf_printf(b, "apiserver_audit_level_total{level=\"%s\"} %lld\n",
                      kl_audit_level_names[i], (long long)atomic_load(&a->levels[i]));
    struct kl_audit_sink *sinks[] = {a->log, a->webhook};
    kl_buf_puts(b, KL_STR("# HELP apiserver_audit_error_total Counter of audit events that failed "
                          "to be audited properly. Plugin identifies the plugin affected by the "
                          "error.\n# TYPE apiserver_audit_error_total counter\n"));
    for (int i = 0; i < 2; i++) {
        struct kl_audit_sink_stats st;
        if (!sinks[i])
            continue;
        kl_audit_sink_stats(sinks[i], &st);
        kl_buf_printf(b, "apiserver_audit_error_total{plugin=\"%s\"} %lld\n", i ? "webhook" : "log",
                      (long long)(st.dropped + st.failed));
    }
}
