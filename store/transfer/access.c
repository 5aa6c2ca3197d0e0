// SPDX-License-Identifier: Apache-2.0
#include "store/transfer/access.h"
#include "store/wait.h"
#include <errno.h>
#include <stdlib.h>

static void wait_done(struct kl_access *a)
{
    while (sem_wait(&a->done) && errno == EINTR)
        ;
}

void kl_access_done(struct kl_access *a, int code)
{
    a->code = code;
    sem_post(&a->done);
}

static void run_call(struct kl_task *t)
{
    struct kl_access *a = KL_CONTAINER_OF(t, struct kl_access, task);
    a->fn(a);
}

static int call(struct kl_access *a, struct kl_task *t, struct kl_error *err)
{
    a->code = 0;
    a->err = (struct kl_error){0};
    kl_loop_post(a->loop, t);
    wait_done(a);
    int code = a->code;
    if (code)
        kl_error_set(err, code, "%s", a->err.msg[0] ? a->err.msg : kl_err_text(code));
    return code;
}

int kl_access_call(struct kl_access *a, void (*fn)(struct kl_access *a), struct kl_error *err)
{
    a->fn = fn;
    a->task.run = run_call;
    return call(a, &a->task, err);
}

static void open_reader(struct kl_access *a)
{
    kl_access_done(a, kl_reader_new(a->store, &a->reader, &a->err));
}

static void close_reader(struct kl_access *a)
{
    kl_reader_close(a->reader);
    a->reader = NULL;
    kl_access_done(a, 0);
}

int kl_access_open(struct kl_access *a, struct kl_store *store, struct kl_error *err)
{
    *a = (struct kl_access){.store = store};
    sem_init(&a->done, 0, 0);
    int r = kl_loop_new("kl-copy", &a->loop, err);
    if (!r)
        r = kl_loop_start(a->loop, err);
    if (r) {
        kl_loop_unref(a->loop);
        sem_destroy(&a->done);
        *a = (struct kl_access){0};
        return r;
    }
    r = kl_access_call(a, open_reader, err);
    if (r)
        kl_access_close(a);
    return r;
}

void kl_access_close(struct kl_access *a)
{
    if (!a->loop)
        return;
    if (a->reader)
        kl_access_call(a, close_reader, NULL);
    kl_loop_stop(a->loop);
    kl_loop_join(a->loop);
    kl_loop_unref(a->loop);
    sem_destroy(&a->done);
    *a = (struct kl_access){0};
}

static void take_view(struct kl_access *a)
{
    a->view = kl_view_ref(kl_reader_view(a->reader));
    kl_access_done(a, 0);
}

int kl_access_view(struct kl_access *a, struct kl_view **ret_v, struct kl_error *err)
{
    int r = kl_access_call(a, take_view, err);
    if (!r)
        *ret_v = a->view;
    return r;
}

static int cmp_lease(const void *x, const void *y)
{
    int64_t a = ((const struct kl_access_lease *)x)->id,
            b = ((const struct kl_access_lease *)y)->id;
    return (a > b) - (a < b);
}

static int add_leases(struct kl_access *a, bool alarms, struct kl_access_lease **l, size_t *n,
                      struct kl_error *err)
{
    struct kl_lease_req q = {.kind = KL_LEASE_LIST, .alarm = alarms};
    int r = kl_store_run_lease(a->store, &q, err);
    struct kl_access_lease *p = r ? NULL : realloc(*l, (*n + q.n + 1) * sizeof(*p));
    if (!r && !p)
        r = kl_error_set(err, KL_ENOMEM, "out of memory");
    if (p)
        *l = p;
    for (size_t i = 0; p && i < q.n; i++)
        p[(*n)++] = (struct kl_access_lease){q.ids[i], q.ttls_ms[i], q.lefts_ms[i]};
    kl_lease_req_fini(&q);
    return r;
}

int kl_access_leases(struct kl_access *a, struct kl_access_lease **ret, size_t *ret_n,
                     struct kl_error *err)
{
    struct kl_access_lease *l = NULL;
    size_t n = 0;
    int r = add_leases(a, false, &l, &n, err);
    if (!r && kl_store_keeps_alarms(a->store))
        r = add_leases(a, true, &l, &n, err);
    if (r) {
        free(l);
        return r;
    }
    qsort(l, n, sizeof(*l), cmp_lease);
    *ret = l;
    *ret_n = n;
    return 0;
}

int kl_access_head(struct kl_access *a, kl_rev *ret_rev, struct kl_error *err)
{
    struct kl_txn txn = {0};
    int r = kl_store_run_txn(a->store, &txn, 0, err);
    *ret_rev = txn.rev;
    kl_txn_fini(&txn);
    return r;
}
