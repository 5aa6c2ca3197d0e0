// SPDX-License-Identifier: Apache-2.0
// What configures admission and cannot be read: a server that is up keeps what it knew, and the
// object can be mended and removed.
#include "rig.h"
#include "base/loop.h"
#include "store/store.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define HOOKS "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
#define CMS "/api/v1/namespaces/default/configmaps"

static struct rig rig;

struct put {
    struct kl_task task;
    struct kl_txn txn;
    struct kl_op op;
    sem_t done;
};

static void written(struct kl_txn *t)
{
    sem_post(&KL_CONTAINER_OF(t, struct put, txn)->done);
}

static void submit(struct kl_task *t)
{
    struct put *p = KL_CONTAINER_OF(t, struct put, task);
    struct kl_error err = {0};
    p->txn = (struct kl_txn){.cb = written, .body = {.then = &p->op, .nthen = 1}};
    if (kl_store_submit(rig.store, &p->txn, &err))
        fail_msg("%s", err.msg);
}

// Junk in the place of an object.
static void spoil(const char *key)
{
    struct put p = {.task.run = submit};
    struct kl_bytes *b = kl_bytes_new(KL_STR("junk"));
    p.op = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(key), .value = b};
    sem_init(&p.done, 0, 0);
    kl_loop_post(rig.loops[0], &p.task);
    while (sem_wait(&p.done))
        continue;
    assert_int_equal(p.txn.err.code, 0);
    kl_txn_fini(&p.txn);
    sem_destroy(&p.done);
    kl_bytes_unref(b);
}

static void test_mend_and_remove(void **state)
{
    static const struct rig_row rows[] = {
        {"POST", CMS, "{\"metadata\":{\"name\":\"a\"}}", 201, {0}, NULL, NULL},
        {"GET", HOOKS "/bad", "", 500, {"unable to decode"}, NULL, NULL},
        {"PATCH",
         HOOKS "/bad",
         "{\"webhooks\":[]}",
         200,
         {"\"name\":\"bad\"", "\"uid\":\""},
         "content-type: application/merge-patch+json\r\n",
         NULL},
        {"GET", HOOKS "/bad", "", 200, {"\"creationTimestamp\":\"20"}, NULL, NULL},
    };
    static const struct rig_row after[] = {
        {"POST", CMS, "{\"metadata\":{\"name\":\"b\"}}", 201, {0}, NULL, NULL},
        {"DELETE", HOOKS "/bad", "", 200, {"\"status\":\"Success\""}, NULL, NULL},
        {"GET", HOOKS "/bad", "", 404, {0}, NULL, NULL},
    };
    (void)state;
    rig_start(&rig, 2);
    spoil("/registry/validatingwebhookconfigurations/bad");
    rig_rows(&rig, rows, KL_COUNT(rows));
    spoil("/registry/validatingwebhookconfigurations/bad");
    rig_rows(&rig, after, KL_COUNT(after));
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mend_and_remove)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
