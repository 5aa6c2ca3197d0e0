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

// What there is to list beside the tables: the served rows of custom resources, in order, and what
// aggregated servers have.
struct kinds {
    const struct kl_apiserver *srv;
    struct kl_api_loop *al;
    struct kl_arena *a;
    struct kl_crd_row *rows;
    size_t n;
    struct kl_aggregate_group *remote; // to be given back
    size_t nremote;
};

static struct kinds kinds_of(struct kl_req *r, struct kl_str group)
{
    struct kinds k = {.srv = r->srv, .al = r->al, .a = r->arena};
    k.rows = kl_crds_rows(r->al, r->arena, group, &k.n);
    k.nremote = kl_aggregate_groups(r, &k.remote);
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

// A version of a group. An aggregated server may have some of those of a group that is here too,
// and may have taken one from here.
struct version {
    const char *name;
    int64_t priority;
    const struct kl_aggregate_version *remote; // NULL: this server's own
};

static int by_priority(const void *a, const void *b)
{
    const struct version *x = a, *y = b;
    return x->priority != y->priority ? (x->priority > y->priority ? -1 : 1)
                                      : -kl_version_compare(x->name, y->name);
}

static int64_t priority_of(const struct kinds *k, const char *group, const char *version)
{
    struct kl_str name = kl_arena_printf(k->a, "%s.%s", version, group);
    struct kl_object *o =
        name.p ? kl_api_object(k->al, k->a, KL_RES_apiregistration_v1_apiservices, KL_STR(""), name)
               : NULL;
    return o ? kl_int_at(&o->root, 0, KL_F_spec, KL_F_versionPriority) : 0;
}

// All versions of a group in discovery order; the group's own come as versions_of gives them when
// there are no others. *ret_n 0: there is no such group.
static struct version *all_versions(const struct kinds *k, const char *group, size_t *ret_n)
{
    const char *const *own = versions_of(k, group);
    const struct kl_aggregate_group *remote = NULL;
    size_t nown = 0, n = 0;
    while (own && own[nown])
        nown++;
    for (size_t i = 0; i < k->nremote && !remote; i++)
        if (!strcmp(k->remote[i].name, group))
            remote = &k->remote[i];
    struct version *out =
        kl_arena_zalloc(k->a, (nown + (remote ? remote->nversions : 0) + 1) * sizeof *out);
    for (size_t i = 0; out && remote && i < remote->nversions; i++)
        out[n++] = (struct version){remote->versions[i].version, 0, &remote->versions[i]};
    size_t ours = n;
    for (size_t i = 0; out && i < nown; i++) {
        bool taken = false;
        for (size_t x = 0; x < ours; x++)
            taken |= !strcmp(out[x].name, own[i]);
        if (!taken)
            out[n++] = (struct version){own[i], 0, NULL};
    }
    for (size_t i = 0; ours && n > ours && i < n; i++)
        out[i].priority = priority_of(k, group, out[i].name);
    if (ours && n > ours)
        qsort(out, n, sizeof *out, by_priority);
    *ret_n = n;
    return out;
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

static void put_group(struct kl_buf *b, const char *name, const struct version *versions, size_t n,
                      bool head)
{
    kl_buf_puts(b, head ? KL_STR("{\"kind\":\"APIGroup\",\"apiVersion\":\"v1\",") : KL_STR("{"));
    kl_buf_printf(b, "\"name\":\"%s\",\"versions\":[", name);
    for (size_t i = 0; i < n; i++)
        kl_buf_printf(b, "%s{\"groupVersion\":\"%s/%s\",\"version\":\"%s\"}", i ? "," : "", name,
                      versions[i].name, versions[i].name);
    kl_buf_printf(b, "],\"preferredVersion\":{\"groupVersion\":\"%s/%s\",\"version\":\"%s\"}}",
                  name, versions[0].name, versions[0].name);
}

// Calls `put` for each group that has versions: the tables' first, then those of custom resources,
// then those of aggregated servers.
static void each_group(struct kl_buf *b, const struct kinds *k, bool core,
                       void (*put)(struct kl_buf *b, const struct kinds *k, const char *name,
                                   const struct version *versions, size_t n))
{
    bool first = true;
    size_t it = 0, remote = 0;
    for (size_t i = 0;; i++) {
        const char *name = i < kl_ngroups ? kl_groups[i].name
                           : core         ? NULL
                                          : next_custom_group(k, &it);
        size_t n = 0;
        if (!name && !core)
            while (!name && remote < k->nremote) {
                name = k->remote[remote++].name;
                if (builtin_group(name) || versions_of(k, name))
                    name = NULL; // it was there
            }
        if (!name)
            return;
        struct version *versions = (*name == 0) == core ? all_versions(k, name, &n) : NULL;
        if (!versions || !n)
            continue;
        if (!first)
            kl_buf_putc(b, ',');
        put(b, k, name, versions, n);
        first = false;
    }
}

static void put_one_group(struct kl_buf *b, const struct kinds *k, const char *name,
                          const struct version *versions, size_t n)
{
    (void)k;
    put_group(b, name, versions, n, false);
}

static void put_group_list(struct kl_buf *b, const struct kinds *k)
{
    kl_buf_puts(b, KL_STR("{\"kind\":\"APIGroupList\",\"apiVersion\":\"v1\",\"groups\":["));
    each_group(b, k, false, put_one_group);
    kl_buf_puts(b, KL_STR("]}"));
}

// ---- aggregated (apidiscovery.k8s.io)

// A built-in kind of the resource's own version is not told where it belongs.
static void put_response_kind(struct kl_buf *b, const struct kl_resource *r, const char *group,
                              const char *version, const char *kind)
{
    if (!r->custom && strcmp(r->group, group) == 0 && strcmp(r->version, version) == 0)
        group = version = "";
    kl_buf_printf(b, "\"responseKind\":{\"group\":\"%s\",\"version\":\"%s\",\"kind\":\"%s\"}",
                  group, version, kind);
}

static void put_aggregated_resource(struct kl_buf *b, const struct kl_resource *r,
                                    const struct kl_crd *crd)
{
    kl_buf_printf(b, "{\"resource\":\"%s\",", r->plural);
    put_response_kind(b, r, r->group, r->version, r->kind);
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
            put_response_kind(b, r, s->group, s->version, s->kind);
            kl_buf_puts(b, KL_STR(",\"verbs\":"));
            put_verbs(b, s->verbs);
            kl_buf_putc(b, '}');
        }
        kl_buf_putc(b, ']');
    }
    kl_buf_putc(b, '}');
}

static void put_aggregated_version(struct kl_buf *b, const struct kinds *kinds, const char *group,
                                   const char *version)
{
    bool first = true;
    kl_buf_printf(b, "{\"version\":\"%s\",\"resources\":[", version);
    for (size_t k = 0; k < kl_nresources + kinds->n; k++) {
        const struct kl_crd_row *row = k < kl_nresources ? NULL : &kinds->rows[k - kl_nresources];
        const struct kl_resource *r = row ? row->res : &kl_resources[k];
        if (!in_version(kinds->srv, r, group, version))
            continue;
        if (!first)
            kl_buf_putc(b, ',');
        put_aggregated_resource(b, r, row ? row->crd : NULL);
        first = false;
    }
    kl_buf_puts(b, KL_STR("],\"freshness\":\"Current\"}"));
}

// What an aggregated server serves, or served when it last answered.
static void put_remote_version(struct kl_buf *b, const struct kl_aggregate_version *v)
{
    kl_buf_printf(b, "{\"version\":\"%s\",", v->version);
    if (v->resources)
        kl_buf_printf(b, "\"resources\":[%.*s],", (int)v->resources->n,
                      (const char *)v->resources->p);
    kl_buf_printf(b, "\"freshness\":\"%s\"}", v->current && v->resources ? "Current" : "Stale");
}

static void put_aggregated_group(struct kl_buf *b, const struct kinds *kinds, const char *name,
                                 const struct version *versions, size_t n)
{
    kl_buf_puts(b, KL_STR("{\"metadata\":{"));
    if (*name)
        kl_buf_printf(b, "\"name\":\"%s\"", name);
    kl_buf_puts(b, KL_STR("},\"versions\":["));
    for (size_t i = 0; i < n; i++) {
        if (i)
            kl_buf_putc(b, ',');
        if (versions[i].remote)
            put_remote_version(b, versions[i].remote);
        else
            put_aggregated_version(b, kinds, name, versions[i].name);
    }
    kl_buf_puts(b, KL_STR("]}"));
}

static void put_aggregated(struct kl_buf *b, const struct kinds *k, bool core)
{
    kl_buf_puts(b, KL_STR("{\"kind\":\"APIGroupDiscoveryList\",\"apiVersion\":"
                          "\"apidiscovery.k8s.io/v2\",\"metadata\":{},\"items\":["));
    each_group(b, k, core, put_aggregated_group);
    kl_buf_puts(b, KL_STR("]}"));
}

// Appends the JSON in the form that was asked for.
static int put_in_form(struct kl_buf *out, struct kl_api_call *c, const struct kl_type *t,
                       const char *api_version, const char *kind, struct kl_str json,
                       struct kl_error *err)
{
    struct kl_value v;
    if (c->spec.media != KL_MEDIA_PROTOBUF)
        kl_encode_text(out, &c->spec, json);
    else if (!kl_json_decode(c->req.arena, t, json, NULL, &v, err))
        kl_encode_value(out, &c->spec, t, kl_str(api_version), kl_str(kind), &v);
    if (!err->code && out->err)
        kl_error_set(err, KL_ENOMEM, "out of memory");
    return err->code;
}

static void answer_aggregated(struct kl_api_call *c, bool core)
{
    struct kl_req *r = &c->req;
    const struct kl_type *t =
        kl_type_by_name(KL_STR("io.k8s.api.apidiscovery.v2.APIGroupDiscoveryList"));
    struct kl_error err = {0};
    struct kl_buf b, out;
    unsigned char sum[SHA512_DIGEST_LENGTH];
    char etag[2 * 32 + 3];
    kl_buf_init(&b, DOC_MAX);
    kl_buf_init(&out, DOC_MAX);
    struct kinds kinds = kinds_of(r, (struct kl_str){NULL, 0});
    put_aggregated(&b, &kinds, core);
    kl_aggregate_groups_done(kinds.remote, kinds.nremote);
    SHA512((const unsigned char *)b.p, b.n, sum);
    etag[0] = '"';
    for (int i = 0; i < 32; i++)
        snprintf(etag + 1 + 2 * i, 3, "%02X", sum[i]);
    etag[65] = '"';
    etag[66] = 0;
    struct kl_str type =
        kl_arena_printf(r->arena, "%s;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                        kl_spec_content_type(&c->spec, false));
    struct kl_http_header h[4 + KL_COMMON_HEADERS] = {{KL_STR("content-type"), type},
                                                      {KL_STR("etag"), {etag, 66}},
                                                      KL_HTTP_HEADER("cache-control", "public"),
                                                      KL_HTTP_HEADER("vary", "Accept")};
    size_t nh = 4 + kl_http_common_headers(r, h + 4);
    bool same = kl_str_eq(kl_http_header(c->hr, KL_STR("if-none-match")), h[1].value);
    if (!same && put_in_form(&out, c, t, "apidiscovery.k8s.io/v2", "APIGroupDiscoveryList",
                             kl_buf_str(&b), &err)) {
        kl_fail_internal(r, "%s", err.msg);
        kl_req_fail(r);
    } else {
        kl_http_respond(c->hr, same ? 304 : 200, h, nh, kl_buf_str(&out));
        kl_api_call_release(c);
    }
    kl_buf_fini(&b);
    kl_buf_fini(&out);
}

// ---- the index

static void put_group_paths(struct kl_buf *b, const struct kinds *k, const char *name,
                            const struct version *versions, size_t n)
{
    (void)k;
    kl_buf_printf(b, "\n/apis/%s\n", name);
    for (size_t i = 0; i < n; i++)
        kl_buf_printf(b, "/apis/%s/%s\n", name, versions[i].name);
}

void kl_discovery_paths(struct kl_req *r, struct kl_buf *b)
{
    struct kinds kinds = kinds_of(r, (struct kl_str){NULL, 0});
    kl_buf_puts(b, KL_STR("/api\n/api/v1\n/apis\n/apis/\n"));
    each_group(b, &kinds, false, put_group_paths); // a comma between them, on a line of its own
    kl_aggregate_groups_done(kinds.remote, kinds.nremote);
}

// ---- the plain documents

static void refuse_media(struct kl_api_call *c, bool by_aggregator)
{
    kl_fail_set(&c->req, 406, "NotAcceptable",
                by_aggregator
                    ? "only the following media types are accepted: application/json, "
                      "application/yaml, application/vnd.kubernetes.protobuf"
                    : "406: Not Acceptable\n\nAvailable representations: application/json, "
                      "application/yaml, application/vnd.kubernetes.protobuf")
        ->bare_details = !by_aggregator;
    kl_req_fail(&c->req);
}

static void answer_plain(struct kl_api_call *c, int type, const char *kind, struct kl_str json)
{
    struct kl_req *r = &c->req;
    const struct kl_type *t = kl_type((uint16_t)type);
    struct kl_buf out;
    struct kl_error err = {0};
    kl_buf_init(&out, DOC_MAX);
    if (put_in_form(&out, c, t, "v1", kind, json, &err)) {
        kl_fail_internal(r, "%s", err.msg);
        kl_req_fail(r);
    } else {
        kl_http_answer_text(r, 200, kl_spec_content_type(&c->spec, false), kl_buf_str(&out));
    }
    kl_buf_fini(&out);
}

// Of a group that is not built in upstream's mux knows nothing, and says so in text.
static void no_such(struct kl_api_call *c, const char *group)
{
    if (!builtin_group(group)) {
        kl_http_answer_text(&c->req, 404, "text/plain; charset=utf-8",
                            KL_STR("404 page not found\n"));
        return;
    }
    kl_fail_set(&c->req, 404, "NotFound", "the server could not find the requested resource");
    kl_req_fail(&c->req);
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
    struct kl_object *remote = NULL;
    if (core ? kl_aggregate_takes(r->srv) : n == 3)
        remote =
            kl_aggregate_find(r->al, core ? KL_STR("") : part[1], core ? KL_STR("v1") : part[2]);
    if (remote) {
        kl_aggregate_proxy(c, remote);
        return;
    }
    // Groups and all of them are the aggregator's own, which does not look at the method.
    bool route = core || n > 2, other = !kl_str_eqz(kl_http_method(c->hr), "GET");
    if (other && n == 1 && core) {
        kl_fail_method(r);
        kl_req_fail(r);
        return;
    }
    if (n == 1 && c->spec.discovery_v2) {
        answer_aggregated(c, core);
        return;
    }
    struct kl_spec ignored;
    int unfit = kl_spec_parse(kl_http_header(c->hr, KL_STR("accept")), KL_SPEC_OF_TEXT, &ignored);
    struct kl_buf b;
    struct kinds kinds = kinds_of(r, core    ? KL_STR("")
                                     : n > 1 ? part[1]
                                             : (struct kl_str){NULL, 0});
    const char *group = !core && n > 1 ? kl_arena_dup(r->arena, part[1]).p : "", *kind;
    int type;
    kl_buf_init(&b, DOC_MAX);
    if (core && n == 1) {
        type = KL_TYPE_meta_v1_APIVersions, kind = "APIVersions";
        kl_buf_printf(&b,
                      "{\"kind\":\"APIVersions\",\"versions\":[\"v1\"],"
                      "\"serverAddressByClientCIDRs\":[{\"clientCIDR\":\"0.0.0.0/0\","
                      "\"serverAddress\":\"%s:%d\"}]}",
                      r->srv->o.advertise_address ? r->srv->o.advertise_address : "127.0.0.1",
                      kl_apiserver_port(r->srv));
    } else if (n == 1) {
        type = KL_TYPE_meta_v1_APIGroupList, kind = "APIGroupList";
        put_group_list(&b, &kinds);
    } else if (core) {
        type = KL_TYPE_meta_v1_APIResourceList, kind = "APIResourceList";
        found = n == 2 && kl_str_eqz(part[1], "v1") && put_resource_list(&b, &kinds, "", "v1");
    } else {
        size_t nversions = 0;
        struct version *versions = group && *group ? all_versions(&kinds, group, &nversions) : NULL;
        found = versions && nversions;
        type = n == 2 ? KL_TYPE_meta_v1_APIGroup : KL_TYPE_meta_v1_APIResourceList;
        kind = n == 2 ? "APIGroup" : "APIResourceList";
        if (found && n == 2)
            put_group(&b, group, versions, nversions, true);
        else
            found = found && n == 3 &&
                    put_resource_list(&b, &kinds, group, kl_arena_dup(r->arena, part[2]).p);
    }
    kl_aggregate_groups_done(kinds.remote, kinds.nremote);
    if (!found) {
        no_such(c, group ? group : "");
    } else if (route && other) {
        kl_fail_method(r);
        kl_req_fail(r);
    } else if (unfit) {
        // A media type that is known in a form that is not: it was not the routes that said no.
        refuse_media(c, unfit == KL_EUNSUPPORTED || (!core && n < 3));
    } else {
        answer_plain(c, type, kind, kl_buf_str(&b));
    }
    kl_buf_fini(&b);
}
