// SPDX-License-Identifier: Apache-2.0
// What Go calls our types in its decoder's errors: "v1.Container", "[]v1.Container".
#include "object/json_int.h"
#include "object/schema_int.h"

// "io.k8s.api.core.v1.Pod" is v1.Pod, "...api.resource.Quantity" is resource.Quantity.
static struct kl_str last_two(struct kl_str name)
{
    int dots = 0;
    for (size_t i = name.n; i > 0; i--)
        if (name.p[i - 1] == '.' && ++dots == 2)
            return kl_str_from(name, i);
    return name;
}

void kl_go_type_name(struct kl_buf *out, const struct kl_type *t)
{
    while (!t->name && (t->kind == KL_T_ARRAY || t->kind == KL_T_MAP)) {
        kl_buf_puts(out, t->kind == KL_T_ARRAY ? KL_STR("[]") : KL_STR("map[string]"));
        t = t->elem;
    }
    if (t->name) {
        kl_buf_puts(out, last_two(kl_str(t->name)));
        return;
    }
    switch (t->kind) {
    case KL_T_INTEGER:
        kl_buf_puts(out, t->format == KL_FMT_INT32  ? KL_STR("int32")
                         : t->format == KL_FMT_BYTE ? KL_STR("uint8") // of a []byte
                                                    : KL_STR("int64"));
        break;
    case KL_T_NUMBER:
        kl_buf_puts(out, KL_STR("float64"));
        break;
    case KL_T_BOOLEAN:
        kl_buf_puts(out, KL_STR("bool"));
        break;
    case KL_T_BYTES:
        kl_buf_puts(out, KL_STR("[]uint8"));
        break;
    case KL_T_STRING:
        kl_buf_puts(out, KL_STR("string"));
        break;
    default:
        kl_buf_puts(out, KL_STR("interface {}"));
        break;
    }
}

static const struct kl_go_row *find_row(const struct kl_type *owner, const struct kl_field *f)
{
    if (!kl_type_is_builtin(owner))
        return NULL;
    uint32_t type = (uint32_t)(owner - kl_type_table);
    size_t low = 0, high = kl_ngo_rows;
    while (low < high) {
        size_t mid = (low + high) / 2;
        const struct kl_go_row *row = &kl_go_rows[mid];
        if (row->type == type && row->sym == f->sym)
            return row;
        if (row->type < type || (row->type == type && row->sym < f->sym))
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

void kl_go_field_type_name(struct kl_buf *out, const struct kl_type *owner,
                           const struct kl_field *f)
{
    const struct kl_go_row *row = find_row(owner, f);
    if (row && row->name)
        kl_buf_puts(out, kl_str(kl_go_texts + row->name));
    else
        kl_go_type_name(out, f->type);
}

struct kl_str kl_go_embedded_prefix(const struct kl_type *owner, const struct kl_field *f)
{
    // apiVersion and kind come from the embedded TypeMeta.
    if (owner->has_type_meta && (f->sym == KL_F_apiVersion || f->sym == KL_F_kind))
        return KL_STR("TypeMeta.");
    const struct kl_go_row *row = find_row(owner, f);
    return row ? kl_str(kl_go_texts + row->embedded) : KL_STR("");
}
