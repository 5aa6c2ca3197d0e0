// SPDX-License-Identifier: Apache-2.0
// The kubelet with a real containerd and a fake API server. Root; takes a scratch directory and an
// archive of the busybox image (deploy/sample-image) named docker.io/library/busybox:test.
//
//   kubelet_e2e DIR ARCHIVE [step]
//   kubelet_e2e DIR purge
#include "base/clock.h"
#include "base/log.h"
#include "fake_api.h"
#include "kubelet/kubelet.h"
#include "object/json.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct fake_api *api;
static struct kl_loop *loop;
static struct kl_kubelet *kubelet;
static const char *dir;
static int failed, passed;
static const char *only;

#define POD kl_res(KL_RES_core_v1_pods)

static void dump(const struct kl_resource *res, const char *name)
{
    struct kl_object *o = fake_get(api, res, "default", name);
    struct kl_buf b;
    kl_buf_init(&b, 1 << 24);
    if (o) {
        struct kl_buf one;
        kl_buf_init(&one, 1 << 24);
        kl_json_encode(&one, o->type, &o->root, KL_STR(""));
        kl_json_pretty(&b, kl_buf_str(&one), 2);
        kl_buf_fini(&one);
    }
    fprintf(stderr, "%s: %.*s\n", name, KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
    kl_object_unref(o);
    fake_dump_events(api);
}

static void check(bool ok, const char *what)
{
    if (ok)
        passed++;
    else
        failed++;
    printf("%s %s\n", ok ? "ok  " : "FAIL", what);
    fflush(stdout);
}

typedef bool (*predicate)(const struct kl_value *root, const void *arg);

static bool wait_for(const char *name, predicate p, const void *arg, int timeout_ms)
{
    int64_t end = kl_mono_ms() + timeout_ms;
    bool ok = false;
    while (!ok && kl_mono_ms() < end) {
        struct kl_object *o = fake_get(api, POD, "default", name);
        ok = p(o ? &o->root : NULL, arg);
        kl_object_unref(o);
        if (!ok)
            poll(NULL, 0, 20);
    }
    return ok;
}

static const struct kl_value *ctr(const struct kl_value *root)
{
    return kl_at(kl_path(root, KL_F_status, KL_F_containerStatuses), 0);
}
static bool has_phase(const struct kl_value *root, const void *arg)
{
    return kl_str_eqz(kl_text_at(root, KL_F_status, KL_F_phase), arg);
}
static bool is_gone(const struct kl_value *root, const void *arg)
{
    return root == NULL;
}
static bool restarted(const struct kl_value *root, const void *arg)
{
    return kl_int_at(ctr(root), 0, KL_F_restartCount) >= *(const int *)arg;
}
static bool waits_for(const struct kl_value *root, const void *arg)
{
    return kl_str_eqz(kl_text_at(ctr(root), KL_F_state, KL_F_waiting, KL_F_reason), arg);
}
static bool is_ready(const struct kl_value *root, const void *arg)
{
    for (KL_EACH(c, kl_path(root, KL_F_status, KL_F_conditions)))
        if (kl_str_eqz(kl_text_at(c, KL_F_type), "Ready"))
            return kl_str_eqz(kl_text_at(c, KL_F_status), "True");
    return false;
}

static void pod(const char *name, const char *spec, const char *container)
{
    char *json;
    if (asprintf(
            &json,
            "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"default\",\"labels\":{\"app\":\"x\"}"
            "},\"spec\":{\"nodeName\":\"node1\",\"terminationGracePeriodSeconds\":2,%s"
            "\"containers\":[{\"name\":\"c\",\"image\":\"busybox:test\",%s}]}}",
            name, spec, container) < 0)
        abort();
    fake_apply(api, POD, json);
    free(json);
}

// The text of a container's log without its prefixes.
static char *read_log(const char *name, int attempt)
{
    struct kl_object *o = fake_get(api, POD, "default", name);
    struct kl_str uid = o ? kl_meta_uid(&o->root) : KL_STR("");
    char path[700];
    static char text[65536];
    snprintf(path, sizeof(path), "%s/agent/logs/pods/default_%s_%.*s/c/%d.log", dir, name,
             KL_PRI(uid), attempt);
    kl_object_unref(o);
    FILE *f = fopen(path, "r");
    char line[8192];
    text[0] = 0;
    while (f && fgets(line, sizeof(line), f)) {
        char *p = line;
        for (int i = 0; i < 3 && p; i++)
            p = strchr(p, ' ') ? strchr(p, ' ') + 1 : NULL;
        if (p && strlen(text) + strlen(p) < sizeof(text))
            strcat(text, p);
    }
    if (f)
        fclose(f);
    return text;
}

static bool step(const char *name)
{
    bool run = !only || !strcmp(only, name);
    if (run)
        printf("-- %s\n", name);
    return run;
}

static void start(void)
{
    struct kl_error err;
    struct kl_kubelet_options o = {.client = fake_api_client(api),
                                   .node_name = "node1",
                                   .data_dir = dir,
                                   .pod_cidr = "10.95.0.0/24",
                                   .bridge_name = "kltest0",
                                   .cgroup_root = "/kltest",
                                   .cluster_dns = "10.96.0.10",
                                   .port = -1};
    if (kl_kubelet_start(&o, &kubelet, &err)) {
        fprintf(stderr, "start: %s\n", err.msg);
        exit(1);
    }
}

static void on_stopped(void *arg)
{
    *(volatile bool *)arg = true;
}

static void stop(void)
{
    volatile bool done = false;
    int64_t t = kl_mono_ms();
    kl_kubelet_stop(kubelet, on_stopped, (void *)(uintptr_t)&done);
    while (!done && kl_mono_ms() - t < 120000)
        poll(NULL, 0, 5);
    check(done, "the kubelet stops");
    printf("   stopped in %lld ms\n", (long long)(kl_mono_ms() - t));
}

static bool node_ready(int timeout_ms)
{
    int64_t end = kl_mono_ms() + timeout_ms;
    bool ok = false;
    while (!ok && kl_mono_ms() < end) {
        struct kl_object *o = fake_get(api, kl_res(KL_RES_core_v1_nodes), "", "node1");
        ok = o && is_ready(&o->root, NULL);
        kl_object_unref(o);
        poll(NULL, 0, 20);
    }
    return ok;
}

static void remove_pod(const char *name)
{
    fake_delete(api, POD, "default", name, -1);
    char what[100];
    snprintf(what, sizeof(what), "%s is deleted", name);
    check(wait_for(name, is_gone, NULL, 15000), what);
}

static void simple(void)
{
    int64_t t = kl_mono_ms();
    pod("p1", "",
        "\"command\":[\"sh\",\"-c\",\"echo hello; trap 'exit 0' TERM; while true; do sleep 0.1; "
        "done\"]");
    bool ok = wait_for("p1", is_ready, NULL, 20000);
    printf("   ready in %lld ms\n", (long long)(kl_mono_ms() - t));
    check(ok, "a pod becomes ready");
    if (!ok)
        dump(POD, "p1");
    check(!strcmp(read_log("p1", 0), "hello\n"), "its log is written");
    check(fake_has_event(api, "p1", "Started", "Container started") ||
              (poll(NULL, 0, 500), fake_has_event(api, "p1", "Started", "Container started")),
          "event Started");
}

static void adoption(void)
{
    struct kl_object *o = fake_get(api, POD, "default", "p1");
    char *id = strndup(kl_text_at(ctr(&o->root), KL_F_containerID).p,
                       kl_text_at(ctr(&o->root), KL_F_containerID).n);
    kl_object_unref(o);
    stop();
    start();
    check(node_ready(20000), "the node is ready again");
    poll(NULL, 0, 1500);
    o = fake_get(api, POD, "default", "p1");
    check(kl_str_eqz(kl_text_at(ctr(&o->root), KL_F_containerID), id) &&
              kl_int_at(ctr(&o->root), 0, KL_F_restartCount) == 0 && is_ready(&o->root, NULL),
          "a restart adopts the running container");
    kl_object_unref(o);
    free(id);
}

static void restarts(void)
{
    int two = 2;
    pod("crash", "",
        "\"command\":[\"sh\",\"-c\",\"echo run; echo why > /dev/termination-log; exit 3\"]");
    check(wait_for("crash", waits_for, "CrashLoopBackOff", 20000), "CrashLoopBackOff");
    struct kl_object *o = fake_get(api, POD, "default", "crash");
    const struct kl_value *last = kl_path(ctr(&o->root), KL_F_lastState, KL_F_terminated);
    check(kl_int_at(last, 0, KL_F_exitCode) == 3 &&
              kl_str_eqz(kl_text_at(last, KL_F_reason), "Error") &&
              kl_str_eqz(kl_text_at(last, KL_F_message), "why\n"),
          "last state says exit code, reason and termination message");
    struct kl_str msg = kl_text_at(ctr(&o->root), KL_F_state, KL_F_waiting, KL_F_message);
    check(
        kl_str_starts(msg, KL_STR("back-off 10s restarting failed container=c pod=crash_default(")),
        "the back-off's message");
    kl_object_unref(o);
    bool ok = wait_for("crash", restarted, &two, 20000);
    check(ok, "it is restarted after the back-off");
    if (!ok)
        dump(POD, "crash");
    remove_pod("crash");
}

static void completes(void)
{
    pod("done",
        "\"restartPolicy\":\"Never\",\"initContainers\":[{\"name\":\"i\",\"image\":\"busybox:"
        "test\","
        "\"command\":[\"sh\",\"-c\",\"echo x > "
        "/w/f\"],\"volumeMounts\":[{\"name\":\"w\",\"mountPath\":\"/w\"}]}],"
        "\"volumes\":[{\"name\":\"w\",\"emptyDir\":{}}],",
        "\"command\":[\"cat\",\"/w/f\"],\"volumeMounts\":[{\"name\":\"w\",\"mountPath\":\"/w\"}]");
    bool ok = wait_for("done", has_phase, "Succeeded", 20000);
    check(ok, "init container, emptyDir, phase Succeeded");
    if (!ok)
        dump(POD, "done");
    check(!strcmp(read_log("done", 0), "x\n"), "the volume is shared");
    remove_pod("done");
    pod("bad", "\"restartPolicy\":\"Never\",", "\"command\":[\"false\"]");
    check(wait_for("bad", has_phase, "Failed", 20000), "phase Failed");
    remove_pod("bad");
}

static void volumes(void)
{
    fake_apply(api, kl_res(KL_RES_core_v1_configmaps),
               "{\"metadata\":{\"name\":\"cm\",\"namespace\":\"default\"},\"data\":{\"a\":\"1\","
               "\"b\":\"two\"}}");
    fake_apply(
        api, kl_res(KL_RES_core_v1_secrets),
        "{\"metadata\":{\"name\":\"s\",\"namespace\":\"default\"},\"data\":{\"pw\":\"c2VjcmV0\"}}");
    pod("vol",
        "\"serviceAccountName\":\"sa\",\"volumes\":[{\"name\":\"cm\",\"configMap\":{\"name\":"
        "\"cm\"}},"
        "{\"name\":\"s\",\"secret\":{\"secretName\":\"s\",\"defaultMode\":256}},"
        "{\"name\":\"m\",\"emptyDir\":{\"medium\":\"Memory\",\"sizeLimit\":\"1Mi\"}},"
        "{\"name\":\"h\",\"hostPath\":{\"path\":\"/etc\",\"type\":\"Directory\"}},"
        "{\"name\":\"p\",\"projected\":{\"sources\":[{\"serviceAccountToken\":{\"path\":\"token\","
        "\"expirationSeconds\":3607}},"
        "{\"downwardAPI\":{\"items\":[{\"path\":\"labels\",\"fieldRef\":{\"fieldPath\":\"metadata."
        "labels\"}}]}}]}}],",
        "\"env\":[{\"name\":\"X\",\"value\":\"v-$(Y)\"},{\"name\":\"Y\",\"valueFrom\":{"
        "\"configMapKeyRef\":{\"name\":\"cm\",\"key\":\"b\"}}},"
        "{\"name\":\"Z\",\"value\":\"$(Y)-$$(Y)-$(NO)\"},{\"name\":\"PW\",\"valueFrom\":{"
        "\"secretKeyRef\":{\"name\":\"s\",\"key\":\"pw\"}}},"
        "{\"name\":\"IP\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"status.podIP\"}}},"
        "{\"name\":\"CPU\",\"valueFrom\":{\"resourceFieldRef\":{\"resource\":\"limits.cpu\","
        "\"divisor\":\"1m\"}}}],"
        "\"resources\":{\"limits\":{\"cpu\":\"250m\",\"memory\":\"64Mi\"}},"
        "\"volumeMounts\":[{\"name\":\"cm\",\"mountPath\":\"/"
        "cm\"},{\"name\":\"s\",\"mountPath\":\"/s\"},{\"name\":\"m\",\"mountPath\":\"/m\"},"
        "{\"name\":\"h\",\"mountPath\":\"/h\",\"readOnly\":true},{\"name\":\"p\",\"mountPath\":\"/"
        "p\"},{\"name\":\"cm\",\"mountPath\":\"/one\",\"subPath\":\"a\"}],"
        "\"command\":[\"sh\",\"-c\",\"echo $X $Z $PW $CPU; cat /cm/a /s/pw /p/token /p/labels "
        "/one; echo; df /m | tail -1 | cut -d' ' -f1; test -n \\\"$IP\\\" && echo ip; "
        "hostname; grep -c search /etc/resolv.conf; grep vol /etc/hosts | wc -l; test -f /h/passwd "
        "&& echo host; while [ \\\"$(cat /cm/a)\\\" = 1 ]; do sleep 0.1; done; cat /cm/a; echo; "
        "sleep 1000\"]");
    bool ok = wait_for("vol", is_ready, NULL, 20000);
    check(ok, "a pod with volumes becomes ready");
    poll(NULL, 0, 700);
    const char *want = "v-$(Y) two-$(Y)-$(NO) secret "
                       "250\n1secretfake.token.valueapp=\"x\"1\ntmpfs\nip\nvol\n1\n1\nhost\n";
    char *log = read_log("vol", 0);
    ok = ok && !strcmp(log, want);
    check(ok, "environment and volumes hold what they should");
    if (!ok) {
        printf("want:\n%s\ngot:\n%s\n", want, log);
        dump(POD, "vol");
    }
    fake_apply(
        api, kl_res(KL_RES_core_v1_configmaps),
        "{\"metadata\":{\"name\":\"cm\",\"namespace\":\"default\"},\"data\":{\"a\":\"new\"}}");
    int64_t end = kl_mono_ms() + 120000;
    while (!strstr(log = read_log("vol", 0), "host\nnew") && kl_mono_ms() < end)
        poll(NULL, 0, 50);
    check(strstr(log, "host\nnew") != NULL, "a changed ConfigMap reaches the running container");
    remove_pod("vol");
    pod("nomap", "\"volumes\":[{\"name\":\"v\",\"configMap\":{\"name\":\"missing\"}}],",
        "\"command\":[\"sleep\",\"9\"]");
    end = kl_mono_ms() + 120000;
    while (!fake_has_event(
               api, "nomap", "FailedMount",
               "MountVolume.SetUp failed for volume \"v\" : configmap \"missing\" not found") &&
           kl_mono_ms() < end)
        poll(NULL, 0, 50);
    check(kl_mono_ms() < end, "FailedMount names the missing ConfigMap");
    remove_pod("nomap");
}

static void bad_images(void)
{
    pod("noimg", "", "\"imagePullPolicy\":\"Never\",\"command\":[\"x\"]");
    struct kl_object *o = fake_get(api, POD, "default", "noimg");
    kl_object_unref(o);
    check(wait_for("noimg", waits_for, "RunContainerError", 15000) ||
              wait_for("noimg", waits_for, "CrashLoopBackOff", 1),
          "a command that is not there");
    remove_pod("noimg");
    char *json = strdup("{\"metadata\":{\"name\":\"never\",\"namespace\":\"default\"},\"spec\":{"
                        "\"nodeName\":\"node1\",\"containers\":[{\"name\":\"c\",\"image\":\"nope:"
                        "1\",\"imagePullPolicy\":\"Never\"}]}}");
    fake_apply(api, POD, json);
    free(json);
    check(wait_for("never", waits_for, "ErrImageNeverPull", 15000), "ErrImageNeverPull");
    remove_pod("never");
}

static void probes(void)
{
    pod("probe", "",
        "\"readinessProbe\":{\"exec\":{\"command\":[\"test\",\"-f\",\"/tmp/"
        "r\"]},\"periodSeconds\":1},"
        "\"livenessProbe\":{\"httpGet\":{\"path\":\"/"
        "\",\"port\":8080},\"periodSeconds\":1,\"failureThreshold\":1,\"initialDelaySeconds\":1},"
        "\"startupProbe\":{\"tcpSocket\":{\"port\":8080},\"periodSeconds\":1,\"failureThreshold\":"
        "10},"
        "\"command\":[\"sh\",\"-c\",\"mkdir -p /tmp/www; echo ok > /tmp/www/index.html; sleep 1; "
        "httpd "
        "-p 8080 -h /tmp/www; sleep 2; touch /tmp/r; sleep 3; kill $(ps | grep httpd | grep -v "
        "grep "
        "| awk '{print $1}'); sleep 100\"]");
    check(wait_for("probe", has_phase, "Running", 15000), "it runs");
    struct kl_object *o = fake_get(api, POD, "default", "probe");
    check(!is_ready(&o->root, NULL), "not ready before its probe says so");
    kl_object_unref(o);
    bool ok = wait_for("probe", is_ready, NULL, 15000);
    check(ok, "ready when it does");
    if (!ok)
        dump(POD, "probe");
    int one = 1;
    ok = wait_for("probe", restarted, &one, 20000);
    check(ok, "restarted when the liveness probe fails");
    if (!ok)
        dump(POD, "probe");
    remove_pod("probe");
}

int main(int argc, char **argv)
{
    struct kl_error err;
    if (argc < 3)
        return 2;
    dir = argv[1];
    if (!strcmp(argv[2], "purge")) {
        struct kl_kubelet_options o = {
            .data_dir = dir, .bridge_name = "kltest0", .cgroup_root = "/kltest"};
        char left[1100];
        snprintf(left, sizeof(left), "%s/agent", dir);
        check(kl_kubelet_purge(&o, &err) == 0, "purge");
        check(access(left, F_OK) != 0, "purge leaves no data");
        check(access("/sys/class/net/kltest0", F_OK) != 0, "purge leaves no interface");
        printf("%d passed, %d failed\n", passed, failed);
        return failed != 0;
    }
    only = argc > 3 ? argv[3] : NULL;
    kl_log_setup(getenv("DEBUG") ? KL_LOG_DEBUG : KL_LOG_INFO, false);
    char cmd[1200];
    snprintf(cmd, sizeof(cmd), "%s/agent/images/busybox.tar", dir);
    char images[1100];
    snprintf(images, sizeof(images), "%s/agent", dir);
    mkdir(dir, 0755);
    mkdir(images, 0755);
    strcat(images, "/images");
    mkdir(images, 0755);
    unlink(cmd);
    if (link(argv[2], cmd) && symlink(argv[2], cmd))
        perror(cmd);
    if (kl_loop_new("kubelet", &loop, &err) || kl_loop_start(loop, &err))
        return 2;
    api = fake_api_new(loop);
    int64_t t = kl_mono_ms();
    start();
    check(node_ready(30000), "the node becomes ready");
    printf("   ready in %lld ms\n", (long long)(kl_mono_ms() - t));
    poll(NULL, 0, 2500); // the archive's import
    if (step("simple") || step("adoption"))
        simple();
    if (step("adoption"))
        adoption();
    if (step("restarts"))
        restarts();
    if (step("completes"))
        completes();
    if (step("volumes"))
        volumes();
    if (step("images"))
        bad_images();
    if (step("probes"))
        probes();
    fake_delete(api, POD, "default", "p1", -1);
    wait_for("p1", is_gone, NULL, 10000);
    stop();
    kl_loop_stop(loop);
    kl_loop_join(loop);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
