// SPDX-License-Identifier: Apache-2.0
// A document piece by piece: a plan of what it is about, walked once for the paths; what those
// refer to becomes the definitions. Only the place in the walk is kept.
#include "apiserver/discovery.h"
#include "apiserver/openapi/openapi_int.h"
#include "apiserver/served.h"
#include <stdlib.h>

enum { PIECE_BYTES = 32 << 10, SCRATCH_MAX = 64 << 20 };

enum step_kind { STEP_OTHER, STEP_GROUP, STEP_ROW, STEP_CUSTOM };
struct step {
    enum step_kind kind;
    uint32_t index;              // of the other path, the row, the custom row
    const char *group, *version; // STEP_GROUP
};

// Those with REMOTE are steps of version 2 only.
enum phase {
    PHASE_HEAD,
    PHASE_PATHS,
    PHASE_REMOTE_PATHS,
    PHASE_CUSTOM,
    PHASE_SCHEMAS,
    PHASE_REMOTE_SCHEMAS,
    PHASE_PARAMETERS,
    PHASE_REMOTE_PARAMETERS,
    PHASE_TAIL,
    PHASE_END
};

struct kl_oa_doc {
    struct kl_api_call *call;
    struct kl_oa_ask ask;
    const struct kl_openapi_source *src; // NULL: no custom resources
    struct kl_openapi_custom *custom;    // referenced
    size_t ncustom, custom_cap;
    struct step *steps;
    size_t nsteps, steps_cap;
    struct kl_oa_types types;
    struct kl_oa_texts *texts; // from the first piece on
    struct kl_oa_merge *merge; // NULL: nothing is merged
    enum phase phase;
    size_t step, at; // in PHASE_PATHS; `at` the path of a row
    size_t def;      // in PHASE_CUSTOM
    bool first;      // of its members
    bool failed;
    struct kl_arena arena; // of one path or definition
    struct kl_buf text;
};

static bool is_v2(const struct kl_oa_doc *d)
{
    return d->ask.what == KL_OA_V2;
}

// ---- the plan

static void add_step(struct kl_oa_doc *d, struct step s)
{
    if (d->nsteps == d->steps_cap) {
        size_t cap = d->steps_cap ? 2 * d->steps_cap : 64;
        struct step *p = realloc(d->steps, cap * sizeof *p);
        if (!p) {
            d->failed = true;
            return;
        }
        d->steps = p;
        d->steps_cap = cap;
    }
    d->steps[d->nsteps++] = s;
}

static void add_group(struct kl_oa_doc *d, const char *group, const char *version)
{
    add_step(d, (struct step){.kind = STEP_GROUP, .group = group, .version = version});
}

static void plan_rows(struct kl_oa_doc *d, const char *group, const char *version)
{
    add_group(d, group, version);
    for (uint16_t i = 0; i < kl_nresources; i++)
        if (kl_is_served(d->call->req.srv, &kl_resources[i]) &&
            !strcmp(kl_resources[i].group, group) && !strcmp(kl_resources[i].version, version))
            add_step(d, (struct step){.kind = STEP_ROW, .index = i});
}

static void plan_all(struct kl_oa_doc *d)
{
    struct kl_oa_path p;
    for (uint32_t i = 0; kl_oa_other_path(i, &p); i++)
        add_step(d, (struct step){.kind = STEP_OTHER, .index = i});
    add_group(d, NULL, NULL);
    for (uint16_t i = 0; i < kl_ngroups; i++) {
        const struct kl_group *g = &kl_groups[i];
        const char *v = kl_oa_version(d->call->req.srv, g, 0);
        if (v)
            add_group(d, g->name, NULL);
        for (size_t k = 0; v; v = kl_oa_version(d->call->req.srv, g, ++k))
            plan_rows(d, g->name, v);
    }
}

static void plan_group(struct kl_oa_doc *d)
{
    for (uint16_t i = 0; i < kl_ngroups; i++) {
        const struct kl_group *g = &kl_groups[i];
        if (!kl_str_eqz(d->ask.group, g->name))
            continue;
        if (d->ask.what == KL_OA_GROUP)
            add_group(d, g->name, NULL);
        const char *v = NULL;
        for (size_t k = 0; d->ask.what == KL_OA_V3 && (v = kl_oa_version(d->call->req.srv, g, k));
             k++)
            if (kl_str_eqz(d->ask.version, v))
                plan_rows(d, g->name, v);
    }
}

static void take_custom(void *arg, const struct kl_openapi_custom *c)
{
    struct kl_oa_doc *d = arg;
    if (d->ncustom == d->custom_cap) {
        size_t cap = d->custom_cap ? 2 * d->custom_cap : 8;
        struct kl_openapi_custom *p = realloc(d->custom, cap * sizeof *p);
        if (!p) {
            d->failed = true;
            return;
        }
        d->custom = p;
        d->custom_cap = cap;
    }
    d->src->ref(d->src->arg, c->keep);
    add_step(d, (struct step){.kind = STEP_CUSTOM, .index = (uint32_t)d->ncustom});
    d->custom[d->ncustom++] = *c;
}

struct kl_oa_doc *kl_oa_doc_new(struct kl_api_call *c, const struct kl_oa_ask *ask)
{
    struct kl_req *r = &c->req;
    struct kl_oa_doc *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    d->call = c;
    d->ask = *ask;
    d->first = true;
    d->src = r->srv->openapi;
    kl_arena_init(&d->arena, SCRATCH_MAX);
    kl_buf_init(&d->text, SCRATCH_MAX);
    d->failed = kl_oa_types_init(&d->types, c->req.srv) != 0;
    switch (ask->what) {
    case KL_OA_V2:
        plan_all(d);
        break;
    case KL_OA_ROOT:
        add_group(d, ask->group.p, NULL);
        break;
    case KL_OA_OTHERS:
        add_step(d, (struct step){.kind = STEP_OTHER, .index = (uint32_t)ask->other});
        break;
    default:
        plan_group(d);
        break;
    }
    if (d->src && (ask->what == KL_OA_V2 || ask->what == KL_OA_V3)) {
        struct kl_str none = {NULL, 0};
        bool all = ask->what == KL_OA_V2;
        d->src->each(d->src->arg, r->al, all ? none : ask->group, all ? none : ask->version,
                     take_custom, d);
    }
    if (ask->what == KL_OA_V2 && !(d->merge = kl_oa_merge_new(r)))
        d->failed = true;
    if (d->failed) {
        kl_oa_doc_free(d);
        return NULL;
    }
    return d;
}

void kl_oa_doc_free(struct kl_oa_doc *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->ncustom; i++)
        d->src->unref(d->src->arg, d->custom[i].keep);
    free(d->custom);
    free(d->steps);
    kl_oa_types_fini(&d->types);
    kl_oa_texts_put(d->texts);
    kl_oa_merge_free(d->merge);
    kl_arena_fini(&d->arena);
    kl_buf_fini(&d->text);
    free(d);
}

bool kl_oa_doc_is_empty(const struct kl_oa_doc *d)
{
    return !d->nsteps;
}

uint64_t kl_oa_doc_stamp(const struct kl_oa_doc *d)
{
    return d->merge ? kl_oa_merge_stamp(d->merge) : 0;
}

// ---- pieces

// One member of the object at `place`, which stands in d->text.
static int put_member(struct kl_oa_doc *d, struct kl_buf *out, const char *place)
{
    if (d->text.err)
        return d->text.err;
    if (!d->text.n)
        return 0;
    if (d->ask.protobuf) {
        struct kl_buf whole;
        kl_buf_init(&whole, SCRATCH_MAX);
        bool nested = strchr(place, '/') != NULL;
        int head = nested ? (int)(strchr(place, '/') - place) : (int)strlen(place);
        kl_buf_printf(&whole, "{\"%.*s\":{", head, place);
        if (nested)
            kl_buf_printf(&whole, "\"%s\":{", place + head + 1);
        kl_buf_puts(&whole, kl_buf_str(&d->text));
        kl_buf_puts(&whole, nested ? KL_STR("}}}") : KL_STR("}}"));
        int rc = whole.err
                     ? whole.err
                     : kl_oa_proto(out, is_v2(d) ? KL_OA_MSG_V2 : KL_OA_MSG_V3, kl_buf_str(&whole));
        kl_buf_fini(&whole);
        return rc;
    }
    if (!d->first)
        kl_buf_putc(out, ',');
    d->first = false;
    return kl_buf_puts(out, kl_buf_str(&d->text));
}

// Text of JSON documents only; protobuf gets `fields` instead.
static int put_frame(struct kl_oa_doc *d, struct kl_buf *out, const char *text, const char *fields)
{
    d->first = true;
    if (!d->ask.protobuf)
        return kl_buf_puts(out, kl_str(text));
    return fields ? kl_oa_proto(out, is_v2(d) ? KL_OA_MSG_V2 : KL_OA_MSG_V3, kl_str(fields)) : 0;
}

#define INFO "\"info\":{\"title\":\"Kubernetes\",\"version\":\"" KL_K8S_VERSION "\"}"
#define BEARER                                                                                     \
    "\"BearerToken\":{\"type\":\"apiKey\",\"name\":\"authorization\",\"in\":\"header\","           \
    "\"description\":\"Bearer Token authentication\"}"
#define SECURITY "\"security\":[{\"BearerToken\":[]}]"

static int put_head(struct kl_oa_doc *d, struct kl_buf *out)
{
    struct kl_oa_own own = {&d->types, d->texts, d->src, d->custom, d->ncustom, d->call->req.srv};
    int rc = d->merge ? kl_oa_merge_plan(d->merge, &own) : 0;
    return rc         ? rc
           : is_v2(d) ? put_frame(d, out, "{\"swagger\":\"2.0\"," INFO ",\"paths\":{",
                                  "{\"swagger\":\"2.0\"," INFO "}")
                      : put_frame(d, out, "{\"openapi\":\"3.0.0\"," INFO ",\"paths\":{",
                                  "{\"openapi\":\"3.0.0\"," INFO "}");
}

static int put_between(struct kl_oa_doc *d, struct kl_buf *out)
{
    return put_frame(d, out, is_v2(d) ? "},\"definitions\":{" : "},\"components\":{\"schemas\":{",
                     NULL);
}

static int put_parameters(struct kl_oa_doc *d, struct kl_buf *out)
{
    if (!is_v2(d))
        return 0;
    kl_oa_put_shared_params(&d->text);
    int rc = put_frame(d, out, "},\"parameters\":{", NULL);
    return rc ? rc : put_member(d, out, "parameters");
}

static int put_tail(struct kl_oa_doc *d, struct kl_buf *out)
{
    return is_v2(d) ? put_frame(d, out, "},\"securityDefinitions\":{" BEARER "}," SECURITY "}",
                                "{\"securityDefinitions\":{" BEARER "}," SECURITY "}")
                    : put_frame(d, out, "},\"securitySchemes\":{" BEARER "}}," SECURITY "}",
                                "{\"components\":{\"securitySchemes\":{" BEARER "}}," SECURITY "}");
}

// The next path of the plan into d->text (maybe none of it); false at the end.
static bool next_path(struct kl_oa_doc *d)
{
    struct kl_oa_path p = {0};
    if (d->step == d->nsteps)
        return false;
    const struct step *s = &d->steps[d->step];
    switch (s->kind) {
    case STEP_OTHER:
        kl_oa_other_path(s->index, &p);
        d->step++;
        break;
    case STEP_GROUP:
        kl_oa_group_path(&d->arena, s->group, s->version, &p);
        d->step++;
        break;
    default: {
        const struct kl_openapi_custom *c = s->kind == STEP_CUSTOM ? &d->custom[s->index] : NULL;
        struct kl_oa_row row = kl_oa_row_of(&d->arena, c ? c->res : &kl_resources[s->index]);
        if (c && c->list_kind)
            row.list = kl_oa_custom_name(&d->arena, c->res->group, c->res->version, c->list_kind);
        if (!kl_oa_resource_path(&d->arena, &row, d->at++, &p)) {
            d->at = 0;
            d->step++;
        }
        break;
    }
    }
    if (p.nops)
        kl_oa_put_path(&d->text, &d->types, &p, is_v2(d));
    return true;
}

// The name that a definition in d->text begins with; none needs an escape.
static int add_kinds(struct kl_oa_doc *d)
{
    const char *end = d->text.n > 1 ? memchr(d->text.p + 1, '"', d->text.n - 1) : NULL;
    if (!d->merge || !end)
        return 0;
    struct kl_str name = {d->text.p + 1, (size_t)(end - d->text.p - 1)};
    name = kl_arena_dup(&d->arena, name);
    return name.p ? kl_oa_merge_kinds(d->merge, &d->arena, name, &d->text) : KL_ENOMEM;
}

// What other servers add; false at the end.
static bool next_remote(struct kl_oa_doc *d, enum kl_remote_part part, int *rc)
{
    struct kl_str name;
    *rc = d->merge ? kl_oa_merge_next(d->merge, part, &d->arena, &d->text, &name) : 0;
    if (*rc <= 0)
        return *rc < 0;
    *rc =
        part == KL_REMOTE_DEFINITIONS ? kl_oa_merge_kinds(d->merge, &d->arena, name, &d->text) : 0;
    return true;
}

static bool next_custom(struct kl_oa_doc *d, int *rc)
{
    if (d->def == 2 * d->ncustom)
        return false;
    *rc = kl_oa_put_custom(&d->text, &d->types, &d->arena, d->src, &d->custom[d->def / 2],
                           d->def % 2, is_v2(d));
    d->def++;
    *rc = *rc ? *rc : add_kinds(d);
    return true;
}

static bool next_schema(struct kl_oa_doc *d, int *rc)
{
    if (d->types.done == d->types.n)
        return false;
    kl_oa_put_schema(&d->text, &d->types, d->texts, kl_types[d->types.queue[d->types.done++]],
                     is_v2(d), d->ask.group, d->ask.version);
    *rc = add_kinds(d);
    return true;
}

static int step_on(struct kl_oa_doc *d, struct kl_buf *out)
{
    const char *defs = is_v2(d) ? "definitions" : "components/schemas";
    int rc = 0;
    kl_buf_clear(&d->text);
    kl_arena_reset(&d->arena);
    switch (d->phase) {
    case PHASE_HEAD:
        d->phase = PHASE_PATHS;
        return (d->texts = kl_oa_texts_get(d->call->req.al)) ? put_head(d, out) : KL_ENOMEM;
    case PHASE_PATHS:
        if (next_path(d))
            return put_member(d, out, "paths");
        d->phase = PHASE_REMOTE_PATHS;
        return 0;
    case PHASE_REMOTE_PATHS:
        if (next_remote(d, KL_REMOTE_PATHS, &rc))
            return rc ? rc : put_member(d, out, "paths");
        d->phase = PHASE_CUSTOM;
        return put_between(d, out);
    case PHASE_CUSTOM:
        if (next_custom(d, &rc))
            return rc ? rc : put_member(d, out, defs);
        d->phase = PHASE_SCHEMAS;
        return 0;
    case PHASE_SCHEMAS:
        if (next_schema(d, &rc))
            return rc ? rc : put_member(d, out, defs);
        d->phase = PHASE_REMOTE_SCHEMAS;
        return 0;
    case PHASE_REMOTE_SCHEMAS:
        if (next_remote(d, KL_REMOTE_DEFINITIONS, &rc))
            return rc ? rc : put_member(d, out, defs);
        d->phase = PHASE_PARAMETERS;
        return 0;
    case PHASE_PARAMETERS:
        d->phase = PHASE_REMOTE_PARAMETERS;
        return put_parameters(d, out);
    case PHASE_REMOTE_PARAMETERS:
        if (next_remote(d, KL_REMOTE_PARAMETERS, &rc))
            return rc ? rc : put_member(d, out, "parameters");
        d->phase = PHASE_TAIL;
        return 0;
    default:
        d->phase = PHASE_END;
        return put_tail(d, out);
    }
}

int kl_oa_doc_next(struct kl_oa_doc *d, struct kl_buf *out)
{
    size_t until = out->n + PIECE_BYTES;
    while (d->phase != PHASE_END && out->n < until) {
        int rc = step_on(d, out);
        if (rc || out->err)
            return rc ? rc : out->err;
    }
    return d->phase != PHASE_END;
}
