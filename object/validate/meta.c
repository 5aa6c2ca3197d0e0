// SPDX-License-Identifier: Apache-2.0
// ObjectMeta (apimachinery api/validation, and what pkg/apis/core adds for finalizers).
#include "object/gotext_int.h"
#include "object/json.h"
#include "object/schema.h"
#include "object/types_gen.h"
#include "object/validate/validate_int.h"

static const struct kl_value *meta_of(const struct kl_value *root)
{
    return kl_get(root, KL_F_metadata);
}

static void check_owner(struct kl_v *c, const struct kl_value *o, const struct kl_vpath *p)
{
    struct kl_str version = kl_text(kl_get(o, KL_F_apiVersion));
    struct kl_str kind = kl_text(kl_get(o, KL_F_kind));
    ptrdiff_t slash = kl_str_chr(version, '/');
    // What has two slashes is no version: it is parsed to nothing.
    struct kl_str rest = kl_str_from(version, (size_t)(slash + 1));
    if (!rest.n || kl_str_chr(rest, '/') >= 0)
        kl_v_invalid_str(c, F(p, apiVersion), version, "version must not be empty");
    if (!kind.n)
        kl_v_invalid_str(c, F(p, kind), kind, "must not be empty");
    if (!kl_text(kl_get(o, KL_F_name)).n)
        kl_v_invalid_str(c, F(p, name), KL_STR(""), "must not be empty");
    if (!kl_text(kl_get(o, KL_F_uid)).n)
        kl_v_invalid_str(c, F(p, uid), KL_STR(""), "must not be empty");
    if (kl_str_eqz(version, "v1") && kl_str_eqz(kind, "Event"))
        kl_v_invalid_json(c, p, kl_type(KL_TYPE_meta_v1_OwnerReference), o, false,
                          "/v1, Kind=Event is disallowed from being an owner");
}

static void check_owners(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    const struct kl_value *first = NULL;
    for (KL_EACH(o, list)) {
        check_owner(c, o, p);
        if (!kl_is_true(kl_get(o, KL_F_controller)))
            continue;
        if (!first) {
            first = o;
            continue;
        }
        struct kl_buf b;
        kl_buf_init(&b, 1 << 20);
        size_t n = 0;
        kl_buf_putc(&b, '[');
        for (KL_EACH(x, list)) {
            kl_buf_puts(&b, n++ ? KL_STR(",") : KL_STR(""));
            kl_json_encode(&b, kl_type(KL_TYPE_meta_v1_OwnerReference), x, KL_STR(""));
        }
        kl_buf_putc(&b, ']');
        kl_v_invalid_text(
            c, p, kl_str(kl_v_text(c, "%.*s", KL_PRI(kl_buf_str(&b)))),
            kl_v_text(c,
                      "Only one reference can have Controller set to true. Found \"true\" in "
                      "references for %.*s/%.*s and %.*s/%.*s",
                      KL_PRI(kl_text(kl_get(first, KL_F_kind))),
                      KL_PRI(kl_text(kl_get(first, KL_F_name))),
                      KL_PRI(kl_text(kl_get(o, KL_F_kind))),
                      KL_PRI(kl_text(kl_get(o, KL_F_name)))));
        kl_buf_fini(&b);
    }
}

static void check_finalizers(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    for (KL_EACH(f, list))
        kl_v_format(c, p, kl_text(f), KL_V_QUALIFIED);
    if (kl_has_text(list, KL_STR("orphan")) && kl_has_text(list, KL_STR("foregroundDeletion")))
        kl_v_invalid(c, p, list, "finalizer orphan and foregroundDeletion cannot be both set");
}

static void check_known_finalizers(struct kl_v *c)
{
    size_t i = 0;
    for (KL_EACH(f, kl_get(meta_of(c->now), KL_F_finalizers)))
        kl_v_known_finalizer(c, I(F(&c->meta, finalizers), i++), kl_text(f));
}

void kl_v_known_finalizer(struct kl_v *c, const struct kl_vpath *p, struct kl_str s)
{
    static const char *const known[] = {"kubernetes", "orphan", "foregroundDeletion", NULL};
    if (kl_str_chr(s, '/') < 0 && !kl_v_in(s, known))
        kl_v_invalid_str(c, p, s,
                         "name is neither a standard finalizer name nor is it fully qualified");
}

static void check_manager(struct kl_v *c, struct kl_str s, const struct kl_vpath *p)
{
    if (s.n > 128)
        kl_v_too_long(c, p, 128);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char ch = (unsigned char)s.p[i];
        if (ch < ' ' || ch == 0x7f)
            kl_v_invalid_str(c, p, s,
                             kl_v_text(c, "invalid character U+%04X (at position %zu)", ch, i));
    }
}

static void check_managed(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    size_t i = 0;
    for (KL_EACH(m, list)) {
        const struct kl_vpath *at = I(p, i++);
        struct kl_str op = kl_text(kl_get(m, KL_F_operation));
        struct kl_str type = kl_text(kl_get(m, KL_F_fieldsType));
        if (!kl_str_eqz(op, "Apply") && !kl_str_eqz(op, "Update"))
            kl_v_invalid_str(c, F(at, operation), op, "must be `Apply` or `Update`");
        if (type.n && !kl_str_eqz(type, "FieldsV1"))
            kl_v_invalid_str(c, F(at, fieldsType), type, "must be `FieldsV1`");
        check_manager(c, kl_text(kl_get(m, KL_F_manager)), F(at, manager));
        if (kl_text(kl_get(m, KL_F_subresource)).n > 256)
            kl_v_too_long(c, F(at, subresource), 256);
    }
}

// maskTrailingDash: what comes behind a prefix makes its end good.
static struct kl_str masked(struct kl_v *c, struct kl_str s)
{
    if (s.n < 2 || s.p[s.n - 1] != '-')
        return s;
    return kl_str(kl_v_text(c, "%.*sa", (int)(s.n - 2), s.p));
}

static void check_name(struct kl_v *c, enum kl_v_format format)
{
    const struct kl_value *m = meta_of(c->now);
    struct kl_str name = kl_text(kl_get(m, KL_F_name));
    struct kl_str prefix = kl_text(kl_get(m, KL_F_generateName));
    if (prefix.n && (format == KL_V_OWN || format == KL_V_CONFIG_KEY)) {
        kl_v_format(c, F(&c->meta, generateName), prefix, format);
    } else if (prefix.n) {
        const char *msg[KL_V_MESSAGES];
        size_t n =
            kl_v_messages(format, format == KL_V_PATH_SEGMENT ? prefix : masked(c, prefix), msg);
        for (size_t i = 0; i < n; i++)
            if (format != KL_V_PATH_SEGMENT ||
                kl_str_starts(kl_str(msg[i]), KL_STR("may not contain")))
                kl_v_invalid_str(c, F(&c->meta, generateName), prefix, msg[i]);
    }
    if (!name.n)
        kl_v_required(c, F(&c->meta, name), "name or generateName is required");
    else
        kl_v_format(c, F(&c->meta, name), name, format);
}

static void check_common(struct kl_v *c)
{
    const struct kl_value *m = meta_of(c->now);
    const struct kl_vpath *p = &c->meta;
    struct kl_str ns = kl_text(kl_get(m, KL_F_namespace));
    if (c->res->namespaced && !ns.n)
        kl_v_required(c, F(p, namespace), "");
    else if (c->res->namespaced)
        kl_v_format(c, F(p, namespace), ns, KL_V_LABEL);
    else if (ns.n)
        kl_v_forbidden(c, F(p, namespace), "not allowed on this type");
    kl_v_nonnegative(c, F(p, generation), kl_int_at(m, 0, KL_F_generation));
    kl_v_labels(c, F(p, labels), kl_get(m, KL_F_labels));
    kl_v_annotations(c, F(p, annotations), kl_get(m, KL_F_annotations));
    check_owners(c, kl_get(m, KL_F_ownerReferences), F(p, ownerReferences));
    check_finalizers(c, kl_get(m, KL_F_finalizers), F(p, finalizers));
    check_managed(c, kl_get(m, KL_F_managedFields), F(p, managedFields));
}

void kl_v_meta_plain(struct kl_v *c, enum kl_v_format name)
{
    check_name(c, name);
    check_common(c);
}

void kl_v_meta(struct kl_v *c, enum kl_v_format name)
{
    kl_v_meta_plain(c, name);
    check_known_finalizers(c);
}

void kl_v_template_meta(struct kl_v *c, const struct kl_value *meta, const struct kl_vpath *p)
{
    const struct kl_type *type = kl_type(KL_TYPE_meta_v1_ObjectMeta);
    kl_v_annotations(c, F(p, annotations), kl_get(meta, KL_F_annotations));
    kl_v_labels(c, F(p, labels), kl_get(meta, KL_F_labels));
    for (uint16_t i = 0; i < type->nfields; i++) {
        kl_sym f = type->fields[i].sym;
        const struct kl_value *m = kl_get(meta, f);
        if (m && f != KL_F_labels && f != KL_F_annotations && !(m->kind == KL_STRING && !m->n))
            kl_v_forbidden(c, FS(p, f), "cannot be set");
    }
}

static void check_same(struct kl_v *c, kl_sym f)
{
    const struct kl_value *now = kl_get(meta_of(c->now), f), *old = kl_get(meta_of(c->old), f);
    if (kl_value_equal(now, old))
        return;
    const struct kl_vpath *p = FS(&c->meta, f);
    if (kl_is(now, KL_TIME) || (!now && kl_is(old, KL_TIME)))
        kl_v_invalid_json(c, p, kl_type_field(kl_type(KL_TYPE_meta_v1_ObjectMeta), f)->type, now,
                          false, "field is immutable");
    else if (!now && f != KL_F_deletionGracePeriodSeconds)
        kl_v_invalid_str(c, p, KL_STR(""), "field is immutable");
    else
        kl_v_invalid(c, p, now, "field is immutable");
}

static void check_new_finalizers(struct kl_v *c)
{
    const struct kl_value *now = kl_get(meta_of(c->now), KL_F_finalizers);
    const struct kl_value *old = kl_get(meta_of(c->old), KL_F_finalizers);
    struct kl_buf b;
    size_t n = 0;
    struct kl_str last = {0};
    kl_buf_init(&b, 1 << 20);
    // In bytewise order, each once: the smallest one greater than the last.
    for (;;) {
        struct kl_str next = {0};
        for (KL_EACH(f, now)) {
            struct kl_str s = kl_text(f);
            if (!kl_has_text(old, s) && (!last.p || kl_str_cmp(s, last) > 0) &&
                (!next.p || kl_str_cmp(s, next) < 0))
                next = s;
        }
        if (!next.p)
            break;
        kl_buf_puts(&b, n++ ? KL_STR(", ") : KL_STR(""));
        kl_go_quote(&b, next);
        last = next;
    }
    if (n)
        kl_v_forbidden(c, F(&c->meta, finalizers),
                       kl_v_text(c,
                                 "no new finalizers can be added if the object is being deleted, "
                                 "found new finalizers []string{%.*s}",
                                 KL_PRI(kl_buf_str(&b))));
    kl_buf_fini(&b);
}

void kl_v_meta_update_plain(struct kl_v *c)
{
    static const kl_sym same[] = {KL_F_name,
                                  KL_F_namespace,
                                  KL_F_uid,
                                  KL_F_creationTimestamp,
                                  KL_F_deletionTimestamp,
                                  KL_F_deletionGracePeriodSeconds};
    const struct kl_value *m = meta_of(c->now), *old = meta_of(c->old);
    const struct kl_vpath *p = &c->meta;
    int64_t generation = kl_int_at(m, 0, KL_F_generation);
    if (kl_get(old, KL_F_deletionTimestamp))
        check_new_finalizers(c);
    if (!kl_text(kl_get(m, KL_F_resourceVersion)).n)
        kl_v_invalid_str(c, F(p, resourceVersion), KL_STR(""), "must be specified for an update");
    if (generation < kl_int_at(old, 0, KL_F_generation))
        kl_v_invalid_int(c, F(p, generation), generation, "must not be decremented");
    for (size_t i = 0; i < KL_COUNT(same); i++)
        check_same(c, same[i]);
    kl_v_labels(c, F(p, labels), kl_get(m, KL_F_labels));
    kl_v_annotations(c, F(p, annotations), kl_get(m, KL_F_annotations));
    check_owners(c, kl_get(m, KL_F_ownerReferences), F(p, ownerReferences));
    check_managed(c, kl_get(m, KL_F_managedFields), F(p, managedFields));
}

void kl_v_meta_update(struct kl_v *c)
{
    kl_v_meta_update_plain(c);
    check_known_finalizers(c);
}
