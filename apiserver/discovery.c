// SPDX-License-Identifier: Apache-2.0
// Discovery documents, written from the tables of object/resource.h at each request: they are small
// and asked for rarely.
#include "apiserver/discovery.h"
#include "apiserver/aggregate/aggregate.h"
#include "apiserver/crd/crd.h"
#include "apiserver/served.h"
#include <openssl/sha.h>
#include <stdio.h>

enum { DOC_MAX = 32 << 20 };

// What there is to list beside the tables: the served rows of custom resources, in order.
struct kinds {
    const struct kl_apiserver *srv;
    struct kl_arena *a;
    struct kl_crd_row *rows;
    size_t n;
};

static struct kinds kinds_of(struct kl_req *r, struct kl_str group)
{
    struct kinds k = {.srv = r->srv, .a = r->arena};
    k.rows = kl_crds_rows(r->al, r->arena, group, &k.n);
    return k;
}

static const struct kl_group *builtin_group(const char *name)
{
    for (uint16_t i = 0; i < kl_ngroups; i++)
        if (!strcmp(kl_groups[i].name, name))
            return &kl_groups[i];
    return NULL;
}

static bool has_version(const char *const *list, const char *version)
{
    for (; list && *list; list++)
        if (!strcmp(*list, version))
            return true;
    return false;
}

// The versions of a group, NULL-ended, in discovery order; those that custom resources bring to a
// group of the tables come behind. NULL: none.
static const char *const *versions_of(const struct kinds *k, const char *group)
{
    const struct kl_group *g = builtin_group(group);
    const char *version;
    size_t n = 0, max = k->n;
    for (size_t i = 0; g && kl_served_version(k->srv, g, i); i++)
        max++;
    const char **out = kl_arena_zalloc(k->a, (max + 1) * sizeof *out);
    if (!out)
        return NULL;
    for (size_t i = 0; g && (version = kl_served_version(k->srv, g, i)); i++)
        out[n++] = version;
    for (size_t i = 0; i < k->n; i++)
        if (!strcmp(k->rows[i].res->group, group) && !has_version(out, k->rows[i].res->version))
            out[n++] = k->rows[i].res->version;
    return n ? out : NULL;
}

// The name of the next group that only custom resources are of; NULL at the end.
static const char *next_custom_group(const struct kinds *k, size_t *it)
{
    for (; *it < k->n; ++*it) {
        const char *name = k->rows[*it].res->group;
        if (*it && !strcmp(name, k->rows[*it - 1].res->group))
            continue;
        if (!builtin_group(name)) {
            ++*it;
            return name;
        }
    }
    return NULL;
}

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

// A kind whose definition goes takes no new objects and no changes.
static uint32_t verbs_of(const struct kl_resource *r, const struct kl_crd *crd)
{
    const uint32_t writes =
        KL_VERB_BIT(KL_VERB_CREATE) | KL_VERB_BIT(KL_VERB_UPDATE) | KL_VERB_BIT(KL_VERB_PATCH);
    return crd && crd->terminating ? r->verbs & ~writes : r->verbs;
}

static void put_api_resource(struct kl_buf *b, const struct kl_resource *r,
                             const struct kl_crd *crd, const struct kl_subresource *s, bool first)
{
    char hash[16];
    if (!first)
        kl_buf_putc(b, ',');
    kl_buf_printf(b, "{\"name\":\"%s%s%s\",\"singularName\":\"%s\",\"namespaced\":%s,", r->plural,
                  s ? "/" : "", s ? s->name : "", s ? "" : r->singular,
                  r->namespaced ? "true" : "false");
    if (s && (strcmp(s->group, r->group) || strcmp(s->version, r->version)))
        kl_buf_printf(b, "\"group\":\"%s\",\"version\":\"%s\",", s->group, s->version);
    kl_buf_printf(b, "\"kind\":\"%s\",\"verbs\":", s ? s->kind : r->kind);
    put_verbs(b, s ? s->verbs : verbs_of(r, crd));
    if (!s && r->short_names) {
        kl_buf_puts(b, KL_STR(",\"shortNames\":"));
        put_strings(b, r->short_names);
    }
    if (!s && r->categories) {
        kl_buf_puts(b, KL_STR(",\"categories\":"));
        put_strings(b, r->categories);
    }
    const char *stored = crd ? kl_crd_storage_hash(crd->plain, hash) : r->storage_hash;
    if (!s && stored)
        kl_buf_printf(b, ",\"storageVersionHash\":\"%s\"", stored);
    kl_buf_putc(b, '}');
}

static void put_api_resources(struct kl_buf *b, const struct kl_resource *r,
                              const struct kl_crd *crd, bool *first)
{
    put_api_resource(b, r, crd, NULL, *first);
    *first = false;
    for (uint16_t k = 0; k < r->nsubresources; k++)
        put_api_resource(b, r, crd, &r->subresources[k], false);
}

static bool put_resource_list(struct kl_buf *b, const struct kinds *kinds, const char *group,
                              const char *version)
{
    bool first = true;
    kl_buf_printf(b, "{\"kind\":\"APIResourceList\",%s\"groupVersion\":\"%s%s%s\",\"resources\":[",
                  *group ? "\"apiVersion\":\"v1\"," : "", group, *group ? "/" : "", version);
    for (uint16_t i = 0; i < kl_nresources; i++) {
        const struct kl_resource *r = &kl_resources[i];
        if (!in_version(kinds->srv, r, group, version))
            continue;
        put_api_resources(b, r, NULL, &first);
    }
    for (size_t i = 0; i < kinds->n; i++)
        if (in_version(kinds->srv, kinds->rows[i].res, group, version))
            put_api_resources(b, kinds->rows[i].res, kinds->rows[i].crd, &first);
    kl_buf_puts(b, KL_STR("]}"));
    return !first;
}

static void put_group(struct kl_buf *b, const char *name, const char *const *versions, bool head)
{
    kl_buf_puts(b, head ? KL_STR("{\"kind\":\"APIGroup\",\"apiVersion\":\"v1\",") : KL_STR("{"));
    kl_buf_printf(b, "\"name\":\"%s\",\"versions\":[", name);
    for (size_t i = 0; versions[i]; i++)
        kl_buf_printf(b, "%s{\"groupVersion\":\"%s/%s\",\"version\":\"%s\"}", i ? "," : "", name,
                      versions[i], versions[i]);
    kl_buf_printf(b, "],\"preferredVersion\":{\"groupVersion\":\"%s/%s\",\"version\":\"%s\"}}",
                  name, versions[0], versions[0]);
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

// Calls `put` for each group that has versions: the tables' first, then those of custom resources.
static void each_group(struct kl_buf *b, const struct kinds *k, bool core,
                       void (*put)(struct kl_buf *b, const struct kinds *k, const char *name,
                                   const char *const *versions))
{
    bool first = true;
    size_t it = 0;
    for (size_t i = 0;; i++) {
        const char *name = i < kl_ngroups ? kl_groups[i].name
                           : core         ? NULL
                                          : next_custom_group(k, &it);
        if (!name)
            return;
        const char *const *versions = (*name == 0) == core ? versions_of(k, name) : NULL;
        if (!versions)
            continue;
        if (!first)
            kl_buf_putc(b, ',');
        put(b, k, name, versions);
        first = false;
    }
}

static void put_one_group(struct kl_buf *b, const struct kinds *k, const char *name,
                          const char *const *versions)
{
    (void)k;
    put_group(b, name, versions, false);
}

static void put_group_list(struct kl_req *r, struct kl_buf *b, const struct kinds *k)
{
    kl_buf_puts(b, KL_STR("{\"kind\":\"APIGroupList\",\"apiVersion\":\"v1\",\"groups\":["));
    each_group(b, k, false, put_one_group);
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

static void put_aggregated_resource(struct kl_buf *b, const struct kl_resource *r,
                                    const struct kl_crd *crd)
{
    kl_buf_printf(b, "{\"resource\":\"%s\",", r->plural);
    put_response_kind(b, r->group, r->version, r->kind);
    kl_buf_printf(b, ",\"scope\":\"%s\",\"singularResource\":\"%s\",\"verbs\":",
                  r->namespaced ? "Namespaced" : "Cluster", r->singular);
    put_verbs(b, verbs_of(r, crd));
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

static void put_aggregated_group(struct kl_buf *b, const struct kinds *kinds, const char *name,
                                 const char *const *versions)
{
    kl_buf_puts(b, KL_STR("{\"metadata\":{"));
    if (*name)
        kl_buf_printf(b, "\"name\":\"%s\",", name);
    kl_buf_puts(b, KL_STR("\"creationTimestamp\":null},\"versions\":["));
    for (size_t i = 0; versions[i]; i++) {
        bool first = true;
        kl_buf_printf(b, "%s{\"version\":\"%s\",\"resources\":[", i ? "," : "", versions[i]);
        for (size_t k = 0; k < kl_nresources + kinds->n; k++) {
            const struct kl_crd_row *row =
                k < kl_nresources ? NULL : &kinds->rows[k - kl_nresources];
            const struct kl_resource *r = row ? row->res : &kl_resources[k];
            if (!in_version(kinds->srv, r, name, versions[i]))
                continue;
            if (!first)
                kl_buf_putc(b, ',');
            put_aggregated_resource(b, r, row ? row->crd : NULL);
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

static void put_aggregated(struct kl_req *r, struct kl_buf *b, const struct kinds *k, bool core,
                           const char *version)
{
    kl_buf_printf(b,
                  "{\"kind\":\"APIGroupDiscoveryList\",\"apiVersion\":\"apidiscovery.k8s.io/%s\","
                  "\"metadata\":{},\"items\":[",
                  version);
    each_group(b, k, core, put_aggregated_group);
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
    struct kinds kinds = kinds_of(&c->req, (struct kl_str){NULL, 0});
    put_aggregated(&c->req, &b, &kinds, core, version);
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
    struct kinds kinds = kinds_of(r, core    ? KL_STR("")
                                     : n > 1 ? part[1]
                                             : (struct kl_str){NULL, 0});
    kl_buf_init(&b, DOC_MAX);
    if (core && n == 1) {
        kl_buf_printf(&b,
                      "{\"kind\":\"APIVersions\",\"versions\":[\"v1\"],"
                      "\"serverAddressByClientCIDRs\":[{\"clientCIDR\":\"0.0.0.0/0\","
                      "\"serverAddress\":\"%s:%d\"}]}",
                      r->srv->o.advertise_address ? r->srv->o.advertise_address : "127.0.0.1",
                      kl_apiserver_port(r->srv));
    } else if (core) {
        found = n == 2 && kl_str_eqz(part[1], "v1") && put_resource_list(&b, &kinds, "", "v1");
    } else if (n == 1) {
        put_group_list(r, &b, &kinds);
    } else {
        const char *name = kl_arena_dup(r->arena, part[1]).p;
        const char *const *versions = name && *name ? versions_of(&kinds, name) : NULL;
        if (versions && n == 2)
            put_group(&b, name, versions, true);
        else if (n == 2)
            found = put_remote_group_named(r, &b, part[1]);
        else
            found = versions && n == 3 &&
                    put_resource_list(&b, &kinds, name, kl_arena_dup(r->arena, part[2]).p);
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
