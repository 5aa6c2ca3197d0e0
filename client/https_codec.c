// SPDX-License-Identifier: Apache-2.0
#include "base/metrics.h"
#include "client/helpers.h"
#include "client/https_int.h"
#include "object/json.h"
#include "object/protobuf.h"
#include <stdlib.h>
#include <stdio.h>

#define PROTOBUF "application/vnd.kubernetes.protobuf"

int kl_url_parse(struct kl_str url, struct kl_url *ret, struct kl_error *err)
{
    struct kl_str rest = url;
    memset(ret, 0, sizeof(*ret));
    if (kl_str_starts(url, KL_STR("https://"))) {
        ret->tls = true;
        rest = kl_str_from(url, 8);
    } else if (kl_str_starts(url, KL_STR("http://"))) {
        rest = kl_str_from(url, 7);
    } else {
        return kl_error_set(err, KL_EINVALID, "bad server URL \"%.*s\"", KL_PRI(url));
    }
    ptrdiff_t slash = kl_str_chr(rest, '/');
    struct kl_str host = slash < 0 ? rest : (struct kl_str){rest.p, (size_t)slash};
    ret->path = slash < 0 ? (struct kl_str){"", 0} : kl_str_from(rest, (size_t)slash);
    while (ret->path.n && ret->path.p[ret->path.n - 1] == '/')
        ret->path.n--;
    struct kl_str port = {"", 0};
    if (host.n && host.p[0] == '[') {
        ptrdiff_t end = kl_str_chr(host, ']');
        if (end < 0)
            return kl_error_set(err, KL_EINVALID, "bad server URL \"%.*s\"", KL_PRI(url));
        port = kl_str_from(host, (size_t)end + 1);
        host = (struct kl_str){host.p + 1, (size_t)end - 1};
    } else {
        ptrdiff_t colon = kl_str_chr(host, ':');
        if (colon >= 0) {
            port = kl_str_from(host, (size_t)colon);
            host.n = (size_t)colon;
        }
    }
    int64_t n = ret->tls ? 443 : 80;
    bool port_ok = !port.n || (port.p[0] == ':' && kl_str_to_i64(kl_str_from(port, 1), &n));
    if (!host.n || host.n >= sizeof(ret->host) || !port_ok || n < 1 || n > 65535)
        return kl_error_set(err, KL_EINVALID, "bad server URL \"%.*s\"", KL_PRI(url));
    memcpy(ret->host, host.p, host.n);
    ret->port = (int)n;
    return 0;
}

// ---- requests

static void put_escaped(struct kl_buf *b, struct kl_str s)
{
    static const char safe[] = "-_.~";
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     (c && strchr(safe, c));
        if (plain)
            kl_buf_putc(b, (char)c);
        else
            kl_buf_printf(b, "%%%02X", c);
    }
}

static void put_path(struct kl_buf *b, struct kl_str prefix, const struct kl_resource *res,
                     struct kl_str ns)
{
    kl_buf_puts(b, prefix);
    if (*res->group)
        kl_buf_printf(b, "/apis/%s/%s", res->group, res->version);
    else
        kl_buf_printf(b, "/api/%s", res->version);
    if (res->namespaced && ns.n) {
        kl_buf_puts(b, KL_STR("/namespaces/"));
        put_escaped(b, ns);
    }
    kl_buf_printf(b, "/%s", res->plural);
}

static void put_param(struct kl_buf *b, char *separator, const char *name, struct kl_str value)
{
    if (!value.n)
        return;
    kl_buf_putc(b, *separator);
    kl_buf_printf(b, "%s=", name);
    put_escaped(b, value);
    *separator = '&';
}

void kl_https_target(struct kl_buf *out, struct kl_str prefix, const struct kl_call *call)
{
    char separator = '?';
    const bool many = call->verb == KL_VERB_LIST || call->verb == KL_VERB_DELETECOLLECTION;
    put_path(out, prefix, call->res, call->ns);
    // A create has its name in the path only when it is of a subresource (binding, eviction).
    if (!many && call->name.n && (call->verb != KL_VERB_CREATE || call->sub)) {
        kl_buf_putc(out, '/');
        put_escaped(out, call->name);
    }
    if (call->sub)
        kl_buf_printf(out, "/%s", call->sub);
    put_param(out, &separator, "labelSelector", call->label_selector);
    put_param(out, &separator, "fieldSelector", call->field_selector);
    put_param(out, &separator, "continue", call->cont);
    if (call->verb == KL_VERB_LIST || call->verb == KL_VERB_GET)
        put_param(out, &separator, "resourceVersion", call->resource_version);
    if (call->limit) {
        kl_buf_printf(out, "%climit=%lld", separator, (long long)call->limit);
        separator = '&';
    }
    if (call->dry_run && call->verb != KL_VERB_DELETE && call->verb != KL_VERB_DELETECOLLECTION)
        put_param(out, &separator, "dryRun", KL_STR("All"));
    if (call->verb == KL_VERB_PATCH && call->patch_type == KL_PATCH_APPLY) {
        put_param(out, &separator, "fieldManager", KL_STR("kinglet"));
        put_param(out, &separator, "force", KL_STR("true"));
    }
}

void kl_https_watch_target(struct kl_buf *out, struct kl_str prefix, const struct kl_watch_call *w,
                           int timeout_s)
{
    char separator = '&';
    put_path(out, prefix, w->res, w->ns);
    kl_buf_printf(out, "?watch=true&allowWatchBookmarks=true&timeoutSeconds=%d", timeout_s);
    put_param(out, &separator, "labelSelector", w->label_selector);
    put_param(out, &separator, "fieldSelector", w->field_selector);
    put_param(out, &separator, "resourceVersion", w->resource_version);
    if (w->send_initial_events)
        kl_buf_puts(out, KL_STR("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"));
}

const char *kl_https_method(const struct kl_call *call)
{
    switch (call->verb) {
    case KL_VERB_CREATE:
        return "POST";
    case KL_VERB_UPDATE:
        return "PUT";
    case KL_VERB_PATCH:
        return "PATCH";
    case KL_VERB_DELETE:
    case KL_VERB_DELETECOLLECTION:
        return "DELETE";
    default:
        return "GET";
    }
}

bool kl_https_has_protobuf(const struct kl_resource *res)
{
    return !res->json_in_store;
}

static int put_object(struct kl_buf *out, const struct kl_call *call, bool json_only,
                      const char **ret_type, struct kl_error *err)
{
    const char *api_version = call->res->api_version, *kind = call->res->kind;
    char sub_version[128];
    if (call->sub) {
        const struct kl_subresource *s = kl_resource_sub(call->res, kl_str(call->sub));
        if (s) {
            size_t g = strlen(s->group), v = strlen(s->version);
            if (g + v + 2 > sizeof(sub_version))
                return kl_error_set(err, KL_EINVALID, "bad subresource");
            memcpy(sub_version, s->group, g);
            sub_version[g] = '/';
            memcpy(sub_version + g + 1, s->version, v + 1);
            api_version = g ? sub_version : s->version;
            kind = s->kind;
        }
    }
    const struct kl_object *body = call->body;
    if (!json_only && kl_https_has_protobuf(call->res)) {
        *ret_type = PROTOBUF;
        kl_pb_encode_object(out, kl_str(api_version), kl_str(kind), body->type, &body->root);
        return out->err;
    }
    *ret_type = "application/json";
    struct kl_arena a;
    kl_arena_init(&a, 4096);
    struct kl_str head =
        kl_arena_printf(&a, "\"kind\":\"%s\",\"apiVersion\":\"%s\",", kind, api_version);
    if (head.p)
        kl_json_encode(out, body->type, &body->root, head);
    kl_arena_fini(&a);
    return head.p ? out->err : KL_ENOMEM;
}

static void put_delete_options(struct kl_buf *out, const struct kl_call *call)
{
    static const char *const policies[] = {NULL, "Orphan", "Background", "Foreground"};
    kl_buf_puts(out, KL_STR("{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\""));
    if (call->grace_seconds >= 0)
        kl_buf_printf(out, ",\"gracePeriodSeconds\":%lld", (long long)call->grace_seconds);
    if (call->precondition_uid.n || call->precondition_rv.n) {
        kl_buf_puts(out, KL_STR(",\"preconditions\":{"));
        if (call->precondition_uid.n) {
            kl_buf_puts(out, KL_STR("\"uid\":"));
            kl_json_write_string(out, call->precondition_uid);
        }
        if (call->precondition_rv.n) {
            kl_buf_puts(out, call->precondition_uid.n ? KL_STR(",\"resourceVersion\":")
                                                      : KL_STR("\"resourceVersion\":"));
            kl_json_write_string(out, call->precondition_rv);
        }
        kl_buf_putc(out, '}');
    }
    if (policies[call->propagation])
        kl_buf_printf(out, ",\"propagationPolicy\":\"%s\"", policies[call->propagation]);
    if (call->dry_run)
        kl_buf_puts(out, KL_STR(",\"dryRun\":[\"All\"]"));
    kl_buf_putc(out, '}');
}

int kl_https_body(struct kl_buf *out, const struct kl_call *call, bool json_only,
                  const char **ret_type, struct kl_error *err)
{
    static const char *const patch_types[] = {
        [KL_PATCH_NONE] = "application/json",
        [KL_PATCH_JSON] = "application/json-patch+json",
        [KL_PATCH_MERGE] = "application/merge-patch+json",
        [KL_PATCH_STRATEGIC] = "application/strategic-merge-patch+json",
        [KL_PATCH_APPLY] = "application/apply-patch+yaml",
    };
    *ret_type = NULL;
    switch (call->verb) {
    case KL_VERB_CREATE:
    case KL_VERB_UPDATE:
        return put_object(out, call, json_only, ret_type, err);
    case KL_VERB_PATCH:
        *ret_type = patch_types[call->patch_type];
        kl_buf_puts(out, call->patch);
        return out->err;
    case KL_VERB_DELETE:
    case KL_VERB_DELETECOLLECTION:
        *ret_type = "application/json";
        put_delete_options(out, call);
        return out->err;
    default:
        return 0;
    }
}

// ---- answers

static int decode(struct kl_arena *a, const struct kl_type *type, struct kl_str text,
                  struct kl_value *ret, struct kl_error *err)
{
    struct kl_envelope e;
    if (!kl_pb_is_envelope(text))
        return kl_json_decode(a, type, text, NULL, ret, err);
    int rc = kl_pb_open(text, &e, err);
    return rc < 0 ? rc : kl_pb_decode_trusted(a, type, e.raw, ret, err);
}

int kl_https_object(struct kl_arena *a, const struct kl_type *type, struct kl_str text,
                    struct kl_object **ret, struct kl_error *err)
{
    struct kl_value draft;
    int rc = decode(a, type, text, &draft, err);
    if (rc < 0)
        return rc;
    *ret = kl_object_freeze(type, &draft);
    return *ret ? 0 : kl_error_set(err, KL_ENOMEM, "out of memory");
}

static const struct kl_type *status_type(void)
{
    return kl_type_by_name(KL_STR("io.k8s.apimachinery.pkg.apis.meta.v1.Status"));
}

// The code for a reason of a Status; by the HTTP status where the reason says nothing.
static int code_of(struct kl_str reason, int http_status)
{
    static const struct {
        const char *reason;
        int http, code;
    } table[] = {
        {"NotFound", 404, KL_ENOTFOUND},
        {"AlreadyExists", 0, KL_EEXISTS},
        {"Conflict", 409, KL_ECONFLICT},
        {"Invalid", 422, KL_EINVALID},
        {"Expired", 410, KL_EEXPIRED},
        {"Gone", 0, KL_EGONE},
        {"Forbidden", 403, KL_EFORBIDDEN},
        {"Unauthorized", 401, KL_EUNAUTHORIZED},
        {"BadRequest", 400, KL_EBADREQUEST},
        {"Timeout", 504, KL_ETIMEOUT},
        {"ServerTimeout", 0, KL_ETIMEOUT},
        {"TooManyRequests", 429, KL_ETOOMANY},
        {"ServiceUnavailable", 503, KL_EUNAVAILABLE},
        {"MethodNotAllowed", 405, KL_EMETHOD},
        {"NotAcceptable", 406, KL_ENOTACCEPTABLE},
        {"UnsupportedMediaType", 415, KL_EMEDIATYPE},
        {"RequestEntityTooLarge", 413, KL_ETOOLARGE},
    };
    for (size_t i = 0; i < KL_COUNT(table); i++) {
        if (kl_str_eqz(reason, table[i].reason))
            return table[i].code;
    }
    for (size_t i = 0; i < KL_COUNT(table); i++) {
        if (table[i].http == http_status)
            return table[i].code;
    }
    return KL_EINTERNAL;
}

int kl_https_status(struct kl_arena *a, struct kl_str text, int http_status, struct kl_error *err)
{
    struct kl_value s;
    if (text.n == 0 || decode(a, status_type(), text, &s, NULL) < 0)
        return kl_error_set(err, code_of(KL_STR(""), http_status), "the server answered %d: %.*s",
                            http_status, (int)(text.n > 200 ? 200 : text.n), text.p);
    if (kl_str_eqz(kl_text(kl_get(&s, KL_F_status)), "Success"))
        return 0;
    struct kl_str message = kl_text(kl_get(&s, KL_F_message));
    int64_t code = kl_int_or(kl_get(&s, KL_F_code), http_status);
    return kl_error_set(err, code_of(kl_text(kl_get(&s, KL_F_reason)), (int)code), "%.*s",
                        KL_PRI(message));
}

static bool is_status(struct kl_str text)
{
    struct kl_envelope e;
    struct kl_str version, kind = {"", 0};
    if (kl_pb_is_envelope(text))
        return kl_pb_open(text, &e, NULL) == 0 && kl_str_eqz(e.kind, "Status");
    return kl_json_peek_gvk(text, &version, &kind) == 0 && kl_str_eqz(kind, "Status");
}

static int read_list(struct kl_call *call, struct kl_str text)
{
    struct kl_arena *a = call->memory;
    struct kl_value list;
    int rc = decode(a, call->res->list_type, text, &list, &call->err);
    if (rc < 0)
        return rc;
    const struct kl_value *items = kl_get(&list, KL_F_items);
    call->items = calloc(kl_len(items) + 1, sizeof(struct kl_object *));
    if (!call->items)
        return kl_error_set(&call->err, KL_ENOMEM, "out of memory");
    for (KL_EACH(item, items)) {
        struct kl_object *o = kl_object_freeze(call->res->type, item);
        if (!o)
            return kl_error_set(&call->err, KL_ENOMEM, "out of memory");
        call->items[call->n_items++] = o;
    }
    call->list_rv = kl_text_at(&list, KL_F_metadata, KL_F_resourceVersion);
    call->list_continue = kl_text_at(&list, KL_F_metadata, KL_F_continue);
    return 0;
}

static void count_request(int status)
{
    char code[12];
    snprintf(code, sizeof code, "%d", status);
    const struct kl_metric like = {.name = "rest_client_requests_total",
                                   .help = "[BETA] Number of HTTP requests, partitioned by status "
                                           "code.",
                                   .kind = KL_COUNTER,
                                   .label_name = "code",
                                   .label_value = status > 0 ? code : "<error>"};
    struct kl_metric *m = kl_metric_shared(&like);
    if (m)
        kl_metric_add(m, 1);
}

void kl_https_answer(struct kl_call *call, int status, struct kl_str content_type,
                     struct kl_str text)
{
    struct kl_arena *a = call->memory;
    count_request(status);
    call->http_status = status;
    int rc;
    if (status < 200 || status > 299) {
        rc = kl_https_status(a, text, status, &call->err);
        call->err.code = rc ? rc : KL_EINTERNAL;
        return;
    }
    if (is_status(text)) // of a delete, a binding
        rc = kl_https_object(a, status_type(), text, &call->object, &call->err);
    else if (call->verb == KL_VERB_LIST)
        rc = read_list(call, text);
    else if (call->verb == KL_VERB_DELETECOLLECTION)
        rc = 0; // the list of what was deleted, which nobody asks for
    else {
        const struct kl_type *type = call->res->type;
        const struct kl_subresource *sub =
            call->sub ? kl_resource_sub(call->res, kl_str(call->sub)) : NULL;
        if (sub && sub->type)
            type = sub->type;
        rc = kl_https_object(a, type, text, &call->object, &call->err);
    }
    call->err.code = rc;
}

// ---- watch frames

static int event_of(struct kl_str type, struct kl_frame *ret, struct kl_error *err)
{
    ret->is_error = kl_str_eqz(type, "ERROR");
    if (kl_str_eqz(type, "ADDED"))
        ret->type = KL_EVENT_ADDED;
    else if (kl_str_eqz(type, "MODIFIED"))
        ret->type = KL_EVENT_MODIFIED;
    else if (kl_str_eqz(type, "DELETED"))
        ret->type = KL_EVENT_DELETED;
    else if (kl_str_eqz(type, "BOOKMARK"))
        ret->type = KL_EVENT_BOOKMARK;
    else if (!ret->is_error)
        return kl_error_set(err, KL_EPROTO, "unknown watch event \"%.*s\"", KL_PRI(type));
    return 1;
}

static const struct kl_type *event_type(void)
{
    return kl_type_by_name(KL_STR("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent"));
}

// The next length-delimited field of a message, the only kind in a WatchEvent. 0 at the end.
static int next_field(struct kl_str *rest, uint32_t *ret_number, struct kl_str *ret)
{
    if (!rest->n)
        return 0;
    uint8_t tag = (uint8_t)rest->p[0];
    uint64_t len = 0;
    size_t i = 1;
    for (int shift = 0; shift < 35; shift += 7) {
        if (i >= rest->n)
            return KL_EPROTO;
        uint8_t c = (uint8_t)rest->p[i++];
        len |= (uint64_t)(c & 0x7f) << shift;
        if (!(c & 0x80))
            break;
    }
    if ((tag & 7) != 2 || len > rest->n - i)
        return KL_EPROTO;
    *ret_number = tag >> 3;
    *ret = (struct kl_str){rest->p + i, (size_t)len};
    *rest = kl_str_from(*rest, i + (size_t)len);
    return 1;
}

// Length (4 bytes, most significant first), then a metav1.WatchEvent { type = 1; object = 2 { raw =
// 1 } }, whose raw is an envelope. Read by hand: the schema's RawExtension holds JSON.
static int protobuf_frame(struct kl_str b, struct kl_frame *ret, struct kl_error *err)
{
    if (b.n < 4)
        return 0;
    const uint8_t *p = (const uint8_t *)b.p;
    size_t n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    if (n > KL_FRAME_MAX)
        return kl_error_set(err, KL_EPROTO, "watch frame of %zu bytes", n);
    if (b.n - 4 < n)
        return 0;
    ret->bytes = n + 4;
    struct kl_str message = {b.p + 4, n}, type = {"", 0}, field;
    struct kl_envelope e;
    uint32_t number;
    int rc;
    if (kl_pb_is_envelope(message)) {
        rc = kl_pb_open(message, &e, err);
        if (rc < 0)
            return rc;
        message = e.raw;
    }
    ret->object = (struct kl_str){"", 0};
    while ((rc = next_field(&message, &number, &field)) > 0) {
        if (number == 1)
            type = field;
        else if (number == 2)
            rc = next_field(&field, &number, &ret->object);
        if (rc < 0)
            break;
    }
    if (rc < 0)
        return kl_error_set(err, KL_EPROTO, "malformed watch frame");
    return event_of(type, ret, err);
}

int kl_https_frame(struct kl_arena *a, bool protobuf, struct kl_str b, struct kl_frame *ret,
                   struct kl_error *err)
{
    if (protobuf)
        return protobuf_frame(b, ret, err);
    ptrdiff_t end = kl_str_chr(b, '\n');
    if (end < 0)
        return b.n > KL_FRAME_MAX ? kl_error_set(err, KL_EPROTO, "watch frame too long") : 0;
    struct kl_value event;
    ret->bytes = (size_t)end + 1;
    int rc = kl_json_decode(a, event_type(), (struct kl_str){b.p, (size_t)end}, NULL, &event, err);
    if (rc < 0)
        return rc;
    ret->object = kl_text(kl_get(&event, KL_F_object));
    return event_of(kl_text(kl_get(&event, KL_F_type)), ret, err);
}
