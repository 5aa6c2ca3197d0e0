// SPDX-License-Identifier: Apache-2.0
#include "store/transfer/access.h"
#include "store/transfer/source.h"
#include <openssl/evp.h>
#include <stdlib.h>

static void put_le(unsigned char *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static int add_key(EVP_MD_CTX *md, const struct kl_kv *kv, struct kl_str value,
                   int64_t (*renumber)(void *arg, kl_rev rev), void *arg)
{
    kl_rev create = renumber ? renumber(arg, kv->create_rev) : kv->create_rev;
    kl_rev mod = renumber ? renumber(arg, kv->mod_rev) : kv->mod_rev;
    unsigned char fixed[6 * 8];
    put_le(fixed, kv->key_len);
    put_le(fixed + 8, value.n);
    put_le(fixed + 16, (uint64_t)create);
    put_le(fixed + 24, (uint64_t)mod);
    put_le(fixed + 32, (uint64_t)kv->version);
    put_le(fixed + 40, (uint64_t)kv->lease);
    return EVP_DigestUpdate(md, fixed, sizeof(fixed)) &&
                   EVP_DigestUpdate(md, kv->key, kv->key_len) &&
                   EVP_DigestUpdate(md, value.p, value.n)
               ? 0
               : KL_ENOMEM;
}

int kl_store_digest(struct kl_store *store, int64_t (*renumber)(void *arg, kl_rev rev), void *arg,
                    unsigned char ret[KL_DIGEST_BYTES], kl_rev *ret_rev, struct kl_error *err)
{
    struct kl_access a;
    struct kl_view *v = NULL;
    struct kl_iter it;
    int r = kl_access_open(&a, store, err);
    if (r)
        return r;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    if (!md || !EVP_DigestInit_ex(md, EVP_sha256(), NULL))
        r = kl_error_set(err, KL_ENOMEM, "out of memory");
    else
        r = kl_access_view(&a, &v, err);
    if (!r)
        kl_iter_init(&it, v, KL_STR("\0"), KL_RANGE_TO_LAST);
    for (struct kl_kv *kv; !r && (kv = kl_iter_next(&it));) {
        if (kl_str_eqz(kl_kv_key(kv), KL_FENCE_KEY))
            continue; // no part of a copy
        if (add_key(md, kv, kl_kv_value(kv), renumber, arg))
            r = kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    if (!r && !EVP_DigestFinal_ex(md, ret, NULL))
        r = kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!r)
        *ret_rev = kl_view_rev(v);
    EVP_MD_CTX_free(md);
    kl_view_unref(v);
    kl_access_close(&a);
    return r;
}
