// SPDX-License-Identifier: Apache-2.0
// What the generated tables and the code of this folder share.
#pragma once
#include "object/schema.h"

struct kl_sym_row {
    uint16_t offset; // of `"name":` in kl_sym_texts
    uint16_t n;      // bytes of the name
};

// A symbol's text may be read this far from its start, whatever its length.
#define KL_SYM_SLACK 32
// `"name":` of every built-in symbol, one after another.
extern const char kl_sym_texts[];
extern const struct kl_sym_row kl_sym_rows[]; // by symbol

#define KL_SYM_SLOTS 4096
extern const uint16_t kl_sym_slots[KL_SYM_SLOTS]; // open addressing: symbol, 0 for a free slot

struct kl_kind_row {
    const char *group, *version, *kind;
    uint16_t type;       // index into kl_type_table
    uint8_t every_group; // registered in each group (DeleteOptions, WatchEvent)
};
extern const struct kl_kind_row kl_kind_rows[]; // sorted by kind, group, version
extern const uint16_t kl_nkind_rows;

// What Go calls a field's type where the name cannot be derived from the schema (v1.PullPolicy),
// and the embedded structs it comes from ("VolumeSource."). Offsets into kl_go_texts, 0 for "".
struct kl_go_row {
    uint16_t type, sym, name, embedded;
};
extern const struct kl_go_row kl_go_rows[]; // sorted by type and symbol
extern const uint16_t kl_ngo_rows;
extern const char kl_go_texts[];

#define KL_GOLDEN 0x9E3779B97F4A7C15u

static inline uint64_t kl_load_le64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

// The key that both perfect hashes of a type's names and the table of symbols use: the first and
// the last eight bytes and the length. gen_schema.py computes the same.
static inline uint64_t kl_name_key(const char *p, size_t n)
{
    uint64_t first, last;
    if (n >= 8) {
        first = kl_load_le64(p);
        last = kl_load_le64(p + n - 8);
    } else {
        char tmp[8] = {0};
        memcpy(tmp, p, n);
        first = kl_load_le64(tmp);
        last = 0;
    }
    return (first ^ (last * KL_GOLDEN)) + n * 0x0101010101010101u;
}

struct kl_str kl_sym_quoted_dynamic(uint32_t sym);

// `"name":`, ready to be written; empty for a number that is no symbol.
static inline struct kl_str kl_sym_quoted(uint32_t sym)
{
    if (sym - 1u < KL_SYM_BUILTIN_END - 1u) {
        const struct kl_sym_row *row = &kl_sym_rows[sym];
        return (struct kl_str){kl_sym_texts + row->offset, (size_t)row->n + 3};
    }
    return kl_sym_quoted_dynamic(sym);
}

// Index of the field with this name in a type that has slots; -1 when there is none.
static inline int kl_type_slot(const struct kl_type *t, const char *p, size_t n)
{
    uint8_t slot = t->slots[kl_name_key(p, n) * t->slot_mul >> (64 - t->slot_bits)];
    if (!slot)
        return -1;
    struct kl_str quoted = kl_sym_quoted(t->fields[slot - 1].sym);
    return quoted.n == n + 3 && memcmp(quoted.p + 1, p, n) == 0 ? slot - 1 : -1;
}
