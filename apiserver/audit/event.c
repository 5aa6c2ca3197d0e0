// SPDX-License-Identifier: Apache-2.0
// Events as text: fields, their order and what is left out as Go encodes audit.k8s.io/v1 Event.
#include "apiserver/audit/audit_int.h"
#include "base/clock.h"
#include "object/defaults.h"
#include "object/timestamp.h"
#include "object/yaml.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MAX_EVENT ((size_t)64 << 20)
enum { USUAL_BYTES = 2048 }; // of an event without objects

// Every request is two events: they are put together from pieces, without printf.
#define PUT(b, literal) kl_buf_append((b), (literal), sizeof(literal) - 1)

static void put_micro_time(struct kl_buf *b, int64_t us)
{
    char text[KL_TIME_TEXT];
    kl_buf_putc(b, '"');
    kl_buf_append(b, text, kl_microtime_text(us, text));
    kl_buf_putc(b, '"');
}

static int by_key(const void *a, const void *b)
{
    return kl_str_cmp(((const struct kl_user_extra *)a)->key,
                      ((const struct kl_user_extra *)b)->key);
}

// authentication.k8s.io/v1 UserInfo
static void put_user(struct kl_buf *b, const struct kl_user *u)
{
    bool any = false;
    kl_buf_putc(b, '{');
    if (u && u->name.n) {
        kl_buf_puts(b, KL_STR("\"username\":"));
        kl_json_write_string(b, u->name);
        any = true;
    }
    if (u && u->uid.n) {
        kl_buf_puts(b, any ? KL_STR(",\"uid\":") : KL_STR("\"uid\":"));
        kl_json_write_string(b, u->uid);
        any = true;
    }
    if (u && u->ngroups) {
        kl_buf_puts(b, any ? KL_STR(",\"groups\":") : KL_STR("\"groups\":"));
        kl_json_write_strings(b, u->groups, u->ngroups);
        any = true;
    }
    struct kl_user_extra *e = u && u->nextra ? malloc(u->nextra * sizeof *e) : NULL;
    if (e) {
        memcpy(e, u->extra, u->nextra * sizeof *e);
        qsort(e, u->nextra, sizeof *e, by_key);
        kl_buf_puts(b, any ? KL_STR(",\"extra\":{") : KL_STR("\"extra\":{"));
        for (size_t i = 0; i < u->nextra; i++) {
            if (i)
                kl_buf_putc(b, ',');
            kl_json_write_string(b, e[i].key);
            kl_buf_putc(b, ':');
            kl_json_write_strings(b, e[i].values, e[i].nvalues);
        }
        kl_buf_putc(b, '}');
    }
    free(e);
    kl_buf_putc(b, '}');
}

// `key` as it stands behind another field: ,"name":
static void put_field(struct kl_buf *b, struct kl_str key, struct kl_str v, bool *any)
{
    if (!v.n)
        return;
    kl_buf_puts(b, kl_str_from(key, *any ? 0 : 1));
    kl_json_write_string(b, v);
    *any = true;
}

static void put_object_ref(struct kl_buf *b, const struct kl_req *r)
{
    const struct kl_audit_event *e = r->audit;
    const struct kl_req_info *i = &r->info;
    struct kl_str name = i->name.n ? i->name : r->opts.name_from_fields;
    bool any = false;
    kl_buf_puts(b, KL_STR(",\"objectRef\":{"));
    put_field(b, KL_STR(",\"resource\":"), i->plural, &any);
    put_field(b, KL_STR(",\"namespace\":"), i->ns.n ? i->ns : e->ns, &any);
    put_field(b, KL_STR(",\"name\":"), name.n ? name : e->name, &any);
    put_field(b, KL_STR(",\"uid\":"), e->uid, &any);
    put_field(b, KL_STR(",\"apiGroup\":"), i->group, &any);
    put_field(b, KL_STR(",\"apiVersion\":"), i->version, &any);
    put_field(b, KL_STR(",\"resourceVersion\":"), e->rv, &any);
    put_field(b, KL_STR(",\"subresource\":"), i->sub, &any);
    kl_buf_putc(b, '}');
}

enum { MAX_NOTES = 64 };

struct note {
    struct kl_str key, value;
};

static int note_order(const void *a, const void *b)
{
    return kl_str_cmp(((const struct note *)a)->key, ((const struct note *)b)->key);
}

static void put_annotations(struct kl_buf *b, const struct kl_req *r)
{
    const struct kl_audit_event *e = r->audit;
    struct note notes[MAX_NOTES];
    size_t n = 0;
    if (e->decision) {
        notes[n++] = (struct note){KL_STR("authorization.k8s.io/decision"), kl_str(e->decision)};
        notes[n++] = (struct note){KL_STR("authorization.k8s.io/reason"), e->reason};
    }
    for (const struct kl_audit_note *x = r->notes; x && n < MAX_NOTES; x = x->next)
        if (!x->at_request_level || e->level >= KL_AUDIT_REQUEST)
            notes[n++] = (struct note){x->key, x->value};
    if (!n)
        return;
    if (r->notes) // the two of the decision are in order
        qsort(notes, n, sizeof *notes, note_order);
    kl_buf_puts(b, KL_STR(",\"annotations\":{"));
    for (size_t i = 0; i < n; i++) {
        if (i)
            kl_buf_putc(b, ',');
        kl_json_write_string(b, notes[i].key);
        kl_buf_putc(b, ':');
        kl_json_write_string(b, notes[i].value);
    }
    kl_buf_putc(b, '}');
}

// What is the same at every stage, from the URI to the user agent.
static void put_caller(struct kl_buf *b, const struct kl_req *r)
{
    const struct kl_audit_event *e = r->audit;
    bool any = true;
    PUT(b, ",\"requestURI\":");
    kl_json_write_string(b, e->uri);
    PUT(b, ",\"verb\":");
    kl_json_write_string(b, r->info.verb);
    PUT(b, ",\"user\":");
    put_user(b, e->user);
    if (e->impersonated) {
        PUT(b, ",\"impersonatedUser\":");
        put_user(b, e->impersonated);
    }
    if (e->nips) {
        PUT(b, ",\"sourceIPs\":");
        kl_json_write_strings(b, e->ips, e->nips);
    }
    put_field(b, KL_STR(",\"userAgent\":"), e->agent, &any);
}

// The first event of a request keeps it for the next.
static void put_caller_once(struct kl_buf *b, struct kl_req *r, bool last)
{
    struct kl_audit_event *e = r->audit;
    if (e->caller.n && e->caller_as == e->impersonated) {
        kl_buf_puts(b, e->caller);
        return;
    }
    size_t from = b->n;
    put_caller(b, r);
    if (last || b->err)
        return;
    e->caller = kl_arena_dup(r->arena, kl_str_from(kl_buf_str(b), from));
    e->caller_as = e->impersonated;
}

static void put_status(struct kl_buf *b, const struct kl_audit_event *e)
{
    PUT(b, ",\"responseStatus\":");
    if (e->status.n) {
        kl_buf_puts(b, e->status);
    } else if (e->code) {
        PUT(b, "{\"metadata\":{},\"code\":");
        for (int unit = 100; unit; unit /= 10)
            kl_buf_putc(b, (char)('0' + e->code / unit % 10));
        kl_buf_putc(b, '}');
    } else {
        PUT(b, "{\"metadata\":{},\"status\":\"Success\",\"message\":"
               "\"Connection closed early\",\"code\":200}");
    }
}

static void put_json(struct kl_buf *b, struct kl_req *r, enum kl_audit_stage stage)
{
    const struct kl_audit_event *e = r->audit;
    bool answered = stage != KL_AUDIT_RECEIVED;
    PUT(b, "{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"");
    kl_buf_puts(b, kl_str(kl_audit_level_names[e->level]));
    PUT(b, "\",\"auditID\":");
    kl_json_write_string(b, kl_str(e->id));
    PUT(b, ",\"stage\":\"");
    kl_buf_puts(b, kl_str(kl_audit_stage_names[stage]));
    kl_buf_putc(b, '"');
    put_caller_once(b, r, stage == KL_AUDIT_COMPLETE);
    if (r->info.is_resource)
        put_object_ref(b, r);
    if (answered)
        put_status(b, e);
    if (answered && e->request.n) {
        PUT(b, ",\"requestObject\":");
        kl_buf_puts(b, e->request);
    }
    if (answered && e->response.n) {
        PUT(b, ",\"responseObject\":");
        kl_buf_puts(b, e->response);
    }
    PUT(b, ",\"requestReceivedTimestamp\":");
    put_micro_time(b, e->received_us);
    PUT(b, ",\"stageTimestamp\":");
    put_micro_time(b, stage == KL_AUDIT_RECEIVED ? e->received_us : kl_wall_ns() / 1000);
    if (answered)
        put_annotations(b, r);
    PUT(b, "}\n");
}

static void put_quoted_list(struct kl_buf *b, const struct kl_str *s, size_t n)
{
    struct kl_buf list;
    kl_buf_init(&list, 1 << 20);
    for (size_t i = 0; i < n; i++) {
        if (i)
            kl_buf_putc(&list, ',');
        kl_json_write_string(&list, s[i]);
    }
    kl_json_write_string(b, n ? kl_buf_str(&list) : KL_STR("<none>"));
    kl_buf_fini(&list);
}

// EventString
static void put_legacy(struct kl_buf *b, struct kl_req *r, enum kl_audit_stage stage)
{
    const struct kl_audit_event *e = r->audit;
    const struct kl_user *u = e->user, *as = e->impersonated;
    struct kl_str none = KL_STR("<none>"), ns = r->info.ns.n ? r->info.ns : e->ns;
    char stamp[40];
    time_t s = (time_t)(e->received_us / 1000000);
    struct tm tm;
    gmtime_r(&s, &tm);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
    kl_buf_printf(b, "%s.%06dZ AUDIT: id=\"%s\" stage=\"%s\" ip=", stamp,
                  (int)(e->received_us % 1000000), e->id, kl_audit_stage_names[stage]);
    kl_json_write_string(b, e->nips ? e->ips[0] : KL_STR("<unknown>"));
    kl_buf_puts(b, KL_STR(" method="));
    kl_json_write_string(b, r->info.verb);
    kl_buf_puts(b, KL_STR(" user="));
    kl_json_write_string(b, u && u->name.n ? u->name : none);
    kl_buf_puts(b, KL_STR(" groups="));
    put_quoted_list(b, u ? u->groups : NULL, u ? u->ngroups : 0);
    kl_buf_puts(b, KL_STR(" as="));
    kl_json_write_string(b, as ? as->name : KL_STR("<self>"));
    kl_buf_puts(b, KL_STR(" asgroups="));
    if (as && as->ngroups)
        put_quoted_list(b, as->groups, as->ngroups);
    else
        kl_json_write_string(b, KL_STR("<lookup>"));
    kl_buf_puts(b, KL_STR(" user-agent="));
    kl_json_write_string(b, e->agent);
    kl_buf_puts(b, KL_STR(" namespace="));
    kl_json_write_string(b, ns.n ? ns : none);
    kl_buf_puts(b, KL_STR(" uri="));
    kl_json_write_string(b, e->uri);
    if (stage == KL_AUDIT_RECEIVED)
        kl_buf_puts(b, KL_STR(" response=\"<deferred>\"\n"));
    else
        kl_buf_printf(b, " response=\"%d\"\n", e->code ? e->code : 200);
}

struct kl_bytes *kl_audit_encode(struct kl_req *r, enum kl_audit_stage stage, bool legacy)
{
    struct kl_buf b;
    kl_buf_init(&b, MAX_EVENT);
    kl_buf_reserve(&b, USUAL_BYTES + r->audit->request.n + r->audit->response.n);
    if (legacy)
        put_legacy(&b, r, stage);
    else
        put_json(&b, r, stage);
    struct kl_bytes *out = kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    return out;
}

// ---- what was sent

static struct kl_str keep(struct kl_req *r, struct kl_str s)
{
    return s.n ? kl_arena_dup(r->arena, s) : KL_STR("");
}

static void note_meta(struct kl_req *r, const struct kl_value *root)
{
    struct kl_audit_event *e = r->audit;
    e->name = keep(r, kl_meta_name(root));
    e->ns = keep(r, kl_meta_namespace(root));
    e->uid = keep(r, kl_meta_uid(root));
    e->rv = keep(r, kl_meta_rv(root));
}

static void take_typed(struct kl_req *r, struct kl_value *draft, const struct kl_type *type)
{
    struct kl_audit_event *e = r->audit;
    const struct kl_resource *res = r->info.res;
    if (e->omit_managed_fields) {
        struct kl_value *meta = kl_edit(r->arena, draft, KL_F_metadata, KL_STRUCT);
        if (meta)
            kl_unset(r->arena, meta, KL_F_managedFields);
    }
    struct kl_object *o = kl_object_freeze(type, draft);
    if (!o)
        return;
    note_meta(r, &o->root);
    if (e->level >= KL_AUDIT_REQUEST) {
        struct kl_buf b;
        kl_buf_init(&b, MAX_EVENT);
        kl_json_encode(&b, type, &o->root,
                       kl_arena_printf(r->arena, "\"kind\":\"%s\",\"apiVersion\":\"%s\",",
                                       res->kind, res->api_version));
        e->request = b.err ? KL_STR("") : kl_arena_dup(r->arena, kl_buf_str(&b));
        kl_buf_fini(&b);
    }
    kl_object_unref(o);
}

// As it was sent: patches, options, kinds of subresources.
static void take_text(struct kl_req *r)
{
    struct kl_audit_event *e = r->audit;
    struct kl_value v;
    struct kl_error err;
    struct kl_buf b;
    if (e->level < KL_AUDIT_REQUEST || r->body_media == KL_MEDIA_PROTOBUF)
        return;
    bool yaml = r->body_media == KL_MEDIA_YAML || r->opts.patch_type == KL_PATCH_APPLY;
    if (yaml ? kl_yaml_parse(r->arena, r->body, NULL, &v, &err)
             : kl_json_parse(r->arena, r->body, NULL, &v, &err))
        return;
    kl_buf_init(&b, MAX_EVENT);
    kl_json_write(&b, &v);
    e->request = b.err ? KL_STR("") : kl_arena_dup(r->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
}

void kl_audit_take_request(struct kl_req *r)
{
    struct kl_audit_event *e = r->audit;
    struct kl_error err = {0};
    struct kl_value v;
    bool own =
        !r->info.sub.n || kl_str_eqz(r->info.sub, "status") || kl_str_eqz(r->info.sub, "finalize");
    if (e->body_seen || (!r->body.n && !r->body_object) || !r->info.is_resource)
        return;
    e->body_seen = true;
    if (r->info.op != KL_VERB_CREATE && r->info.op != KL_VERB_UPDATE) {
        take_text(r);
        return;
    }
    if (r->body_object && own) {
        v = kl_object_draft(r->body_object);
        take_typed(r, &v, r->body_object->type);
        return;
    }
    if (!own || !r->info.res || r->body_object) {
        take_text(r);
        return;
    }
    // What the body said when it was decoded for the request itself must not be said twice.
    enum kl_field_validation was = r->opts.field_validation;
    size_t nwarnings = r->nwarnings;
    struct kl_fail fail = r->fail;
    struct kl_object *admitted = r->admitted; // what was sent is asked for
    r->admitted = NULL;
    r->opts.field_validation = KL_VALIDATE_IGNORE;
    if (!kl_body_decode(r, r->info.res->type, r->info.res, &v, &err) &&
        !kl_default_object(r->arena, r->info.res->type, &v))
        take_typed(r, &v, r->info.res->type);
    r->admitted = admitted;
    r->opts.field_validation = was;
    r->nwarnings = nwarnings;
    r->fail = fail;
}
