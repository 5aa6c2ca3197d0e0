// SPDX-License-Identifier: Apache-2.0
// Values as untyped trees: what patches and apply configurations of policies are made of.
#include "object/cel/value_int.h"

enum { MAX_DEPTH = 1000 };

struct writer {
    struct kl_arena *arena;
    struct kl_error *err;
    int depth;
};

static int put(struct writer *w, struct kl_cel_val v, struct kl_value *ret);

static int put_string(struct writer *w, struct kl_cel_val v, struct kl_value *ret)
{
    struct kl_cel_val s = cel_convert(w->arena, v, T_STRING);
    if (cel_is_error(s))
        return kl_error_set(w->err, KL_EINVALID, "%.*s", KL_PRI(cel_text(s)));
    *ret = kl_string(cel_text(s));
    return 0;
}

static int put_bytes(struct writer *w, struct kl_str s, struct kl_value *ret)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *p = kl_arena_alloc(w->arena, (s.n + 2) / 3 * 4 + 1);
    size_t n = 0;
    if (!p)
        return kl_error_set(w->err, KL_ENOMEM, "out of memory");
    for (size_t i = 0; i < s.n; i += 3) {
        uint32_t v = (uint32_t)(unsigned char)s.p[i] << 16;
        v |= i + 1 < s.n ? (uint32_t)(unsigned char)s.p[i + 1] << 8 : 0;
        v |= i + 2 < s.n ? (uint32_t)(unsigned char)s.p[i + 2] : 0;
        p[n++] = digits[v >> 18];
        p[n++] = digits[v >> 12 & 63];
        p[n++] = i + 1 < s.n ? digits[v >> 6 & 63] : '=';
        p[n++] = i + 2 < s.n ? digits[v & 63] : '=';
    }
    *ret = kl_string((struct kl_str){p, n});
    return 0;
}

static int put_map(struct writer *w, struct kl_cel_val v, struct kl_value *ret)
{
    size_t n = cel_count(v);
    struct kl_value map = kl_new_map();
    for (size_t i = 0; i < n; i++) {
        struct kl_cel_val key, value;
        struct kl_value child;
        kl_cel_entry(w->arena, v, i, &key, &value);
        if (key.kind != KL_CEL_STRING)
            return kl_error_set(w->err, KL_EINVALID, "map key %.*s is of type %.*s, not string",
                                KL_PRI(kl_cel_format(w->arena, key)), KL_PRI(cel_kind_name(key)));
        int r = put(w, value, &child);
        if (!r && kl_map_set_value(w->arena, &map, cel_text(key), child))
            r = kl_error_set(w->err, KL_ENOMEM, "out of memory");
        if (r)
            return r;
    }
    *ret = map;
    return 0;
}

static int put_list(struct writer *w, struct kl_cel_val v, struct kl_value *ret)
{
    size_t n = cel_count(v);
    struct kl_value list = kl_new_array();
    for (size_t i = 0; i < n; i++) {
        struct kl_value child;
        int r = put(w, cel_get(w->arena, v, i), &child);
        if (!r && kl_append(w->arena, &list, child))
            r = kl_error_set(w->err, KL_ENOMEM, "out of memory");
        if (r)
            return r;
    }
    *ret = list;
    return 0;
}

static int put(struct writer *w, struct kl_cel_val v, struct kl_value *ret)
{
    int r = 0;
    if (++w->depth > MAX_DEPTH)
        return kl_error_set(w->err, KL_EINVALID, "value is nested too deep");
    switch (v.kind) {
    case KL_CEL_NULL:
        *ret = kl_null();
        break;
    case KL_CEL_BOOL:
        *ret = kl_bool(v.b);
        break;
    case KL_CEL_INT:
        *ret = kl_int(v.i);
        break;
    case KL_CEL_UINT:
        *ret = v.u <= INT64_MAX ? kl_int((int64_t)v.u) : kl_float((double)v.u);
        break;
    case KL_CEL_DOUBLE:
        *ret = kl_float(v.d);
        break;
    case KL_CEL_STRING:
        *ret = kl_string(cel_text(v));
        break;
    case KL_CEL_BYTES:
        r = put_bytes(w, cel_text(v), ret);
        break;
    case KL_CEL_TIMESTAMP:
    case KL_CEL_DURATION:
    case KL_CEL_IP:
    case KL_CEL_CIDR:
        r = put_string(w, v, ret);
        break;
    case KL_CEL_LIST:
        r = put_list(w, v, ret);
        break;
    case KL_CEL_MAP:
        r = put_map(w, v, ret);
        break;
    case KL_CEL_OPTIONAL:
        if (v.p)
            r = put(w, *(const struct kl_cel_val *)v.p, ret);
        else
            r = kl_error_set(w->err, KL_EINVALID, "optional.none() dereference");
        break;
    case KL_CEL_OPAQUE:
        *ret = *(const struct kl_value *)v.p;
        ret->owned = 0;
        break;
    case KL_CEL_QUANTITY:
    case KL_CEL_URL:
        *ret = kl_string(cel_show(w->arena, v));
        break;
    case KL_CEL_OBJECT: {
        struct kl_cel_val fields = {.kind = KL_CEL_MAP, .form = F_GROWS};
        fields.p = &((const struct cel_object *)v.p)->fields;
        r = put_map(w, fields, ret);
        break;
    }
    default:
        r = kl_error_set(w->err, KL_EINVALID, "type conversion error from '%.*s' to JSON",
                         KL_PRI(cel_kind_name(v)));
        break;
    }
    w->depth--;
    return r;
}

int kl_cel_to_value(struct kl_arena *a, struct kl_cel_val v, struct kl_value *ret,
                    struct kl_error *err)
{
    struct writer w = {.arena = a, .err = err};
    return put(&w, v, ret);
}

bool kl_cel_as_json_patch(struct kl_cel_val v, struct kl_cel_json_patch *ret)
{
    if (v.kind != KL_CEL_JSON_PATCH)
        return false;
    *ret = ((const struct cel_patch *)v.p)->v;
    if (!ret->has_value)
        ret->value = CEL_ERR("no value");
    return true;
}
