// SPDX-License-Identifier: Apache-2.0
// The words about types and fields, unpacked once for all documents that a loop is writing, and
// given back to the system with the last of them.
#include "apiserver/openapi/facts_int.h"
#include "apiserver/openapi/openapi_int.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <zlib.h>

struct kl_oa_texts {
    struct kl_api_loop *al;
    unsigned refs;
    char *bytes;   // mapped: what malloc is given back stays with the process
    uint32_t at[]; // of each text, and of the end
};

static void texts_free(struct kl_oa_texts *t)
{
    if (t->bytes != MAP_FAILED)
        munmap(t->bytes, kl_oa_texts_nbytes);
    free(t);
}

static bool unpack(struct kl_oa_texts *t)
{
    uLongf n = kl_oa_texts_nbytes;
    t->bytes = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (t->bytes == MAP_FAILED ||
        uncompress((Bytef *)t->bytes, &n, kl_oa_texts_packed, kl_oa_texts_npacked) != Z_OK ||
        n != kl_oa_texts_nbytes)
        return false;
    uint32_t at = 0;
    for (unsigned i = 0; i < kl_oa_ntexts; i++) {
        t->at[i] = at;
        at += (uint32_t)strlen(t->bytes + at) + 1;
    }
    t->at[kl_oa_ntexts] = at;
    return true;
}

struct kl_oa_texts *kl_oa_texts_get(struct kl_api_loop *al)
{
    struct kl_oa_texts *t = al->texts;
    if (!t) {
        t = calloc(1, sizeof *t + (kl_oa_ntexts + 1) * sizeof t->at[0]);
        if (!t)
            return NULL;
        if (!unpack(t)) {
            texts_free(t);
            return NULL;
        }
        t->al = al;
        al->texts = t;
    }
    t->refs++;
    return t;
}

void kl_oa_texts_put(struct kl_oa_texts *t)
{
    if (!t || --t->refs)
        return;
    t->al->texts = NULL;
    texts_free(t);
}

struct kl_str kl_oa_text(const struct kl_oa_texts *t, const struct kl_type *type, int field)
{
    unsigned id = kl_oa_text_ids[kl_oa_text_first[type - kl_type_table] + field + 1];
    if (!id--)
        return KL_STR("");
    return (struct kl_str){t->bytes + t->at[id], t->at[id + 1] - t->at[id] - 1};
}
