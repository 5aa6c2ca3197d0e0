// SPDX-License-Identifier: Apache-2.0
// Each call has a loop of its own in the caller's thread.
#include "store/wait.h"
#include "base/clock.h"
#include <time.h>

enum { RETRY_MS = 100 };

static struct kl_loop *new_loop(struct kl_error *err)
{
    struct kl_loop *l;
    return kl_loop_new("wait", &l, err) ? NULL : l;
}

static int fill(struct kl_error *err, int code, const struct kl_error *why)
{
    return code ? kl_error_set(err, code, "%s", why->code ? why->msg : kl_err_text(code)) : 0;
}

static void on_txn(struct kl_txn *t)
{
    kl_loop_stop(t->loop);
}

static int run_once(struct kl_store *s, struct kl_txn *txn, struct kl_error *err)
{
    struct kl_loop *l = new_loop(err);
    if (!l)
        return KL_ENOMEM;
    *txn = (struct kl_txn){.body = txn->body, .cb = on_txn, .loop = l};
    int rc = kl_store_submit(s, txn, err);
    if (!rc) {
        kl_loop_run(l);
        rc = fill(err, txn->code, &txn->err);
    }
    kl_loop_unref(l);
    return rc;
}

int kl_store_run_txn(struct kl_store *s, struct kl_txn *txn, int64_t patience_ms,
                     struct kl_error *err)
{
    int64_t until = kl_mono_ms() + patience_ms;
    struct timespec pause = {0, RETRY_MS * 1000 * 1000};
    for (;;) {
        int rc = run_once(s, txn, err);
        if ((rc != KL_EUNAVAILABLE && rc != KL_ETIMEOUT) || kl_mono_ms() >= until)
            return rc;
        kl_txn_fini(txn);
        nanosleep(&pause, NULL);
    }
}

static void on_lease(struct kl_lease_req *q)
{
    kl_loop_stop(q->loop);
}

int kl_store_run_lease(struct kl_store *s, struct kl_lease_req *q, struct kl_error *err)
{
    if (!(q->loop = new_loop(err)))
        return KL_ENOMEM;
    q->cb = on_lease;
    int rc = kl_store_lease(s, q, err);
    if (!rc) {
        kl_loop_run(q->loop);
        rc = fill(err, q->code, &q->err);
    }
    kl_loop_unref(q->loop);
    q->loop = NULL;
    return rc;
}

int kl_store_run_get(struct kl_store *s, struct kl_str key, int64_t patience_ms, struct kl_buf *out,
                     kl_rev *ret_mod, struct kl_error *err)
{
    struct kl_op get = {.kind = KL_OP_GET, .key = key};
    struct kl_txn txn = {.body = {.then = &get, .nthen = 1}};
    int rc = kl_store_run_txn(s, &txn, patience_ms, err);
    if (!rc)
        *ret_mod = get.kv ? get.kv->mod_rev : 0;
    if (!rc && get.kv && (rc = kl_buf_puts(out, kl_kv_value(get.kv))) == KL_ELIMIT)
        kl_error_set(err, rc, "%.*s is too large", KL_PRI(key));
    kl_txn_fini(&txn);
    return rc;
}
