// SPDX-License-Identifier: Apache-2.0
#include "harness.h"
#include "client/helpers.h"
#include "object/timestamp.h"
#include <stdio.h>
#include <stdlib.h>

struct harness h;

static const char *const all[] = {
    "serviceaccount",
    "root-ca-certificate-publisher",
    "replicaset",
    "deployment",
    "namespace",
    "garbage-collector",
    "node-lifecycle",
    "taint-eviction",
    "pod-garbage-collector",
    "resourcequota",
    "replicationcontroller",
    "disruption",
    "podgroup-protection",
    "cronjob",
    "persistentvolumeclaim-protection",
    "persistentvolume-protection",
    "endpointslice",
    "job",
    "ttl-after-finished",
};

void harness_start(const char *only)
{
    harness_start_serving(only, NULL);
}

void harness_start_serving(const char *only,
                           bool (*serves)(void *arg, const struct kl_resource *res))
{
    h = (struct harness){.ready_ms = 1000, .stop_ms = 1000};
    h.ts = kl_timers_new_virtual((int64_t)1700000000 * 1000000);
    h.f = fake_cluster_new(h.ts);
    char disable[512] = "";
    for (size_t i = 0; only && i < KL_COUNT(all); i++) {
        struct kl_str rest = kl_str(only), part;
        bool wanted = false;
        while (kl_str_split(&rest, ',', &part))
            wanted |= kl_str_eqz(part, all[i]);
        size_t n = strlen(disable);
        if (!wanted)
            snprintf(disable + n, sizeof(disable) - n, "%s,", all[i]);
    }
    struct kl_error err = {0};
    struct kl_controllers_options o = {
        .timers = h.ts,
        .client_for = fake_client_for,
        .serves = serves,
        .arg = h.f,
        .root_ca_pem = KL_STR("the CA"),
        .disable = disable,
    };
    if (kl_controllers_start(&o, &h.controllers, &err) < 0)
        fail_msg("%s", err.msg);
    kl_timers_advance(h.ts, 50);
}

int harness_stop(void **state)
{
    kl_controllers_stop(h.controllers);
    fake_cluster_free(h.f);
    kl_timers_free(h.ts);
    return 0;
}

static void make_ready(const struct kl_value *pod)
{
    char patch[512], now[KL_TIME_TEXT], ns[128] = {0}, name[300] = {0};
    kl_time_text(kl_timers_wall_us(h.ts), now);
    snprintf(ns, sizeof(ns), "%.*s", KL_PRI(kl_meta_namespace(pod)));
    snprintf(name, sizeof(name), "%.*s", KL_PRI(kl_meta_name(pod)));
    snprintf(patch, sizeof(patch),
             "{%s\"status\":{\"phase\":\"Running\",\"conditions\":[{"
             "\"type\":\"Ready\","
             "\"status\":\"True\",\"lastTransitionTime\":\"%s\"}]}}",
             h.keep_node ? "" : "\"spec\":{\"nodeName\":\"node\"},", now);
    fake_patch(h.f, PODS, ns, name, "any", patch); // a subresource that covers all
}

static void run_kubelet(void)
{
    size_t n;
    struct kl_object **pods = fake_list(h.f, PODS, "", &n);
    int64_t now_us = kl_timers_wall_us(h.ts);
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *pod = &pods[i]->root;
        int64_t created = kl_int_at(pod, 0, KL_F_metadata, KL_F_creationTimestamp);
        int64_t deleted = kl_int_at(pod, 0, KL_F_metadata, KL_F_deletionTimestamp);
        int64_t grace = kl_int_at(pod, 0, KL_F_metadata, KL_F_deletionGracePeriodSeconds) * 1000000;
        if (deleted) {
            if (now_us < deleted - grace + h.stop_ms * 1000 ||
                kl_len(kl_path(pod, KL_F_metadata, KL_F_finalizers)))
                continue;
            char ns[128], name[300];
            snprintf(ns, sizeof(ns), "%.*s", KL_PRI(kl_meta_namespace(pod)));
            snprintf(name, sizeof(name), "%.*s", KL_PRI(kl_meta_name(pod)));
            fake_remove(h.f, PODS, ns, name);
        } else if (kl_str_eqz(kl_text_at(pod, KL_F_status, KL_F_phase), "Pending") &&
                   now_us >= created + h.ready_ms * 1000 && (!h.may_run || h.may_run(pod))) {
            make_ready(pod);
        }
    }
    free(pods);
}

void harness_run(int64_t ms)
{
    for (int64_t left = ms; left > 0; left -= 100) {
        kl_timers_advance(h.ts, left < 100 ? left : 100);
        if (!h.no_kubelet)
            run_kubelet();
    }
}

size_t count_pods(const char *ns, const char *phase)
{
    size_t n, count = 0;
    struct kl_object **pods = fake_list(h.f, PODS, ns, &n);
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *pod = &pods[i]->root;
        count += !kl_meta_deleting(pod) &&
                 (!phase || kl_str_eqz(kl_text_at(pod, KL_F_status, KL_F_phase), phase));
    }
    free(pods);
    return count;
}

const struct kl_value *condition_of(const struct kl_resource *res, const char *ns, const char *name,
                                    const char *type)
{
    struct kl_object *o = fake_get(h.f, res, ns, name);
    if (!o)
        fail_msg("no %s %s/%s", res->plural, ns, name);
    const struct kl_value *c =
        kl_condition_find(kl_path(&o->root, KL_F_status, KL_F_conditions), type);
    if (!c)
        fail_msg("no condition %s of %s %s/%s", type, res->plural, ns, name);
    return c;
}

void assert_text(struct kl_str got, const char *expected)
{
    if (!kl_str_eqz(got, expected))
        fail_msg("got \"%.*s\", expected \"%s\"", KL_PRI(got), expected);
}

void assert_condition(const struct kl_resource *res, const char *ns, const char *name,
                      const char *type, const char *status, const char *reason, const char *message)
{
    const struct kl_value *c = condition_of(res, ns, name, type);
    assert_text(kl_text(kl_get(c, KL_F_status)), status);
    assert_text(kl_text(kl_get(c, KL_F_reason)), reason);
    assert_text(kl_text(kl_get(c, KL_F_message)), message);
}

int64_t status_of(const struct kl_resource *res, const char *ns, const char *name, kl_sym field)
{
    struct kl_object *o = fake_get(h.f, res, ns, name);
    if (!o)
        fail_msg("no %s %s/%s", res->plural, ns, name);
    return kl_int_at(&o->root, 0, KL_F_status, field);
}
