// SPDX-License-Identifier: Apache-2.0
// Authorisation webhooks: asked with a SubjectAccessReview when their conditions say so (apiserver
// plugin/pkg/authorizer/webhook).
#include "apiserver/auth/authn_int.h"
#include "apiserver/auth/authz_int.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdlib.h>

enum { RETRIES = 4, ANSWER_MAX = 1 << 20 };

// ---- the question as JSON

static void put_text(struct kl_buf *b, bool *first, const char *name, struct kl_str s)
{
    if (!s.n)
        return;
    kl_buf_printf(b, "%s\"%s\":", *first ? "" : ",", name);
    kl_json_write_string(b, s);
    *first = false;
}

static const char *operator_of(const struct kl_requirement *q)
{
    switch (q->op) {
    case KL_OP_IN:
    case KL_OP_EQ:
        return "In";
    case KL_OP_NOT_IN:
    case KL_OP_NOT_EQ:
        return "NotIn";
    case KL_OP_EXISTS:
        return "Exists";
    case KL_OP_NOT_EXISTS:
        return "DoesNotExist";
    default:
        return NULL; // the API has no word for it: the question gets wider
    }
}

static void put_selector(struct kl_buf *b, const char *name, const struct kl_selector *s)
{
    bool first = true;
    for (size_t i = 0; s && i < s->n; i++) {
        const struct kl_requirement *q = &s->reqs[i];
        const char *op = operator_of(q);
        if (!op)
            continue;
        if (first)
            kl_buf_printf(b, ",\"%s\":{\"requirements\":[", name);
        kl_buf_printf(b, "%s{\"key\":", first ? "" : ",");
        kl_json_write_string(b, q->key);
        kl_buf_printf(b, ",\"operator\":\"%s\"", op);
        if (q->nvalues) {
            kl_buf_puts(b, KL_STR(",\"values\":"));
            kl_json_write_strings(b, q->values, q->nvalues);
        }
        kl_buf_putc(b, '}');
        first = false;
    }
    if (!first)
        kl_buf_puts(b, KL_STR("]}"));
}

static void put_attributes(struct kl_buf *b, const struct kl_attrs *t)
{
    bool first = true;
    if (!t->is_resource) {
        kl_buf_puts(b, KL_STR("\"nonResourceAttributes\":{"));
        put_text(b, &first, "path", t->path);
        put_text(b, &first, "verb", t->verb);
        kl_buf_putc(b, '}');
        return;
    }
    kl_buf_puts(b, KL_STR("\"resourceAttributes\":{"));
    put_text(b, &first, "namespace", t->ns);
    put_text(b, &first, "verb", t->verb);
    put_text(b, &first, "group", t->group);
    put_text(b, &first, "version", t->version);
    put_text(b, &first, "resource", t->plural);
    put_text(b, &first, "subresource", t->sub);
    put_text(b, &first, "name", t->name);
    put_selector(b, "fieldSelector", t->fields);
    put_selector(b, "labelSelector", t->labels);
    kl_buf_putc(b, '}');
}

static void put_review(struct kl_buf *b, const struct kl_authorizer *z, const struct kl_attrs *t)
{
    const struct kl_user *u = t->user;
    bool first = false;
    kl_buf_printf(b,
                  "{\"kind\":\"SubjectAccessReview\",\"apiVersion\":\"authorization.k8s.io/%s\","
                  "\"metadata\":{\"creationTimestamp\":null},\"spec\":{",
                  z->v1beta1 ? "v1beta1" : "v1");
    put_attributes(b, t);
    put_text(b, &first, "user", u->name);
    if (u->ngroups) {
        kl_buf_printf(b, ",\"%s\":", z->v1beta1 ? "group" : "groups");
        kl_json_write_strings(b, u->groups, u->ngroups);
    }
    for (size_t i = 0; i < u->nextra; i++) {
        kl_buf_puts(b, i ? KL_STR(",") : KL_STR(",\"extra\":{"));
        kl_json_write_string(b, u->extra[i].key);
        kl_buf_putc(b, ':');
        kl_json_write_strings(b, u->extra[i].values, u->extra[i].nvalues);
    }
    if (u->nextra)
        kl_buf_putc(b, '}');
    put_text(b, &first, "uid", u->uid);
    kl_buf_puts(b, KL_STR("},\"status\":{\"allowed\":false}}"));
}

// ---- conditions: the same question as CEL sees it, with every member there

static int set(struct kl_arena *a, struct kl_value *map, const char *name, struct kl_str s)
{
    return kl_map_set_value(a, map, kl_str(name), kl_string(s));
}

static int texts(struct kl_arena *a, const struct kl_str *s, size_t n, struct kl_value *ret)
{
    int rc = 0;
    *ret = kl_new_array();
    for (size_t i = 0; i < n && !rc; i++)
        rc = kl_append(a, ret, kl_string(s[i]));
    return rc;
}

static int set_selector(struct kl_arena *a, struct kl_value *map, const char *name,
                        const struct kl_selector *s)
{
    struct kl_value list = kl_new_array(), v = kl_new_map();
    for (size_t i = 0; s && i < s->n; i++) {
        const struct kl_requirement *q = &s->reqs[i];
        struct kl_value r = kl_new_map(), values;
        const char *op = operator_of(q);
        if (op && (set(a, &r, "key", q->key) || set(a, &r, "operator", kl_str(op)) ||
                   texts(a, q->values, q->nvalues, &values) ||
                   kl_map_set_value(a, &r, KL_STR("values"), values) || kl_append(a, &list, r)))
            return KL_ENOMEM;
    }
    if (!kl_len(&list))
        return 0;
    return kl_map_set_value(a, &v, KL_STR("requirements"), list) ||
                   kl_map_set_value(a, map, kl_str(name), v)
               ? KL_ENOMEM
               : 0;
}

static int request_value(struct kl_arena *a, const struct kl_attrs *t, struct kl_value *ret)
{
    const struct kl_user *u = t->user;
    struct kl_value at = kl_new_map(), groups, extra = kl_new_map();
    *ret = kl_new_map();
    if (t->is_resource ? set(a, &at, "namespace", t->ns) || set(a, &at, "verb", t->verb) ||
                             set(a, &at, "group", t->group) || set(a, &at, "version", t->version) ||
                             set(a, &at, "resource", t->plural) ||
                             set(a, &at, "subresource", t->sub) || set(a, &at, "name", t->name) ||
                             set_selector(a, &at, "fieldSelector", t->fields) ||
                             set_selector(a, &at, "labelSelector", t->labels)
                       : set(a, &at, "path", t->path) || set(a, &at, "verb", t->verb))
        return KL_ENOMEM;
    for (size_t i = 0; i < u->nextra; i++) {
        struct kl_value list;
        if (texts(a, u->extra[i].values, u->extra[i].nvalues, &list) ||
            kl_map_set_value(a, &extra, u->extra[i].key, list))
            return KL_ENOMEM;
    }
    const char *kind = t->is_resource ? "resourceAttributes" : "nonResourceAttributes";
    return set(a, ret, "user", u->name) || set(a, ret, "uid", u->uid) ||
                   texts(a, u->groups, u->ngroups, &groups) ||
                   kl_map_set_value(a, ret, KL_STR("groups"), groups) ||
                   kl_map_set_value(a, ret, KL_STR("extra"), extra) ||
                   kl_map_set_value(a, ret, kl_str(kind), at)
               ? KL_ENOMEM
               : 0;
}

// One that is false decides, whatever else went wrong. Negative: err.
static int matches(struct kl_arena *a, const struct kl_authorizer *z, const struct kl_attrs *t,
                   bool *ret, struct kl_error *err)
{
    struct kl_value request;
    int rc = 0;
    *ret = true;
    if (!z->nconditions)
        return 0;
    if (request_value(a, t, &request))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    struct kl_cel_val var = kl_cel_node(a, &request, NULL), v;
    struct kl_cel_eval with = {.vars = &var, .cost_limit = KL_CEL_MATCH_BUDGET};
    for (size_t i = 0; i < z->nconditions; i++) {
        struct kl_error why = {0};
        int one = kl_cel_eval(z->conditions[i], &with, a, &v, NULL, &why);
        if (!one && v.kind == KL_CEL_BOOL && !v.b) {
            *ret = false;
            return 0;
        }
        if (one && !rc)
            rc = kl_error_set(err, KL_EINVALID,
                              "cel evaluation error: expression '%.*s' resulted in error: %s",
                              KL_PRI(z->condition_texts[i]), why.msg);
    }
    return rc;
}

// ---- the answer

static void fail(struct kl_reply *out, int code, const char *why)
{
    out->code = code;
    out->text = kl_arena_dup(&out->arena, kl_str(why));
    if (!out->text.p)
        out->text = KL_STR("out of memory");
}

struct question {
    struct kl_auth_conf *conf; // keeps the authoriser
    const struct kl_authorizer *z;
};

static void free_question(void *arg)
{
    struct question *q = arg;
    kl_auth_conf_unref(q->conf);
    free(q);
}

static void read_status(const struct kl_authorizer *z, const struct kl_value *status,
                        struct kl_reply *out)
{
    bool allowed = kl_is_true(kl_map_value(status, KL_STR("allowed"))),
         denied = kl_is_true(kl_map_value(status, KL_STR("denied")));
    if (allowed && denied) {
        fail(out, KL_EPROTO, "webhook subject access review returned both allow and deny response");
        out->decision = KL_DENY;
        return;
    }
    int64_t ttl = allowed ? z->yes_ttl_ms : z->no_ttl_ms;
    out->decision = denied ? KL_DENY : allowed ? KL_ALLOW : KL_NO_OPINION;
    out->text = kl_text(kl_map_value(status, KL_STR("reason")));
    out->until_ms = ttl > 0 ? kl_mono_ms() + ttl : 0;
}

void kl_access_review_read(const struct kl_authorizer *z, struct kl_reply *out, struct kl_str body)
{
    struct kl_value root;
    struct kl_error why;
    struct kl_str copy = kl_arena_dup(&out->arena, body);
    const struct kl_value *status = copy.p && !kl_json_parse(&out->arena, copy, NULL, &root, &why)
                                        ? kl_map_value(&root, KL_STR("status"))
                                        : NULL;
    out->decision = z->deny_on_failure ? KL_DENY : KL_NO_OPINION;
    if (!kl_is(status, KL_MAP))
        fail(out, KL_EPROTO, "webhook's answer is no SubjectAccessReview");
    else
        read_status(z, status, out);
}

static void read_answer(struct kl_query *q, int http, struct kl_str body,
                        const struct kl_error *err, struct kl_reply *out)
{
    const struct question *x = kl_query_arg(q);
    struct kl_error why;
    out->decision = x->z->deny_on_failure ? KL_DENY : KL_NO_OPINION;
    if (http < 0) {
        fail(out, http, err->msg);
    } else if (http < 200 || http > 299) {
        kl_error_set(&why, KL_EUNAVAILABLE, "webhook %.*s answered %d", KL_PRI(x->z->name), http);
        fail(out, why.code, why.msg);
    } else {
        kl_access_review_read(x->z, out, body);
    }
    if (out->code)
        kl_log(KL_LOG_WARN, "apiserver", "authorization webhook=%.*s: %.*s", KL_PRI(x->z->name),
               KL_PRI(out->text));
}

static enum kl_decision failed(struct kl_arena *a, const struct kl_authorizer *z, const char *why,
                               struct kl_verdict *v)
{
    struct kl_str s = kl_arena_dup(a, kl_str(why));
    v->error = v->error.n ? v->error : s.p ? s : KL_STR("out of memory");
    return z->deny_on_failure ? KL_DENY : KL_NO_OPINION;
}

static int begin(struct kl_api_loop *al, const struct kl_authorizer *z, struct kl_ask *ask,
                 struct kl_str key, const struct kl_buf *body, struct kl_error *err)
{
    struct question *x = calloc(1, sizeof *x);
    struct kl_bytes *bytes = kl_bytes_from_buf(body);
    struct kl_query_spec q = {.key = key,
                              .to = z->to,
                              .body = bytes,
                              .timeout_ms = z->timeout_ms,
                              .retries = RETRIES,
                              .max_bytes = ANSWER_MAX,
                              .read = read_answer,
                              .arg = x,
                              .release = free_question};
    int rc = KL_ENOMEM;
    if (!x || !bytes) {
        free(x);
        kl_error_set(err, rc, "out of memory");
    } else {
        x->conf = kl_auth_conf_ref(al->authn->conf);
        x->z = z;
        if ((rc = kl_ask_begin(al, ask, &q, err)))
            free_question(x);
    }
    kl_bytes_unref(bytes);
    return rc;
}

enum kl_decision kl_webhook_authorize(struct kl_api_loop *al, struct kl_arena *a,
                                      const struct kl_authorizer *z, const struct kl_attrs *t,
                                      struct kl_verdict *v)
{
    struct kl_error err = {0};
    struct kl_buf b;
    bool match;
    if (matches(a, z, t, &match, &err))
        return failed(a, z, err.msg, v);
    if (!match)
        return KL_NO_OPINION;
    kl_buf_init(&b, 1 << 20);
    put_review(&b, z, t);
    struct kl_str key = b.err ? (struct kl_str){NULL, 0}
                              : kl_arena_printf(a, "A:%.*s:%.*s", KL_PRI(z->name), (int)b.n, b.p);
    enum kl_decision d = KL_NO_OPINION;
    const struct kl_reply *r = key.p ? kl_ask_known(al, t->ask, key) : NULL;
    if (!key.p)
        d = failed(a, z, "out of memory", v);
    else if (r && r->code)
        d = failed(a, z, r->text.p, v) == KL_DENY ? KL_DENY : r->decision;
    else if (r)
        d = r->decision;
    else if (!t->ask)
        d = failed(a, z, "the webhook has not been asked", v);
    else if (begin(al, z, t->ask, key, &b, &err))
        d = failed(a, z, err.msg, v);
    if (r && r->text.n && !r->code) {
        struct kl_str said = kl_arena_dup(a, r->text);
        if (said.p)
            v->reason = v->reason.n && d != KL_ALLOW
                            ? kl_arena_printf(a, "%.*s\n%.*s", KL_PRI(v->reason), KL_PRI(said))
                            : said;
    }
    kl_buf_fini(&b);
    return d;
}
