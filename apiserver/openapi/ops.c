// SPDX-License-Identifier: Apache-2.0
// The operations of each resource as apiserver's endpoints/installer.go registers them: which paths
// there are, what each takes and answers, and what it is called.
#include "apiserver/openapi/openapi_int.h"
#include "apiserver/strategy.h"
#include <ctype.h>

#define BIT(p) (UINT64_C(1) << (p))

#define LIST_BOTH                                                                                  \
    (BIT(KL_OA_CONTINUE) | BIT(KL_OA_FIELD_SELECTOR) | BIT(KL_OA_LABEL_SELECTOR) |                 \
     BIT(KL_OA_LIMIT) | BIT(KL_OA_RV) | BIT(KL_OA_RV_MATCH) | BIT(KL_OA_SEND_INITIAL) |            \
     BIT(KL_OA_SHARD_SELECTOR) | BIT(KL_OA_TIMEOUT))
#define LIST_PARAMS (LIST_BOTH | BIT(KL_OA_ALLOW_BOOKMARKS) | BIT(KL_OA_WATCH))
#define WRITE_PARAMS (BIT(KL_OA_DRY_RUN) | BIT(KL_OA_FIELD_MANAGER) | BIT(KL_OA_FIELD_VALIDATION))
#define PATCH_PARAMS                                                                               \
    (BIT(KL_OA_DRY_RUN) | BIT(KL_OA_FIELD_MANAGER_PATCH) | BIT(KL_OA_FIELD_VALIDATION) |           \
     BIT(KL_OA_FORCE))
#define DELETE_PARAMS                                                                              \
    (BIT(KL_OA_DRY_RUN) | BIT(KL_OA_GRACE) | BIT(KL_OA_IGNORE_READ_ERROR) | BIT(KL_OA_ORPHAN) |    \
     BIT(KL_OA_PROPAGATION))

// What an endpoint does, in general.
enum act { LIST, POST, DELETE_ALL, GET, PUT, PATCH, DELETE, WATCH, WATCH_LIST, NACTS };
static const struct {
    const char *method, *action, *prefix, *doc;
    enum kl_verb verb;
    uint64_t params;
    enum kl_oa_body body;
    unsigned answers;
} acts[NACTS] = {
    [LIST] = {"get", "list", "list", "list or watch objects of kind ", KL_VERB_LIST, LIST_PARAMS,
              KL_OA_BODY_NONE, 0},
    [POST] = {"post", "post", "create", "create ", KL_VERB_CREATE, WRITE_PARAMS, KL_OA_BODY_OBJECT,
              KL_OA_CREATED | KL_OA_ACCEPTED},
    [DELETE_ALL] = {"delete", "deletecollection", "delete", "delete collection of ",
                    KL_VERB_DELETECOLLECTION, LIST_BOTH | DELETE_PARAMS, KL_OA_BODY_DELETE, 0},
    [GET] = {"get", "get", "read", "read ", KL_VERB_GET, 0, KL_OA_BODY_NONE, 0},
    [PUT] = {"put", "put", "replace", "replace ", KL_VERB_UPDATE, WRITE_PARAMS, KL_OA_BODY_OBJECT,
             KL_OA_CREATED},
    [PATCH] = {"patch", "patch", "patch", "partially update ", KL_VERB_PATCH, PATCH_PARAMS,
               KL_OA_BODY_PATCH, KL_OA_CREATED},
    [DELETE] = {"delete", "delete", "delete", "delete ", KL_VERB_DELETE, DELETE_PARAMS,
                KL_OA_BODY_DELETE, KL_OA_ACCEPTED},
    [WATCH] = {"get", "watch", "watch", "watch changes to an object of kind ", KL_VERB_WATCH,
               LIST_PARAMS, KL_OA_BODY_NONE, 0},
    [WATCH_LIST] = {"get", "watchlist", "watch", "watch individual changes to a list of ",
                    KL_VERB_WATCH, LIST_PARAMS, KL_OA_BODY_NONE, 0},
};

// Streams: the options of a connection are parameters.
static const struct {
    const char *sub, *options;
    uint64_t params;
    bool any_method;
} streams[] = {
    {"attach", "PodAttachOptions",
     BIT(KL_OA_CONTAINER_ATTACH) | BIT(KL_OA_STDERR_ATTACH) | BIT(KL_OA_STDIN_ATTACH) |
         BIT(KL_OA_STDOUT_ATTACH) | BIT(KL_OA_TTY_ATTACH),
     false},
    {"exec", "PodExecOptions",
     BIT(KL_OA_COMMAND) | BIT(KL_OA_CONTAINER_EXEC) | BIT(KL_OA_STDERR_EXEC) |
         BIT(KL_OA_STDIN_EXEC) | BIT(KL_OA_STDOUT_EXEC) | BIT(KL_OA_TTY_EXEC),
     false},
    {"portforward", "PodPortForwardOptions", BIT(KL_OA_PORTS), false},
    {"proxy", NULL, 0, true},
};
static const char *const connect_methods[] = {"get",     "post",  "delete", "head",
                                              "options", "patch", "put"};

static bool is_log(const struct kl_subresource *s)
{
    return s && !strcmp(s->name, "log");
}

static int stream_of(const struct kl_subresource *s)
{
    for (size_t i = 0; s && i < KL_COUNT(streams); i++)
        if (!strcmp(streams[i].sub, s->name))
            return (int)i;
    return -1;
}

// ToValidOperationID
static void put_camel(struct kl_buf *b, const char *s, bool upper)
{
    for (size_t i = 0; s[i]; i++) {
        if (isalpha((unsigned char)s[i]) || s[i] == '_' || (i && isdigit((unsigned char)s[i]))) {
            kl_buf_putc(b, upper ? (char)toupper((unsigned char)s[i]) : s[i]);
            upper = false;
        } else {
            upper = true;
        }
    }
}

static void put_group(struct kl_buf *b, const char *group, bool upper)
{
    char name[256];
    size_t n = strlen(group);
    if (n > 7 && !strcmp(group + n - 7, ".k8s.io"))
        n -= 7;
    if (!n || n >= sizeof name) {
        kl_buf_puts(b, upper ? KL_STR("Core") : KL_STR("core"));
        return;
    }
    memcpy(name, group, n);
    name[n] = 0;
    put_camel(b, name, upper);
}

static struct kl_str done_text(struct kl_arena *a, struct kl_buf *b)
{
    struct kl_str s = b->err ? KL_STR("") : kl_arena_dup(a, kl_buf_str(b));
    kl_buf_fini(b);
    return s.p ? s : KL_STR("");
}

static struct kl_str make_tag(struct kl_arena *a, const char *group, const char *version)
{
    struct kl_buf b;
    kl_buf_init(&b, 4096);
    put_group(&b, group, false);
    if (version) {
        kl_buf_putc(&b, '_');
        put_camel(&b, version, false);
    }
    return done_text(a, &b);
}

// GetArticleForNoun
static const char *article(const char *kind)
{
    size_t n = strlen(kind);
    if (n > 1 && kind[n - 1] == 's' && kind[n - 2] != 's')
        return "";
    // An abbreviation is not told from a word: APIService, but a upper-case vowel begins both.
    return strchr("AEIOU", kind[0]) ? "an " : "a ";
}

struct where {
    const struct kl_oa_row *row;
    const struct kl_subresource *sub;
    bool all, with_path, watch; // all namespaces; /{path} behind; below watch/
    struct kl_str tag;
};

static void put_id(struct kl_buf *b, const struct where *w, const char *prefix, const char *method,
                   bool list, bool collection)
{
    const struct kl_resource *r = w->row->res;
    kl_buf_puts(b, kl_str(prefix));
    put_group(b, r->group, true);
    put_camel(b, r->version, true);
    if (collection)
        kl_buf_puts(b, KL_STR("Collection"));
    if (method)
        put_camel(b, method, true);
    if (r->namespaced && !w->all)
        kl_buf_puts(b, KL_STR("Namespaced"));
    kl_buf_puts(b, kl_str(r->kind));
    if (w->sub)
        put_camel(b, w->sub->name, true);
    if (list)
        kl_buf_puts(b, KL_STR("List"));
    if (w->with_path)
        kl_buf_puts(b, KL_STR("WithPath"));
    if (w->all)
        kl_buf_puts(b, KL_STR("ForAllNamespaces"));
}

static void put_doc(struct kl_buf *b, const struct where *w, enum act act)
{
    const char *kind = w->row->res->kind;
    bool watchable =
        act != LIST || (!w->row->custom && w->row->res->verbs & KL_VERB_BIT(KL_VERB_WATCH));
    kl_buf_puts(b, kl_str(watchable ? acts[act].doc : "list objects of kind "));
    switch (act) {
    case POST:
    case DELETE:
        if (w->sub)
            kl_buf_printf(b, "%s of ", w->sub->name);
        kl_buf_printf(b, "%s%s", article(kind), kind);
        break;
    case GET:
    case PUT:
    case PATCH:
        if (w->sub)
            kl_buf_printf(b, "%s of ", w->sub->name);
        kl_buf_printf(b, "the specified %s", kind);
        break;
    case WATCH:
        kl_buf_printf(b,
                      "%s. deprecated: use the 'watch' parameter with a list operation instead, "
                      "filtered to a single item with the 'fieldSelector' parameter.",
                      kind);
        break;
    case WATCH_LIST:
        kl_buf_printf(b, "%s. deprecated: use the 'watch' parameter with a list operation instead.",
                      kind);
        break;
    default:
        kl_buf_puts(b, kl_str(kind));
        break;
    }
}

static uint64_t path_params(const struct where *w, bool item)
{
    bool ns = w->row->res->namespaced && !w->all;
    return (ns ? BIT(KL_OA_NAMESPACE) : 0) | (item ? BIT(KL_OA_NAME) : 0) |
           (w->with_path ? BIT(KL_OA_PATH) : 0);
}

// What apiextensions-apiserver writes otherwise for custom resources.
static void as_custom(struct kl_oa_op *o, const struct kl_resource *r, enum act act)
{
    o->group = r->group; // of the scale subresource too
    o->version = r->version;
    o->kind = r->kind;
    if (act == PATCH)
        o->answers = 0;
    if (act == DELETE_ALL) {
        o->params = (o->params & ~DELETE_PARAMS) | LIST_PARAMS;
        o->body = KL_OA_BODY_NONE;
    }
}

static void add_op(struct kl_arena *a, struct kl_oa_path *p, const struct where *w, enum act act,
                   bool item)
{
    const struct kl_oa_row *row = w->row;
    const struct kl_resource *r = row->res;
    const struct kl_subresource *s = w->sub;
    struct kl_oa_op *o = &p->ops[p->nops++];
    struct kl_str object = s && s->type && s->type->name && !(row->custom && s->type == r->type)
                               ? kl_str(s->type->name)
                               : row->object;
    struct kl_buf id, doc;
    bool lists = act == LIST || act == WATCH || act == WATCH_LIST;
    *o = (struct kl_oa_op){.method = acts[act].method,
                           .action = acts[act].action,
                           .params = acts[act].params | BIT(KL_OA_PRETTY) | path_params(w, item),
                           .media = row->custom ? KL_OA_MEDIA_CUSTOM
                                    : lists     ? KL_OA_MEDIA_WATCHABLE
                                                : KL_OA_MEDIA_OBJECT,
                           .body = acts[act].body,
                           .answers = acts[act].answers,
                           .group = s && s->kind ? s->group : r->group,
                           .version = s && s->kind ? s->version : r->version,
                           .kind = s && s->kind ? s->kind : r->kind,
                           .object = object,
                           .answer = object,
                           .tag = w->tag};
    if (act == LIST)
        o->answer = row->list;
    else if (act == WATCH || act == WATCH_LIST)
        o->answer = KL_STR(KL_OA_META "WatchEvent");
    else if (act == DELETE_ALL)
        o->answer = KL_STR(KL_OA_META "Status");
    else if (act == DELETE && (row->custom || !(kl_strategy_of(kl_resource_storage(r))->flags &
                                                KL_STRAT_RETURN_DELETED)))
        o->answer = KL_STR(KL_OA_META "Status");
    if (is_log(s)) {
        o->media = KL_OA_MEDIA_LOG;
        o->answer = KL_STR("");
        o->params |= BIT(KL_OA_CONTAINER_LOG) | BIT(KL_OA_FOLLOW) | BIT(KL_OA_INSECURE_BACKEND) |
                     BIT(KL_OA_LIMIT_BYTES) | BIT(KL_OA_PREVIOUS) | BIT(KL_OA_SINCE) |
                     BIT(KL_OA_STREAM) | BIT(KL_OA_TAIL) | BIT(KL_OA_TIMESTAMPS);
    }
    if (row->custom)
        as_custom(o, r, act);
    kl_buf_init(&id, 4096);
    kl_buf_init(&doc, 4096);
    put_id(&id, w, acts[act].prefix, NULL, act == WATCH_LIST, act == DELETE_ALL);
    put_doc(&doc, w, act);
    o->id = done_text(a, &id);
    o->doc = done_text(a, &doc);
}

static uint64_t proxy_params(const struct kl_resource *r)
{
    return !strcmp(r->plural, "pods")    ? BIT(KL_OA_PATH_OF_POD)
           : !strcmp(r->plural, "nodes") ? BIT(KL_OA_PATH_OF_NODE)
                                         : BIT(KL_OA_PATH_OF_SERVICE);
}

static void add_stream(struct kl_arena *a, struct kl_oa_path *p, const struct where *w, int stream,
                       const char *method)
{
    const struct kl_resource *r = w->row->res;
    struct kl_oa_op *o = &p->ops[p->nops++];
    struct kl_buf id, doc;
    *o = (struct kl_oa_op){.method = method,
                           .action = "connect",
                           .params = streams[stream].params | path_params(w, true),
                           .media = KL_OA_MEDIA_ANY,
                           .group = r->group,
                           .version = r->version,
                           .kind = w->sub->kind,
                           .answer = KL_STR(""),
                           .tag = w->tag};
    if (streams[stream].any_method)
        o->params |= proxy_params(r);
    kl_buf_init(&id, 4096);
    kl_buf_init(&doc, 4096);
    put_id(&id, w, "connect", method, false, false);
    kl_buf_puts(&doc, KL_STR("connect "));
    for (const char *m = method; *m; m++)
        kl_buf_putc(&doc, (char)toupper((unsigned char)*m));
    kl_buf_printf(&doc, " requests to %s of %s", w->sub->name, r->kind);
    o->id = done_text(a, &id);
    o->doc = done_text(a, &doc);
}

static void add_if(struct kl_arena *a, struct kl_oa_path *p, const struct where *w, enum act act,
                   bool item)
{
    uint32_t verbs = w->sub ? w->sub->verbs : w->row->res->verbs;
    if ((act == WATCH_LIST || act == LIST) && !(w->row->res->verbs & KL_VERB_BIT(KL_VERB_LIST)))
        return;
    if (verbs & KL_VERB_BIT(acts[act].verb))
        add_op(a, p, w, act, item);
}

static struct kl_str path_text(struct kl_arena *a, const struct where *w, bool item)
{
    const struct kl_resource *r = w->row->res;
    return kl_arena_printf(a, "%s%s%s/%s/%s%s%s%s%s%s%s", *r->group ? "/apis" : "/api",
                           *r->group ? "/" : "", r->group, r->version, w->watch ? "watch/" : "",
                           r->namespaced && !w->all ? "namespaces/{namespace}/" : "", r->plural,
                           item ? "/{name}" : "", w->sub ? "/" : "", w->sub ? w->sub->name : "",
                           w->with_path ? "/{path}" : "");
}

static void fill_own(struct kl_arena *a, struct where *w, size_t at, struct kl_oa_path *p)
{
    static const enum act on_collection[] = {DELETE_ALL, LIST, POST};
    static const enum act on_item[] = {DELETE, GET, PATCH, PUT};
    bool ns = w->row->res->namespaced, item = at == 1 || at == 4;
    w->all = at == 2 || at == 5;
    w->watch = at >= 3;
    if (w->all && !ns)
        return;
    switch (at) {
    case 0:
        for (size_t i = 0; i < KL_COUNT(on_collection); i++)
            add_if(a, p, w, on_collection[i], false);
        break;
    case 1:
        for (size_t i = 0; i < KL_COUNT(on_item); i++)
            add_if(a, p, w, on_item[i], true);
        break;
    case 2:
        add_if(a, p, w, LIST, false);
        break;
    default:
        if (!w->row->custom) // these never had the old paths
            add_if(a, p, w, at == 4 ? WATCH : WATCH_LIST, at == 4);
        break;
    }
    p->path = path_text(a, w, item);
}

static void fill_sub(struct kl_arena *a, struct where *w, bool with_path, struct kl_oa_path *p)
{
    static const enum act all[] = {GET, PATCH, POST, PUT};
    int stream = stream_of(w->sub);
    w->with_path = with_path;
    if (with_path && (stream < 0 || !streams[stream].any_method))
        return;
    if (stream >= 0) {
        size_t n = streams[stream].any_method ? KL_COUNT(connect_methods) : 2;
        for (size_t i = 0; i < n; i++)
            add_stream(a, p, w, stream, connect_methods[i]);
    } else {
        for (size_t i = 0; i < KL_COUNT(all); i++)
            add_if(a, p, w, all[i], true);
    }
    p->path = path_text(a, w, true);
}

bool kl_oa_resource_path(struct kl_arena *a, const struct kl_oa_row *row, size_t at,
                         struct kl_oa_path *ret)
{
    enum { OWN = 6 };
    const struct kl_resource *r = row->res;
    struct where w = {.row = row, .tag = make_tag(a, r->group, r->version)};
    ret->nops = 0;
    if (at < OWN) {
        fill_own(a, &w, at, ret);
        return true;
    }
    at -= OWN;
    if (at >= 2 * (size_t)r->nsubresources)
        return false;
    w.sub = &r->subresources[at / 2];
    fill_sub(a, &w, at % 2, ret);
    return true;
}

struct kl_str kl_oa_custom_name(struct kl_arena *a, const char *group, const char *version,
                                const char *kind)
{
    struct kl_buf b;
    size_t end = strlen(group);
    kl_buf_init(&b, 4096);
    for (size_t i = end; i-- > 0;) {
        if (i && group[i - 1] != '.')
            continue;
        kl_buf_append(&b, group + i, end - i);
        kl_buf_putc(&b, '.');
        end = i ? i - 1 : 0;
    }
    kl_buf_printf(&b, "%s.%s", version, kind);
    return done_text(a, &b);
}

struct kl_oa_row kl_oa_row_of(struct kl_arena *a, const struct kl_resource *r)
{
    struct kl_oa_row row = {.res = r};
    if (r->type && r->type->name && kl_type_is_builtin(r->type)) {
        row.object = kl_str(r->type->name);
        row.list = r->list_type && r->list_type->name ? kl_str(r->list_type->name) : row.object;
        return row;
    }
    row.custom = true;
    row.object = kl_oa_custom_name(a, r->group, r->version, r->kind);
    row.list = kl_arena_printf(a, "%.*sList", KL_PRI(row.object));
    return row;
}

// ---- what is no resource

void kl_oa_group_path(struct kl_arena *a, const char *group, const char *version,
                      struct kl_oa_path *ret)
{
    struct kl_oa_op *o = &ret->ops[0];
    struct kl_buf id;
    bool core = group && !*group;
    const char *what = version ? "APIResourceList" : !group ? "APIGroupList" : "APIGroup";
    kl_buf_init(&id, 4096);
    if (!group) {
        kl_buf_puts(&id, KL_STR("getAPIVersions"));
    } else {
        kl_buf_puts(&id, KL_STR("get"));
        put_group(&id, group, true);
        if (version)
            put_camel(&id, version, true);
        kl_buf_puts(&id, version ? KL_STR("APIResources")
                         : core  ? KL_STR("APIVersions")
                                 : KL_STR("APIGroup"));
    }
    if (core && !version)
        what = "APIVersions";
    *o = (struct kl_oa_op){.method = "get",
                           .media = KL_OA_MEDIA_DISCOVERY,
                           .answer = kl_arena_printf(a, KL_OA_META "%s", what),
                           .doc = version          ? KL_STR("get available resources")
                                  : !group || core ? KL_STR("get available API versions")
                                                   : KL_STR("get information of a group"),
                           .tag = group ? make_tag(a, group, version) : KL_STR("apis"),
                           .id = done_text(a, &id)};
    ret->nops = 1;
    ret->path = !group ? KL_STR("/apis/")
                       : kl_arena_printf(a, "%s%s%s%s%s/", core ? "/api" : "/apis/", group,
                                         version ? "/" : "", version ? version : "", "");
}

bool kl_oa_other_path(size_t at, struct kl_oa_path *ret)
{
    static const struct {
        const char *path, *id, *doc, *tag, *answer;
        enum kl_oa_media media;
    } others[] = {
        {"/.well-known/openid-configuration/", "getServiceAccountIssuerOpenIDConfiguration",
         "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
         "WellKnown", "", KL_OA_MEDIA_PLAIN_JSON},
        {"/openid/v1/jwks/", "getServiceAccountIssuerOpenIDKeyset",
         "get service account issuer OpenID JSON Web Key Set (contains public token verification "
         "keys)",
         "openid", "", KL_OA_MEDIA_JWKS},
        {"/version/", "getCodeVersion", "get the version information for this server", "version",
         "io.k8s.apimachinery.pkg.version.Info", KL_OA_MEDIA_JSON},
    };
    if (at >= KL_COUNT(others))
        return false;
    ret->path = kl_str(others[at].path);
    ret->nops = 1;
    ret->ops[0] = (struct kl_oa_op){.method = "get",
                                    .media = others[at].media,
                                    .answer = kl_str(others[at].answer),
                                    .id = kl_str(others[at].id),
                                    .doc = kl_str(others[at].doc),
                                    .tag = kl_str(others[at].tag)};
    return true;
}
