// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/csr.h"
#include "base/clock.h"
#include "net/csr.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

// ---- what takes a library for certificates

static const char *bad_request(struct kl_arena *a, struct kl_str pem)
{
    struct kl_csr c;
    struct kl_error err = {0};
    int rc = kl_csr_parse(pem, &c, &err);
    if (!rc) {
        rc = kl_csr_verify(&c, &err);
        kl_csr_fini(&c);
    }
    struct kl_str why = rc ? kl_arena_dup(a, kl_str(err.msg)) : KL_STR("");
    return !rc ? NULL : why.p ? why.p : "out of memory";
}

// The types of the blocks have been looked at.
static const char *bad_chain(struct kl_str pem)
{
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    char *name, *header;
    unsigned char *der;
    long n;
    const char *why = b ? NULL : "out of memory";
    while (!why && PEM_read_bio(b, &name, &header, &der, &n) == 1) {
        const unsigned char *p = der;
        if (*header)
            why = "no PEM block headers are permitted";
        else if (!n)
            why = "found CERTIFICATE PEM block containing 0 certificates";
        while (!why && p < der + n) { // a block may hold several
            X509 *x = d2i_X509(NULL, &p, der + n - p);
            if (!x)
                why = "x509: malformed certificate";
            X509_free(x);
        }
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(der);
    }
    if (!why && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        why = "x509: malformed certificate";
    BIO_free(b);
    ERR_clear_error();
    return why;
}

const char *kl_csr_bad_pem(struct kl_arena *a, bool request, struct kl_str pem)
{
    return request ? bad_request(a, pem) : bad_chain(pem);
}

// ---- who sent it

static int put_user(struct kl_req *r, struct kl_value *spec)
{
    struct kl_arena *a = r->arena;
    const struct kl_user *u = r->user;
    struct kl_value groups = kl_new_array(), extra = kl_new_map();
    int rc = kl_set(a, spec, KL_F_username, kl_string(u->name));
    if (!rc)
        rc = kl_set(a, spec, KL_F_uid, kl_string(u->uid));
    for (size_t i = 0; i < u->ngroups && !rc; i++)
        rc = kl_append(a, &groups, kl_string(u->groups[i]));
    if (!rc)
        rc = kl_set(a, spec, KL_F_groups, groups);
    for (size_t i = 0; i < u->nextra && !rc; i++) {
        struct kl_value list = kl_new_array();
        for (size_t k = 0; k < u->extra[i].nvalues && !rc; k++)
            rc = kl_append(a, &list, kl_string(u->extra[i].values[k]));
        if (!rc)
            rc = kl_map_set_value(a, &extra, u->extra[i].key, list);
    }
    if (!rc)
        rc = u->nextra ? kl_set(a, spec, KL_F_extra, extra) : kl_unset(a, spec, KL_F_extra);
    return rc;
}

int kl_csr_prepare_create(struct kl_req *r, struct kl_value *draft)
{
    struct kl_value *spec = kl_edit(r->arena, draft, KL_F_spec, KL_STRUCT);
    if (spec && !put_user(r, spec))
        return 0;
    kl_fail_oom(r);
    return KL_ENOMEM;
}

// ---- conditions

static struct kl_str type_of(const struct kl_value *condition)
{
    return kl_text(kl_get(condition, KL_F_type));
}

static size_t count_type(const struct kl_value *list, struct kl_str type)
{
    size_t n = 0;
    for (KL_EACH(c, list))
        n += kl_str_eq(type_of(c), type);
    return n;
}

// A decision that is sent back with a status stays as it was (preserveConditionInstances).
static int preserve(struct kl_req *r, struct kl_value *list, const struct kl_value *old,
                    struct kl_str type)
{
    size_t k = 0;
    if (count_type(list, type) != count_type(old, type))
        return 0;
    for (size_t i = 0; i < kl_len(list); i++) {
        if (!kl_str_eq(type_of(kl_at(list, i)), type))
            continue;
        while (!kl_str_eq(type_of(kl_at(old, k)), type))
            k++;
        struct kl_value *c = kl_edit_at(r->arena, list, i);
        if (!c)
            return KL_ENOMEM;
        *c = *kl_at(old, k++);
        c->owned = 0;
    }
    return 0;
}

// Since when a condition of this type and status has been there; NULL: it is new.
static const struct kl_value *since_of(const struct kl_value *old, const struct kl_value *now)
{
    for (KL_EACH(c, old)) {
        const struct kl_value *since = kl_get(c, KL_F_lastTransitionTime);
        if (since && kl_str_eq(type_of(c), type_of(now)) &&
            kl_str_eq(kl_text(kl_get(c, KL_F_status)), kl_text(kl_get(now, KL_F_status))))
            return since;
    }
    return NULL;
}

// populateConditionTimestamps
static int set_times(struct kl_req *r, struct kl_value *list, const struct kl_value *old)
{
    struct kl_arena *a = r->arena;
    struct kl_value now = kl_time(kl_wall_ms() / 1000 * 1000000);
    for (size_t i = 0; i < kl_len(list); i++) {
        struct kl_value *c = kl_edit_at(a, list, i);
        if (!c)
            return KL_ENOMEM;
        const struct kl_value *since = since_of(old, c);
        if (!kl_get(c, KL_F_lastUpdateTime) && kl_set(a, c, KL_F_lastUpdateTime, now))
            return KL_ENOMEM;
        if (!kl_get(c, KL_F_lastTransitionTime) &&
            kl_set(a, c, KL_F_lastTransitionTime, since ? *since : now))
            return KL_ENOMEM;
    }
    return 0;
}

// What an update may not touch goes back to what it was: the request, and with an approval the
// certificate.
static int prepare(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    struct kl_arena *a = r->arena;
    bool approval = kl_str_eqz(r->info.sub, "approval"), status = kl_str_eqz(r->info.sub, "status");
    const struct kl_value *spec = kl_get(old, KL_F_spec),
                          *were = kl_path(old, KL_F_status, KL_F_conditions),
                          *cert = kl_path(old, KL_F_status, KL_F_certificate);
    if (spec && kl_set(a, draft, KL_F_spec, *spec))
        return KL_ENOMEM;
    if (!approval && !status)
        return 0;
    struct kl_value *now = kl_edit(a, draft, KL_F_status, KL_STRUCT);
    if (!now || (approval && (cert ? kl_set(a, now, KL_F_certificate, *cert)
                                   : kl_unset(a, now, KL_F_certificate))))
        return KL_ENOMEM;
    struct kl_value *list = kl_edit(a, now, KL_F_conditions, KL_ARRAY);
    if (!list || (status && (preserve(r, list, were, KL_STR("Approved")) ||
                             preserve(r, list, were, KL_STR("Denied")))))
        return KL_ENOMEM;
    return set_times(r, list, were);
}

int kl_csr_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    return prepare(r, draft, old) ? (kl_fail_oom(r), KL_ENOMEM) : 0;
}
