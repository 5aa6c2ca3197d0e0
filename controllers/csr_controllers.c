// SPDX-License-Identifier: Apache-2.0
// Certificate signing requests are approved when kubelets ask for themselves, signed when they are
// approved, and removed when they are old (upstream: pkg/controller/certificates approver, signer,
// cleaner).
#include "controllers/controllers_int.h"
#include "controllers/csr.h"
#include <stdlib.h>

enum {
    TTL_S = 365 * 24 * 3600, // --cluster-signing-duration
    MIN_TTL_S = 600,
    DONE_S = 3600,        // an answered request stays so long
    PENDING_S = 24 * 3600 // one that waits
};

struct csrs {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *requests;
    struct kl_handler handler;
    struct kl_ca *client_ca, *server_ca; // the signer's
};

static const struct kl_resource *csr_res(void)
{
    return kl_res(KL_RES_certificates_v1_certificatesigningrequests);
}

static const struct kl_value *conditions_of(const struct kl_value *csr)
{
    return kl_path(csr, KL_F_status, KL_F_conditions);
}

static const struct kl_value *spec_of(const struct kl_value *csr, kl_sym f)
{
    return kl_path(csr, KL_F_spec, f);
}

static bool has_certificate(const struct kl_value *csr)
{
    return kl_text_at(csr, KL_F_status, KL_F_certificate).n > 0;
}

// In upstream's CSR any condition of the type counts for approval, whatever its status.
static bool has_condition(const struct kl_value *csr, const char *type)
{
    return kl_condition_find(conditions_of(csr), type) != NULL;
}

static int read_request(const struct kl_value *csr, struct kl_csr *ret, struct kl_error *err)
{
    int rc = kl_csr_parse(kl_text(spec_of(csr, KL_F_request)), ret, err);
    if (!rc && (rc = kl_csr_verify(ret, err)))
        kl_csr_fini(ret);
    return rc;
}

static struct kl_object *the_request(struct kl_plan *p)
{
    struct csrs *c = p->arg;
    return kl_plan_hold(p, kl_informer_get_key(c->requests, p->key));
}

// A condition is added with the time of now.
static void add_condition(struct kl_plan *p, struct kl_value *draft, const char *type,
                          const char *reason, struct kl_str message)
{
    struct csrs *c = p->arg;
    struct kl_arena *a = &p->arena;
    struct kl_value v = kl_new_struct(), *status = kl_edit(a, draft, KL_F_status, KL_STRUCT),
                    *list = status ? kl_edit(a, status, KL_F_conditions, KL_ARRAY) : NULL;
    int64_t now_us = kl_timers_wall_us(c->env.timers) / 1000000 * 1000000;
    kl_set_z(a, &v, KL_F_type, type);
    kl_set_z(a, &v, KL_F_status, "True");
    kl_set_z(a, &v, KL_F_reason, reason);
    kl_set_str(a, &v, KL_F_message, message);
    kl_set(a, &v, KL_F_lastUpdateTime, kl_time(now_us));
    kl_set(a, &v, KL_F_lastTransitionTime, kl_time(now_us));
    if (list)
        kl_append(a, list, v);
}

static void update(struct kl_plan *p, const char *sub, const struct kl_value *draft)
{
    struct kl_action *w = kl_plan_write(p, KL_VERB_UPDATE, csr_res(), sub, draft);
    if (w)
        w->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
}

// ---- approval: kubelets for themselves, and whoever may ask for a node's first certificate

struct approval {
    struct kl_object *csr;
    bool self, nodeclient_tried;
    struct kl_action *review;
};

static void ask_review(struct kl_plan *p, const char *sub)
{
    struct approval *x = p->state;
    struct kl_arena *a = &p->arena;
    const struct kl_value *csr = &x->csr->root, *v;
    static const kl_sym copied[] = {KL_F_uid, KL_F_groups, KL_F_extra};
    struct kl_value draft = kl_new_struct(), spec = kl_new_struct(), attrs = kl_new_struct();
    kl_set_z(a, &attrs, KL_F_group, "certificates.k8s.io");
    kl_set_z(a, &attrs, KL_F_resource, "certificatesigningrequests");
    kl_set_z(a, &attrs, KL_F_verb, "create");
    kl_set_z(a, &attrs, KL_F_version, "*");
    kl_set_z(a, &attrs, KL_F_subresource, sub);
    kl_set_str(a, &spec, KL_F_user, kl_text(spec_of(csr, KL_F_username)));
    for (size_t i = 0; i < KL_COUNT(copied); i++)
        if ((v = spec_of(csr, copied[i])))
            kl_set(a, &spec, copied[i], *v);
    kl_set(a, &spec, KL_F_resourceAttributes, attrs);
    kl_set(a, &draft, KL_F_spec, spec);
    x->review = kl_plan_write(p, KL_VERB_CREATE,
                              kl_res(KL_RES_authorization_v1_subjectaccessreviews), NULL, &draft);
}

static void on_review(struct kl_plan *p)
{
    struct approval *x = p->state;
    if (p->err.code || !x->review || !x->review->call.object)
        return;
    bool yes = kl_true_at(&x->review->call.object->root, KL_F_status, KL_F_allowed);
    kl_plan_next_group(p);
    if (yes) {
        struct kl_value draft = kl_object_draft(x->csr);
        add_condition(
            p, &draft, "Approved", "AutoApproved",
            x->self && !x->nodeclient_tried
                ? KL_STR("Auto approving self kubelet client certificate after "
                         "SubjectAccessReview.")
                : KL_STR("Auto approving kubelet client certificate after SubjectAccessReview."));
        update(p, "approval", &draft);
    } else if (x->self && !x->nodeclient_tried) {
        x->nodeclient_tried = true;
        ask_review(p, "nodeclient");
        p->then = on_review;
    }
}

static void approve(struct kl_plan *p)
{
    struct kl_object *csr = the_request(p);
    struct kl_csr req;
    struct kl_error err;
    if (!csr || has_certificate(&csr->root) || has_condition(&csr->root, "Approved") ||
        has_condition(&csr->root, "Denied") ||
        kl_csr_signer_of(kl_text(spec_of(&csr->root, KL_F_signerName))) != KL_CSR_KUBELET_CLIENT ||
        read_request(&csr->root, &req, &err))
        return;
    bool recognised =
        !kl_csr_check(KL_CSR_KUBELET_CLIENT, &req, spec_of(&csr->root, KL_F_usages), &err);
    struct approval *x = recognised ? kl_arena_zalloc(&p->arena, sizeof *x) : NULL;
    if (x) {
        x->csr = csr;
        x->self = kl_str_eq(kl_text(spec_of(&csr->root, KL_F_username)), req.cn);
        x->nodeclient_tried = !x->self;
        p->state = x;
        ask_review(p, x->self ? "selfnodeclient" : "nodeclient");
        p->then = on_review;
    }
    kl_csr_fini(&req);
}

// ---- signing

static int64_t ttl_of(const struct kl_value *csr)
{
    int64_t asked = kl_int_or(spec_of(csr, KL_F_expirationSeconds), TTL_S);
    return asked > TTL_S ? TTL_S : asked < MIN_TTL_S ? MIN_TTL_S : asked;
}

static void sign(struct kl_plan *p)
{
    struct csrs *c = p->arg;
    struct kl_object *csr = the_request(p);
    enum kl_csr_signer s =
        csr ? kl_csr_signer_of(kl_text(spec_of(&csr->root, KL_F_signerName))) : KL_CSR_OTHERS;
    if (s == KL_CSR_OTHERS || has_certificate(&csr->root) ||
        !has_condition(&csr->root, "Approved") || has_condition(&csr->root, "Denied") ||
        kl_condition_is(conditions_of(&csr->root), "Failed", "True"))
        return;
    const struct kl_value *usages = spec_of(&csr->root, KL_F_usages);
    struct kl_value draft = kl_object_draft(csr);
    struct kl_error err = {0};
    struct kl_csr req;
    struct kl_str pem;
    if (read_request(&csr->root, &req, &err))
        return; // the API server would not have stored it
    const struct kl_ca *ca = s == KL_CSR_KUBELET_SERVING ? c->server_ca : c->client_ca;
    if (kl_csr_check(s, &req, usages, &err)) {
        add_condition(p, &draft, "Failed", "SignerValidationFailure",
                      kl_arena_dup(&p->arena, kl_str(err.msg)));
        update(p, "status", &draft);
    } else if (kl_ca_sign(ca, &req, usages, kl_timers_wall_us(c->env.timers) / 1000000,
                          ttl_of(&csr->root), &p->arena, &pem, &err)) {
        kl_error_set(&p->err, err.code, "signing csr %.*s: %.900s", KL_PRI(p->key), err.msg);
    } else {
        struct kl_value *status = kl_edit(&p->arena, &draft, KL_F_status, KL_STRUCT),
                        cert = kl_string(pem);
        cert.kind = KL_BYTES;
        if (status)
            kl_set(&p->arena, status, KL_F_certificate, cert);
        update(p, "status", &draft);
    }
    kl_csr_fini(&req);
}

// ---- cleaning

// When the request has had its time, in seconds since 1970.
static int64_t due_of(const struct kl_value *csr)
{
    int64_t due = INT64_MAX, at;
    const struct kl_value *list = conditions_of(csr);
    struct kl_str cert = kl_text_at(csr, KL_F_status, KL_F_certificate);
    if (!kl_len(list))
        return kl_int_at(csr, 0, KL_F_metadata, KL_F_creationTimestamp) / 1000000 + PENDING_S;
    for (KL_EACH(v, list)) {
        struct kl_str type = kl_text(kl_get(v, KL_F_type));
        int64_t told = kl_int_or(kl_get(v, KL_F_lastUpdateTime), 0) / 1000000;
        bool approved = kl_str_eqz(type, "Approved");
        if (approved && cert.n && (at = kl_certificate_expires_s(cert)) && at < due)
            due = at;
        if (!told || (!approved && !kl_str_eqz(type, "Denied") && !kl_str_eqz(type, "Failed")))
            continue;
        at = told + (approved && !cert.n ? PENDING_S : DONE_S);
        if (at < due)
            due = at;
    }
    return due;
}

static void clean(struct kl_plan *p)
{
    struct csrs *c = p->arg;
    struct kl_object *csr = the_request(p);
    int64_t now_s = kl_timers_wall_us(c->env.timers) / 1000000, due = csr ? due_of(&csr->root) : 0;
    if (!csr || due == INT64_MAX)
        return;
    if (now_s <= due) {
        kl_plan_requeue(p, (due - now_s + 1) * 1000);
        return;
    }
    struct kl_action *d =
        kl_plan_call(p, KL_VERB_DELETE, csr_res(), NULL, KL_STR(""), kl_meta_name(&csr->root));
    if (d) {
        d->call.precondition_uid = kl_meta_uid(&csr->root);
        d->ok_errors = KL_OK_ERROR(KL_ENOTFOUND) | KL_OK_ERROR(KL_ECONFLICT);
    }
}

// ---- what the three have in common

static void on_request(struct kl_handler *h, struct kl_object *csr)
{
    struct csrs *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &csr->root);
}

static void on_update(struct kl_handler *h, struct kl_object *old, struct kl_object *csr)
{
    on_request(h, csr);
}

static void stop(void *self)
{
    struct csrs *c = self;
    if (c->requests)
        kl_informer_remove_handler(c->requests, &c->handler);
    kl_reconciler_free(c->reconciler);
    kl_ca_free(c->client_ca);
    kl_ca_free(c->server_ca);
    free(c);
}

static int start(const struct kl_controller_env *env, const char *name,
                 void (*decide)(struct kl_plan *p), struct kl_ca *client_ca,
                 struct kl_ca *server_ca, void **ret, struct kl_error *err)
{
    struct csrs *c = calloc(1, sizeof *c);
    if (!c) {
        kl_ca_free(client_ca);
        kl_ca_free(server_ca);
        return kl_error_set(err, KL_ENOMEM, "%s: out of memory", name);
    }
    c->env = *env;
    c->client_ca = client_ca;
    c->server_ca = server_ca;
    c->requests = kl_informers_get(env->informers, csr_res());
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){
        .name = name,
        .client = env->client,
        .timers = env->timers,
        .workers = 1,
        .decide = decide,
        .arg = c,
    });
    if (!c->requests || !c->reconciler || kl_reconciler_needs(c->reconciler, c->requests) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "%s: out of memory", name);
    }
    c->handler = (struct kl_handler){.add = on_request, .update = on_update, .arg = c};
    kl_informer_add_handler(c->requests, &c->handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static int start_approver(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    return start(env, "csr-approving", approve, NULL, NULL, ret, err);
}

static int start_cleaner(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    return start(env, "csr-cleaner", clean, NULL, NULL, ret, err);
}

static int start_signer(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    const struct kl_signing *s = env->signing;
    struct kl_ca *client = NULL, *server = NULL;
    *ret = NULL;
    if (!s || !s->client_ca_key.n || !s->server_ca_key.n) // without keys nothing is signed
        return 0;
    int rc = kl_ca_new(s->client_ca, s->client_ca_key, &client, err);
    if (!rc && (rc = kl_ca_new(s->server_ca, s->server_ca_key, &server, err)))
        kl_ca_free(client);
    return rc ? rc : start(env, "csr-signing", sign, client, server, ret, err);
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct csrs *)self)->reconciler);
}

#define USER "system:serviceaccount:kube-system:certificate-controller"

const struct kl_controller kl_csr_approving_controller = {
    .name = "certificatesigningrequest-approving-controller",
    .user = USER,
    .component = "certificate-controller",
    .start = start_approver,
    .stop = stop,
    .idle = idle,
};

const struct kl_controller kl_csr_signing_controller = {
    .name = "certificatesigningrequest-signing-controller",
    .user = USER,
    .component = "certificate-controller",
    .start = start_signer,
    .stop = stop,
    .idle = idle,
};

const struct kl_controller kl_csr_cleaner_controller = {
    .name = "certificatesigningrequest-cleaner-controller",
    .user = USER,
    .component = "certificate-controller",
    .start = start_cleaner,
    .stop = stop,
    .idle = idle,
};
