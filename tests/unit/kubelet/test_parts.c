// SPDX-License-Identifier: Apache-2.0
// Environment, log lines, atomic writer, numbers for the kernel, CRI codec.
#include "kubelet_test.h"
#include "base/rand.h"
#include "kubelet/atomic_writer.h"
#include "kubelet/cgroup.h"
#include "kubelet/cri_gen.h"
#include "kubelet/env.h"
#include "kubelet/fsutil.h"
#include "kubelet/log_reader.h"
#include "kubelet/pod_config.h"
#include "kubelet/pull_auth.h"
#include "kubelet/volumes.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static void env_expansion(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct kl_cri_key_value env[] = {{.key = KL_STR("A"), .value = KL_STR("1")},
                                     {.key = KL_STR("B"), .value = KL_STR("$(A)")}};
    static const char *const cases[][2] = {
        {"$(A)", "1"},  {"$$(A)", "$(A)"},         {"$(C)", "$(C)"},
        {"$A", "$A"},   {"x$(A)y$(B)", "x1y$(A)"}, {"$", "$"},
        {"$(A", "$(A"}, {"$$$(A)", "$1"},          {"a$$b", "a$b"},
        {"$()", "$()"}};
    for (size_t i = 0; i < KL_COUNT(cases); i++)
        assert_str(kl_env_expand(&a, kl_str(cases[i][0]), env, 2), cases[i][1]);
    kl_arena_fini(&a);
}

static const struct kl_value *no_object(void *arg, bool secret, struct kl_str name)
{
    return NULL;
}

static void env_sources(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct kl_value pod = from_json(
        &a, POD_TYPE,
        "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"labels\":{\"k\":\"v\"}},\"spec\":{"
        "\"containers\":[{\"name\":\"c\",\"resources\":{\"limits\":{\"memory\":\"1Mi\"}},\"env\":["
        "{\"name\":\"N\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.name\"}}},"
        "{\"name\":\"L\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.labels['k']\"}}},"
        "{\"name\":\"M\",\"valueFrom\":{\"resourceFieldRef\":{\"resource\":\"limits.memory\","
        "\"divisor\":\"1Ki\"}}},"
        "{\"name\":\"O\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"s\",\"key\":\"k\","
        "\"optional\":true}}},"
        "{\"name\":\"E\",\"value\":\"$(N)/$(SVC_SERVICE_HOST)\"}]}]}}");
    struct kl_cri_key_value svc = {.key = KL_STR("SVC_SERVICE_HOST"), .value = KL_STR("10.0.0.1")};
    struct kl_env_source src = {.pod = &pod,
                                .container = kl_at(kl_path(&pod, KL_F_spec, KL_F_containers), 0),
                                .object = no_object,
                                .services = &svc,
                                .nservices = 1};
    struct kl_cri_key_value *env;
    size_t n;
    struct kl_error err;
    assert_int_equal(kl_env_build(&a, &src, &env, &n, &err), 0);
    static const char *const want[] = {"p", "v", "1024", "p/10.0.0.1", "10.0.0.1"};
    assert_int_equal(n, KL_COUNT(want)); // an optional key that is missing sets nothing
    for (size_t i = 0; i < n; i++)
        assert_str(env[i].value, want[i]);
    kl_arena_fini(&a);
}

static void log_lines(void **state)
{
    struct kl_str raw = KL_STR("2024-01-01T00:00:01.5Z stdout F one\n"
                               "broken\n"
                               "2024-01-01T00:00:02Z stderr P tw\n"
                               "2024-01-01T00:00:03Z stderr F o\n"
                               "2024-01-01T00:00:04Z stdout F not yet whole");
    struct kl_log_filter f = {.limit_bytes = -1};
    struct kl_buf out;
    size_t used;
    kl_buf_init(&out, 4096);
    assert_true(kl_log_format(&f, raw, &out, &used));
    assert_str(kl_buf_str(&out), "one\ntwo\n");
    assert_str(kl_str_from(raw, used), "2024-01-01T00:00:04Z stdout F not yet whole");
    kl_buf_clear(&out);
    f.limit_bytes = 5;
    assert_false(kl_log_format(&f, raw, &out, &used));
    assert_str(kl_buf_str(&out), "one\nt");
    kl_buf_clear(&out);
    f = (struct kl_log_filter){.limit_bytes = -1, .timestamps = true, .since_us = 1704067202000000};
    assert_true(kl_log_format(&f, raw, &out, &used));
    assert_str(kl_buf_str(&out), "2024-01-01T00:00:02Z tw2024-01-01T00:00:03Z o\n");
    kl_buf_fini(&out);
    char path[] = "/tmp/kl-log-XXXXXX";
    int fd = mkstemp(path);
    int64_t off;
    unlink(path);
    assert_int_equal(write(fd, "a\nbb\nccc\n", 9), 9);
    static const int64_t want[] = {9, 5, 2, 0, 0};
    for (int64_t lines = 0; lines < 5; lines++) {
        assert_int_equal(kl_log_tail_offset(fd, lines, &off, NULL), 0);
        assert_int_equal(off, want[lines]);
    }
    close(fd);
}

static void atomic_writes(void **state)
{
    char dir[] = "/tmp/kl-atomic-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct kl_atomic_file one[] = {{KL_STR("a"), KL_STR("1"), 0644},
                                   {KL_STR("d/b"), KL_STR("2"), 0600}};
    struct kl_atomic_file two[] = {{KL_STR("d/b"), KL_STR("3"), 0644}};
    struct kl_atomic_file bad[] = {{KL_STR("../x"), KL_STR(""), 0644}};
    struct kl_error err;
    struct kl_path p;
    struct kl_buf b;
    char link[256] = "";
    bool changed;
    kl_buf_init(&b, 4096);
    assert_int_equal(kl_atomic_write(dir, one, 2, (gid_t)-1, &changed, &err), 0);
    assert_true(changed);
    kl_path_set(&p, "%s/d/b", dir);
    assert_int_equal(kl_fs_read(p.s, &b, &err), 0);
    assert_str(kl_buf_str(&b), "2");
    kl_path_set(&p, "%s/a", dir);
    assert_true(readlink(p.s, link, sizeof(link) - 1) > 0);
    assert_string_equal(link, "..data/a");
    assert_int_equal(kl_atomic_write(dir, one, 2, (gid_t)-1, &changed, &err), 0);
    assert_false(changed);
    assert_int_equal(kl_atomic_write(dir, two, 1, (gid_t)-1, &changed, &err), 0);
    assert_true(changed);
    assert_false(kl_fs_exists(p.s)); // what is gone is not visible any more
    assert_int_equal(kl_atomic_write(dir, bad, 1, (gid_t)-1, &changed, &err), KL_EINVALID);
    kl_buf_fini(&b);
    assert_int_equal(kl_fs_remove_tree(dir, &err), 0);
}

static void numbers(void **state)
{
    static const int64_t shares[][2] = {
        {0, 2}, {1, 2}, {100, 102}, {1000, 1024}, {1 << 30, 262144}};
    for (size_t i = 0; i < KL_COUNT(shares); i++)
        assert_int_equal(kl_cpu_shares(shares[i][0]), shares[i][1]);
    assert_int_equal(kl_cpu_quota(0, 100000), -1);
    assert_int_equal(kl_cpu_quota(5, 100000), 1000);
    assert_int_equal(kl_cpu_quota(250, 100000), 25000);
    assert_int_equal(kl_cpu_weight(2), 1);
    assert_int_equal(kl_cpu_weight(1024), 100);
    assert_int_equal(kl_cpu_weight(262144), 10000);
    static const struct {
        const char *resources, *class;
        int oom;
    } cases[] = {{"{}", "BestEffort", 1000},
                 {"{\"requests\":{\"memory\":\"1Gi\"}}", "Burstable", 750},
                 {"{\"requests\":{\"cpu\":\"1\"}}", "Burstable", 999},
                 {"{\"limits\":{\"cpu\":\"1\",\"memory\":\"1Gi\"}}", "Guaranteed", -997},
                 {"{\"limits\":{\"cpu\":\"1\",\"memory\":\"1Gi\"},\"requests\":{\"cpu\":\"500m\"}}",
                  "Burstable", 750}};
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_arena a;
        kl_arena_init(&a, 0);
        struct kl_str json =
            kl_arena_printf(&a, "{\"spec\":{\"containers\":[{\"name\":\"c\",\"resources\":%s}]}}",
                            cases[i].resources);
        struct kl_value pod = from_json(&a, POD_TYPE, json.p);
        assert_string_equal(kl_qos_name(kl_pod_qos(&pod)), cases[i].class);
        assert_int_equal(kl_oom_score_adj(&pod, kl_at(kl_path(&pod, KL_F_spec, KL_F_containers), 0),
                                          (int64_t)4 << 30),
                         cases[i].oom);
        kl_arena_fini(&a);
    }
}

static void resolv_conf(void **state)
{
    struct kl_arena a;
    struct kl_cri_dns_config d = {0};
    bool missing;
    kl_arena_init(&a, 0);
    struct kl_value pod =
        from_json(&a, POD_TYPE,
                  "{\"metadata\":{\"namespace\":\"ns\"},\"spec\":{\"dnsPolicy\":\"ClusterFirst\","
                  "\"dnsConfig\":{\"options\":[{\"name\":\"ndots\",\"value\":\"2\"}]}}}");
    struct kl_str host = KL_STR("nameserver 1.1.1.1\nsearch\thome  lan\noptions rotate\n");
    kl_dns_for_pod(&a, &pod, KL_STR("10.0.0.10"), KL_STR("cluster.local"), host, &d, &missing);
    assert_false(missing);
    assert_int_equal(d.n_servers, 1);
    assert_str(d.servers[0], "10.0.0.10");
    assert_int_equal(d.n_searches, 5);
    assert_str(d.searches[0], "ns.svc.cluster.local");
    assert_str(d.searches[4], "lan");
    assert_int_equal(d.n_options, 1);
    assert_str(d.options[0], "ndots:2");
    kl_dns_for_pod(&a, &pod, KL_STR(""), KL_STR("cluster.local"), host, &d, &missing);
    assert_true(missing);
    assert_str(d.servers[0], "1.1.1.1");
    kl_arena_fini(&a);
}

static struct kl_str encode_sample(struct kl_buf *b)
{
    static struct kl_proto_kv labels[] = {{KL_STR_INIT("k"), KL_STR_INIT("v")},
                                          {KL_STR_INIT("e"), KL_STR_INIT("")}};
    static int64_t groups[] = {1, 300, -1};
    static struct kl_cri_mount mounts[2] = {
        {.container_path = KL_STR_INIT("/a"), .readonly = true, .propagation = 2},
        {.host_path = KL_STR_INIT("/b")}};
    static char big[300];
    memset(big, 'x', sizeof(big));
    static struct kl_cri_int64_value uid = {.value = 0};
    static struct kl_cri_linux_container_security_context sc = {
        .supplemental_groups = groups, .n_supplemental_groups = 3, .run_as_user = &uid};
    static struct kl_cri_linux_container_config linux_ = {.security_context = &sc};
    struct kl_cri_container_config c = {.labels = labels,
                                        .n_labels = 2,
                                        .mounts = mounts,
                                        .n_mounts = 2,
                                        .linux_ = &linux_,
                                        .working_dir = {big, sizeof(big)},
                                        .tty = true};
    struct kl_cri_create_container_request r = {.pod_sandbox_id = KL_STR("sb"), .config = &c};
    kl_proto_encode(b, &kl_cri_create_container_request_desc, &r);
    return kl_buf_str(b);
}

static void cri_round_trip(void **state)
{
    struct kl_arena a;
    struct kl_buf b, again;
    void *msg;
    struct kl_error err;
    kl_arena_init(&a, 0);
    kl_buf_init(&b, 65536);
    kl_buf_init(&again, 65536);
    struct kl_str bytes = encode_sample(&b);
    assert_int_equal(kl_proto_decode(&a, &kl_cri_create_container_request_desc, bytes, &msg, &err),
                     0);
    const struct kl_cri_create_container_request *r = msg;
    assert_str(r->pod_sandbox_id, "sb");
    assert_int_equal(r->config->n_labels, 2);
    assert_str(r->config->labels[0].value, "v");
    assert_int_equal(r->config->mounts[0].propagation, 2);
    assert_int_equal(r->config->working_dir.n, 300);
    assert_int_equal(r->config->linux_->security_context->supplemental_groups[2], -1);
    assert_non_null(r->config->linux_->security_context->run_as_user); // a message, though zero
    kl_proto_encode(&again, &kl_cri_create_container_request_desc, msg);
    assert_int_equal(again.n, bytes.n);
    assert_memory_equal(again.p, bytes.p, bytes.n);
    // A known encoding, field by field: VersionResponse{version "v", runtime_name "n"}.
    struct kl_cri_version_response v = {.version = KL_STR("v"), .runtime_name = KL_STR("n")};
    kl_buf_clear(&again);
    kl_proto_encode(&again, &kl_cri_version_response_desc, &v);
    assert_memory_equal(again.p, "\x0a\x01v\x12\x01n", 6);
    kl_buf_fini(&b);
    kl_buf_fini(&again);
    kl_arena_fini(&a);
}

// Every cut and many single-byte changes: an error or a message, never more (the sanitizers look).
static void cri_bad_input(void **state)
{
    struct kl_buf b;
    kl_buf_init(&b, 65536);
    struct kl_str bytes = encode_sample(&b);
    int bad = 0;
    for (size_t i = 0; i < bytes.n * 8; i++) {
        struct kl_arena a;
        void *msg;
        char *copy = malloc(bytes.n);
        size_t n = i < bytes.n ? i : bytes.n;
        memcpy(copy, bytes.p, n);
        if (i >= bytes.n)
            copy[kl_rand_u64() % n] = (char)kl_rand_u64();
        kl_arena_init(&a, 1 << 20);
        bad += kl_proto_decode(&a, &kl_cri_create_container_request_desc, (struct kl_str){copy, n},
                               &msg, NULL) != 0;
        kl_arena_fini(&a);
        free(copy);
    }
    assert_true(bad > 100);
    kl_buf_fini(&b);
}

// A container may leave directories nested as deep as it likes.
static void removes_deep_trees(void **state)
{
    char top[] = "/tmp/kubelet-deep-XXXXXX";
    assert_non_null(mkdtemp(top));
    int fd = open(top, O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(mkdirat(fd, "d", 0755), 0);
        int down = openat(fd, "d", O_RDONLY | O_DIRECTORY);
        if (i % 100 == 0)
            close(openat(fd, "f", O_CREAT | O_WRONLY, 0600));
        close(fd);
        fd = down;
    }
    close(fd);
    struct kl_error err = {0};
    if (kl_fs_remove_tree(top, &err))
        fail_msg("%s", err.msg);
    assert_false(kl_fs_exists(top));
}

// Root writes what a link names to nobody.
static void writes_through_no_link(void **state)
{
    char top[] = "/tmp/kubelet-link-XXXXXX";
    assert_non_null(mkdtemp(top));
    struct kl_path target, link;
    struct kl_buf b;
    kl_path_set(&target, "%s/target", top);
    kl_path_set(&link, "%s/link", top);
    assert_int_equal(kl_fs_write_in_place(target.s, KL_STR("old"), 0600, NULL), 0);
    assert_int_equal(symlink("target", link.s), 0);
    assert_true(kl_fs_write_in_place(link.s, KL_STR("new"), 0600, NULL) != 0);
    kl_buf_init(&b, 4096);
    assert_int_equal(kl_fs_read(target.s, &b, NULL), 0);
    assert_str(kl_buf_str(&b), "old");
    kl_buf_fini(&b);
    assert_int_equal(kl_fs_remove_tree(top, NULL), 0);
}

static void cleans_text(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"plain", "plain"},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7"},
        {"a\xff"
         "b",
         "a\xef\xbf\xbd"
         "b"},
        {"cut \xe2\x82", "cut \xef\xbf\xbd\xef\xbf\xbd"},
        {"\xc3(", "\xef\xbf\xbd("}};
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        char *got = kl_text_clean(kl_str(cases[i][0]));
        assert_string_equal(got, cases[i][1]);
        assert_true(kl_utf8_valid(kl_str(got)));
        free(got);
    }
}

static void volumes_of_the_api_are_read_only(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct kl_value pod = from_json(
        &a, POD_TYPE,
        "{\"spec\":{\"volumes\":[{\"name\":\"c\",\"configMap\":{\"name\":\"x\"}},"
        "{\"name\":\"s\",\"secret\":{\"secretName\":\"x\"}},"
        "{\"name\":\"p\",\"projected\":{\"sources\":[]}},{\"name\":\"d\",\"downwardAPI\":{}},"
        "{\"name\":\"e\",\"emptyDir\":{}},{\"name\":\"h\",\"hostPath\":{\"path\":\"/x\"}}]}}");
    for (const char *name = "cspd"; *name; name++)
        assert_true(kl_volume_is_read_only(&pod, (struct kl_str){name, 1}));
    for (const char *name = "ehx"; *name; name++)
        assert_false(kl_volume_is_read_only(&pod, (struct kl_str){name, 1}));
    kl_arena_fini(&a);
}

// Labels by which a sandbox is found again cannot be set by a Pod's own labels.
static void sandbox_labels_are_ours(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct kl_value root =
        from_json(&a, POD_TYPE,
                  "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"uid\":\"mine\",\"labels\":{"
                  "\"app\":\"x\","
                  "\"io.kubernetes.pod.uid\":\"victim\"},\"annotations\":{"
                  "\"kubernetes.io/config.source\":\"file\"}},\"spec\":{\"containers\":[]}}");
    struct kl_kubelet k = {.conf = {.cgroup_root = (char *)(uintptr_t) "",
                                    .cluster_dns = (char *)(uintptr_t) "",
                                    .logs_dir = (char *)(uintptr_t) "/x",
                                    .cluster_domain = (char *)(uintptr_t) "d"}};
    struct kl_pod p = {.k = &k,
                       .uid = (char *)(uintptr_t) "mine",
                       .ns = (char *)(uintptr_t) "n",
                       .name = (char *)(uintptr_t) "p",
                       .object = kl_object_freeze(kl_type_by_name(kl_str(POD_TYPE)), &root)};
    struct kl_cri_pod_sandbox_config *c;
    struct kl_error err;
    bool missing;
    assert_int_equal(kl_sandbox_config(&a, &p, 0, &c, &missing, &err), 0);
    int uids = 0, apps = 0;
    for (size_t i = 0; i < c->n_labels; i++) {
        apps += kl_str_eqz(c->labels[i].key, "app");
        if (!kl_str_eqz(c->labels[i].key, "io.kubernetes.pod.uid"))
            continue;
        uids++;
        assert_str(c->labels[i].value, "mine");
    }
    assert_int_equal(uids, 1);
    assert_int_equal(apps, 1);
    assert_int_equal(c->n_annotations, 1);
    assert_str(c->annotations[0].value, "api");
    kl_object_unref(p.object);
    kl_arena_fini(&a);
}

static void pull_credentials(void **state)
{
    static const struct {
        const char *key, *image;
        bool match;
    } cases[] = {{"https://index.docker.io/v1/", "busybox:1", true},
                 {"https://index.docker.io/v1/", "docker.io/library/busybox:1", true},
                 {"https://index.docker.io/v1/", "quay.io/a/b", false},
                 {"quay.io", "quay.io/a/b:1", true},
                 {"quay.io/a", "quay.io/b/c", false},
                 {"http://quay.io:5000", "quay.io/a/b", false},
                 {"127.0.0.1:5000", "127.0.0.1:5000/x", true},
                 {"*.example.com", "r.example.com/x", true},
                 {"*.example.com", "example.com/x", false},
                 {"*.example.com", "a.r.example.com/x", false}};
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_arena a;
        struct kl_cri_auth_config list[2];
        size_t n = 0;
        char *config = kl_asprintf("{\"auths\":{\"%s\":{\"auth\":\"dTpwOnc=\"}}}", cases[i].key);
        kl_arena_init(&a, 0);
        struct kl_value secret = kl_new_struct();
        struct kl_value *data = kl_edit(&a, &secret, KL_F_data, KL_MAP);
        kl_map_set_value(&a, data, KL_STR(".dockerconfigjson"), kl_string(kl_str(config)));
        kl_pull_auths(&a, &secret, kl_str(cases[i].image), list, &n, KL_COUNT(list));
        if (n != cases[i].match)
            fail_msg("%s for %s: %zu", cases[i].key, cases[i].image, n);
        if (n) {
            assert_str(list[0].username, "u");
            assert_str(list[0].password, "p:w");
        }
        kl_arena_fini(&a);
        free(config);
    }
}

// Whatever a user puts into a secret of the kind.
static void pull_credentials_of_no_map(void **state)
{
    static const char *const configs[] = {
        "{\"auths\":[\"quay.io\",{\"auth\":\"dTpwOnc=\"}]}",
        "{\"auths\":\"quay.io\"}",
        "[\"auths\",{\"quay.io\":{\"auth\":\"dTpwOnc=\"}}]",
        "{\"auths\":{\"quay.io\":[\"auth\",\"dTpwOnc=\"]}}",
        "7",
    };
    for (size_t i = 0; i < KL_COUNT(configs); i++) {
        struct kl_arena a;
        struct kl_cri_auth_config list[2];
        size_t n = 0;
        kl_arena_init(&a, 0);
        struct kl_value secret = kl_new_struct();
        struct kl_value *data = kl_edit(&a, &secret, KL_F_data, KL_MAP);
        kl_map_set_value(&a, data, KL_STR(".dockerconfigjson"), kl_string(kl_str(configs[i])));
        kl_pull_auths(&a, &secret, KL_STR("quay.io/a/b"), list, &n, KL_COUNT(list));
        for (size_t k = 0; k < n; k++)
            if (list[k].username.n || list[k].password.n)
                fail_msg("%s: %.*s", configs[i], KL_PRI(list[k].username));
        kl_arena_fini(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(env_expansion),
        cmocka_unit_test(env_sources),
        cmocka_unit_test(log_lines),
        cmocka_unit_test(atomic_writes),
        cmocka_unit_test(numbers),
        cmocka_unit_test(resolv_conf),
        cmocka_unit_test(cri_round_trip),
        cmocka_unit_test(cri_bad_input),
        cmocka_unit_test(removes_deep_trees),
        cmocka_unit_test(writes_through_no_link),
        cmocka_unit_test(cleans_text),
        cmocka_unit_test(volumes_of_the_api_are_read_only),
        cmocka_unit_test(sandbox_labels_are_ours),
        cmocka_unit_test(pull_credentials),
        cmocka_unit_test(pull_credentials_of_no_map),
    };
    return cmocka_run_group_tests_name("kubelet/parts", tests, NULL, NULL);
}
