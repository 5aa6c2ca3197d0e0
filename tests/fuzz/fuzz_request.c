// SPDX-License-Identifier: Apache-2.0
// A request's parts as a client sends them, through everything that reads them without a socket:
// "METHOD path?query\nAccept\nContent-Type\nbody".
#include "fuzz.h"
#include "apiserver/encode.h"
#include "apiserver/gather.h"
#include "apiserver/info.h"
#include "apiserver/server_int.h"
#include "apiserver/strategy.h"

static struct kl_apiserver srv; // its gates are looked at, no more

static struct kl_str line(struct kl_str *rest)
{
    struct kl_str out = {"", 0};
    kl_str_split(rest, '\n', &out);
    if (!rest->p)
        *rest = KL_STR("");
    return out;
}

static void check_info(const struct kl_req_info *i)
{
    FUZZ_CHECK(i->verb.p && i->path.p, "no verb");
    if (!i->is_resource)
        return;
    FUZZ_CHECK(i->version.n || i->plural.p, "a resource without a name");
    // No part may hold a separator: they become parts of keys.
    const struct kl_str parts[] = {i->group, i->version, i->plural, i->sub, i->ns, i->name};
    for (size_t k = 0; k < KL_COUNT(parts); k++)
        FUZZ_CHECK(kl_str_chr(parts[k], '/') < 0, "a slash in part %zu: %.*s", k, KL_PRI(parts[k]));
    FUZZ_CHECK(!i->subres || (i->res && i->sub.n), "a subresource of nothing");
}

// What came back as a failure can be told as a Status.
static void check_fail(struct kl_req *r, int rc)
{
    if (!rc)
        return;
    FUZZ_CHECK(r->fail.http >= 400 && r->fail.http < 600, "%d without a status", rc);
    struct kl_spec s = {.media = KL_MEDIA_JSON};
    r->result = KL_RESULT_FAIL;
    r->http = r->fail.http;
    struct kl_bytes *b = kl_encode_result(r, &s);
    FUZZ_CHECK(b && kl_json_compact(NULL, kl_str_trim(kl_bytes_str(b))), "no JSON: %.*s",
               b ? (int)b->n : 0, b ? b->p : "");
    kl_bytes_unref(b);
    r->fail = (struct kl_fail){0};
    r->result = KL_RESULT_NONE;
}

static void check_body(struct kl_req *r)
{
    const struct kl_type *t = r->info.res ? r->info.res->type : NULL;
    struct kl_error err = {0};
    struct kl_value v, w;
    if (!t)
        return;
    if (r->info.op == KL_VERB_DELETE || r->info.op == KL_VERB_DELETECOLLECTION) {
        check_fail(r, kl_req_delete_options_body(r));
        return;
    }
    if (r->info.op == KL_VERB_PATCH) {
        struct kl_value was = kl_new_map(), patched;
        for (enum kl_patch_type p = KL_PATCH_JSON; p <= KL_PATCH_STRATEGIC; p++) {
            r->opts.patch_type = p;
            int rc = kl_patch_parse(r, &v);
            if (!rc)
                rc = kl_patch_run(r, t, &was, &v, &patched);
            if (!rc)
                rc = kl_patch_retype(r, t, &v, &patched, &w);
            check_fail(r, rc);
        }
        return;
    }
    if (kl_body_decode(r, t, r->info.res, &v, &err)) {
        kl_fail_err(r, &err);
        check_fail(r, err.code);
        return;
    }
    if (kl_draft_to_storage(r, &v)) {
        check_fail(r, KL_EBADREQUEST);
        return;
    }
    struct kl_field_errors e = {.arena = r->arena};
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    struct kl_object *o = kl_object_freeze(st->type, &v);
    FUZZ_CHECK(o, "out of memory");
    kl_rules_check(r, kl_strategy_of(st), &o->root, NULL, &e);
    if (e.n) {
        kl_fail_invalid(r, kl_str(r->info.res->kind), r->info.group, r->info.name, &e);
        check_fail(r, KL_EINVALID);
    }
    kl_object_unref(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_str rest = {(const char *)data, size}, method, path;
    struct kl_str target = line(&rest), accept = line(&rest), type = line(&rest);
    struct kl_arena a;
    struct kl_spec s;
    kl_arena_init(&a, KL_MAX_ARENA_BYTES);
    kl_gate_set_default(&srv.gates);
    struct kl_req r = {.srv = &srv, .arena = &a, .opts.field_validation = KL_VALIDATE_WARN};
    kl_str_split(&target, ' ', &method);
    target = target.p ? target : KL_STR("/");
    kl_str_split(&target, '?', &path);
    kl_req_info_parse(&a, method, path, target.p ? target : KL_STR(""), &r.info);
    check_info(&r.info);
    check_fail(&r, kl_req_opts_parse(&r, target.p ? target : KL_STR("")));
    check_fail(&r, kl_list_options_check(&r, r.info.op == KL_VERB_WATCH));
    kl_spec_parse(accept, r.info.is_resource, &s);
    FUZZ_CHECK(kl_spec_content_type(&s, false), "no type");
    kl_rev rev = 0;
    struct kl_str start = KL_STR("");
    if (r.opts.cont.n) {
        int rc = kl_continue_parse(&r, r.opts.cont, &rev, &start);
        check_fail(&r, rc);
        struct kl_str left = start, part;
        FUZZ_CHECK(rc || (rev && start.n), "a token of nothing");
        while (!rc && kl_str_split(&left, '/', &part))
            FUZZ_CHECK(part.n && !kl_str_eqz(part, ".") && !kl_str_eqz(part, ".."),
                       "a start that leaves its place: %.*s", KL_PRI(start));
    }
    r.body = rest;
    r.body_media = kl_media_of_content_type(type);
    if (r.body_media != KL_MEDIA_NONE)
        check_body(&r);
    kl_req_fini(&r);
    kl_arena_fini(&a);
    return 0;
}
