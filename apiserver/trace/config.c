// SPDX-License-Identifier: Apache-2.0
// component-base/tracing/api/v1 and the W3C's header.
#include "apiserver/trace/trace_int.h"
#include "object/yaml.h"
#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_TARGET "127.0.0.1:4317" // the exporter's localhost:4317
enum { MILLION = 1000000 };

static const struct kl_value *at(const struct kl_value *v, const char *name)
{
    const struct kl_value *m = kl_map_value(v, kl_str(name));
    return m && m->kind != KL_NULL ? m : NULL;
}

// gRPC's names of targets, as net/grpc.h knows them.
static int read_endpoint(struct kl_str s, struct kl_trace_config *c, struct kl_error *err)
{
    struct kl_str rest = s, scheme = KL_STR("dns");
    const char *mark = memmem(s.p, s.n, "//", 2);
    if (mark && mark > s.p && mark[-1] == ':') {
        scheme = (struct kl_str){s.p, (size_t)(mark - s.p - 1)};
        rest = kl_str_from(s, (size_t)(mark + 2 - s.p));
    }
    if (kl_str_eqz(scheme, "unix")) {
        c->target = strndup(s.p, s.n);
    } else if (kl_str_eqz(scheme, "dns")) { // dns://[AUTHORITY/]HOST:PORT
        const char *slash = memrchr(rest.p, '/', rest.n);
        if (slash)
            rest = kl_str_from(rest, (size_t)(slash + 1 - rest.p));
        c->target = strndup(rest.p, rest.n);
    } else {
        return kl_error_set(
            err, KL_EINVALID,
            "endpoint: Invalid value: \"%.*s\": unsupported scheme: %.*s.  Options are none, dns, "
            "unix, or unix-abstract.  See "
            "https://github.com/grpc/grpc/blob/master/doc/naming.md",
            KL_PRI(s), KL_PRI(scheme));
    }
    return c->target ? 0 : kl_error_set(err, KL_ENOMEM, "out of memory");
}

static int read_rate(const struct kl_value *v, struct kl_trace_config *c, struct kl_error *err)
{
    int64_t rate = kl_int_or(v, 0);
    if (v->kind != KL_INT)
        return kl_error_set(err, KL_EINVALID, "samplingRatePerMillion is not a number");
    if (rate < 0)
        return kl_error_set(err, KL_EINVALID,
                            "samplingRatePerMillion: Invalid value: %lld: sampling rate must be "
                            "positive",
                            (long long)rate);
    if (rate > MILLION)
        return kl_error_set(err, KL_EINVALID,
                            "samplingRatePerMillion: Invalid value: %lld: sampling rate per "
                            "million must be less than or equal to one million",
                            (long long)rate);
    c->all = rate == MILLION;
    c->below = (uint64_t)((double)rate / MILLION * 0x1p63);
    return 0;
}

static int read_fields(const struct kl_value *v, struct kl_trace_config *c, struct kl_error *err)
{
    struct kl_str version = kl_text(at(v, "apiVersion")), kind = kl_text(at(v, "kind"));
    static const char *const versions[] = {"apiserver.config.k8s.io/v1",
                                           "apiserver.config.k8s.io/v1beta1"};
    static const char *const fields[] = {"apiVersion", "kind", "endpoint",
                                         "samplingRatePerMillion"};
    if (!kl_str_eqz(kind, "TracingConfiguration") ||
        (!kl_str_eqz(version, versions[0]) && !kl_str_eqz(version, versions[1])))
        return kl_error_set(err, KL_EINVALID, "no kind \"%.*s\" is registered for version \"%.*s\"",
                            KL_PRI(kind), KL_PRI(version));
    for (KL_MAP_EACH_KEY(key, v)) {
        size_t k = 0;
        while (k < KL_COUNT(fields) && !kl_str_eqz(kl_text(key), fields[k]))
            k++;
        if (k == KL_COUNT(fields))
            return kl_error_set(err, KL_EINVALID, "strict decoding error: unknown field \"%.*s\"",
                                KL_PRI(kl_text(key)));
    }
    const struct kl_value *rate = at(v, "samplingRatePerMillion"), *endpoint = at(v, "endpoint");
    int rc = rate ? read_rate(rate, c, err) : 0;
    if (!rc && endpoint)
        rc = read_endpoint(kl_text(endpoint), c, err);
    if (!rc && !c->target && !(c->target = strdup(DEFAULT_TARGET)))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    return rc;
}

int kl_trace_config_parse(struct kl_str text, struct kl_trace_config *ret, struct kl_error *err)
{
    struct kl_arena a;
    struct kl_value v;
    kl_arena_init(&a, (size_t)1 << 20);
    *ret = (struct kl_trace_config){0};
    int rc = kl_yaml_parse(&a, text, NULL, &v, err);
    if (!rc)
        rc = read_fields(&v, ret, err);
    if (rc) {
        free(ret->target);
        ret->target = NULL;
    }
    kl_arena_fini(&a);
    return rc;
}

// ---- traceparent

// n bytes of lower-case hexadecimal digits and what ends them; not all zero unless it may be.
static bool read_hex(struct kl_str *s, unsigned char *ret, size_t n, bool zero_too)
{
    bool zero = true;
    struct kl_str part;
    if (!kl_str_split(s, '-', &part) || part.n != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        unsigned v = 0;
        for (size_t k = 0; k < 2; k++) {
            char c = part.p[2 * i + k];
            if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
                return false;
            v = v << 4 | (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
        }
        ret[i] = (unsigned char)v;
        zero &= !v;
    }
    return zero_too || !zero;
}

bool kl_traceparent_parse(struct kl_str s, unsigned char trace[16], unsigned char span[8],
                          bool *ret_sampled)
{
    unsigned char version, flags;
    struct kl_str rest = s;
    if (!read_hex(&rest, &version, 1, true) || version == 255 ||
        !read_hex(&rest, trace, 16, false) || !read_hex(&rest, span, 8, false) ||
        !read_hex(&rest, &flags, 1, true))
        return false;
    if (!version && (rest.n || flags > 2 || s.n != 55))
        return false;
    *ret_sampled = flags & 1;
    return true;
}
