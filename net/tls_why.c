// SPDX-License-Identifier: Apache-2.0
// Why a server's certificate is not believed, in the words and the order of Go's crypto/x509: what
// is wrong with the certificate's time, then with its name, then with who signed it. Callers of
// webhooks are told them.
#include "net/tls_int.h"
#include "base/buf.h"
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { WHY_MAX = 512, NAMES_MAX = 100 };

static void put_time(const ASN1_TIME *t, char out[32])
{
    struct tm tm;
    time_t now = time(NULL);
    memset(&tm, 0, sizeof tm);
    if (t)
        ASN1_TIME_to_tm(t, &tm);
    else
        gmtime_r(&now, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static bool say_time(X509 *leaf, struct kl_buf *b)
{
    bool early = X509_cmp_current_time(X509_get0_notBefore(leaf)) > 0;
    bool late = !early && X509_cmp_current_time(X509_get0_notAfter(leaf)) < 0;
    char now[32], limit[32];
    if (!early && !late)
        return false;
    put_time(NULL, now);
    put_time(early ? X509_get0_notBefore(leaf) : X509_get0_notAfter(leaf), limit);
    kl_buf_printf(b, "certificate has expired or is not yet valid: current time %s is %s %s", now,
                  early ? "before" : "after", limit);
    return true;
}

// The names of one sort, with commas. How many there are.
static int put_names(struct kl_buf *b, const GENERAL_NAMES *names, int sort)
{
    int n = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        char ip[INET6_ADDRSTRLEN];
        if (g->type != sort)
            continue;
        const unsigned char *p = ASN1_STRING_get0_data(g->d.ia5);
        size_t len = (size_t)ASN1_STRING_length(g->d.ia5);
        if (n++)
            kl_buf_puts(b, KL_STR(", "));
        if (sort == GEN_DNS)
            kl_buf_append(b, p, len);
        else if ((len == 4 || len == 16) &&
                 inet_ntop(len == 4 ? AF_INET : AF_INET6, p, ip, sizeof ip))
            kl_buf_puts(b, kl_str(ip));
    }
    return n;
}

static bool say_name(X509 *leaf, const char *host, bool ip, struct kl_buf *b)
{
    unsigned flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;
    struct kl_buf valid;
    if (!host || (ip ? X509_check_ip_asc(leaf, host, 0)
                     : X509_check_host(leaf, host, 0, flags | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT,
                                       NULL)) == 1)
        return false;
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    kl_buf_init(&valid, 64 * 1024);
    int n = put_names(&valid, names, ip ? GEN_IPADD : GEN_DNS);
    if (!names && !ip && X509_check_host(leaf, host, 0, flags, NULL) == 1)
        kl_buf_puts(b, KL_STR("certificate relies on legacy Common Name field, use SANs instead"));
    else if (ip && !n)
        kl_buf_printf(
            b, "cannot validate certificate for %s because it doesn't contain any IP SANs", host);
    else if (n >= NAMES_MAX)
        kl_buf_printf(b, "certificate is valid for %d %s, but none matched %s", n,
                      ip ? "IP SANs" : "names", host);
    else if (!n)
        kl_buf_printf(b, "certificate is not valid for any names, but wanted to match %s", host);
    else
        kl_buf_printf(b, "certificate is valid for %.*s, not %s", KL_PRI(kl_buf_str(&valid)), host);
    kl_buf_fini(&valid);
    GENERAL_NAMES_free(names);
    return true;
}

static void say_chain(int code, struct kl_buf *b)
{
    switch (code) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        kl_buf_puts(b, KL_STR("certificate signed by unknown authority"));
        break;
    case X509_V_ERR_INVALID_PURPOSE:
        kl_buf_puts(b, KL_STR("certificate specifies an incompatible key usage"));
        break;
    default:
        kl_buf_puts(b, kl_str(X509_verify_cert_error_string(code)));
    }
}

int kl_tls_why(int ok, X509_STORE_CTX *store)
{
    X509 *leaf = X509_STORE_CTX_get0_cert(store);
    if (ok || !leaf)
        return ok;
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(store);
    char *ip = X509_VERIFY_PARAM_get1_ip_asc(param);
    const char *host = ip ? ip : X509_VERIFY_PARAM_get0_host(param, 0);
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    if (!say_time(leaf, &b) && !say_name(leaf, host, ip != NULL, &b))
        say_chain(X509_STORE_CTX_get_error(store), &b);
    // OpenSSL's own list of what went wrong carries it to whoever asks for the reason.
    ERR_raise_data(ERR_LIB_USER, 1, "%.*s", (int)(b.n < WHY_MAX ? b.n : WHY_MAX), b.p ? b.p : "");
    kl_buf_fini(&b);
    OPENSSL_free(ip);
    return 0;
}

bool kl_tls_said_why(char *out, size_t room)
{
    const char *data;
    unsigned long e;
    int flags;
    bool found = false;
    while ((e = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)))
        if (!found && ERR_GET_LIB(e) == ERR_LIB_USER && data && *data) {
            snprintf(out, room, "%s", data);
            found = true;
        }
    return found;
}
