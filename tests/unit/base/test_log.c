// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/str.h"
#include <fcntl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int saved_stderr, memory_file;

static int catch_stderr(void **state)
{
    saved_stderr = dup(STDERR_FILENO);
    FILE *f = tmpfile();
    memory_file = dup(fileno(f));
    fclose(f);
    fcntl(memory_file, F_SETFL, O_APPEND);
    return dup2(memory_file, STDERR_FILENO) < 0;
}

static int release_stderr(void **state)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(memory_file);
    kl_log_setup(KL_LOG_INFO, false);
    return 0;
}

// What was logged since the last call.
static const char *logged(void)
{
    static char text[1 << 20];
    ssize_t n = pread(memory_file, text, sizeof(text) - 1, 0);
    text[n < 0 ? 0 : n] = 0;
    assert_int_equal(ftruncate(memory_file, 0), 0);
    return text;
}

// Replaces the digits of the time so that the rest can be compared.
static const char *without_time(const char *line, size_t at)
{
    static char copy[16384];
    snprintf(copy, sizeof(copy), "%.*s", (int)sizeof(copy) - 1, line);
    for (size_t i = at; i < at + 24 && copy[i]; i++)
        copy[i] = copy[i] >= '0' && copy[i] <= '9' ? '9' : copy[i];
    return copy;
}

static void test_human(void **state)
{
    kl_log_setup(KL_LOG_INFO, false);
    errno = 77;
    kl_log(KL_LOG_INFO, "store", "opened path=%s rev=%d", "/x", 7);
    assert_int_equal(errno, 77);
    assert_string_equal(without_time(logged(), 0),
                        "9999-99-99T99:99:99.999Z INFO  store   opened path=/x rev=7\n");
    kl_log(KL_LOG_DEBUG, "store", "not shown");
    assert_string_equal(logged(), "");
    kl_log(KL_LOG_ERROR, "controllers", "two\nlines\t\x1b[31m \xff caf\xc3\xa9");
    assert_string_equal(without_time(logged(), 0), "9999-99-99T99:99:99.999Z ERROR controllers "
                                                   "two\\nlines\\x09\\x1b[31m \\xff caf\xc3\xa9\n");
    kl_log_setup(KL_LOG_ERROR, false);
    assert_false(kl_log_on(KL_LOG_WARN));
    kl_log(KL_LOG_WARN, "store", "not shown");
    assert_string_equal(logged(), "");
}

static void test_json(void **state)
{
    kl_log_setup(KL_LOG_DEBUG, true);
    kl_log(KL_LOG_DEBUG, "net", "say \"hi\" \\ \n\x01 \xc0\xaf \xe2\x82\xac");
    assert_string_equal(without_time(logged(), 7),
                        "{\"ts\":\"9999-99-99T99:99:99.999Z\",\"level\":\"debug\","
                        "\"component\":\"net\",\"msg\":\"say \\\"hi\\\" \\\\ \\n\\u0001 "
                        "\\ufffd\\ufffd \xe2\x82\xac\"}\n");
}

static void test_long_lines(void **state)
{
    char *big = malloc(100001);
    // Escapes of two and six bytes, plain bytes and three-byte characters at every offset.
    static const char *const fill[] = {"x", "\"", "\x01", "\xe2\x82\xac"};
    for (int json = 0; json < 2; json++) {
        kl_log_setup(KL_LOG_INFO, json);
        for (size_t f = 0; f < KL_COUNT(fill); f++) {
            for (size_t shift = 0; shift < 6; shift++) {
                size_t n = 0, step = strlen(fill[f]);
                while (n < shift)
                    big[n++] = 'a';
                for (; n + step <= 100000; n += step)
                    memcpy(big + n, fill[f], step);
                big[n] = 0;
                kl_log(KL_LOG_INFO, "base", "%s", big);
                const char *line = logged();
                size_t len = strlen(line);
                assert_true(len > 4000 && len <= 8192);
                const char *tail = json ? "...\"}\n" : "...\n";
                assert_true(kl_str_ends(kl_str(line), kl_str(tail)));
                assert_ptr_equal(strchr(line, '\n'), line + len - 1);
                // No escape is cut: in JSON an even number of backslashes or a full \u00xx.
                if (json && *fill[f] == '\x01')
                    assert_memory_equal(line + len - strlen(tail) - 6, "\\u0001", 6);
                if (json && *fill[f] == '"')
                    assert_memory_equal(line + len - strlen(tail) - 2, "\\\"", 2);
            }
        }
    }
    free(big);
}

static void *log_many(void *arg)
{
    for (int i = 0; i < 200; i++)
        kl_log(KL_LOG_INFO, "base", "thread=%c i=%03d", *(char *)arg, i);
    return NULL;
}

static void test_threads(void **state)
{
    kl_log_setup(KL_LOG_INFO, false);
    pthread_t t[4];
    static char names[] = "abcd";
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, log_many, &names[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    struct kl_str rest = kl_str(logged()), line;
    int lines = 0;
    while (kl_str_split(&rest, '\n', &line) && line.n) {
        assert_int_equal(line.n, 24 + 1 + 6 + 8 + 8 + 1 + 5);
        lines++;
    }
    assert_int_equal(lines, 800);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_human),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("base log", tests, catch_stderr, release_stderr);
}
