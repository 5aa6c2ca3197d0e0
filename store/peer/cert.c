// SPDX-License-Identifier: Apache-2.0
#include "store/peer/peers_int.h"
#include <openssl/x509v3.h>

static const struct kl_str prefix = KL_STR_INIT("kinglet://peer/");

static bool parse_id(struct kl_str s, uint64_t *ret)
{
    uint64_t v = 0;
    if (s.n != 16)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *ret = v;
    return true;
}

int kl_peer_cert_id(SSL *ssl, uint64_t *ret_id, struct kl_error *err)
{
    X509 *x = ssl ? SSL_get0_peer_certificate(ssl) : NULL;
    GENERAL_NAMES *names = x ? X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL) : NULL;
    bool found = false;
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type != GEN_URI)
            continue;
        struct kl_str uri = {(const char *)ASN1_STRING_get0_data(g->d.uniformResourceIdentifier),
                             (size_t)ASN1_STRING_length(g->d.uniformResourceIdentifier)};
        found = kl_str_starts(uri, prefix) && parse_id(kl_str_from(uri, prefix.n), ret_id);
    }
    GENERAL_NAMES_free(names);
    return found ? 0
                 : kl_error_set(err, KL_EUNAUTHORIZED,
                                "its certificate has no name kinglet://peer/ID");
}
