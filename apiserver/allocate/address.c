// SPDX-License-Identifier: Apache-2.0
// Cluster IPs: which one a Service gets, and the IPAddress objects that say so
// (registry/core/service/ipallocator, storage/alloc.go).
#include "apiserver/allocate/allocate.h"
#include "apiserver/encryption/encryption.h"
#include "base/rand.h"

enum { CLAIM_TRIES = 256 };

struct kl_str kl_ip_key(struct kl_arena *a, struct kl_str ip)
{
    return kl_object_key(a, kl_res(KL_RES_networking_v1_ipaddresses), KL_STR(""), ip);
}

struct kl_bytes *kl_ip_object(struct kl_encryption *e, struct kl_arena *a, struct kl_str ip,
                              bool v6, struct kl_str ns, struct kl_str service, int64_t created_us,
                              struct kl_error *err)
{
    const struct kl_resource *res = kl_res(KL_RES_networking_v1_ipaddresses);
    struct kl_value o = kl_new_struct(), m = kl_new_struct(), labels = kl_new_map();
    struct kl_value spec = kl_new_struct(), ref = kl_new_struct();
    struct kl_str key = kl_ip_key(a, ip);
    char *uuid = kl_arena_alloc(a, 37);
    if (!uuid || !key.p) {
        kl_error_set(err, KL_ENOMEM, "out of memory");
        return NULL;
    }
    kl_uuid(uuid);
    kl_map_set_value(a, &labels, KL_STR("ipaddress.kubernetes.io/ip-family"),
                     kl_stringz(v6 ? "IPv6" : "IPv4"));
    kl_map_set_value(a, &labels, KL_STR("ipaddress.kubernetes.io/managed-by"),
                     kl_stringz("ipallocator.k8s.io"));
    kl_set(a, &m, KL_F_name, kl_string(ip));
    kl_set(a, &m, KL_F_uid, kl_stringz(uuid));
    kl_set(a, &m, KL_F_labels, labels);
    kl_set(a, &m, KL_F_creationTimestamp, kl_time(created_us));
    kl_set(a, &ref, KL_F_resource, kl_stringz("services"));
    kl_set(a, &ref, KL_F_namespace, kl_string(ns));
    kl_set(a, &ref, KL_F_name, kl_string(service));
    kl_set(a, &spec, KL_F_parentRef, ref);
    kl_set(a, &o, KL_F_metadata, m);
    struct kl_object *frozen =
        kl_set(a, &o, KL_F_spec, spec) ? NULL : kl_object_freeze(res->type, &o);
    if (!frozen) {
        kl_error_set(err, KL_ENOMEM, "out of memory");
        return NULL;
    }
    // No guard: a record of the cluster's own concerns Secrets only.
    struct kl_bytes *b = kl_encryption_encode(e, res, key, frozen, NULL, err);
    kl_object_unref(frozen);
    return b;
}

// Somebody else was quicker with an address or a port: the transform chooses anew.
static int try_again(struct kl_write *w)
{
    return ++w->tries < CLAIM_TRIES
               ? 0
               : (kl_fail_internal(w->r, "failed to allocate: retried too often"), KL_EINTERNAL);
}

void kl_claim(struct kl_req *r, struct kl_str key, kl_rev expect, struct kl_bytes *value)
{
    kl_write_put_too(r->write, key, expect, value);
    r->write->extra_failed = try_again;
}

// ["10.43.0.7"] or ["10.43.0.7","fd00::7"], as field errors show it.
static struct kl_str list_text(struct kl_arena *a, const struct kl_value *spec)
{
    struct kl_buf b;
    bool first = true;
    kl_buf_init(&b, 4096);
    kl_buf_putc(&b, '[');
    for (KL_EACH(x, kl_get(spec, KL_F_clusterIPs))) {
        kl_buf_printf(&b, "%s\"%.*s\"", first ? "" : ",", KL_PRI(kl_text(x)));
        first = false;
    }
    kl_buf_putc(&b, ']');
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

static int refuse(struct kl_req *r, const struct kl_value *draft, const struct kl_value *spec,
                  struct kl_str ip, const char *why)
{
    struct kl_field_errors e = {.arena = r->arena};
    kl_field_error(&e, "FieldValueInvalid", KL_STR("spec.clusterIPs"),
                   "Invalid value: %.*s: failed to allocate IP %.*s: %s",
                   KL_PRI(list_text(r->arena, spec)), KL_PRI(ip), why);
    kl_fail_invalid(r, KL_STR("Service"), KL_STR(""), kl_meta_name(draft), &e);
    return KL_EINVALID;
}

static bool is_free(struct kl_req *r, struct kl_str ip)
{
    struct kl_str key = kl_ip_key(r->arena, ip);
    return key.p && !kl_view_get(kl_req_view(r), key);
}

static int check_named(struct kl_req *r, const struct kl_value *draft, const struct kl_value *spec,
                       struct kl_str ip, const struct kl_ip_range *ranges, size_t n)
{
    kl_ip number;
    bool v6;
    if (!kl_ip_parse(ip, &number, &v6))
        return kl_fail_internal(r, "failed to parse service IP \"%.*s\"", KL_PRI(ip)), KL_EINTERNAL;
    const struct kl_ip_range *in = NULL;
    for (size_t i = 0; i < n && !in; i++)
        if (kl_ip_range_has(&ranges[i], number, v6))
            in = &ranges[i];
    if (!in)
        return refuse(r, draft, spec, ip, "the provided network does not match the current range");
    if (number < in->first || number > in->last) {
        struct kl_str why = kl_arena_printf(
            r->arena,
            "the provided IP (%.*s) is not in the valid range. The range of valid IPs is %s",
            KL_PRI(ip), in->text);
        return refuse(r, draft, spec, ip, why.p ? why.p : "not in the valid range");
    }
    if (!is_free(r, kl_ip_text(r->arena, number, v6)))
        return refuse(r, draft, spec, ip, "provided IP is already allocated");
    return 0;
}

// From a random place upward, within `count` addresses from `first` on.
static struct kl_str search(struct kl_req *r, const struct kl_ip_range *in, kl_ip first,
                            uint64_t count)
{
    struct kl_str none = {NULL, 0};
    if (!count)
        return none;
    uint64_t start = kl_rand_u64() % count;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = start + i < count && start + i >= start ? start + i : start + i - count;
        struct kl_str ip = kl_ip_text(r->arena, first + at, in->v6);
        if (!ip.p || is_free(r, ip))
            return ip;
    }
    return none;
}

// The upper part of a range first, then the band that is kept for those who name an address.
static struct kl_str choose(struct kl_req *r, bool v6, const struct kl_ip_range *ranges, size_t n)
{
    struct kl_str ip = {NULL, 0};
    for (size_t i = 0; i < n && !ip.p; i++) {
        const struct kl_ip_range *in = &ranges[i];
        if (in->v6 != v6 || !in->size)
            continue;
        if (r->opts.dry_run) // races are not worth a search: the network's own address stands in
            return kl_ip_text(r->arena, in->first - 1, v6);
        ip = search(r, in, in->first + in->band, in->size - in->band);
        if (!ip.p)
            ip = search(r, in, in->first, in->band);
    }
    return ip;
}

static int write_claim(struct kl_req *r, const struct kl_value *draft, struct kl_str ip)
{
    kl_ip number;
    bool v6;
    const struct kl_value *now = kl_path(draft, KL_F_metadata, KL_F_creationTimestamp);
    if (r->opts.dry_run || !kl_ip_parse(ip, &number, &v6))
        return 0;
    // The object's name is the address in canonical form.
    struct kl_str name = kl_ip_text(r->arena, number, v6), key = kl_ip_key(r->arena, name);
    struct kl_error err = {0};
    struct kl_bytes *b = kl_ip_object(r->srv->o.encryption, r->arena, name, v6, r->info.ns,
                                      kl_meta_name(draft), kl_int_or(now, 0), &err);
    if (!b) {
        kl_fail_err(r, &err);
        return err.code;
    }
    kl_req_keep_bytes(r, b);
    kl_claim(r, key, 0, b);
    return 0;
}

int kl_claim_addresses(struct kl_req *r, const struct kl_value *draft, struct kl_value *spec,
                       size_t from)
{
    struct kl_arena *a = r->arena;
    const struct kl_value *asked = kl_get(spec, KL_F_clusterIPs);
    size_t n, k = 0;
    const struct kl_ip_range *ranges = kl_ip_ranges_of(r->al, a, false, &n);
    struct kl_value ips = kl_new_array();
    int rc = 0;
    if (!ranges)
        return kl_fail_oom(r), KL_ENOMEM;
    for (KL_EACH(f, kl_get(spec, KL_F_ipFamilies))) {
        struct kl_str ip = kl_text(kl_at(asked, k));
        if (!ip.n && !k && !kl_len(asked))
            ip = kl_text(kl_get(spec, KL_F_clusterIP));
        if (k >= from && ip.n && (rc = check_named(r, draft, spec, ip, ranges, n)))
            return rc;
        if (k >= from && !ip.n) {
            ip = choose(r, kl_str_eqz(kl_text(f), "IPv6"), ranges, n);
            if (!ip.n) {
                kl_fail_internal(
                    r, "failed to allocate a serviceIP for Service \"%.*s\": range is full",
                    KL_PRI(kl_meta_name(draft)));
                return KL_EINTERNAL;
            }
        }
        if (k >= from && (rc = write_claim(r, draft, ip)))
            return rc;
        if (kl_append(a, &ips, kl_string(ip)))
            return kl_fail_oom(r), KL_ENOMEM;
        k++;
    }
    if (kl_len(&ips) && kl_set(a, spec, KL_F_clusterIP, ips.items[0]))
        return kl_fail_oom(r), KL_ENOMEM;
    return kl_set(a, spec, KL_F_clusterIPs, ips) ? (kl_fail_oom(r), KL_ENOMEM) : 0;
}

void kl_release_addresses(struct kl_req *r, const struct kl_value *spec, size_t from)
{
    size_t i = 0;
    if (r->opts.dry_run)
        return;
    for (KL_EACH(x, kl_get(spec, KL_F_clusterIPs))) {
        kl_ip number;
        bool v6;
        if (i++ < from || !kl_ip_parse(kl_text(x), &number, &v6))
            continue;
        struct kl_str key = kl_ip_key(r->arena, kl_ip_text(r->arena, number, v6));
        struct kl_write *w = r->write;
        if (key.p && kl_view_get(kl_req_view(r), key))
            w->extra_op[w->nextra_op++] = (struct kl_op){.kind = KL_OP_DELETE, .key = key};
    }
}
