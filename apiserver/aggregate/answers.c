// SPDX-License-Identifier: Apache-2.0
// What of an aggregated server's answers is kept for discovery. No loop: documents may be long, and
// are read in threads.
#include "apiserver/aggregate/aggregate_int.h"

static void put_strings(struct kl_buf *b, const char *member, const struct kl_value *list)
{
    if (!kl_len(list))
        return;
    kl_buf_printf(b, ",\"%s\":", member);
    kl_json_write(b, list);
}

static void put_kind(struct kl_buf *b, const struct kl_value *r, struct kl_str group,
                     struct kl_str version)
{
    struct kl_str g = kl_text(kl_map_value(r, KL_STR("group")));
    struct kl_str v = kl_text(kl_map_value(r, KL_STR("version")));
    kl_buf_puts(b, KL_STR("\"responseKind\":{\"group\":"));
    kl_json_write_string(b, v.n ? g : group);
    kl_buf_puts(b, KL_STR(",\"version\":"));
    kl_json_write_string(b, v.n ? v : version);
    kl_buf_puts(b, KL_STR(",\"kind\":"));
    kl_json_write_string(b, kl_text(kl_map_value(r, KL_STR("kind"))));
    kl_buf_putc(b, '}');
}

static void put_subresources(struct kl_buf *b, const struct kl_value *all, struct kl_str of,
                             struct kl_str group, struct kl_str version)
{
    bool first = true;
    for (KL_EACH(r, all)) {
        struct kl_str name = kl_text(kl_map_value(r, KL_STR("name")));
        ptrdiff_t slash = kl_str_chr(name, '/');
        if (slash < 0 || !kl_str_eq((struct kl_str){name.p, (size_t)slash}, of))
            continue;
        kl_buf_puts(b, first ? KL_STR(",\"subresources\":[") : KL_STR(","));
        first = false;
        kl_buf_puts(b, KL_STR("{\"subresource\":"));
        kl_json_write_string(b, kl_str_from(name, (size_t)slash + 1));
        kl_buf_putc(b, ',');
        put_kind(b, r, group, version);
        put_strings(b, "verbs", kl_map_value(r, KL_STR("verbs")));
        kl_buf_putc(b, '}');
    }
    if (!first)
        kl_buf_putc(b, ']');
}

struct kl_bytes *kl_aggregate_resources(struct kl_arena *a, struct kl_str text, struct kl_str group,
                                        struct kl_str version)
{
    struct kl_value v;
    struct kl_error err;
    struct kl_buf b;
    if (kl_json_parse(a, text, NULL, &v, &err) ||
        !kl_str_eqz(kl_text(kl_map_value(&v, KL_STR("kind"))), "APIResourceList"))
        return NULL;
    const struct kl_value *all = kl_map_value(&v, KL_STR("resources"));
    kl_buf_init(&b, KL_AGGREGATE_MAX_ANSWER);
    for (KL_EACH(r, all)) {
        struct kl_str name = kl_text(kl_map_value(r, KL_STR("name")));
        if (kl_str_chr(name, '/') >= 0)
            continue;
        kl_buf_puts(&b, b.n ? KL_STR(",{\"resource\":") : KL_STR("{\"resource\":"));
        kl_json_write_string(&b, name);
        kl_buf_putc(&b, ',');
        put_kind(&b, r, group, version);
        kl_buf_printf(&b, ",\"scope\":\"%s\",\"singularResource\":",
                      kl_is_true(kl_map_value(r, KL_STR("namespaced"))) ? "Namespaced" : "Cluster");
        kl_json_write_string(&b, kl_text(kl_map_value(r, KL_STR("singularName"))));
        put_strings(&b, "verbs", kl_map_value(r, KL_STR("verbs")));
        put_strings(&b, "shortNames", kl_map_value(r, KL_STR("shortNames")));
        put_strings(&b, "categories", kl_map_value(r, KL_STR("categories")));
        put_subresources(&b, all, name, group, version);
        kl_buf_putc(&b, '}');
    }
    struct kl_bytes *out = b.err ? NULL : kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    return out;
}

struct kl_bytes *kl_aggregate_openapi_hash(struct kl_arena *a, struct kl_str text,
                                           const char *group, const char *version)
{
    struct kl_value v;
    struct kl_error err;
    struct kl_str path = kl_arena_printf(a, "%s%s/%s", *group ? "apis/" : "api", group, version);
    if (!path.p || kl_json_parse(a, text, NULL, &v, &err))
        return NULL;
    struct kl_str url = kl_text(kl_map_value(kl_map_value(kl_map_value(&v, KL_STR("paths")), path),
                                             KL_STR("serverRelativeURL")));
    const char *hash = url.n ? memmem(url.p, url.n, "hash=", 5) : NULL;
    if (!hash)
        return NULL;
    hash += 5;
    for (const char *p = hash; p < url.p + url.n; p++)
        if (*p < ' ' || *p > '~' || *p == '"' || *p == '\\') // it stands in JSON text as it is
            return NULL;
    return kl_bytes_new((struct kl_str){hash, (size_t)(url.p + url.n - hash)});
}
