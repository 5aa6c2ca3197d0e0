// SPDX-License-Identifier: Apache-2.0
// Making the words of a schema: equal runs and equal texts are stored once.
#pragma once
#include "object/crd/crd_int.h"

struct crd_slot {
    uint32_t at, n; // n 0: free
};
struct crd_table {
    struct crd_slot *slots;
    uint32_t cap, used;
};
struct crd_builder {
    uint32_t *w;
    size_t nw, capw;
    char *text;
    size_t ntext, captext;
    struct crd_table runs, texts;
    struct kl_arena arena; // of the compilation
    uint32_t depth;
};

int crd_builder_init(struct crd_builder *b);
void crd_builder_fini(struct crd_builder *b);
// The place of a run or a text. KL_ENOMEM, KL_ELIMIT.
int crd_put_words(struct crd_builder *b, const uint32_t *w, size_t n, uint32_t *ret);
int crd_put_text(struct crd_builder *b, struct kl_str s, uint32_t *ret);
