// SPDX-License-Identifier: Apache-2.0
// Calls of admission webhooks: mutating ones one after the other, validating ones side by side
// (upstream's webhook/mutating and webhook/validating dispatchers).
#include "apiserver/admission/config.h"
#include "apiserver/admission/hooks_int.h"
#include "apiserver/admission/metrics.h"
#include "apiserver/crd/convert.h"
#include "apiserver/trace/trace.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "object/patch.h"

enum { REQUEST_TIMEOUT_MS = 34000 }; // what a write may take at most: requestTimeoutUpperBound

// One call of one webhook.
struct kl_hook_call {
    struct kl_hook_run *run;
    struct kl_hook *h;
    struct kl_shown *form;
    const struct kl_resource *res;
    size_t index;
    int64_t began_ns;
    bool mutating, heard, counted; // there was an answer; what came of it is counted
    char uid[37];
    struct kl_span *span;
    struct kl_str patch; // of a mutating one; empty: none
    bool over;
    struct kl_fail fail; // http 0: allowed
};

// ---- whether

static int conditions(struct kl_hook_run *run, struct kl_unit *u, struct kl_hook *h,
                      const struct kl_resource *res, struct kl_shown *f)
{
    struct kl_eval v;
    struct kl_str why;
    struct kl_admit *ad = run->ad;
    if (!h->nconditions)
        return 1;
    int rc = kl_eval_init(&v, &u->exprs, run, f, res, NULL, NULL, KL_CEL_MATCH_BUDGET);
    if (rc)
        return rc;
    rc = kl_conditions_run(&v, h->name, h->conditions, h->nconditions, !h->ignore, &why);
    int unsettled = kl_eval_settled(run);
    if (unsettled)
        return unsettled;
    if (rc < 0)
        kl_fail_forbidden(ad->r, kl_str(ad->res->group), kl_str(ad->res->plural), ad->name, why);
    return rc;
}

int kl_hook_wanted(struct kl_hook_run *run, struct kl_unit *u, struct kl_hook *h,
                   const struct kl_resource **ret_res, struct kl_shown **ret_form)
{
    struct kl_error err = {0};
    struct kl_admit *ad = run->ad;
    int rc = kl_match_run(&h->match, run, ret_res, &err);
    if (rc < 0 && !ad->r->fail.http)
        kl_fail_internal(ad->r, "%s", err.msg);
    if (rc <= 0)
        return rc;
    if (!(*ret_form = kl_shown_of(run, *ret_res)))
        return KL_EINTERNAL;
    return conditions(run, u, h, *ret_res, *ret_form);
}

// ---- notes for the audit log

static void note(struct kl_hook_run *run, const char *what, const struct kl_hook_call *c,
                 struct kl_str value, bool at_request_level)
{
    struct kl_req *r = run->ad->r;
    kl_req_note(
        r,
        kl_arena_printf(r->arena, "%s/round_%d_index_%zu", what, run->reinvoke ? 1 : 0, c->index),
        value, at_request_level);
}

static void note_mutation(struct kl_hook_run *run, const struct kl_hook_call *c, bool mutated)
{
    note(run, "mutation.webhook.admission.k8s.io", c,
         kl_arena_printf(run->arena,
                         "{\"configuration\":\"%.*s\",\"webhook\":\"%.*s\",\"mutated\":%s}",
                         KL_PRI(c->h->config), KL_PRI(c->h->name), mutated ? "true" : "false"),
         false);
}

static void note_patch(struct kl_hook_run *run, const struct kl_hook_call *c, struct kl_str patch)
{
    note(run, "patch.webhook.admission.k8s.io", c,
         kl_arena_printf(run->arena,
                         "{\"configuration\":\"%.*s\",\"webhook\":\"%.*s\",\"patch\":%.*s,"
                         "\"patchType\":\"JSONPatch\"}",
                         KL_PRI(c->h->config), KL_PRI(c->h->name), KL_PRI(patch)),
         true);
}

// ---- counting: once for each call

static void count(struct kl_hook_call *c, enum kl_hook_end end, bool rejected, int code)
{
    if (!c->counted)
        kl_admit_count_hook(c->run->ad, c->h->name, !c->mutating, end, rejected, code,
                            kl_mono_ns() - c->began_ns);
    c->counted = true;
}

// ---- one call

// It could not be asked, or its answer was none: by its failurePolicy. 0: as if it were not there.
static int call_failed(struct kl_hook_call *c, bool mutating, int code, const struct kl_error *err)
{
    struct kl_hook_run *run = c->run;
    struct kl_req *r = run->ad->r;
    count(c, c->h->ignore ? KL_HOOK_FAILED_OPEN : KL_HOOK_FAILED, !c->h->ignore, code);
    kl_log(KL_LOG_WARN, "admission", "webhook=%.*s failure_policy=%s msg=\"%s\"",
           KL_PRI(c->h->name), c->h->ignore ? "Ignore" : "Fail", err->msg);
    if (c->h->ignore) {
        note(run,
             mutating ? "failed-open.mutation.webhook.admission.k8s.io"
                      : "failed-open.validating.webhook.admission.k8s.io",
             c, kl_arena_dup(run->arena, c->h->name), false);
        kl_span_end(c->span);
        return 0;
    }
    kl_fail_internal(r, "failed calling webhook \"%.*s\": %s", KL_PRI(c->h->name), err->msg);
    return KL_EINTERNAL;
}

// As whom the configuration file says that webhooks are called.
static const struct kl_kubeconfig *users_of(const struct kl_hook_run *run, bool mutating)
{
    const struct kl_admit_config *c = run->ad->r->srv->admit_config;
    return !c ? NULL : mutating ? c->mutating : c->validating;
}

static void trace_call(struct kl_hook_call *c)
{
    struct kl_req *r = c->run->ad->r;
    static const char *const operations[] = {[KL_ADMIT_CREATE] = "CREATE",
                                             [KL_ADMIT_UPDATE] = "UPDATE",
                                             [KL_ADMIT_DELETE] = "DELETE",
                                             [KL_ADMIT_CONNECT] = "CONNECT"};
    c->span =
        kl_span_beside(r, NULL, c->mutating ? "Call mutating webhook" : "Call validating webhook");
    kl_span_text(c->span, "webhook", c->h->name);
    kl_span_text(c->span, "resource",
                 kl_arena_printf(r->arena, "%s, Resource=%s", c->res->api_version, c->res->plural));
    kl_span_text(c->span, "subresource", r->info.sub);
    kl_span_text(c->span, "operation", kl_str(operations[c->run->ad->op]));
    kl_span_text(c->span, "UID", kl_str(c->uid));
}

// 1: on its way. Else what came of it at once.
static int call(struct kl_hook_call *c, struct kl_unit *u, bool mutating, kl_webhook_cb cb,
                struct kl_webhook_call **ret_flying)
{
    struct kl_hook_run *run = c->run;
    struct kl_hook *h = c->h;
    struct kl_error err = {0};
    int rc = 0;
    c->began_ns = kl_mono_ns();
    c->mutating = mutating;
    if (run->ad->dry_run && !h->dry_run) {
        count(c, KL_HOOK_INTERNAL, true, 0);
        kl_fail_bad(run->ad->r, "admission webhook \"%.*s\" does not support dry run",
                    KL_PRI(h->name));
        return KL_EBADREQUEST;
    }
    if (!h->review)
        rc = kl_error_set(&err, KL_EINVALID,
                          "could not create admission objects: webhook does not accept known "
                          "AdmissionReview versions (v1, v1beta1)");
    else if (!h->client &&
             (rc = kl_webhook_new_as(run->ad->r->al, kl_get(h->spec, KL_F_clientConfig),
                                     users_of(run, mutating), &h->client, &err)))
        kl_error_wrap(&err, "could not get REST client");
    if (rc)
        return call_failed(c, mutating, h->review ? 500 : 400, &err);
    kl_uuid(c->uid);
    struct kl_bytes *body = kl_review_write(run, h, c->form, c->res, c->uid);
    if (!body)
        return KL_ENOMEM;
    uint32_t timeout = h->timeout_ms < REQUEST_TIMEOUT_MS ? h->timeout_ms : REQUEST_TIMEOUT_MS;
    if (run->ad->r->trace)
        trace_call(c);
    rc = kl_webhook_post_for(run->ad->r, c->span, h->client, body, timeout, true, cb, c, ret_flying,
                             &err);
    kl_bytes_unref(body);
    if (!rc)
        return 1;
    kl_error_wrap(&err, "failed to call webhook");
    return call_failed(c, mutating, 503, &err);
}

static int read_answer(struct kl_hook_call *c, bool mutating, int status, struct kl_str body,
                       const struct kl_error *why, struct kl_review *v)
{
    struct kl_hook_run *run = c->run;
    struct kl_error err = {0};
    int rc;
    if (status >= 0)
        kl_span_event(c->span, "Request completed");
    kl_span_end(c->span);
    if (status < 0) {
        err = *why;
        rc = kl_error_wrap(&err, "failed to call webhook");
    } else {
        rc = kl_review_read(run->arena, c->h, mutating, c->uid, status, body, v, &err);
    }
    if (rc) {
        // Its own status counts, else that it is not there.
        rc = call_failed(c, mutating, status >= 400 ? status : 503, &err);
        v->allowed = !rc;
        return rc;
    }
    c->heard = true;
    kl_review_notes(run, c->h, v);
    if (v->allowed)
        return 0;
    kl_review_deny(run->ad->r, c->h->name, v->result);
    count(c, KL_HOOK_ANSWERED, true, run->ad->r->fail.http);
    return KL_EFORBIDDEN;
}

// ---- mutating

static int apply_patch(struct kl_hook_call *c, struct kl_str text, bool *ret_changed)
{
    struct kl_hook_run *run = c->run;
    struct kl_req *r = run->ad->r;
    struct kl_error err = {0};
    struct kl_value patch, patched;
    int rc = kl_json_parse(run->arena, text, NULL, &patch, &err);
    if (rc || patch.kind != KL_ARRAY) {
        if (!rc)
            kl_error_set(&err, KL_EINVALID,
                         "json: cannot unmarshal object into Go value of type jsonpatch.Patch");
        kl_error_wrap(&err, "received undecodable patch in webhook response");
        return call_failed(c, true, 503, &err);
    }
    if (!patch.n)
        return 0;
    if (!run->ad->draft) {
        kl_fail_internal(r,
                         "admission webhook \"%.*s\" attempted to modify the object, which is not "
                         "supported for this operation",
                         KL_PRI(c->h->name));
        return KL_EINTERNAL;
    }
    if ((rc = kl_shown_trees(run, c->form)))
        return rc;
    rc = kl_patch_json(run->arena, &c->form->object_tree, &patch, &patched, &err);
    if (!rc)
        rc = kl_shown_take(run, c->form, &patched, ret_changed, &err);
    if (rc) {
        kl_fail_internal(r, "%s", err.msg);
        return KL_EINTERNAL;
    }
    note_patch(run, c, text);
    return 0;
}

static void require_again(struct kl_hook_run *run)
{
    run->again = true;
    for (size_t i = 0; i < run->nhook_state; i++)
        if (run->hook_state[i] & KL_INVOKED)
            run->hook_state[i] = KL_REQUIRED;
}

static void patch_prepared(void *arg);

static int mutated(struct kl_hook_call *c, int rc)
{
    struct kl_hook_run *run = c->run;
    bool changed = false;
    if (!rc && c->patch.n)
        rc = apply_patch(c, c->patch, &changed);
    if (rc && kl_req_convert_again(run->ad->r, patch_prepared, c)) { // to the request's version
        run->ad->r->fail = (struct kl_fail){0};
        run->ad->r->result = KL_RESULT_NONE;
        return KL_ADMIT_WAIT;
    }
    if (c->heard)
        count(c, rc ? KL_HOOK_INTERNAL : KL_HOOK_ANSWERED, rc, rc ? 0 : 200);
    note_mutation(run, c, changed);
    if (changed)
        require_again(run);
    if (c->h->if_needed)
        run->hook_state[c->index] |= KL_INVOKED;
    return rc;
}

static void patch_prepared(void *arg)
{
    struct kl_hook_call *c = arg;
    int rc = mutated(c, 0);
    kl_hooks_resume(c->run, rc ? rc : kl_webhooks_mutate(c->run));
}

static void on_mutated(void *arg, int status, struct kl_str body, const struct kl_error *err)
{
    struct kl_hook_call *c = arg;
    struct kl_hook_run *run = c->run;
    struct kl_review v = {0};
    run->flying = NULL;
    int rc = read_answer(c, true, status, body, err, &v);
    c->patch = v.patch;
    rc = mutated(c, rc);
    kl_hooks_resume(run, rc ? rc : kl_webhooks_mutate(run));
}

// Steps to the next webhook; NULL: that was the last.
static struct kl_hook *next_hook(struct kl_hook_run *run, enum kl_unit_kind kind,
                                 struct kl_unit **ret_unit, size_t *ret_index)
{
    struct kl_hookset *s = run->set;
    while (run->unit < s->n[kind]) {
        struct kl_unit *u = s->units[kind][run->unit];
        if (run->hook < u->nhooks) {
            *ret_unit = u;
            *ret_index = run->index++;
            return &u->hooks[run->hook++];
        }
        run->unit++;
        run->hook = 0;
    }
    return NULL;
}

static void mutate_prepared(void *arg)
{
    struct kl_hook_run *run = arg;
    kl_hooks_resume(run, kl_webhooks_mutate(run));
}

// From the webhook that is next on: 0, negative, or KL_ADMIT_WAIT.
int kl_webhooks_mutate(struct kl_hook_run *run)
{
    struct kl_unit *u = NULL;
    struct kl_hook *h;
    size_t index = 0;
    while ((h = next_hook(run, KL_UNIT_MUTATING_WEBHOOKS, &u, &index))) {
        const struct kl_resource *res;
        struct kl_shown *f;
        if (run->reinvoke && !(run->hook_state[index] & KL_REQUIRED))
            continue;
        int rc = kl_hook_wanted(run, u, h, &res, &f);
        if (rc < 0 && kl_req_convert_again(run->ad->r, mutate_prepared, run)) {
            run->ad->r->fail = (struct kl_fail){0};
            run->ad->r->result = KL_RESULT_NONE;
            run->hook--; // the same again
            run->index--;
            return KL_ADMIT_WAIT;
        }
        if (rc < 0)
            return rc;
        if (!rc)
            continue;
        struct kl_hook_call *c = KL_ARENA_NEW(run->arena, struct kl_hook_call);
        if (!c)
            return kl_fail_oom(run->ad->r), KL_ENOMEM;
        *c = (struct kl_hook_call){.run = run, .h = h, .form = f, .res = res, .index = index};
        rc = call(c, u, true, on_mutated, &run->flying);
        if (rc == 1)
            return KL_ADMIT_WAIT;
        if (rc)
            return rc;
    }
    return 0;
}

// ---- validating

// All have answered: the first refusal, by the order of the webhooks, is the request's.
static int verdict(struct kl_hook_run *run)
{
    struct kl_req *r = run->ad->r;
    r->fail = (struct kl_fail){0};
    r->result = KL_RESULT_NONE;
    for (size_t i = 0; i < run->ncalls; i++)
        if (run->calls[i].fail.http) {
            r->fail = run->calls[i].fail;
            r->result = KL_RESULT_FAIL;
            return KL_EFORBIDDEN;
        }
    return 0;
}

static void keep_failure(struct kl_hook_call *c)
{
    struct kl_req *r = c->run->ad->r;
    if (!r->fail.http)
        kl_fail_oom(r);
    c->fail = r->fail;
    r->fail = (struct kl_fail){0};
}

static void on_validated(void *arg, int status, struct kl_str body, const struct kl_error *err)
{
    struct kl_hook_call *c = arg;
    struct kl_hook_run *run = c->run;
    struct kl_review v = {0};
    if (read_answer(c, false, status, body, err, &v))
        keep_failure(c);
    else if (c->heard)
        count(c, KL_HOOK_ANSWERED, false, 200);
    if (--run->pending)
        return;
    kl_hooks_resume(run, verdict(run));
}

// Those that are to be asked; all are found before the first is.
static int gather(struct kl_hook_run *run)
{
    struct kl_unit *u = NULL;
    struct kl_hook *h;
    size_t total = 0, index = 0;
    for (size_t i = 0; i < run->set->n[KL_UNIT_VALIDATING_WEBHOOKS]; i++)
        total += run->set->units[KL_UNIT_VALIDATING_WEBHOOKS][i]->nhooks;
    if (!(run->calls = kl_arena_zalloc(run->arena, (total + 1) * sizeof *run->calls)))
        return kl_fail_oom(run->ad->r), KL_ENOMEM;
    while ((h = next_hook(run, KL_UNIT_VALIDATING_WEBHOOKS, &u, &index))) {
        struct kl_hook_call *c = &run->calls[run->ncalls];
        const struct kl_resource *res;
        struct kl_shown *f;
        int rc = kl_hook_wanted(run, u, h, &res, &f);
        if (rc < 0)
            return rc;
        if (rc)
            *c = (struct kl_hook_call){
                .run = run, .h = h, .form = f, .res = res, .index = run->ncalls++};
    }
    return 0;
}

int kl_webhooks_validate(struct kl_hook_run *run)
{
    int rc = run->set->n[KL_UNIT_VALIDATING_WEBHOOKS] ? gather(run) : 0;
    if (rc || !run->ncalls)
        return rc;
    for (size_t i = 0; i < run->ncalls; i++) {
        struct kl_webhook_call *ignored;
        rc = call(&run->calls[i], NULL, false, on_validated, &ignored);
        if (rc == 1)
            run->pending++;
        else if (rc)
            keep_failure(&run->calls[i]);
    }
    return run->pending ? KL_ADMIT_WAIT : verdict(run);
}
