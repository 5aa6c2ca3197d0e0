// SPDX-License-Identifier: Apache-2.0
// OpenAPI of custom resources: what is published of a schema in version 2 and 3, the names of
// definitions, the paths; and the ranges of Service addresses.
#include "apiserver/allocate/allocate.h"
#include "apiserver/openapi/openapi_int.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct kl_subresource subs[] = {
    {.name = "status",
     .group = "stable.example.com",
     .version = "v1",
     .kind = "CronTab",
     .verbs = KL_VERB_BIT(KL_VERB_GET) | KL_VERB_BIT(KL_VERB_UPDATE) | KL_VERB_BIT(KL_VERB_PATCH)}};
static const struct kl_resource crontabs = {.group = "stable.example.com",
                                            .version = "v1",
                                            .plural = "crontabs",
                                            .singular = "crontab",
                                            .kind = "CronTab",
                                            .namespaced = true,
                                            .subresources = subs,
                                            .nsubresources = 1,
                                            .verbs = (1u << KL_VERB_COUNT) - 1};

static int give_schema(void *arg, const struct kl_openapi_custom *c, struct kl_buf *out)
{
    (void)c;
    return kl_buf_puts(out, kl_str(arg));
}

// Texts for people are not what these tests are about.
static const char *without_texts(struct kl_arena *a, struct kl_str s)
{
    static const char key[] = "\"description\":\"";
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    while (s.n) {
        const char *at = memmem(s.p, s.n, key, sizeof key - 1);
        size_t n = at ? (size_t)(at - s.p) : s.n;
        kl_buf_append(&b, s.p, n);
        s = kl_str_from(s, n);
        if (!at)
            break;
        s = kl_str_from(s, sizeof key - 1);
        while (s.p[0] != '"')
            s = kl_str_from(s, s.p[0] == '\\' ? 2 : 1);
        bool more = s.p[1] == ',';
        s = kl_str_from(s, more ? 2 : 1);
        if (!more && b.n && b.p[b.n - 1] == ',')
            b.n--;
    }
    const char *out = kl_arena_dup(a, kl_buf_str(&b)).p;
    kl_buf_fini(&b);
    return out;
}

static const char *publish(struct kl_arena *a, const char *schema, bool list, bool v2)
{
    const struct kl_openapi_source src = {.arg = (void *)(uintptr_t)schema, .schema = give_schema};
    const struct kl_openapi_custom c = {.res = &crontabs, .selectable = KL_STR("[{\"a\":1}]")};
    struct kl_oa_types t;
    struct kl_buf b;
    assert_int_equal(kl_oa_types_init(&t, NULL), 0);
    kl_buf_init(&b, 1 << 20);
    assert_int_equal(kl_oa_put_custom(&b, &t, a, &src, &c, list, v2), 0);
    const char *out = without_texts(a, kl_buf_str(&b));
    // What it refers to is wanted too.
    assert_true(t.n == 0 || t.n == 1);
    kl_buf_fini(&b);
    kl_oa_types_fini(&t);
    return out;
}

#define GVK                                                                                        \
    "\"x-kubernetes-group-version-kind\":[{\"group\":\"stable.example.com\",\"kind\":\"CronTab\"," \
    "\"version\":\"v1\"}],\"x-kubernetes-selectable-fields\":[{\"a\":1}]"
#define HEAD2                                                                                      \
    "\"apiVersion\":{\"type\":\"string\"},\"kind\":{\"type\":\"string\"},\"metadata\":{\"$ref\":"  \
    "\"#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta\"}"
#define HEAD3                                                                                      \
    "\"apiVersion\":{\"type\":\"string\"},\"kind\":{\"type\":\"string\"},\"metadata\":{\"allOf\":" \
    "[{\"$ref\":\"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta\"}]}"

static void test_custom_schema(void **state)
{
    struct kl_arena a;
    (void)state;
    kl_arena_init(&a, 16 << 20);
    const char *plain = "{\"type\":\"object\",\"properties\":{\"spec\":{\"type\":\"object\","
                        "\"required\":[\"a\",\"b\"],\"oneOf\":[{}],\"properties\":{\"a\":{"
                        "\"type\":\"string\",\"nullable\":true},\"b\":{\"type\":\"array\","
                        "\"items\":{\"x-kubernetes-int-or-string\":true}}}}}}";
    assert_string_equal(
        publish(&a, plain, false, false),
        "\"com.example.stable.v1.CronTab\":{\"type\":\"object\",\"properties\":{" HEAD3
        ",\"spec\":{\"type\":\"object\",\"oneOf\":[{}],\"required\":[\"a\","
        "\"b\"],\"properties\":{\"a\":{\"type\":\"string\",\"nullable\":true},"
        "\"b\":{\"type\":\"array\",\"items\":{\"x-kubernetes-int-or-string\":true,"
        "\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}}}}}," GVK "}");
    // No junctors and no null; what may be null need not be there and has no type.
    assert_string_equal(
        publish(&a, plain, false, true),
        "\"com.example.stable.v1.CronTab\":{\"type\":\"object\",\"properties\":{" HEAD2
        ",\"spec\":{\"type\":\"object\",\"required\":[\"b\"],"
        "\"properties\":{\"a\":{},\"b\":{\"type\":\"array\",\"items\":{"
        "\"x-kubernetes-int-or-string\":true}}}}}," GVK "}");
    const char *open = "{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true}";
    assert_string_equal(publish(&a, open, false, true),
                        "\"com.example.stable.v1.CronTab\":{\"type\":\"object\"," GVK "}");
    assert_string_equal(publish(&a, "", false, false),
                        "\"com.example.stable.v1.CronTab\":{\"type\":\"object\"," GVK "}");
    const char *embedded = "{\"type\":\"object\",\"properties\":{\"t\":{\"type\":\"object\","
                           "\"x-kubernetes-embedded-resource\":true}}}";
    assert_non_null(strstr(publish(&a, embedded, false, false),
                           "\"required\":[\"kind\",\"apiVersion\"],\"properties\":{" HEAD3 "}"));
    assert_non_null(strstr(publish(&a, plain, true, true),
                           "\"com.example.stable.v1.CronTabList\":{\"type\":\"object\","));
    assert_non_null(strstr(publish(&a, plain, true, true),
                           "\"items\":{\"$ref\":\"#/definitions/com.example.stable.v1.CronTab\"}"));
    kl_arena_fini(&a);
}

static void test_custom_paths(void **state)
{
    static const struct {
        const char *path, *id;
        size_t nops;
    } want[] = {
        {"/apis/stable.example.com/v1/namespaces/{namespace}/crontabs",
         "deleteStableExampleComV1CollectionNamespacedCronTab", 3},
        {"/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}",
         "deleteStableExampleComV1NamespacedCronTab", 4},
        {"/apis/stable.example.com/v1/crontabs", "listStableExampleComV1CronTabForAllNamespaces",
         1},
        {"/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}/status",
         "readStableExampleComV1NamespacedCronTabStatus", 3},
    };
    struct kl_arena a;
    size_t n = 0;
    (void)state;
    kl_arena_init(&a, 16 << 20);
    struct kl_oa_row row = kl_oa_row_of(&a, &crontabs);
    struct kl_oa_path p;
    for (size_t at = 0; kl_oa_resource_path(&a, &row, at, &p); at++) {
        if (!p.nops || kl_str_starts(p.path, KL_STR("/apis/stable.example.com/v1/watch/")))
            continue;
        assert_true(n < KL_COUNT(want));
        assert_true(kl_str_eqz(p.path, want[n].path));
        assert_true(kl_str_eqz(p.ops[0].id, want[n].id));
        assert_int_equal(p.nops, want[n].nops);
        assert_true(kl_str_eqz(p.ops[0].tag, "stableExampleCom_v1"));
        n++;
    }
    assert_int_equal(n, KL_COUNT(want));
    kl_arena_fini(&a);
}

static void test_ranges(void **state)
{
    static const struct {
        const char *cidr;
        bool ok;
        uint64_t size, band;
        const char *first, *last;
    } rows[] = {
        {"10.43.0.0/16", true, 65534, 256, "10.43.0.1", "10.43.255.254"},
        {"10.43.0.0/24", true, 254, 16, "10.43.0.1", "10.43.0.254"},
        {"10.43.0.0/28", true, 14, 0, "10.43.0.1", "10.43.0.14"},
        {"10.43.7.9/27", true, 30, 16, "10.43.7.1", "10.43.7.30"},
        {"10.43.0.0/31", true, 0, 0, NULL, NULL},
        {"10.0.0.0/8", true, 16777214, 256, "10.0.0.1", "10.255.255.254"},
        {"fd00::/112", true, 65535, 256, "fd00::1", "fd00::ffff"},
        {"fd00::/64", true, UINT64_MAX, 256, "fd00::1", "fd00::ffff:ffff:ffff:ffff"},
        {"fd00::/63", false, 0, 0, NULL, NULL},
        {"10.43.0.0", false, 0, 0, NULL, NULL},
        {"10.43.0/16", false, 0, 0, NULL, NULL},
        {"10.43.0.0/33", false, 0, 0, NULL, NULL},
    };
    struct kl_arena a;
    (void)state;
    kl_arena_init(&a, 1 << 20);
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_ip_range r;
        kl_ip ip;
        bool v6;
        print_message("%s\n", rows[i].cidr);
        assert_int_equal(kl_ip_range_parse(kl_str(rows[i].cidr), &r), rows[i].ok);
        if (!rows[i].ok)
            continue;
        assert_true(r.size == rows[i].size);
        assert_true(r.band == rows[i].band);
        if (!rows[i].first)
            continue;
        assert_true(kl_str_eqz(kl_ip_text(&a, r.first, r.v6), rows[i].first));
        assert_true(kl_str_eqz(kl_ip_text(&a, r.last, r.v6), rows[i].last));
        assert_true(kl_ip_parse(kl_str(rows[i].last), &ip, &v6) && ip == r.last && v6 == r.v6);
        assert_true(kl_ip_range_has(&r, r.first - 1, r.v6) && kl_ip_range_has(&r, r.last, r.v6));
        assert_false(kl_ip_range_has(&r, r.first - 2, r.v6));
        assert_false(kl_ip_range_has(&r, r.last, !r.v6));
    }
    kl_arena_fini(&a);
}

// apimachinery's PortRange.Set.
static void test_port_ranges(void **state)
{
    static const struct {
        const char *text, *out;
        uint32_t band;
    } rows[] = {
        {"", "30000-32767", 86},
        {" 30000-32767 ", "30000-32767", 86},
        {"30000+2767", "30000-32767", 86},
        {"8080", "8080-8080", 0},
        {"0-65535", "0-65535", 128},
        {"1-16", "1-16", 0},
        {"1-17", "1-17", 16},
        {"5+0", "5-5", 0},
        {"1-2-3", "strconv.Atoi: parsing \"2-3\": invalid syntax", 0},
        {"x", "strconv.Atoi: parsing \"x\": invalid syntax", 0},
        {"-5", "strconv.Atoi: parsing \"\": invalid syntax", 0},
        {"5-", "strconv.Atoi: parsing \"\": invalid syntax", 0},
        {"1+2-3", "unable to parse port range: 1+2-3", 0},
        {"1-65536", "the port range cannot be greater than 65535: 1-65536", 0},
        {"60000+6000", "the port range cannot be greater than 65535: 60000+6000", 0},
        {"9-8", "end port cannot be less than start port: 9-8", 0},
    };
    (void)state;
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_port_range r;
        struct kl_error err = {0};
        char text[KL_PORT_RANGE_TEXT];
        if (kl_port_range_parse(rows[i].text, &r, &err)) {
            assert_string_equal(err.msg, rows[i].out);
            continue;
        }
        kl_port_range_text(&r, text);
        assert_string_equal(text, rows[i].out);
        assert_int_equal(kl_port_band(&r), rows[i].band);
    }
}

// What the allocators of k8s.io/kubernetes v1.36.3 store for these ports.
static void test_stored_ports(void **state)
{
    static const unsigned char first_port[] =
        "k8s\0\x0a\x15\x0a\x02v1\x12\x0fRangeAllocation\x12\x22\x0a\x10\x0a\0\x12\0\x1a\0"
        "\x22\0\x2a\0\x32\0\x38\0\x42\0\x12\x0b"
        "30000-32767\x1a\x01\x01\x1a\0\x22";
    const struct kl_port_range usual = {30000, 2768};
    uint8_t bits[346] = {1}, again[346];
    (void)state;
    struct kl_bytes *b = kl_ports_write(&usual, bits);
    assert_int_equal(b->n, sizeof first_port);
    assert_memory_equal(b->p, first_port, sizeof first_port);
    kl_bytes_unref(b);
    bits[0] = 2;
    bits[1000 / 8] |= 1 << (1000 % 8);
    bits[2767 / 8] |= 1 << (2767 % 8);
    b = kl_ports_write(&usual, bits);
    assert_int_equal(b->n, 414);
    assert_int_equal(kl_ports_read(kl_bytes_str(b), &usual, again), 0);
    assert_memory_equal(bits, again, sizeof bits);
    for (uint32_t n = 0; n < b->n; n++) // cut anywhere: told, or nothing made up
        if (kl_ports_read((struct kl_str){(const char *)b->p, n}, &usual, again) >= 0 && n >= 4)
            for (size_t i = 0; i < sizeof again; i++)
                assert_true(!again[i] || again[i] == bits[i]);
    // Another range now: the ports that both have.
    const struct kl_port_range later = {30993, 100}, other = {40000, 8};
    assert_int_equal(kl_ports_read(kl_bytes_str(b), &later, again), 1);
    assert_int_equal(again[0], 0x80);
    for (size_t i = 1; i < kl_port_bytes(&later); i++)
        assert_int_equal(again[i], 0);
    assert_int_equal(kl_ports_read(kl_bytes_str(b), &other, again), 1);
    assert_int_equal(again[0], 0);
    kl_bytes_unref(b);
    again[0] = 0x81;
    b = kl_ports_write(&other, again);
    assert_int_equal(kl_ports_read(kl_bytes_str(b), &(struct kl_port_range){40007, 8}, again), 1);
    assert_int_equal(again[0], 1);
    kl_bytes_unref(b);
    assert_int_equal(kl_ports_read((struct kl_str){(const char *)bits, sizeof bits}, &usual, again),
                     0);
    assert_memory_equal(bits, again, sizeof bits); // as earlier versions wrote them
    assert_int_equal(kl_ports_read(KL_STR(""), &usual, again), 0);
    assert_false(again[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_custom_schema), cmocka_unit_test(test_custom_paths),
        cmocka_unit_test(test_ranges),        cmocka_unit_test(test_port_ranges),
        cmocka_unit_test(test_stored_ports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
