// SPDX-License-Identifier: Apache-2.0
// Look-ups in the tables of types.
#include "object/schema_int.h"

// Named types come first in the table, sorted by name.
const struct kl_type *kl_type_by_name(struct kl_str definition_name)
{
    size_t low = 0, high = kl_ntypes;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = kl_str_cmp(definition_name, kl_str(kl_type_table[mid].name));
        if (c == 0)
            return &kl_type_table[mid];
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

const struct kl_type *kl_type_by_kind(struct kl_str group, struct kl_str version,
                                      struct kl_str kind)
{
    size_t low = 0, high = kl_nkind_rows;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (kl_str_cmp(kl_str(kl_kind_rows[mid].kind), kind) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < kl_nkind_rows; low++) {
        const struct kl_kind_row *row = &kl_kind_rows[low];
        if (!kl_str_eqz(kind, row->kind))
            break;
        if (row->every_group ||
            (kl_str_eqz(group, row->group) && kl_str_eqz(version, row->version)))
            return &kl_type_table[row->type];
    }
    return NULL;
}

const struct kl_field *kl_type_field(const struct kl_type *t, uint32_t sym)
{
    // Built-in symbols are numbered in the order of their names, so by_name also sorts by symbol.
    if (t->nfields > 8 && kl_type_is_builtin(t)) {
        size_t low = 0, high = t->nfields;
        while (low < high) {
            size_t mid = (low + high) / 2;
            const struct kl_field *f = &t->fields[t->by_name[mid]];
            if (f->sym == sym)
                return f;
            if (f->sym > sym)
                high = mid;
            else
                low = mid + 1;
        }
        return NULL;
    }
    for (uint16_t i = 0; i < t->nfields; i++)
        if (t->fields[i].sym == sym)
            return &t->fields[i];
    return NULL;
}

const struct kl_field *kl_type_field_named(const struct kl_type *t, struct kl_str name)
{
    if (t->nfields == 0)
        return NULL;
    if (t->slots) {
        int i = kl_type_slot(t, name.p, name.n);
        return i < 0 ? NULL : &t->fields[i];
    }
    uint32_t sym = kl_sym_find(name);
    return sym == KL_SYM_NONE ? NULL : kl_type_field(t, sym);
}
