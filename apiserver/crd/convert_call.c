// SPDX-License-Identifier: Apache-2.0
#include "apiserver/crd/convert_int.h"
#include "apiserver/webhook.h"
#include <stdlib.h>

struct kl_conversion_ask kl_conversion_describe(const struct kl_conversion_job *j,
                                                char of[KL_CONVERSION_KIND_MAX])
{
    const struct kl_resource *r = j->n > 1 ? j->to : j->items[0].from;
    int n = snprintf(of, KL_CONVERSION_KIND_MAX, "%s, Kind=%s", r->api_version,
                     j->n > 1 ? r->custom->list_kind : r->kind);
    return (struct kl_conversion_ask){
        .review = j->hook->family->review,
        .uid = kl_str(j->uid),
        .desired = kl_str(j->to->api_version),
        .of = {of, (size_t)n < KL_CONVERSION_KIND_MAX ? (size_t)n : KL_CONVERSION_KIND_MAX - 1},
        .n = j->n,
        .list = j->n > 1};
}

struct kl_bytes *kl_conversion_question(struct kl_conversion_job *j)
{
    struct kl_buf b;
    char mem[KL_CONVERSION_KIND_MAX];
    struct kl_buf head = {.p = mem, .cap = sizeof mem, .max = sizeof mem};
    kl_buf_init(&b, KL_MAX_ARENA_BYTES);
    kl_conversion_begin(&b, j->hook->family->review, kl_str(j->uid), kl_str(j->to->api_version));
    for (size_t i = 0; i < j->n; i++) {
        const struct kl_resource *from = j->items[i].from;
        struct kl_object *bare = kl_object_with_rv(j->items[i].was, 0); // as it is stored
        head.n = 0;
        kl_buf_printf(&head, "\"apiVersion\":\"%s\",\"kind\":\"%s\",", from->api_version,
                      from->kind);
        kl_buf_puts(&b, i ? KL_STR(",") : KL_STR(""));
        if (bare)
            kl_json_encode(&b, bare->type, &bare->root, kl_buf_str(&head));
        else
            b.err = KL_ENOMEM;
        kl_object_unref(bare);
    }
    kl_conversion_end(&b);
    struct kl_bytes *out = b.err || head.err ? NULL : kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    return out;
}

// An answer's object as one of the wanted type, with the revision that it is of.
static struct kl_object *retype(struct kl_arena *a, const struct kl_conversion_job *j,
                                const struct kl_conversion_item *x, const struct kl_value *now,
                                struct kl_error *err)
{
    struct kl_value v;
    struct kl_object *o = NULL;
    if (kl_crd_from_untyped(a, j->to->custom->schema, now, false, NULL, &v, err))
        return NULL;
    struct kl_value *m = kl_edit(a, &v, KL_F_metadata, KL_STRUCT);
    struct kl_str was = kl_meta_rv(&x->was->root);
    if (m && !(was.n ? kl_set(a, m, KL_F_resourceVersion, kl_string(was))
                     : kl_unset(a, m, KL_F_resourceVersion)))
        o = kl_object_freeze(j->to->type, &v);
    if (!o)
        kl_error_set(err, KL_ENOMEM, "out of memory");
    return o;
}

static void take_object(struct kl_arena *a, struct kl_conversion_job *j,
                        const struct kl_conversion_ask *ask, size_t i, const struct kl_value *said)
{
    struct kl_conversion_item *x = &j->items[i];
    struct kl_error err = {0};
    struct kl_value was, now = *said;
    struct kl_object *o = NULL;
    now.owned = 0;
    if (kl_crd_untyped(a, x->from->custom->schema, &x->was->root, &was))
        kl_error_set(&err, KL_ENOMEM, "out of memory");
    else if (!kl_conversion_take(a, ask, i, &was, &now, &err))
        o = retype(a, j, x, &now, &err);
    if (!o) {
        j->nbad++;
        if ((x->err = malloc(sizeof err)))
            *x->err = err;
        else
            j->err = err;
    } else if (x->kv) {
        kl_cache_attach_object(x->kv, o);
    } else {
        x->converted = o;
    }
}

enum kl_conversion_failure kl_conversion_answer(struct kl_conversion_job *j, int status,
                                                struct kl_str body, const struct kl_error *why)
{
    char of[KL_CONVERSION_KIND_MAX];
    const struct kl_conversion_ask ask = kl_conversion_describe(j, of);
    enum kl_conversion_failure failure = KL_CONVERSION_CALL;
    const struct kl_value *objects;
    struct kl_arena a;
    size_t i = 0;
    kl_arena_init(&a, KL_MAX_ARENA_BYTES);
    struct kl_str text = status < 0 ? kl_str(why->msg) : kl_webhook_status_text(&a, status, body);
    if (text.p) {
        kl_error_set(&j->err, status < 0 ? status : KL_EINVALID,
                     "conversion webhook for %s failed: %.*s", of, KL_PRI(text));
    } else if (!body.n) {
        kl_error_set(&j->err, KL_EINVALID,
                     "conversion webhook for %s failed: 0-length response with status code: %d and "
                     "content type: ",
                     of, status);
    } else if (!kl_conversion_read(&a, &ask, body, &objects, &failure, &j->err)) {
        for (KL_EACH(o, objects))
            take_object(&a, j, &ask, i++, o);
        if (j->nbad)
            failure = KL_CONVERSION_INVALID;
    }
    kl_arena_fini(&a);
    return failure;
}
