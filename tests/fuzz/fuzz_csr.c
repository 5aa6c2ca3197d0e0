// SPDX-License-Identifier: Apache-2.0
// Certificate requests: a PEM block, or behind a byte 'D' the DER inside one. What is taken is told
// the same twice, and no text of it holds a NUL.
#include "fuzz.h"
#include "net/csr.h"
#include <openssl/pem.h>
#include <string.h>

static void check(struct kl_str pem)
{
    struct kl_csr c, again;
    struct kl_error err = {0};
    if (kl_csr_parse(pem, &c, &err)) {
        FUZZ_CHECK(err.code == KL_EINVALID && err.msg[0], "%d %s", err.code, err.msg);
        return;
    }
    FUZZ_CHECK(!kl_csr_parse(pem, &again, &err), "%s", err.msg);
    FUZZ_CHECK(kl_str_eq(c.cn, again.cn) && c.norgs == again.norgs && c.ndns == again.ndns &&
                   c.nip == again.nip,
               "another request");
    FUZZ_CHECK(!c.cn.n || !memchr(c.cn.p, 0, c.cn.n), "a NUL in the name");
    for (size_t i = 0; i < c.norgs; i++)
        FUZZ_CHECK(!c.orgs[i].n || !memchr(c.orgs[i].p, 0, c.orgs[i].n), "a NUL in group %zu", i);
    if (kl_csr_verify(&c, &err))
        FUZZ_CHECK(err.msg[0], "no message");
    kl_csr_fini(&c);
    kl_csr_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size || size > 65536)
        return 0;
    if (data[0] != 'D') {
        check((struct kl_str){(const char *)data, size});
        return 0;
    }
    BIO *b = BIO_new(BIO_s_mem());
    char *pem;
    if (b && PEM_write_bio(b, PEM_STRING_X509_REQ, "", data + 1, (long)size - 1) > 0) {
        long n = BIO_get_mem_data(b, &pem);
        check((struct kl_str){pem, (size_t)n});
    }
    BIO_free(b);
    return 0;
}
