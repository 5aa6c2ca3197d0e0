// SPDX-License-Identifier: Apache-2.0
// Programs that make credentials: which configurations are refused, what they are told, what of
// their output is taken, and that who waits together waits for one run. The words are those of
// client-go's exec_test.go and validation_test.go.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apiserver/auth/exec_int.h"
#include "base/clock.h"
#include "object/json.h"

#define V1 "client.authentication.k8s.io/v1"
#define BETA "client.authentication.k8s.io/v1beta1"

static struct kl_arena arena;
static char dir[] = "/tmp/kinglet-exec-XXXXXX", runs[64], gate[64]; // a byte for each run; a fifo
static int gate_fd;

static struct kl_value parse(const char *json)
{
    struct kl_value v = {0};
    struct kl_error err = {0};
    if (kl_json_parse(&arena, kl_str(json), NULL, &v, &err))
        fail_msg("%s: %s", json, err.msg);
    return v;
}

static struct kl_exec *make(const char *json, struct kl_error *err)
{
    struct kl_value conf = parse(json), cluster = parse("{\"audience\":\"x\"}");
    const struct kl_exec_opts o = {.user = KL_STR("u"),
                                   .conf = &conf,
                                   .kubeconfig = "/nowhere/config",
                                   .server = KL_STR("https://hook:8443"),
                                   .tls_server_name = KL_STR("hook"),
                                   .ca = KL_STR("root"),
                                   .cluster_config = &cluster};
    struct kl_exec *x = NULL;
    return kl_exec_new(&o, &x, err) ? NULL : x;
}

// A configuration that runs this in a shell.
static const char *shell(const char *version, const char *more, const char *script)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_buf_printf(&b,
                  "{\"apiVersion\":\"%s\",\"command\":\"sh\",%s\"interactiveMode\":\"Never\","
                  "\"args\":[\"-c\",",
                  version, more);
    kl_json_write_string(&b, kl_str(script));
    kl_buf_puts(&b, KL_STR("]}"));
    const char *text = kl_arena_dup(&arena, kl_buf_str(&b)).p;
    kl_buf_fini(&b);
    return text;
}

static void test_configurations(void **state)
{
    static const struct {
        const char *json, *want;
    } cases[] = {
        {"{\"command\":\"x\",\"apiVersion\":\"" V1 "\",\"interactiveMode\":\"Always\"}", ""},
        {"{\"command\":\"x\",\"apiVersion\":\"" BETA "\"}", ""},
        {"{\"command\":\"x\",\"apiVersion\":\"" V1 "\"}",
         "invalid configuration: interactiveMode must be specified for u to use exec "
         "authentication plugin"},
        {"{\"apiVersion\":\"" BETA "\"}", "invalid configuration: command must be specified for u "
                                          "to use exec authentication plugin"},
        {"{\"command\":\"x\",\"interactiveMode\":\"Sometimes\",\"env\":[{\"value\":\"v\"}]}",
         "invalid configuration: [apiVersion must be specified for u to use exec authentication "
         "plugin, env variable name must be specified for u to use exec authentication plugin, "
         "invalid interactiveMode for u: \"Sometimes\"]"},
        {"{\"command\":\"x\",\"apiVersion\":\"foo/v1\",\"interactiveMode\":\"Never\"}",
         "exec plugin: invalid apiVersion \"foo/v1\""},
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_error err = {0};
        struct kl_exec *x = make(cases[i].json, &err);
        assert_string_equal(x ? "" : err.msg, cases[i].want);
        kl_exec_unref(x);
    }
}

// What one run gives: the header, or what is wrong.
static const char *outcome(const char *json)
{
    static char text[1024];
    struct kl_error err = {0};
    struct kl_exec_cred *c = NULL;
    struct kl_exec *x = make(json, &err);
    if (!x)
        fail_msg("%s: %s", json, err.msg);
    int rc = kl_exec_run(x, &c, &err);
    snprintf(text, sizeof text, "%s", rc ? err.msg : c->authorization ? c->authorization : "none");
    if (!rc && c->expires_ms)
        snprintf(text + strlen(text), sizeof text - strlen(text), " until %lld",
                 (long long)c->expires_ms);
    kl_exec_cred_unref(c);
    kl_exec_unref(x);
    return text;
}

#define SAYS(version, status)                                                                      \
    "echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"" version "\"" status "}'"

static void test_outputs(void **state)
{
    static const struct {
        const char *script, *want;
    } cases[] = {
        {SAYS(V1, ",\"status\":{\"token\":\"t\"}"), "Bearer t"},
        {SAYS(V1, ",\"status\":{\"token\":\"t\",\"expirationTimestamp\":"
                  "\"2006-01-02T15:04:05Z\"}"),
         "Bearer t until 1136214245000"},
        {"printf 'apiVersion: " V1 "\\nkind: ExecCredential\\nstatus: {token: yaml}\\n'",
         "Bearer yaml"},
        {SAYS(V1, ""), "exec plugin didn't return a status field"},
        {SAYS(V1, ",\"status\":{}"), "exec plugin didn't return a token or cert/key pair"},
        {SAYS(V1, ",\"status\":{\"clientKeyData\":\"k\"}"),
         "exec plugin returned only certificate or key, not both"},
        {SAYS(BETA, ",\"status\":{\"token\":\"t\"}"),
         "exec plugin is configured to use API version " V1 ", plugin returned version " BETA},
        {SAYS("foo/v1", ""),
         "decoding stdout: no kind \"ExecCredential\" is registered for version \"foo/v1\""},
        {"echo '{\"token\":\"secret\"}'", "decoding stdout: Object 'Kind' is missing"},
        {"echo '{secret'", "decoding stdout: it is neither JSON nor YAML of an object"},
        {"exit 7", "exec: executable sh failed with exit code 7"},
        {"kill -9 $$", "exec: executable sh failed with exit code -1"},
        {"head -c 2000000 /dev/zero", "exec: executable sh wrote more than 1048576 bytes"},
        {"read x && echo it reads", "exec: executable sh failed with exit code 1"},
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++)
        assert_string_equal(outcome(shell(V1, "", cases[i].script)), cases[i].want);
    const char *pair = outcome(shell(V1, "",
                                     SAYS(V1, ",\"status\":{\"clientKeyData\":\"secret\","
                                              "\"clientCertificateData\":\"secret\"}")));
    assert_non_null(strstr(pair, "failed parsing client key/certificate: "));
    assert_null(strstr(pair, "secret"));
}

static void test_commands(void **state)
{
    const char *gone = outcome("{\"command\":\"no-such-program\",\"apiVersion\":\"" BETA
                               "\",\"installHint\":\"get it\"}");
    assert_ptr_equal(strstr(gone, "exec: executable no-such-program not found\n\nIt looks"), gone);
    assert_string_equal(gone + strlen(gone) - 8, "\n\nget it");
    assert_string_equal(outcome("{\"command\":\"./beside\",\"apiVersion\":\"" BETA "\"}"),
                        "exec: fork/exec /nowhere/beside: no such file or directory");
    assert_string_equal(outcome("{\"command\":\"/dev/null\",\"apiVersion\":\"" BETA "\"}"),
                        "exec: fork/exec /dev/null: permission denied");
    char long_env[200 * 1024];
    int n = snprintf(long_env, sizeof long_env, "\"env\":[{\"name\":\"N\",\"value\":\"");
    memset(long_env + n, 'v', sizeof long_env - (size_t)n);
    strcpy(long_env + sizeof long_env - 5, "\"}],");
    assert_string_equal(outcome(shell(V1, long_env, "exit 0")),
                        "exec: fork/exec sh: argument list too long");
    if (!isatty(STDIN_FILENO))
        assert_string_equal(outcome("{\"command\":\"sh\",\"apiVersion\":\"" V1
                                    "\",\"interactiveMode\":\"Always\"}"),
                            "exec plugin cannot support interactive mode: standard input is not a "
                            "terminal");
}

static void test_what_it_is_told(void **state)
{
    static const char script[] =
        "test \"$KUBERNETES_EXEC_INFO\" = \"$WANT\" || exit 3; test \"$TWICE\" = second || exit 4; "
        "test -n \"$PATH\" || exit 5; " SAYS(BETA, ",\"status\":{\"token\":\"ok\"}");
    assert_string_equal(
        outcome(shell(BETA,
                      "\"env\":[{\"name\":\"TWICE\",\"value\":\"first\"},{\"name\":\"TWICE\","
                      "\"value\":\"second\"},{\"name\":\"WANT\",\"value\":\"{\\\"kind\\\":"
                      "\\\"ExecCredential\\\",\\\"apiVersion\\\":\\\"" BETA "\\\",\\\"spec\\\":"
                      "{\\\"interactive\\\":false}}\\n\"}],",
                      script)),
        "Bearer ok");
    assert_string_equal(
        outcome(shell(BETA,
                      "\"provideClusterInfo\":true,\"env\":[{\"name\":\"TWICE\",\"value\":"
                      "\"second\"},{\"name\":\"WANT\",\"value\":\"{\\\"kind\\\":"
                      "\\\"ExecCredential\\\",\\\"apiVersion\\\":\\\"" BETA "\\\",\\\"spec\\\":"
                      "{\\\"cluster\\\":{\\\"server\\\":\\\"https://hook:8443\\\","
                      "\\\"tls-server-name\\\":\\\"hook\\\",\\\"certificate-authority-data\\\":"
                      "\\\"cm9vdA==\\\",\\\"config\\\":{\\\"audience\\\":\\\"x\\\"}},"
                      "\\\"interactive\\\":false}}\\n\"}],",
                      script)),
        "Bearer ok");
}

// ---- who waits

static struct kl_loop *loop;
static struct kl_exec *shared;
static struct kl_exec_cred *got;
static struct kl_exec_wait *abandoned;
static int asked, answered;

static void on_cred(void *arg, struct kl_exec_cred *cred, const struct kl_error *err)
{
    if (!cred)
        fail_msg("no credentials: %s", err->msg);
    if (arg)
        fail_msg("who gave up is called");
    kl_exec_cred_unref(got);
    got = kl_exec_cred_ref(cred);
    if (++answered == asked)
        kl_loop_stop(loop);
}

static void ask(struct kl_task *t)
{
    struct kl_exec_cred *now;
    struct kl_exec_wait *w;
    struct kl_error err = {0};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kl_exec_get(shared, loop, on_cred, NULL, &w, &now, &err), 0);
        asked += !now;
        kl_exec_cred_unref(got);
        got = now;
    }
    if (asked) {
        assert_int_equal(kl_exec_get(shared, loop, on_cred, &asked, &abandoned, &now, &err), 0);
        if (abandoned)
            kl_exec_give_up(shared, abandoned);
        kl_exec_cred_unref(now);
        assert_int_equal(write(gate_fd, "\n", 1), 1); // the run that all wait for goes on
    } else {
        kl_loop_stop(loop);
    }
}

static long count_runs(void)
{
    struct stat st;
    assert_int_equal(stat(runs, &st), 0);
    return (long)st.st_size;
}

// The header that three get who ask at once.
static const char *wanted(void)
{
    static char text[64];
    struct kl_task t = {.run = ask};
    struct kl_error err = {0};
    kl_exec_cred_unref(got);
    got = NULL;
    asked = answered = 0;
    assert_int_equal(kl_loop_new("test", &loop, &err), 0);
    kl_loop_post(loop, &t);
    kl_loop_run(loop);
    kl_loop_unref(loop);
    snprintf(text, sizeof text, "%s", got && got->authorization ? got->authorization : "none");
    return text;
}

static void test_one_run_for_all(void **state)
{
    struct kl_error err = {0};
    char script[512];
    snprintf(script, sizeof script,
             "read go < %s; printf x >> %s; n=$(wc -c < %s); test $n -lt 3 || exit 1; "
             "printf '{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\",\"status\":"
             "{\"token\":\"%%s\"}}' $n",
             gate, runs, runs);
    shared = make(shell(V1, "", script), &err);
    assert_string_equal(wanted(), "Bearer 1");
    assert_int_equal(asked, 3);
    assert_int_equal(count_runs(), 1);
    assert_string_equal(wanted(), "Bearer 1"); // they are kept
    assert_int_equal(asked, 0);
    kl_exec_refresh(shared, shared->cred);
    assert_string_equal(wanted(), "Bearer 2");
    struct kl_exec_cred *now = kl_exec_cred_ref(shared->cred);
    kl_exec_refresh(shared, NULL); // others have been made since
    assert_string_equal(wanted(), "Bearer 2");
    assert_int_equal(count_runs(), 2);
    kl_exec_refresh(shared, now); // it fails: what is there stays
    assert_string_equal(wanted(), "Bearer 2");
    assert_int_equal(count_runs(), 3);
    kl_exec_cred_unref(now);
    kl_exec_unref(shared);
}

static void test_expiry(void **state)
{
    struct kl_error err = {0};
    char script[512];
    snprintf(script, sizeof script,
             "read go < %s; printf x >> %s; n=$(wc -c < %s); printf '{\"kind\":\"ExecCredential\","
             "\"apiVersion\":\"" V1 "\",\"status\":{\"token\":\"%%s\",\"expirationTimestamp\":"
             "\"2006-01-02T15:04:05Z\"}}' $n",
             gate, runs, runs);
    assert_int_equal(truncate(runs, 0), 0);
    shared = make(shell(V1, "", script), &err);
    assert_string_equal(wanted(), "Bearer 1");
    assert_string_equal(wanted(), "Bearer 2");
    kl_exec_unref(shared);
}

// The last reference ends a program that would run on.
static void test_end(void **state)
{
    struct kl_error err = {0};
    shared = make(shell(V1, "", "exec tail -f /dev/null"), &err);
    kl_exec_refresh(shared, NULL);
    kl_exec_unref(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_configurations),
        cmocka_unit_test(test_outputs),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_what_it_is_told),
        cmocka_unit_test(test_one_run_for_all),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_end),
    };
    if (!mkdtemp(dir))
        return 1;
    snprintf(runs, sizeof runs, "%s/runs", dir);
    snprintf(gate, sizeof gate, "%s/gate", dir);
    int fd = open(runs, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || mkfifo(gate, 0600) || (gate_fd = open(gate, O_RDWR | O_CLOEXEC)) < 0)
        return 1;
    close(fd);
    kl_arena_init(&arena, 16 << 20);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    kl_exec_cred_unref(got);
    kl_arena_fini(&arena);
    unlink(runs);
    unlink(gate);
    rmdir(dir);
    return rc;
}
