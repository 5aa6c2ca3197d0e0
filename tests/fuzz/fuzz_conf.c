// SPDX-License-Identifier: Apache-2.0
// Files that a server is given and what the encryption of values reads back; the first byte says
// which: A an audit policy, E an EncryptionConfiguration, V a stored value of a sealed kind, R the
// record of the cluster's keys, T a token file, B policies of ABAC, P node ports that are taken.
#include "fuzz.h"
#include "apiserver/allocate/allocate.h"
#include "apiserver/audit/audit_int.h"
#include "apiserver/auth/authn_int.h"
#include "apiserver/encryption/encryption_int.h"
#include <sys/mman.h>
#include <unistd.h>

static void try_audit(struct kl_str text)
{
    static const struct kl_audit_attrs asked[] = {
        {.is_resource = true, .verb = KL_STR_INIT("get"), .plural = KL_STR_INIT("secrets")},
        {.is_resource = true,
         .verb = KL_STR_INIT("create"),
         .group = KL_STR_INIT("apps"),
         .plural = KL_STR_INIT("deployments"),
         .sub = KL_STR_INIT("scale"),
         .ns = KL_STR_INIT("kube-system"),
         .name = KL_STR_INIT("x")},
        {.verb = KL_STR_INIT("get"), .path = KL_STR_INIT("/healthz")},
    };
    struct kl_audit_policy *p = NULL;
    struct kl_audit_verdict v;
    struct kl_error err = {0};
    if (kl_audit_policy_parse(text, &p, &err)) {
        FUZZ_CHECK(!p && err.msg[0], "no message");
        return;
    }
    for (size_t i = 0; i < KL_COUNT(asked); i++) {
        kl_audit_policy_ask(p, &asked[i], &v);
        FUZZ_CHECK(v.level < KL_AUDIT_LEVELS && v.omit < 1u << KL_AUDIT_STAGES, "%d %u",
                   (int)v.level, v.omit);
    }
    kl_audit_policy_free(p);
}

// What a configuration seals it opens.
static void try_rule(const struct kl_enc_rule *rule)
{
    const struct kl_str key = KL_STR("/registry/secrets/a/b"), plain = KL_STR("k8s\0 plain");
    struct kl_buf sealed, opened;
    struct kl_error err = {0};
    bool stale = true;
    if (!rule || rule->providers[0].kind == KL_ENC_KMS)
        return;
    kl_buf_init(&sealed, 1 << 20);
    kl_buf_init(&opened, 1 << 20);
    FUZZ_CHECK(!kl_enc_seal(rule, key, plain, &sealed, &err), "%s", err.msg);
    FUZZ_CHECK(!kl_enc_open(rule, key, kl_buf_str(&sealed), &opened, &stale, &err), "%s", err.msg);
    FUZZ_CHECK(kl_str_eq(plain, kl_buf_str(&opened)) && !stale, "%zu bytes", opened.n);
    kl_buf_fini(&sealed);
    kl_buf_fini(&opened);
}

static void try_encryption(struct kl_str text)
{
    struct kl_enc_config *c = NULL;
    struct kl_error err = {0};
    if (kl_enc_config_parse(text, NULL, &c, &err)) {
        FUZZ_CHECK(!c && err.msg[0], "no message");
        return;
    }
    try_rule(kl_enc_rule_of(c, kl_res(KL_RES_core_v1_secrets)));
    kl_enc_config_unref(c);
}

static const char keys[] =
    "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n"
    "- resources: [secrets]\n  providers:\n"
    "  - aesgcm: {keys: [{name: a, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}\n"
    "  - aescbc: {keys: [{name: a, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}\n"
    "  - secretbox: {keys: [{name: a, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}\n"
    "  - identity: {}\n";

static void try_value(struct kl_str value)
{
    static struct kl_enc_config *c;
    struct kl_error err = {0};
    struct kl_buf out;
    bool stale;
    if (!c)
        FUZZ_CHECK(!kl_enc_config_parse(kl_str(keys), NULL, &c, &err), "%s", err.msg);
    kl_buf_init(&out, 1 << 24);
    int rc = kl_enc_open(kl_enc_rule_of(c, kl_res(KL_RES_core_v1_secrets)),
                         KL_STR("/registry/secrets/a/b"), value, &out, &stale, &err);
    FUZZ_CHECK(!rc || err.msg[0], "no message");
    kl_buf_fini(&out);
}

static void try_record(struct kl_str value)
{
    struct kl_enc_root root = {0};
    struct kl_enc_record r;
    struct kl_error err = {0};
    int rc = kl_enc_record_read(value, KL_STR("secret"), &root, &r, &err);
    FUZZ_CHECK(rc && err.msg[0], "took a record that nobody sealed");
    kl_bytes_unref(root.sealed);
}

static void try_tokens(struct kl_str text)
{
    char path[64];
    struct kl_static_tokens *t = NULL;
    struct kl_error err = {0};
    int fd = memfd_create("tokens", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && write(fd, text.p, text.n) == (ssize_t)text.n, "memfd");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (kl_static_tokens_read(path, &t, &err)) {
        FUZZ_CHECK(!t && err.msg[0], "no message");
    } else {
        kl_user_unref(kl_static_token_user(t, KL_STR("token")));
        kl_static_tokens_free(t);
    }
    close(fd);
}

static void try_policies(struct kl_str text)
{
    struct kl_user *u = kl_user_new(KL_STR("u"), KL_STR(""), NULL, 0, NULL, 0);
    const struct kl_attrs asked[] = {
        {.user = u, .is_resource = true, .verb = KL_STR("get"), .plural = KL_STR("pods")},
        {.user = u, .verb = KL_STR("get"), .path = KL_STR("/x")}};
    struct kl_arena a;
    struct kl_abac b;
    struct kl_error err = {0};
    kl_arena_init(&a, 16 << 20);
    if (kl_abac_parse(&a, "FILE", text, &b, &err))
        FUZZ_CHECK(err.msg[0], "no message");
    else
        for (size_t i = 0; i < KL_COUNT(asked); i++)
            FUZZ_CHECK(b.n || !kl_abac_allows(&b, &asked[i]), "allowed by nothing");
    kl_arena_fini(&a);
    kl_user_unref(u);
}

static void try_ports(struct kl_str stored)
{
    static const struct kl_port_range ranges[] = {{30000, 2768}, {31000, 70}, {0, 65536}};
    static uint8_t bits[65536 / 8], again[65536 / 8];
    for (size_t i = 0; i < KL_COUNT(ranges); i++) {
        const struct kl_port_range *r = &ranges[i];
        if (kl_ports_read(stored, r, bits) < 0)
            return;
        struct kl_bytes *b = kl_ports_write(r, bits);
        FUZZ_CHECK(b && kl_ports_read(kl_bytes_str(b), r, again) == 0, "not read again");
        FUZZ_CHECK(memcmp(bits, again, kl_port_bytes(r)) == 0, "other ports");
        kl_bytes_unref(b);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        char first;
        void (*run)(struct kl_str text);
    } what[] = {{'A', try_audit},  {'E', try_encryption}, {'V', try_value}, {'R', try_record},
                {'T', try_tokens}, {'B', try_policies},   {'P', try_ports}};
    for (size_t i = 0; size && i < KL_COUNT(what); i++)
        if (data[0] == (uint8_t)what[i].first)
            what[i].run((struct kl_str){(const char *)data + 1, size - 1});
    return 0;
}
