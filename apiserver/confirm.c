// SPDX-License-Identifier: Apache-2.0
// Where several servers share a datastore, what this one has in memory may be older than what
// another one has acknowledged. Who asks for the newest state therefore waits until a head that was
// asked for after the request came is here; and a write that would be refused on what is in memory
// is tried once more on what is certain (upstream's GuaranteedUpdate does the same with its cache).
#include "apiserver/server_int.h"

struct confirm {
    struct kl_txn txn; // without operations: answered when the head is confirmed
    struct kl_req *r;
    void (*then)(void *arg, int code);
    void *arg;
};

static void on_confirmed(struct kl_txn *txn)
{
    struct confirm *c = KL_CONTAINER_OF(txn, struct confirm, txn);
    int code = txn->code;
    if (code)
        kl_fail_err(c->r, &txn->err);
    kl_txn_fini(txn);
    c->then(c->arg, code);
}

bool kl_req_confirm(struct kl_req *r, void (*then)(void *arg, int code), void *arg)
{
    struct kl_error err = {0};
    if (r->confirmed || !kl_store_is_shared(r->srv->o.store))
        return false;
    r->confirmed = true;
    struct confirm *c = KL_ARENA_NEW(r->arena, struct confirm);
    if (!c) {
        kl_fail_oom(r);
        then(arg, KL_ENOMEM);
        return true;
    }
    *c = (struct confirm){.txn.cb = on_confirmed, .r = r, .then = then, .arg = arg};
    if (kl_store_submit(r->srv->o.store, &c->txn, &err)) {
        kl_fail_err(r, &err);
        then(arg, err.code);
    }
    return true;
}

static void forget_run(struct kl_req *r)
{
    for (size_t i = 0; i < r->nkept; i++)
        kl_bytes_unref(r->kept[i]);
    kl_kv_unref(r->kv);
    kl_object_unref(r->frozen);
    r->nkept = 0;
    r->nwarnings = r->asked_nwarnings;
    r->kv = NULL;
    r->frozen = NULL;
    r->work = NULL;
    r->admitted = NULL;
    r->done = r->asked_done; // what a stage of the first run put before it is gone with its state
    r->write = NULL;
    r->patch_strict = NULL;
    r->fail = (struct kl_fail){0};
    r->result = KL_RESULT_NONE;
}

static void run_again(void *arg, int code)
{
    struct kl_req *r = arg;
    if (code)
        kl_req_fail(r);
    else
        kl_pipeline_dispatch(r);
}

void kl_req_rerun(struct kl_req *r)
{
    forget_run(r);
    kl_pipeline_dispatch(r);
}

bool kl_req_retry(struct kl_req *r)
{
    static const uint32_t writes = KL_VERB_BIT(KL_VERB_CREATE) | KL_VERB_BIT(KL_VERB_UPDATE) |
                                   KL_VERB_BIT(KL_VERB_PATCH) | KL_VERB_BIT(KL_VERB_DELETE);
    int http = r->fail.http;
    bool by_state = http == 403 || http == 404 || http == 409 || http == 422;
    // Before it was dispatched a refusal is authorisation's, which stands.
    if (!r->dispatched || r->confirmed || r->canceled || !by_state ||
        !(KL_VERB_BIT(r->info.op) & writes) || !kl_store_is_shared(r->srv->o.store))
        return false;
    forget_run(r);
    return kl_req_confirm(r, run_again, r);
}
