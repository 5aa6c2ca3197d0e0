// SPDX-License-Identifier: Apache-2.0
// The pod state machine: spec and runtime state in, plan and status out; time is a number.
#include "kubelet_test.h"
#include "client/helpers.h"
#include "kubelet/pod_core.h"
#include "kubelet/pod_status.h"

struct world {
    struct kl_arena a;
    struct kl_value pod;
    struct kl_pod_rt rt;
    struct kl_pod_plan plan;
    struct kl_ctr_mem *mem;
    int64_t clock_ns;
};

static void begin(struct world *w, const char *spec)
{
    memset(w, 0, sizeof(*w));
    kl_arena_init(&w->a, 0);
    struct kl_str json = kl_arena_printf(
        &w->a,
        "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"uid\":\"u\",\"generation\":3},"
        "\"spec\":%s}",
        spec);
    w->pod = from_json(&w->a, POD_TYPE, json.p);
    w->clock_ns = 1700000000000000000;
}

static void end(struct world *w)
{
    kl_rt_fini(&w->rt);
    kl_arena_fini(&w->a);
}

static void sandbox(struct world *w, bool ready)
{
    struct kl_sandbox *s = calloc(1, sizeof(*s));
    s->id = strdup("sb");
    s->ready = s->described = true;
    s->ready = ready;
    s->created_ns = w->clock_ns += 1000;
    strcpy(s->ips[0], "10.1.0.2");
    kl_rt_add_sandbox(&w->rt, s);
}

static struct kl_ctr *ctr(struct world *w, const char *name, enum kl_ctr_state state, int exit_code)
{
    struct kl_ctr *c = calloc(1, sizeof(*c));
    struct kl_ctr *old = kl_rt_find(&w->rt, kl_str(name));
    c->id = strdup(name);
    c->name = strdup(name);
    c->state = state;
    c->exit_code = exit_code;
    c->attempt = old ? old->attempt + 1 : 0;
    c->reason = strdup(exit_code ? "Error" : "Completed");
    c->created_ns = w->clock_ns += 1000;
    c->started_ns = c->finished_ns = c->created_ns;
    c->post_start_done = true;
    kl_rt_add_ctr(&w->rt, c);
    return c;
}

static void compute(struct world *w)
{
    kl_pod_compute(&w->pod, &w->rt, &w->plan);
}

static void assert_starts(struct world *w, const char *want) // "i0 m1"
{
    char got[200] = "";
    for (int i = 0; i < w->plan.nstart; i++)
        snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%c%d", i ? " " : "",
                 "ime"[w->plan.start[i].kind], w -> plan.start[i].index);
    assert_string_equal(got, want);
}

static struct kl_value status_of(struct world *w, const struct kl_value *old, bool terminal)
{
    struct kl_value st;
    struct kl_status_input in = {.pod = &w->pod,
                                 .rt = &w->rt,
                                 .mem = w->mem,
                                 .old = old,
                                 .now_us = w->clock_ns / 1000,
                                 .host_ip = KL_STR("192.0.2.1"),
                                 .terminal = terminal,
                                 .finished = terminal};
    assert_int_equal(kl_pod_status_build(&w->a, &in, &st), 0);
    return st;
}

static void starts_in_order(void **state)
{
    struct world w;
    begin(&w,
          "{\"containers\":[{\"name\":\"a\",\"image\":\"i\"},{\"name\":\"b\",\"image\":\"i\"}],"
          "\"initContainers\":[{\"name\":\"x\",\"image\":\"i\"},{\"name\":\"s\",\"image\":\"i\","
          "\"restartPolicy\":\"Always\"}]}");
    compute(&w);
    assert_true(w.plan.create_sandbox && w.plan.kill_pod);
    assert_int_equal(w.plan.sandbox_attempt, 0);
    assert_starts(&w, "i0");
    sandbox(&w, true);
    compute(&w);
    assert_false(w.plan.create_sandbox);
    assert_starts(&w, "i0");
    struct kl_ctr *x = ctr(&w, "x", KL_CTR_RUNNING, 0);
    compute(&w);
    assert_starts(&w, "");
    x->state = KL_CTR_EXITED;
    compute(&w);
    assert_starts(&w, "i1"); // the sidecar
    struct kl_ctr *s = ctr(&w, "s", KL_CTR_RUNNING, 0);
    s->post_start_done = false;
    compute(&w);
    assert_starts(&w, ""); // until its postStart hook has run
    s->post_start_done = true;
    compute(&w);
    assert_starts(&w, "m0 m1");
    ctr(&w, "a", KL_CTR_RUNNING, 0);
    ctr(&w, "b", KL_CTR_RUNNING, 0);
    compute(&w);
    assert_starts(&w, "");
    assert_false(w.plan.kill_pod);
    s->state = KL_CTR_EXITED; // a sidecar that ends is started again, also later
    compute(&w);
    assert_starts(&w, "i1");
    end(&w);
}

static void restart_policies(void **state)
{
    static const struct {
        const char *policy;
        int exit_code;
        bool again, finished;
    } cases[] = {{"Always", 0, true, false},    {"Always", 1, true, false},
                 {"OnFailure", 0, false, true}, {"OnFailure", 1, true, false},
                 {"Never", 0, false, true},     {"Never", 1, false, true}};
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct world w;
        char spec[300];
        snprintf(spec, sizeof(spec),
                 "{\"restartPolicy\":\"%s\",\"containers\":[{\"name\":\"a\",\"image\":\"i\"}]}",
                 cases[i].policy);
        begin(&w, spec);
        sandbox(&w, true);
        ctr(&w, "a", KL_CTR_EXITED, cases[i].exit_code);
        compute(&w);
        assert_starts(&w, cases[i].again ? "m0" : "");
        assert_int_equal(w.plan.kill_pod, cases[i].finished);
        struct kl_value st = status_of(&w, NULL, cases[i].finished);
        assert_str(kl_text_at(&st, KL_F_phase), !cases[i].finished   ? "Running"
                                                : cases[i].exit_code ? "Failed"
                                                                     : "Succeeded");
        end(&w);
    }
}

static void failed_init_ends_pod(void **state)
{
    struct world w;
    begin(&w, "{\"restartPolicy\":\"Never\",\"containers\":[{\"name\":\"a\",\"image\":\"i\"}],"
              "\"initContainers\":[{\"name\":\"x\",\"image\":\"i\"}]}");
    sandbox(&w, true);
    ctr(&w, "x", KL_CTR_EXITED, 2);
    compute(&w);
    assert_true(w.plan.kill_pod);
    assert_starts(&w, "");
    struct kl_value st = status_of(&w, NULL, false);
    assert_str(kl_text_at(&st, KL_F_phase), "Failed");
    end(&w);
}

static void changed_image_restarts(void **state)
{
    struct world w;
    begin(&w, "{\"containers\":[{\"name\":\"a\",\"image\":\"new\"}]}");
    sandbox(&w, true);
    struct kl_ctr *c = ctr(&w, "a", KL_CTR_RUNNING, 0);
    c->has_hash = true;
    c->hash = 1;
    compute(&w);
    assert_int_equal(w.plan.nkill, 1);
    assert_string_equal(w.plan.kill[0].message,
                        "Container a definition changed, will be restarted");
    c->hash = kl_ctr_hash(kl_pod_container(&w.pod, KL_STR("a"), NULL));
    compute(&w);
    assert_int_equal(w.plan.nkill, 0);
    c->probe[KL_PROBE_LIVENESS] = KL_PROBE_FAILURE;
    compute(&w);
    assert_string_equal(w.plan.kill[0].message,
                        "Container a failed liveness probe, will be restarted");
    end(&w);
}

static void lost_sandbox_is_replaced(void **state)
{
    struct world w;
    begin(&w, "{\"containers\":[{\"name\":\"a\",\"image\":\"i\"}]}");
    sandbox(&w, false);
    ctr(&w, "a", KL_CTR_EXITED, 137);
    compute(&w);
    assert_true(w.plan.create_sandbox);
    assert_int_equal(w.plan.sandbox_attempt, 1);
    end(&w);
}

static void back_off_doubles_and_resets(void **state)
{
    struct kl_backoff b = {0};
    int64_t now = 1000000, until;
    static const int64_t want[] = {10, 20, 40, 80, 160, 300, 300};
    for (size_t i = 0; i < KL_COUNT(want); i++) {
        assert_false(kl_backoff_holds(&b, now, now + b.value_ms, NULL));
        kl_backoff_next(&b, now, now);
        assert_int_equal(b.value_ms, want[i] * 1000);
        assert_true(kl_backoff_holds(&b, now, now + b.value_ms - 1, &until));
        assert_int_equal(until, now + b.value_ms);
        now += b.value_ms;
    }
    now += 2 * KL_BACKOFF_MAX_MS + 1; // ten quiet minutes
    assert_false(kl_backoff_holds(&b, now, now, NULL));
    kl_backoff_next(&b, now, now);
    assert_int_equal(b.value_ms, KL_BACKOFF_BASE_MS);
}

static void stops_sidecars_last(void **state)
{
    struct world w;
    struct kl_ctr *stops[8];
    begin(&w, "{\"containers\":[{\"name\":\"a\",\"image\":\"i\"}],\"initContainers\":["
              "{\"name\":\"s1\",\"image\":\"i\",\"restartPolicy\":\"Always\"},"
              "{\"name\":\"s2\",\"image\":\"i\",\"restartPolicy\":\"Always\"}]}");
    struct kl_ctr *s1 = ctr(&w, "s1", KL_CTR_RUNNING, 0);
    struct kl_ctr *s2 = ctr(&w, "s2", KL_CTR_RUNNING, 0);
    struct kl_ctr *a = ctr(&w, "a", KL_CTR_RUNNING, 0);
    assert_int_equal(kl_pod_next_stops(&w.pod, &w.rt, stops, 8), 1);
    assert_ptr_equal(stops[0], a);
    a->stopping = true;
    assert_int_equal(kl_pod_next_stops(&w.pod, &w.rt, stops, 8), 0);
    a->state = KL_CTR_EXITED;
    assert_int_equal(kl_pod_next_stops(&w.pod, &w.rt, stops, 8), 1);
    assert_ptr_equal(stops[0], s2);
    s2->state = KL_CTR_EXITED;
    assert_int_equal(kl_pod_next_stops(&w.pod, &w.rt, stops, 8), 1);
    assert_ptr_equal(stops[0], s1);
    end(&w);
}

static const struct kl_value *condition(const struct kl_value *st, const char *type)
{
    return kl_condition_find(kl_get(st, KL_F_conditions), type);
}

static void status_words(void **state)
{
    struct world w;
    begin(&w,
          "{\"containers\":[{\"name\":\"a\",\"image\":\"i\"},{\"name\":\"b\",\"image\":\"i\"}]}");
    struct kl_value st = status_of(&w, NULL, false);
    const struct kl_value *c = kl_at(kl_get(&st, KL_F_containerStatuses), 0);
    assert_str(kl_text_at(c, KL_F_state, KL_F_waiting, KL_F_reason), "ContainerCreating");
    assert_str(kl_text_at(&st, KL_F_phase), "Pending");
    assert_str(kl_text_at(condition(&st, "Ready"), KL_F_reason), "ContainersNotReady");
    assert_str(kl_text_at(condition(&st, "Ready"), KL_F_message),
               "containers with unready status: [a b]");
    assert_str(kl_text_at(condition(&st, "PodReadyToStartContainers"), KL_F_status), "False");
    assert_str(kl_text_at(condition(&st, "Initialized"), KL_F_status), "True");
    assert_int_equal(kl_int_at(condition(&st, "Ready"), 0, KL_F_observedGeneration), 3);
    sandbox(&w, true);
    ctr(&w, "a", KL_CTR_RUNNING, 0);
    ctr(&w, "b", KL_CTR_EXITED, 3);
    struct kl_ctr_mem m = {.name = (char *)"b",
                           .reason = (char *)"CrashLoopBackOff",
                           .message = (char *)"back-off 10s restarting failed container=b pod=p"};
    w.mem = &m;
    st = status_of(&w, NULL, false);
    c = kl_at(kl_get(&st, KL_F_containerStatuses), 1);
    assert_str(kl_text_at(c, KL_F_state, KL_F_waiting, KL_F_reason), "CrashLoopBackOff");
    assert_int_equal(kl_int_at(c, 0, KL_F_lastState, KL_F_terminated, KL_F_exitCode), 3);
    assert_str(kl_text_at(&st, KL_F_phase), "Running");
    assert_str(kl_text_at(&st, KL_F_podIP), "10.1.0.2");
    assert_str(kl_text_at(&st, KL_F_qosClass), "BestEffort");
    // A condition that stays keeps its time.
    int64_t since = kl_int_at(condition(&st, "Ready"), 0, KL_F_lastTransitionTime);
    struct kl_value old = st;
    w.clock_ns += 5000000000;
    st = status_of(&w, &old, false);
    assert_int_equal(kl_int_at(condition(&st, "Ready"), 0, KL_F_lastTransitionTime), since);
    end(&w);
}

static void resizes(void **state)
{
    struct world w;
    begin(&w, "{\"containers\":[{\"name\":\"a\",\"image\":\"i\",\"resources\":{\"requests\":"
              "{\"cpu\":\"200m\"}}},{\"name\":\"b\",\"image\":\"i\",\"resizePolicy\":[{"
              "\"resourceName\":\"memory\",\"restartPolicy\":\"RestartContainer\"}],"
              "\"resources\":{\"limits\":{\"cpu\":\"1\",\"memory\":\"64Mi\"}}}]}");
    sandbox(&w, true);
    struct kl_ctr *a = ctr(&w, "a", KL_CTR_RUNNING, 0), *b = ctr(&w, "b", KL_CTR_RUNNING, 0);
    const struct kl_value *list = kl_pod_containers(&w.pod, KL_CTR_MAIN);
    w.rt.resizes = true;
    assert_int_equal(kl_ctr_resize(kl_at(list, 0), a), KL_RESIZE_NONE); // nobody knows
    a->has_limits = b->has_limits = true;
    a->limits = (struct kl_cgroup_values){204, -1, 100000, -1};
    b->limits = (struct kl_cgroup_values){1024, 100000, 100000, 64 << 20};
    assert_int_equal(kl_ctr_resize(kl_at(list, 0), a), KL_RESIZE_NONE);
    assert_int_equal(kl_ctr_resize(kl_at(list, 1), b), KL_RESIZE_NONE);
    a->limits.cpu_shares = 102;
    b->limits.cpu_quota_us = 50000; // no restart for this one
    assert_int_equal(kl_ctr_resize(kl_at(list, 0), a), KL_RESIZE_UPDATE);
    assert_int_equal(kl_ctr_resize(kl_at(list, 1), b), KL_RESIZE_UPDATE);
    compute(&w);
    assert_starts(&w, "");
    b->limits.memory_limit_bytes = 32 << 20;
    assert_int_equal(kl_ctr_resize(kl_at(list, 1), b), KL_RESIZE_RESTART);
    compute(&w);
    assert_starts(&w, "m1");
    assert_int_equal(w.plan.nkill, 1);
    assert_string_equal(w.plan.kill[0].message, "Container b resize requires restart");
    w.rt.resizes = false; // the node has no room for it
    compute(&w);
    assert_starts(&w, "");
    assert_int_equal(w.plan.nkill, 0);
    b->stopping = true;
    assert_int_equal(kl_ctr_resize(kl_at(list, 1), b), KL_RESIZE_NONE);
    end(&w);
}

// Says of its first container what it has, and which conditions there are.
static struct kl_str resize_words(struct world *w, const struct kl_value *old,
                                  const struct kl_resize_state *z, struct kl_value *ret)
{
    struct kl_status_input in = {.pod = &w->pod,
                                 .rt = &w->rt,
                                 .old = old,
                                 .resize = z,
                                 .now_us = w->clock_ns / 1000,
                                 .host_ip = KL_STR("192.0.2.1")};
    assert_int_equal(kl_pod_status_build(&w->a, &in, ret), 0);
    const struct kl_value *c = kl_at(kl_get(ret, KL_F_containerStatuses), 0);
    struct kl_buf b;
    kl_buf_init(&b, 4096);
    kl_buf_printf(
        &b, "%.*s/%.*s",
        KL_PRI(kl_text(kl_map_value(kl_path(c, KL_F_resources, KL_F_requests), KL_STR("cpu")))),
        KL_PRI(kl_text(kl_map_value(kl_get(c, KL_F_allocatedResources), KL_STR("cpu")))));
    for (KL_EACH(x, kl_get(ret, KL_F_conditions)))
        if (kl_str_starts(kl_text_at(x, KL_F_type), KL_STR("PodResize")))
            kl_buf_printf(&b, " %.*s:%.*s:%.*s:%lld", KL_PRI(kl_text_at(x, KL_F_type)),
                          KL_PRI(kl_text_at(x, KL_F_reason)), KL_PRI(kl_text_at(x, KL_F_message)),
                          (long long)kl_int_at(x, 0, KL_F_observedGeneration));
    struct kl_str text = kl_arena_dup(&w->a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return text;
}

static void resize_status(void **state)
{
    struct world w;
    begin(&w, "{\"containers\":[{\"name\":\"a\",\"image\":\"i\",\"resources\":{\"requests\":"
              "{\"cpu\":\"200m\"}}}]}");
    sandbox(&w, true);
    struct kl_ctr *a = ctr(&w, "a", KL_CTR_RUNNING, 0);
    struct kl_value old = from_json(
        &w.a, "io.k8s.api.core.v1.PodStatus",
        "{\"containerStatuses\":[{\"name\":\"a\",\"resources\":{\"requests\":{\"cpu\":\"100m\"}},"
        "\"allocatedResources\":{\"cpu\":\"100m\"}}]}");
    struct kl_value st;
    struct kl_resize_state z = {.pending = true, .generation = 3, .message = "no room"};
    a->has_limits = true;
    a->limits = (struct kl_cgroup_values){102, -1, 100000, -1};
    assert_string_equal(resize_words(&w, &old, &z, &st).p,
                        "100m/100m PodResizePending:Deferred:no room:3");
    z = (struct kl_resize_state){.in_progress = true, .granted_generation = 2, .error = "bad"};
    assert_string_equal(resize_words(&w, &old, &z, &st).p,
                        "100m/200m PodResizeInProgress:Error:bad:2");
    struct kl_value during = st;
    a->limits.cpu_shares = 204;
    z = (struct kl_resize_state){0};
    assert_string_equal(resize_words(&w, &during, &z, &st).p, "200m/200m");
    struct kl_object *now = kl_object_freeze(kl_pod_status_type(), &st);
    struct kl_str json;
    assert_non_null(now);
    assert_int_equal(kl_pod_status_patch(&w.a, KL_STR("u"), &during, now, &json), 0);
    assert_non_null(strstr(json.p, "{\"$patch\":\"delete\",\"type\":\"PodResizeInProgress\"}"));
    assert_null(strstr(json.p, "PodResizePending"));
    kl_object_unref(now);
    end(&w);
}

static void patch_names_what_went(void **state)
{
    struct world w;
    struct kl_str json;
    begin(&w, "{\"containers\":[{\"name\":\"a\",\"image\":\"i\"}]}");
    sandbox(&w, true);
    ctr(&w, "a", KL_CTR_RUNNING, 0);
    struct kl_value st = status_of(&w, NULL, false);
    struct kl_object *o = kl_object_freeze(kl_pod_status_type(), &st);
    assert_int_equal(kl_pod_status_patch(&w.a, KL_STR("u"), NULL, o, &json), 0);
    assert_non_null(memmem(json.p, json.n, "\"uid\":\"u\"", 9));
    assert_non_null(memmem(json.p, json.n, "\"message\":null", 14));
    assert_non_null(memmem(json.p, json.n, "{\"$patch\":\"replace\"}", 20));
    kl_object_unref(o);
    end(&w);
}

// After a restart the probes' last word is in the Pod's status; of another instance it says
// nothing.
static void probes_are_adopted(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct kl_value pod = from_json(
        &a, POD_TYPE,
        "{\"status\":{\"containerStatuses\":[{\"name\":\"c\",\"containerID\":\"containerd://abc\","
        "\"started\":true,\"ready\":true}]}}");
    char same[] = "abc", other[] = "bc";
    struct kl_ctr c = {.id = same}, o = {.id = other}, f = {.id = same};
    const struct kl_value *status = kl_get(&pod, KL_F_status);
    kl_ctr_adopt_probes(status, &c);
    assert_int_equal(c.probe[KL_PROBE_STARTUP], KL_PROBE_SUCCESS);
    assert_int_equal(c.probe[KL_PROBE_READINESS], KL_PROBE_SUCCESS);
    assert_int_equal(c.probe[KL_PROBE_LIVENESS], KL_PROBE_UNKNOWN);
    kl_ctr_adopt_probes(status, &o);
    assert_int_equal(o.probe[KL_PROBE_READINESS], KL_PROBE_UNKNOWN);
    f.probe[KL_PROBE_READINESS] = KL_PROBE_FAILURE;
    kl_ctr_adopt_probes(status, &f);
    assert_int_equal(f.probe[KL_PROBE_READINESS], KL_PROBE_FAILURE);
    kl_arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probes_are_adopted),
        cmocka_unit_test(starts_in_order),
        cmocka_unit_test(restart_policies),
        cmocka_unit_test(failed_init_ends_pod),
        cmocka_unit_test(changed_image_restarts),
        cmocka_unit_test(lost_sandbox_is_replaced),
        cmocka_unit_test(back_off_doubles_and_resets),
        cmocka_unit_test(stops_sidecars_last),
        cmocka_unit_test(status_words),
        cmocka_unit_test(patch_names_what_went),
        cmocka_unit_test(resizes),
        cmocka_unit_test(resize_status),
    };
    return cmocka_run_group_tests_name("kubelet/pod_core", tests, NULL, NULL);
}
