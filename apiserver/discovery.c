// SPDX-License-Identifier: Apache-2.0
// Discovery documents, written from the tables of object/resource.h at each request: they are small
// and asked for rarely.
#include "apiserver/discovery.h"
#include "apiserver/aggregate/aggregate.h"
#include "apiserver/served.h"
#include <openssl/sha.h>
#include <stdio.h>

enum { DOC_MAX = 4 << 20 };

static void put_strings(struct kl_buf *b, const char *const *list)
{
    kl_buf_putc(b, '[');
    for (size_t i = 0; list && list[i]; i++)
        kl_buf_printf(b, "%s\"%s\"", i ? "," : "", list[i]);
    kl_buf_putc(b, ']');
}

// Alphabetically, as upstream lists them.
static const enum kl_verb verb_order[] = {KL_VERB_CREATE, KL_VERB_DELETE, KL_VERB_DELETECOLLECTION,
                                          KL_VERB_GET,    KL_VERB_LIST,   KL_VERB_PATCH,
                                          KL_VERB_UPDATE, KL_VERB_WATCH};

static void put_verbs(struct kl_buf *b, uint32_t verbs)
{
    bool first = true;
    kl_buf_putc(b, '[');
    for (size_t i = 0; i < KL_COUNT(verb_order); i++) {
        if (!(verbs & KL_VERB_BIT(verb_order[i])))
            continue;
        kl_buf_printf(b, "%s\"%s\"", first ? "" : ",", kl_verb_names[verb_order[i]]);
        first = false;
    }
    kl_buf_putc(b, ']');
}

static bool in_version(const struct kl_apiserver *srv, const struct kl_resource *r,
                       const char *group, const char *version)
{
    return kl_is_served(srv, r) && !strcmp(r->group, group) && !strcmp(r->version, version);
}

// ---- plain

static void put_api_resource(struct kl_buf *b, const struct kl_resource *r,
                             const struct kl_subresource *s, bool first)
{
    if (!first)
        kl_buf_putc(b, ',');
    kl_buf_printf(b, "{\"name\":\"%s%s%s\",\"singularName\":\"%s\",\"namespaced\":%s,", r->plural,
                  s ? "/" : "", s ? s->name : "", s ? "" : r->singular,
                  r->namespaced ? "true" : "false");
    if (s && (strcmp(s->group, r->group) || strcmp(s->version, r->version)))
        kl_buf_printf(b, "\"group\":\"%s\",\"version\":\"%s\",", s->group, s->version);
    kl_buf_printf(b, "\"kind\":\"%s\",\"verbs\":", s ? s->kind : r->kind);
    put_verbs(b, s ? s->verbs : r->verbs);
    if (!s && r->short_names) {
        kl_buf_puts(b, KL_STR(",\"shortNames\":"));
        put_strings(b, r->short_names);
    }
    if (!s && r->categories) {
        kl_buf_puts(b, KL_STR(",\"categories\":"));
        put_strings(b, r->categories);
    }
    if (!s && r->storage_hash)
        kl_buf_printf(b, ",\"storageVersionHash\":\"%s\"", r->storage_hash);
    kl_buf_putc(b, '}');
}

static bool put_resource_list(struct kl_buf *b, const struct kl_apiserver *srv, const char *group,
                              const char *version)
{
    bool first = true;
    kl_buf_printf(b, "{\"kind\":\"APIResourceList\",%s\"groupVersion\":\"%s%s%s\",\"resources\":[",
                  *group ? "\"apiVersion\":\"v1\"," : "", group, *group ? "/" : "", version);
    for (uint16_t i = 0; i < kl_nresources; i++) {
        const struct kl_resource *r = &kl_resources[i];
        if (!in_version(srv, r, group, version))
            continue;
        put_api_resource(b, r, NULL, first);
        first = false;
        for (uint16_t k = 0; k < r->nsubresources; k++)
            put_api_resource(b, r, &r->subresources[k], false);
    }
    kl_buf_puts(b, KL_STR("]}"));
    return !first;
}

static void put_group(struct kl_buf *b, const struct kl_apiserver *srv, const struct kl_group *g,
                      bool head)
{
    kl_buf_puts(b, head ? KL_STR("{\"kind\":\"APIGroup\",\"apiVersion\":\"v1\",") : KL_STR("{"));
    kl_buf_printf(b, "\"name\":\"%s\",\"versions\":[", g->name);
    const char *version, *first = kl_served_version(srv, g, 0);
    for (size_t i = 0; (version = kl_served_version(srv, g, i)); i++)
        kl_buf_printf(b, "%s{\"groupVersion\":\"%s/%s\",\"version\":\"%s\"}", i ? "," : "", g->name,
                      version, version);
    kl_buf_printf(b, "],\"preferredVersion\":{\"groupVersion\":\"%s/%s\",\"version\":\"%s\"}}",
                  g->name, first, first);
}

// An aggregated group.
static void put_remote_group(struct kl_buf *b, const struct kl_aggregate_group *g, bool head)
{
    kl_buf_puts(b, head ? KL_STR("{\"kind\":\"APIGroup\",\"apiVersion\":\"v1\",") : KL_STR("{"));
    kl_buf_printf(b, "\"name\":\"%s\",\"versions\":[", g->name);
    for (size_t i = 0; i < g->nversions; i++)
        kl_buf_printf(b, "%s{\"groupVersion\":\"%s/%s\",\"version\":\"%s\"}", i ? "," : "", g->name,
                      g->versions[i].version, g->versions[i].version);
    kl_buf_printf(b, "],\"preferredVersion\":{\"groupVersion\":\"%s/%s\",\"version\":\"%s\"}}",
                  g->name, g->versions[0].version, g->versions[0].version);
}

static void put_remote_groups(struct kl_req *r, struct kl_buf *b)
{
    struct kl_aggregate_group *list;
    size_t n = kl_aggregate_groups(r, &list);
    for (size_t i = 0; i < n; i++) {
        kl_buf_putc(b, ',');
        put_remote_group(b, &list[i], false);
    }
    kl_aggregate_groups_done(list, n);
}

static bool put_remote_group_named(struct kl_req *r, struct kl_buf *b, struct kl_str name)
{
    struct kl_aggregate_group *list;
    size_t n = kl_aggregate_groups(r, &list);
    bool found = false;
    for (size_t i = 0; i < n && !found; i++)
        if ((found = kl_str_eqz(name, list[i].name)))
            put_remote_group(b, &list[i], true);
    kl_aggregate_groups_done(list, n);
    return found;
}

static void put_group_list(struct kl_req *r, struct kl_buf *b)
{
    const struct kl_apiserver *srv = r->srv;
    bool first = true;
    kl_buf_puts(b, KL_STR("{\"kind\":\"APIGroupList\",\"apiVersion\":\"v1\",\"groups\":["));
    for (uint16_t i = 0; i < kl_ngroups; i++) {
        const struct kl_group *g = &kl_groups[i];
        if (!*g->name || !kl_served_version(srv, g, 0))
            continue;
        if (!first)
            kl_buf_putc(b, ',');
        put_group(b, srv, g, false);
        first = false;
    }
    put_remote_groups(r, b);
    kl_buf_puts(b, KL_STR("]}"));
}

// ---- aggregated (apidiscovery.k8s.io)

static void put_response_kind(struct kl_buf *b, const char *group, const char *version,
                              const char *kind)
{
    kl_buf_printf(b, "\"responseKind\":{\"group\":\"%s\",\"version\":\"%s\",\"kind\":\"%s\"}",
                  group, version, kind);
}

static void put_aggregated_resource(struct kl_buf *b, const struct kl_resource *r)
{
    kl_buf_printf(b, "{\"resource\":\"%s\",", r->plural);
    put_response_kind(b, r->group, r->version, r->kind);
    kl_buf_printf(b, ",\"scope\":\"%s\",\"singularResource\":\"%s\",\"verbs\":",
                  r->namespaced ? "Namespaced" : "Cluster", r->singular);
    put_verbs(b, r->verbs);
    if (r->short_names) {
        kl_buf_puts(b, KL_STR(",\"shortNames\":"));
        put_strings(b, r->short_names);
    }
    if (r->categories) {
        kl_buf_puts(b, KL_STR(",\"categories\":"));
        put_strings(b, r->categories);
    }
    if (r->nsubresources) {
        kl_buf_puts(b, KL_STR(",\"subresources\":["));
        for (uint16_t k = 0; k < r->nsubresources; k++) {
            const struct kl_subresource *s = &r->subresources[k];
            kl_buf_printf(b, "%s{\"subresource\":\"%s\",", k ? "," : "", s->name);
            put_response_kind(b, s->group, s->version, s->kind);
            kl_buf_puts(b, KL_STR(",\"verbs\":"));
            put_verbs(b, s->verbs);
            kl_buf_putc(b, '}');
        }
        kl_buf_putc(b, ']');
    }
    kl_buf_putc(b, '}');
}

static void put_aggregated_group(struct kl_buf *b, const struct kl_apiserver *srv,
                                 const struct kl_group *g)
{
    kl_buf_puts(b, KL_STR("{\"metadata\":{"));
    if (*g->name)
        kl_buf_printf(b, "\"name\":\"%s\",", g->name);
    kl_buf_puts(b, KL_STR("\"creationTimestamp\":null},\"versions\":["));
    const char *version;
    for (size_t i = 0; (version = kl_served_version(srv, g, i)); i++) {
        bool first = true;
        kl_buf_printf(b, "%s{\"version\":\"%s\",\"resources\":[", i ? "," : "", version);
        for (uint16_t k = 0; k < kl_nresources; k++) {
            if (!in_version(srv, &kl_resources[k], g->name, version))
                continue;
            if (!first)
                kl_buf_putc(b, ',');
            put_aggregated_resource(b, &kl_resources[k]);
            first = false;
        }
        kl_buf_puts(b, KL_STR("],\"freshness\":\"Current\"}"));
    }
    kl_buf_puts(b, KL_STR("]}"));
}

// What aggregated servers serve, or served when they last answered.
static void put_aggregated_remote(struct kl_req *r, struct kl_buf *b)
{
    struct kl_aggregate_group *list;
    size_t n = kl_aggregate_groups(r, &list);
    for (size_t i = 0; i < n; i++) {
        kl_buf_printf(b,
                      ",{\"metadata\":{\"name\":\"%s\",\"creationTimestamp\":null},\"versions\":[",
                      list[i].name);
        for (size_t k = 0; k < list[i].nversions; k++) {
            const struct kl_aggregate_version *v = &list[i].versions[k];
            kl_buf_printf(b, "%s{\"version\":\"%s\",", k ? "," : "", v->version);
            if (v->resources)
                kl_buf_printf(b, "\"resources\":[%.*s],", (int)v->resources->n,
                              (const char *)v->resources->p);
            kl_buf_printf(b, "\"freshness\":\"%s\"}",
                          v->current && v->resources ? "Current" : "Stale");
        }
        kl_buf_puts(b, KL_STR("]}"));
    }
    kl_aggregate_groups_done(list, n);
}

static void put_aggregated(struct kl_req *r, struct kl_buf *b, bool core, const char *version)
{
    const struct kl_apiserver *srv = r->srv;
    bool first = true;
    kl_buf_printf(b,
                  "{\"kind\":\"APIGroupDiscoveryList\",\"apiVersion\":\"apidiscovery.k8s.io/%s\","
                  "\"metadata\":{},\"items\":[",
                  version);
    for (uint16_t i = 0; i < kl_ngroups; i++) {
        const struct kl_group *g = &kl_groups[i];
        if ((*g->name == 0) != core || !kl_served_version(srv, g, 0))
            continue;
        if (!first)
            kl_buf_putc(b, ',');
        put_aggregated_group(b, srv, g);
        first = false;
    }
    if (!core)
        put_aggregated_remote(r, b);
    kl_buf_puts(b, KL_STR("]}"));
}

static void answer_aggregated(struct kl_api_call *c, bool core)
{
    const char *version = c->spec.discovery_v2 ? "v2" : "v2beta1";
    struct kl_buf b;
    unsigned char sum[SHA512_DIGEST_LENGTH];
    char etag[2 * 32 + 3];
    kl_buf_init(&b, DOC_MAX);
    put_aggregated(&c->req, &b, core, version);
    SHA512((const unsigned char *)b.p, b.n, sum);
    etag[0] = '"';
    for (int i = 0; i < 32; i++)
        snprintf(etag + 1 + 2 * i, 3, "%02X", sum[i]);
    etag[65] = '"';
    etag[66] = 0;
    struct kl_str type = kl_arena_printf(
        c->req.arena, "application/json;g=apidiscovery.k8s.io;v=%s;as=APIGroupDiscoveryList",
        version);
    struct kl_http_header h[] = {{KL_STR("content-type"), type},
                                 {KL_STR("etag"), {etag, 66}},
                                 KL_HTTP_HEADER("cache-control", "public"),
                                 KL_HTTP_HEADER("vary", "Accept")};
    bool same = kl_str_eq(kl_http_header(c->hr, KL_STR("if-none-match")), h[1].value);
    kl_http_respond(c->hr, same ? 304 : 200, h, KL_COUNT(h), same ? KL_STR("") : kl_buf_str(&b));
    kl_buf_fini(&b);
    kl_api_call_release(c);
}

void kl_discovery_run(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    struct kl_str path = r->info.path, part[4];
    size_t n = 0;
    bool found = true;
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    path = kl_str_from(path, 1);
    while (n < KL_COUNT(part) && kl_str_split(&path, '/', &part[n]))
        n++;
    bool core = kl_str_eqz(part[0], "api");
    struct kl_object *remote = n == 3 && !core ? kl_aggregate_find(r->al, part[1], part[2]) : NULL;
    if (remote) {
        kl_aggregate_proxy(c, remote);
        return;
    }
    if (n == 1 && (c->spec.discovery_v2 || c->spec.discovery_v2beta1)) {
        answer_aggregated(c, core);
        return;
    }
    struct kl_buf b;
    kl_buf_init(&b, DOC_MAX);
    if (core && n == 1) {
        kl_buf_printf(&b,
                      "{\"kind\":\"APIVersions\",\"versions\":[\"v1\"],"
                      "\"serverAddressByClientCIDRs\":[{\"clientCIDR\":\"0.0.0.0/0\","
                      "\"serverAddress\":\"%s:%d\"}]}",
                      r->srv->o.advertise_address ? r->srv->o.advertise_address : "127.0.0.1",
                      kl_apiserver_port(r->srv));
    } else if (core) {
        found = n == 2 && kl_str_eqz(part[1], "v1") && put_resource_list(&b, r->srv, "", "v1");
    } else if (n == 1) {
        put_group_list(r, &b);
    } else {
        const struct kl_group *g = NULL;
        for (uint16_t i = 0; i < kl_ngroups; i++)
            if (*kl_groups[i].name && kl_str_eqz(part[1], kl_groups[i].name) &&
                kl_served_version(r->srv, &kl_groups[i], 0))
                g = &kl_groups[i];
        if (g && n == 2)
            put_group(&b, r->srv, g, true);
        else if (n == 2)
            found = put_remote_group_named(r, &b, part[1]);
        else
            found = g && n == 3 &&
                    put_resource_list(&b, r->srv, g->name, kl_arena_dup(r->arena, part[2]).p);
    }
    if (found) {
        struct kl_buf out;
        kl_buf_init(&out, DOC_MAX);
        if (c->spec.pretty)
            kl_json_pretty(&out, kl_buf_str(&b), 2);
        else
            kl_buf_puts(&out, kl_buf_str(&b));
        kl_buf_putc(&out, '\n');
        kl_http_answer_text(r, 200, "application/json", kl_buf_str(&out));
        kl_buf_fini(&out);
    } else {
        kl_fail_set(r, 404, "NotFound", "the server could not find the requested resource");
        kl_req_fail(r);
    }
    kl_buf_fini(&b);
}
